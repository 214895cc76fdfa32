package disk

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/internal/tailwindow"
	"github.com/tidewire/tidewire/log/tables"
)

// Log is a [hub.Log] in a directory.
type Log struct {
	opt Options
	dir string

	readers chan struct{} // has an element for each read under way
	queue   queue
	commits sync.WaitGroup

	retention atomic.Pointer[tables.Retention] // for the next round to take up; nil: as before
	retained  chan struct{}                    // of one element: there is one

	background sync.WaitGroup  // beside the committer
	stopping   context.Context // of that
	stop       context.CancelFunc
	reclaiming atomic.Bool

	files *patientFS
	full  atomic.Pointer[error] // what the full disk says; nil if it is not full

	// Held by each read, and by who closes the store.
	gate  sync.RWMutex
	store *store   // nil when it is closed
	last  hub.Head // of the store that was closed

	mu      sync.RWMutex
	window  *tailwindow.Window
	changed chan struct{} // closed, and replaced, when the order grows
	closed  bool
}

var _ hub.Log = (*Log)(nil)

// Open opens the Log in a directory, which is made if it is not there. Close ends it.
// One process can have it open; another one is refused.
func Open(dir string, opts *Options) (*Log, error) { return open(dir, opts, vfs.Default) }

func open(dir string, opts *Options, fs vfs.FS) (*Log, error) {
	o, err := withDefaults(opts)
	if err != nil {
		return nil, err
	}
	l := &Log{
		opt: o, dir: dir,
		readers: make(chan struct{}, o.Readers),
		queue:   newQueue(),
		changed: make(chan struct{}),

		retained: make(chan struct{}, 1),
	}
	l.files = newPatientFS(fs, l.fills, l.empties)
	if l.store, err = openStore(dir, l.files, &l.opt); err != nil {
		return nil, err
	}
	l.window = tailwindow.New(o.TailBytes, l.store.tables.Head().Seq)
	l.stopping, l.stop = context.WithCancel(context.Background())
	l.commits.Go((&committer{Log: l}).run)
	return l, nil
}

// Dir returns the directory.
func (l *Log) Dir() string { return l.dir }

// Append implements [hub.Log].
func (l *Log) Append(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return hub.Receipt{}, fmt.Errorf("%w: %w", hub.ErrUnavailable, err)
	}
	size, err := l.fits(g)
	if err != nil {
		return hub.Receipt{}, err
	}
	if err := l.full.Load(); err != nil {
		return hub.Receipt{}, *err
	}
	req := newRequest(g, size)
	if err := l.queue.put(req); err != nil {
		return hub.Receipt{}, err
	}
	select {
	case a := <-req.answer:
		req.free()
		return a.receipt, a.err
	case <-ctx.Done():
		return hub.Receipt{}, fmt.Errorf("%w: %w", hub.ErrIndeterminate, ctx.Err())
	}
}

// SetRetention replaces [Options.Retention] and [Options.MaxBytes], zero values of which keep
// everything. It holds for what is appended after it has returned, and until the Log is
// closed: who opens it says again how much is kept. What is there and is too much
// goes in the background, a thousand events at a time, and readers are told of the gap. What has
// gone does not come back where more is kept again. Nothing changes if there is an
// error: a rule that [Open] would refuse, or [hub.ErrUnavailable] after Close.
func (l *Log) SetRetention(rules hub.RetentionRules, maxBytes int64) error {
	if err := checkRetention(rules, maxBytes); err != nil {
		return err
	}
	l.gate.RLock()
	defer l.gate.RUnlock()
	if l.store == nil {
		return hub.ErrUnavailable
	}
	l.retention.Store(l.store.tables.Prepare(rules, maxBytes))
	select {
	case l.retained <- struct{}{}:
	default:
	}
	return nil
}

// fits returns the size of a group, or an error if it is too large.
func (l *Log) fits(g *hub.Group) (int, error) {
	limits := l.opt.Limits
	if len(g.Events) > limits.Group {
		return 0, fmt.Errorf("disk: a group of %d events is more than %d", len(g.Events), limits.Group)
	}
	size := 0
	for i := range g.Events {
		n := g.Events[i].Size()
		if n > limits.Bytes {
			return 0, fmt.Errorf("disk: an event of %d bytes is more than %d", n, limits.Bytes)
		}
		size += n
	}
	return size, nil
}

// read has a function read from the store, together with few others.
func (l *Log) read(ctx context.Context, f func(*store) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	select {
	case l.readers <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("disk: %w", ctx.Err())
	}
	defer func() { <-l.readers }()
	l.gate.RLock()
	defer l.gate.RUnlock()
	if l.store == nil {
		return hub.ErrUnavailable
	}
	return f(l.store)
}

// Read implements [hub.Log].
func (l *Log) Read(ctx context.Context, q hub.Query) (page hub.Page, err error) {
	err = l.read(ctx, func(s *store) (err error) {
		page, err = s.tables.Read(ctx, q)
		return err
	})
	return page, err
}

// Locate implements [hub.Log].
func (l *Log) Locate(ctx context.Context, c hub.Cursor) (loc hub.Location, err error) {
	err = l.read(ctx, func(s *store) (err error) {
		loc, err = s.tables.Locate(ctx, c)
		return err
	})
	return loc, err
}

// Topic implements [hub.Log].
func (l *Log) Topic(ctx context.Context, name string) (info hub.TopicInfo, err error) {
	err = l.read(ctx, func(s *store) (err error) {
		info, err = s.tables.Topic(name)
		return err
	})
	return info, err
}

// Sync implements [hub.Log]: with one process it is Head.
func (l *Log) Sync(ctx context.Context) (hub.Head, error) {
	if err := ctx.Err(); err != nil {
		return hub.Head{}, fmt.Errorf("disk: %w", err)
	}
	l.gate.RLock()
	defer l.gate.RUnlock()
	if l.store == nil {
		return hub.Head{}, hub.ErrUnavailable
	}
	return l.store.tables.Head(), nil
}

// Head implements [hub.Log].
func (l *Log) Head() hub.Head {
	l.gate.RLock()
	defer l.gate.RUnlock()
	if l.store == nil {
		return l.last
	}
	return l.store.tables.Head()
}

// Limits implements [hub.Log].
func (l *Log) Limits() hub.Limits { return l.opt.Limits }

// tailPage is about how many records are read at once for a Tail from history.
const tailPage = 512

// Tail implements [hub.Log].
func (l *Log) Tail(ctx context.Context, after uint64) iter.Seq2[[]hub.Record, error] {
	return func(yield func([]hub.Record, error) bool) {
		for ctx.Err() == nil {
			l.mu.RLock()
			records, reached := l.window.Above(after)
			changed, closed := l.changed, l.closed
			l.mu.RUnlock()
			if closed {
				return
			}
			if !reached {
				var err error
				if records, err = l.tailHistory(ctx, after); err != nil {
					if ctx.Err() == nil {
						yield(nil, err)
					}
					return
				}
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

// tailHistory reads records that are not in memory any more.
func (l *Log) tailHistory(ctx context.Context, after uint64) (records []hub.Record, err error) {
	err = l.read(ctx, func(s *store) (err error) {
		records, err = s.tables.Tail(ctx, after, tailPage)
		return err
	})
	var trimmed *hub.TrimmedError
	if errors.As(err, &trimmed) {
		l.mu.RLock()
		defer l.mu.RUnlock()
		trimmed.Oldest = min(trimmed.Oldest, l.window.Oldest())
	}
	return records, err
}

// Close implements [hub.Log].
func (l *Log) Close() error {
	l.mu.Lock()
	first := !l.closed
	if first {
		l.closed = true
		close(l.changed)
	}
	l.mu.Unlock()
	l.queue.close()
	if first {
		l.files.giveUp()
	}
	l.commits.Wait()
	l.stop()
	l.background.Wait()
	if !first {
		return nil
	}
	l.gate.Lock()
	s := l.store
	l.store, l.last = nil, s.tables.Head()
	l.gate.Unlock()
	return s.close(true)
}
