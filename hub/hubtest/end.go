package hubtest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"github.com/tidewire/tidewire/hub"
)

func limitsAreKept(t *run) {
	if own := t.open(Config{}).Limits(); own.Group < 1 || own.Bytes < 1 {
		t.Errorf("got limits %+v", own)
	}
	want := hub.Limits{Group: 7, Bytes: 1000}
	l := t.open(Config{Limits: want})
	if got := l.Limits(); got != want {
		t.Errorf("got limits %+v, want %+v", got, want)
	}
	g := group("a", make([]string, want.Group)...)
	for i := range g.Events {
		g.Events[i].Data = strings.Repeat("x", want.Bytes-len("a"))
	}
	l.put(g)
}

// end closes a Log, twice.
func (p *probe) end() {
	p.t.Helper()
	for range 2 {
		if err := p.Close(); err != nil {
			p.t.Fatalf("close: %v", err)
		}
	}
}

func closeEndsTails(t *run) {
	l := t.open(Config{})
	seq := l.add("a", "one")
	var tails []*tailer
	for range 5 {
		tails = append(tails, l.tail(0), l.tail(seq))
	}
	tails[0].until(seq)
	l.end()
	for _, tail := range tails {
		if err := tail.end(); err != nil && !errors.Is(err, hub.ErrUnavailable) {
			t.Errorf("got %v from a Tail of a Log that was closed, want ErrUnavailable or none", err)
		}
	}
}

func closeEndsAppends(t *run) {
	l := t.open(Config{})
	var mu sync.Mutex
	verdicts := make(map[string]error) // by data
	enough := make(chan struct{})
	c := t.crew()
	c.add(8, func(ctx context.Context, i int) error {
		for n := 0; ; n++ {
			name := fmt.Sprint(i, " ", n)
			_, err := l.Append(ctx, group("a", name))
			mu.Lock()
			verdicts[name] = err
			if len(verdicts) == 50 {
				close(enough)
			}
			mu.Unlock()
			runtime.Gosched() // to the one who closes
			switch {
			case errors.Is(err, hub.ErrUnavailable) || errors.Is(err, hub.ErrIndeterminate):
				return nil
			case err != nil:
				return fmt.Errorf("append: got %w, want ErrUnavailable or ErrIndeterminate", err)
			}
		}
	})
	select {
	case <-enough:
	case <-c.ctx.Done():
		c.wait()
	}
	l.end()
	c.wait()

	if t.h.Reopen == nil {
		return // what was stored is gone
	}
	l = t.reopen(l, false)
	stored := make(map[string]bool)
	for _, r := range l.all(hub.Query{Topics: []string{"a"}}) {
		stored[r.Event.Data] = true
	}
	for name, err := range verdicts {
		if err == nil && !stored[name] || errors.Is(err, hub.ErrUnavailable) && stored[name] {
			t.Errorf("event %q: got error %v, stored %v", name, err, stored[name])
		}
	}
}

func nothingWorksAfterClose(t *run) {
	l := t.open(Config{})
	l.add("a", "one")
	l.end()
	refused := func(call string, err error) {
		t.Helper()
		if !errors.Is(err, hub.ErrUnavailable) {
			t.Errorf("%s: got %v after Close, want ErrUnavailable", call, err)
		}
	}
	_, err := l.Append(t.ctx, group("a", "two"))
	refused("append", err)
	_, err = l.Read(t.ctx, hub.Query{Topics: []string{"a"}})
	refused("read", err)
	_, err = l.Locate(t.ctx, hub.Cursor{Epoch: "any", Seq: 1})
	refused("locate", err)
	_, err = l.Topic(t.ctx, "a")
	refused("topic", err)
	_, err = l.Sync(t.ctx)
	refused("sync", err)
	for batch, err := range l.Tail(t.ctx, 0) {
		if err == nil {
			t.Fatalf("tail: got %d records after Close", len(batch))
		}
		refused("tail", err)
	}
}
