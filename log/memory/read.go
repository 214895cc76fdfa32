package memory

import (
	"cmp"
	"container/heap"
	"slices"
	"sort"

	"github.com/tidewire/tidewire/hub"
)

// The size of a page if the query does not say.
const (
	pageEvents = 1000
	pageBytes  = 1 << 20
)

// read answers a query: it merges the topics that match, each from where the query
// begins, so that its cost is that of the page and of the number of those topics.
func (t *tables) read(q hub.Query) hub.Page {
	until := t.seq
	if q.Until > 0 {
		until = min(until, q.Until)
	}
	page := hub.Page{Through: max(q.After, until)}
	if q.Limit <= 0 {
		q.Limit = pageEvents
	}
	if q.Bytes <= 0 {
		q.Bytes = pageBytes
	}
	lists := t.matching(&q, &page)
	if q.Newest {
		page.Records = newest(lists, &q, until)
		return page
	}

	m := newMerge(lists, q.After)
	size := 0
	for e := m.next(); e != nil && e.seq <= until; e = m.next() {
		if len(page.Records) == q.Limit || size > 0 && size+int(e.size) > q.Bytes {
			page.Through = page.Records[len(page.Records)-1].Seq
			return page
		}
		page.Records = append(page.Records, e.record())
		size += int(e.size)
	}
	return page
}

func (e *entry) record() hub.Record {
	return hub.Record{Seq: e.seq, Kind: hub.KindEvent, Time: e.time, Topics: e.event.Topics, Event: e.event}
}

type topicSet map[*topic]bool

// matching returns the lists of events to merge, and sets the page's gap.
func (t *tables) matching(q *hub.Query, page *hub.Page) []*queue[*entry] {
	seen := make(topicSet)
	var lists []*queue[*entry]
	add := func(topic *topic) {
		if seen[topic] {
			return
		}
		seen[topic] = true
		if topic.entries.len() > 0 {
			lists = append(lists, &topic.entries)
		}
	}
	for _, name := range q.Topics {
		if topic := t.topics.get(name); topic != nil {
			add(topic)
		}
	}
	for _, p := range q.Patterns {
		t.topics.tree.Match(p, add)
	}
	for topic := range seen {
		page.Removed += topic.removed
		page.Gap = page.Gap || topic.dead > q.After || topic.trimmed > q.After && t.orphaned(topic, q.After, seen)
	}
	return lists
}

// orphaned tells whether an event above a sequence is gone from a topic and not kept
// under any other of those that are asked for.
func (t *tables) orphaned(topic *topic, after uint64, asked topicSet) bool {
	for i := above(&topic.orphans, after); i < topic.orphans.len(); i++ {
		e, kept := topic.orphans.at(i), false
		for _, name := range e.event.Topics {
			other := t.topics.get(name)
			kept = kept || asked[other] && other.keeps(e)
		}
		if !kept {
			return true
		}
	}
	return false
}

// above returns the index of the first entry with a higher sequence.
func above(list *queue[*entry], seq uint64) int {
	return sort.Search(list.len(), func(i int) bool {
		look()
		return list.at(i).seq > seq
	})
}

// look is called for each entry that reading looks at; a test counts them.
var look = func() {}

// newest returns the last events up to a sequence.
func newest(lists []*queue[*entry], q *hub.Query, until uint64) []hub.Record {
	var all []*entry
	for _, list := range lists {
		from, to := above(list, q.After), above(list, until)
		for i := max(from, to-q.Limit); i < to; i++ {
			all = append(all, list.at(i))
		}
	}
	slices.SortFunc(all, func(a, b *entry) int { return cmp.Compare(b.seq, a.seq) })
	all = slices.Compact(all)
	var records []hub.Record
	size := 0
	for _, e := range all[:min(q.Limit, len(all))] {
		if size += int(e.size); len(records) > 0 && size > q.Bytes {
			break
		}
		records = append(records, e.record())
	}
	slices.Reverse(records)
	return records
}

// A merge yields the entries of several lists in order, each once.
type merge struct {
	cursors cursors
	last    *entry
}

type cursor struct {
	list *queue[*entry]
	i    int
}

func (c cursor) entry() *entry { return c.list.at(c.i) }

func newMerge(lists []*queue[*entry], after uint64) *merge {
	m := &merge{}
	for _, list := range lists {
		if i := above(list, after); i < list.len() {
			m.cursors = append(m.cursors, cursor{list, i})
		}
	}
	heap.Init(&m.cursors)
	return m
}

// next returns the next entry, nil after the last.
func (m *merge) next() *entry {
	for len(m.cursors) > 0 {
		look()
		c := &m.cursors[0]
		e := c.entry()
		if c.i++; c.i == c.list.len() {
			heap.Pop(&m.cursors)
		} else if len(m.cursors) > 1 {
			heap.Fix(&m.cursors, 0)
		}
		if e != m.last { // else it is under several of the topics
			m.last = e
			return e
		}
	}
	return nil
}

// cursors are a heap by sequence.
type cursors []cursor

func (c cursors) Len() int           { return len(c) }
func (c cursors) Less(i, j int) bool { return c[i].entry().seq < c[j].entry().seq }
func (c cursors) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *cursors) Push(v any)        { *c = append(*c, v.(cursor)) }
func (c *cursors) Pop() any {
	last := len(*c) - 1
	v := (*c)[last]
	*c = (*c)[:last]
	return v
}
