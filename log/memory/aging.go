package memory

import (
	"container/heap"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// An agingRule is a retention rule and the topics under it by the age of their oldest
// event, so that expiry looks only at those from which something expires.
type agingRule struct {
	hub.Retention
	topics byAge
}

// added puts a topic that has an event into the heap, if ages matter.
func (r *agingRule) added(t *topic) {
	if r.Age == 0 || t.queued {
		return
	}
	t.due, t.queued = t.entries.front().time, true
	heap.Push(&r.topics, t)
}

// next returns a topic whose oldest event may be too old, nil if there is none.
func (r *agingRule) next(now time.Time) *topic {
	if len(r.topics) == 0 || now.Sub(r.topics[0].due) <= r.Age {
		return nil
	}
	t := heap.Pop(&r.topics).(*topic)
	t.queued = false
	return t
}

// byAge is a heap of topics.
type byAge []*topic

func (h byAge) Len() int           { return len(h) }
func (h byAge) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h byAge) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byAge) Push(v any)        { *h = append(*h, v.(*topic)) }
func (h *byAge) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return t
}
