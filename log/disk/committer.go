package disk

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/tables"
)

// How often what is not urgent is looked at.
const (
	expireLeast = 100 * time.Millisecond
	expireMost  = time.Minute
)

// A committer is the one goroutine that makes the order. It takes all requests that
// wait, applies them, and has them synced. While the disk does that, it applies the next
// ones; another goroutine waits for the disk, has the events seen, and answers.
type committer struct {
	*Log
	flights chan *flight
	broken  atomic.Pointer[error] // why nothing can be stored any more
	lately  atomic.Int64          // how many publishers there are at once
	unsaved bool                  // committed without a sync
}

// A flight is a round of requests on its way to the disk.
type flight struct {
	requests []*request
	batch    *pebble.Batch  // nil if nothing has changed
	sealed   *tables.Sealed // the same
	err      error          // of applying it
}

func (c *committer) run() {
	c.flights = make(chan *flight)
	var landing sync.WaitGroup
	landing.Go(func() {
		for f := range c.flights {
			c.land(f)
		}
	})
	defer landing.Wait()
	defer close(c.flights)
	timer := time.NewTimer(0)
	defer timer.Stop()
	gathering := time.NewTimer(0)
	defer gathering.Stop()
	var ticks <-chan time.Time // of the sync policy
	if c.opt.Sync > 0 {
		ticker := time.NewTicker(time.Duration(c.opt.Sync))
		defer ticker.Stop()
		ticks = ticker.C
	}
	for {
		select {
		case <-c.queue.wake:
			if n := int(c.lately.Load()); n > 1 && c.opt.Sync == SyncAlways {
				c.queue.gather(n, gathering)
			}
			requests, closed := c.queue.take()
			if closed && len(requests) == 0 {
				c.save()
				return
			}
			c.serve(requests)
		case <-timer.C:
			c.tend()
		case <-c.retained:
			c.retain()
		case <-ticks:
			c.save()
		}
		timer.Reset(c.rest())
	}
}

// serve applies a round of requests.
func (c *committer) serve(requests []*request) {
	if err := c.refusal(); err != nil {
		for _, req := range requests {
			req.answer <- answer{err: err}
		}
		return
	}
	c.retain()
	r, now := c.begin()
	for _, req := range requests {
		a := &req.result
		a.receipt, a.err = r.Apply(tables.Record{Seq: r.Next(), Time: now, Group: req.group})
	}
	c.send(r, requests)
}

// retain has retention be as it was set last.
func (c *committer) retain() {
	if r := c.retention.Swap(nil); r != nil {
		c.store.tables.Retain(r)
	}
}

// begin begins a round, at a time that is not before that of the last one.
func (c *committer) begin() (*tables.Round, time.Time) {
	r := c.store.tables.Begin()
	now := c.opt.Now()
	if last := r.Time(); now.Before(last) {
		now = last
	}
	return r, now
}

// send has a round that is applied go to the disk. Where nothing has changed, it still
// waits for those before it, on which a refusal may depend.
func (c *committer) send(r *tables.Round, requests []*request) {
	f := &flight{requests: requests}
	if f.batch, f.err = r.Finish(); f.err == nil && f.batch != nil {
		f.err = c.store.apply(f.batch, c.opt.Sync == SyncAlways)
		f.sealed = r.Seal()
	}
	if f.err != nil {
		c.fail(f.err)
	} else if f.batch != nil {
		c.unsaved = c.opt.Sync > 0
		c.reclaim()
	}
	c.flights <- f
}

// land waits until a round is on the disk, has everybody see it, and answers.
func (c *committer) land(f *flight) {
	err := f.err
	switch {
	case err == nil && f.batch != nil:
		err = c.store.wait(f.batch, c.opt.Sync == SyncAlways)
	case err == nil && c.broken.Load() != nil:
		err = *c.broken.Load()
	}
	if err != nil {
		c.lose(f, err)
		return
	}
	if f.sealed != nil {
		c.publish(f.sealed)
	}
	c.count(len(f.requests))
	for _, req := range f.requests {
		req.answer <- req.result
	}
}

// count notes how many publishers there are: those who are answered now, and those who wait.
// They are likely to come again.
func (c *committer) count(answered int) {
	n := int64(answered + c.queue.waiting())
	if lately := c.lately.Load(); n < lately {
		n = (7*lately + n) / 8
	}
	c.lately.Store(n)
}

// lose answers a round of which it is not known whether it is stored.
func (c *committer) lose(f *flight, err error) {
	c.fail(err)
	if f.sealed != nil {
		_ = f.sealed.Discard() // the store is of no use for more
	}
	for _, req := range f.requests {
		// A refusal may be for what is not stored in the end.
		why := hub.ErrUnavailable
		if req.result.err == nil {
			why = hub.ErrIndeterminate
		}
		req.answer <- answer{err: fmt.Errorf("%w: %w", why, err)}
	}
}

// publish has everybody see a round.
func (c *committer) publish(s *tables.Sealed) {
	groups, err := s.Publish()
	if err != nil {
		c.opt.Logger.Warn("disk log: what was read before is not let go of", "dir", c.dir, "error", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range groups {
		c.window.Add(g)
	}
	if len(groups) > 0 && !c.closed {
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

// refusal says why nothing can be stored now.
func (c *committer) refusal() error {
	if err := c.broken.Load(); err != nil {
		return fmt.Errorf("%w: %w", hub.ErrUnavailable, *err)
	}
	return c.space()
}

// fail notes that the store is of no use for writing any more. Reading goes on.
func (c *committer) fail(err error) {
	if c.broken.CompareAndSwap(nil, &err) {
		c.opt.Logger.Error("disk log: it cannot be written: publishing is refused, subscribers go on; look at the disk, and start again", "dir", c.dir, "error", err)
	}
}

// rest returns how long the committer may wait for requests.
func (c *committer) rest() time.Duration {
	switch {
	case c.broken.Load() != nil:
		return expireMost
	case c.store.tables.Overdue():
		return 0
	}
	at, ok := c.store.tables.Expiring()
	if !ok {
		return expireMost
	}
	return min(max(at.Sub(c.opt.Now()), expireLeast), expireMost)
}

// tend does what time brings.
func (c *committer) tend() {
	at, ok := c.store.tables.Expiring()
	if c.broken.Load() != nil || !c.store.tables.Overdue() && (!ok || c.opt.Now().Before(at)) {
		return
	}
	r, now := c.begin()
	_, _ = r.Apply(tables.Record{Time: now}) // Finish has the error
	c.send(r, nil)
}

// save has the disk keep what was committed without waiting for it.
func (c *committer) save() {
	if !c.unsaved || c.broken.Load() != nil {
		return
	}
	if err := c.store.failed(c.store.db.LogData(nil, pebble.Sync)); err != nil {
		c.fail(fmt.Errorf("sync: %w", err))
		return
	}
	c.unsaved = false
}
