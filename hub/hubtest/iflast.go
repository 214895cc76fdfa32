package hubtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/tidewire/tidewire/hub"
)

func ifLastHasOneWinner(t *run) {
	contend(t, []*probe{t.open(Config{})}, 32)
}

// contend lets publishers expect the same newest event, round by round. Whoever loses
// must be told of the winner, which shows whether handles judge in the same order.
func contend(t *run, ls []*probe, publishers int) {
	expect := uint64(0)
	for round := range 20 {
		var mu sync.Mutex
		var won, conflicts []uint64
		c := t.crew()
		c.add(publishers, func(ctx context.Context, i int) error {
			g := group("contest", fmt.Sprintf("round %d, publisher %d", round, i))
			g.IfLast = ref(expect)
			r, err := ls[i%len(ls)].Append(ctx, g)
			var conflict *hub.ConflictError
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won = append(won, r.Sequences...)
			case errors.As(err, &conflict):
				conflicts = append(conflicts, conflict.Newest)
			default:
				return fmt.Errorf("append: %w", err)
			}
			return nil
		})
		c.wait()
		if len(won) != 1 {
			t.Fatalf("got winners %d where %d was the newest, want one", won, expect)
		}
		expect = won[0]
		if slices.ContainsFunc(conflicts, func(newest uint64) bool { return newest != expect }) {
			t.Fatalf("got conflicts with %d, want with the winner %d", conflicts, expect)
		}
	}
}

// winnersAreAChain lets publishers go on from each conflict, as they would.
func winnersAreAChain(t *run) {
	const publishers, wins = 32, 3
	l := t.open(Config{})
	var mu sync.Mutex
	next := make(map[uint64]uint64) // from the sequence that was expected to the one that won
	c := t.crew()
	c.add(publishers, func(ctx context.Context, i int) error {
		expect := uint64(0)
		for won := 0; won < wins; {
			g := group("contest", fmt.Sprint("publisher ", i))
			g.IfLast = ref(expect)
			r, err := l.Append(ctx, g)
			var conflict *hub.ConflictError
			switch {
			case errors.As(err, &conflict):
				if conflict.Newest == expect {
					return fmt.Errorf("refused because the newest is %d, which was expected", expect)
				}
				expect = conflict.Newest
				runtime.Gosched()
				continue
			case err != nil:
				return fmt.Errorf("append: %w", err)
			}
			mu.Lock()
			other := next[expect]
			next[expect] = r.Sequences[0]
			mu.Unlock()
			if other != 0 {
				return fmt.Errorf("got winners %d and %d where %d was the newest", other, r.Sequences[0], expect)
			}
			expect = r.Sequences[0]
			won++
			runtime.Gosched()
		}
		return nil
	})
	c.wait()
	n := 0
	for seq := next[0]; seq != 0; seq = next[seq] {
		n++
	}
	if n != publishers*wins {
		t.Errorf("got a chain of %d winners, want %d", n, publishers*wins)
	}
	if got := len(l.all(hub.Query{Topics: []string{"contest"}})); got != publishers*wins {
		t.Errorf("got %d events, want those of %d winners", got, publishers*wins)
	}
}

// ifLastIsRefusedByItsTopicOnly lets other topics be written between any two appends
// of one topic's only publisher, and at the same time.
func ifLastIsRefusedByItsTopicOnly(t *run) {
	const owners, others = 8, 8
	l := t.open(Config{})
	newest := make([]uint64, owners)
	for range 30 {
		c := t.crew()
		c.add(owners, func(ctx context.Context, i int) error {
			g := group(fmt.Sprint("own/", i), "mine")
			g.Events[0].Topics = append(g.Events[0].Topics, "shared")
			g.IfLast = ref(newest[i])
			r, err := l.Append(ctx, g)
			if err != nil {
				return fmt.Errorf("append, alone on the topic: %w", err)
			}
			newest[i] = r.Sequences[0]
			return nil
		})
		c.add(others, func(ctx context.Context, i int) error {
			if _, err := l.Append(ctx, group([]string{"shared", "noise"}[i%2], "noise")); err != nil {
				return fmt.Errorf("plain append: %w", err)
			}
			return nil
		})
		c.wait()
	}
}

func ifLastComparesTheNewest(t *run) {
	l := t.open(Config{})
	first := group("a", "first")
	first.IfLast = ref(0)
	seq := l.put(first).Sequences[0]

	// conflicts checks what a wrong expectation is told.
	conflicts := func(expect, newest uint64, id string) {
		t.Helper()
		g := group("a", "refused")
		g.IfLast = ref(expect)
		got := l.conflict(g)
		if got.Topic != "a" || got.Newest != newest || got.NewestID != id {
			t.Errorf("got %+v, want topic a, newest %d, %q", *got, newest, id)
		}
	}
	epoch := l.Head().Epoch
	conflicts(0, seq, hub.Position(epoch, seq))
	conflicts(seq+1, seq, hub.Position(epoch, seq))

	// What counts is the topic, be it the event's first or not.
	g := group("b", "under two topics")
	g.Events[0].Topics, g.Events[0].ID = []string{"b", "a"}, "two"
	g.IfLast = ref(0) // of b
	two := l.put(g).Sequences[0]
	conflicts(seq, two, "two")

	// The canonical topic of the first event is compared, as it is before the group.
	g = group("a", "x", "y")
	g.Events[1].Topics = []string{"c"}
	g.IfLast = ref(two)
	pair := l.put(g).Sequences
	conflicts(two, pair[0], hub.Position(epoch, pair[0]))

	// A group without events is about what it closes.
	closing := &hub.Group{ID: rand.Text(), Close: []string{"a", "b"}, IfLast: ref(two)}
	if got := l.conflict(closing); got.Topic != "a" || got.Newest != pair[0] {
		t.Errorf("got %+v, want topic a, newest %d", *got, pair[0])
	}
	if info := l.info("a"); info.Closed {
		t.Errorf("got %+v after a conflict, want it open", info)
	}
	closing.IfLast = ref(pair[0])
	l.put(closing)

	unnamed := group("nobody's", "refused")
	unnamed.IfLast = ref(seq)
	if got := l.conflict(unnamed); got.Newest != 0 || got.NewestID != "" {
		t.Errorf("got %+v for a topic that nobody named, want no newest", *got)
	}
	unnamed.IfLast = ref(0)
	l.put(unnamed)
}

// refusedGroupsLeaveNothing has groups refused that would have changed every table.
func refusedGroupsLeaveNothing(t *run) {
	l := t.open(Config{})
	seq := l.add("a", "first")
	l.closeTopic("closed")
	used := group("k", "first")
	used.Key = "used"
	end := l.put(used).Sequences[0]
	tail := l.tail(end)

	conflict, closed, reused := group("a", "x", "y"), group("a", "x", "y"), group("k", "x", "y")
	for _, g := range []*hub.Group{conflict, closed, reused} {
		g.Events[0].ID, g.Events[1].ID = "refused 1", "refused 2"
		g.Events[1].Topics = []string{"b"}
		g.Close, g.Forget = []string{"b"}, "a"
	}
	conflict.IfLast, conflict.Key = ref(seq+1), "unused"
	closed.Events[1].Topics = []string{"b", "closed"}
	reused.Key, reused.Sum = "used", [32]byte{1}
	_ = l.conflict(conflict)
	l.refuse(closed, hub.ErrClosed)
	l.refuse(reused, hub.ErrKeyReused)

	l.expect(hub.Query{Patterns: everything}, seq, end)
	l.lost(hub.Cursor{ID: "refused 1"}, hub.LostUnknown)
	l.lost(hub.Cursor{ID: "refused 2"}, hub.LostUnknown)
	if info := l.info("b"); info != (hub.TopicInfo{}) {
		t.Errorf("got %+v of a topic that only refused groups named", info)
	}
	if info := l.info("a"); info.Count != 1 || info.Newest != seq {
		t.Errorf("got %+v of a topic that refused groups would have changed", info)
	}
	mark := l.add("end", "end")
	if got := sequences(tail.until(mark)); len(got) != 1 {
		t.Errorf("tail yields %d, want only %d", got, mark)
	}
	again := group("a", "another body")
	again.Key, again.Sum = "unused", [32]byte{1}
	if r := l.put(again); r.Replayed {
		t.Errorf("got %+v for a key that was refused before", r)
	}
}

func ifLastOutlivesTheEvent(t *run) {
	clock := t.clock()
	l := t.open(Config{Now: clock.Now, Retention: hub.RetentionRules{
		{Pattern: "age", Retention: hub.Retention{Age: time.Minute}},
	}})
	for _, topic := range []string{"age", "forgotten"} {
		g := group(topic, "first")
		g.Events[0].ID = "id of " + topic
		seq := l.put(g).Sequences[0]
		if topic == "forgotten" {
			l.forget(topic)
		} else {
			clock.step(2 * time.Minute)
			l.add("clock", "tick")
		}
		if info := l.info(topic); info.Count != 0 || info.Newest != seq || info.NewestID != "id of "+topic {
			t.Errorf("got %+v, want no event and newest %d", info, seq)
		}
		next := group(topic, "next")
		next.IfLast = ref(0)
		if got := l.conflict(next); got.Newest != seq || got.NewestID != "id of "+topic {
			t.Errorf("got %+v, want newest %d", *got, seq)
		}
		next.IfLast = ref(seq)
		l.put(next)
	}
}
