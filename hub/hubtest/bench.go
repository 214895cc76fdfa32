package hubtest

import (
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// The history that BenchmarkLog reads: so many events, under so many topics.
const (
	benchEvents = 100_000
	benchTopics = 10_000
)

// BenchmarkLog measures the Logs of a harness. An operation is an Append, a page, or
// one look-up; events/s counts what was written or read.
func BenchmarkLog(b *testing.B, h Harness) {
	for _, c := range []struct{ writers, batch int }{{1, 1}, {32, 1}, {1, 100}, {32, 100}} {
		b.Run(fmt.Sprintf("append/writers=%d/batch=%d", c.writers, c.batch), func(b *testing.B) {
			benchmarkAppend(b, h, c.writers, c.batch)
		})
	}
	b.Run(fmt.Sprintf("events=%d/topics=%d", benchEvents, benchTopics), func(b *testing.B) {
		benchmarkHistory(b, h)
	})
}

func benchmarkAppend(b *testing.B, h Harness, writers, batch int) {
	// History is bounded, so that b.N is.
	l := h.Open(b, Config{Retention: hub.RetentionRules{{Pattern: "**", Retention: hub.Retention{Count: 1000}}}})
	data := strings.Repeat("0123456789", 10)
	var started atomic.Int64
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range writers {
		wg.Go(func() {
			for n := started.Add(1); n <= int64(b.N); n = started.Add(1) {
				g := &hub.Group{ID: fmt.Sprint("group ", n), Events: make([]hub.Event, batch)}
				topics := []string{fmt.Sprint("topic/", n%100)}
				for i := range g.Events {
					g.Events[i] = hub.Event{Data: data, Topics: topics}
				}
				if _, err := l.Append(b.Context(), g); err != nil {
					b.Errorf("append: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	reportEvents(b, b.N*batch)
}

func reportEvents(b *testing.B, n int) {
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}

// A benchHistory is a Log with history in it.
type benchHistory struct {
	hub.Log
	seqs  []uint64
	times []time.Time
}

func benchTopic(i int) string { return fmt.Sprint("room/", i%benchTopics) }

func benchID(i int) string { return fmt.Sprint("event-", i) }

func newBenchHistory(b *testing.B, h Harness) *benchHistory {
	l := &benchHistory{Log: h.Open(b, Config{})}
	size := min(1000, l.Limits().Group)
	data := strings.Repeat("0123456789", 10)
	for i := 0; i < benchEvents; {
		g := &hub.Group{ID: rand.Text()}
		for ; len(g.Events) < size && i < benchEvents; i++ {
			g.Events = append(g.Events, hub.Event{ID: benchID(i), Data: data, Topics: []string{benchTopic(i)}})
		}
		r, err := l.Append(b.Context(), g)
		if err != nil {
			b.Fatalf("append: %v", err)
		}
		for _, seq := range r.Sequences {
			l.seqs, l.times = append(l.seqs, seq), append(l.times, r.Time)
		}
	}
	return l
}

func benchmarkHistory(b *testing.B, h Harness) {
	l := newBenchHistory(b, h)
	epoch := l.Head().Epoch
	b.Run("pages", func(b *testing.B) {
		q, n := hub.Query{Patterns: everything, Limit: 100}, 0
		for b.Loop() {
			page := l.readPage(b, q)
			n += len(page.Records)
			if q.After = page.Through; q.After >= last(l.seqs) {
				q.After = 0
			}
		}
		reportEvents(b, n)
	})
	// A subscriber comes back in the middle of its topic.
	b.Run("resume", func(b *testing.B) {
		n := 0
		for i := 0; b.Loop(); i += 7919 {
			event := benchEvents/2 + i%benchTopics
			loc := l.locate(b, hub.Cursor{ID: benchID(event)})
			page := l.readPage(b, hub.Query{Topics: []string{benchTopic(event)}, After: loc.Seq, Limit: 100})
			if len(page.Records) == 0 {
				b.Fatalf("resume after %s: got nothing", benchID(event))
			}
			n += len(page.Records)
		}
		reportEvents(b, n)
	})
	for _, c := range []struct {
		name   string
		cursor func(i int) hub.Cursor
	}{
		{"id", func(i int) hub.Cursor { return hub.Cursor{ID: benchID(i)} }},
		{"position", func(i int) hub.Cursor { return hub.Cursor{Epoch: epoch, Seq: l.seqs[i]} }},
		{"since", func(i int) hub.Cursor { return hub.Cursor{Since: l.times[i]} }},
	} {
		b.Run("locate/by="+c.name, func(b *testing.B) {
			for i := 0; b.Loop(); i += 7919 {
				l.locate(b, c.cursor(i%benchEvents))
			}
		})
	}
	b.Run("topic", func(b *testing.B) {
		for i := 0; b.Loop(); i += 7919 {
			if _, err := l.Topic(b.Context(), benchTopic(i)); err != nil {
				b.Fatalf("topic: %v", err)
			}
		}
	})
}

func (l *benchHistory) readPage(b *testing.B, q hub.Query) hub.Page {
	page, err := l.Read(b.Context(), q)
	if err != nil {
		b.Fatalf("read %+v: %v", q, err)
	}
	return page
}

func (l *benchHistory) locate(b *testing.B, c hub.Cursor) hub.Location {
	loc, err := l.Locate(b.Context(), c)
	if err != nil || loc.Lost != hub.Found {
		b.Fatalf("locate %+v: got %+v (%v)", c, loc, err)
	}
	return loc
}
