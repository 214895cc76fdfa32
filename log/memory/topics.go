package memory

import (
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/internal/topictree"
)

// A topic keeps its events in order. It outlives them, as the marks of what was its
// newest and what was removed must.
type topic struct {
	name     string
	rule     *agingRule
	entries  queue[*entry]
	bytes    int64
	newest   uint64
	newestID string
	trimmed  uint64        // the highest sequence removed
	removed  int64         // how many were
	dead     uint64        // the same of events that no other topic keeps either
	orphans  queue[*entry] // removed here, kept under another topic, ascending
	closed   bool
	due      time.Time // with an age: when its oldest event came, or one before that
	queued   bool      // in the rule's heap
}

func (t *topic) add(e *entry, wireID string) {
	t.entries.push(e)
	t.bytes += e.size
	t.newest, t.newestID = e.seq, wireID
}

// lost notes that an event of the topic is gone for good.
func (t *topic) lost(seq uint64) {
	t.dead = max(t.dead, seq)
	for t.orphans.len() > 0 && t.orphans.front().topics == 0 {
		t.orphans.pop()
	}
}

// keeps tells whether the topic has an entry, which must be of it.
func (t *topic) keeps(e *entry) bool {
	return t.entries.len() > 0 && t.entries.front().seq <= e.seq
}

// excess tells whether the oldest event must go for those after it. The newest event
// stays, however large: what was stored can be read.
func (t *topic) excess() bool {
	r := t.rule
	n := t.entries.len()
	return n > 1 && (r.Count > 0 && int64(n) > r.Count || r.Bytes > 0 && t.bytes > r.Bytes)
}

// topics are found by name and by pattern.
type topics struct {
	all    []*topic // in the order in which they were first named
	byName map[string]*topic
	tree   topictree.Tree[*topic]
}

func (t *topics) get(name string) *topic { return t.byName[name] }

// make returns the topic of that name, a new one if need be.
func (t *topics) make(name string, rule func(string) *agingRule) *topic {
	if found := t.byName[name]; found != nil {
		return found
	}
	made := &topic{name: name, rule: rule(name)}
	t.all = append(t.all, made)
	t.byName[name] = made
	t.tree.Put(name, made)
	return made
}

// keys remember what idempotency keys answered.
type keys struct {
	life   time.Duration
	byName map[string]keyed
	old    queue[string] // in the order in which they were first used
}

type keyed struct {
	sum     [32]byte
	receipt hub.Receipt
}

// check returns the earlier receipt of a key, or an error if it had another body.
func (k *keys) check(name string, sum [32]byte, now time.Time) (*hub.Receipt, error) {
	used, ok := k.byName[name]
	if name == "" || !ok || now.Sub(used.receipt.Time) > k.life {
		return nil, nil
	}
	if used.sum != sum {
		return nil, hub.ErrKeyReused
	}
	used.receipt.Replayed = true
	return &used.receipt, nil
}

func (k *keys) put(name string, sum [32]byte, receipt hub.Receipt) {
	if name != "" {
		k.byName[name] = keyed{sum, receipt}
		k.old.push(name)
	}
}

func (k *keys) expire(now time.Time) {
	for k.old.len() > 0 {
		used, ok := k.byName[k.old.front()]
		if ok && now.Sub(used.receipt.Time) <= k.life {
			return
		}
		delete(k.byName, k.old.pop())
	}
}

// ids find publishers' ids. A removed event's id is known for some time after.
type ids struct {
	first map[string]uint64
	lost  *recent[struct{}]
}

func (i *ids) add(id string, seq uint64) {
	if id == "" {
		return
	}
	if _, ok := i.first[id]; !ok {
		i.first[id] = seq
	}
}

func (i *ids) remove(id string, seq uint64) {
	if id == "" || i.first[id] != seq {
		return
	}
	if forgotten, ok := i.lost.put(id, struct{}{}); ok {
		delete(i.first, forgotten)
	}
}
