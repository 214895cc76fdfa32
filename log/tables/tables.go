package tables

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/internal/topictree"
)

// Version is that of the rows and of the rules by which they are made.
const Version = 1

// Bounds of what is remembered beyond the events themselves. They are part of the
// rules: whoever applies the same records forgets the same.
const (
	maxGroups  = 100_000   // groups, for a repeat after an unknown outcome
	maxLostIDs = 1_000_000 // ids of removed events, which still say where they stood
)

// Options configure [Tables]. Whoever applies the same records must have the same.
type Options struct {
	Retention hub.RetentionRules
	MaxBytes  int64         // of all events together; 0: any
	KeyLife   time.Duration // of an idempotency key
}

// Tables are what the records of an order have been applied to. One goroutine at a time
// applies, through a [Round]; reading is safe for concurrent use, and sees what rounds
// have published.
type Tables struct {
	db        *pebble.DB
	keyLife   int64
	retention *Retention

	head   head // as applied
	groups groups
	oldest frontier
	fronts int // entries in all topics' fronts
	round  Round
	looked atomic.Int64

	oldestKey int64 // the time of the oldest idempotency key, or before; 0: there is none
	freed     freed
	overdue   bool // a topic holds more than its rule allows, or expiry was cut short

	mu      sync.RWMutex
	topics  []*topic // by number
	byName  map[string]*topic
	tree    topictree.Tree[*topic]
	skipped []span // sequences that were never used, ascending
	view    *view
}

// A span is the sequences from one up to another.
type span struct{ from, to uint64 }

// Open reads the tables of a store, which is empty at first: then its epoch must be
// given by [Round.Epoch] before anything else.
func Open(db *pebble.DB, o Options) (*Tables, error) {
	t := &Tables{
		db:        db,
		keyLife:   int64(o.KeyLife),
		retention: newRetention(o.Retention, o.MaxBytes),
		byName:    make(map[string]*topic),
		groups:    groups{byID: make(map[string]keptReceipt)},
	}
	t.round.t = t
	if err := t.load(); err != nil {
		return nil, err
	}
	t.view = newView(t)
	return t, nil
}

// Close lets go of the store, which must not be closed before. Nothing may be reading.
func (t *Tables) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.view
	t.view = nil
	if v == nil {
		return nil
	}
	return v.release()
}

// load reads what is held in memory.
func (t *Tables) load() error {
	row, closer, err := t.db.Get(headKey)
	if errors.Is(err, pebble.ErrNotFound) {
		t.head.version = Version
		return nil
	}
	if err != nil {
		return fmt.Errorf("tables: head: %w", err)
	}
	t.head, err = readHeadRow(row)
	if err := errors.Join(err, closer.Close()); err != nil {
		return err
	}
	for _, load := range []struct {
		row  byte
		read func(key, row []byte) error
	}{{rowName, t.loadName}, {rowMarks, t.loadMarks}, {rowGroups, t.groups.load}, {rowSkipped, t.loadSkipped}, {rowKeyTime, t.loadKeyTime}} {
		if err := t.each(load.row, load.read); err != nil {
			return err
		}
	}
	t.groups.forget()
	t.begin()
	return nil
}

// errEnough ends each.
var errEnough = errors.New("tables: enough")

// each calls read for all rows of a kind.
func (t *Tables) each(row byte, read func(key, row []byte) error) (err error) {
	it, err := t.db.NewIter(&pebble.IterOptions{LowerBound: []byte{row}, UpperBound: []byte{row + 1}})
	if err != nil {
		return fmt.Errorf("tables: read rows %q: %w", row, err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		switch err := read(it.Key(), it.Value()); {
		case errors.Is(err, errEnough):
			return nil
		case err != nil:
			return fmt.Errorf("tables: row %q: %w", it.Key(), err)
		}
	}
	return nil // and Close tells why it ended
}

func (t *Tables) loadName(key, row []byte) error {
	if !bytes.Equal(key, nameKey(nil, uint32(len(t.topics)))) {
		return ErrDamaged
	}
	t.addTopic(string(row)).whole = false
	return nil
}

func (t *Tables) loadMarks(key, row []byte) (err error) {
	r := reader[[]byte]{rest: append([]byte{0, 0, 0, 0}, key[1:]...)}
	no := r.fixed()
	if r.err != nil || no >= uint64(len(t.topics)) {
		return ErrDamaged
	}
	topic := t.topics[no]
	topic.marks, err = readMarks(row)
	topic.seen = topic.marks
	topic.whole = topic.count == 0
	return err
}

func (t *Tables) loadSkipped(key, row []byte) error {
	r := reader[[]byte]{rest: row}
	t.skipped = append(t.skipped, span{keySeq(key), r.uvarint()})
	return r.err
}

func (t *Tables) loadKeyTime(key, _ []byte) error {
	r := reader[[]byte]{rest: key[1:]}
	t.oldestKey = int64(r.fixed())
	if r.err != nil {
		return r.err
	}
	return errEnough
}

// Looked returns how many rows reading has looked at so far.
func (t *Tables) Looked() int64 { return t.looked.Load() }

// tooLarge tells whether all events together are more than they may be. The newest
// stays, however large.
func (t *Tables) tooLarge() bool {
	most := t.retention.maxBytes
	return most > 0 && t.head.bytes > most && t.head.count > 1
}

// freed is how many bytes the events had that were removed since the store was compacted.
type freed struct {
	front     int64 // of the oldest of all
	elsewhere int64 // of others, and in indexes
}

// A Span is the keys from one up to another.
type Span struct{ From, To []byte }

// Freed returns about how many bytes were removed since [Tables.Reclaimed], at the front
// of the order and elsewhere, and how many are kept.
func (t *Tables) Freed() (front, elsewhere, kept int64) {
	return t.freed.front, t.freed.elsewhere, t.head.bytes
}

// Reclaimed notes that the store is being compacted for what was freed: at the front, or
// all of it.
func (t *Tables) Reclaimed(all bool) {
	t.freed.front = 0
	if all {
		t.freed.elsewhere = 0
	}
}

// EmptySpans returns the rows to compact: those before the oldest event, or all where
// events are removed.
func (t *Tables) EmptySpans(all bool) []Span {
	end := t.head.oldest
	if end == 0 || all {
		end = t.head.next()
	}
	spans := []Span{{numberKey(nil, rowOrder, 0), numberKey(nil, rowOrder, end)}}
	if all {
		spans = append(spans, Span{[]byte{rowTopic}, []byte{rowTopic + 1}}, Span{[]byte{rowID}, []byte{rowID + 1}})
	}
	return spans
}

// Overdue tells whether retention has more to remove than one round does: apply an
// empty record.
func (t *Tables) Overdue() bool { return t.overdue }

// Expiring returns when the next event comes of age, false if none does.
func (t *Tables) Expiring() (time.Time, bool) {
	var first int64
	found := false
	for _, r := range t.retention.rules {
		if len(r.topics) > 0 {
			if at := r.topics[0].due + int64(r.Age); !found || at < first {
				first, found = at, true
			}
		}
	}
	return timeOf(first), found
}

// timeOf returns the time of a row.
func timeOf(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// groups remember what the newest groups got as an answer, for a repeat whose first
// outcome was not known.
type groups struct {
	byID map[string]keptReceipt
	rows []groupRow // as they are stored, ascending
	n    int        // ids that are known
}

// A groupRow has the ids of a round, but for those that are forgotten.
type groupRow struct {
	seq uint64
	ids []string
}

func (g *groups) load(key, row []byte) error {
	r := reader[[]byte]{rest: row}
	stored := groupRow{seq: keySeq(key)}
	for len(r.rest) > 0 && r.err == nil {
		id := string(r.text())
		g.byID[id] = readReceipt(&r)
		stored.ids = append(stored.ids, id)
	}
	g.rows = append(g.rows, stored)
	g.n += len(stored.ids)
	return r.err
}

// forget lets the oldest go where there are too many. A row stays until all of its ids
// are forgotten.
func (g *groups) forget() {
	for i := 0; g.n > maxGroups; {
		row := &g.rows[i]
		if len(row.ids) == 0 {
			i++
			continue
		}
		delete(g.byID, row.ids[0])
		row.ids = row.ids[1:]
		g.n--
	}
}
