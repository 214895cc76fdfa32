package load

import (
	"bytes"
	"errors"
	"slices"
)

// What is wrong with an answer that cannot be read on.
var (
	errHead  = errors.New("the answer is no HTTP/1.1")
	errChunk = errors.New("the answer's chunks are malformed")
	errLarge = errors.New("the stream has an event that is larger than any of this run")
)

// A head is what counts of the first part of an answer (RFC 9112, section 2.1).
type head struct {
	status      int
	chunked     bool
	length      int64 // -1: none is given
	eventStream bool
	closes      bool
	media       string // the Content-Type, if it is no stream's
}

// maxHead bounds the first part of an answer, in bytes.
const maxHead = 64 << 10

// parseHead reads an answer's head at the start of b and returns its length, or 0 if it is
// not all there. Interim answers (RFC 9110, section 15.2) are passed over.
func parseHead(b []byte) (h head, n int, err error) {
	for {
		end := bytes.Index(b[n:], []byte("\r\n\r\n"))
		if end < 0 {
			if len(b) > maxHead {
				return h, 0, errHead
			}
			return h, 0, nil
		}
		lines := b[n : n+end+2]
		n += end + 4
		if h, err = parseHeadLines(lines); err != nil || h.status >= 200 {
			return h, n, err
		}
	}
}

func parseHeadLines(lines []byte) (head, error) {
	h := head{length: -1}
	line, lines := cutLine(lines)
	// HTTP/1.1 200 OK
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || line[8] != ' ' {
		return h, errHead
	}
	status, ok := number(line[9:12])
	if !ok || status < 100 {
		return h, errHead
	}
	h.status = int(status)
	h.closes = line[7] == '0'
	for len(lines) > 0 {
		line, lines = cutLine(lines)
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case equalFold(name, "transfer-encoding"):
			h.chunked = equalFold(value, "chunked")
		case equalFold(name, "content-length"):
			if h.length, ok = number(value); !ok || len(value) == 0 || len(value) > 18 {
				return h, errHead
			}
		case equalFold(name, "content-type"):
			media, _, _ := bytes.Cut(value, []byte(";"))
			h.eventStream = equalFold(bytes.TrimSpace(media), "text/event-stream")
			if status/100 != 2 || !h.eventStream {
				h.media = string(value)
			}
		case equalFold(name, "connection"):
			h.closes = h.closes || equalFold(value, "close")
		}
	}
	return h, nil
}

func cutLine(b []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(b, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), rest
}

// equalFold compares with what is in lower case already.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// A framing takes an answer's body out of what comes on the connection (RFC 9112,
// section 6).
type framing struct {
	state frameState
	left  int64 // of the chunk, or of the body
	digit bool  // the chunk's size has at least one
}

type frameState uint8

const (
	frameOpen      frameState = iota // up to the end of the connection
	frameLength                      // left bytes
	frameSize                        // the digits of a chunk's size
	frameExtension                   // the rest of that line
	frameData
	frameDataEnd // the line break after it
	frameTrailer // lines up to an empty one
	frameTrailerLine
	frameEnded
)

func newFraming(h head) framing {
	switch {
	case h.status == 204 || h.status == 304:
		return framing{state: frameEnded}
	case h.chunked:
		return framing{state: frameSize}
	case h.length == 0:
		return framing{state: frameEnded}
	case h.length > 0:
		return framing{state: frameLength, left: h.length}
	}
	return framing{}
}

// ended tells whether the body is complete.
func (f *framing) ended() bool { return f.state == frameEnded }

// unframe moves the part of b that is body to its front, and returns how much that is.
// What comes after the end is passed over.
func (f *framing) unframe(b []byte) (n int, err error) {
	if f.state == frameOpen {
		return len(b), nil
	}
	for i := 0; i < len(b); {
		c := b[i]
		switch f.state {
		case frameLength, frameData:
			part := b[i:min(int64(len(b)), int64(i)+f.left)]
			if i != n {
				copy(b[n:], part)
			}
			n += len(part)
			i += len(part)
			if f.left -= int64(len(part)); f.left > 0 {
				continue
			}
			if f.state == frameLength {
				f.state = frameEnded
			} else {
				f.state = frameDataEnd
			}
			continue
		case frameSize:
			d, ok := hexDigit(c)
			switch {
			case ok && f.left < 1<<56:
				f.left, f.digit = f.left<<4|d, true
			case !ok && f.digit && c == '\n':
				f.sizeRead()
			case !ok && f.digit && (c == '\r' || c == ';' || c == ' ' || c == '\t'):
				f.state = frameExtension
			default:
				return n, errChunk
			}
		case frameExtension:
			if c == '\n' {
				f.sizeRead()
			}
		case frameDataEnd:
			switch c {
			case '\n':
				f.state = frameSize
			case '\r':
			default:
				return n, errChunk
			}
		case frameTrailer:
			switch c {
			case '\n':
				f.state = frameEnded
			case '\r':
			default:
				f.state = frameTrailerLine
			}
		case frameTrailerLine:
			if c == '\n' {
				f.state = frameTrailer
			}
		case frameEnded:
			return n, nil
		}
		i++
	}
	return n, nil
}

func (f *framing) sizeRead() {
	f.digit = false
	if f.state = frameData; f.left == 0 {
		f.state = frameTrailer
	}
}

func hexDigit(c byte) (int64, bool) {
	switch {
	case '0' <= c && c <= '9':
		return int64(c - '0'), true
	case 'a' <= c && c <= 'f':
		return int64(c - 'a' + 10), true
	case 'A' <= c && c <= 'F':
		return int64(c - 'A' + 10), true
	}
	return 0, false
}

// An event is one of a stream. Its slices are of the parser's input.
type event struct {
	typ, data, id []byte
	hasData       bool // without data it is none, but its id counts
	hasID         bool
}

// An eventParser finds the events of a stream (WHATWG HTML, section 9.2.6). Its zero value
// is ready.
type eventParser struct {
	begun bool
}

// parse hands out the events that are complete in b, and returns how much of it is done
// with: the rest, an event that has begun, must come again in front of what follows. ev is
// memory for an event.
func (p *eventParser) parse(b []byte, ev *event, handle func(*event)) (done int) {
	if !p.begun && len(b) > 0 {
		if b[0] == 0xEF && len(b) < 3 {
			return 0
		}
		p.begun = true
		if bytes.HasPrefix(b, []byte("\xEF\xBB\xBF")) {
			done = 3
		}
	}
	*ev = event{}
	empty := true // no field has come
	for at := done; ; {
		line, next := streamLine(b, at)
		if next < 0 {
			return done
		}
		at = next
		switch {
		case len(line) == 0:
			if !empty {
				handle(ev)
				*ev, empty = event{}, true
			}
			done = at
		case line[0] == ':':
			if empty {
				done = at // a lone comment is not kept until an event comes
			}
		default:
			empty = false
			ev.field(line)
		}
	}
}

// streamLine returns the line at b[at:] without its end, CR, LF or both, and where the
// next one begins, or -1. An LF that comes later than its CR is one more empty line, which
// changes nothing where no event is pending, and where one is, both come again.
func streamLine(b []byte, at int) (line []byte, next int) {
	rest := b[at:]
	lf := bytes.IndexByte(rest, '\n')
	line = rest
	if lf >= 0 {
		line = rest[:lf]
	}
	switch cr := bytes.IndexByte(line, '\r'); {
	case cr >= 0 && cr+1 == lf:
		return line[:cr], at + lf + 1
	case cr >= 0:
		return line[:cr], at + cr + 1
	case lf >= 0:
		return line, at + lf + 1
	}
	return nil, -1
}

func (ev *event) field(line []byte) {
	colon := bytes.IndexByte(line, ':')
	name, value := line, line[len(line):]
	if colon >= 0 {
		name, value = line[:colon], line[colon+1:]
		if len(value) > 0 && value[0] == ' ' {
			value = value[1:]
		}
	}
	switch string(name) {
	case "data":
		if !ev.hasData {
			ev.data, ev.hasData = value, true
			return
		}
		ev.data = slices.Concat(ev.data, []byte("\n"), value)
	case "event":
		ev.typ = value
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			ev.id, ev.hasID = value, true
		}
	}
}
