package hubtest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/tidewire/tidewire/hub"
)

// A stopped is a reader that takes one batch of a Tail, and comes for the next one only
// when it is released.
type stopped struct {
	took    chan struct{} // closed when it has
	release chan uint64   // how far to read then
	seen    []uint64
	trimmed bool // it was told of a gap
}

// stop starts stopped readers of a Log that has a record, and waits until they stand.
func (c *crew) stop(l hub.Log, n int) []*stopped {
	c.t.Helper()
	all := make([]*stopped, n)
	for i := range all {
		all[i] = &stopped{took: make(chan struct{}), release: make(chan uint64, 1)}
	}
	c.add(n, func(ctx context.Context, i int) error { return all[i].read(ctx, l) })
	for _, s := range all {
		c.t.await(s.took, "a Tail's first batch")
	}
	return all
}

func (s *stopped) read(ctx context.Context, l hub.Log) error {
	end := uint64(0)
	for batch, err := range l.Tail(ctx, 0) {
		var trimmed *hub.TrimmedError
		if errors.As(err, &trimmed) {
			s.trimmed = true
			return nil
		}
		if err != nil {
			return fmt.Errorf("tail: %w", err)
		}
		for _, r := range events(batch) {
			s.seen = append(s.seen, r.Seq)
		}
		if end == 0 {
			close(s.took)
			select {
			case end = <-s.release:
			case <-ctx.Done():
				return nil
			}
		}
		if len(s.seen) > 0 && last(s.seen) >= end {
			return nil
		}
	}
	return errors.New("tail ended")
}

func slowTailDelaysNoAppend(t *run) {
	const writers, appends = 4, 300
	l := t.open(Config{})
	l.add("a", "first")
	tails := t.crew()
	stopped := tails.stop(l.Log, 3)
	c := t.crew()
	c.add(writers, func(ctx context.Context, _ int) error {
		for range appends {
			if _, err := l.Append(ctx, group("a", "one")); err != nil {
				return fmt.Errorf("append: %w", err)
			}
		}
		return nil
	})
	c.wait()
	end := l.add("a", "end")
	for _, s := range stopped {
		s.release <- end
	}
	tails.wait()
	want := sequences(l.all(hub.Query{Topics: []string{"a"}}))
	for _, s := range stopped {
		if !s.trimmed && !slices.Equal(s.seen, want) {
			t.Errorf("a Tail that was stopped yields %d records in the end, want %d", len(s.seen), len(want))
		}
	}
}

// slowTailHoldsNoMemory appends far more than may be held for Tails that stand still,
// and that retention keeps.
func slowTailHoldsNoMemory(t *run) {
	slack := t.h.Slack
	if slack == 0 {
		slack = DefaultSlack
	}
	l := t.open(Config{Retention: hub.RetentionRules{{Pattern: "a", Retention: hub.Retention{Count: 100}}}})
	l.add("a", "first")
	tails := t.crew()
	stopped := tails.stop(l.Log, 4)
	total := 1
	fill := func(bytes int) {
		n := min(100, l.Limits().Group)
		for ; bytes > 0; bytes -= n << 10 {
			g := group("a", make([]string, n)...)
			for i := range g.Events {
				g.Events[i].Data = strings.Repeat("x", 1<<10)
			}
			l.put(g)
			total += n
		}
	}
	fill(1 << 20)
	before := heap()
	fill(3 * slack)
	if grown := heap() - before; grown > slack+slack/2 {
		t.Errorf("memory grows by %d bytes while Tails stand still, want at most about %d", grown, slack)
	}
	end := l.add("a", "end")
	total++
	for _, s := range stopped {
		s.release <- end
	}
	tails.wait()
	for _, s := range stopped {
		if !s.trimmed && len(s.seen) != total {
			t.Errorf("a Tail that was stopped yields %d of %d records, and no *TrimmedError", len(s.seen), total)
		}
	}
}

// heap returns how many bytes are in use.
func heap() int {
	runtime.GC()
	runtime.GC() // what finalizers and pools held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func endedTailsLeaveNothing(t *run) {
	l := t.open(Config{})
	l.add("a", "first")
	before := runtime.NumGoroutine()
	for range 100 {
		for _, err := range l.Tail(t.ctx, 0) {
			t.must(err)
			break
		}
	}
	var waiting []*tailer
	for range 100 {
		waiting = append(waiting, l.tail(l.Head().Seq))
	}
	second := l.add("a", "second")
	for _, tail := range waiting {
		tail.until(second)
		tail.finish()
	}
	const others = 3 // goroutines of the runtime and of the Log may come up meanwhile
	for runtime.NumGoroutine() > before+others {
		if t.ctx.Err() != nil {
			t.Fatalf("got %d goroutines after Tails have ended, %d before", runtime.NumGoroutine(), before)
		}
		runtime.Gosched()
	}
}
