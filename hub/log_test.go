package hub_test

import (
	"context"
	"errors"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
)

// A spyLog is a Log whose calls a test can see, hold up and let fail. Hooks are set
// before the call that they concern.
type spyLog struct {
	hub.Log
	read   func(q hub.Query, page hub.Page)                            // after each Read
	topic  func(ctx context.Context, name string) (ok bool, err error) // instead of Topic, if ok
	append func(g *hub.Group) (store bool, err error)                  // around Append: err is returned
	tail   func()                                                      // before each step of Tail
}

func (l *spyLog) Read(ctx context.Context, q hub.Query) (hub.Page, error) {
	page, err := l.Log.Read(ctx, q)
	if l.read != nil && err == nil {
		l.read(q, page)
	}
	return page, err
}

func (l *spyLog) Topic(ctx context.Context, name string) (hub.TopicInfo, error) {
	if l.topic != nil {
		if ok, err := l.topic(ctx, name); ok {
			return hub.TopicInfo{}, err
		}
	}
	return l.Log.Topic(ctx, name)
}

func (l *spyLog) Append(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
	if l.append == nil {
		return l.Log.Append(ctx, g)
	}
	store, err := l.append(g)
	var receipt hub.Receipt
	if store {
		var refused error
		if receipt, refused = l.Log.Append(ctx, g); refused != nil {
			return receipt, refused
		}
	}
	return receipt, err
}

func (l *spyLog) Tail(ctx context.Context, after uint64) iter.Seq2[[]hub.Record, error] {
	if l.tail == nil {
		return l.Log.Tail(ctx, after)
	}
	return func(yield func([]hub.Record, error) bool) {
		l.tail()
		for records, err := range l.Log.Tail(ctx, after) {
			if !yield(records, err) {
				return
			}
			l.tail()
		}
	}
}

// holdTail returns a function that holds up Tail, behind what it yields next, or lets it
// go.
func (l *spyLog) holdTail() (hold func(bool)) {
	var mu sync.Mutex
	held := false
	cond := sync.NewCond(&mu)
	l.tail = func() {
		mu.Lock()
		defer mu.Unlock()
		for held {
			cond.Wait()
		}
	}
	return func(on bool) {
		mu.Lock()
		defer mu.Unlock()
		held = on
		cond.Broadcast()
	}
}

func TestNew_RefusesOptions(t *testing.T) {
	log := newLog(t, nil)
	tests := []struct {
		name string
		opts *hub.Options
	}{
		{"none", nil},
		{"no log", &hub.Options{}},
		{"an origin with a path", &hub.Options{Log: log, AllowedOrigins: []string{"https://example.com/"}}},
		{"an origin without a scheme", &hub.Options{Log: log, AllowedOrigins: []string{"example.com"}}},
		{"an origin in upper case", &hub.Options{Log: log, AllowedOrigins: []string{"https://Example.com"}}},
		{"every origin with credentials", &hub.Options{Log: log, AllowedOrigins: []string{"*"}, AllowCredentials: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if h, err := hub.New(tt.opts); err == nil {
				_ = h.Shutdown(t.Context())
				t.Error("got a hub, want an error")
			}
		})
	}
}

// TestHub_KeepsToTheLogsLimits has a log that takes less than the hub's own limits
// allow: "the hub refuses beyond them".
func TestHub_KeepsToTheLogsLimits(t *testing.T) {
	h := newHub(t, hub.Options{Log: newLog(t, &memory.Options{Limits: hub.Limits{Group: 2, Bytes: 100}})})
	tests := []struct {
		name   string
		events []hub.Event
	}{
		{"event", []hub.Event{event("a", string(make([]byte, 101)))}},
		{"group", []hub.Event{event("a", ""), event("a", ""), event("a", "")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := h.Publish(t.Context(), hub.Publication{Events: tt.events})
			var e *hub.RequestError
			if !errors.As(err, &e) || e.Problem != hub.ProblemTooLarge {
				t.Errorf("got %v, want a *RequestError that says %q", err, hub.ProblemTooLarge)
			}
		})
	}
}

// TestHub_RepeatsWhatTheLogIsNotSureOf has a log that stores a group and does not know
// it: the hub asks again with the same group, and the event is there once.
func TestHub_RepeatsWhatTheLogIsNotSureOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &spyLog{Log: newLog(t, nil)}
		var ids []string
		log.append = func(g *hub.Group) (bool, error) {
			if ids = append(ids, g.ID); len(ids) < 3 {
				return true, hub.ErrIndeterminate
			}
			return true, nil
		}
		h := newHub(t, hub.Options{Log: log})
		publish(t, h, event("a", "1"))
		if len(ids) != 3 || ids[0] == "" || ids[0] != ids[1] || ids[1] != ids[2] {
			t.Errorf("got groups %q, want one group three times", ids)
		}
		if got, want := read(t, h, hub.Filter{Topics: []string{"a"}, From: hub.Start{Earliest: true}}).texts(), "1"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}

		// It gives up in a while, and at once with the context.
		log.append = func(*hub.Group) (bool, error) { return false, hub.ErrIndeterminate }
		began := time.Now()
		_, err := h.Publish(t.Context(), hub.Publication{Events: []hub.Event{event("a", "2")}})
		if !errors.Is(err, hub.ErrIndeterminate) || time.Since(began) > 10*time.Second {
			t.Errorf("got %v after %v, want ErrIndeterminate within some seconds", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		began = time.Now()
		if _, err := h.Publish(ctx, hub.Publication{Events: []hub.Event{event("a", "2")}}); !errors.Is(err, hub.ErrIndeterminate) || time.Since(began) > time.Millisecond {
			t.Errorf("got %v after %v, want ErrIndeterminate with the context", err, time.Since(began))
		}
	})
}

// TestHub_AGapInTheTailWakesSubscribers has a log that keeps so little for Tail that
// the hub must leave records out of its memory. Those who wait for them must get them
// from the log, and not wait for another.
func TestHub_AGapInTheTailWakesSubscribers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &spyLog{Log: newLog(t, &memory.Options{TailBytes: 1})}
		hold := log.holdTail()
		h := newHub(t, hub.Options{Log: log})
		exact, pattern := read(t, h, hub.Filter{Topics: []string{"a"}}), read(t, h, hub.Filter{Patterns: []string{"p/*"}})
		exact.take()
		pattern.take()

		hold(true)
		publish(t, h, event("z", "0")) // Tail has it, and is held up with it
		synctest.Wait()
		publish(t, h, event("a", "1"))
		publish(t, h, event("p/q", "2"))
		publish(t, h, event("z", "3"))
		hold(false)
		synctest.Wait()
		if got, want := exact.texts(), "1"; got != want {
			t.Errorf("exact topic: got %q, want %q", got, want)
		}
		if got, want := pattern.texts(), "2"; got != want {
			t.Errorf("pattern: got %q, want %q", got, want)
		}
	})
}

// TestHub_SubscribersSurviveAFailingTail has a log whose Tail fails for a while.
func TestHub_SubscribersSurviveAFailingTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &failingTail{Log: newLog(t, nil), fails: 5}
		h := newHub(t, hub.Options{Log: log})
		r := read(t, h, hub.Filter{Topics: []string{"a"}})
		r.take()
		publish(t, h, event("a", "1"), event("a", "2"))
		time.Sleep(time.Minute) // synctest's
		publish(t, h, event("a", "3"))
		if got, want := r.texts(), "1, 2, 3"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// A failingTail is a Log whose Tail fails a number of times.
type failingTail struct {
	hub.Log
	fails int // used by one goroutine
}

func (l *failingTail) Tail(ctx context.Context, after uint64) iter.Seq2[[]hub.Record, error] {
	if l.fails--; l.fails < 0 {
		return l.Log.Tail(ctx, after)
	}
	return func(yield func([]hub.Record, error) bool) { yield(nil, hub.ErrUnavailable) }
}

// TestHub_ALogThatIsClosedEndsSubscriptions says what a subscriber sees of it.
func TestHub_ALogThatIsClosedEndsSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog(t, nil)
		h := newHub(t, hub.Options{Log: log, HotBytes: 1})
		publish(t, h, event("a", "1"), event("a", "2"))
		synctest.Wait()
		_ = log.Close()
		steps := read(t, h, hub.Filter{Topics: []string{"a"}, From: hub.Start{Last: 1}}).all()
		if len(steps) != 2 || !errors.Is(steps[0].err, hub.ErrUnavailable) || !steps[1].ended {
			t.Errorf("got %v, want ErrUnavailable and the end", steps)
		}
		if _, err := h.Publish(t.Context(), hub.Publication{Events: []hub.Event{event("a", "3")}}); !errors.Is(err, hub.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	})
}
