package tables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// A view is the tables as a round left them: what is read through one is of one moment.
// It ends with its last reader.
type view struct {
	tables *Tables
	snap   *pebble.Snapshot
	head   head
	topics []*topic // all that have a number in it
	refs   atomic.Int64
}

// newView returns the tables as they are, which must be as they were committed.
func newView(t *Tables) *view {
	v := &view{tables: t, snap: t.db.NewSnapshot(), head: t.head, topics: t.topics[:len(t.topics):len(t.topics)]}
	v.refs.Store(1)
	return v
}

// acquire returns the present view, and what is known of a query's topics in it.
func (t *Tables) acquire(also func(*view)) *view {
	t.mu.RLock()
	defer t.mu.RUnlock()
	v := t.view
	v.refs.Add(1)
	if also != nil {
		also(v)
	}
	return v
}

func (v *view) release() error {
	if v.refs.Add(-1) > 0 {
		return nil
	}
	if err := v.snap.Close(); err != nil {
		return fmt.Errorf("tables: end of a snapshot: %w", err)
	}
	return nil
}

// get reads a row; nil if it is not there.
func (v *view) get(key []byte) ([]byte, error) {
	v.tables.looked.Add(1)
	row, closer, err := v.snap.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("tables: read: %w", err)
	}
	row = slices.Clone(row)
	return row, closer.Close()
}

// rows is an iterator over rows of one kind, from where it is put.
type rows struct {
	it     *pebble.Iterator
	looked *atomic.Int64
	key    [topicKeyLen]byte
}

func (v *view) rows(kind byte) (*rows, error) {
	it, err := v.snap.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
	if err != nil {
		return nil, fmt.Errorf("tables: read: %w", err)
	}
	return &rows{it: it, looked: &v.tables.looked}, nil
}

// seek goes to the first record at a sequence or above.
func (r *rows) seek(seq uint64) bool {
	r.looked.Add(1)
	return r.it.SeekGE(numberKey(r.key[:0], rowOrder, seq))
}

func (r *rows) seekBefore(seq uint64) bool {
	r.looked.Add(1)
	return r.it.SeekLT(numberKey(r.key[:0], rowOrder, seq))
}

// seekTopic goes to a topic's first row at a sequence or above, and tells whether there
// is one.
func (r *rows) seekTopic(kind byte, topic uint32, seq uint64) bool {
	r.looked.Add(1)
	return r.it.SeekGE(topicKey(r.key[:0], kind, topic, seq)) && r.of(topic)
}

func (r *rows) seekTopicBefore(kind byte, topic uint32, seq uint64) bool {
	r.looked.Add(1)
	return r.it.SeekLT(topicKey(r.key[:0], kind, topic, seq)) && r.of(topic)
}

// of tells whether the iterator stands on a row of a topic.
func (r *rows) of(topic uint32) bool {
	key := r.it.Key()
	return len(key) == topicKeyLen && binary.BigEndian.Uint32(key[1:]) == topic
}

func (r *rows) next() bool {
	r.looked.Add(1)
	return r.it.Next()
}

func (r *rows) prev() bool {
	r.looked.Add(1)
	return r.it.Prev()
}

func (r *rows) seq() uint64 { return keySeq(r.it.Key()) }

// numbersOf and topicsOf write and read the topics of an event.
func numbersOf(topics []*topic) []byte {
	var row []byte
	for _, t := range topics {
		row = binary.AppendUvarint(row, uint64(t.no))
	}
	return row
}

func (v *view) topicsOf(row []byte) ([]*topic, error) {
	var topics []*topic
	for r := (reader[[]byte]{rest: row}); len(r.rest) > 0; {
		no := r.uvarint()
		if r.err != nil || no >= uint64(len(v.topics)) {
			return nil, ErrDamaged
		}
		topics = append(topics, v.topics[no])
	}
	return topics, nil
}
