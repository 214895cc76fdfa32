package tables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// ErrDamaged says that a row cannot be what was written.
var ErrDamaged = errors.New("tables: the store is damaged")

// The first byte of a record's row: its kind, and what else is in the row.
const (
	flagKind    = 0x07
	flagLast    = 0x08 // the last record of its group
	flagPrivate = 0x10
	flagRetry   = 0x20
	flagID      = 0x40
	flagType    = 0x80
)

// A row of a record is its flags, time, topics, and, of an event, id, type, retry and
// data, each of those only if it is there.
func appendRecord(dst []byte, flags byte, time int64, topics []*topic, ev *hub.Event) []byte {
	if ev != nil {
		flags |= eventFlags(ev)
	}
	dst = binary.BigEndian.AppendUint64(append(dst, flags), uint64(time))
	dst = binary.AppendUvarint(dst, uint64(len(topics)))
	for _, t := range topics {
		dst = binary.AppendUvarint(dst, uint64(t.no))
	}
	if ev == nil {
		return dst
	}
	if ev.ID != "" {
		dst = append(binary.AppendUvarint(dst, uint64(len(ev.ID))), ev.ID...)
	}
	if ev.Type != "" {
		dst = append(binary.AppendUvarint(dst, uint64(len(ev.Type))), ev.Type...)
	}
	if ev.Retry != 0 {
		dst = binary.AppendUvarint(dst, uint64(ev.Retry))
	}
	return append(dst, ev.Data...)
}

func eventFlags(ev *hub.Event) byte {
	var flags byte
	if ev.Private {
		flags |= flagPrivate
	}
	if ev.Retry != 0 {
		flags |= flagRetry
	}
	if ev.ID != "" {
		flags |= flagID
	}
	if ev.Type != "" {
		flags |= flagType
	}
	return flags
}

// A reader takes a row apart. Its error is that of the first thing that is not there.
type reader[T string | []byte] struct {
	rest T
	err  error
}

func (r *reader[T]) fail() {
	if r.err == nil {
		r.err = ErrDamaged
	}
	r.rest = r.rest[:0]
}

func (r *reader[T]) byte() byte {
	if len(r.rest) == 0 {
		r.fail()
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader[T]) fixed() uint64 {
	if len(r.rest) < 8 {
		r.fail()
		return 0
	}
	var n uint64
	for i := range 8 {
		n = n<<8 | uint64(r.rest[i])
	}
	r.rest = r.rest[8:]
	return n
}

func (r *reader[T]) uvarint() uint64 {
	var n uint64
	for i := range min(len(r.rest), binary.MaxVarintLen64) {
		b := r.rest[i]
		n |= uint64(b&0x7F) << (7 * i)
		if b < 0x80 {
			r.rest = r.rest[i+1:]
			return n
		}
	}
	r.fail()
	return 0
}

// number reads a uvarint that is no more than limit.
func (r *reader[T]) number(limit uint64) uint64 {
	n := r.uvarint()
	if n > limit {
		r.fail()
		return 0
	}
	return n
}

func (r *reader[T]) text() T {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.fail()
		return r.rest
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

// A recordHead is what stands before an event's own fields.
type recordHead struct {
	flags  byte
	time   int64
	topics []*topic
}

func (h *recordHead) kind() hub.Kind { return hub.Kind(h.flags & flagKind) }

// readHead reads the beginning of a record; topics go into the given slice.
func readHead[T string | []byte](r *reader[T], topics []*topic, known []*topic) recordHead {
	h := recordHead{flags: r.byte(), time: int64(r.fixed()), topics: topics[:0]}
	for range r.number(uint64(len(r.rest))) {
		no := r.uvarint()
		if no >= uint64(len(known)) {
			r.fail()
			break
		}
		h.topics = append(h.topics, known[no])
	}
	if r.err == nil && (h.kind() < hub.KindEvent || h.kind() > hub.KindEpoch || h.kind() != hub.KindEpoch && len(h.topics) == 0) {
		r.fail()
	}
	return h
}

// readRecord reads a row into a record whose event goes into ev. What it returns shares
// row's memory.
func readRecord(seq uint64, row string, ev *hub.Event, scratch []*topic, known []*topic) (hub.Record, recordHead, error) {
	r := reader[string]{rest: row}
	h := readHead(&r, scratch, known)
	rec := hub.Record{Seq: seq, Kind: h.kind(), Time: time.Unix(0, h.time).UTC(), Topics: namesOf(h.topics)}
	if rec.Kind == hub.KindEvent {
		readEvent(&r, h.flags, ev)
		ev.Topics = rec.Topics
		rec.Event = ev
	}
	if r.err != nil {
		return rec, h, fmt.Errorf("record %d: %w", seq, r.err)
	}
	return rec, h, nil
}

func readEvent(r *reader[string], flags byte, ev *hub.Event) {
	ev.Private = flags&flagPrivate != 0
	if flags&flagID != 0 {
		ev.ID = r.text()
	}
	if flags&flagType != 0 {
		ev.Type = r.text()
	}
	if flags&flagRetry != 0 {
		ev.Retry = time.Duration(r.number(1<<63 - 1))
	}
	ev.Data = r.rest
}

// sizeOf returns an event's Size, 0 if the row is damaged.
func sizeOf(row []byte, known []*topic) int {
	r := reader[[]byte]{rest: row}
	var space [4]*topic
	h := readHead(&r, space[:], known)
	size := 0
	for _, t := range h.topics {
		size += len(t.name)
	}
	if h.flags&flagID != 0 {
		size += len(r.text())
	}
	if h.flags&flagType != 0 {
		size += len(r.text())
	}
	if h.flags&flagRetry != 0 {
		r.uvarint()
	}
	return size + len(r.rest)
}

// namesOf returns the names of topics; of one topic always the same slice.
func namesOf(topics []*topic) []string {
	if len(topics) == 1 {
		return topics[0].names
	}
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = t.name
	}
	return names
}

// An entry is an event as a topic keeps it, all that retention has to know.
type entry struct {
	seq   uint64
	time  int64
	size  int64
	multi bool // it is under several topics
	hasID bool // of its publisher's own
}

const (
	entryMulti = 1
	entryID    = 2
)

func appendEntry(dst []byte, e entry) []byte {
	var flags byte
	if e.multi {
		flags |= entryMulti
	}
	if e.hasID {
		flags |= entryID
	}
	return binary.AppendUvarint(binary.BigEndian.AppendUint64(append(dst, flags), uint64(e.time)), uint64(e.size))
}

func readEntry(seq uint64, row []byte) (entry, error) {
	r := reader[[]byte]{rest: row}
	flags := r.byte()
	e := entry{seq: seq, time: int64(r.fixed()), size: int64(r.number(1 << 62)), multi: flags&entryMulti != 0, hasID: flags&entryID != 0}
	if r.err != nil || flags > entryMulti|entryID || len(r.rest) > 0 {
		return e, fmt.Errorf("entry %d: %w", seq, ErrDamaged)
	}
	return e, nil
}

// A keptReceipt is a receipt as it is remembered.
type keptReceipt struct {
	epoch string
	first uint64
	n     int
	time  int64
}

func keep(r hub.Receipt) keptReceipt {
	k := keptReceipt{epoch: r.Epoch, n: len(r.Sequences), time: r.Time.UnixNano()}
	if k.n > 0 {
		k.first = r.Sequences[0]
	}
	return k
}

// receipt returns it again, as of a repeat.
func (k keptReceipt) receipt() hub.Receipt {
	r := hub.Receipt{Epoch: k.epoch, Time: time.Unix(0, k.time).UTC(), Replayed: true}
	for i := range k.n {
		r.Sequences = append(r.Sequences, k.first+uint64(i))
	}
	return r
}

func appendReceipt(dst []byte, k keptReceipt) []byte {
	dst = append(binary.AppendUvarint(dst, uint64(len(k.epoch))), k.epoch...)
	dst = binary.AppendUvarint(dst, k.first)
	dst = binary.AppendUvarint(dst, uint64(k.n))
	return binary.BigEndian.AppendUint64(dst, uint64(k.time))
}

func readReceipt[T string | []byte](r *reader[T]) keptReceipt {
	return keptReceipt{epoch: string(r.text()), first: r.uvarint(), n: int(r.number(1 << 31)), time: int64(r.fixed())}
}
