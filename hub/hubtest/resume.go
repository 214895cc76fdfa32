package hubtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tidewire/tidewire/hub"
)

func pagesAreBounded(t *run) {
	l := t.open(Config{})
	var a, b []uint64
	for range 20 {
		a = append(a, l.add("a", "0123456789")) // 11 bytes each
		b = append(b, l.add("b", "other"))
	}
	first := func(q hub.Query, want ...uint64) hub.Page {
		t.Helper()
		q.Topics = []string{"a"}
		page := l.page(q)
		if got := sequences(page.Records); !slices.Equal(got, want) {
			t.Errorf("read %+v: got %d, want %d", q, got, want)
		}
		return page
	}
	first(hub.Query{Limit: 3}, a[:3]...)
	first(hub.Query{Limit: 3, After: a[4]}, a[5:8]...)
	first(hub.Query{Limit: 30}, a...)
	first(hub.Query{Limit: 30, After: a[4], Until: a[6]}, a[5:7]...)
	first(hub.Query{Limit: 30, After: a[4], Until: a[5] - 1})
	first(hub.Query{Limit: 30, After: a[4], Until: last(a) + 1000}, a[5:]...)
	first(hub.Query{Bytes: 1}, a[0])
	first(hub.Query{Bytes: 11, After: a[0]}, a[1])
	if n := len(l.page(hub.Query{Topics: []string{"a"}, Bytes: 30}).Records); n < 2 || n > 3 {
		t.Errorf("got %d records of 11 bytes where 30 are asked for, want 2 or 3", n)
	}
	if n := len(l.page(hub.Query{Topics: []string{"a"}}).Records); n == 0 {
		t.Error("got no records of a Log's own page size")
	}
	for _, q := range []hub.Query{{Limit: 1}, {Limit: 3}, {Bytes: 1}, {Bytes: 30}, {Limit: 2, Bytes: 12}, {}} {
		q.Topics = []string{"a"}
		l.expect(q, a...)
	}
	l.expect(hub.Query{Topics: []string{"a", "b"}, Patterns: []string{"a", "*", "**"}, After: a[18], Limit: 1}, b[18], a[19], b[19])
}

func newestAreTheLast(t *run) {
	l := t.open(Config{})
	var a []uint64
	for range 20 {
		a = append(a, l.add("a", "one"))
		l.post("other", "b", "c")
	}
	newest := func(q hub.Query, want ...uint64) {
		t.Helper()
		q.Newest = true
		if got := sequences(l.page(q).Records); !slices.Equal(got, want) {
			t.Errorf("read %+v: got %d, want %d", q, got, want)
		}
	}
	for _, q := range []hub.Query{{Topics: []string{"a"}}, {Patterns: []string{"a/**"}}} {
		q.Limit = 3
		newest(q, a[17:]...)
		q.After = a[18]
		newest(q, a[19])
		q.After, q.Until = 0, a[10]
		newest(q, a[8:11]...)
		q.After = a[9]
		newest(q, a[10])
		q.After, q.Until, q.Limit = 0, 0, 50
		newest(q, a...)
	}
	newest(hub.Query{Topics: []string{"nobody's"}, Limit: 3})
	newest(hub.Query{Topics: []string{"b", "c", "a"}, Limit: 1, Until: a[5]}, a[5])
}

// newestGoOnDownward reads history from its end, in pages whose bounds are met by number,
// by bytes, and by a single event.
func newestGoOnDownward(t *run) {
	l := t.open(Config{})
	var all []uint64
	sizes := []int{1, 10, 200, 3, 3, 3, 50, 7} // by turns
	for i := range 40 {
		topics := [][]string{{"a"}, {"b"}, {"a", "b"}, {"b/c"}}[i%4]
		all = append(all, l.post(strings.Repeat("x", sizes[i%len(sizes)]), topics...))
		l.add("foreign", "one")
	}
	l.add("foreign", "two")
	for _, q := range []hub.Query{{Limit: 1}, {Limit: 7}, {Bytes: 1}, {Bytes: 30}, {Bytes: 250}, {Limit: 3, Bytes: 20}, {}} {
		q.Topics, q.Patterns, q.Newest = []string{"a", "b"}, []string{"b/*"}, true
		for _, after := range []uint64{0, all[17]} {
			q.After, q.Until = after, 0
			var got []uint64
			for {
				page := sequences(l.page(q).Records)
				if got = append(page, got...); len(page) == 0 || page[0] == 1 {
					break
				}
				q.Until = page[0] - 1
			}
			want := slices.DeleteFunc(slices.Clone(all), func(seq uint64) bool { return seq <= after })
			if !slices.Equal(got, want) {
				t.Errorf("read %+v, and on downward: got %d, want %d", q, got, want)
			}
		}
	}
}

func throughMovesOn(t *run) {
	l := t.open(Config{})
	seq := l.add("mine", "one")
	for range 30 {
		l.put(group("foreign", make([]string, min(100, l.Limits().Group))...))
	}
	l.closeTopic("foreign") // which the head stands on
	head := l.Head().Seq
	through := func(q hub.Query, want uint64) {
		t.Helper()
		for _, bound := range []hub.Query{{}, {Limit: 1}, {Bytes: 1}} {
			q.Limit, q.Bytes = bound.Limit, bound.Bytes
			if page := l.page(q); page.Through != want || len(page.Records) > 0 {
				t.Errorf("read %+v: got through %d with %d records, want %d", q, page.Through, len(page.Records), want)
			}
		}
	}
	for _, q := range []hub.Query{{Topics: []string{"mine"}}, {Topics: []string{"nobody's"}}, {Patterns: []string{"mine/**"}}, {Topics: []string{"mine"}, Patterns: []string{"*/x"}}} {
		q.After = seq
		through(q, head)
		q.Until = (seq + head) / 2
		through(q, q.Until)
		q.Until = head + 1000
		through(q, head)
		q.After, q.Until = head, 0
		through(q, head)
	}
	if page := l.page(hub.Query{Topics: []string{"mine"}, Limit: 2}); page.Through != head || len(page.Records) != 1 {
		t.Errorf("got through %d with %d records, want %d with 1", page.Through, len(page.Records), head)
	}
}

func locateFindsPlaces(t *run) {
	l := t.open(Config{Retention: hub.RetentionRules{{Pattern: "short", Retention: hub.Retention{Count: 1}}}})
	epoch := l.Head().Epoch
	l.found(hub.Cursor{Epoch: epoch}, 0)
	identified := func(topic, id string) uint64 {
		t.Helper()
		g := group(topic, "one", "two")
		g.Events[1].ID = id
		return l.put(g).Sequences[1]
	}
	removed := identified("short", "removed")
	l.add("short", "kept")
	ids := []string{"one", "ONE", " one", "ümläut", "u\u0308mla\u0308ut", hub.Position(epoch, 1), epoch, "-1", "0"}
	seqs := make([]uint64, len(ids))
	for i, id := range ids {
		seqs[i] = identified("a", id)
	}
	for i, id := range ids {
		l.found(hub.Cursor{ID: id}, seqs[i])
		l.found(hub.Cursor{Epoch: epoch, Seq: seqs[i]}, seqs[i])
	}
	if info := l.info("a"); info.NewestID != last(ids) || info.OldestID != hub.Position(epoch, info.Oldest) {
		t.Errorf("got %+v, want newest id %q and a position as the oldest", info, last(ids))
	}
	l.lost(hub.Cursor{ID: "nobody's"}, hub.LostUnknown)
	l.lost(hub.Cursor{Epoch: epoch + "x", Seq: 1}, hub.LostEpoch)

	// A place below what is kept is a place, from which Read tells of the gap.
	l.found(hub.Cursor{Epoch: epoch, Seq: removed}, removed)
	l.found(hub.Cursor{Epoch: epoch, Seq: removed - 1}, removed-1)
	switch loc := l.locate(hub.Cursor{ID: "removed"}); {
	case loc == (hub.Location{Seq: removed}):
	case loc.Lost == hub.LostExpired || loc.Lost == hub.LostUnknown:
		l.lost(hub.Cursor{ID: "removed"}, loc.Lost)
	default:
		t.Errorf("got %+v for the id of a removed event, %d", loc, removed)
	}

	// The first field that is set counts.
	far := l.put(group("a", "later")).Time.Add(1000 * time.Hour)
	l.found(hub.Cursor{Epoch: epoch, Seq: seqs[2], ID: "one", Since: far}, seqs[2])
	l.found(hub.Cursor{ID: "one", Since: far}, seqs[0])
	l.found(hub.Cursor{Seq: seqs[2], ID: "one"}, seqs[0])
}

// costIsFlat counts what it takes to find one topic's events between few and between
// many others. Under the race detector those are only a tenth as many, as to append them
// takes its time.
func costIsFlat(t *run) {
	t.need(t.h.Operations != nil, "Operations")
	const few = 10
	many := 1_000_000
	if raced {
		many = 100_000
	}
	small, large := resumeCost(t, few), resumeCost(t, many)
	if small == 0 || large == 0 {
		t.Fatal("got 0 operations: Operations does not count")
	}
	if large > 4*small+64 {
		t.Errorf("got %d operations among %d other events, %d among %d: want it flat", small, few, large, many)
	}
}

func resumeCost(t *run, foreign int) int64 {
	l := t.open(Config{})
	data := make([]string, min(10_000, foreign/5, l.Limits().Group))
	var mine []uint64
	for i := range 5 {
		g := group("mine", "one")
		g.Events[0].ID = fmt.Sprint("mine ", i)
		mine = append(mine, l.put(g).Sequences[0])
		for n := 0; n < foreign/5; n += len(data) {
			l.put(group(fmt.Sprint("foreign/", n/len(data)), data...))
		}
	}
	before := t.h.Operations(l.Log)
	l.found(hub.Cursor{ID: "mine 1"}, mine[1])
	l.found(hub.Cursor{Epoch: l.Head().Epoch, Seq: mine[1]}, mine[1])
	page := l.page(hub.Query{Topics: []string{"mine"}, After: mine[1]})
	if got := sequences(page.Records); !slices.Equal(got, mine[2:]) {
		t.Fatalf("got %d, want %d", got, mine[2:])
	}
	if info := l.info("mine"); info.Count != 5 {
		t.Fatalf("got %+v, want 5 events", info)
	}
	return t.h.Operations(l.Log) - before
}

func futurePositionIsLost(t *run) {
	l := t.open(Config{})
	seq := l.add("a", "one")
	head := l.sync()
	if head.Seq < seq {
		t.Fatalf("sync: got %+v, want %d or more", head, seq)
	}
	l.found(hub.Cursor{Epoch: head.Epoch, Seq: head.Seq}, head.Seq)
	l.lost(hub.Cursor{Epoch: head.Epoch, Seq: head.Seq + 1}, hub.LostEpoch)
	l.lost(hub.Cursor{Epoch: head.Epoch, Seq: 1 << 63}, hub.LostEpoch)
}

func futurePositionIsFoundAfterSync(t *run) {
	ls := t.handles(Config{}, 2)
	for range 20 {
		caughtUp := func() {}
		if t.h.Lag != nil {
			caughtUp = t.h.Lag(t, ls[1].Log)
		}
		seq := ls[0].add("a", "one")
		c := t.crew()
		c.add(1, func(ctx context.Context, _ int) error {
			if _, err := ls[1].Sync(ctx); err != nil {
				return fmt.Errorf("sync: %w", err)
			}
			want := hub.Location{Seq: seq}
			if loc, err := ls[1].Locate(ctx, hub.Cursor{Epoch: ls[0].Head().Epoch, Seq: seq}); err != nil || loc != want {
				return fmt.Errorf("locate after sync: got %+v (%v), want %+v", loc, err, want)
			}
			return nil
		})
		caughtUp()
		c.wait()
	}
}

func positionIsLostAfterRollback(t *run) {
	t.need(t.h.Copy != nil, "Copy")
	l := t.open(Config{})
	l.add("a", "kept")
	restore := t.h.Copy(t, l.Log)
	epoch, seq := l.Head().Epoch, l.add("a", "rolled back")
	l = &probe{Log: restore(), t: t}
	l.lost(hub.Cursor{Epoch: epoch, Seq: seq}, hub.LostEpoch)
	// Also when the new order has come as far as the old one.
	for l.Head().Seq < seq+5 {
		l.add("a", "another")
	}
	l.lost(hub.Cursor{Epoch: epoch, Seq: seq}, hub.LostEpoch)
}
