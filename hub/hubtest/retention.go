package hubtest

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// kept checks what is left of a topic.
func (p *probe) kept(topic string, trimmed uint64, want ...uint64) {
	p.t.Helper()
	p.expect(hub.Query{Topics: []string{topic}}, want...)
	info := p.info(topic)
	if info.Count != int64(len(want)) || info.Trimmed != trimmed {
		p.t.Fatalf("topic %q: got %+v, want %d events, trimmed up to %d", topic, info, len(want), trimmed)
	}
	epoch := p.Head().Epoch
	if len(want) == 0 {
		if info.OldestID != "" || info.Newest < trimmed {
			p.t.Fatalf("topic %q: got %+v, want no oldest, and a newest", topic, info)
		}
		return
	}
	if info.Oldest != want[0] || info.Newest != last(want) || info.OldestID != hub.Position(epoch, want[0]) || info.NewestID != hub.Position(epoch, last(want)) {
		p.t.Fatalf("topic %q: got %+v, want %d to %d", topic, info, want[0], last(want))
	}
}

func retentionByCount(t *run) {
	l := t.open(Config{Retention: hub.RetentionRules{{Pattern: "a", Retention: hub.Retention{Count: 3}}}})
	var a []uint64
	for i := range 3 {
		a = append(a, l.add("a", "one"))
		l.kept("a", 0, a...)
		l.add("b", "one", "two")
		if got, want := l.info("b").Count, int64(2*i+2); got != want {
			t.Fatalf("got %d events of a topic without a rule, want %d", got, want)
		}
	}
	a = append(a, l.add("a", "four"))
	l.kept("a", a[0], a[1:]...)
	a = append(a, l.put(group("a", "5", "6", "7", "8", "9")).Sequences...)
	l.kept("a", a[5], a[6:]...)
}

func retentionByBytes(t *run) {
	l := t.open(Config{Retention: hub.RetentionRules{{Pattern: "a", Retention: hub.Retention{Bytes: 100}}}})
	sized := func(n int) uint64 { // an event of n bytes, but fewer characters
		t.Helper()
		g := group("a", "é"+strings.Repeat("x", n-len("aéfour")))
		g.Events[0].Type = "four"
		return l.put(g).Sequences[0]
	}
	first, second := sized(40), sized(40)
	third := sized(20)
	l.kept("a", 0, first, second, third) // exactly 100
	fourth := sized(10)
	l.kept("a", first, second, third, fourth) // 70
	fifth := sized(30)
	l.kept("a", first, second, third, fourth, fifth)
	sixth := sized(61)
	l.kept("a", fourth, fifth, sixth) // 91
}

func retentionByAge(t *run) {
	clock := t.clock()
	l := t.open(Config{Now: clock.Now, Retention: hub.RetentionRules{{Pattern: "a", Retention: hub.Retention{Age: time.Minute}}}})
	first := l.add("a", "first")
	clock.step(30 * time.Second)
	second := l.add("a", "second")
	clock.step(29 * time.Second)
	l.add("b", "tick")
	l.kept("a", 0, first, second)
	clock.step(2 * time.Second) // the first is 61 s old
	l.add("b", "tick")
	l.kept("a", first, second)
	clock.step(time.Hour)
	third := l.add("a", "third")
	l.kept("a", second, third)
	clock.step(time.Hour)
	l.closeTopic("c")
	l.kept("a", third)
	if n := l.info("b").Count; n != 2 {
		t.Errorf("got %d events of a topic without a rule, want 2", n)
	}
}

func firstRuleCounts(t *run) {
	l := t.open(Config{Retention: hub.RetentionRules{
		{Pattern: "a/keep", Retention: hub.Retention{}},
		{Pattern: "a/*", Retention: hub.Retention{Count: 2}},
		{Pattern: "a/**", Retention: hub.Retention{Count: 3}},
		{Pattern: "*/z", Retention: hub.Retention{Count: 1}},
	}})
	for topic, want := range map[string]int64{
		"a/keep": 5, "a/b": 2, "a/z": 2, "a": 3, "a/b/c": 3, "b/z": 1, "b/z/z": 5, "b": 5, "A/b": 5,
	} {
		l.put(group(topic, "1", "2", "3", "4", "5"))
		if got := l.info(topic).Count; got != want {
			t.Errorf("got %d events of %q, want %d", got, topic, want)
		}
	}
}

func eventsLiveByTopic(t *run) {
	l := t.open(Config{Retention: hub.RetentionRules{
		{Pattern: "a", Retention: hub.Retention{Count: 1}},
		{Pattern: "b", Retention: hub.Retention{Count: 2}},
	}})
	first := l.post("first", "a", "b")
	second := l.post("second", "a")
	l.kept("a", first, second)
	l.kept("b", 0, first)
	l.expect(hub.Query{Topics: []string{"a", "b"}}, first, second)
	l.expect(hub.Query{Patterns: everything}, first, second)
	l.found(hub.Cursor{Epoch: l.Head().Epoch, Seq: first}, first)
	if head := l.Head(); head.Oldest != first {
		t.Errorf("got %+v, want the oldest to be %d, which is kept under one topic", head, first)
	}
	for _, gap := range []struct {
		topic string
		want  bool
	}{{"a", true}, {"b", false}} {
		if page := l.page(hub.Query{Topics: []string{gap.topic}}); page.Gap != gap.want {
			t.Errorf("topic %s: got gap %v, want %v", gap.topic, page.Gap, gap.want)
		}
	}
	third := l.post("third", "b", "c")
	fourth := l.post("fourth", "c", "b")
	l.kept("b", first, third, fourth)
	l.kept("c", 0, third, fourth)
	l.expect(hub.Query{Patterns: everything}, second, third, fourth)
	if head := l.Head(); head.Oldest != second {
		t.Errorf("got %+v, want the oldest to be %d", head, second)
	}
	l.forget("c")
	l.kept("b", first, third, fourth)
	l.kept("c", fourth)
}

func gapTellsOfRemoval(t *run) {
	l := t.open(Config{Retention: hub.RetentionRules{{Pattern: "a/*", Retention: hub.Retention{Count: 2}}}})
	l.add("b", "never removed")
	var x, y []uint64
	for range 4 {
		x = append(x, l.add("a/x", "x"))
		y = append(y, l.add("a/y", "y"))
	}
	gap := func(want bool, q hub.Query) {
		t.Helper()
		for _, limit := range []int{0, 1} {
			q.Limit = limit
			if page := l.page(q); page.Gap != want {
				t.Errorf("read %+v: got gap %v, want %v", q, page.Gap, want)
			}
		}
	}
	// The first two of each are removed: x[0] < y[0] < x[1] < y[1].
	gap(true, hub.Query{Topics: []string{"a/x"}})
	gap(true, hub.Query{Topics: []string{"a/x"}, After: x[0]})
	gap(true, hub.Query{Topics: []string{"a/x"}, After: x[1] - 1})
	gap(false, hub.Query{Topics: []string{"a/x"}, After: x[1]})
	gap(false, hub.Query{Topics: []string{"a/x"}, After: x[3]})
	gap(true, hub.Query{Topics: []string{"a/x", "a/y"}, After: x[1]}) // y[1] is removed
	gap(false, hub.Query{Topics: []string{"a/x", "a/y"}, After: y[1]})
	gap(true, hub.Query{Topics: []string{"b", "a/x"}})
	gap(false, hub.Query{Topics: []string{"b"}})
	gap(false, hub.Query{Topics: []string{"nobody's", "a/X"}})
	gap(true, hub.Query{Patterns: []string{"a/*"}})
	gap(true, hub.Query{Patterns: []string{"*/y"}, After: x[1]})
	gap(true, hub.Query{Patterns: everything})
	gap(true, hub.Query{Topics: []string{"b"}, Patterns: []string{"a/**"}})
	gap(false, hub.Query{Patterns: everything, After: last(y)})
}

func forgetRemoves(t *run) {
	l := t.open(Config{})
	first := l.add("a", "first")
	shared := l.post("shared", "a", "b")
	l.add("b", "other")
	tail := l.tail(l.Head().Seq)
	l.forget("a")
	l.kept("a", shared)
	if n := l.info("b").Count; n != 2 {
		t.Errorf("got %d events of the other topic, want 2", n)
	}
	if info := l.info("a"); info.Newest != shared {
		t.Errorf("got %+v, want newest %d", info, shared)
	}
	for _, after := range []uint64{0, first, shared} {
		if page := l.page(hub.Query{Topics: []string{"a"}, After: after}); page.Gap != (after < shared) {
			t.Errorf("after %d: got gap %v of a topic forgotten up to %d", after, page.Gap, shared)
		}
	}
	next := l.add("a", "next")
	l.kept("a", shared, next)
	records := tail.until(next)
	if len(records) != 2 || records[0].Kind != hub.KindForgotten || !slices.Equal(records[0].Topics, []string{"a"}) || records[0].Seq >= next {
		t.Errorf("tail yields %+v, want Forgotten of a and an event", records)
	}
}

// tailTellsOfRemoval starts Tails below what was removed. They may have kept it; if
// not, they have to say so, and where they can begin.
func tailTellsOfRemoval(t *run) {
	l := t.open(Config{Retention: hub.RetentionRules{{Pattern: "a", Retention: hub.Retention{Count: 2}}}})
	all := []uint64{l.add("b", "kept")}
	for range 4 {
		all = append(all, l.add("a", "one"))
	}
	removed := all[2]
	for _, after := range []uint64{0, all[0], all[1], all[2], all[3]} {
		tail := l.tail(after)
		end := l.add("b", "end")
		all = append(all, end)
		if err := tail.ends(end); err != nil {
			var trimmed *hub.TrimmedError
			if !errors.As(err, &trimmed) {
				t.Fatalf("tail after %d: got %v, want a *TrimmedError", after, err)
			}
			if after >= removed {
				t.Fatalf("tail after %d: got %v, where nothing above %d is removed", after, err, removed)
			}
			if trimmed.After != after || trimmed.Oldest <= removed || trimmed.Oldest > all[3] {
				t.Fatalf("tail after %d: got %+v, want the oldest to be above %d, up to %d", after, *trimmed, removed, all[3])
			}
			after = trimmed.Oldest - 1
			tail = l.tail(after)
		}
		var want []uint64
		for _, seq := range all {
			if seq > after {
				want = append(want, seq)
			}
		}
		if got := sequences(events(tail.until(end))); !slices.Equal(got, want) {
			t.Fatalf("tail after %d: got %d, want %d", after, got, want)
		}
	}
	l.forget("a")
	l.forget("b")
	var trimmed *hub.TrimmedError
	tail := l.tail(0)
	next := l.add("c", "next")
	if err := tail.ends(next); errors.As(err, &trimmed) {
		if got := sequences(events(l.tail(trimmed.Oldest - 1).until(next))); !slices.Equal(got, []uint64{next}) {
			t.Errorf("tail from %+v: got %d, want %d", *trimmed, got, next)
		}
	} else if got := sequences(events(tail.until(next))); !slices.Equal(got, append(all, next)) {
		t.Errorf("tail after 0: got %d, want all or a *TrimmedError", got)
	}
}
