package sse

import (
	"bytes"
	"io"
)

const (
	firstBuffer = 4 << 10 // bytes; grows to maxKept if the reader fills it, beyond for longer lines
	minRead     = 512     // bytes of room worth a Read
)

var bom = []byte("\xEF\xBB\xBF")

// An input cuts what a reader gives into lines. Each byte is searched once for LF
// and once for CR, however it arrives.
type input struct {
	r       io.Reader
	readErr error // kept until the bytes that came with it are used

	buf      []byte
	pos      int // of the first unread byte
	end      int // of the bytes read
	searched int // no LF between pos and here
	cr       int // the first CR at or after pos, or end; stale if below pos

	started bool // the BOM, if any, is behind us
	skipLF  bool // a CR ended the last line: an LF that comes next belongs to it
	full    bool // the last Read left no room
	shrink  bool // go back to a small buffer when what is unread fits
}

// line returns the next line without its end, or false if there is none whole.
// The slice is valid until fill.
func (in *input) line() ([]byte, bool) {
	if !in.started && !in.start() {
		return nil, false
	}
	if in.pos == in.end {
		return nil, false
	}
	if in.skipLF {
		in.skipLF = false
		if in.buf[in.pos] == '\n' {
			in.pos++
			in.searched = in.pos
		}
	}
	if in.cr < in.pos {
		in.cr = in.pos
		in.findCR(in.pos)
	}
	if i := bytes.IndexByte(in.buf[in.searched:in.cr], '\n'); i >= 0 {
		return in.take(in.searched + i), true
	}
	if in.cr == in.end {
		in.searched = in.end
		return nil, false
	}
	in.skipLF = true
	return in.take(in.cr), true
}

// take returns the line that ends before the line end at i.
func (in *input) take(i int) []byte {
	line := in.buf[in.pos:i]
	in.pos = i + 1
	in.searched = in.pos
	return line
}

// start drops a byte order mark, and reports whether enough is there to tell.
func (in *input) start() bool {
	b := in.rest()
	if len(b) < len(bom) && bytes.HasPrefix(bom, b) {
		return false
	}
	if bytes.HasPrefix(b, bom) {
		in.pos += len(bom)
		in.searched = in.pos
	}
	in.started = true
	return true
}

// findCR moves cr to the first CR from i on, or to the end.
func (in *input) findCR(i int) {
	in.cr = in.end
	if j := bytes.IndexByte(in.buf[i:in.end], '\r'); j >= 0 {
		in.cr = i + j
	}
}

// rest returns the bytes that are not yet part of a line.
func (in *input) rest() []byte { return in.buf[in.pos:in.end] }

// drop forgets them.
func (in *input) drop() { in.pos, in.searched = in.end, in.end }

// offset returns where in buf the slice b, part of the last line, begins.
func (in *input) offset(b []byte) int { return in.pos - 1 - len(b) }

// hasRoom tells whether fill can do without moving bytes.
func (in *input) hasRoom() bool { return len(in.buf)-in.end >= minRead }

// fill reads once into the room behind the bytes that are there, and makes some
// before that if it must. With pinned, bytes already read stay where they are,
// which needs hasRoom.
func (in *input) fill(pinned bool) error {
	if in.readErr != nil {
		return in.readErr
	}
	if !pinned {
		in.makeRoom()
	}
	for range 100 {
		n, err := in.r.Read(in.buf[in.end:])
		old := in.end
		in.end += n
		in.full = in.end == len(in.buf)
		in.readErr = err
		if n > 0 {
			if in.cr == old {
				in.findCR(old)
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
	in.readErr = io.ErrNoProgress
	return in.readErr
}

// makeRoom moves the unread bytes to the front, of a buffer of another size where
// that suits better. It moves them only where that frees at least as many bytes, and
// otherwise doubles the buffer, so that all moves together cost linear time.
func (in *input) makeRoom() {
	rest, size := in.end-in.pos, len(in.buf)
	switch {
	case size == 0:
		size = firstBuffer
	case in.shrink && rest <= maxKept/2:
		size, in.shrink = maxKept, false
	case rest > 0 && in.pos < size/2:
		if in.hasRoom() {
			return
		}
		size *= 2
	case in.full && size < maxKept:
		size *= 4
	}
	old := in.buf
	if size != len(old) {
		in.buf = make([]byte, size)
	}
	copy(in.buf, old[in.pos:in.end])
	in.searched -= in.pos
	in.cr -= in.pos
	in.end -= in.pos
	in.pos = 0
}
