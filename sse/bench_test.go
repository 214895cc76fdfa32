package sse_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/sse"
)

// samples are the streams of the benchmarks: what hubs and models send.
var samples = []struct {
	name string
	ev   sse.Event
}{
	{"token20B", sse.Event{Data: `{"t":" streaming"}..`}},
	{"event100B", sse.Event{ID: "k7m2qa-4711", Type: "update", Data: strings.Repeat("0123456789", 10)}},
	{"json1KiB", sse.Event{ID: "k7m2qa-4711", Type: "order", Data: `{"text":"` + strings.Repeat("price 12.50, ", 78) + `"}`}},
	{"lines1KiB", sse.Event{ID: "k7m2qa-4711", Data: strings.Repeat("a line of text, forty bytes long, or so\n", 25)}},
	{"json1MiB", sse.Event{ID: "k7m2qa-4711", Data: `{"text":"` + strings.Repeat("price 12.50, ", 80_000) + `"}`}},
}

func BenchmarkDecoder(b *testing.B) {
	for _, s := range samples {
		b.Run(s.name, func(b *testing.B) {
			frame := encode(b, s.ev)
			per := max(16, 1<<20/len(frame))
			stream := bytes.Repeat(frame, per)
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for n := 0; n < b.N; {
				d := sse.NewDecoder(bytes.NewReader(stream), nil)
				for n < b.N {
					if _, err := d.Next(); err != nil {
						break
					}
					n++
				}
			}
		})
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	for _, s := range samples {
		b.Run(s.name, func(b *testing.B) {
			buf := encode(b, s.ev)
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				buf, _ = sse.AppendEvent(buf[:0], s.ev)
			}
		})
	}
}

func BenchmarkEncoder(b *testing.B) {
	for _, s := range samples {
		b.Run(s.name, func(b *testing.B) {
			e := sse.NewEncoder(io.Discard)
			b.SetBytes(int64(len(encode(b, s.ev))))
			b.ReportAllocs()
			for b.Loop() {
				if err := e.Encode(s.ev); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func encode(tb testing.TB, ev sse.Event) []byte {
	tb.Helper()
	b, err := sse.AppendEvent(nil, ev)
	if err != nil {
		tb.Fatal(fmt.Errorf("encode %+v: %w", ev, err))
	}
	return b
}
