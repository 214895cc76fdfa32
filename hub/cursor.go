package hub

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// errSlow says that a stream is to be closed as it is too slow.
var errSlow = errors.New("hub: too slow")

// errEnded says that every topic of a cursor is closed and all is delivered.
var errEnded = errors.New("hub: all topics are closed")

// Bounds of what a cursor hands out at once: one write to a socket, about.
const (
	batchEvents = 256
	batchBytes  = 64 << 10

	// firstPage is how many events are read from the Log first for a stream: they are on
	// their way early, and most who come back have missed no more. Then four times as
	// many, and so on, up to batchEvents.
	firstPage = 16
)

// A cursor is a subscriber: a filter and a place in the order. It is used by one
// goroutine; only wake is touched by others.
type cursor struct {
	hub    *Hub
	filter Filter
	feed   *feed
	after  uint64 // everything up to here was handed out, or is not wanted
	gap    *GapError
	first  []*item // found already, to be handed out after a gap
	wake   chan struct{}
	waits  bool // it is woken
	live   bool // it has come to the end of what there is
	slow   SlowRule
	closed bool    // all topics were closed before it began,
	done   bool    // and nothing was left
	place  *place  // of a subscriber that is told its position
	served *served // nil unless a goroutine serves a request with it

	// What it knows to be removed: up to where in each topic, and, where there are
	// patterns, how many events in all.
	told    map[string]uint64
	removed int64

	// Up to here it reads from the Log, which keeps to retention, even if the hot log
	// still has it.
	history uint64
	page    int // a quarter of how many events are read from it next
}

// newCursor opens a subscription where the filter says. close must follow.
func (h *Hub) newCursor(ctx context.Context, f Filter) (*cursor, error) {
	if err := h.open(); err != nil {
		return nil, err
	}
	c := h.cursorOf(h.hot.follow(f), f)
	err := c.start(ctx)
	if err == nil {
		err = c.survey(ctx)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (h *Hub) cursorOf(fd *feed, f Filter) *cursor {
	return &cursor{hub: h, filter: f, feed: fd, wake: make(chan struct{}, 1), told: make(map[string]uint64), page: batchEvents}
}

func (c *cursor) close() {
	if c.waits {
		c.hub.hot.leave(c)
	}
	c.hub.leave(c.feed)
}

// leave ends a subscription.
func (h *Hub) leave(f *feed) {
	h.hot.release(f)
	h.closed()
}

// start finds the place to begin.
func (c *cursor) start(ctx context.Context) error {
	log, from := c.hub.log, c.filter.From
	c.history = log.Head().Seq
	switch {
	case from.LastEventID != "":
		loc, err := c.hub.locate(ctx, from.LastEventID)
		if err != nil {
			return err
		}
		c.after = loc.Seq
		if loc.Lost != Found {
			c.lost(loc.Lost)
		}
	case from.Earliest:
		if err := c.askWhole(ctx); err != nil {
			return err
		}
		if f := &c.filter; len(f.Topics) == 1 && len(f.Patterns) == 0 {
			c.after = c.told[f.Topics[0]] // what is removed need not be looked for
		}
	case !from.Since.IsZero():
		loc, err := log.Locate(ctx, Cursor{Since: from.Since})
		if err != nil {
			return fmt.Errorf("hub: locate: %w", err)
		}
		c.after = loc.Seq
	case from.Last > 0:
		return c.newest(ctx, from.Last)
	default:
		c.after = c.history
	}
	return nil
}

// askWhole has what is not kept now be no gap.
func (c *cursor) askWhole(ctx context.Context) error {
	page, err := c.hub.log.Read(ctx, Query{Topics: c.filter.Topics, Patterns: c.filter.Patterns, Limit: 1})
	if err != nil {
		return fmt.Errorf("hub: read: %w", err)
	}
	_, err = c.newlyLost(ctx, page.Removed)
	return err
}

// newlyLost tells whether events were removed that the subscriber does not know of: a
// gap in a long history shows on each of its pages.
func (c *cursor) newlyLost(ctx context.Context, removed int64) (bool, error) {
	lost := len(c.filter.Patterns) > 0 && removed > c.removed
	c.removed = removed
	for _, topic := range c.filter.Topics {
		info, err := c.hub.log.Topic(ctx, topic)
		if err != nil {
			return false, fmt.Errorf("hub: topic: %w", err)
		}
		if info.Trimmed > max(c.after, c.told[topic]) {
			c.told[topic] = info.Trimmed
			lost = true
		}
	}
	return lost, nil
}

// newest finds the place before the last n events that the filter wants. It counts
// them page by page from the end, and they are read when their time comes, so that n
// is no matter of memory.
func (c *cursor) newest(ctx context.Context, n int) error {
	if err := c.askWhole(ctx); err != nil {
		return err
	}
	limit := batchEvents
	if len(c.filter.Types) == 0 {
		limit = min(n, limit) // most of them are wanted
	}
	for until := c.history; until > 0; limit = batchEvents {
		page, err := c.hub.log.Read(ctx, Query{
			Topics: c.filter.Topics, Patterns: c.filter.Patterns,
			Until: until, Limit: limit, Bytes: batchBytes, Newest: true,
		})
		if err != nil {
			return fmt.Errorf("hub: read: %w", err)
		}
		if len(page.Records) == 0 {
			return nil
		}
		for i := len(page.Records) - 1; i >= 0; i-- {
			r := &page.Records[i]
			if !c.filter.selectsEvent(r.Event) {
				continue
			}
			if n--; n == 0 {
				c.after = r.Seq - 1
				return nil
			}
		}
		until = page.Records[0].Seq - 1
	}
	return nil
}

// lost notes a gap, to be told before what comes next.
func (c *cursor) lost(why Lost) {
	if c.gap == nil {
		c.gap = &GapError{Reason: why, Requested: c.filter.From.LastEventID}
	}
}

// errIdle says that there was nothing for as long as the caller would wait.
var errIdle = errors.New("hub: idle")

// next returns the next events, and waits until there are any or idle, which may be
// nil, fires, or the place nears the end of history. With none it returns a *GapError,
// after which there is more, errIdle, or the final error.
func (c *cursor) next(ctx context.Context, idle <-chan time.Time) ([]*item, error) {
	if !c.waits {
		c.waits = true
		c.hub.hot.enter(c)
	}
	waited := false
	for {
		select {
		case <-c.hub.draining:
			return nil, ErrShutdown
		default:
		}
		if why := c.served.reason(); why != nil {
			return nil, why
		}
		if batch, err := c.poll(ctx); len(batch) > 0 || err != nil {
			return batch, err
		}
		if waited {
			return nil, errIdle // and the poll has moved the cursor over what is not wanted
		}
		select {
		case <-c.wake:
		case <-idle:
			waited = true
		case <-c.place.look():
			waited = c.place.nears(ctx, c.hub.log)
		case <-ctx.Done():
			return nil, fmt.Errorf("hub: subscription: %w", context.Cause(ctx))
		case <-c.served.over():
		case <-c.hub.draining:
			return nil, ErrShutdown
		}
	}
}

// poll is next without waiting: it returns nothing if there is nothing yet.
func (c *cursor) poll(ctx context.Context) ([]*item, error) {
	for {
		batch, more, err := c.step(ctx)
		if more && len(batch) == 0 && err == nil && c.gap != nil && c.gap.Reason == LostExpired {
			continue // it may be longer
		}
		if gap := c.gap; gap != nil && (err == nil || err == errEnded) {
			resumed := c.after
			if len(batch) > 0 {
				resumed = batch[0].Seq - 1
				c.first = append(batch, c.first...) // it comes after the gap
			}
			gap.resumed = resumed
			gap.Resumed = Position(c.hub.log.Head().Epoch, resumed)
			c.gap = nil
			return nil, gap
		}
		if len(batch) > 0 || err != nil || !more {
			return batch, err
		}
	}
}

// step looks at one stretch of the order.
func (c *cursor) step(ctx context.Context) (batch []*item, more bool, err error) {
	if len(c.first) > 0 {
		batch, c.first = c.first, nil
		return batch, true, nil
	}
	if c.done {
		return nil, false, errEnded
	}
	if c.after < c.history {
		return c.catchUp(ctx)
	}
	if c.live {
		if newest, slow := c.hub.hot.tooSlow(c.feed, c.after, &c.slow); slow {
			if c.slow.Policy == SlowDisconnect {
				return nil, false, errSlow
			}
			c.gap = &GapError{Reason: LostSlow}
			c.after = newest
		}
	}
	size := 0
	seen, ok := c.hub.hot.above(c.feed, c.after, c.place != nil, func(it *item) bool {
		if it.Kind != KindEvent || !c.filter.selectsTopic(it.Topics) {
			return true
		}
		if !c.filter.selectsEvent(it.Event) {
			c.place.pass(&c.filter, &it.Record)
			return true
		}
		if !c.filter.selectsTopic(it.kept()) {
			c.lost(LostExpired)
			return true
		}
		if len(batch) == batchEvents || size >= batchBytes {
			return false
		}
		batch = append(batch, it)
		size += len(it.Event.Data)
		return true
	})
	if !ok {
		return c.catchUp(ctx)
	}
	c.after = seen.through
	c.live = c.live || seen.all
	if seen.ended && len(batch) == 0 {
		return nil, false, errEnded
	}
	return batch, !seen.all, nil
}

// catchUp reads a page from the Log.
func (c *cursor) catchUp(ctx context.Context) (batch []*item, more bool, err error) {
	c.page = min(4*c.page, batchEvents)
	page, err := c.read(ctx)
	if err != nil {
		return nil, false, err
	}
	if page.Gap {
		lost, err := c.newlyLost(ctx, page.Removed)
		if err != nil {
			return nil, false, err
		}
		if lost {
			c.lost(LostExpired)
			// What is known to be removed now may have been removed after the page was
			// read, and stand behind its end. This one has nothing of it.
			if page, err = c.read(ctx); err != nil {
				return nil, false, err
			}
		}
	}
	epoch := c.hub.log.Head().Epoch
	items := make([]item, 0, len(page.Records)) // one allocation
	batch = make([]*item, 0, len(page.Records))
	for i := range page.Records {
		r := &page.Records[i]
		if !c.filter.selectsEvent(r.Event) {
			c.place.pass(&c.filter, r)
			continue
		}
		items = append(items, item{})
		it := &items[len(items)-1]
		it.set(epoch, r)
		batch = append(batch, it)
	}
	// The Log may be behind the hot log's beginning only by what came since.
	more = page.Through > c.after || len(page.Records) > 0
	c.after = page.Through
	return batch, more, nil
}

// read reads the page after the cursor's place.
func (c *cursor) read(ctx context.Context) (Page, error) {
	page, err := c.hub.log.Read(ctx, Query{
		Topics: c.filter.Topics, Patterns: c.filter.Patterns,
		After: c.after, Limit: c.page, Bytes: batchBytes,
	})
	if err != nil {
		return page, fmt.Errorf("hub: read: %w", err)
	}
	return page, nil
}

// survey looks at the topics: whether anything more can come, and whether history can be
// read from the hot log because retention has removed nothing that is wanted.
func (c *cursor) survey(ctx context.Context) error {
	closed, done, whole := 0, 0, true
	for _, topic := range c.filter.Topics {
		info, err := c.hub.log.Topic(ctx, topic)
		if err != nil {
			return fmt.Errorf("hub: topic: %w", err)
		}
		if info.Closed {
			c.hub.hot.closedAlready(c.feed, topic, info)
			closed++
			if info.Newest <= c.after {
				done++
			}
		}
		whole = whole && info.Trimmed <= c.after
	}
	if len(c.filter.Patterns) == 0 {
		c.closed = closed == len(c.filter.Topics)
		c.done = done == len(c.filter.Topics)
		if whole {
			c.history = 0
		}
	}
	return nil
}

// position returns the id that stands for all that the cursor has seen.
func (c *cursor) position() string { return Position(c.hub.log.Head().Epoch, c.after) }

// locate finds the place after an id: a position of this log's, a publisher's id, or a
// position of another log's.
func (h *Hub) locate(ctx context.Context, id string) (Location, error) {
	head := h.log.Head()
	epoch, seq, isPosition := parsePosition(id)
	if isPosition && epoch == head.Epoch {
		if seq > head.Seq {
			if _, err := h.log.Sync(ctx); err != nil {
				return Location{}, fmt.Errorf("hub: sync: %w", err)
			}
		}
		return h.found(h.log.Locate(ctx, Cursor{Epoch: epoch, Seq: seq}))
	}
	loc, err := h.found(h.log.Locate(ctx, Cursor{ID: id}))
	if err == nil && loc.Lost == LostUnknown && isPosition {
		loc.Lost = LostEpoch
	}
	return loc, err
}

func (h *Hub) found(loc Location, err error) (Location, error) {
	if err != nil {
		return loc, fmt.Errorf("hub: locate: %w", err)
	}
	return loc, nil
}

// parsePosition splits an id of the form of [Position].
func parsePosition(id string) (epoch string, seq uint64, ok bool) {
	epoch, digits, ok := strings.Cut(id, "-")
	if !ok || len(epoch) < 6 || len(epoch) > 16 || digits == "" || digits[0] == '0' && digits != "0" {
		return "", 0, false
	}
	for _, c := range epoch {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return "", 0, false
		}
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return "", 0, false
		}
	}
	seq, err := strconv.ParseUint(digits, 10, 64)
	return epoch, seq, err == nil
}
