package sse

import (
	"bytes"
	"math"
	"time"
)

// cut splits a line at its first colon and drops one space after it. A colon
// that comes later than any known name is not looked for: the field is unknown
// with it or without.
func cut(line []byte) (name, value []byte, colon bool) {
	head := line
	if len(head) > len("event:") {
		head = head[:len("event:")]
	}
	i := bytes.IndexByte(head, ':')
	if i < 0 {
		return line, nil, false
	}
	value = line[i+1:]
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	return line[:i], value, true
}

// known tells whether a field of that name means something. No two known names
// begin with the same letter.
func known(name []byte) bool {
	switch string(name) {
	case "data", "event", "id", "retry":
		return true
	}
	return false
}

// maybeName tells whether an unfinished line without a colon can still become a
// known field.
func maybeName(line []byte) bool {
	if len(line) > len("event") {
		return false
	}
	switch line[0] {
	case 'd':
		return string(line) == "data"[:min(4, len(line))] && len(line) <= 4
	case 'e':
		return string(line) == "event"[:len(line)]
	case 'i':
		return string(line) == "id"[:min(2, len(line))] && len(line) <= 2
	case 'r':
		return string(line) == "retry"[:len(line)]
	}
	return false
}

// parseRetry reads the value of a retry field: ASCII digits only. Chromium ignores
// what does not fit 64 bits, and so do we; what a Duration cannot hold, some 292
// years, becomes the longest whole number of milliseconds that it can.
func parseRetry(value []byte) (time.Duration, bool) {
	if len(value) == 0 {
		return 0, false
	}
	var ms uint64
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		n := uint64(c - '0')
		if ms > (math.MaxUint64-n)/10 {
			return 0, false
		}
		ms = ms*10 + n
	}
	const most = uint64(math.MaxInt64 / time.Millisecond)
	return time.Duration(min(ms, most)) * time.Millisecond, true
}
