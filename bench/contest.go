package main

import (
	"fmt"
	"runtime"
	"time"

	"github.com/tidewire/tidewire/bench/internal/report"
)

// The contestants, as the table calls them.
const (
	ours             = "tidewire"
	oursEncoder      = "tidewire, sse.Encoder"
	tmaxmaxName      = "tmaxmax/go-sse"
	launchdarklyName = "launchdarkly/eventsource"
	r3labsName       = "r3labs/sse"
	r3labsBlocks     = "r3labs/sse, blocks only"
)

// An entry is one library at one task: a row of the table.
type entry struct {
	task    string
	library string
	stream  *stream
	pass    func() error // does the stream once; nil if the library cannot
	wrong   error        // why there is nothing to measure: its output is not right

	ns, allocs []float64 // per event, one a round
}

// enter returns an entry of each library for each stream, checked.
func enter(streams []*stream) []*entry {
	var all []*entry
	for _, s := range streams {
		for _, d := range decoders {
			all = append(all, &entry{task: "decode", library: d.library, stream: s,
				wrong: d.check(s),
				pass:  func() error { return d.pass(s) }})
		}
	}
	for _, s := range streams {
		for _, e := range encoders {
			row := &entry{task: "encode", library: e.library, stream: s}
			all = append(all, row)
			if e.open != nil {
				encode := e.open()
				row.wrong = encode.check(s)
				row.pass = func() error { return encode.pass(s) }
			}
		}
	}
	return all
}

func (e *entry) runs() bool { return e.pass != nil && e.wrong == nil }

// rival tells whether the entry is another library's that does the whole task.
func (e *entry) rival() bool {
	switch e.library {
	case ours, oursEncoder, r3labsBlocks:
		return false
	}
	return true
}

// measure adds what one round of at least the given duration has shown. Allocations
// are the whole process's, since some libraries work in goroutines of their own.
func (e *entry) measure(atLeast time.Duration) error {
	runtime.GC() // each begins without the garbage of the one before
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	events := 0
	start := time.Now()
	elapsed := time.Duration(0)
	for elapsed < atLeast {
		if err := e.pass(); err != nil {
			return fmt.Errorf("%s %s with %s: %w", e.task, e.stream.name, e.library, err)
		}
		events += e.stream.count()
		elapsed = time.Since(start)
	}
	runtime.ReadMemStats(&after)
	e.ns = append(e.ns, float64(elapsed)/float64(events))
	e.allocs = append(e.allocs, float64(after.Mallocs-before.Mallocs)/float64(events))
	return nil
}

// bytesPerSecond counts an event's bytes as they stand in the stream.
func (e *entry) bytesPerSecond() float64 {
	perEvent := float64(e.stream.size()) / float64(e.stream.count())
	return perEvent / report.Median(e.ns) * float64(time.Second)
}
