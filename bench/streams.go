package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
)

// An event is what every library's own event type is turned into to be compared.
type event struct{ id, typ, data string }

// wire returns the event as it stands in a stream. It is written here and not by a
// contestant, so that none is checked against itself.
func (e event) wire() string {
	var b strings.Builder
	if e.id != "" {
		fmt.Fprintf(&b, "id: %s\n", e.id)
	}
	if e.typ != "" {
		fmt.Fprintf(&b, "event: %s\n", e.typ)
	}
	fmt.Fprintf(&b, "data: %s\n\n", e.data)
	return b.String()
}

// minEvents spreads what a new decoder costs, above all a buffer that grows, over many
// events.
const minEvents = 64

// A stream repeats some distinct events. They are few, so that the garbage
// collector finds little to mark beside what the contestants allocate, and so that
// their bytes come from the processor's cache, as from a socket.
type stream struct {
	name    string
	events  []event
	repeats int
	wire    []byte // of the events once
}

// newStreams returns the streams, each of at least size bytes.
func newStreams(size int) []*stream {
	return []*stream{
		newStream("20 B tokens", size, 256, func(i int) event {
			return event{"", "", note(i, 20)}
		}),
		newStream("100 B events", size, 256, func(i int) event {
			return event{id(i), "update", note(i, 100)}
		}),
		newStream("1 KiB JSON", size, 256, func(i int) event {
			return event{id(i), "order", order(i, 1<<10)}
		}),
		newStream("1 MiB JSON", size, 4, func(i int) event {
			return event{id(i), "", order(i, 1<<20)}
		}),
	}
}

func newStream(name string, size, distinct int, nth func(i int) event) *stream {
	s := &stream{name: name}
	var once strings.Builder
	for i := range distinct {
		s.events = append(s.events, nth(i))
		once.WriteString(s.events[i].wire())
	}
	s.wire = []byte(once.String())
	s.repeats = max((size+len(s.wire)-1)/len(s.wire), (minEvents+distinct-1)/distinct)
	return s
}

// count returns how many events the stream has.
func (s *stream) count() int { return len(s.events) * s.repeats }

// at returns the event that comes i-th.
func (s *stream) at(i int) event { return s.events[i%len(s.events)] }

// reader returns a reader of the whole stream.
func (s *stream) reader() io.Reader { return &socket{wire: s.wire, rounds: s.repeats} }

// size returns the stream's length in bytes.
func (s *stream) size() int { return len(s.wire) * s.repeats }

// A socket gives at most 32 KiB a Read, as a network connection would.
type socket struct {
	wire   []byte
	at     int
	rounds int // left
}

func (s *socket) Read(p []byte) (int, error) {
	if s.at == len(s.wire) {
		s.at = 0
		s.rounds--
	}
	if s.rounds == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 32<<10)], s.wire[s.at:])
	s.at += n
	return n, nil
}

func id(i int) string { return fmt.Sprintf("k7m2qa-%d", 1000+i) }

// note returns a small JSON object of size bytes.
func note(i, size int) string {
	return padded(fmt.Sprintf(`{"i":%d,"t":"`, 1000+i), i, size)
}

// order returns a JSON object of size bytes as shops send them: short members, many
// numbers, now and then a letter that is not ASCII.
func order(i, size int) string {
	names := []string{"kettle", "desk lamp", "crème brûlée", "Bücherregal", "notebook", "東京 poster"}
	rng := rand.New(rand.NewPCG(1, uint64(i)))
	var b strings.Builder
	fmt.Fprintf(&b, `{"order":"%s","customer":"Zoë Lindqvist","currency":"EUR","items":[`, id(i))
	for comma := ""; b.Len() < size-200; comma = "," {
		fmt.Fprintf(&b, `%s{"sku":"%08x","name":"%s","qty":%d,"price":%d.%02d}`,
			comma, rng.Uint32(), names[rng.IntN(len(names))], 1+rng.IntN(9), rng.IntN(500), rng.IntN(100))
	}
	b.WriteString(`],"note":"`)
	return padded(b.String(), i, size)
}

// padded ends an object, whose last member is an open string, at size bytes.
func padded(head string, i, size int) string {
	const prose = "please ring twice and leave the parcel with a neighbour if nobody is at home "
	const tail = `"}`
	text := strings.Repeat(prose, 2+size/len(prose))[i%len(prose):]
	return head + text[:size-len(head)-len(tail)] + tail
}
