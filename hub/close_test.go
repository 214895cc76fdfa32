package hub_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
)

// eitherWay runs a test twice: the hub has the history in memory, and it has none of
// it.
func eitherWay(t *testing.T, test func(t *testing.T, h *hub.Hub, log *memory.Log)) {
	for _, way := range []struct {
		name     string
		hotBytes int
	}{{"in memory", 0}, {"from the log", 1}} {
		t.Run(way.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := newLog(t, nil)
				test(t, newHub(t, hub.Options{Log: log, HotBytes: way.hotBytes}), log)
			})
		})
	}
}

// want checks what a reader takes without waiting.
func want(t testing.TB, what string, r *reader, want string) {
	t.Helper()
	if got := r.texts(); got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func topics(names ...string) hub.Filter { return hub.Filter{Topics: names} }

func from(f hub.Filter, s hub.Start) hub.Filter {
	f.From = s
	return f
}

var earliest = hub.Start{Earliest: true}

func TestClosedTopic_SubscribersGetTheRestAndTheEnd(t *testing.T) {
	eitherWay(t, func(t *testing.T, h *hub.Hub, log *memory.Log) {
		live, lagging := read(t, h, topics("a")), read(t, h, topics("a"))
		live.take()
		lagging.take()
		publish(t, h, event("a", "1"), event("a", "2"))
		lagging.take()
		want(t, "live", live, "1, 2")
		if _, err := h.Publish(t.Context(), hub.Publication{Events: []hub.Event{event("a", "3")}, End: []string{"a"}}); err != nil {
			t.Fatal(err)
		}
		want(t, "live", live, "3, end")
		want(t, "lagging", lagging, "2, 3, end")
		want(t, "from the beginning", read(t, h, from(topics("a"), earliest)), "1, 2, 3, end")
		want(t, "the newest", read(t, h, from(topics("a"), hub.Start{Last: 1})), "3, end")
		want(t, "with everything", read(t, h, from(topics("a"), hub.Start{LastEventID: hub.Position(log.Head().Epoch, 3)})), "end")
		want(t, "from now on", read(t, h, topics("a")), "end")

		_, err := h.Publish(t.Context(), hub.Publication{Events: []hub.Event{event("a", "4")}})
		if !errors.Is(err, hub.ErrClosed) {
			t.Errorf("publish: got %v, want ErrClosed", err)
		}
		end(t, h, "a") // again is no error
		want(t, "from the beginning once more", read(t, h, from(topics("a"), earliest)), "1, 2, 3, end")
	})
}

func TestClosedTopic_OfSeveralTheLastOneEndsIt(t *testing.T) {
	eitherWay(t, func(t *testing.T, h *hub.Hub, _ *memory.Log) {
		r := read(t, h, topics("a", "b", "c"))
		r.take()
		publish(t, h, event("a", "1"))
		end(t, h, "a", "never/named")
		publish(t, h, event("b", "2"))
		end(t, h, "b")
		publish(t, h, event("other", "3"))
		want(t, "one is open", r, "1, 2")
		publish(t, h, event("c", "4"))
		end(t, h, "c")
		want(t, "none is open", r, "4, end")
		want(t, "closed before it had an event", read(t, h, topics("never/named")), "end")
	})
}

func TestClosedTopic_APatternGoesOn(t *testing.T) {
	eitherWay(t, func(t *testing.T, h *hub.Hub, _ *memory.Log) {
		pattern := read(t, h, hub.Filter{Patterns: []string{"a/*"}, From: earliest})
		mixed := read(t, h, hub.Filter{Topics: []string{"a/1"}, Patterns: []string{"b"}})
		pattern.take()
		mixed.take()
		publish(t, h, event("a/1", "1"))
		end(t, h, "a/1", "b")
		want(t, "pattern", pattern, "1")
		want(t, "topic and pattern", mixed, "1")
		publish(t, h, event("a/2", "2"))
		want(t, "pattern, another topic", pattern, "2")
	})
}

func TestClosedTopic_FilteredEventsDoNotKeepItOpen(t *testing.T) {
	eitherWay(t, func(t *testing.T, h *hub.Hub, _ *memory.Log) {
		f := hub.Filter{Topics: []string{"a"}, Types: []string{"t"}}
		live := read(t, h, f)
		live.take()
		publish(t, h, hub.Event{Topics: []string{"a"}, Type: "t", Data: "1"}, event("a", "2"), hub.Event{Topics: []string{"a"}, Type: "t", Private: true})
		end(t, h, "a")
		want(t, "live", live, "1, end")
		want(t, "later", read(t, h, from(f, earliest)), "1, end")
		want(t, "from now on", read(t, h, f), "end")
	})
}

// TestClosedTopic_AnEventThatComesWithTheEndIsNotLost has a topic get its last event and
// be closed just when a new subscriber asks the log whether it is.
func TestClosedTopic_AnEventThatComesWithTheEndIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &spyLog{Log: newLog(t, nil)}
		h := newHub(t, hub.Options{Log: log})
		var once sync.Once
		log.topic = func(context.Context, string) (bool, error) {
			once.Do(func() {
				if _, err := h.Publish(t.Context(), hub.Publication{Events: []hub.Event{event("a", "1")}, End: []string{"a"}}); err != nil {
					t.Error(err)
				}
			})
			return false, nil
		}
		want(t, "from now on", read(t, h, topics("a")), "1, end")
	})
}

// TestClosedTopic_NothingComesAfterTheEnd closes a topic against 32 publishers:
// subscribers get exactly what was acknowledged, and the end.
func TestClosedTopic_NothingComesAfterTheEnd(t *testing.T) {
	h := newHub(t, hub.Options{HotBytes: 10_000})
	var stored sync.Map
	var publishers, subscribers sync.WaitGroup
	started := make(chan struct{}, 32)
	for p := range 32 {
		publishers.Go(func() {
			for i := 0; ; i++ {
				data := fmt.Sprint(p, ".", i)
				_, err := h.Publish(t.Context(), hub.Publication{Events: []hub.Event{event("a", data)}})
				if errors.Is(err, hub.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				stored.Store(data, true)
				if i == 20 {
					started <- struct{}{}
				}
			}
		})
	}
	got := make([]map[string]bool, 4)
	for i := range got {
		got[i] = make(map[string]bool)
		subscribers.Go(func() {
			for d, err := range h.Subscribe(t.Context(), from(topics("a"), earliest)) {
				if err != nil {
					t.Error(err)
					return
				}
				if got[i][d.Data] {
					t.Errorf("got %s twice", d.Data)
				}
				got[i][d.Data] = true
			}
		})
	}
	for range 32 {
		<-started
	}
	end(t, h, "a")
	publishers.Wait()
	subscribers.Wait()
	acknowledged := 0
	stored.Range(func(data, _ any) bool {
		acknowledged++
		for i := range got {
			if !got[i][data.(string)] {
				t.Errorf("subscriber %d: %v is missing", i, data)
			}
		}
		return true
	})
	for i := range got {
		if len(got[i]) != acknowledged {
			t.Errorf("subscriber %d: got %d events, want %d", i, len(got[i]), acknowledged)
		}
	}
}

func TestForget_WhoHadNotGotItIsToldOfAGap(t *testing.T) {
	tests := []struct {
		name   string
		filter hub.Filter
		want   string // after event 1 was taken, and 2 to 4 are published
	}{
		{"a topic", topics("a"), "gap expired, 5"},
		{"a pattern", hub.Filter{Patterns: []string{"*"}}, "gap expired, 3, 5"},
		{"a topic from the beginning", from(topics("a"), earliest), "gap expired, 5"},
		{"a pattern from the beginning", from(hub.Filter{Patterns: []string{"*"}}, earliest), "gap expired, 3, 5"},
		{"another topic too", topics("a", "b"), "gap expired, 3, 5"},
		{"a topic that was not forgotten", topics("b"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eitherWay(t, func(t *testing.T, h *hub.Hub, _ *memory.Log) {
				r := read(t, h, tt.filter)
				r.take()
				publish(t, h, event("a,b", "1"))
				if got, ok := r.take(); !ok || got.Data != "1" {
					t.Fatalf("got %v, want event 1", got)
				}
				publish(t, h, event("a", "2"))
				publish(t, h, event("b", "3"))
				publish(t, h, event("a", "4"))
				if tt.want == "" {
					forget(t, h, "a")
					want(t, "after forgetting", r, "3")
					return
				}
				forget(t, h, "a")
				publish(t, h, event("a", "5"))
				want(t, "after forgetting", r, tt.want)
			})
		})
	}
}

// TestForget_ReturnsWhenNobodyGetsItAnyMore has a hub that learns late of what its log
// has done, and a subscriber who reads from the hub's memory.
func TestForget_ReturnsWhenNobodyGetsItAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &spyLog{Log: newLog(t, nil)}
		hold := log.holdTail()
		h := newHub(t, hub.Options{Log: log})
		r := read(t, h, topics("a"))
		r.take()
		publish(t, h, event("a", "1"))
		r.take()
		publish(t, h, event("a", "secret")) // which the subscriber has not asked for yet
		synctest.Wait()
		hold(true)
		publish(t, h, event("b", ""))
		synctest.Wait() // with which the hub is held up

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := h.Forget(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("got %v after %v, want the context's end", err, time.Since(began))
		}
		forgot := make(chan error, 1)
		go func() { forgot <- h.Forget(t.Context(), "a") }()
		synctest.Wait()
		select {
		case err := <-forgot:
			t.Fatalf("got %v while the secret could still be read", err)
		default:
		}
		hold(false)
		if err := <-forgot; err != nil {
			t.Fatal(err)
		}
		if s, ok := r.take(); !ok || s.String() != "gap expired" {
			t.Errorf("got %v, %v, want a gap", s, ok)
		}

		// The hub's own end counts too.
		hold(true)
		publish(t, h, event("b", ""))
		synctest.Wait()
		go func() { forgot <- h.Forget(t.Context(), "a") }()
		synctest.Wait()
		r.stop()
		down := make(chan error, 1)
		go func() { down <- h.Shutdown(t.Context()) }()
		if err := <-forgot; !errors.Is(err, hub.ErrShutdown) {
			t.Errorf("got %v, want ErrShutdown", err)
		}
		hold(false)
		if err := <-down; err != nil {
			t.Error(err)
		}
	})
}

// TestForget_AnEventOfTwoTopics has an event of two topics, of which one, or both, are
// forgotten before a subscriber has got it.
func TestForget_AnEventOfTwoTopics(t *testing.T) {
	tests := []struct {
		name   string
		forget []string
		filter hub.Filter
		want   string
	}{
		{"its only topic of a subscriber", []string{"a"}, topics("a"), "gap expired"},
		{"the other topic", []string{"b"}, topics("a"), "1"},
		{"one of a subscriber's topics", []string{"a"}, topics("a", "b"), "1"},
		{"one that a pattern selects", []string{"a"}, hub.Filter{Patterns: []string{"*"}}, "1"},
		{"both, of one subscriber's", []string{"a", "b"}, topics("a"), "gap expired"},
		{"both", []string{"b", "a"}, topics("a", "b"), "gap expired"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eitherWay(t, func(t *testing.T, h *hub.Hub, log *memory.Log) {
				f := from(tt.filter, hub.Start{LastEventID: hub.Position(log.Head().Epoch, 0)})
				publish(t, h, event("a,b", "0"))
				behind := read(t, h, f)
				if got, ok := behind.take(); !ok || got.Data != "0" {
					t.Fatalf("got %v, want event 0", got)
				}
				publish(t, h, event("a,b", "1"))
				for _, topic := range tt.forget {
					forget(t, h, topic)
				}
				synctest.Wait()
				want(t, "behind", behind, tt.want)
				want(t, "once more from the beginning", read(t, h, f), strings.Replace(tt.want, "1", "0, 1", 1))
			})
		})
	}
}

func TestForget_TheTopicLivesOn(t *testing.T) {
	eitherWay(t, func(t *testing.T, h *hub.Hub, log *memory.Log) {
		r := read(t, h, topics("a"))
		r.take()
		publish(t, h, event("a", "1"))
		want(t, "before", r, "1")
		forget(t, h, "a")
		forget(t, h, "a")
		forget(t, h, "never named")
		want(t, "who had everything", r, "")
		publish(t, h, event("a", "2"))
		want(t, "live", r, "2")
		synctest.Wait()
		want(t, "earliest", read(t, h, from(topics("a"), earliest)), "2")
		want(t, "after the forgotten one", read(t, h, from(topics("a"), hub.Start{LastEventID: hub.Position(log.Head().Epoch, 1)})), "2")
		want(t, "before the forgotten one", read(t, h, from(topics("a"), hub.Start{LastEventID: hub.Position(log.Head().Epoch, 0)})), "gap expired, 2")
	})
}

// TestForget_AGapIsToldBeforeTheEnd has a topic that is forgotten and closed while a
// subscriber is behind: it must not take the end for everything.
func TestForget_AGapIsToldBeforeTheEnd(t *testing.T) {
	eitherWay(t, func(t *testing.T, h *hub.Hub, _ *memory.Log) {
		behind := read(t, h, topics("a"))
		behind.take()
		publish(t, h, event("a", "1"))
		behind.take()
		publish(t, h, event("a", "2"))
		forget(t, h, "a")
		end(t, h, "a")
		want(t, "behind", behind, "gap expired, end")
		for _, id := range []string{"nobody's", "zzzzzz-1"} {
			r := read(t, h, from(topics("a"), hub.Start{LastEventID: id}))
			got := r.texts()
			if got != "gap unknown, end" && got != "gap epoch, end" {
				t.Errorf("id %s: got %q, want a gap and the end", id, got)
			}
		}
	})
}
