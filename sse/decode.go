package sse

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// DefaultMaxEventSize is the largest event in bytes that a [Decoder] takes
// unless it is told otherwise.
const DefaultMaxEventSize = 16 << 20

// DecoderOptions configure a [Decoder]; nil and zero fields mean the defaults.
type DecoderOptions struct {
	// LastEventID is the id that events have until the stream sets another:
	// that of the connection before. Default: "".
	LastEventID string

	// MaxEventSize bounds one event: its data, type and id together, in bytes as
	// received, plus the line that is being read. A larger one ends the
	// stream with a *[SizeError]. Default: [DefaultMaxEventSize]; negative: no
	// bound, so that a peer can fill the memory. A Decoder's own memory stays
	// within four times the largest event that it has lately read.
	MaxEventSize int

	// OnComment gets every comment's text: all after the colon, a leading space
	// included. It makes comments subject to MaxEventSize, which are otherwise
	// dropped byte by byte. Default: nil.
	OnComment func(text string)

	// OnRetry gets every valid reconnection time as soon as its line has ended,
	// without waiting for the end of an event. Default: nil.
	OnRetry func(time.Duration)
}

// A SizeError says that an event was larger than MaxEventSize. The stream cannot
// be read on from there.
type SizeError struct {
	Limit int // in bytes
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("sse: event is larger than %d bytes: raise MaxEventSize, or have the sender split it", e.Limit)
}

// A Decoder reads events from a stream. How the reader cuts the stream never
// changes what comes out, and each byte is looked at a fixed number of times.
// Malformed UTF-8 becomes U+FFFD as the Encoding standard says. A Decoder is not
// safe for concurrent use; its callbacks run inside Next.
type Decoder struct {
	in  input
	opt DecoderOptions
	err error // what ended the stream, once it has ended

	skipping bool // inside a comment or an unknown field, whose bytes are dropped

	// The block that is being read.
	lines int    // of data
	size  int    // of the data in bytes, line breaks between lines included
	start int    // with one line: where its value begins in in.buf, unless it is in data
	data  []byte // more than one line, or one that had to leave in.buf
	typ   []byte
	id    []byte
	hasID bool
	retry time.Duration

	lastEventID string
	lastType    string
	block       strings.Builder // backs the short strings handed out
	small       int             // events since the last large one
}

// NewDecoder returns a Decoder that reads from r.
func NewDecoder(r io.Reader, opts *DecoderOptions) *Decoder {
	d := &Decoder{in: input{r: r}, lastType: typeMessage, start: -1}
	if opts != nil {
		d.opt = *opts
	}
	switch {
	case d.opt.MaxEventSize == 0:
		d.opt.MaxEventSize = DefaultMaxEventSize
	case d.opt.MaxEventSize < 0:
		d.opt.MaxEventSize = math.MaxInt
	}
	d.lastEventID = d.opt.LastEventID
	return d
}

// LastEventID returns the stream's last event id: what a reconnection sends. It
// moves with every finished block that has an id, also if the block had no data
// and so made no event.
func (d *Decoder) LastEventID() string { return d.lastEventID }

// Next returns the next event. It blocks for as long as the reader does.
//
// After the last event it returns [io.EOF] if the stream ended at a boundary, and
// [io.ErrUnexpectedEOF] if it ended inside an event, which is dropped, as the
// standard says. Any other error is a *[SizeError] or the reader's own. An error
// is final: each later call returns the same one.
func (d *Decoder) Next() (ev Event, err error) {
	for d.err == nil {
		line, ok := d.in.line()
		switch {
		case !ok:
			d.err = d.more()
		case d.skipping:
			d.skipping = false
		case len(line) > 0:
			d.err = d.field(line)
		case d.dispatch(&ev):
			return ev, nil
		}
	}
	return ev, d.err
}

// Events returns the events of a stream as an iterator, which may be ranged over
// once. A stream that ends at a boundary ends it; any other end is yielded as its
// last pair, as [Decoder.Next] tells it.
func Events(r io.Reader, opts *DecoderOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		d := NewDecoder(r, opts)
		for {
			ev, err := d.Next()
			if err == io.EOF {
				return
			}
			if !yield(ev, err) || err != nil {
				return
			}
		}
	}
}

// more deals with a line that has begun but not ended, and reads on.
func (d *Decoder) more() error {
	if err := d.begun(); err != nil {
		return err
	}
	// The value of a block's only data line stands in the buffer until room
	// is needed there.
	if d.start >= 0 && !d.in.hasRoom() {
		d.data = append(d.data[:0], d.in.buf[d.start:d.start+d.size]...)
		d.start = -1
	}
	err := d.in.fill(d.start >= 0)
	if err == io.EOF && d.pending() {
		return io.ErrUnexpectedEOF
	}
	return err
}

// begun bounds the memory of an unfinished line: one that means nothing is
// dropped as it comes, any other must stay within the limit.
func (d *Decoder) begun() error {
	line := d.in.rest()
	if d.skipping {
		d.in.drop()
		return nil
	}
	if len(line) == 0 || !d.in.started {
		return nil
	}
	if maybeField(line) {
		return nil // a name without its colon may still become another
	}
	if f, value := parseField(line); f > comment || f == comment && d.opt.OnComment != nil {
		return d.fits(d.sizeBeside(f), len(value))
	}
	d.skipping = true
	d.in.drop()
	return nil
}

// pending tells whether the end of the stream cuts off something that a finished
// stream would have delivered.
func (d *Decoder) pending() bool {
	if d.lines > 0 || len(d.typ) > 0 || d.hasID {
		return true
	}
	line := d.in.rest()
	if len(line) == 0 || d.skipping {
		return false
	}
	f, _ := parseField(line)
	return f > comment || maybeField(line)
}

// field takes one whole line that is not blank (standard section 9.2.6).
func (d *Decoder) field(line []byte) error {
	f, value := parseField(line)
	if f == unknown || f == comment && d.opt.OnComment == nil {
		return nil
	}
	if err := d.fits(d.sizeBeside(f), len(value)); err != nil {
		return err
	}
	switch f {
	case comment:
		d.opt.OnComment(text(value))
	case fieldData:
		d.addData(value)
	case fieldEvent:
		d.typ = append(d.typ[:0], value...)
	case fieldID:
		if bytes.IndexByte(value, 0) < 0 {
			d.id, d.hasID = append(d.id[:0], value...), true
		}
	case fieldRetry:
		if t, ok := parseRetry(value); ok {
			d.retry = t
			if d.opt.OnRetry != nil {
				d.opt.OnRetry(t)
			}
		}
	}
	return nil
}

func (d *Decoder) addData(value []byte) {
	d.lines++
	if d.lines == 1 {
		d.start, d.size = d.in.offset(value), len(value)
		return
	}
	if d.start >= 0 {
		d.data = append(d.data[:0], d.in.buf[d.start:d.start+d.size]...)
		d.start = -1
	}
	d.data = append(d.data, '\n')
	d.data = append(d.data, value...)
	d.size += 1 + len(value)
}

// dispatch ends a block, and reports whether it made an event: the id counts even if
// there was no data. It writes to ev, as copying an Event costs a tenth of the time
// that a short one takes.
func (d *Decoder) dispatch(ev *Event) bool {
	if d.hasID {
		if string(d.id) != d.lastEventID {
			d.lastEventID = d.short(d.id)
		}
		d.hasID = false
	}
	if d.lines == 0 {
		d.typ, d.retry = d.typ[:0], 0
		return false
	}
	ev.ID, ev.Type, ev.Retry = d.lastEventID, typeMessage, d.retry
	if len(d.typ) > 0 {
		if string(d.typ) != d.lastType {
			d.lastType = d.short(d.typ)
		}
		ev.Type = d.lastType
		d.typ = d.typ[:0]
	}
	data := d.data
	if d.start >= 0 {
		data = d.in.buf[d.start : d.start+d.size]
	}
	if len(data) <= shortData {
		ev.Data = d.short(data)
	} else {
		ev.Data = text(data)
	}
	d.lines, d.start, d.retry = 0, -1, 0
	d.release()
	return true
}

// release gives the memory of large events back after a number of small ones,
// so that a stream of large ones does not allocate anew each time.
func (d *Decoder) release() {
	if d.size > maxKept/4 {
		d.small = 0
	}
	d.size = 0
	d.small++
	if d.small < 64 {
		return
	}
	d.small = 0
	if cap(d.data) > maxKept {
		d.data = nil
	}
	if cap(d.typ)+cap(d.id) > maxKept {
		d.typ, d.id = nil, nil
	}
	d.in.shrink = cap(d.in.buf) > maxKept
}

// sizeBeside returns the size in bytes that the block has beside a further field f:
// an id or a type replaces the one before, and a comment stands for itself.
func (d *Decoder) sizeBeside(f fieldName) int {
	if f == comment {
		return 0
	}
	n := d.size
	if f == fieldData && d.lines > 0 {
		n++
	}
	if f != fieldEvent {
		n += len(d.typ)
	}
	if f != fieldID && d.hasID {
		n += len(d.id)
	}
	return n
}

func (d *Decoder) fits(has, more int) error {
	if more > d.opt.MaxEventSize-has {
		return &SizeError{d.opt.MaxEventSize}
	}
	return nil
}

// Short strings share blocks of memory, so that a token, or an id on every event, is
// not an allocation each: tokens of 20 bytes come out in four fifths of the time. One
// that is kept keeps its block alive, which is why blocks are small and only the
// shortest data is in them.
const (
	block     = 512
	shortData = 32
	shortName = 128
)

// short returns b as a string that may share memory with others.
func (d *Decoder) short(b []byte) string {
	if len(b) > shortName || !utf8.Valid(b) {
		return text(b)
	}
	if d.block.Cap()-d.block.Len() < len(b) {
		d.block = strings.Builder{}
		d.block.Grow(block)
	}
	n := d.block.Len()
	d.block.Write(b)
	return d.block.String()[n:]
}
