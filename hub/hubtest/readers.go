package hubtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidewire/tidewire/hub"
)

func eventsAreKeptWhole(t *run) {
	l := t.open(Config{})
	tail := l.tail(l.Head().Seq)
	g := &hub.Group{ID: rand.Text(), Events: []hub.Event{
		{Data: "plain", Topics: []string{"a"}},
		{Topics: []string{"a"}},
		{ID: "urn:id:1", Type: "update", Data: "with all", Topics: []string{"c", "a", "b"}, Retry: 1500 * time.Millisecond, Private: true},
		{ID: "ümläut ☂", Type: "tidewire.x", Data: "line\nline\r\n\r\x00 \u2028 𝄞 \uFEFF ", Topics: []string{"a"}},
		{Data: strings.Repeat("0123456789abcdef", 4096), Topics: []string{"a"}},
	}}
	r := l.put(g)
	if epoch := l.Head().Epoch; r.Epoch != epoch || epoch == "" {
		t.Errorf("got epoch %q from Append, %q from Head", r.Epoch, epoch)
	}
	var want []hub.Record
	for i := range g.Events {
		want = append(want, hub.Record{Seq: r.Sequences[i], Kind: hub.KindEvent, Time: r.Time, Topics: g.Events[i].Topics, Event: &g.Events[i]})
	}
	if d := difference(l.all(hub.Query{Topics: []string{"a"}}), want); d != "" {
		t.Errorf("Read: %s", d)
	}
	if d := difference(tail.until(last(r.Sequences)), want); d != "" {
		t.Errorf("Tail: %s", d)
	}
}

// mixture appends what changes every table: plain events, several topics, ids, keys,
// conditions, closed topics. Refusals are part of it.
func mixture(ctx context.Context, l hub.Log, worker, rounds int) error {
	own := fmt.Sprint("own/", worker)
	expect := new(uint64)
	for i := range rounds {
		g := group("shared", fmt.Sprintf("%d of %d", i, worker))
		switch i % 7 {
		case 1:
			g = group(own, "one", "two", "three")
			g.Events[1].Topics = []string{own, "shared"}
		case 2:
			g.Events[0].ID = fmt.Sprint("id ", i) // of every worker
		case 3:
			g.Key = fmt.Sprint("key ", i) // of every worker
		case 4:
			g = group("contest", "mine")
			g.IfLast = expect
		case 5:
			g.Close = []string{fmt.Sprint("closed/", i)}
		case 6:
			g = group(fmt.Sprint("closed/", i-1), "too late?")
		}
		_, err := l.Append(ctx, g)
		var conflict *hub.ConflictError
		if errors.As(err, &conflict) {
			expect = ref(conflict.Newest)
		} else if err != nil && !errors.Is(err, hub.ErrClosed) {
			return fmt.Errorf("append: %w", err)
		}
	}
	return nil
}

func readersAgree(t *run) {
	l := t.open(Config{})
	first, second := l.tail(0), l.tail(0)
	c := t.crew()
	c.add(4, func(ctx context.Context, i int) error { return mixture(ctx, l.Log, i, 70) })
	c.wait()
	end := l.add("end", "end")
	want := first.until(end)
	agree(t, "a second Tail", second.until(end), want)
	agree(t, "a late Tail", l.tail(0).until(end), want)
	agree(t, "Read", l.all(hub.Query{Patterns: everything}), events(want))
}

// agree checks that two readers saw the same.
func agree(t *run, who string, got, want []hub.Record) {
	t.Helper()
	if d := difference(got, want); d != "" {
		t.Errorf("%s: %s", who, d)
	}
}

func handlesAgree(t *run) {
	ls := t.handles(Config{}, 3)
	var tails []*tailer
	for _, l := range ls {
		tails = append(tails, l.tail(0))
	}
	c := t.crew()
	c.add(6, func(ctx context.Context, i int) error { return mixture(ctx, ls[i%3].Log, i, 70) })
	c.wait()
	end := ls[0].add("end", "end")
	want := tails[0].until(end)
	for i, l := range ls {
		l.sync()
		if got, want := l.Head().Epoch, ls[0].Head().Epoch; got != want {
			t.Errorf("handle %d: got epoch %q, want %q", i, got, want)
		}
		agree(t, fmt.Sprintf("Tail of handle %d", i), tails[i].until(end), want)
		agree(t, fmt.Sprintf("Read of handle %d", i), l.all(hub.Query{Patterns: everything}), events(want))
		for _, r := range want {
			if got, want := l.info(r.Topics[0]), ls[0].info(r.Topics[0]); got != want {
				t.Fatalf("handle %d, topic %q: got %+v, want %+v", i, r.Topics[0], got, want)
			}
		}
	}
}

func handlesGiveOneVerdict(t *run) {
	contend(t, t.handles(Config{}, 3), 6)
}

func appendIsSeenAtOnce(t *run) {
	l := t.open(Config{})
	c := t.crew()
	c.add(8, func(ctx context.Context, i int) error {
		topic := fmt.Sprint("own/", i)
		for n := range 30 {
			g := group(topic, "first", "second")
			g.Events[1].ID = rand.Text()
			g.Events[1].Topics = append(g.Events[1].Topics, "shared")
			r, err := l.Append(ctx, g)
			if err != nil {
				return fmt.Errorf("append: %w", err)
			}
			if err := seen(ctx, l.Log, g, r, int64(2*n+2)); err != nil {
				return err
			}
		}
		return closedAndForgottenAtOnce(ctx, l.Log, topic)
	})
	c.wait()
}

// seen checks that all look-ups know a group of two events.
func seen(ctx context.Context, l hub.Log, g *hub.Group, r hub.Receipt, count int64) error {
	first, second := r.Sequences[0], r.Sequences[1]
	topic, id := g.Events[0].Topics[0], g.Events[1].ID
	if head := l.Head(); head.Seq < second {
		return fmt.Errorf("got head %d after an append of %d", head.Seq, second)
	}
	page, err := readPage(ctx, l, hub.Query{Topics: []string{topic}, After: first - 1})
	if err != nil {
		return err
	}
	if got := sequences(page.Records); !slices.Equal(got, r.Sequences) {
		return fmt.Errorf("read by topic: got %d, want %d", got, r.Sequences)
	}
	page, err = readPage(ctx, l, hub.Query{Patterns: []string{"own/*"}, After: first - 1, Limit: 1})
	if err != nil {
		return err
	}
	if got := sequences(page.Records); !slices.Equal(got, []uint64{first}) {
		return fmt.Errorf("read by pattern: got %d, want %d", got, first)
	}
	for _, c := range []hub.Cursor{{ID: id}, {Epoch: r.Epoch, Seq: second}} {
		if loc, err := l.Locate(ctx, c); err != nil || loc != (hub.Location{Seq: second}) {
			return fmt.Errorf("locate %+v: got %+v (%v), want %d", c, loc, err, second)
		}
	}
	info, err := l.Topic(ctx, topic)
	if err != nil || info.Newest != second || info.NewestID != id || info.Count != count {
		return fmt.Errorf("topic: got %+v (%v), want %d events, newest %d, %q", info, err, count, second, id)
	}
	return nil
}

func closedAndForgottenAtOnce(ctx context.Context, l hub.Log, topic string) error {
	if _, err := l.Append(ctx, &hub.Group{ID: rand.Text(), Close: []string{topic}}); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if info, err := l.Topic(ctx, topic); err != nil || !info.Closed {
		return fmt.Errorf("topic: got %+v (%v), want it closed", info, err)
	}
	if _, err := l.Append(ctx, &hub.Group{ID: rand.Text(), Forget: topic}); err != nil {
		return fmt.Errorf("forget: %w", err)
	}
	if info, err := l.Topic(ctx, topic); err != nil || info.Count != 0 {
		return fmt.Errorf("topic: got %+v (%v), want it empty", info, err)
	}
	return nil
}

func syncCoversAppends(t *run) {
	ls := t.handles(Config{}, 3)
	c := t.crew()
	c.add(6, func(ctx context.Context, i int) error {
		here, there := ls[i%3].Log, ls[(i+1)%3].Log
		for n := range 20 {
			g := group(fmt.Sprint("own/", i), "first", "second")
			g.Events[1].ID = rand.Text()
			r, err := here.Append(ctx, g)
			if err != nil {
				return fmt.Errorf("append: %w", err)
			}
			head, err := there.Sync(ctx)
			if err != nil || head.Seq < last(r.Sequences) {
				return fmt.Errorf("sync: got %+v (%v), want sequence %d or more", head, err, last(r.Sequences))
			}
			if err := seen(ctx, there, g, r, int64(2*n+2)); err != nil {
				return fmt.Errorf("another handle: %w", err)
			}
		}
		return nil
	})
	c.wait()
}

// otherHandlesShowAPrefix follows on one handle by pages alone while another appends: a
// page that was ahead of a hole would lose what fills it.
func otherHandlesShowAPrefix(t *run) {
	ls := t.handles(Config{}, 2)
	var mu sync.Mutex
	var read []hub.Record
	appended := make(chan struct{})
	c := t.crew()
	c.add(1, func(ctx context.Context, _ int) error {
		defer close(appended)
		return mixture(ctx, ls[0].Log, 0, 210)
	})
	c.add(1, func(ctx context.Context, _ int) error {
		q := hub.Query{Patterns: everything}
		for done := false; !done; {
			select {
			case <-appended:
				done = true
				if _, err := ls[1].Sync(ctx); err != nil {
					return fmt.Errorf("sync: %w", err)
				}
			default:
			}
			if q.Until = ls[1].Head().Seq; q.Until == q.After {
				continue
			}
			records, err := readAll(ctx, ls[1].Log, q)
			if err != nil {
				return err
			}
			mu.Lock()
			read = append(read, records...)
			mu.Unlock()
			q.After = q.Until
		}
		return nil
	})
	c.wait()
	agree(t, "the other handle", read, ls[0].all(hub.Query{Patterns: everything}))
}

func laggingHandleShowsAPrefix(t *run) {
	t.need(t.h.Lag != nil, "Lag")
	ls := t.handles(Config{}, 2)
	before := ls[0].add("a", "before")
	ls[1].sync()
	caughtUp := t.h.Lag(t, ls[1].Log)
	behind := ls[0].add("a", "behind")

	if head := ls[1].Head().Seq; head >= behind {
		t.Fatalf("got head %d of a handle that lags behind %d: Lag does nothing", head, behind)
	}
	ls[1].expect(hub.Query{Topics: []string{"a"}}, before)
	if info := ls[1].info("a"); info.Newest != before || info.Count != 1 {
		t.Errorf("got %+v, want what was before", info)
	}
	// Sync has to wait, so that what it returns covers the append.
	c := t.crew()
	c.add(1, func(ctx context.Context, _ int) error {
		head, err := ls[1].Sync(ctx)
		if err != nil || head.Seq < behind {
			return fmt.Errorf("sync: got %+v (%v), want sequence %d or more", head, err, behind)
		}
		return nil
	})
	caughtUp()
	c.wait()
	ls[1].expect(hub.Query{Topics: []string{"a"}}, before, behind)
}
