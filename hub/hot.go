package hub

import (
	"context"
	"slices"
	"sort"
	"sync"
)

// A hotLog has the newest records in memory, each event encoded once, and the lanes by
// which those who follow a selection find them.
type hotLog struct {
	limit  int // of bytes
	shards int // of the engine
	slow   SlowRules
	onPass func(f *feed, topic string, seq uint64) // nil where there is no engine; mu is held

	mu       sync.RWMutex
	items    []*item // ascending
	bytes    int
	from     uint64 // all records above this are here, up to to
	to       uint64
	moved    chan struct{} // closed when to moves; nil unless waited for
	arena    arena
	topics   map[string]*hotTopic
	patterns patternTree
	feeds    map[string]*feed // those with a lane of their own, by Filter.key
	homes    int              // of feeds so far
	dirty    []*feed          // with something new since the last collection
}

// A hotTopic is a topic of which there is an event here, or a subscriber.
type hotTopic struct {
	lane    lane    // the events that everybody may have
	private int     // events that not everybody may have
	plain   *feed   // of who wants just those of lane; nil: nobody
	feeds   []*feed // others that name the topic
}

func newHotLog(o *Options, shards int, head Head) *hotLog {
	return &hotLog{limit: o.HotBytes, shards: shards, slow: o.Slow, from: head.Seq, to: head.Seq, topics: make(map[string]*hotTopic), feeds: make(map[string]*feed)}
}

// last returns the newest sequence that has been here.
func (h *hotLog) last() uint64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.to
}

// reach waits until the hot log has come to a sequence.
func (h *hotLog) reach(ctx context.Context, seq uint64) error {
	for {
		h.mu.Lock()
		reached := h.to >= seq
		if !reached && h.moved == nil {
			h.moved = make(chan struct{})
		}
		moved := h.moved
		h.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// moveTo sets what is reached; mu is held.
func (h *hotLog) moveTo(seq uint64) {
	h.to = seq
	if h.moved != nil {
		close(h.moved)
		h.moved = nil
	}
}

// add appends records, drops the oldest ones where that is too much, and returns the
// feeds that have something new.
func (h *hotLog) add(epoch string, records []Record) []*feed {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range records {
		r := &records[i]
		it := new(item)
		it.set(epoch, r)
		switch r.Kind {
		case KindEvent:
			h.arena.encode(it)
			h.spread(it)
		case KindForgotten:
			h.forget(r.Topics[0], r.Seq)
		case KindClosed:
			h.closeTopic(r.Topics[0])
		}
		h.items = append(h.items, it)
		h.bytes += it.size()
		h.moveTo(r.Seq)
	}
	h.shrink()
	return h.collect()
}

// collect returns the feeds with something new since the last time; mu is held.
func (h *hotLog) collect() []*feed {
	dirty := h.dirty
	h.dirty = nil
	for _, f := range dirty {
		f.dirty = false
	}
	return dirty
}

// spread appends an event to the lanes that it belongs to; mu is held.
func (h *hotLog) spread(it *item) {
	for _, name := range it.Topics {
		t := h.topic(name)
		if it.Event.Private {
			t.private++
		} else {
			t.lane.push(it)
		}
		switch {
		case t.plain == nil:
		case it.Event.Private:
			h.offer(t.plain, it, name)
		default:
			h.mark(t.plain, it)
		}
		for _, f := range t.feeds {
			h.offer(f, it, name)
		}
		h.patterns.match(name, func(f *feed) { h.offer(f, it, name) })
	}
}

// offer appends an event to a feed's own lane, if that wants it; mu is held.
func (h *hotLog) offer(f *feed, it *item, topic string) {
	switch {
	case !f.filter.selectsEvent(it.Event):
		f.passes = true
		if h.onPass != nil {
			h.onPass(f, topic, it.Seq)
		}
		h.mark(f, nil)
	case f.lane.last() != it: // it may come by several topics
		f.lane.push(it)
		h.mark(f, it)
	}
}

// mark has a feed's subscribers look; mu is held.
func (h *hotLog) mark(f *feed, it *item) {
	if !f.dirty {
		f.dirty, f.fresh = true, 0
		h.dirty = append(h.dirty, f)
	}
	if it != nil {
		f.fresh += len(it.wire)
	}
}

// topic returns a topic's entry; mu is held.
func (h *hotLog) topic(name string) *hotTopic {
	t := h.topics[name]
	if t == nil {
		t = &hotTopic{lane: lane{from: h.from}}
		h.topics[name] = t
	}
	return t
}

// tidy lets go of a topic of which there is nothing any more; mu is held.
func (h *hotLog) tidy(name string, t *hotTopic) {
	if len(t.lane.items) == 0 && t.private == 0 && t.plain == nil && len(t.feeds) == 0 {
		delete(h.topics, name)
	}
}

// shrink drops the oldest items; mu is held.
func (h *hotLog) shrink() {
	n := 0
	for h.bytes > h.limit && n < len(h.items)-1 {
		it := h.items[n]
		h.bytes -= it.size()
		h.from = it.Seq
		for _, l := range it.lanes {
			l.drop(it)
		}
		if it.Kind == KindEvent {
			for _, name := range it.Topics {
				if t := h.topics[name]; t != nil {
					if it.Event.Private {
						t.private--
					}
					h.tidy(name, t)
				}
			}
		}
		n++
	}
	clear(h.items[:n])
	h.items = h.items[n:]
}

// skipTo forgets everything up to a sequence, and returns all feeds.
func (h *hotLog) skipTo(seq uint64) []*feed {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.items, h.bytes, h.from = nil, 0, seq
	for name, t := range h.topics {
		t.private = 0
		t.lane.skip(seq)
		if t.plain != nil {
			h.mark(t.plain, nil)
		}
		h.tidy(name, t)
	}
	for _, f := range h.feeds {
		f.lane.skip(seq)
		h.mark(f, nil)
	}
	h.moveTo(seq)
	return h.collect()
}

// forget marks the events of a topic, and has those who had not got all of them find out;
// mu is held.
func (h *hotLog) forget(topic string, seq uint64) {
	t := h.topics[topic]
	if t == nil {
		t = &hotTopic{} // there is nothing of it, but patterns may match it
	}
	events := t.lane.items
	if t.private > 0 {
		events = h.items
	}
	for _, it := range events {
		if it.Kind == KindEvent && slices.Contains(it.Topics, topic) && !slices.Contains(it.forgot, topic) {
			it.forgot = append(it.forgot, topic)
		}
	}
	t.lane.reset(seq)
	if t.plain != nil {
		h.mark(t.plain, nil)
	}
	reset := func(f *feed) {
		f.lane.reset(seq)
		h.mark(f, nil)
	}
	for _, f := range t.feeds {
		reset(f)
	}
	h.patterns.match(topic, reset)
}

// closeTopic notes that nothing more comes of a topic; mu is held.
func (h *hotLog) closeTopic(name string) {
	t := h.topics[name]
	if t == nil {
		return
	}
	if t.plain != nil {
		delete(t.plain.open, name)
		h.mark(t.plain, nil)
	}
	for _, f := range t.feeds {
		delete(f.open, name)
		h.mark(f, nil)
	}
}

// hotPage is how many records a cursor looks at under the lock.
const hotPage = 256

// A stretch is what above has looked at.
type stretch struct {
	through uint64 // there is nothing more to see up to here
	all     bool   // that is all there is
	ended   bool   // and nothing more will come
}

// above calls visit for some of the records above a sequence, those of a feed at least,
// until it returns false. With passing it also visits events that the feed does not want.
// It returns false if the hot log does not reach back so far.
func (h *hotLog) above(f *feed, after uint64, passing bool, visit func(*item) bool) (stretch, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	items := h.items
	switch {
	case after >= f.lane.from && (!passing || !f.passes):
		items = f.lane.items
	case after < h.from:
		return stretch{}, false
	}
	i := sort.Search(len(items), func(i int) bool { return items[i].Seq > after })
	s := stretch{through: after}
	for n := 0; i < len(items); i, n = i+1, n+1 {
		if n == hotPage || !visit(items[i]) {
			return s, true
		}
		s.through = items[i].Seq
	}
	return stretch{through: max(s.through, h.to), all: true, ended: f.ended()}, true
}
