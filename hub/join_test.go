package hub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
)

// TestSubscribe_HistoryJoinsLiveWithoutASeam has subscribers come at random places while
// many publish: each gets every event after its place, once and in order.
func TestSubscribe_HistoryJoinsLiveWithoutASeam(t *testing.T) {
	const publishers, each, subscribers = 8, 300, 48
	filters := []hub.Filter{
		topics("a"), topics("b"), topics("a", "b"), topics("a", "b", "c"),
		{Patterns: []string{"*"}}, {Topics: []string{"a"}, Patterns: []string{"c/**"}}, {Topics: []string{"b", "c"}, Types: []string{"t"}},
	}
	for name, hotBytes := range map[string]int{"all in memory": 0, "some in memory": 20_000, "one in memory": 1} {
		t.Run(name, func(t *testing.T) {
			log := newLog(t, nil)
			h := newHub(t, hub.Options{Log: log, HotBytes: hotBytes})
			// What a subscriber may resume from: the ids that were acknowledged.
			var mu sync.Mutex
			var ids []string
			var publishing, subscribing sync.WaitGroup
			begin := make(chan struct{}) // subscribers come as events are published
			for p := range publishers {
				publishing.Go(func() {
					for i := range each {
						ev := event([]string{"a", "b", "c", "a,b", "b,c,a", "c/1", "other"}[(p+i)%7], fmt.Sprint(p, ".", i))
						if i%3 == 0 {
							ev.Type = "t"
						}
						if i%2 == 0 {
							ev.ID = "own " + ev.Data
						}
						receipt, err := h.Publish(t.Context(), hub.Publication{Events: []hub.Event{ev}})
						if err != nil {
							t.Error(err)
							continue
						}
						id := ev.ID
						if id == "" {
							id = hub.Position(receipt.Epoch, receipt.Sequences[0])
						}
						mu.Lock()
						ids = append(ids, id)
						mu.Unlock()
						if n := publishers * each / subscribers; (p*each+i)%n == 0 {
							begin <- struct{}{}
						}
					}
				})
			}
			type subscriber struct {
				filter hub.Filter
				id     string
				got    []uint64
			}
			all := make([]subscriber, subscribers)
			for i := range all {
				subscribing.Go(func() {
					<-begin
					s := &all[i]
					s.filter = filters[i%len(filters)]
					if i%4 != 0 {
						mu.Lock()
						if len(ids) > 0 {
							s.id = ids[rand.IntN(len(ids))]
						}
						mu.Unlock()
					}
					f := from(s.filter, hub.Start{LastEventID: s.id})
					if s.id == "" {
						f.From.Earliest = true
					}
					// The last event of all ends it.
					f.Topics = append(slices.Clone(f.Topics), "end")
					f.Types = slices.Clone(f.Types)
					if len(f.Types) > 0 {
						f.Types = append(f.Types, "end")
					}
					for d, err := range h.Subscribe(t.Context(), f) {
						if err != nil {
							t.Errorf("subscriber %d from %q: %v", i, s.id, err)
							return
						}
						if d.Type == "end" {
							return
						}
						s.got = append(s.got, sequence(t, d.Position))
					}
				})
			}
			publishing.Wait()
			publish(t, h, hub.Event{Topics: []string{"end"}, Type: "end"})
			subscribing.Wait()

			for i, s := range all {
				var want []uint64
				after := uint64(0)
				if s.id != "" {
					after = place(t, log, s.id)
				}
				for seq, ev := range inOrder(t, log) {
					if seq > after && ev.Type != "end" && wanted(s.filter, *ev) {
						want = append(want, seq)
					}
				}
				if !slices.Equal(s.got, want) {
					t.Errorf("subscriber %d, %+v from %q: got %d events %v, want %d %v", i, s.filter, s.id, len(s.got), s.got, len(want), want)
				}
			}
		})
	}
}

// inOrder returns all events that a log has, with their sequences.
func inOrder(t testing.TB, log hub.Log) func(func(uint64, *hub.Event) bool) {
	return func(yield func(uint64, *hub.Event) bool) {
		for after := uint64(0); ; {
			page, err := log.Read(t.Context(), hub.Query{Patterns: []string{"**"}, After: after})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page.Records {
				if !yield(r.Seq, r.Event) {
					return
				}
			}
			if len(page.Records) == 0 {
				return
			}
			after = page.Through
		}
	}
}

// place returns the sequence of an id.
func place(t testing.TB, log hub.Log, id string) uint64 {
	t.Helper()
	if epoch := log.Head().Epoch + "-"; len(id) > len(epoch) && id[:len(epoch)] == epoch {
		return sequence(t, id)
	}
	loc, err := log.Locate(t.Context(), hub.Cursor{ID: id})
	if err != nil || loc.Lost != hub.Found {
		t.Fatalf("id %q: got %+v, %v", id, loc, err)
	}
	return loc.Seq
}

// TestSubscribe_JoinsWhileRetentionRuns has slow and fast subscribers to topics that
// keep little: each event comes at most once and in order, and those that are missing
// are told of where they would have stood, and only those.
func TestSubscribe_JoinsWhileRetentionRuns(t *testing.T) {
	const publishers, each, subscribers, keep = 4, 1000, 24, 20
	for name, hotBytes := range map[string]int{"some in memory": 10_000, "one in memory": 1} {
		t.Run(name, func(t *testing.T) {
			log := newLog(t, &memory.Options{Retention: hub.RetentionRules{{Pattern: "**", Retention: hub.Retention{Count: keep}}}})
			h := newHub(t, hub.Options{Log: log, HotBytes: hotBytes})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var publishing, subscribing sync.WaitGroup
			var mu sync.Mutex
			published := make(map[uint64]string) // the topic of each sequence
			var gaps, events int
			for i := range subscribers {
				subscribing.Go(func() {
					topic := fmt.Sprint("t", i%3)
					var got []uint64            // 0 is a gap
					id := ""                    // to come back with
					for done := false; !done; { // it leaves and comes back
						f := from(topics(topic), hub.Start{LastEventID: id})
						if id == "" {
							f.From.Earliest = true
						}
						stay := 1 + rand.IntN(300)
						done = true // unless it leaves by itself
						for d, err := range h.Subscribe(ctx, f) {
							var gap *hub.GapError
							switch {
							case errors.As(err, &gap):
								got = append(got, 0)
								id = gap.Resumed
							case err != nil:
								t.Errorf("subscriber %d: %v", i, err)
								return
							default:
								got = append(got, sequence(t, d.Position))
								id = d.ID
							}
							for range rand.IntN(20) * i { // some are slow
								runtime.Gosched()
							}
							if stay--; stay == 0 {
								done = false
								break
							}
						}
					}
					publishing.Wait()
					mu.Lock()
					defer mu.Unlock()
					checkWithGaps(t, fmt.Sprint("subscriber ", i), got, func(seq uint64) bool { return published[seq] == topic })
					for _, seq := range got {
						if seq == 0 {
							gaps++
						} else {
							events++
						}
					}
				})
			}
			for p := range publishers {
				publishing.Go(func() {
					for i := range each {
						topic := fmt.Sprint("t", (p+i)%3)
						receipt, err := h.Publish(ctx, hub.Publication{Events: []hub.Event{event(topic, "")}})
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						published[receipt.Sequences[0]] = topic
						mu.Unlock()
					}
				})
			}
			publishing.Wait()
			end(t, h, "t0", "t1", "t2")
			subscribing.Wait()
			t.Logf("%d events and %d gaps", events, gaps)
		})
	}
}

// TestSubscribe_WhatRetentionRemovesBesideAPageIsAGap has all that a topic keeps replaced
// each time a page of it was read, and not looked at yet, a few times.
func TestSubscribe_WhatRetentionRemovesBesideAPageIsAGap(t *testing.T) {
	const keep, times = 3, 5
	for name, f := range map[string]hub.Filter{"a topic": topics("a"), "topics": topics("a", "b"), "a pattern": {Patterns: []string{"*"}}} {
		t.Run(name, func(t *testing.T) {
			log := &spyLog{Log: newLog(t, &memory.Options{Retention: hub.RetentionRules{{Pattern: "**", Retention: hub.Retention{Count: keep}}}})}
			h := newHub(t, hub.Options{Log: log, HotBytes: 1})
			some := func() {
				for range 10 {
					publish(t, h, event("a", ""))
				}
			}
			some()
			f.From.LastEventID = hub.Position(log.Head().Epoch, 1)
			replaced := 0
			log.read = func(_ hub.Query, page hub.Page) {
				if page.Gap && replaced < times {
					replaced++
					some()
				}
			}
			got := []uint64{1}
			for d, err := range h.Subscribe(t.Context(), f) {
				var gap *hub.GapError
				switch {
				case errors.As(err, &gap):
					got = append(got, 0)
					continue
				case err != nil:
					t.Fatal(err)
				}
				if got = append(got, sequence(t, d.Position)); got[len(got)-1] == 10*(1+times) {
					break
				}
			}
			checkWithGaps(t, name, got, func(uint64) bool { return true })
		})
	}
}

// checkWithGaps checks a subscriber's sequences, among which 0 is a gap: they rise, and
// matching ones are left out exactly where there is a gap. What came before the first
// one is not judged.
func checkWithGaps(t testing.TB, who string, got []uint64, matches func(uint64) bool) {
	t.Helper()
	last, gap := uint64(0), false
	for i, seq := range got {
		if seq == 0 {
			gap = true // a second one tells of what has been removed in the meantime
			continue
		}
		if seq <= last {
			t.Errorf("%s: step %d: got %d after %d", who, i, seq, last)
			return
		}
		missing := 0
		for s := last + 1; s < seq; s++ {
			if matches(s) {
				missing++
			}
		}
		if last > 0 && (missing > 0) != gap {
			t.Errorf("%s: step %d: got gap %v between %d and %d, where %d are missing", who, i, gap, last, seq, missing)
			return
		}
		last, gap = seq, false
	}
}
