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
	wake    chan struct{} // of one element: there is more to remove now
	janitor sync.WaitGroup

	mu      sync.RWMutex
	tables  *tables
	changed chan struct{} // closed, and replaced, when the order grows
	closed  bool

	employed bool // there is a janitor
}

var _ hub.Log = (*Log)(nil)

// New returns an empty Log. Close ends it.
func New(opts *Options) (*Log, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if err := checkRetention(o.Retention, o.MaxBytes); err != nil {
		return nil, err
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
		wake:    make(chan struct{}, 1),
		tables:  newTables(newEpoch(), newRetention(o.Retention, o.MaxBytes), o.KeyLife, o.TailBytes),
		changed: make(chan struct{}),
	}
	if l.tables.retention.shortestAge() > 0 {
		l.employ()
	}
	return l, nil
}

// newEpoch draws the name of a new order.
func newEpoch() string {
	var b [5]byte
	_, _ = rand.Read(b[:]) // never fails
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// SetRetention replaces [Options.Retention] and [Options.MaxBytes], zero values of which keep
// everything. It holds for what is appended after it has returned. What is there and is too
// much goes in the background, a thousand events at a time, and readers are told of the gap. What
// has gone does not come back where more is kept again. Nothing changes if there is an
// error: a rule that [New] would refuse, or [hub.ErrUnavailable] after Close.
func (l *Log) SetRetention(rules hub.RetentionRules, maxBytes int64) error {
	if err := checkRetention(rules, maxBytes); err != nil {
		return err
	}
	r := newRetention(rules, maxBytes)
	l.mu.RLock()
	topics := l.tables.topics.all
	l.mu.RUnlock()
	// Most of the work, while others append.
	of := make([]*agingRule, 0, len(topics))
	for _, topic := range topics {
		of = append(of, r.ruleOf(topic.name))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return hub.ErrUnavailable
	}
	l.tables.retain(r, of)
	l.tidy()
	return nil
}

// employ starts the janitor; mu is held, or nobody else has the Log.
func (l *Log) employ() {
	l.employed = true
	rest := l.tables.rest()
	l.janitor.Go(func() { l.expire(rest) })
}

// tidy has the janitor remove what is to go, now; mu is held.
func (l *Log) tidy() {
	if !l.employed {
		l.employ()
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// expire lets events go where nothing is appended that would.
func (l *Log) expire(rest time.Duration) {
	next := time.NewTimer(rest)
	defer next.Stop()
	for {
		select {
		case <-next.C:
		case <-l.wake:
		case <-l.stop:
			return
		}
		l.mu.Lock()
		_, _ = l.tables.apply(record{time: l.time()}) // nothing refuses it
		rest = l.tables.rest()
		l.mu.Unlock()
		next.Reset(rest)
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
	if l.tables.overdue() {
		l.tidy()
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
