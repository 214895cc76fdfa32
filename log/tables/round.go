package tables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidewire/tidewire/hub"
)

// A Record is one step of the order, as it is applied. Without a Group it only tells the
// time, for what comes of age.
type Record struct {
	Seq   uint64 // of the first thing in the group: [Round.Next] or more
	Time  time.Time
	Group *hub.Group
}

// A Round is some records that are committed together: Begin, Apply each, apply the batch
// that Finish returns to the store, Seal, and, when the batch is durable, Publish. The
// next round may begin once one is sealed. What is applied is seen by those that are
// applied next, and by nobody else before Publish. If the batch cannot be committed, the
// Tables are of no use any more: open them again.
type Round struct {
	t       *Tables
	batch   *pebble.Batch
	it      *pebble.Iterator // of what was committed before
	from    uint64           // the first sequence
	records []hub.Record
	ends    []int // where groups end in records
	touched []*topic
	ids     map[string]uint64 // rows of ids in the batch; 0: deleted
	keys    map[string]keptKey
	newIDs  groupRow
	allRead bool // the frontier has all that was committed before
	left    int  // of what a record's events may remove from their topics
	skipped []span
	changed bool
	err     error // of the store
	scratch []byte
	list    []*topic
}

type keptKey struct {
	sum     [32]byte
	receipt keptReceipt
}

// Begin begins a round.
func (t *Tables) Begin() *Round {
	t.round = Round{t: t, batch: t.db.NewBatch(), from: t.head.next(), touched: t.round.touched[:0], scratch: t.round.scratch, list: t.round.list}
	return &t.round
}

// Next returns the lowest sequence that the next record may have.
func (r *Round) Next() uint64 { return r.t.head.next() }

// Time returns the time of the last record that changed anything.
func (r *Round) Time() time.Time { return timeOf(r.t.head.time) }

// Apply does what a record says, or refuses it and changes nothing: its errors are those
// of a [hub.Log] that mean so, and of the store.
func (r *Round) Apply(rec Record) (hub.Receipt, error) {
	t, g, now := r.t, rec.Group, rec.Time.UnixNano()
	if g == nil {
		if r.expire(now); r.changed {
			t.head.time = now
		}
		return hub.Receipt{}, r.err
	}
	if kept, ok := t.groups.byID[g.ID]; ok && g.ID != "" {
		return kept.receipt(), nil
	}
	key := keyName(g)
	if used, ok := r.key(key); ok && now-used.receipt.time <= t.keyLife {
		if used.sum != g.Sum {
			return hub.Receipt{}, hub.ErrKeyReused
		}
		return used.receipt.receipt(), nil
	}
	if err := r.refusal(g); err != nil || r.err != nil {
		return hub.Receipt{}, errors.Join(err, r.err)
	}
	r.changed = true
	t.head.time = now
	r.expire(now)
	receipt := hub.Receipt{Epoch: t.head.epoch, Sequences: r.store(rec, now), Time: timeOf(now)}
	r.remember(g, key, keep(receipt), now, rec.Seq)
	return receipt, r.err
}

// Epoch begins a new order, whose sequences go on: the first one of a store, or another
// one, of which a record tells.
func (r *Round) Epoch(name string, now time.Time) {
	t := r.t
	r.changed = true
	first := t.head.epoch == ""
	t.head.epoch, t.head.time = name, max(now.UnixNano(), t.head.time)
	if first {
		return
	}
	r.record(hub.Record{Seq: t.head.next(), Kind: hub.KindEpoch, Time: timeOf(t.head.time)}, nil, true)
	r.ends = append(r.ends, len(r.records))
}

// Skip leaves n sequences unused: what may have been given to records that were lost is
// never given to others.
func (r *Round) Skip(n uint64) {
	t := r.t
	s := span{t.head.next(), t.head.next() + n}
	r.changed = true
	t.head.skippedEnd = s.to - 1
	r.from = s.to
	r.set(numberKey(nil, rowSkipped, s.from), binary.AppendUvarint(nil, s.to))
	r.skipped = append(r.skipped, s)
}

// refusal says why a group cannot be applied.
func (r *Round) refusal(g *hub.Group) error {
	t := r.t
	for i := range g.Events {
		for _, name := range g.Events[i].Topics {
			if topic := t.byName[name]; topic != nil && topic.closed {
				return hub.ErrClosed
			}
		}
	}
	name := g.Canonical()
	if g.IfLast == nil || name == "" {
		return nil
	}
	var m marks
	if topic := t.byName[name]; topic != nil {
		m = topic.marks
	}
	if m.newest != *g.IfLast {
		return &hub.ConflictError{Topic: name, Newest: m.newest, NewestID: m.wireID(t.head.epoch)}
	}
	return nil
}

// wireID returns the id of a topic's newest event as subscribers see it.
func (m *marks) wireID(epoch string) string {
	if m.newestID != "" || m.newest == 0 {
		return m.newestID
	}
	return hub.Position(epoch, m.newest)
}

// store writes what a group says, and returns the sequences of its events.
func (r *Round) store(rec Record, now int64) []uint64 {
	t, g := r.t, rec.Group
	closing := r.closing(g)
	left := len(g.Events) + len(closing)
	if g.Forget != "" {
		left++
	}
	seq := rec.Seq
	sequences := make([]uint64, 0, len(g.Events))
	r.left = mostRemovals
	for i := range g.Events {
		left--
		r.add(seq, now, &g.Events[i], left == 0)
		sequences = append(sequences, seq)
		seq++
	}
	for _, topic := range closing {
		left--
		topic.closed = true
		r.touch(topic)
		r.record(hub.Record{Seq: seq, Kind: hub.KindClosed, Time: timeOf(now), Topics: topic.names}, topic.self, left == 0)
		seq++
	}
	if g.Forget != "" {
		topic := r.topic(g.Forget)
		for topic.count > 0 && r.err == nil {
			r.trim(topic)
		}
		r.record(hub.Record{Seq: seq, Kind: hub.KindForgotten, Time: timeOf(now), Topics: topic.names}, topic.self, true)
	}
	if len(r.records) > 0 && (len(r.ends) == 0 || r.ends[len(r.ends)-1] < len(r.records)) {
		r.ends = append(r.ends, len(r.records))
	}
	for n := 0; n < mostRemovals && t.tooLarge() && r.err == nil; n++ {
		r.trimOldest()
	}
	t.overdue = t.overdue || t.tooLarge()
	return sequences
}

// closing returns the topics that a group closes and that are not closed yet.
func (r *Round) closing(g *hub.Group) []*topic {
	var topics []*topic
	for _, name := range g.Close {
		if topic := r.topic(name); !topic.closed && !slices.Contains(topics, topic) {
			topics = append(topics, topic)
		}
	}
	return topics
}

// topic returns the topic of a name, a new one if need be.
func (r *Round) topic(name string) *topic {
	if known := r.t.byName[name]; known != nil {
		return known
	}
	topic := r.t.addTopic(name)
	r.set(nameKey(nil, topic.no), []byte(name))
	r.touch(topic)
	return topic
}

func (r *Round) touch(t *topic) {
	if !t.touched {
		t.touched = true
		r.touched = append(r.touched, t)
	}
}

// record puts a record at the end of the order.
func (r *Round) record(rec hub.Record, topics []*topic, last bool) {
	flags := byte(rec.Kind)
	if last {
		flags |= flagLast
	}
	r.scratch = appendRecord(r.scratch[:0], flags, rec.Time.UnixNano(), topics, rec.Event)
	var key [9]byte
	r.set(numberKey(key[:0], rowOrder, rec.Seq), r.scratch)
	r.records = append(r.records, rec)
	r.t.head.seq = rec.Seq
}

// add stores one event under its topics.
func (r *Round) add(seq uint64, now int64, ev *hub.Event, last bool) {
	t := r.t
	own := *ev
	e := entry{seq: seq, time: now, size: int64(ev.Size()), multi: len(ev.Topics) > 1, hasID: ev.ID != ""}
	topics := r.list[:0]
	for _, name := range ev.Topics {
		topics = append(topics, r.topic(name))
	}
	r.list = topics
	own.Topics = namesOf(topics)
	r.record(hub.Record{Seq: seq, Kind: hub.KindEvent, Time: timeOf(now), Topics: own.Topics, Event: &own}, topics, last)
	t.head.count++
	t.head.bytes += e.size
	if t.head.oldest == 0 {
		t.head.oldest = seq
	}
	if e.hasID {
		r.addID(own.ID, seq)
	}
	row := appendEntry(r.scratch[:0], e)
	r.scratch = row
	for _, topic := range slices.Clone(topics) { // trimming uses the list
		var key [topicKeyLen]byte
		r.set(topicKey(key[:0], rowTopic, topic.no, seq), row)
		topic.add(e, own.ID, t)
		r.touch(topic)
		topic.rule.added(topic)
	}
	for _, topic := range ev.Topics {
		r.left++ // for what it pushes out
		r.trimExcess(t.byName[topic])
	}
}

// add notes an event at a topic's end.
func (t *topic) add(e entry, id string, tables *Tables) {
	if t.count == 0 {
		t.oldest, t.oldestTime = e.seq, e.time
		t.front, t.whole = t.front[:0], true
	}
	t.count++
	t.bytes += e.size
	t.newest, t.newestID = e.seq, id
	if t.whole && len(t.front) < frontSize {
		t.front = append(t.front, e)
		tables.fronts++
		return
	}
	t.whole = false
	t.added = append(t.added, e)
}

func (r *Round) set(key, value []byte) {
	if err := r.batch.Set(key, value, nil); err != nil {
		r.fail(err)
	}
}

func (r *Round) delete(key []byte) {
	if err := r.batch.Delete(key, nil); err != nil {
		r.fail(err)
	}
}

func (r *Round) fail(err error) {
	if r.err == nil {
		r.err = fmt.Errorf("tables: %w", err)
	}
}

// get reads what was committed before the round; nil if it is not there.
func (r *Round) get(key []byte) []byte {
	row, closer, err := r.t.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		r.fail(err)
		return nil
	}
	row = slices.Clone(row)
	if err := closer.Close(); err != nil {
		r.fail(err)
	}
	return row
}

// addID notes a publisher's id, unless it was used before.
func (r *Round) addID(id string, seq uint64) {
	if r.idSeq(id) != 0 {
		return
	}
	if r.ids == nil {
		r.ids = make(map[string]uint64)
	}
	r.ids[id] = seq
	r.set(idKey(nil, id), binary.AppendUvarint(nil, seq))
}

// idSeq returns the sequence of an id's first use, 0 if there is none.
func (r *Round) idSeq(id string) uint64 {
	if seq, ok := r.ids[id]; ok {
		return seq
	}
	seq, _ := binary.Uvarint(r.get(idKey(nil, id)))
	return seq
}

// loseID lets go of the id of an event that is gone, after some time.
func (r *Round) loseID(id string, seq uint64) {
	if r.idSeq(id) != seq {
		return
	}
	h := &r.t.head
	r.set(numberKey(nil, rowLostID, h.lostNext), []byte(id))
	h.lostNext++
	if h.lostNext-h.lostFirst <= maxLostIDs {
		return
	}
	key := numberKey(nil, rowLostID, h.lostFirst)
	h.lostFirst++
	if forgotten := string(r.get(key)); forgotten != "" {
		if r.ids == nil {
			r.ids = make(map[string]uint64)
		}
		r.ids[forgotten] = 0
		r.delete(idKey(nil, forgotten))
		r.delete(key)
	}
}

// key returns what an idempotency key answered before.
func (r *Round) key(name string) (keptKey, bool) {
	if name == "" {
		return keptKey{}, false
	}
	if k, ok := r.keys[name]; ok {
		return k, true
	}
	row := r.get(keyRow(nil, name))
	if row == nil {
		return keptKey{}, false
	}
	k, err := readKey(row)
	if err != nil {
		r.fail(err)
	}
	return k, err == nil
}

func readKey(row []byte) (keptKey, error) {
	var k keptKey
	if len(row) < len(k.sum) {
		return k, fmt.Errorf("idempotency key: %w", ErrDamaged)
	}
	rest := reader[[]byte]{rest: row[copy(k.sum[:], row):]}
	k.receipt = readReceipt(&rest)
	if rest.err != nil || len(rest.rest) > 0 {
		return k, fmt.Errorf("idempotency key: %w", ErrDamaged)
	}
	return k, nil
}

// remember keeps what a group got as its answer.
func (r *Round) remember(g *hub.Group, key string, receipt keptReceipt, now int64, seq uint64) {
	t := r.t
	if g.ID != "" {
		t.groups.byID[g.ID] = receipt
		r.newIDs.ids = append(r.newIDs.ids, g.ID)
		t.groups.n++
		t.groups.forget()
	}
	if key == "" {
		return
	}
	if r.keys == nil {
		r.keys = make(map[string]keptKey)
	}
	r.keys[key] = keptKey{g.Sum, receipt}
	r.set(keyRow(nil, key), appendReceipt(slices.Clone(g.Sum[:]), receipt))
	r.set(keyTimeRow(nil, now, seq), []byte(key))
	if t.oldestKey == 0 {
		t.oldestKey = now
	}
}

// Finish returns the batch to commit, nil if nothing has changed.
func (r *Round) Finish() (*pebble.Batch, error) {
	t := r.t
	if r.it != nil {
		if err := r.it.Close(); err != nil {
			r.fail(err)
		}
		r.it = nil
	}
	if r.err != nil || !r.changed {
		return nil, errors.Join(r.err, r.batch.Close())
	}
	for _, topic := range r.touched {
		r.set(marksKey(nil, topic.no), topic.append(nil))
	}
	r.finishGroups()
	r.set(headKey, t.head.append(nil))
	return r.batch, r.err
}

func (r *Round) finishGroups() {
	g := &r.t.groups
	if len(r.newIDs.ids) > 0 {
		if n := len(g.rows); n > 0 {
			r.newIDs.seq = g.rows[n-1].seq + 1
		}
		var row []byte
		for _, id := range r.newIDs.ids {
			row = append(binary.AppendUvarint(row, uint64(len(id))), id...)
			row = appendReceipt(row, g.byID[id])
		}
		r.set(numberKey(nil, rowGroups, r.newIDs.seq), row)
		g.rows = append(g.rows, r.newIDs)
	}
	for len(g.rows) > 0 && len(g.rows[0].ids) == 0 {
		r.delete(numberKey(nil, rowGroups, g.rows[0].seq))
		g.rows = g.rows[1:]
	}
}

// A Sealed round waits to be seen.
type Sealed struct {
	t       *Tables
	view    *view
	topics  []sealedTopic
	skipped []span
	groups  [][]hub.Record
}

type sealedTopic struct {
	topic *topic
	marks marks
}

// Seal notes what is to be seen of a round whose batch is applied to the store; nil if
// nothing has changed.
func (r *Round) Seal() *Sealed {
	t := r.t
	if !r.changed {
		return nil
	}
	s := &Sealed{t: t, view: newView(t), topics: make([]sealedTopic, len(r.touched)), skipped: r.skipped}
	for i, topic := range r.touched {
		topic.touched, topic.added = false, nil
		s.topics[i] = sealedTopic{topic, topic.marks}
	}
	t.dropFronts()
	begin := 0
	for _, end := range r.ends {
		s.groups = append(s.groups, r.records[begin:end:end])
		begin = end
	}
	return s
}

// Publish has reading see a round, after those that were sealed before. It returns the
// records, in groups.
func (s *Sealed) Publish() ([][]hub.Record, error) {
	t := s.t
	t.mu.Lock()
	for i := range s.topics {
		s.topics[i].topic.seen = s.topics[i].marks
	}
	t.skipped = append(t.skipped, s.skipped...)
	old := t.view
	t.view = s.view
	t.mu.Unlock()
	return s.groups, old.release()
}

// Discard lets go of a round that is not to be seen.
func (s *Sealed) Discard() error { return s.view.release() }

func nameKey(dst []byte, topic uint32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, rowName), topic)
}

func marksKey(dst []byte, topic uint32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, rowMarks), topic)
}
