package tables

import (
	"container/heap"
	"encoding/binary"
	"fmt"

	"github.com/tidewire/tidewire/hub"
)

// Marks are what is known of a topic. They outlive its events.
type marks struct {
	closed     bool
	count      int64 // events kept
	bytes      int64 // of them, by Size
	removed    int64 // events ever removed
	newest     uint64
	newestID   string // the publisher's own; "": its position is its id
	trimmed    uint64 // the highest sequence removed
	dead       uint64 // the same of events that no other topic keeps either
	oldest     uint64 // 0: none is kept
	oldestTime int64
}

const markClosed = 1

func (m *marks) append(dst []byte) []byte {
	var flags byte
	if m.closed {
		flags = markClosed
	}
	dst = append(dst, flags)
	for _, n := range []uint64{uint64(m.count), uint64(m.bytes), uint64(m.removed), m.newest, m.trimmed, m.dead, m.oldest, uint64(m.oldestTime)} {
		dst = binary.AppendUvarint(dst, n)
	}
	return append(dst, m.newestID...)
}

func readMarks(row []byte) (marks, error) {
	r := reader[[]byte]{rest: row}
	m := marks{closed: r.byte() == markClosed}
	for _, n := range []*int64{&m.count, &m.bytes, &m.removed} {
		*n = int64(r.number(1<<63 - 1))
	}
	for _, n := range []*uint64{&m.newest, &m.trimmed, &m.dead, &m.oldest} {
		*n = r.uvarint()
	}
	m.oldestTime = int64(r.uvarint())
	m.newestID = string(r.rest)
	if r.err == nil && (m.count == 0) != (m.oldest == 0) {
		r.fail()
	}
	return m, r.err
}

// A topic is a topic's marks, and where retention stands with it. Fields but seen
// belong to whoever applies.
type topic struct {
	no    uint32
	name  string
	names []string // its name alone, shared by its events
	self  []*topic // it alone
	rule  *rule

	marks
	seen marks // as committed; under Tables.mu

	touched bool // in this round
	front   []entry
	whole   bool // front has every event that the topic keeps
	added   []entry

	due    int64 // with an age: the time of its oldest event, or of one before that
	queued bool  // in the rule's heap
}

// excess tells whether the oldest event must go for those after it. The newest event
// stays, however large: what was stored can be read.
func (t *topic) excess() bool {
	r := t.rule
	return t.count > 1 && (r.Count > 0 && t.count > r.Count || r.Bytes > 0 && t.bytes > r.Bytes)
}

// keeps tells whether a topic still has an event that was put under it.
func (t *topic) keeps(seq uint64) bool { return t.trimmed < seq }

// A rule is a retention rule, and the topics under it by the age of their oldest event.
type rule struct {
	hub.Retention
	topics byAge
}

// added puts a topic that has an event into the heap, if ages matter.
func (r *rule) added(t *topic) {
	if r.Age == 0 || t.queued {
		return
	}
	t.due, t.queued = t.oldestTime, true
	heap.Push(&r.topics, t)
}

// next returns a topic whose oldest event may be too old, nil if there is none.
func (r *rule) next(now int64) *topic {
	if len(r.topics) == 0 || now-r.topics[0].due <= int64(r.Age) {
		return nil
	}
	t := heap.Pop(&r.topics).(*topic)
	t.queued = false
	return t
}

// byAge is a heap of topics.
type byAge []*topic

func (h byAge) Len() int           { return len(h) }
func (h byAge) Less(i, j int) bool { return h[i].due < h[j].due }
func (h byAge) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byAge) Push(v any)        { *h = append(*h, v.(*topic)) }
func (h *byAge) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return t
}

// addTopic makes a topic known.
func (t *Tables) addTopic(name string) *topic {
	topic := &topic{no: uint32(len(t.topics)), name: name, names: []string{name}, rule: t.retention.ruleOf(name), whole: true}
	topic.self = append(topic.self, topic)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.topics = append(t.topics, topic)
	t.byName[name] = topic
	t.tree.Put(name, topic)
	return topic
}

// A head is how far the order has come, and what can be said of all topics together.
type head struct {
	version    uint64
	epoch      string
	seq        uint64
	time       int64
	count      int64  // events kept
	bytes      int64  // of them
	removed    int64  // events ever removed from a topic
	oldest     uint64 // the oldest event kept, 0: none
	gone       uint64 // the highest sequence of a record that was removed
	goneTime   int64
	dead       uint64 // the same of an event
	lostFirst  uint64 // ids of removed events are kept from this number
	lostNext   uint64 // up to before this one
	skippedEnd uint64 // the next record's sequence is above this one
}

func (h *head) append(dst []byte) []byte {
	dst = append(binary.AppendUvarint(dst, h.version), byte(len(h.epoch)))
	dst = append(dst, h.epoch...)
	for _, n := range h.numbers() {
		dst = binary.AppendUvarint(dst, *n)
	}
	for _, n := range h.counts() {
		dst = binary.AppendUvarint(dst, uint64(*n))
	}
	return dst
}

func (h *head) numbers() []*uint64 {
	return []*uint64{&h.seq, &h.oldest, &h.gone, &h.dead, &h.lostFirst, &h.lostNext, &h.skippedEnd}
}

func (h *head) counts() []*int64 {
	return []*int64{&h.time, &h.count, &h.bytes, &h.removed, &h.goneTime}
}

func readHeadRow(row []byte) (head, error) {
	r := reader[[]byte]{rest: row}
	h := head{version: r.uvarint()}
	if r.err == nil && h.version > Version {
		return h, fmt.Errorf("tables: the store has version %d of the tables, and this program knows %d: use a newer one", h.version, Version)
	}
	h.epoch = string(r.text())
	for _, n := range h.numbers() {
		*n = r.uvarint()
	}
	for _, n := range h.counts() {
		*n = int64(r.uvarint())
	}
	if r.err != nil || len(r.rest) > 0 {
		return h, fmt.Errorf("tables: head: %w", ErrDamaged)
	}
	return h, nil
}

// next returns the sequence of the next record.
func (h *head) next() uint64 { return max(h.seq, h.skippedEnd) + 1 }

func (h *head) public() hub.Head {
	p := hub.Head{Epoch: h.epoch, Seq: h.seq, Oldest: h.oldest, Time: timeOf(h.time)}
	if h.oldest == 0 {
		p.Oldest = h.seq + 1
	}
	return p
}
