package main

import (
	"cmp"
	"fmt"
	"io"
	"unsafe"

	launchdarkly "github.com/launchdarkly/eventsource"
	r3labs "github.com/r3labs/sse/v2"
	tmaxmax "github.com/tmaxmax/go-sse"

	"github.com/tidewire/tidewire/sse"
)

// maxEvent is the largest event in bytes that decoders with a smaller default are
// told to take.
const maxEvent = 4 << 20

// A decoder reads a whole stream and hands over its events one by one, which are
// valid until the next one.
type decoder struct {
	library string
	decode  func(r io.Reader, got func(event)) error

	// blocks means that the data of an event is its whole block as it stood in the
	// stream: the library finds where events end, but does not read their fields.
	blocks bool
}

var decoders = []decoder{
	{library: ours, decode: decodeOurs},
	{library: tmaxmaxName, decode: decodeTmaxmax},
	{library: launchdarklyName, decode: decodeLaunchdarkly},
	{library: r3labsBlocks, decode: decodeR3labs, blocks: true},
}

func decodeOurs(r io.Reader, got func(event)) error {
	d := sse.NewDecoder(r, nil)
	for {
		ev, err := d.Next()
		if err != nil {
			return unlessEOF(err)
		}
		got(event{ev.ID, ev.Type, ev.Data})
	}
}

func decodeTmaxmax(r io.Reader, got func(event)) error {
	for ev, err := range tmaxmax.Read(r, &tmaxmax.ReadConfig{MaxEventSize: maxEvent}) {
		if err != nil {
			return err
		}
		got(event{ev.LastEventID, ev.Type, ev.Data})
	}
	return nil
}

// decodeLaunchdarkly reads until the error, with which the goroutine that the
// decoder has started ends.
func decodeLaunchdarkly(r io.Reader, got func(event)) error {
	d := launchdarkly.NewDecoder(r)
	for {
		ev, err := d.Decode()
		if err != nil {
			return unlessEOF(err)
		}
		got(event{ev.Id(), ev.Event(), ev.Data()})
	}
}

func decodeR3labs(r io.Reader, got func(event)) error {
	d := r3labs.NewEventStreamReader(r, maxEvent)
	for {
		block, err := d.ReadEvent()
		if err != nil {
			return unlessEOF(err)
		}
		// Not copied: that would be charged to the library, which does not do it.
		got(event{data: unsafe.String(unsafe.SliceData(block), len(block))})
	}
}

func unlessEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// check tells in what the decoder's events differ from the stream's.
func (d decoder) check(s *stream) error {
	n := 0
	var wrong error
	err := d.decode(s.reader(), func(got event) {
		if wrong == nil && n < s.count() {
			wrong = d.compare(got, s.at(n), n)
		}
		n++
	})
	return cmp.Or(err, wrong, countError(n, s.count()))
}

func (d decoder) compare(got, want event, n int) error {
	if got.typ == "message" {
		got.typ = "" // the type of an event without one, which some spell out
	}
	if d.blocks {
		block := want.wire()
		want = event{data: block[:len(block)-len("\n\n")]}
	}
	switch {
	case got.id != want.id:
		return fmt.Errorf("event %d has id %q, want %q", n, got.id, want.id)
	case got.typ != want.typ:
		return fmt.Errorf("event %d has type %q, want %q", n, got.typ, want.typ)
	case len(got.data) != len(want.data):
		return fmt.Errorf("event %d has %d bytes of data, want %d", n, len(got.data), len(want.data))
	case got.data != want.data:
		return fmt.Errorf("event %d has other data", n)
	}
	return nil
}

// pass decodes the stream once.
func (d decoder) pass(s *stream) error {
	n := 0
	if err := d.decode(s.reader(), func(event) { n++ }); err != nil {
		return err
	}
	return countError(n, s.count())
}

func countError(got, want int) error {
	if got != want {
		return fmt.Errorf("delivered %d events, want %d", got, want)
	}
	return nil
}
