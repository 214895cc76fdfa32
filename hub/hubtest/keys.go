package hubtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// copyOf returns the group as a hub appends it again.
func copyOf(g *hub.Group) *hub.Group {
	again := *g
	return &again
}

// repeated checks that a group is known, and what the first one was told.
func (p *probe) repeated(g *hub.Group, first hub.Receipt) {
	p.t.Helper()
	r := p.put(copyOf(g))
	if !r.Replayed {
		p.t.Fatalf("got %+v, want it Replayed", r)
	}
	if !sameReceipt(r, first) {
		p.t.Fatalf("got %+v, want the first one's %+v", r, first)
	}
}

// storeOnce appends groups at once and checks that one of them is stored.
func storeOnce(t *run, ls []*probe, groups []*hub.Group) {
	t.Helper()
	var mu sync.Mutex
	var receipts []hub.Receipt
	c := t.crew()
	c.add(len(groups), func(ctx context.Context, i int) error {
		r, err := ls[i%len(ls)].Append(ctx, groups[i])
		if err != nil {
			return fmt.Errorf("append: %w", err)
		}
		mu.Lock()
		defer mu.Unlock()
		receipts = append(receipts, r)
		return nil
	})
	c.wait()
	first := 0
	for _, r := range receipts {
		if !r.Replayed {
			first++
		}
		if !sameReceipt(r, receipts[0]) {
			t.Fatalf("got receipts %+v and %+v for the same", receipts[0], r)
		}
	}
	if first != 1 {
		t.Fatalf("got %d receipts that are not Replayed, want 1", first)
	}
	ls[0].sync()
	ls[0].expect(hub.Query{Topics: groups[0].Events[0].Topics}, receipts[0].Sequences...)
}

func sameIDAtOnce(t *run) {
	l := t.open(Config{})
	for i := range 10 {
		g := group(fmt.Sprint("round ", i), "one", "two")
		groups := make([]*hub.Group, 8)
		for i := range groups {
			groups[i] = copyOf(g)
		}
		storeOnce(t, []*probe{l}, groups)
	}
}

func sameIDOnTwoHandles(t *run) {
	ls := t.handles(Config{}, 2)
	for i := range 10 {
		g := group(fmt.Sprint("round ", i), "one", "two")
		storeOnce(t, ls, []*hub.Group{g, copyOf(g), copyOf(g), copyOf(g)})
	}
}

func sameIDLater(t *run) {
	l := t.open(Config{})
	g := group("a", "one", "two")
	g.Close = []string{"b"}
	first := l.put(g)
	if first.Replayed {
		t.Fatalf("got %+v for a new group", first)
	}
	l.repeated(g, first)
	for range 200 {
		l.add("noise", "noise")
	}
	l.repeated(g, first)
	l.expect(hub.Query{Topics: []string{"a"}}, first.Sequences...)
}

func sameIDAfterCrash(t *run) {
	t.need(t.h.Reopen != nil, "Reopen")
	l := t.open(Config{})
	g := group("a", "one", "two")
	first := l.put(g)
	keyed := group("a", "three")
	keyed.Key = "key"
	second := l.put(keyed)
	for _, crash := range []bool{true, false} {
		l = t.reopen(l, crash)
		l.repeated(g, first)
		keyed.ID = rand.Text()
		l.repeated(keyed, second)
	}
	l.expect(hub.Query{Topics: []string{"a"}}, append(first.Sequences, second.Sequences...)...)
}

func sameKey(t *run) {
	l := t.open(Config{})
	g := group("a", "one", "two")
	g.Key, g.Sum = "key", [32]byte{1}
	first := l.put(g)
	again := group("a", "one", "two")
	again.Key, again.Sum = "key", [32]byte{1}
	l.repeated(again, first)

	other := group("a", "another body")
	other.Key, other.Sum = "key", [32]byte{1, 31: 1}
	l.refuse(other, hub.ErrKeyReused)
	l.expect(hub.Query{Topics: []string{"a"}}, first.Sequences...)

	// A key outlives its events.
	l.forget("a")
	again.ID = rand.Text()
	l.repeated(again, first)

	none := group("a", "no key")
	l.put(none)
	none.ID = rand.Text()
	if r := l.put(none); r.Replayed {
		t.Errorf("got %+v for a group without a key", r)
	}
}

func sameKeyAtOnce(t *run) {
	l := t.open(Config{})
	for i := range 10 {
		groups := make([]*hub.Group, 8)
		for n := range groups {
			groups[n] = group(fmt.Sprint("round ", i), "one", "two")
			groups[n].Key = "key"
		}
		storeOnce(t, []*probe{l}, groups)
	}
}

func scopeOfAKey(t *run) {
	l := t.open(Config{})
	keyed := func(topics ...string) *hub.Group {
		g := group("", "one", "two")
		g.Key = "key"
		g.Events[0].Topics = topics
		g.Events[1].Topics = []string{"later"}
		return g
	}
	first := l.put(keyed("a", "b", "c"))
	for _, topics := range [][]string{{"a"}, {"a", "b"}, {"b"}, {"a", "b", "c", "d"}, {"a/b", "c"}, {"A", "b", "c"}, {"later"}} {
		g := keyed(topics...)
		g.Sum = [32]byte{1} // another body, which would be refused
		if r := l.put(g); r.Replayed {
			t.Errorf("got %+v for topics %q, where the key is new", r, topics)
		}
	}
	for _, separator := range []string{"/", ",", " ", "|", "\u00a0"} {
		l.put(keyed("x"+separator+"y", "z"))
		if r := l.put(keyed("x", "y"+separator+"z")); r.Replayed {
			t.Errorf("got %+v for topics that differ in where %q stands", r, separator)
		}
	}
	l.repeated(keyed("a", "b", "c"), first)
	l.repeated(keyed("c", "a", "b"), first)
	// Without events, the topics are those that are closed.
	closing := &hub.Group{ID: rand.Text(), Key: "key", Close: []string{"p"}}
	receipt := l.put(closing)
	closing.ID = rand.Text()
	l.repeated(closing, receipt)
	if r := l.put(&hub.Group{ID: rand.Text(), Key: "key", Close: []string{"q"}}); r.Replayed || !l.info("q").Closed {
		t.Errorf("got %+v for closing another topic", r)
	}
	elsewhere := keyed("b", "c", "a")
	elsewhere.Events[1].Topics = []string{"elsewhere"}
	l.repeated(elsewhere, first)
}

// repeatsComeFirst repeats what would be refused if it were new.
func repeatsComeFirst(t *run) {
	l := t.open(Config{})
	g := group("a", "the last one")
	g.Key = "key"
	g.IfLast = ref(0)
	g.Close = []string{"a"}
	first := l.put(g)
	l.repeated(g, first)
	g.ID = rand.Text()
	l.repeated(g, first)
	l.expect(hub.Query{Topics: []string{"a"}}, first.Sequences...)
}

func manyKeys(t *run) {
	l := t.open(Config{})
	const n = 500
	var groups []*hub.Group
	var firsts []hub.Receipt
	for i := range n {
		g := group(fmt.Sprint(i%10), "one")
		g.Key, g.Sum = fmt.Sprint("key ", i/10), [32]byte{byte(i)}
		groups, firsts = append(groups, g), append(firsts, l.put(g))
	}
	for i, g := range groups {
		g.ID = rand.Text()
		l.repeated(g, firsts[i])
	}
}

func lifeOfAKey(t *run) {
	for _, life := range []struct{ set, real time.Duration }{{0, 24 * time.Hour}, {time.Minute, time.Minute}} {
		clock := t.clock()
		l := t.open(Config{Now: clock.Now, KeyLife: life.set})
		g := group("a", "one")
		g.Key = "key"
		first := l.put(g)
		clock.step(life.real - time.Second)
		l.add("clock", "tick")
		g.ID = rand.Text()
		l.repeated(g, first)
		clock.step(2 * time.Second)
		l.add("clock", "tick")
		anew := group("a", "another body")
		anew.Key, anew.Sum = "key", [32]byte{1}
		second := l.put(anew)
		if second.Replayed {
			t.Fatalf("life %v: got %+v after it", life.real, second)
		}
		anew.ID = rand.Text()
		l.repeated(anew, second)
	}
}

func sameEventID(t *run) {
	l := t.open(Config{Retention: hub.RetentionRules{{Pattern: "count", Retention: hub.Retention{Count: 1}}}})
	identified := func(topic string) uint64 {
		t.Helper()
		g := group(topic, "one")
		g.Events[0].ID = "id"
		return l.put(g).Sequences[0]
	}
	first := identified("count")
	second := identified("a")
	l.expect(hub.Query{Patterns: everything}, first, second)
	l.found(hub.Cursor{ID: "id"}, first)

	// Its first use is removed: the second one is another place.
	l.add("count", "two")
	switch loc := l.locate(hub.Cursor{ID: "id"}); {
	case loc.Lost == hub.Found && loc.Seq == first:
	case loc.Lost == hub.LostExpired || loc.Lost == hub.LostUnknown:
	default:
		t.Errorf("got %+v for an id whose first use, %d, is removed", loc, first)
	}
}
