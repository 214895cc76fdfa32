package sse

import (
	"strings"
	"unicode/utf8"
)

// text returns b as a string, malformed UTF-8 replaced.
func text(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return repair(b)
}

// repair replaces each maximal subpart of an ill-formed sequence by one U+FFFD
// (Encoding standard, section 8.1.1, "UTF-8 decoder"): E2 82 before a letter is
// one, a surrogate written as three bytes is three. utf8.DecodeRune and
// bytes.ToValidUTF8 count otherwise.
func repair(b []byte) string {
	var out strings.Builder
	out.Grow(len(b) + len(b)/8 + 8)
	for len(b) > 0 {
		if r, n := utf8.DecodeRune(b); r != utf8.RuneError || n > 1 {
			out.Write(b[:n])
			b = b[n:]
			continue
		}
		out.WriteRune(utf8.RuneError)
		b = b[subpart(b):]
	}
	return out.String()
}

// subpart returns the length of the maximal subpart that b, which does not begin
// with a well-formed sequence, begins with: the bytes that begin some well-formed
// sequence, at least one.
func subpart(b []byte) int {
	low, high, more := byte(0x80), byte(0xBF), 0
	switch c := b[0]; {
	case c >= 0xC2 && c <= 0xDF:
		more = 1
	case c >= 0xE0 && c <= 0xEF:
		more = 2
		if c == 0xE0 {
			low = 0xA0
		} else if c == 0xED {
			high = 0x9F
		}
	case c >= 0xF0 && c <= 0xF4:
		more = 3
		if c == 0xF0 {
			low = 0x90
		} else if c == 0xF4 {
			high = 0x8F
		}
	}
	n := 1
	for n <= more && n < len(b) && b[n] >= low && b[n] <= high {
		low, high = 0x80, 0xBF
		n++
	}
	return n
}
