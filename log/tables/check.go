package tables

import (
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidewire/tidewire/hub"
)

// maxProblems is how many things that are wrong are told.
const maxProblems = 20

// A Report is what [Check] found.
type Report struct {
	Epoch          string
	Seq            uint64 // of the last record
	Events, Bytes  int64  // kept
	Topics         int
	Oldest, Newest time.Time // of the events kept; zero if there are none
	Skipped        int       // times that sequences were skipped, as after a crash
	Problems       []string  // what is wrong, the first maxProblems of it
}

// Check reads everything in a store, which nobody writes meanwhile, and compares the tables with
// one another. Its error is one of reading; what is read and wrong is in the report.
func Check(db *pebble.DB) (*Report, error) {
	c := &checker{db: db, report: &Report{}}
	if err := db.CheckLevels(nil); err != nil {
		c.wrong("the store's files: %v", err)
	}
	t, err := Open(db, Options{})
	if errors.Is(err, ErrDamaged) {
		c.wrong("%v", err)
		return c.report, nil
	}
	if err != nil {
		return nil, err
	}
	c.t = t
	err = c.run()
	return c.report, errors.Join(err, t.Close())
}

type checker struct {
	db     *pebble.DB
	t      *Tables
	report *Report
	seed   maphash.Seed
	topics []checkedTopic
}

// A checkedTopic is what the rows of a topic come to.
type checkedTopic struct {
	count, bytes int64
	oldest       uint64
	fromOrder    uint64 // a sum over what the order says that it keeps
	fromTopic    uint64 // the same over its own rows
}

func (c *checker) wrong(format string, args ...any) {
	if len(c.report.Problems) < maxProblems {
		c.report.Problems = append(c.report.Problems, fmt.Sprintf(format, args...))
	}
}

func (c *checker) run() error {
	h := &c.t.head
	*c.report = Report{Epoch: h.epoch, Seq: h.seq, Topics: len(c.t.topics), Skipped: len(c.t.skipped), Problems: c.report.Problems}
	c.seed = maphash.MakeSeed()
	c.topics = make([]checkedTopic, len(c.t.topics))
	if h.epoch == "" {
		c.wrong("there is no epoch: the store was never begun")
	}
	for _, pass := range []struct {
		row  byte
		read func(key, row []byte) error
	}{{rowOrder, c.order()}, {rowTopic, c.topic}, {rowOrphan, c.orphan}, {rowKey, c.key}, {rowID, c.id}} {
		if err := c.t.each(pass.row, pass.read); err != nil {
			return err
		}
	}
	c.compare()
	return nil
}

// order reads the records.
func (c *checker) order() func(key, row []byte) error {
	var last uint64
	var lastTime int64
	return func(key, row []byte) error {
		seq := keySeq(key)
		var ev hub.Event
		rec, head, err := readRecord(seq, string(row), &ev, nil, c.t.topics)
		switch {
		case err != nil:
			c.wrong("%v", err)
			return nil
		case head.time < lastTime:
			c.wrong("record %d is older than record %d", seq, last)
		case seq > c.t.head.seq:
			c.wrong("record %d is beyond the end, %d", seq, c.t.head.seq)
		}
		last, lastTime = seq, head.time
		if rec.Kind == hub.KindEvent {
			c.event(seq, &ev, &head)
		}
		return nil
	}
}

func (c *checker) event(seq uint64, ev *hub.Event, head *recordHead) {
	r := c.report
	if r.Events++; r.Events == 1 {
		r.Oldest = timeOf(head.time)
		if seq != c.t.head.oldest {
			c.wrong("the oldest event is %d, and should be %d", seq, c.t.head.oldest)
		}
	}
	r.Newest = timeOf(head.time)
	size := int64(ev.Size())
	r.Bytes += size
	kept := false
	for _, topic := range head.topics {
		if topic.keeps(seq) {
			kept = true
			c.topics[topic.no].fromOrder += c.sum(entry{seq, head.time, size, len(head.topics) > 1, ev.ID != ""})
		}
	}
	if !kept {
		c.wrong("record %d is an event that no topic keeps", seq)
	}
	if ev.ID == "" {
		return
	}
	row, closer, err := c.db.Get(idKey(nil, ev.ID))
	if err != nil {
		c.wrong("the id of event %d is not found: %v", seq, err)
		return
	}
	rd := reader[[]byte]{rest: row}
	if first := rd.uvarint(); rd.err != nil || first > seq {
		c.wrong("the id of event %d leads to %d", seq, first)
	}
	_ = closer.Close() // of a block in memory
}

// sum makes one number of an entry; sums of them are equal if the entries are.
func (c *checker) sum(e entry) uint64 {
	return maphash.Comparable(c.seed, e)
}

func (c *checker) topic(key, row []byte) error {
	rd := reader[[]byte]{rest: append([]byte{0, 0, 0, 0}, key[1:5]...)}
	no, seq := rd.fixed(), keySeq(key)
	e, err := readEntry(seq, row)
	if err != nil || no >= uint64(len(c.topics)) || len(key) != topicKeyLen {
		c.wrong("row %q of a topic cannot be", key)
		return nil
	}
	t := &c.topics[no]
	if t.count++; t.count == 1 {
		t.oldest = seq
	}
	t.bytes += e.size
	t.fromTopic += c.sum(e)
	if m := &c.t.topics[no].marks; seq <= m.trimmed || seq > m.newest {
		c.wrong("topic %q keeps %d, and has removed up to %d, and its newest is %d", c.t.topics[no].name, seq, m.trimmed, m.newest)
	}
	return nil
}

func (c *checker) orphan(key, row []byte) error {
	topics, err := c.t.view.topicsOf(row)
	if err != nil || len(key) != topicKeyLen {
		c.wrong("row %q of an event that another topic keeps cannot be", key)
		return nil
	}
	seq := keySeq(key)
	for _, t := range topics {
		if t.keeps(seq) {
			return nil
		}
	}
	c.wrong("event %d is noted as kept by another topic, and is not", seq)
	return nil
}

func (c *checker) key(_, row []byte) error {
	if _, err := readKey(row); err != nil {
		c.wrong("%v", err)
	}
	return nil
}

func (c *checker) id(key, row []byte) error {
	r := reader[[]byte]{rest: row}
	if seq := r.uvarint(); r.err != nil || seq > c.t.head.seq {
		c.wrong("id %q leads to %d, beyond the end, %d", key[2:], seq, c.t.head.seq)
	}
	return nil
}

// compare compares the sums with what is noted.
func (c *checker) compare() {
	for i := range c.topics {
		got, t := &c.topics[i], c.t.topics[i]
		switch {
		case got.count != t.count || got.bytes != t.bytes || got.oldest != t.oldest:
			c.wrong("topic %q has %d events of %d bytes from %d on, and should have %d of %d from %d on", t.name, got.count, got.bytes, got.oldest, t.count, t.bytes, t.oldest)
		case got.fromOrder != got.fromTopic:
			c.wrong("topic %q has other events than the order says", t.name)
		}
	}
	h := &c.t.head
	if c.report.Events != h.count || c.report.Bytes != h.bytes {
		c.wrong("there are %d events of %d bytes, and should be %d of %d", c.report.Events, c.report.Bytes, h.count, h.bytes)
	}
}
