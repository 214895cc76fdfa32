//go:build linux && !portable && (amd64 || arm64)

package hub_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// TestGzip_EventsReferToThoseBefore has events that are alike, and compares what goes over the
// network: to who is there from the beginning, and to who comes later.
func TestGzip_EventsReferToThoseBefore(t *testing.T) {
	for name, tt := range map[string]struct{ batches, events, size, percent int }{
		"small, one by one":   {200, 1, 300, 40}, // apart from each other they would be stored
		"many at once":        {3, 100, 300, 35},
		"more than one write": {5, 100, 1000, 28}, // 30 if what is left of a write were apart
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, hub.Options{Heartbeat: -1})
			s := serve(t, h)
			inStep := s.wire("/events/a", codings[1]...)
			n, plain := 0, 0
			come := func() {
				var batch []hub.Event
				for range tt.events {
					n++
					batch = append(batch, event("a", order(n, tt.size)))
					plain += len(batch[len(batch)-1].Data)
				}
				publish(t, h, batch...)
				for _, ev := range batch {
					if got := inStep.next(t); got.Data != ev.Data {
						t.Fatalf("got %q, want %q", got.Data, ev.Data)
					}
				}
			}
			var all sync.WaitGroup
			var bytes [2]int64
			count := func(i int) {
				w := s.wire("/events/a", codings[1]...)
				all.Go(func() {
					var err error
					if bytes[i], err = io.Copy(io.Discard, w); err != nil {
						t.Error(err)
					}
				})
			}
			count(0)
			for range tt.batches {
				come()
			}
			before := plain
			count(1)
			for range tt.batches {
				come()
			}
			end(t, h, "a")
			all.Wait()
			if got := bytes[0]; got > int64(plain*tt.percent/100) {
				t.Errorf("got %d bytes for %d", got, plain)
			}
			if got := bytes[1]; got > int64(plain-before)*3/4 {
				t.Errorf("who came later got %d bytes for %d", got, plain-before)
			}
		})
	}
}

// TestGzip_ContextsAreLetGoOf has the hot log keep a few events only.
func TestGzip_ContextsAreLetGoOf(t *testing.T) {
	h := newHub(t, hub.Options{HotBytes: 20_000, Heartbeat: -1})
	w := serve(t, h).wire("/events/a", codings[1]...)
	for i := range 200 {
		publish(t, h, event("a", order(i, 1000)))
		w.next(t)
	}
	if n := h.StaleRuns(); n > 0 {
		t.Errorf("got %d blocks of events that are gone", n)
	}
}

// TestGzip_ContextsAreForThoseWhoCanFollow has subscribers come at any time and some of them
// be slow, to selections that share events, with heartbeats between, while events come one by
// one and many at once: each decodes everything, once and in order.
func TestGzip_ContextsAreForThoseWhoCanFollow(t *testing.T) {
	rounds := 6
	if long() {
		rounds = 200
	}
	for round := range rounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(uint64(round), 1))
			beat := []time.Duration{-1, 2 * time.Millisecond, 20 * time.Millisecond}[round%3]
			h := newHub(t, hub.Options{Heartbeat: beat, HotBytes: []int{0, 100_000}[round%2]})
			s := serveNarrow(t, h)
			s.patience = 4 * patience
			var all sync.WaitGroup
			published := 0
			arrive := func() {
				after := published
				start := "" // now
				if random.IntN(2) == 0 && published > 0 {
					after = random.IntN(published)
					start = fmt.Sprint("&last_event_id=", after)
				}
				slow := random.IntN(4) == 0
				w := s.wire([]string{"/events?topic=a", "/events?pattern=*", "/events?topic=a&topic=b"}[random.IntN(3)]+start, codings[1]...)
				all.Go(func() {
					for want := after + 1; ; want++ {
						ev, err := w.events.Next()
						if err != nil {
							t.Errorf("after %d: %v instead of %d", after, err, want)
							return
						}
						if ev.Type == "end" {
							return
						}
						if ev.ID != fmt.Sprint(want) {
							t.Errorf("after %d: got %s, want %d", after, ev.ID, want)
							return
						}
						if slow && want%20 == 0 {
							time.Sleep(time.Millisecond) // it is as it is
						}
					}
				})
			}
			arrive()
			for published < 1500 {
				var batch []hub.Event
				for range 1 + random.IntN(3)*random.IntN(60) {
					published++
					size := []int{0, 50, 400, 600, 3000, 40_000}[min(random.IntN(6), random.IntN(6))]
					batch = append(batch, hub.Event{Topics: []string{"a"}, ID: fmt.Sprint(published), Data: order(published, size)})
				}
				publish(t, h, batch...)
				if random.IntN(10) == 0 {
					arrive()
				}
			}
			publish(t, h, hub.Event{Topics: []string{"a"}, Type: "end"})
			all.Wait()
		})
	}
}

// TestGzip_MoreSelectionsThanContexts has them take turns.
func TestGzip_MoreSelectionsThanContexts(t *testing.T) {
	selections := 10 * runtime.GOMAXPROCS(0)
	h := newHub(t, hub.Options{Heartbeat: -1})
	s := serve(t, h)
	var all []*wire
	for i := range selections {
		all = append(all, s.wire(fmt.Sprint("/events/", i), codings[1]...))
	}
	for i := range 5 {
		for n, w := range all {
			data := order(i, 1000)
			publish(t, h, event(fmt.Sprint(n), data))
			if got := w.next(t); got.Data != data {
				t.Fatalf("selection %d: got %.50q, want %.50q", n, got.Data, data)
			}
		}
	}
}
