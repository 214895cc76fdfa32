package tables

import (
	"math"
	"slices"
	"sort"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidewire/tidewire/hub"
)

const (
	// mostRemovals is how many events a record removes at most beyond what its own
	// events push out, so that no publisher waits long for others' retention.
	mostRemovals = 1000

	// frontSize is how many of a topic's oldest entries are read at once.
	frontSize = 32

	// frontierSize is how many of the oldest records are read at once.
	frontierSize = 256

	// maxFronts bounds the entries in all topics' fronts.
	maxFronts = 1 << 20
)

// trimExcess removes what a topic has too much of.
func (r *Round) trimExcess(t *topic) {
	for ; t.excess() && r.err == nil; r.left-- {
		if r.left == 0 {
			r.t.overdue = true
			return
		}
		r.trim(t)
	}
}

// expire removes what has come of age, and what is still to be removed from before.
func (r *Round) expire(now int64) {
	t := r.t
	left := mostRemovals
	for _, rule := range t.retention.rules {
		for topic := rule.next(now); topic != nil; topic = rule.next(now) {
			for ; left > 0 && topic.count > 0 && now-topic.oldestTime > int64(rule.Age) && r.err == nil; left-- {
				r.trim(topic)
			}
			if topic.count > 0 {
				rule.added(topic)
			}
			if left == 0 || r.err != nil {
				break
			}
		}
	}
	cut := left == 0
	if t.overdue {
		r.catchUp(&left)
	}
	for ; left > 0 && t.tooLarge() && r.err == nil; left-- {
		r.trimOldest()
	}
	t.overdue = t.overdue || cut
	r.expireKeys(now)
}

// catchUp trims topics whose rule has become narrower, or that had too much at once.
func (r *Round) catchUp(left *int) {
	t := r.t
	t.overdue = false
	for _, topic := range t.topics {
		for ; topic.excess() && *left > 0 && r.err == nil; *left-- {
			r.trim(topic)
		}
		if topic.excess() {
			t.overdue = true
			return
		}
	}
	t.overdue = t.tooLarge()
}

// trimOldest removes the oldest event of all, which is the oldest in each topic that
// still keeps it.
func (r *Round) trimOldest() {
	seq := r.t.head.oldest
	for _, topic := range slices.Clone(r.topicsOf(seq)) {
		if topic.count > 0 && topic.oldest == seq && r.err == nil {
			r.trim(topic)
		}
	}
}

// trim removes a topic's oldest event from it.
func (r *Round) trim(t *topic) {
	e, ok := r.pop(t)
	if !ok {
		return
	}
	r.changed = true
	r.touch(t)
	var key [topicKeyLen]byte
	r.delete(topicKey(key[:0], rowTopic, t.no, e.seq))
	t.count--
	t.bytes -= e.size
	t.trimmed = e.seq
	t.removed++
	r.t.head.removed++
	t.oldest, t.oldestTime = 0, 0
	if t.count > 0 {
		next := r.peek(t)
		t.oldest, t.oldestTime = next.seq, next.time
	}
	if !e.multi {
		t.dead = e.seq
		r.bury(e)
		return
	}
	topics := r.topicsOf(e.seq)
	if slices.ContainsFunc(topics, func(other *topic) bool { return other.keeps(e.seq) }) {
		r.set(topicKey(key[:0], rowOrphan, t.no, e.seq), numbersOf(topics))
		return
	}
	for _, other := range topics {
		other.dead = max(other.dead, e.seq)
		r.touch(other)
		if other != t {
			r.delete(topicKey(key[:0], rowOrphan, other.no, e.seq))
		}
	}
	r.bury(e)
}

// bury removes an event that no topic keeps.
func (r *Round) bury(e entry) {
	h := &r.t.head
	if e.hasID {
		if ev := r.event(e.seq); ev != nil {
			r.loseID(ev.ID, e.seq)
		}
	}
	r.removeRecord(e.seq, e.time)
	h.count--
	h.bytes -= e.size
	h.dead = max(h.dead, e.seq)
	const index = 60 // bytes of its other rows, about
	if e.seq == h.oldest {
		r.t.freed.front += e.size
		r.t.freed.elsewhere += index
		r.advance()
	} else {
		r.t.freed.elsewhere += e.size + index
	}
}

func (r *Round) removeRecord(seq uint64, time int64) {
	h := &r.t.head
	var key [9]byte
	r.delete(numberKey(key[:0], rowOrder, seq))
	if seq > h.gone {
		h.gone, h.goneTime = seq, time
	}
}

// pop takes a topic's oldest entry.
func (r *Round) pop(t *topic) (entry, bool) {
	if !r.fill(t) {
		return entry{}, false
	}
	e := t.front[0]
	t.front = t.front[1:]
	r.t.fronts--
	return e, true
}

// peek returns a topic's oldest entry; there must be one.
func (r *Round) peek(t *topic) entry {
	if !r.fill(t) {
		return entry{}
	}
	return t.front[0]
}

// fill has a topic's oldest entries in its front.
func (r *Round) fill(t *topic) bool {
	if len(t.front) > 0 {
		return true
	}
	it := r.iterator()
	if it == nil {
		return false
	}
	t.front = t.front[:0:0]
	var key [topicKeyLen]byte
	prefix := topicKey(nil, rowTopic, t.no, 0)[:5]
	for ok := it.SeekGE(topicKey(key[:0], rowTopic, t.no, t.trimmed+1)); ok && len(t.front) < frontSize; ok = it.Next() {
		if string(it.Key()[:min(5, len(it.Key()))]) != string(prefix) {
			break
		}
		e, err := readEntry(keySeq(it.Key()), it.Value())
		if err != nil {
			r.fail(err)
			return false
		}
		t.front = append(t.front, e)
	}
	if err := it.Error(); err != nil {
		r.fail(err)
		return false
	}
	if len(t.front) < frontSize {
		t.front = append(t.front, t.added...)
		t.added, t.whole = nil, true
	}
	r.t.fronts += len(t.front)
	if len(t.front) == 0 {
		r.fail(ErrDamaged) // the marks say that there is one
		return false
	}
	return true
}

// iterator returns one over what was committed before the round.
func (r *Round) iterator() *pebble.Iterator {
	if r.it == nil {
		it, err := r.t.db.NewIter(nil)
		if err != nil {
			r.fail(err)
			return nil
		}
		r.it = it
	}
	return r.it
}

// dropFronts lets go of what was read ahead, where that is too much.
func (t *Tables) dropFronts() {
	if t.fronts <= maxFronts {
		return
	}
	for _, topic := range t.topics {
		topic.front, topic.whole = nil, topic.count == 0
	}
	t.fronts = 0
}

// event returns an event that is stored, nil if it is not.
func (r *Round) event(seq uint64) *hub.Event {
	if i := r.above(seq - 1); i < len(r.records) && r.records[i].Seq == seq {
		return r.records[i].Event
	}
	row := r.get(numberKey(nil, rowOrder, seq))
	if row == nil {
		r.fail(ErrDamaged)
		return nil
	}
	ev := new(hub.Event)
	if _, _, err := readRecord(seq, string(row), ev, nil, r.t.topics); err != nil {
		r.fail(err)
		return nil
	}
	return ev
}

// above returns the index of the round's first record with a higher sequence.
func (r *Round) above(seq uint64) int {
	return sort.Search(len(r.records), func(i int) bool { return r.records[i].Seq > seq })
}

// topicsOf returns the topics that an event was put under, until the next call.
func (r *Round) topicsOf(seq uint64) []*topic {
	ev := r.event(seq)
	r.list = r.list[:0]
	if ev == nil {
		return nil
	}
	for _, name := range ev.Topics {
		r.list = append(r.list, r.t.byName[name])
	}
	return r.list
}

// A frontier has the oldest records, read ahead, so that the oldest event that is kept
// is always known.
type frontier struct {
	rows []oldRecord
	last uint64 // of those that were read
}

type oldRecord struct {
	seq    uint64
	time   int64
	event  bool
	topics []*topic
}

func (o *oldRecord) kept() bool {
	return slices.ContainsFunc(o.topics, func(t *topic) bool { return t.keeps(o.seq) })
}

// advance finds the oldest event that is kept. What else stands before it goes.
func (r *Round) advance() {
	h, f := &r.t.head, &r.t.oldest
	for r.err == nil {
		for ; len(f.rows) > 0; f.rows = f.rows[1:] {
			row := &f.rows[0]
			switch {
			case row.seq <= h.oldest:
			case row.event && row.kept():
				h.oldest = row.seq
				return
			case !row.event:
				r.removeRecord(row.seq, row.time)
			}
		}
		if !r.readFrontier() {
			break
		}
	}
	i := r.above(max(h.oldest, f.last))
	h.oldest = 0
	for ; i < len(r.records); i++ {
		rec := &r.records[i]
		kept := func(name string) bool { return r.t.byName[name].keeps(rec.Seq) }
		if rec.Kind == hub.KindEvent && slices.ContainsFunc(rec.Topics, kept) {
			h.oldest = rec.Seq
			return
		}
	}
}

// readFrontier reads ahead; it returns false if nothing was committed that it has not
// read.
func (r *Round) readFrontier() bool {
	it := r.iterator()
	if it == nil || r.allRead {
		return false
	}
	f := &r.t.oldest
	f.rows = f.rows[:0]
	from := max(f.last+1, r.t.head.oldest)
	for ok := it.SeekGE(numberKey(nil, rowOrder, from)); ok && len(f.rows) < frontierSize; ok = it.Next() {
		if it.Key()[0] != rowOrder {
			break
		}
		rd := reader[[]byte]{rest: it.Value()}
		head := readHead(&rd, nil, r.t.topics)
		if rd.err != nil {
			r.fail(rd.err)
			return false
		}
		f.last = keySeq(it.Key())
		f.rows = append(f.rows, oldRecord{f.last, head.time, head.kind() == hub.KindEvent, head.topics})
	}
	if err := it.Error(); err != nil {
		r.fail(err)
	}
	r.allRead = len(f.rows) < frontierSize
	return len(f.rows) > 0 && r.err == nil
}

// expireKeys forgets idempotency keys that are too old.
func (r *Round) expireKeys(now int64) {
	t := r.t
	if t.oldestKey == 0 || now-t.oldestKey <= t.keyLife {
		return
	}
	it := r.iterator()
	if it == nil {
		return
	}
	t.oldestKey = 0
	n := 0
	for ok := it.SeekGE(numberKey(nil, rowKeyTime, 0)); ok && it.Key()[0] == rowKeyTime; ok = it.Next() {
		key := reader[[]byte]{rest: it.Key()[1:]}
		used := int64(key.fixed())
		if n++; now-used <= t.keyLife || n > mostRemovals {
			t.oldestKey = used
			break
		}
		r.changed = true
		r.delete(slices.Clone(it.Key()))
		// The key may have been used again since.
		name := string(it.Value())
		if k, ok := r.key(name); ok && k.receipt.time == used {
			r.delete(keyRow(nil, name))
			if r.keys == nil {
				r.keys = make(map[string]keptKey)
			}
			r.keys[name] = keptKey{receipt: keptReceipt{time: math.MinInt64 / 2}}
		}
	}
	if err := it.Error(); err != nil {
		r.fail(err)
	}
	if t.oldestKey == 0 {
		t.oldestKey = now // of those in the batch, if any
	}
}
