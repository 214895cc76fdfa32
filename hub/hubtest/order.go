package hubtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// A register holds the positions that a Log gave away.
type register struct {
	t    *run
	last map[string]uint64 // by epoch
}

// enter checks that positions are new, and above all others of their epoch.
func (r *register) enter(receipt hub.Receipt) {
	r.t.Helper()
	if r.last == nil {
		r.last = make(map[string]uint64)
	}
	for _, seq := range receipt.Sequences {
		if before := r.last[receipt.Epoch]; seq <= before {
			r.t.Fatalf("got sequence %d of epoch %s after %d", seq, receipt.Epoch, before)
		}
		r.last[receipt.Epoch] = seq
	}
}

// fill appends what uses up sequences in every way, and enters it.
func (r *register) fill(l *probe) {
	r.t.Helper()
	r.enter(l.put(group("a", "one", "two", "three")))
	conflict := group("a", "refused")
	conflict.IfLast = ref(0)
	_ = l.conflict(conflict)
	closing := group("a", "four")
	closing.Close = []string{rand.Text()}
	receipt := l.put(closing)
	r.enter(receipt)
	if head := l.Head().Seq; head <= receipt.Sequences[0] {
		r.t.Fatalf("got head %d, want a sequence for Closed after %d", head, receipt.Sequences[0])
	}
	r.enter(l.put(group("a", "five")))
}

func sequencesOutliveRetention(t *run) {
	clock := t.clock()
	l := t.open(Config{Now: clock.Now, Retention: hub.RetentionRules{{Pattern: "**", Retention: hub.Retention{Age: time.Minute}}}})
	r := &register{t: t}
	for range 3 {
		r.fill(l)
		clock.step(time.Hour)
		l.closeTopic(rand.Text()) // a record, but no event
		l.expect(hub.Query{Patterns: everything})
		if head := l.Head(); head.Oldest != head.Seq+1 {
			t.Errorf("got %+v, want the oldest to be the next where nothing is kept", head)
		}
		if t.h.Reopen != nil {
			l = t.reopen(l, false)
		}
	}
}

func sequencesOutliveForget(t *run) {
	l := t.open(Config{})
	r := &register{t: t}
	for range 3 {
		r.fill(l)
		l.forget("a")
		l.expect(hub.Query{Patterns: everything})
	}
}

func sequencesOutliveReopen(t *run) { sequencesOutlive(t, false) }

func sequencesOutliveCrash(t *run) { sequencesOutlive(t, true) }

func sequencesOutlive(t *run, crash bool) {
	t.need(t.h.Reopen != nil, "Reopen")
	l := t.open(Config{})
	r := &register{t: t}
	epoch := l.Head().Epoch
	for i := range 6 {
		r.fill(l)
		switch i % 3 { // what the order ends with
		case 1:
			l.forget("a")
		case 2:
			l.closeTopic(rand.Text())
		}
		head := l.Head()
		l = t.reopen(l, crash)
		if got := l.Head(); got.Epoch != epoch || got.Seq < head.Seq {
			t.Fatalf("got head %+v, want at least %d of epoch %s", got, head.Seq, epoch)
		}
	}
}

func copyIsAnotherEpoch(t *run) {
	t.need(t.h.Copy != nil, "Copy")
	l := t.open(Config{})
	r := &register{t: t}
	r.fill(l)
	kept := l.Head()
	restore := t.h.Copy(t, l.Log)
	r.fill(l)
	after := l.Head()

	l = &probe{Log: restore(), t: t}
	if head := l.Head(); head.Epoch == kept.Epoch {
		t.Fatalf("got head %+v of a restored copy, want another epoch", head)
	}
	l.lost(hub.Cursor{Epoch: kept.Epoch, Seq: after.Seq}, hub.LostEpoch)
	l.lost(hub.Cursor{Epoch: kept.Epoch, Seq: kept.Seq}, hub.LostEpoch)
	if n := len(l.all(hub.Query{Topics: []string{"a"}})); n != 5 {
		t.Errorf("got %d events of a restored copy, want the 5 that were there when it was made", n)
	}
	r.fill(l)
}

func timeNeverFalls(t *run) {
	clock := t.clock()
	l := t.open(Config{Now: clock.Now})
	start := clock.Now()
	var times []time.Time
	for _, step := range []time.Duration{0, time.Second, -time.Hour, 0, time.Minute, -time.Second, 2 * time.Hour, -24 * time.Hour} {
		clock.step(step)
		r := l.put(group("a", "one", "two"))
		times = append(times, r.Time, r.Time)
		if head := l.Head(); head.Time.Before(r.Time) {
			t.Errorf("got head %+v, want no time before %v", head, r.Time)
		}
		if len(times) == 2 && !r.Time.Equal(start) {
			t.Fatalf("got time %v, want that of Config.Now, %v", r.Time, start)
		}
	}
	records := l.all(hub.Query{Topics: []string{"a"}})
	if len(records) != len(times) {
		t.Fatalf("got %d events, want %d", len(records), len(times))
	}
	before := start
	for i, r := range records {
		if !r.Time.Equal(times[i]) {
			t.Errorf("got time %v for %d, want that of the receipt, %v", r.Time, r.Seq, times[i])
		}
		if r.Time.Before(before) {
			t.Errorf("got time %v for %d after %v", r.Time, r.Seq, before)
		}
		before = r.Time
	}
	// The clock is at its furthest after the long step forward.
	if want := start.Add(time.Hour + time.Minute); before.Before(want) {
		t.Errorf("got last time %v, want %v or later", before, want)
	}
}

func timeNeverFallsUnderLoad(t *run) {
	config := Config{}
	if !t.h.NoClock {
		clock := t.clock()
		steps := []time.Duration{7 * time.Second, -5 * time.Second, -3 * time.Second, 9 * time.Second}
		var calls atomic.Int64
		config.Now = func() time.Time { // never the same twice, and often back
			clock.step(steps[calls.Add(1)%4])
			return clock.Now()
		}
	}
	l := t.open(config)
	c := t.crew()
	c.add(8, func(ctx context.Context, _ int) error {
		for range 30 {
			if _, err := l.Append(ctx, group("a", "one")); err != nil {
				return fmt.Errorf("append: %w", err)
			}
		}
		return nil
	})
	c.wait()
	records := l.all(hub.Query{Topics: []string{"a"}})
	if !slices.IsSortedFunc(records, func(a, b hub.Record) int { return a.Time.Compare(b.Time) }) {
		t.Error("got times that fall with the sequence")
	}
}

func sinceIsExact(t *run) {
	clock := t.clock()
	l := t.open(Config{Now: clock.Now})
	l.found(hub.Cursor{Since: clock.Now()}, l.Head().Seq) // of a Log without events
	for i, step := range []time.Duration{0, 0, time.Second, 0, 0, time.Millisecond, time.Hour, 0} {
		clock.step(step)
		l.add([]string{"a", "b"}[i%2], "one", "two")
	}
	records := l.all(hub.Query{Patterns: everything})
	for _, r := range records {
		for _, since := range []time.Time{r.Time.Add(-time.Microsecond), r.Time, r.Time.Add(time.Microsecond)} {
			var want []uint64
			for _, o := range records {
				if !o.Time.Before(since) {
					want = append(want, o.Seq)
				}
			}
			loc := l.locate(hub.Cursor{Since: since.In(time.FixedZone("", 3600))})
			if loc.Lost != hub.Found {
				t.Fatalf("since %v: got %+v, want it found", since, loc)
			}
			l.expect(hub.Query{Patterns: everything, After: loc.Seq}, want...)
		}
	}
	l.found(hub.Cursor{Since: clock.Now().Add(time.Hour)}, l.Head().Seq)
	if loc := l.locate(hub.Cursor{Since: records[0].Time.Add(-time.Hour)}); loc.Lost != hub.Found || loc.Seq >= records[0].Seq {
		t.Errorf("since before the first event: got %+v, want what is before %d", loc, records[0].Seq)
	}
}

// sinceTellsOfRemoval asks for a time whose events are removed. Reading from there
// must tell of the gap, as from any other place.
func sinceTellsOfRemoval(t *run) {
	clock := t.clock()
	l := t.open(Config{Now: clock.Now, Retention: hub.RetentionRules{{Pattern: "a", Retention: hub.Retention{Count: 1}}}})
	l.add("b", "kept")
	clock.step(time.Minute)
	since := clock.Now()
	l.add("a", "removed")
	clock.step(time.Minute)
	kept := l.add("a", "kept")
	for _, since := range []time.Time{since, since.Add(-time.Hour)} {
		loc := l.locate(hub.Cursor{Since: since})
		page := l.page(hub.Query{Topics: []string{"a"}, After: loc.Seq})
		if got := sequences(page.Records); !page.Gap || !slices.Equal(got, []uint64{kept}) {
			t.Errorf("since %v: got place %+v, events %d, gap %v, want event %d after a gap", since, loc, got, page.Gap, kept)
		}
	}
}
