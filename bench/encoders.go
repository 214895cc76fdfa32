package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	launchdarkly "github.com/launchdarkly/eventsource"
	tmaxmax "github.com/tmaxmax/go-sse"

	"github.com/tidewire/tidewire/sse"
)

// An encodeFunc returns an event's bytes, valid until the next call.
type encodeFunc func(event) ([]byte, error)

// An encoder encodes one event at a time into memory that it uses again.
type encoder struct {
	library string
	open    func() encodeFunc // nil if the library has none that can be called
}

var encoders = []encoder{
	{ours, openOurs},
	{oursEncoder, openOursEncoder},
	{tmaxmaxName, openTmaxmax},
	{launchdarklyName, openLaunchdarkly},
	{r3labsName, nil},
}

func openOurs() encodeFunc {
	var b []byte
	return func(ev event) (_ []byte, err error) {
		b, err = sse.AppendEvent(b[:0], sse.Event{ID: ev.id, Type: ev.typ, Data: ev.data})
		return b, err
	}
}

func openOursEncoder() encodeFunc {
	var b bytes.Buffer
	e := sse.NewEncoder(&b)
	return func(ev event) ([]byte, error) {
		b.Reset()
		err := e.Encode(sse.Event{ID: ev.id, Type: ev.typ, Data: ev.data})
		return b.Bytes(), err
	}
}

// openTmaxmax builds a message for each event, since one cannot be used again.
func openTmaxmax() encodeFunc {
	var b bytes.Buffer
	return func(ev event) (_ []byte, err error) {
		b.Reset()
		var m tmaxmax.Message
		if ev.id != "" {
			if m.ID, err = tmaxmax.NewID(ev.id); err != nil {
				return nil, err
			}
		}
		if ev.typ != "" {
			if m.Type, err = tmaxmax.NewType(ev.typ); err != nil {
				return nil, err
			}
		}
		m.AppendData(ev.data)
		_, err = m.WriteTo(&b)
		return b.Bytes(), err
	}
}

// openLaunchdarkly passes the same pointer each time, since a value would be copied
// to the heap to become an interface.
func openLaunchdarkly() encodeFunc {
	var b bytes.Buffer
	var ev launchdarklyEvent
	e := launchdarkly.NewEncoder(&b, false)
	return func(next event) ([]byte, error) {
		b.Reset()
		ev.event = next
		err := e.Encode(&ev)
		return b.Bytes(), err
	}
}

type launchdarklyEvent struct{ event }

func (e *launchdarklyEvent) Id() string    { return e.id }
func (e *launchdarklyEvent) Event() string { return e.typ }
func (e *launchdarklyEvent) Data() string  { return e.data }

// check tells in what the encoder's bytes differ from the stream's. Fields may come
// in any order.
func (encode encodeFunc) check(s *stream) error {
	for i, ev := range s.events {
		b, err := encode(ev)
		if err != nil {
			return err
		}
		if !slices.Equal(sortedLines(string(b)), sortedLines(ev.wire())) {
			return fmt.Errorf("event %d is written as %.60q, want %.60q", i, b, ev.wire())
		}
	}
	return nil
}

// sortedLines sorts the lines of a block, and leaves its end where it is.
func sortedLines(block string) []string {
	lines := strings.SplitAfter(block, "\n")
	slices.Sort(lines[:max(0, len(lines)-2)])
	return lines
}

// pass encodes the stream once.
func (encode encodeFunc) pass(s *stream) error {
	n := 0
	for range s.repeats {
		for _, ev := range s.events {
			b, err := encode(ev)
			if err != nil {
				return err
			}
			n += len(b)
		}
	}
	if n != s.size() {
		return fmt.Errorf("wrote %d bytes, want %d", n, s.size())
	}
	return nil
}
