package hub

import (
	"context"
	"slices"
	"sort"
	"sync"

	"github.com/tidewire/tidewire/sse"
)

// An item is a record as it is delivered: encoded once, on first use, and shared by
// all who get it.
type item struct {
	Record
	id      string   // on the wire; "" unless it is an event
	forgot  []string // those of its topics whose history was removed; under hotLog.mu
	encoded sync.Once
	sse     sse.Frame
}

// set makes an item of a record.
func (it *item) set(epoch string, r *Record) {
	it.Record = *r
	if r.Kind != KindEvent {
		return
	}
	it.id = r.Event.ID
	if it.id == "" {
		it.id = Position(epoch, r.Seq)
	}
}

// frame returns the event as it stands in an event stream.
func (it *item) frame() sse.Frame {
	it.encoded.Do(func() {
		// Publish has refused what cannot be encoded.
		it.sse, _ = sse.Encode(sse.Event{ID: it.id, Type: it.Event.Type, Data: it.Event.Data, Retry: it.Event.Retry})
	})
	return it.sse
}

func (it *item) size() int {
	const overhead = 256 // of the structures, about
	if it.Event == nil {
		return overhead
	}
	return overhead + 2*it.Event.Size() // and its frame
}

// A hotLog has the newest records in memory.
type hotLog struct {
	limit int // of bytes

	mu    sync.RWMutex
	items []*item // ascending
	bytes int
	from  uint64 // all records above this are here, up to to
	to    uint64
	moved chan struct{} // closed when to moves; nil unless waited for
}

func newHotLog(limit int, head Head) *hotLog {
	return &hotLog{limit: limit, from: head.Seq, to: head.Seq}
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

// add appends records, and drops the oldest ones where that is too much.
func (h *hotLog) add(epoch string, records []Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range records {
		if r.Kind == KindForgotten {
			h.forget(r.Topics[0])
		}
		it := new(item)
		it.set(epoch, &r)
		h.items = append(h.items, it)
		h.bytes += it.size()
		h.moveTo(r.Seq)
	}
	n := 0
	for h.bytes > h.limit && n < len(h.items)-1 {
		h.bytes -= h.items[n].size()
		h.from = h.items[n].Seq
		n++
	}
	if n > 0 {
		clear(h.items[:n])
		h.items = h.items[n:]
	}
}

// skipTo forgets everything up to a sequence.
func (h *hotLog) skipTo(seq uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.items, h.bytes, h.from = nil, 0, seq
	h.moveTo(seq)
}

// forget marks the events of a topic; mu is held.
func (h *hotLog) forget(topic string) {
	for _, it := range h.items {
		if it.Kind == KindEvent && slices.Contains(it.Topics, topic) && !slices.Contains(it.forgot, topic) {
			it.forgot = append(it.forgot, topic)
		}
	}
}

// kept returns the topics under which an event can still be had.
func (it *item) kept() []string {
	if len(it.forgot) == 0 {
		return it.Topics
	}
	return slices.DeleteFunc(slices.Clone(it.Topics), func(t string) bool { return slices.Contains(it.forgot, t) })
}

// hotPage is how many records a cursor looks at under the lock.
const hotPage = 256

// above calls visit for some of the records above a sequence, until it returns false,
// and returns the sequence up to which there is nothing more to see, and whether
// that is all there is. It returns ok = false if the hot log does not reach back so far.
func (h *hotLog) above(after uint64, visit func(*item) bool) (through uint64, all, ok bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if after < h.from {
		return after, false, false
	}
	i := sort.Search(len(h.items), func(i int) bool { return h.items[i].Seq > after })
	through = after
	for n := 0; i < len(h.items); i, n = i+1, n+1 {
		if n == hotPage || !visit(h.items[i]) {
			return through, false, true
		}
		through = h.items[i].Seq
	}
	return max(through, h.to), true, true
}
