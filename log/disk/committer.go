package disk

import (
	"errors"
	"fmt"
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
// wait, applies them, commits them with one sync, and answers: while the disk syncs, the
// next ones gather.
type committer struct {
	*Log
	round   []*request
	broken  error // why nothing can be stored any more; nil if it can
	unsaved bool  // committed without a sync
}

func (c *committer) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var ticks <-chan time.Time // of the sync policy
	if c.opt.Sync > 0 {
		ticker := time.NewTicker(time.Duration(c.opt.Sync))
		defer ticker.Stop()
		ticks = ticker.C
	}
	for {
		select {
		case <-c.queue.wake:
			var closed bool
			if c.round, closed = c.queue.take(c.round); closed && len(c.round) == 0 {
				c.save()
				return
			}
			c.serve()
		case <-timer.C:
			c.tend()
		case <-ticks:
			c.save()
		}
		timer.Reset(c.rest())
	}
}

// serve commits a round of requests and answers them.
func (c *committer) serve() {
	if err := c.refusal(); err != nil {
		c.answerAll(err)
		return
	}
	now := c.opt.Now()
	r := c.store.tables.Begin()
	if last := r.Time(); now.Before(last) {
		now = last
	}
	for _, req := range c.round {
		a := &req.result
		a.receipt, a.err = r.Apply(tables.Record{Seq: r.Next(), Time: now, Group: req.group})
	}
	batch, err := r.Finish()
	if err != nil {
		c.fail(err)
		c.answerAll(c.refusal())
		return
	}
	if err := c.commit(r, batch); err != nil {
		for _, req := range c.round {
			// A refusal may be for what is not stored in the end.
			why := hub.ErrUnavailable
			if req.result.err == nil {
				why = hub.ErrIndeterminate
			}
			req.result = answer{err: fmt.Errorf("%w: %w", why, err)}
		}
	}
	for _, req := range c.round {
		req.answer <- req.result
	}
}

// commit stores a round and has everybody see it.
func (c *committer) commit(r *tables.Round, batch *pebble.Batch) error {
	if batch == nil {
		return nil
	}
	if err := c.store.commit(batch, c.opt.Sync == SyncAlways); err != nil {
		c.fail(err)
		return err
	}
	c.unsaved = c.opt.Sync > 0
	groups, err := r.Publish()
	c.reclaim()
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
	return nil
}

func (c *committer) answerAll(err error) {
	for _, req := range c.round {
		req.answer <- answer{err: err}
	}
}

// refusal says why nothing can be stored now.
func (c *committer) refusal() error {
	if c.broken != nil {
		return fmt.Errorf("%w: %w", hub.ErrUnavailable, c.broken)
	}
	return c.space()
}

// fail notes that the store is of no use for writing any more. Reading goes on.
func (c *committer) fail(err error) {
	c.broken = err
	c.opt.Logger.Error("disk log: it cannot be written: publishing is refused, subscribers go on; look at the disk, and start again", "dir", c.dir, "error", err)
}

// rest returns how long the committer may wait for requests.
func (c *committer) rest() time.Duration {
	switch {
	case c.broken != nil:
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
	if c.broken != nil {
		return
	}
	at, ok := c.store.tables.Expiring()
	now := c.opt.Now()
	if !c.store.tables.Overdue() && (!ok || now.Before(at)) {
		return
	}
	r := c.store.tables.Begin()
	if last := r.Time(); now.Before(last) {
		now = last
	}
	_, err := r.Apply(tables.Record{Time: now})
	batch, finishErr := r.Finish()
	if err := errors.Join(err, finishErr); err != nil {
		c.fail(err)
		return
	}
	_ = c.commit(r, batch) // fail has it
}

// save has the disk keep what was committed without waiting for it.
func (c *committer) save() {
	if !c.unsaved || c.broken != nil {
		return
	}
	if err := errors.Join(c.store.db.LogData(nil, pebble.Sync), c.store.trouble.broken()); err != nil {
		c.fail(fmt.Errorf("sync: %w", err))
		return
	}
	c.unsaved = false
}
