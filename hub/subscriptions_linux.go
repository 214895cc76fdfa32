//go:build linux && !portable && (amd64 || arm64)

package hub

import (
	"container/heap"
	"context"
	"slices"
	"time"

	"github.com/tidewire/tidewire/sse"
)

// each runs a function in each shard, and waits for it there. It returns false if ctx or
// the hub ends before.
func (e *engine) each(ctx context.Context, f func(*shard)) bool {
	for _, s := range e.all() {
		done := make(chan struct{})
		if !s.post(func() { f(s); close(done) }) {
			continue
		}
		select {
		case <-done:
		case <-ctx.Done():
			return false
		case <-e.hub.ctx.Done():
			return false
		}
	}
	return true
}

// subscriptions returns the streams.
func (e *engine) subscriptions(ctx context.Context) []Subscription {
	parts := make([][]Subscription, len(e.all()))
	whole := e.each(ctx, func(s *shard) {
		for _, st := range s.slots {
			if st != nil {
				parts[s.n] = append(parts[s.n], s.describe(st))
			}
		}
	})
	if !whole {
		return nil // a shard may be at it
	}
	return slices.Concat(parts...)
}

func (s *shard) describe(st *stream) Subscription {
	return s.hub.describe(&st.feed.filter, st.permit, st.after)
}

// end ends the streams that match.
func (e *engine) end(ctx context.Context, match func(*Subscription) bool, why *RequestError) int {
	last := e.hub.lastWords(why)
	counts := make([]int, len(e.all()))
	whole := e.each(ctx, func(s *shard) {
		for _, st := range s.slots {
			if st == nil || st.state == closing {
				continue
			}
			if d := s.describe(st); match(&d) {
				counts[s.n]++
				if st.isPoll() {
					s.refuseWaiter(st, why)
				} else {
					s.end(st, last)
				}
			}
		}
	})
	n := 0
	if whole {
		for _, c := range counts {
			n += c
		}
	}
	return n
}

// turnOut ends a stream with an error.
func (s *shard) turnOut(st *stream, why *RequestError) {
	if st.isPoll() {
		s.refuseWaiter(st, why)
		return
	}
	s.end(st, s.hub.lastWords(why))
}

// lastWords end a stream with an error.
func (h *Hub) lastWords(why *RequestError) []byte {
	block, _ := sse.AppendEvent(nil, h.errorEvent(why)) // what the hub makes can be encoded
	return block
}

// expire has a stream end when its permit does.
func (s *shard) expire(st *stream) {
	at := st.permit.grant.Expires
	if at.IsZero() {
		return
	}
	if len(s.expiries) > 2*s.streams+1000 { // most are of streams that have ended before
		s.expiries = slices.DeleteFunc(s.expiries, func(x expiry) bool { return !s.has(x) })
		heap.Init(&s.expiries)
	}
	heap.Push(&s.expiries, expiry{at.UnixNano(), st.slot, st.gen})
}

// endExpired ends the streams whose time is over.
func (s *shard) endExpired() {
	for len(s.expiries) > 0 && s.expiries[0].at <= time.Now().UnixNano() {
		x := heap.Pop(&s.expiries).(expiry)
		if !s.has(x) {
			continue
		}
		st := s.slots[x.slot]
		s.turnOut(st, st.permit.expiry())
	}
}

// An expiry is when a stream is to end.
type expiry struct {
	at   int64 // ns of Unix time
	slot uint32
	gen  uint32
}

// has tells whether the stream is still there.
func (s *shard) has(x expiry) bool {
	return int(x.slot) < len(s.slots) && s.slots[x.slot] != nil && s.slots[x.slot].gen == x.gen
}

// expiries are a heap.
type expiries []expiry

func (e expiries) Len() int           { return len(e) }
func (e expiries) Less(i, j int) bool { return e[i].at < e[j].at }
func (e expiries) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *expiries) Push(x any)        { *e = append(*e, x.(expiry)) }
func (e *expiries) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}
