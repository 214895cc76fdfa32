package sse

import (
	"math"
	"time"
)

// A fieldName is what a line begins with (standard section 9.2.6).
type fieldName int

const (
	unknown fieldName = iota
	comment
	fieldData
	fieldEvent
	fieldID
	fieldRetry
)

var names = [...]string{fieldData: "data", fieldEvent: "event", fieldID: "id", fieldRetry: "retry"}

// byFirst returns the field whose name begins with c: no two begin alike.
func byFirst(c byte) fieldName {
	switch c {
	case ':':
		return comment
	case 'd':
		return fieldData
	case 'e':
		return fieldEvent
	case 'i':
		return fieldID
	case 'r':
		return fieldRetry
	}
	return unknown
}

// parseField splits a line that is not empty at its first colon and drops one space
// after it. A line without a colon is a name alone. A comment keeps its space.
func parseField(line []byte) (fieldName, []byte) {
	f := byFirst(line[0])
	if f == comment {
		return f, line[1:]
	}
	n := len(names[f])
	if f == unknown || len(line) < n || string(line[:n]) != names[f] {
		return unknown, nil
	}
	if len(line) == n {
		return f, nil
	}
	if line[n] != ':' {
		return unknown, nil
	}
	value := line[n+1:]
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	return f, value
}

// maybeField tells whether an unfinished line, which is not empty, can still become
// a known field.
func maybeField(line []byte) bool {
	f := byFirst(line[0])
	return len(line) <= len(names[f]) && string(line) == names[f][:len(line)]
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
