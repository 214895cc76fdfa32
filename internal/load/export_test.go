package load

import (
	"bytes"
	"net/netip"
	"time"
)

// For tests of what is inside.

// Quantiles returns what a histogram of these durations says of each share.
func Quantiles(durations []int64, shares ...float64) (all []time.Duration) {
	var one, other histogram
	for i, d := range durations {
		if i%2 == 0 {
			one.add(d)
		} else {
			other.add(d)
		}
	}
	one.merge(&other)
	for _, s := range shares {
		all = append(all, one.at(s))
	}
	return all
}

// An Event is one that the parser has found.
type Event struct {
	Type, Data, ID string
}

// ParseEvents reads a stream that comes in these pieces.
func ParseEvents(pieces ...[]byte) (all []Event) {
	var (
		p    eventParser
		ev   event
		id   string
		left []byte
	)
	for _, piece := range pieces {
		left = append(left, piece...)
		done := p.parse(left, &ev, func(ev *event) {
			if ev.hasID {
				id = string(ev.id)
			}
			if ev.hasData {
				all = append(all, Event{string(ev.typ), string(ev.data), id})
			}
		})
		left = bytes.Clone(left[done:])
	}
	return all
}

// ParseAnswer reads an answer that comes in these pieces.
func ParseAnswer(pieces ...[]byte) (status int, body string, ended bool, err error) {
	var (
		f    framing
		got  []byte
		left []byte
	)
	for _, piece := range pieces {
		if left = append(left, piece...); status == 0 {
			h, n, err := parseHead(left)
			if err != nil {
				return 0, "", false, err
			}
			if n == 0 {
				continue
			}
			status, f, left = h.status, newFraming(h), left[n:]
		}
		n, err := f.unframe(left)
		if err != nil {
			return status, string(got), false, err
		}
		got = append(got, left[:n]...)
		left = nil
	}
	return status, string(got), f.ended(), nil
}

// A Feeder has a subscriber take a stream.
type Feeder struct {
	y    *tally
	s    subscriber
	room int
	buf  []byte
}

func NewFeeder(run string, size int) *Feeder {
	form := newMessageForm(run, size)
	f := &Feeder{y: newTally(form, true, 1), s: subscriber{next: make([]int64, 1)}, room: size + 64<<10}
	f.buf = make([]byte, f.room, f.room+64<<10)
	return f
}

// Message returns data of the run.
func (f *Feeder) Message(seq int64) []byte {
	b := bytes.Clone(f.y.form.blank)
	m := message{seq: seq}
	m.patch(b)
	return b
}

// Feed takes a piece, and returns how many events have been delivered.
func (f *Feeder) Feed(piece []byte, now time.Duration) (int64, error) {
	f.buf = append(f.buf[:f.room], piece...)
	err := f.y.feed(&f.s, f.buf, f.room, int64(now))
	return f.y.delivered, err
}

// ID returns the last id that has come.
func (f *Feeder) ID() string { return string(f.s.id) }

// Wrong returns how many events were none of the run's, skipped or repeated.
func (f *Feeder) Wrong() int64 { return f.y.foreign + f.y.skipped + f.y.repeated }

// Listeners returns the processes that listen on an address.
func Listeners(a netip.AddrPort) []int { return listeners(a) }

// CheckDescriptors tells whether so many connections fit.
func CheckDescriptors(subscribers, publishers int) error {
	return checkDescriptors(subscribers, publishers)
}

// Probe is the name under which the hub is asked first.
const Probe = "probe"
