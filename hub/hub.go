package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// ErrShutdown says that the hub is shutting down.
var ErrShutdown = errors.New("hub: shutting down")

// A Hub is one ordered log of events and its subscribers. Its methods are safe for
// concurrent use.
type Hub struct {
	opt     Options
	log     Log
	hot     *hotLog
	engine  *engine
	origins map[string]bool
	zippers zippers
	limits  atomic.Pointer[RequestLimits]
	routes  http.Handler

	ctx      context.Context // ends when the hub gives up on everything
	cancel   context.CancelFunc
	draining chan struct{} // closed when Shutdown begins
	drain    sync.Once
	tail     sync.WaitGroup

	mu      sync.Mutex
	streams int                  // subscriptions that are open
	served  map[*served]struct{} // those that goroutines write to for requests
	idle    chan struct{}        // closed when there are none any more; nil unless waited for
}

// New returns a hub over opts.Log. Shutdown ends it.
func New(opts *Options) (*Hub, error) {
	if opts == nil || opts.Log == nil {
		return nil, errors.New("hub: Options.Log is needed: memory.New(nil) keeps events in memory")
	}
	o := withDefaults(*opts)
	h := &Hub{
		opt:      o,
		log:      o.Log,
		hot:      newHotLog(&o, runtime.GOMAXPROCS(0), o.Log.Head()),
		origins:  make(map[string]bool),
		zippers:  zippers{make: o.NewDeflater},
		draining: make(chan struct{}),
		served:   make(map[*served]struct{}),
	}
	if err := o.CheckOrigins(); err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	if err := o.Slow.check(); err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	for _, origin := range o.AllowedOrigins {
		h.origins[origin] = true
	}
	h.SetLimits(o.Limits)
	h.engine = newEngine(h)
	h.routes = h.newRoutes()
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.tail.Go(h.follow)
	return h, nil
}

// follow brings everything that the Log stores into the hot log, and wakes those whom
// it concerns.
func (h *Hub) follow() {
	for h.ctx.Err() == nil {
		after := h.hot.last()
		for records, err := range h.log.Tail(h.ctx, after) {
			var trimmed *TrimmedError
			if errors.As(err, &trimmed) {
				// Cursors below read from the Log, which tells what is gone.
				h.wake(h.hot.skipTo(trimmed.Oldest - 1))
				break
			}
			if err != nil {
				break
			}
			h.wake(h.hot.add(h.log.Head().Epoch, records))
		}
		if h.hot.last() == after {
			select { // a Log that is closed or in trouble
			case <-time.After(100 * time.Millisecond):
			case <-h.ctx.Done():
			}
		}
	}
}

// wake has the subscribers of feeds look.
func (h *Hub) wake(feeds []*feed) {
	h.hot.wake(feeds)
	h.engine.wake(feeds)
}

// Shutdown drains the hub: subscribers are told to come back a little later, each at
// another time, their streams end, and later calls return [ErrShutdown]. It waits for
// them until ctx ends, and then cuts what is left. It does not close the Log.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.drain.Do(func() {
		close(h.draining)
		h.engine.drain()
	})
	var err error
	select {
	case <-h.allEnded():
	case <-ctx.Done():
		err = fmt.Errorf("hub: shutdown: %w", ctx.Err())
	}
	h.cancel()
	h.tail.Wait()
	h.engine.close()
	return err
}

// open counts a subscription, unless the hub is draining.
func (h *Hub) open() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.draining:
		return ErrShutdown
	default:
	}
	h.streams++
	return nil
}

func (h *Hub) closed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams--
	if h.streams == 0 && h.idle != nil {
		close(h.idle)
		h.idle = nil
	}
}

// allEnded returns a channel that is closed when no subscription is open.
func (h *Hub) allEnded() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	done := h.idle
	if done == nil {
		done = make(chan struct{})
		if h.streams == 0 {
			close(done)
		} else {
			h.idle = done
		}
	}
	return done
}
