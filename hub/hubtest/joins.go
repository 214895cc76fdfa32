package hubtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// A join is what one reader saw of history and live, and what it asked for.
type join struct {
	query   hub.Query
	seen    []uint64
	through uint64
}

// selects tells whether a record is for the join's reader.
func (j *join) selects(r hub.Record) bool {
	return r.Kind == hub.KindEvent && r.Seq > j.query.After &&
		(len(j.query.Patterns) > 0 || slices.Contains(r.Topics, j.query.Topics[0]))
}

// joinsAtRandom lets readers go from Read to Tail while publishers append. Publishers
// append one group for each token, and readers give tokens where a seam could be.
func joinsAtRandom(t *run) {
	const writers, readers, rounds = 4, 4, 40
	l := t.open(Config{})
	tokens, done := make(chan struct{}, 1000), make(chan struct{})
	var left atomic.Int64
	left.Store(readers)
	joins := make([][]*join, readers)

	c := t.crew()
	c.add(writers, func(ctx context.Context, i int) error {
		for n := 0; ; n++ {
			select {
			case <-tokens:
			case <-done:
				return nil
			case <-ctx.Done():
				return nil
			}
			g := group([]string{"a", "b"}[n%2], []string{"one", "two", "three"}[:1+(n+i)%3]...)
			g.Events[0].Topics = []string{"a", "b"}
			if _, err := l.Append(ctx, g); err != nil {
				return fmt.Errorf("append: %w", err)
			}
		}
	})
	c.add(1, func(ctx context.Context, _ int) error {
		// A reader that lost what it paid for must not wait for ever.
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				tokens <- struct{}{}
			case <-done:
				return nil
			case <-ctx.Done():
				return nil
			}
		}
	})
	c.add(readers, func(ctx context.Context, i int) error {
		defer func() {
			if left.Add(-1) == 0 {
				close(done)
			}
		}()
		random := rand.New(rand.NewPCG(42, uint64(i)))
		for range rounds {
			j, err := joinOnce(ctx, l.Log, random, tokens)
			if err != nil {
				return err
			}
			joins[i] = append(joins[i], j)
		}
		return nil
	})
	c.wait()

	all := l.all(hub.Query{Patterns: everything})
	for _, j := range slices.Concat(joins...) {
		var want []uint64
		for _, r := range all {
			if j.selects(r) && r.Seq <= j.through {
				want = append(want, r.Seq)
			}
		}
		if !slices.Equal(j.seen, want) {
			t.Fatalf("join of %+v through %d: got %d, want %d", j.query, j.through, j.seen, want)
		}
	}
}

// joinOnce reads some history and goes on live from where it ends.
func joinOnce(ctx context.Context, l hub.Log, random *rand.Rand, tokens chan<- struct{}) (*join, error) {
	const live = 5 // records
	give := func(n int) {
		for range n {
			select {
			case tokens <- struct{}{}:
			case <-ctx.Done():
			}
		}
	}
	head := l.Head().Seq
	j := &join{query: hub.Query{After: head - min(head, random.Uint64N(60)), Limit: 1 + random.IntN(20)}}
	switch random.IntN(3) {
	case 0:
		j.query.Patterns = everything
	case 1:
		j.query.Topics = []string{"a"}
	case 2:
		j.query.Topics = []string{"b"}
	}
	j.through = j.query.After
	for range 1 + random.IntN(5) {
		give(random.IntN(3))
		q := j.query
		q.After = j.through
		page, err := readPage(ctx, l, q)
		if err != nil {
			return nil, err
		}
		j.seen = append(j.seen, sequences(page.Records)...)
		j.through = page.Through
	}
	// Now and then wait for what the tokens buy: it is there before the Tail begins, or
	// comes when the Tail has yielded history and is not yet live.
	bought := func() {
		for ctx.Err() == nil && l.Head().Seq <= j.through {
			runtime.Gosched()
		}
	}
	give(live)
	wait := random.IntN(4)
	if wait&1 > 0 {
		bought()
	}
	after, batches := 0, 0
	for batch, err := range l.Tail(ctx, j.through) {
		if err != nil {
			return nil, fmt.Errorf("tail: %w", err)
		}
		for _, r := range batch {
			if j.selects(r) {
				j.seen = append(j.seen, r.Seq)
			}
			j.through = r.Seq
		}
		give(1)
		if wait&2 > 0 {
			bought()
		}
		// A seam within the Tail is seen only by who takes what comes behind it.
		batches++
		if after += len(batch); after >= live && batches > 1 {
			break
		}
	}
	return j, ctx.Err()
}

func tailIsBehindRead(t *run) {
	const rounds = 200
	l := t.open(Config{})
	var end atomic.Uint64
	c := t.crew()
	c.add(4, func(ctx context.Context, i int) error {
		for n := range rounds {
			r, err := l.Append(ctx, group("a", "first", "second"))
			if err != nil {
				return fmt.Errorf("append: %w", err)
			}
			if i == 0 && n == rounds-1 {
				end.Store(r.Sequences[1])
			}
		}
		// The tail may have had all before it can know that.
		_, err := l.Append(ctx, group("a", "after"))
		return err
	})
	c.add(1, func(ctx context.Context, _ int) error {
		for batch, err := range l.Tail(ctx, 0) {
			if err != nil {
				return fmt.Errorf("tail: %w", err)
			}
			for _, r := range events(batch) {
				if head := l.Head().Seq; head < r.Seq {
					return fmt.Errorf("tail yields %d, head is %d", r.Seq, head)
				}
				page, err := readPage(ctx, l, hub.Query{Topics: []string{"a"}, After: r.Seq - 1, Limit: 1})
				if err != nil {
					return err
				}
				if got := sequences(page.Records); !slices.Equal(got, []uint64{r.Seq}) {
					return fmt.Errorf("tail yields %d, Read sees %d", r.Seq, got)
				}
			}
			if e := end.Load(); e > 0 && len(batch) > 0 && last(batch).Seq >= e {
				return nil
			}
		}
		return errors.New("tail ended")
	})
	c.wait()
}

func tailKeepsGroups(t *run) {
	l := t.open(Config{})
	live := l.tail(0)
	var middle uint64
	for i := range 30 {
		topic := fmt.Sprint("group/", i)
		g := group(topic, "one", "two", "three")
		g.Close = []string{topic}
		middle = l.put(g).Sequences[1]
	}
	end := l.add("end", "end")
	history := l.tail(0)
	for _, tail := range []*tailer{live, history} {
		tail.until(end)
		tail.mu.Lock()
		batches := slices.Clone(tail.batches)
		tail.mu.Unlock()
		before := uint64(0)
		for _, batch := range batches {
			records := make(map[string]int) // of a group
			for _, r := range batch {
				if r.Seq <= before {
					t.Fatalf("got sequence %d after %d", r.Seq, before)
				}
				before = r.Seq
				if r.Kind != hub.KindEpoch {
					records[r.Topics[0]]++
				}
			}
			for topic, n := range records {
				if topic != "end" && n != 4 {
					t.Fatalf("got %d records of %s in a batch, want the group's 4", n, topic)
				}
			}
		}
	}
	// A cursor may stand within a group.
	if got := sequences(l.tail(middle).until(end)); got[0] <= middle {
		t.Fatalf("got sequences %d after %d", got, middle)
	}
}

func tailEndsWithContext(t *run) {
	l := t.open(Config{})
	seq := l.add("a", "one")
	waiting := l.tail(0)
	waiting.until(seq)
	waiting.stop()
	if err := waiting.end(); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v from a Tail whose context has ended", err)
	}
	if n := len(events(waiting.records())); n != 1 {
		t.Errorf("got %d events, want 1", n)
	}
	ctx, cancel := context.WithCancel(t.ctx)
	cancel()
	c := t.crew()
	c.add(1, func(context.Context, int) error {
		for _, err := range l.Tail(ctx, l.Head().Seq) {
			if !errors.Is(err, context.Canceled) {
				return fmt.Errorf("got %w from a Tail whose context had ended before", err)
			}
		}
		return nil
	})
	c.wait()
}
