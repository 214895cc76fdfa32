package hubtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/tidewire/tidewire/hub"
)

// publishUntilClosed appends a while, and again when the topic must be closed. It
// returns what was stored.
func publishUntilClosed(ctx context.Context, l hub.Log, closed <-chan struct{}) (stored []uint64, err error) {
	for n := 0; ; n++ {
		if n == 100 {
			select {
			case <-closed:
			case <-ctx.Done():
			}
		}
		r, err := l.Append(ctx, group("a", "one", "two"))
		if errors.Is(err, hub.ErrClosed) {
			if info, err := l.Topic(ctx, "a"); err != nil || !info.Closed {
				return nil, fmt.Errorf("refused before the topic is closed: got %+v (%w)", info, err)
			}
			return stored, nil
		}
		if err != nil {
			return nil, fmt.Errorf("append: %w", err)
		}
		if n >= 100 {
			return nil, fmt.Errorf("got sequences %d of a topic that was closed before", r.Sequences)
		}
		stored = append(stored, r.Sequences...)
		runtime.Gosched()
	}
}

func closeEndsPublishing(t *run) {
	const publishers = 32
	l := t.open(Config{})
	tail := l.tail(0)
	var mu sync.Mutex
	var stored []uint64
	closed := make(chan struct{})
	c := t.crew()
	c.add(publishers, func(ctx context.Context, _ int) error {
		seqs, err := publishUntilClosed(ctx, l.Log, closed)
		mu.Lock()
		defer mu.Unlock()
		stored = append(stored, seqs...)
		return err
	})
	c.add(1, func(ctx context.Context, _ int) error { return closeAfter(ctx, l.Log, 10*publishers, closed) })
	c.wait()

	slices.Sort(stored)
	l.expect(hub.Query{Topics: []string{"a"}}, stored...)
	records := tail.until(l.add("end", "end"))
	checkClosed(t, records, "a", 1)
	if got := len(events(records)) - 1; got != len(stored) {
		t.Errorf("tail yields %d events, want %d", got, len(stored))
	}
}

// closeAfter closes the topic when the order has come so far.
func closeAfter(ctx context.Context, l hub.Log, seq uint64, closed chan<- struct{}) error {
	for l.Head().Seq < seq && ctx.Err() == nil {
		runtime.Gosched()
	}
	if _, err := l.Append(ctx, &hub.Group{ID: rand.Text(), Close: []string{"a"}}); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	close(closed)
	return nil
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
			t.Fatalf("got sequence %d of %s, which was closed before", r.Seq, topic)
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

	var got []hub.Record
	for _, r := range tail.until(l.add("end", "end")) {
		if r.Seq > pair[1] && r.Kind == hub.KindClosed {
			got = append(got, r)
		}
	}
	if len(got) < 2 || got[0].Topics[0] != "a" || got[1].Topics[0] != "b" {
		t.Errorf("got Closed records %+v, want one of a and one of b", got)
	}

	l.forget("a")
	if info := l.info("a"); !info.Closed {
		t.Errorf("got %+v, want Forget to leave it closed", info)
	}
	l.refuse(group("a", "too late"), hub.ErrClosed)
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
	closed := make(chan struct{})
	c := t.crew()
	c.add(8, func(ctx context.Context, i int) error {
		_, err := publishUntilClosed(ctx, ls[i%2].Log, closed)
		return err
	})
	c.add(1, func(ctx context.Context, _ int) error { return closeAfter(ctx, ls[0].Log, 50, closed) })
	c.wait()
	end := ls[1].add("end", "end")
	for i, tail := range tails {
		checkClosed(t, tail.until(end), "a", 1)
		if info := ls[i].info("a"); !info.Closed {
			t.Errorf("handle %d: got %+v, want it closed", i, info)
		}
	}
}
