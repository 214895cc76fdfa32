package hubtest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// many is more than what a Log should remove in one go.
const many = 2500

// changing opens a Log whose retention the harness can change.
func (t *run) changing(c Config) *probe {
	t.Helper()
	t.need(t.h.SetRetention != nil, "SetRetention")
	return t.open(c)
}

// fill appends many small events to a topic, and returns their sequences.
func (p *probe) fill(topic string) (all []uint64) {
	p.t.Helper()
	const most = 500
	for n := 0; n < many; n += most {
		g := group(topic, make([]string, most)...)
		for i := range g.Events {
			g.Events[i].Data = strconv.Itoa(n + i)
		}
		all = append(all, p.put(g).Sequences...)
	}
	return all
}

func (p *probe) setRetention(maxBytes int64, rules ...hub.RetentionRule) {
	p.t.Helper()
	p.t.must(p.t.h.SetRetention(p.Log, rules, maxBytes))
}

// becomes waits until so many events of a topic are kept, while nobody appends.
func (p *probe) becomes(topic string, want int64) {
	p.t.Helper()
	for p.info(topic).Count != want {
		if p.t.ctx.Err() != nil {
			p.t.Fatalf("topic %q: got %d events, want %d in the end", topic, p.info(topic).Count, want)
		}
		runtime.Gosched()
	}
}

// isTrimmed waits until the last n of a topic's events are kept, and checks that.
func (p *probe) isTrimmed(topic string, all []uint64, n int) {
	p.t.Helper()
	p.becomes(topic, int64(n))
	at := len(all) - n
	p.kept(topic, all[at-1], all[at:]...)
	for _, after := range []uint64{0, all[at-1] - 1, all[at-1], all[at]} {
		if got, want := p.page(hub.Query{Topics: []string{topic}, After: after}).Gap, after < all[at-1]; got != want {
			p.t.Errorf("topic %q after %d: got gap %v, want %v", topic, after, got, want)
		}
	}
}

func narrowerCountTrims(t *run) {
	l := t.changing(Config{Retention: hub.RetentionRules{{Pattern: "a", Retention: hub.Retention{Count: many}}}})
	a, b := l.fill("a"), l.put(group("b", make([]string, 12)...)).Sequences
	shared := l.post("shared", "a", "b")
	l.setRetention(0, hub.RetentionRule{Pattern: "a", Retention: hub.Retention{Count: 10}})
	l.isTrimmed("a", append(a, shared), 10)
	l.kept("b", 0, append(b, shared)...)
}

func narrowerBytesTrim(t *run) {
	l := t.changing(Config{})
	a := l.fill("a")
	// The last ones have a topic of one byte, and four of data.
	l.setRetention(0, hub.RetentionRule{Pattern: "*", Retention: hub.Retention{Bytes: 104}})
	l.isTrimmed("a", a, 20)
}

func narrowerAgeTrims(t *run) {
	clock := t.clock()
	l := t.changing(Config{Now: clock.Now, Retention: hub.RetentionRules{{Pattern: "a", Retention: hub.Retention{Age: time.Hour}}}})
	a := l.fill("a")
	clock.step(10 * time.Minute)
	a = append(a, l.add("a", "young", "younger"))
	a = slices.Insert(a, len(a)-1, last(a)-1)
	l.setRetention(0, hub.RetentionRule{Pattern: "a", Retention: hub.Retention{Age: time.Minute}})
	l.isTrimmed("a", a, 2)
}

func narrowerTotalTrims(t *run) {
	l := t.changing(Config{})
	a := l.fill("a")
	b := l.add("b", "1234") // five bytes, as the last ones of a
	l.setRetention(5 * 21)
	l.isTrimmed("a", a, 20)
	l.kept("b", 0, b)
	if head := l.Head(); head.Oldest != a[len(a)-20] {
		t.Errorf("got %+v, want the oldest to be %d", head, a[len(a)-20])
	}
	next := l.add("c", "1234")
	l.isTrimmed("a", a, 19)
	l.kept("c", 0, next)
}

func otherRulesKeepFromThenOn(t *run) {
	l := t.changing(Config{Retention: hub.RetentionRules{{Pattern: "a/**", Retention: hub.Retention{Count: 2}}}})
	a := l.put(group("a/b", "1", "2", "3", "4")).Sequences
	l.kept("a/b", a[1], a[2:]...)
	l.setRetention(0, hub.RetentionRule{Pattern: "a/*", Retention: hub.Retention{Count: 4}}, hub.RetentionRule{Pattern: "**", Retention: hub.Retention{Count: 1}})
	l.kept("a/b", a[1], a[2:]...) // what has gone does not come back
	a = append(a, l.add("a/b", "5"), l.add("a/b", "6"))
	l.kept("a/b", a[1], a[2:]...)
	a = append(a, l.add("a/b", "7"))
	l.kept("a/b", a[2], a[3:]...)
	c := l.put(group("a/b/c", "1", "2", "3")).Sequences // named for the first time
	l.kept("a/b/c", c[1], c[2])
	l.setRetention(0)
	for range 10 {
		a = append(a, l.add("a/b", "more"))
	}
	l.kept("a/b", a[2], a[3:]...)
}

// ageKeepsFromThenOn has a topic whose events had an age get none, and then one again.
func ageKeepsFromThenOn(t *run) {
	clock := t.clock()
	old := hub.RetentionRule{Pattern: "a", Retention: hub.Retention{Age: time.Minute}}
	l := t.changing(Config{Now: clock.Now, Retention: hub.RetentionRules{old}})
	a := []uint64{l.add("a", "1")}
	l.setRetention(0)
	clock.step(time.Hour)
	a = append(a, l.add("a", "2"))
	l.kept("a", 0, a...)
	l.setRetention(0, hub.RetentionRule{Pattern: "a", Retention: hub.Retention{Age: 90 * time.Minute}})
	clock.step(time.Hour)
	l.add("b", "tick")
	l.kept("a", a[0], a[1])
	l.setRetention(0, old)
	l.becomes("a", 0)
	l.kept("a", a[1])
}

func wrongRetentionIsRefused(t *run) {
	l := t.changing(Config{Retention: hub.RetentionRules{{Pattern: "a", Retention: hub.Retention{Count: 2}}}})
	for _, wrong := range []struct {
		rule hub.RetentionRule
		max  int64
	}{
		{hub.RetentionRule{}, 0},
		{hub.RetentionRule{Pattern: "**/a"}, 0},
		{hub.RetentionRule{Pattern: "a", Retention: hub.Retention{Count: -1}}, 0},
		{hub.RetentionRule{Pattern: "a", Retention: hub.Retention{Bytes: -1}}, 0},
		{hub.RetentionRule{Pattern: "a", Retention: hub.Retention{Age: -1}}, 0},
		{hub.RetentionRule{Pattern: "a"}, -1},
	} {
		if err := t.h.SetRetention(l.Log, hub.RetentionRules{{Pattern: "**"}, wrong.rule}, wrong.max); err == nil {
			t.Errorf("got no error for rule %+v and %d bytes", wrong.rule, wrong.max)
		}
	}
	a := l.put(group("a", "1", "2", "3")).Sequences
	l.kept("a", a[0], a[1:]...)
	l.end()
	if err := t.h.SetRetention(l.Log, nil, 0); !errors.Is(err, hub.ErrUnavailable) {
		t.Errorf("got %v after Close, want ErrUnavailable", err)
	}
}

// retentionChangesUnderLoad sets one retention after another while others append and read.
func retentionChangesUnderLoad(t *run) {
	const topics, numbers, changes = 3, 1500, 60
	l := t.changing(Config{})
	var all [topics][]uint64
	var done [topics]chan struct{} // there is no more
	for i := range done {
		done[i] = make(chan struct{})
	}
	name := func(i int) string { return fmt.Sprint("t", i) }
	c := t.crew()
	c.add(topics, func(ctx context.Context, i int) (err error) {
		defer close(done[i])
		all[i], err = countUp(ctx, l.Log, name(i), numbers)
		return err
	})
	c.add(topics, func(ctx context.Context, i int) error { return followCount(ctx, l.Log, name(i), done[i]) })
	c.add(1, func(ctx context.Context, _ int) error {
		for n := range changes {
			// Each some way into the order.
			for l.Head().Seq < uint64(n*topics*numbers/changes) && ctx.Err() == nil {
				runtime.Gosched()
			}
			rules := hub.RetentionRules{{Pattern: name(n % topics), Retention: hub.Retention{Count: int64(1 + n%7*150)}}}
			if err := t.h.SetRetention(l.Log, rules, int64(n%5)*5000); err != nil {
				return fmt.Errorf("set retention: %w", err)
			}
		}
		return nil
	})
	c.wait()

	for i := range topics {
		all[i] = append(all[i], l.put(group(name(i), make([]string, 6)...)).Sequences...)
	}
	l.setRetention(0, hub.RetentionRule{Pattern: "*", Retention: hub.Retention{Count: 5}})
	for i := range topics {
		l.isTrimmed(name(i), all[i], 5)
	}
}

// countUp appends the numbers up to n, and returns their sequences.
func countUp(ctx context.Context, l hub.Log, topic string, n int) (all []uint64, err error) {
	const most = 20
	for i := 0; i < n; {
		g := group(topic)
		for ; i < n && len(g.Events) < 1+i%most; i++ {
			g.Events = append(g.Events, hub.Event{Topics: []string{topic}, Data: strconv.Itoa(i)})
		}
		r, err := l.Append(ctx, g)
		if err != nil {
			return nil, fmt.Errorf("append: %w", err)
		}
		all = append(all, r.Sequences...)
	}
	return all, nil
}

// followCount reads numbers until there are no more, and is told where some are left out.
func followCount(ctx context.Context, l hub.Log, topic string, done <-chan struct{}) error {
	q := hub.Query{Topics: []string{topic}, Limit: 100}
	for next, gap := 0, false; ctx.Err() == nil; {
		over := false
		select {
		case <-done:
			over = true
		default:
		}
		for head := l.Head().Seq; q.After < head; {
			page, err := readPage(ctx, l, q)
			if err != nil {
				return err
			}
			gap = gap || page.Gap
			for _, r := range page.Records {
				got, err := strconv.Atoi(r.Event.Data)
				if err != nil {
					return err
				}
				if got < next || got > next && !gap {
					return fmt.Errorf("read %+v: got %d, with gap %v, want %d", q, got, gap, next)
				}
				next, gap = got+1, false
			}
			q.After = page.Through
		}
		if over {
			return nil
		}
		runtime.Gosched()
	}
	return ctx.Err()
}

// retentionEndsWithTheLog opens a Log again while it trims.
func retentionEndsWithTheLog(t *run) {
	t.need(t.h.Reopen != nil, "Reopen")
	narrow := hub.RetentionRule{Pattern: "a", Retention: hub.Retention{Count: 10}}
	l := t.changing(Config{Retention: hub.RetentionRules{{Pattern: "b", Retention: hub.Retention{Count: 1}}}})
	a := l.fill("a")
	l.setRetention(0, narrow)
	l = t.reopen(l, false)
	got := sequences(l.all(hub.Query{Topics: []string{"a"}}))
	if len(got) < 10 || !slices.Equal(got, a[len(a)-len(got):]) {
		t.Fatalf("got %d events, want the last of %d, and 10 at least", len(got), len(a))
	}
	b := l.put(group("b", "1", "2")).Sequences // by the rules that it was opened with
	l.kept("b", b[0], b[1])
	a = append(a, l.add("a", "one"), l.add("a", "two"))
	if n := l.info("a").Count; n != int64(len(got)+2) {
		t.Fatalf("got %d events by the rules that it was opened with, want %d", n, len(got)+2)
	}
	l.setRetention(0, narrow)
	l.isTrimmed("a", a, 10)
	for _, crash := range []bool{false, true} {
		l = t.reopen(l, crash)
		l.isTrimmed("a", a, 10)
	}
}
