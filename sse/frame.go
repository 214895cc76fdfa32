package sse

import (
	"io"
	"strings"
)

// A Frame is an event as it goes over the wire. It is encoded once and never
// changes, so any number of goroutines may send the same one at once. The zero
// Frame is empty.
type Frame struct{ b []byte }

// Encode encodes an event into a Frame of its own, with one allocation.
// It refuses what [AppendEvent] refuses.
func Encode(ev Event) (Frame, error) {
	// Room for the names of all fields and the digits of retry, and for the name
	// before each further line of data.
	const names = len("event: \nid: \nretry: 9223372036855\ndata: \n\n")
	lines := strings.Count(ev.Data, "\n") + strings.Count(ev.Data, "\r")
	room := names + len(ev.Type) + len(ev.ID) + len(ev.Data) + lines*len("data: ")
	b, err := AppendEvent(make([]byte, 0, room), ev)
	if err != nil {
		return Frame{}, err
	}
	return Frame{b}, nil
}

// Len returns the frame's length in bytes.
func (f Frame) Len() int { return len(f.b) }

// AppendTo appends the frame to dst and returns the longer slice.
func (f Frame) AppendTo(dst []byte) []byte { return append(dst, f.b...) }

// WriteTo writes the frame in one Write. It implements [io.WriterTo].
func (f Frame) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(f.b)
	return int64(n), err
}

// Bytes returns the frame's own memory, for calls such as writev that need it.
// It must not be changed.
func (f Frame) Bytes() []byte { return f.b[:len(f.b):len(f.b)] }

// RawFrame makes a Frame of bytes that are encoded already, such as several frames one
// after another. They must be whole blocks, and must not be changed any more.
func RawFrame(b []byte) Frame { return Frame{b} }
