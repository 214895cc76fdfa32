//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/tidewire/tidewire/hub"
)

const (
	topics      = 100
	numberWidth = 10
	dataPrefix  = "n="
	dataSize    = 200 // bytes, of the published and the replayed
	largeSize   = 100 // bytes, of the large history
)

// topicOf returns the topic of an event: they take turns.
func topicOf(number uint64) int { return int(number % topics) }

// topicNames are of a fixed width, so that a request can be patched.
var topicNames = func() (names [topics]string) {
	for i := range names {
		names[i] = fmt.Sprintf("t%02d", i)
	}
	return names
}()

// topicLists share their memory among all events.
var topicLists = func() (lists [topics][]string) {
	for i := range lists {
		lists[i] = topicNames[i : i+1]
	}
	return lists
}()

// notes are the data of events: a number, and text, part of which cannot be compressed
// much. They need no escaping in JSON.
type notes struct{ texts []string }

func newNotes(size int) *notes {
	rng := rand.New(rand.NewPCG(1, 2))
	n := &notes{}
	for range 1024 {
		var b strings.Builder
		b.WriteString(" hall/3 temperature 21.5 ")
		if size > 150 {
			b.WriteString("reported by the sensor beside the door, ")
		}
		for b.Len() < size {
			fmt.Fprintf(&b, "%016x", rng.Uint64())
		}
		n.texts = append(n.texts, b.String()[:size-len(dataPrefix)-numberWidth])
	}
	return n
}

// append appends the data of an event.
func (n *notes) append(dst []byte, number uint64) []byte {
	var digits [numberWidth]byte
	putNumber(digits[:], number)
	dst = append(append(dst, dataPrefix...), digits[:]...)
	return append(dst, n.texts[number*31%uint64(len(n.texts))]...)
}

// putNumber writes a number with leading zeros.
func putNumber(dst []byte, number uint64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = byte('0' + number%10)
		number /= 10
	}
}

// readNumber reads digits, up to what is none.
func readNumber(b []byte) (n uint64) {
	for _, c := range b {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}

// idOf returns a publisher's id: one does not follow from the one before, as it is with
// those that are drawn.
func idOf(number uint64) string {
	const odd = 0x9E3779B97F4A7C15
	var b [16]byte
	x := number * odd
	for i := range b {
		b[i] = "0123456789abcdef"[x>>60]
		x <<= 4
	}
	return string(b[:])
}

// A maker makes groups of consecutive events.
type maker struct {
	notes  *notes
	topic  string // of all; "": they take turns
	ids    bool   // with ids of the publisher's
	number uint64 // of the next event
	groups uint64
	buf    []byte
}

// group returns the next n events.
func (m *maker) group(n int) *hub.Group {
	first := m.number
	m.buf = m.buf[:0]
	for range n {
		m.buf = m.notes.append(m.buf, m.number)
		m.number++
	}
	text := string(m.buf)
	size := len(text) / n
	m.groups++
	g := &hub.Group{ID: groupID(m.groups), Events: make([]hub.Event, n)}
	one := []string{m.topic}
	for i := range g.Events {
		ev := &g.Events[i]
		ev.Data = text[i*size : (i+1)*size]
		if ev.Topics = one; m.topic == "" {
			ev.Topics = topicLists[topicOf(first+uint64(i))]
		}
		if m.ids {
			ev.ID = idOf(first + uint64(i))
		}
	}
	return g
}

// groupID is as long as those that the hub draws.
func groupID(n uint64) string {
	s := strconv.FormatUint(n, 10)
	return strings.Repeat("0", 26-len(s)) + s
}

// sumOf returns the sum of count numbers from first on, each step more than the one
// before.
func sumOf(first, step, count uint64) uint64 {
	if count == 0 {
		return 0
	}
	return count*first + step*(count*(count-1)/2)
}
