package hub

import (
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/tidewire/tidewire/sse"
)

// An item is a record as it is delivered: encoded once, and shared by all who get it.
type item struct {
	Record
	id     string   // on the wire; "" unless it is an event
	forgot []string // those of its topics whose history was removed; under hotLog.mu
	lanes  []*lane  // that it is in, of the hot log; under hotLog.mu

	// The event as one chunk of an HTTP/1.1 body (RFC 9112, section 7.1), in the hot
	// log; nil in a page of history.
	wire  []byte
	head  uint8  // the length of the chunk's size and its line end
	block *block // that wire is in,
	begin int    // and where

	zipped [forms]atomic.Pointer[zipped] // nil as long as nobody wants it
	more   int                           // bytes of all that; under hotLog.mu
}

// set makes an item of a record.
func (it *item) set(epoch string, r *Record) {
	it.Record = *r
	if r.Kind != KindEvent {
		return
	}
	it.id = r.Event.ID
	if it.id == "" {
		it.id = Position(epoch, r.Seq)
	}
}

// append appends the event as it stands in an event stream.
func (it *item) append(b []byte) []byte {
	if it.wire != nil {
		return append(b, it.payload()...)
	}
	// Publish has refused what cannot be encoded.
	b, _ = sse.AppendEvent(b, sse.Event{ID: it.id, Type: it.Event.Type, Data: it.Event.Data, Retry: it.Event.Retry})
	return b
}

// payload returns the event without the chunk around it.
func (it *item) payload() []byte { return it.wire[it.head : len(it.wire)-len(lineEnd)] }

// frame is append for who sends frames.
func (it *item) frame() sse.Frame {
	if it.wire != nil {
		return sse.RawFrame(it.payload())
	}
	return sse.RawFrame(it.append(nil))
}

func (it *item) size() int {
	const overhead = 256 // of the structures, about
	if it.Event == nil {
		return overhead
	}
	return overhead + it.Event.Size() + len(it.wire) + it.more
}

// kept returns the topics under which an event can still be had.
func (it *item) kept() []string {
	if len(it.forgot) == 0 {
		return it.Topics
	}
	return slices.DeleteFunc(slices.Clone(it.Topics), func(t string) bool { return slices.Contains(it.forgot, t) })
}

const lineEnd = "\r\n"

// appendChunk appends a chunk of an HTTP/1.1 body, and returns the length of what stands
// before its data.
func appendChunk(b, data []byte) (longer []byte, head int) {
	begin := len(b)
	b = strconv.AppendUint(b, uint64(len(data)), 16)
	b = append(b, lineEnd...)
	head = len(b) - begin
	return append(append(b, data...), lineEnd...), head
}

// An arena puts events one after another, so that those who follow are written at once
// from where they stand. hotLog.mu guards it.
type arena struct {
	block   *block
	scratch []byte
}

// A block is as much of the arena as is let go of at once.
type block struct{ b []byte }

const blockSize = 256 << 10

// encode encodes an event into the arena.
func (a *arena) encode(it *item) {
	// Publish has refused what cannot be encoded.
	a.scratch, _ = sse.AppendEvent(a.scratch[:0], sse.Event{ID: it.id, Type: it.Event.Type, Data: it.Event.Data, Retry: it.Event.Retry})
	const around = len("0123456789abcdef") + 2*len(lineEnd)
	need := len(a.scratch) + around
	bl := a.block
	switch {
	case need > blockSize/4:
		bl = &block{make([]byte, 0, need)} // of its own
	case bl == nil || cap(bl.b)-len(bl.b) < need:
		bl = &block{make([]byte, 0, blockSize)}
		a.block = bl
	}
	begin := len(bl.b)
	var head int
	bl.b, head = appendChunk(bl.b, a.scratch)
	it.wire, it.head = bl.b[begin:len(bl.b):len(bl.b)], uint8(head)
	it.block, it.begin = bl, begin
	if cap(a.scratch) > blockSize {
		a.scratch = nil
	}
}
