package memory

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// The defaults of [Options].
const (
	DefaultKeyLife    = 24 * time.Hour
	DefaultGroup      = 10_000
	DefaultEventBytes = 16 << 20
	DefaultTailBytes  = 64 << 20
)

// Options configure a [Log]; nil and zero fields mean the defaults.
type Options struct {
	// Retention says how much is kept of which topics. Default: everything.
	Retention hub.RetentionRules

	// MaxBytes bounds all events together, by Size; the oldest go first, whatever
	// their topics. Default: 0, no bound.
	MaxBytes int64

	// KeyLife is how long an idempotency key is remembered. Default: a day.
	KeyLife time.Duration

	// Limits are the largest group and event. Default: [DefaultGroup] events,
	// [DefaultEventBytes].
	Limits hub.Limits

	// TailBytes bounds the newest records that are kept for Tail beside what
	// retention keeps. Default: [DefaultTailBytes].
	TailBytes int

	// Now is the clock. Default: [time.Now].
	Now func() time.Time
}

// Log is a [hub.Log] in memory.
type Log struct {
	now    func() time.Time
	limits hub.Limits

	stop    chan struct{}
	janitor sync.WaitGroup

	mu      sync.RWMutex
	tables  *tables
	changed chan struct{} // closed, and replaced, when the order grows
	closed  bool
}

var _ hub.Log = (*Log)(nil)

// New returns an empty Log. Close ends it.
func New(opts *Options) (*Log, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	for _, r := range o.Retention {
		if err := hub.CheckPattern(r.Pattern); err != nil {
			return nil, fmt.Errorf("memory: retention of %q: %w", r.Pattern, err)
		}
		if r.Age < 0 || r.Count < 0 || r.Bytes < 0 {
			return nil, fmt.Errorf("memory: retention of %q is negative: 0 keeps everything", r.Pattern)
		}
	}
	if o.KeyLife == 0 {
		o.KeyLife = DefaultKeyLife
	}
	if o.TailBytes == 0 {
		o.TailBytes = DefaultTailBytes
	}
	if o.Limits.Group == 0 {
		o.Limits.Group = DefaultGroup
	}
	if o.Limits.Bytes == 0 {
		o.Limits.Bytes = DefaultEventBytes
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Log{
		now:     o.Now,
		limits:  o.Limits,
		stop:    make(chan struct{}),
		tables:  newTables(newEpoch(), o.Retention, o.MaxBytes, o.KeyLife, o.TailBytes),
		changed: make(chan struct{}),
	}
	if age := shortestAge(o.Retention); age > 0 {
		l.janitor.Go(func() { l.expire(min(max(age/10, time.Second), time.Minute)) })
	}
	return l, nil
}

// newEpoch draws the name of a new order.
func newEpoch() string {
	var b [5]byte
	_, _ = rand.Read(b[:]) // never fails
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

func shortestAge(rules hub.RetentionRules) time.Duration {
	var shortest time.Duration
	for _, r := range rules {
		if r.Age > 0 && (shortest == 0 || r.Age < shortest) {
			shortest = r.Age
		}
	}
	return shortest
}

// expire lets old events go where nothing is appended that would.
func (l *Log) expire(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.mu.Lock()
			_, _ = l.tables.apply(record{time: l.time()}) // nothing refuses it
			l.mu.Unlock()
		case <-l.stop:
			return
		}
	}
}

// time returns the time of the next record, which never goes back.
func (l *Log) time() time.Time {
	// Without the monotonic reading, as the time is told outside.
	if now := l.now().Round(0); now.After(l.tables.time) {
		return now
	}
	return l.tables.time
}

// Append implements [hub.Log].
func (l *Log) Append(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return hub.Receipt{}, fmt.Errorf("%w: %w", hub.ErrUnavailable, err)
	}
	if err := l.fits(g); err != nil {
		return hub.Receipt{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return hub.Receipt{}, hub.ErrUnavailable
	}
	before := l.tables.seq
	receipt, err := l.tables.apply(record{seq: before + 1, time: l.time(), group: g})
	if l.tables.seq != before {
		close(l.changed)
		l.changed = make(chan struct{})
	}
	return receipt, err
}

func (l *Log) fits(g *hub.Group) error {
	if len(g.Events) > l.limits.Group {
		return fmt.Errorf("memory: a group of %d events is more than %d", len(g.Events), l.limits.Group)
	}
	for i := range g.Events {
		if n := g.Events[i].Size(); n > l.limits.Bytes {
			return fmt.Errorf("memory: an event of %d bytes is more than %d", n, l.limits.Bytes)
		}
	}
	return nil
}

// Read implements [hub.Log].
func (l *Log) Read(ctx context.Context, q hub.Query) (hub.Page, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(ctx); err != nil {
		return hub.Page{}, err
	}
	return l.tables.read(q), nil
}

// Tail implements [hub.Log].
func (l *Log) Tail(ctx context.Context, after uint64) iter.Seq2[[]hub.Record, error] {
	return func(yield func([]hub.Record, error) bool) {
		for ctx.Err() == nil {
			l.mu.RLock()
			records, reached := l.tables.tail.Above(after)
			oldest := l.tables.tail.Oldest()
			changed, closed := l.changed, l.closed
			l.mu.RUnlock()
			if closed {
				return
			}
			if !reached {
				yield(nil, &hub.TrimmedError{After: after, Oldest: oldest})
				return
			}
			if len(records) > 0 {
				if !yield(records, nil) {
					return
				}
				after = records[len(records)-1].Seq
				continue
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}
}

// Locate implements [hub.Log].
func (l *Log) Locate(ctx context.Context, c hub.Cursor) (hub.Location, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(ctx); err != nil {
		return hub.Location{}, err
	}
	return l.tables.locate(c), nil
}

// Topic implements [hub.Log].
func (l *Log) Topic(ctx context.Context, name string) (hub.TopicInfo, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(ctx); err != nil {
		return hub.TopicInfo{}, err
	}
	return l.tables.info(name), nil
}

// Sync implements [hub.Log]: with one node it is Head.
func (l *Log) Sync(ctx context.Context) (hub.Head, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(ctx); err != nil {
		return hub.Head{}, err
	}
	return l.tables.head(), nil
}

// Head implements [hub.Log].
func (l *Log) Head() hub.Head {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.tables.head()
}

// Limits implements [hub.Log].
func (l *Log) Limits() hub.Limits { return l.limits }

// Close implements [hub.Log].
func (l *Log) Close() error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.stop)
		close(l.changed)
	}
	l.mu.Unlock()
	l.janitor.Wait()
	return nil
}

// usable tells why nothing can be read; mu is held.
func (l *Log) usable(ctx context.Context) error {
	if l.closed {
		return hub.ErrUnavailable
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	return nil
}
