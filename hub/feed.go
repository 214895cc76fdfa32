package hub

import (
	"encoding/binary"
	"slices"
)

// A feed is a selection that somebody follows: all subscribers with the same one share
// it, and find what is new in its lane. hotLog.mu guards it, except what the engine has.
type feed struct {
	filter  Filter // without From
	key     string // "" if the lane is the topic's
	slow    SlowRule
	lane    *lane
	refs    int             // subscribers, and those who are about to be
	open    map[string]bool // exact topics that are not closed
	cursors map[*cursor]struct{}
	dirty   bool
	fresh   int // bytes that have come since it is dirty

	passes bool // events of its topics have come that it does not want

	shared feedShares // what the engine has of it
}

// key names a selection: the same for all that select the same.
func (f *Filter) key() string {
	var b []byte
	for _, names := range [][]string{f.Topics, f.Patterns, f.Types, f.Private} {
		names = slices.Sorted(slices.Values(names))
		b = binary.AppendUvarint(b, uint64(len(names)))
		for _, n := range names {
			b = append(binary.AppendUvarint(b, uint64(len(n))), n...)
		}
	}
	return string(b)
}

// plain tells whether a filter is for one topic and nothing else.
func (f *Filter) plain() bool {
	return len(f.Topics) == 1 && len(f.Patterns) == 0 && len(f.Types) == 0 && len(f.Private) == 0
}

// follow returns the feed of a filter. release must follow.
func (h *hotLog) follow(filter Filter) *feed {
	filter.From = Start{}
	h.mu.Lock()
	defer h.mu.Unlock()
	if filter.plain() {
		t := h.topic(filter.Topics[0])
		if t.plain == nil {
			t.plain = h.newFeed(filter)
			t.plain.lane = &t.lane
		}
		t.plain.refs++
		return t.plain
	}
	key := filter.key()
	f := h.feeds[key]
	if f == nil {
		f = h.newFeed(filter)
		f.key, f.lane = key, &lane{from: h.to}
		h.feeds[key] = f
		for _, name := range filter.Topics {
			t := h.topic(name)
			t.feeds = append(t.feeds, f)
		}
		for _, p := range filter.Patterns {
			h.patterns.add(p, f)
		}
	}
	f.refs++
	return f
}

func (h *hotLog) newFeed(filter Filter) *feed {
	h.homes++
	f := &feed{filter: filter, slow: h.slow.of(&filter), open: make(map[string]bool, len(filter.Topics))}
	f.shared.init(h.homes, h.shards)
	for _, name := range filter.Topics {
		f.open[name] = true
	}
	return f
}

// release ends what follow began.
func (h *hotLog) release(f *feed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.refs--; f.refs > 0 {
		return
	}
	for _, name := range f.filter.Topics {
		t := h.topics[name]
		if f.key == "" {
			t.plain = nil
		} else {
			t.feeds = without(t.feeds, f)
		}
		h.tidy(name, t)
	}
	for _, p := range f.filter.Patterns {
		h.patterns.remove(p, f)
	}
	if f.key != "" {
		delete(h.feeds, f.key)
		for _, it := range f.lane.items {
			it.lanes = slices.DeleteFunc(it.lanes, func(l *lane) bool { return l == f.lane })
		}
	}
}

// ended tells whether nothing more can come; hotLog.mu is held.
func (f *feed) ended() bool { return len(f.open) == 0 && len(f.filter.Patterns) == 0 }

// closedAlready notes a topic that was closed before the feed began, if its last event has
// come here; if not, the record that closes it is still to come.
func (h *hotLog) closedAlready(f *feed, topic string, info TopicInfo) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if info.Closed && info.Newest <= h.to {
		delete(f.open, topic)
	}
}

// enter has a cursor woken when there is something new in its feed, until leave.
func (h *hotLog) enter(c *cursor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.feed.cursors == nil {
		c.feed.cursors = make(map[*cursor]struct{})
	}
	c.feed.cursors[c] = struct{}{}
}

func (h *hotLog) leave(c *cursor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(c.feed.cursors, c)
}

// wake has the cursors of feeds look.
func (h *hotLog) wake(feeds []*feed) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, f := range feeds {
		for c := range f.cursors {
			select {
			case c.wake <- struct{}{}:
			default: // it has not looked yet since the last time
			}
		}
	}
}
