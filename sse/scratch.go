package sse

// maxKept is the largest buffer in bytes that is kept whatever the events' size.
const maxKept = 64 << 10

// A scratch is a buffer that is used again for each call, and given back when
// it is far larger than what lately stood in it.
type scratch struct {
	b     []byte
	small int // uses since the last one that needed a large buffer
}

// keep takes the buffer back after use.
func (s *scratch) keep(b []byte) {
	s.b = b[:0]
	if len(b) > cap(b)/4 || cap(b) <= maxKept {
		s.small = 0
		return
	}
	if s.small++; s.small == 64 {
		s.b, s.small = nil, 0
	}
}
