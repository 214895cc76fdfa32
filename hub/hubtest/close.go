package hubtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/tidewire/tidewire/hub"
)

func closeEndsPublishing(t *run) {
	const publishers = 32
	l := t.open(Config{})
	tail := l.tail(0)
	var mu sync.Mutex
	var stored []uint64
	enough := make(chan struct{})
	c := t.crew()
	c.add(publishers, func(ctx context.Context, _ int) error {
		for {
			r, err := l.Append(ctx, group("a", "one", "two"))
			if errors.Is(err, hub.ErrClosed) {
				if info, err := l.Topic(ctx, "a"); err != nil || !info.Closed {
					return fmt.Errorf("refused before the topic is closed: got %+v (%v)", info, err)
				}
				return nil
			}
			if err != nil {
				return fmt.Errorf("append: %w", err)
			}
			mu.Lock()
			stored = append(stored, r.Sequences...)
			if len(stored) == 10*publishers {
				close(enough)
			}
			mu.Unlock()
		}
	})
	c.add(1, func(ctx context.Context, _ int) error {
		select {
		case <-enough:
		case <-ctx.Done():
		}
		if _, err := l.Append(ctx, &hub.Group{ID: rand.Text(), Close: []string{"a"}}); err != nil {
			return fmt.Errorf("close: %w", err)
		}
		return nil
	})
	c.wait()

	slices.Sort(stored)
	l.expect(hub.Query{Topics: []string{"a"}}, stored...)
	records := tail.until(l.add("end", "end"))
	checkClosed(t, records, "a", 1)
	if got := len(events(records)) - 1; got != len(stored) {
		t.Errorf("tail yields %d events, want %d", got, len(stored))
	}
}

// checkClosed checks that a topic's Closed comes last and that often.
func checkClosed(t *run, records []hub.Record, topic string, want int) {
	t.Helper()
	got := 0
	for _, r := range records {
		switch {
		case r.Kind == hub.KindClosed && slices.Equal(r.Topics, []string{topic}):
			got++
		case r.Kind == hub.KindEvent && got > 0 && slices.Contains(r.Topics, topic):
			t.Fatalf("sequence %d of %s comes after Closed", r.Seq, topic)
		}
	}
	if got != want {
		t.Fatalf("got %d Closed records of %s, want %d", got, topic, want)
	}
}

func closingIsFinal(t *run) {
	l := t.open(Config{})
	tail := l.tail(0)

	// With its last events.
	g := group("a", "one", "two")
	g.Close = []string{"a", "b"} // b is named by nobody else
	pair := l.put(g).Sequences
	if info := l.info("a"); !info.Closed || info.Newest != pair[1] || info.Count != 2 {
		t.Errorf("got %+v, want it closed after 2 events with newest %d", info, pair[1])
	}
	if info := l.info("b"); !info.Closed || info.Count != 0 || info.Newest != 0 {
		t.Errorf("got %+v, want it closed and empty", info)
	}
	l.refuse(group("a", "too late"), hub.ErrClosed)
	l.refuse(group("b", "too late"), hub.ErrClosed)

	l.closeTopic("a") // is no error
	l.forget("a")
	if info := l.info("a"); !info.Closed {
		t.Errorf("got %+v, want Forget to leave it closed", info)
	}
	l.refuse(group("a", "too late"), hub.ErrClosed)

	var got []hub.Record
	for _, r := range tail.until(l.add("end", "end")) {
		if r.Seq > pair[1] && r.Kind == hub.KindClosed {
			got = append(got, r)
		}
	}
	if len(got) < 2 || got[0].Topics[0] != "a" || got[1].Topics[0] != "b" || got[0].Seq >= got[1].Seq {
		t.Errorf("got Closed records %+v, want one of a and one of b, each with a sequence", got)
	}
}

func closedTopicRefusesGroup(t *run) {
	l := t.open(Config{})
	l.closeTopic("closed")
	second := group("a", "one")
	second.Events[0].Topics = []string{"a", "closed"}
	l.refuse(second, hub.ErrClosed)
	later := group("a", "one", "two", "three")
	later.Events[2].Topics = []string{"b", "closed"}
	l.refuse(later, hub.ErrClosed)
	l.expect(hub.Query{Patterns: everything})
	l.add("a", "open")
}

func closeReachesHandles(t *run) {
	ls := t.handles(Config{}, 2)
	tails := []*tailer{ls[0].tail(0), ls[1].tail(0)}
	c := t.crew()
	c.add(8, func(ctx context.Context, i int) error {
		for {
			_, err := ls[i%2].Append(ctx, group("a", "one"))
			if errors.Is(err, hub.ErrClosed) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("append on handle %d: %w", i%2, err)
			}
		}
	})
	c.add(1, func(ctx context.Context, _ int) error {
		if _, err := ls[0].Append(ctx, &hub.Group{ID: rand.Text(), Close: []string{"a"}}); err != nil {
			return fmt.Errorf("close: %w", err)
		}
		return nil
	})
	c.wait()
	end := ls[1].add("end", "end")
	for i, tail := range tails {
		checkClosed(t, tail.until(end), "a", 1)
		if info := ls[i].info("a"); !info.Closed {
			t.Errorf("handle %d: got %+v, want it closed", i, info)
		}
	}
}
