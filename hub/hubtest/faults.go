package hubtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tidewire/tidewire/hub"
)

// numbered returns a group whose events tell which group they are of, and which event
// of how many.
func numbered(topic, name string, n int) *hub.Group {
	g := group(topic)
	for i := range n {
		g.Events = append(g.Events, hub.Event{
			Type: fmt.Sprintf("%d of %d", i, n), Data: name, Topics: []string{fmt.Sprintf("%s/%d", topic, i%2), topic},
		})
	}
	return g
}

// wholeGroups returns an error if there are numbered groups in part. If the records
// begin in the middle, the first group may lack its beginning.
func wholeGroups(records []hub.Record, fromMiddle bool) error {
	seen := make(map[string]int)
	for k, r := range records {
		var i, n int
		if _, err := fmt.Sscanf(r.Event.Type, "%d of %d", &i, &n); err != nil {
			continue
		}
		if k == 0 && fromMiddle {
			seen[r.Event.Data] = i
		}
		if seen[r.Event.Data] != i {
			return fmt.Errorf("group %q: got event %d after %d", r.Event.Data, i, seen[r.Event.Data])
		}
		if seen[r.Event.Data]++; i == n-1 {
			delete(seen, r.Event.Data)
		}
	}
	for name, n := range seen {
		return fmt.Errorf("group %q: got only the first %d events", name, n)
	}
	return nil
}

func groupsAreSeenWhole(t *run) {
	l := t.open(Config{})
	done := make(chan struct{})
	var left atomic.Int64
	left.Store(4)
	c := t.crew()
	c.add(4, func(ctx context.Context, i int) error {
		defer func() {
			if left.Add(-1) == 0 {
				close(done)
			}
		}()
		for n := range 60 {
			if _, err := l.Append(ctx, numbered("a", fmt.Sprint(i, " ", n), 5)); err != nil {
				return fmt.Errorf("append: %w", err)
			}
		}
		return nil
	})
	c.add(2, func(ctx context.Context, i int) error {
		for {
			// Head is where a group ends.
			head := l.Head().Seq
			q := hub.Query{Topics: []string{"a"}, After: head - min(head, 100), Until: head, Limit: 7 + i}
			records, err := readAll(ctx, l.Log, q)
			if err != nil {
				return err
			}
			if err := wholeGroups(records, true); err != nil {
				return fmt.Errorf("read up to head: %w", err)
			}
			select {
			case <-done:
				return nil
			case <-ctx.Done():
				return nil
			default:
			}
		}
	})
	c.wait()
}

func reopenKeepsAll(t *run) {
	t.need(t.h.Reopen != nil, "Reopen")
	l := t.open(Config{Retention: hub.RetentionRules{{Pattern: "own/0", Retention: hub.Retention{Count: 5}}}})
	c := t.crew()
	c.add(2, func(ctx context.Context, i int) error { return mixture(ctx, l.Log, i, 70) })
	c.wait()
	l.forget("own/1")
	keyed := group("a", "one")
	keyed.Key = "key"
	first := l.put(keyed)

	topics := []string{"shared", "own/0", "own/1", "contest", "closed/5", "a", "nobody's"}
	queries := []hub.Query{{Patterns: everything}}
	for _, topic := range topics {
		queries = append(queries, hub.Query{Topics: []string{topic}})
	}
	cursors := []hub.Cursor{{ID: "id 2"}, {ID: "id 9"}, {ID: "nobody's"}, {Epoch: first.Epoch, Seq: 2}, {Since: first.Time}}
	type view struct {
		head   hub.Head
		pages  []hub.Page
		topics []hub.TopicInfo
		places []hub.Location
	}
	look := func() (v view) {
		v.head = l.Head()
		for _, q := range queries {
			v.pages = append(v.pages, l.page(q))
		}
		for _, topic := range topics {
			v.topics = append(v.topics, l.info(topic))
		}
		for _, c := range cursors {
			v.places = append(v.places, l.locate(c))
		}
		return v
	}
	before := look()
	for _, crash := range []bool{false, true} {
		l = t.reopen(l, crash)
		after := look()
		if after.head.Epoch != before.head.Epoch || after.head.Seq < before.head.Seq || after.head.Oldest != before.head.Oldest {
			t.Errorf("crash %v: got head %+v, want %+v", crash, after.head, before.head)
		}
		for i, q := range queries {
			agree(t, fmt.Sprintf("crash %v: %+v", crash, q), after.pages[i].Records, before.pages[i].Records)
			if after.pages[i].Gap != before.pages[i].Gap {
				t.Errorf("crash %v: %+v: got gap %v", crash, q, after.pages[i].Gap)
			}
		}
		if !slices.Equal(after.topics, before.topics) {
			t.Errorf("crash %v: got topics\n%+v, want\n%+v", crash, after.topics, before.topics)
		}
		if !slices.Equal(after.places, before.places) {
			t.Errorf("crash %v: got places %+v, want %+v", crash, after.places, before.places)
		}
		l.refuse(group("closed/5", "too late"), hub.ErrClosed)
		keyed.ID = rand.Text()
		l.repeated(keyed, first)
	}
}

// crashUnderLoad crashes while publishers append and a Tail follows.
func crashUnderLoad(t *run) {
	t.need(t.h.Reopen != nil, "Reopen")
	l := t.open(Config{})
	tail := l.tail(0)
	var mu sync.Mutex
	stored := make(map[uint64]string) // by the sequence of a group's first event
	enough := make(chan struct{})
	var crashing atomic.Bool
	c := t.crew()
	c.add(8, func(ctx context.Context, i int) error {
		for n := 0; ; n++ {
			g := numbered("a", fmt.Sprint(i, " ", n), 3)
			r, err := l.Append(ctx, g)
			if crashing.Load() && err != nil {
				return nil
			}
			if err != nil {
				return fmt.Errorf("append: %w", err)
			}
			mu.Lock()
			stored[r.Sequences[0]] = g.Events[0].Data
			if len(stored) == 50 {
				close(enough)
			}
			mu.Unlock()
			runtime.Gosched() // to the one who crashes
		}
	})
	select {
	case <-enough:
	case <-c.ctx.Done():
		c.wait()
	}
	crashing.Store(true)
	again := t.reopen(l, true)
	c.wait()
	tail.finish()

	records := again.all(hub.Query{Topics: []string{"a"}})
	t.must(wholeGroups(records, false))
	kept := make(map[uint64]hub.Record)
	for _, r := range records {
		kept[r.Seq] = r
	}
	for seq, name := range stored {
		if r, ok := kept[seq]; !ok || r.Event.Data != name {
			t.Errorf("group %q was stored at %d, and is lost in the crash", name, seq)
		}
	}
	keepsSeen(t, tail, kept)
	if seq := again.add("a", "next"); len(records) > 0 && seq <= last(records).Seq {
		t.Errorf("got sequence %d after %d", seq, last(records).Seq)
	}
}

// keepsSeen checks that what a Tail yielded before a crash is there after it: a
// subscriber may have it.
func keepsSeen(t *run, tail *tailer, kept map[uint64]hub.Record) {
	t.Helper()
	for _, r := range events(tail.records()) {
		if d := difference([]hub.Record{kept[r.Seq]}, []hub.Record{r}); d != "" {
			t.Fatalf("seen before the crash, not after it: %s", d)
		}
	}
}

// crashAtAnyPoint crashes at the first step of writing, at the second, and so on, until
// a script of appends ends before the crash.
func crashAtAnyPoint(t *run) {
	t.need(t.h.Reopen != nil, "Reopen")
	t.need(t.h.Fail != nil, "Fail")
	const most = 500
	for step := 1; crashesAt(t, step); step++ {
		if step == most {
			t.Fatalf("a crash at step %d stops a few appends: Fail does not count", most)
		}
	}
}

// crashesAt runs a script that should crash at a step; it returns false if the script
// came to its end.
func crashesAt(t *run, step int) bool {
	l := t.open(Config{})
	tail := l.tail(0)
	t.h.Fail(t, l.Log, Crash, step)
	script := []*hub.Group{
		group("a", "one"),
		group("a", "two", "three", "four"),
		group("a", "five", "six"),
		group("a", "seven", "eight"),
	}
	script[1].Key = "key"
	script[2].Close = []string{"b"}
	var receipts []hub.Receipt
	for _, g := range script {
		r, err := l.Append(t.ctx, g)
		if err != nil {
			break
		}
		receipts = append(receipts, r)
	}
	if len(receipts) == len(script) {
		if step == 1 {
			t.Fatal("got success from every append, want a crash at the first step")
		}
		return false
	}
	tail.finish()
	l = t.reopen(l, true)

	var stored, whole []string // without and with the group in flight
	var seqs []uint64
	for i, r := range receipts {
		stored = append(stored, data(script[i])...)
		seqs = append(seqs, r.Sequences...)
	}
	flight := script[len(receipts)]
	whole = append(slices.Clone(stored), data(flight)...)
	records := l.all(hub.Query{Topics: []string{"a"}})
	kept := make(map[uint64]hub.Record)
	var got []string
	for _, r := range records {
		kept[r.Seq] = r
		got = append(got, r.Event.Data)
	}
	switch {
	case !slices.Equal(got, stored) && !slices.Equal(got, whole):
		t.Fatalf("crash at step %d: got %q, want %q or %q", step, got, stored, whole)
	case !slices.Equal(sequences(records)[:len(seqs)], seqs):
		t.Fatalf("crash at step %d: got sequences %d, want those of the receipts, %d", step, sequences(records), seqs)
	case l.info("b").Closed != (len(got) >= 6):
		t.Fatalf("crash at step %d: got %q and %+v, want both or neither of the third group", step, got, l.info("b"))
	}
	keepsSeen(t, tail, kept)

	for _, g := range script {
		l.put(copyOf(g))
	}
	got = nil
	for _, r := range l.all(hub.Query{Topics: []string{"a"}}) {
		got = append(got, r.Event.Data)
	}
	if want := slices.Concat(data(script[0]), data(script[1]), data(script[2]), data(script[3])); !slices.Equal(got, want) {
		t.Fatalf("crash at step %d: got %q after all was repeated, want %q", step, got, want)
	}
	return true
}

func data(g *hub.Group) []string {
	var all []string
	for _, ev := range g.Events {
		all = append(all, ev.Data)
	}
	return all
}

func failingSync(t *run) {
	t.need(t.h.Reopen != nil, "Reopen")
	t.need(t.h.Fail != nil, "Fail")
	l := t.open(Config{})
	before := l.add("a", "before")
	tail := l.tail(0)
	t.h.Fail(t, l.Log, FailSync, 1)

	// Some at once, because they may share a sync.
	groups := make([]*hub.Group, 8)
	for i := range groups {
		groups[i] = group("a", fmt.Sprint("unknown ", i))
	}
	var unknown, stored atomic.Int64
	c := t.crew()
	c.add(len(groups), func(ctx context.Context, i int) error {
		switch _, err := l.Append(ctx, groups[i]); {
		case err == nil:
			stored.Add(1)
		case errors.Is(err, hub.ErrIndeterminate):
			unknown.Add(1)
		case !errors.Is(err, hub.ErrUnavailable):
			return fmt.Errorf("append: got %w, want ErrIndeterminate or ErrUnavailable", err)
		}
		return nil
	})
	c.wait()
	if unknown.Load() == 0 || stored.Load() > 0 {
		t.Fatalf("got %d times success and %d times ErrIndeterminate after a sync that failed", stored.Load(), unknown.Load())
	}
	l.refuse(group("a", "later"), hub.ErrUnavailable)
	for _, g := range groups {
		// A repeat may still say that the first try may be stored.
		if r, err := l.Append(t.ctx, copyOf(g)); !errors.Is(err, hub.ErrUnavailable) && !errors.Is(err, hub.ErrIndeterminate) {
			t.Fatalf("repeat: got %+v with error %v, want ErrUnavailable or ErrIndeterminate", r, err)
		}
	}
	if seen := l.all(hub.Query{Topics: []string{"a"}}); len(seen) == 0 || seen[0].Seq != before {
		t.Errorf("got %d from Read, want %d first", sequences(seen), before)
	}
	tail.until(before)
	tail.finish()

	l = t.reopen(l, true)
	kept := make(map[uint64]hub.Record)
	for _, r := range l.all(hub.Query{Topics: []string{"a"}}) {
		kept[r.Seq] = r
	}
	keepsSeen(t, tail, kept)
	for _, g := range groups {
		l.put(copyOf(g))
	}
	if got := len(l.all(hub.Query{Topics: []string{"a"}})); got != 1+len(groups) {
		t.Errorf("got %d events after all was repeated, want %d", got, 1+len(groups))
	}
}

func failingWrite(t *run) {
	t.need(t.h.Reopen != nil, "Reopen")
	t.need(t.h.Fail != nil, "Fail")
	l := t.open(Config{})
	l.add("a", "before")
	t.h.Fail(t, l.Log, FailWrite, 1)
	g := group("a", "one", "two", "three")
	_, err := l.Append(t.ctx, g)
	if !errors.Is(err, hub.ErrUnavailable) && !errors.Is(err, hub.ErrIndeterminate) {
		t.Fatalf("got %v, want ErrUnavailable or ErrIndeterminate", err)
	}
	l = t.reopen(l, true)
	switch n := len(l.all(hub.Query{Topics: []string{"a"}})); {
	case n != 1 && n != 4:
		t.Errorf("got %d events, want 1 or 4", n)
	case n == 4 && errors.Is(err, hub.ErrUnavailable):
		t.Error("got ErrUnavailable for a group that was stored")
	}
	l.put(copyOf(g))
	if n := len(l.all(hub.Query{Topics: []string{"a"}})); n != 4 {
		t.Errorf("got %d events after a repeat, want 4", n)
	}
}

func outageIsSurvived(t *run) {
	t.need(t.h.Outage != nil, "Outage")
	l := t.open(Config{})
	tail := l.tail(0)
	before := l.add("a", "before")
	tail.until(before)
	restored := t.h.Outage(t, l.Log)

	var groups []*hub.Group
	for i := range 3 {
		g := group("a", fmt.Sprint("during ", i))
		g.Events[0].ID = fmt.Sprint("during ", i)
		groups = append(groups, g)
		c := t.crew()
		c.add(1, func(ctx context.Context, _ int) error {
			ctx, cancel := context.WithTimeout(ctx, t.patience/30)
			defer cancel()
			if _, err := l.Append(ctx, g); !errors.Is(err, hub.ErrUnavailable) && !errors.Is(err, hub.ErrIndeterminate) {
				return fmt.Errorf("append in an outage: got %v, want ErrUnavailable or ErrIndeterminate", err)
			}
			return nil
		})
		c.wait()
	}
	l.expect(hub.Query{Topics: []string{"a"}, Until: before}, before)
	l.found(hub.Cursor{Epoch: l.Head().Epoch, Seq: before}, before)
	if info := l.info("a"); info.Count == 0 {
		t.Errorf("got %+v in an outage", info)
	}

	restored()
	for _, g := range groups {
		l.put(copyOf(g))
	}
	end := l.add("a", "after")
	var got []string
	for _, r := range events(tail.until(end)) {
		got = append(got, r.Event.Data)
	}
	slices.Sort(got)
	if want := []string{"after", "before", "during 0", "during 1", "during 2"}; !slices.Equal(got, want) {
		t.Errorf("tail yields %q, want %q each once", got, want)
	}
}
