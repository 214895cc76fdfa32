package hubtest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/hub/hubtest"
)

var storeMutants = []mutant{
	{name: "Head is within a group", check: "07/to every reader", want: "read up to head", bend: func(b *bent) {
		b.eachHead(func(h *hub.Head) { h.Seq -= min(h.Seq, 1) })
	}},
	{name: "a group is stored event by event", check: "07/to every reader", want: "read up to head", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (all hub.Receipt, err error) {
			for i, ev := range g.Events {
				r, err := b.model.Append(ctx, &hub.Group{ID: fmt.Sprint(g.ID, i), Events: []hub.Event{ev}})
				if err != nil {
					return r, err
				}
				all.Sequences = append(all.Sequences, r.Sequences...)
				runtime.Gosched()
			}
			return all, nil
		}
	}},
	{name: "an end forgets what is closed", check: "07/after a clean end", want: "crash false: got topics", spoil: reopened(false, func(s *store) {
		for name, t := range s.state.topics {
			t.closed = false
			s.state.topics[name] = t
		}
	})},
	{name: "an end forgets what was removed", check: "07/after a clean end", want: "got gap false", spoil: reopened(false, func(s *store) {
		for name, t := range s.state.topics {
			t.trimmed = 0
			s.state.topics[name] = t
		}
	})},
	{name: "an end draws another epoch", check: "07/after a clean end", want: "got head", spoil: reopened(false, func(s *store) { s.state.epoch = "other" })},
	{name: "a crash loses the last group", check: "07/after a crash under load", want: "is lost in the crash", spoil: reopened(true, func(s *store) {
		s.state.rows = s.state.rows[:len(s.state.rows)-3]
	})},
	{name: "a crash leaves half a group", check: "07/after a crash under load", want: "got only the first", spoil: reopened(true, func(s *store) {
		s.state.rows = s.state.rows[:len(s.state.rows)-1]
	})},
	{name: "a torn write is a shorter group", check: "07/after a crash at any point", want: "crash at step 3: got", bug: tornWrite},
	{name: "success comes before the sync", check: "07/after a crash at any point", want: "crash at step 2: got", bug: ackBeforeSync},
	{name: "a sync that fails is not looked at", check: "08/a sync that fails", want: "after a sync that failed", bug: ackBeforeSync},
	{name: "it goes on after a sync that failed", check: "08/a sync that fails", want: "after a sync that failed", bug: goesOnAfterSync},
	{name: "it says that a repeat is stored", check: "08/a sync that fails", want: "repeat: got", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			r, err := b.model.Append(ctx, g)
			b.mu.Lock()
			defer b.mu.Unlock()
			if slices.ContainsFunc(b.late, func(o *hub.Group) bool { return o.ID == g.ID }) && !errors.Is(err, hub.ErrIndeterminate) {
				return hub.Receipt{Sequences: make([]uint64, len(g.Events)), Replayed: true}, nil
			}
			return r, err
		}
	}},
	{name: "what was written is said to be surely not stored", check: "08/a write that fails", want: "for a group that was stored", bug: storedThoughUnavailable},
	{name: "a write that fails is success", check: "08/a write that fails", want: "want ErrUnavailable or ErrIndeterminate", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			r, _ := b.model.Append(ctx, g)
			return hub.Receipt{Sequences: append(r.Sequences, make([]uint64, len(g.Events)-len(r.Sequences))...)}, nil
		}
	}},
	{name: "the order begins anew when nothing is kept", check: "09/after retention to empty", want: "after", bug: sequenceFromKept},
	{name: "the order begins anew after Forget", check: "09/after Forget", want: "after", bug: sequenceFromKept},
	{name: "the next sequence is found from what is kept", check: "09/after a clean end", want: "got head", spoil: reopened(false, sequenceOfRows)},
	{name: "the next sequence is found from what is kept", check: "09/after a crash", want: "got head", spoil: reopened(true, sequenceOfRows)},
	{name: "a crash makes another epoch", check: "09/after a crash", want: "got head", spoil: reopened(true, func(s *store) { s.state.epoch += "'" })},
	{name: "a copy is the same epoch", check: "09/a restored copy is another epoch", want: "want another epoch", spoil: sameEpoch},
	{name: "a copy knows positions of the old epoch", check: "09/a restored copy is another epoch", want: "want lost \"epoch\"", bend: anyEpoch},
	{name: "a position is known by its sequence", check: "12/is of another order after a rollback", want: "want lost \"epoch\"", bend: anyEpoch},
	{name: "a copy is the same epoch", check: "12/is of another order after a rollback", want: "want lost \"epoch\"", spoil: sameEpoch},
	{name: "Append is success in an outage", check: "15/refuses and is recovered from", want: "append in an outage: got <nil>", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			r, _ := b.model.Append(ctx, g)
			if r.Sequences == nil {
				r.Sequences = make([]uint64, len(g.Events))
			}
			return r, nil
		}
	}},
	{name: "Append waits for the end of an outage", check: "15/refuses and is recovered from", want: "waited in vain", spoil: hasty, bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			r, err := b.model.Append(ctx, g)
			for errors.Is(err, hub.ErrUnavailable) && !b.isClosed() {
				r, err = b.model.Append(context.Background(), g)
			}
			return r, err
		}
	}},
	{name: "Read fails in an outage", check: "15/refuses and is recovered from", want: "read", bend: func(b *bent) {
		b.read = func(ctx context.Context, q hub.Query) (hub.Page, error) {
			b.mu.Lock()
			down := b.down
			b.mu.Unlock()
			if down {
				return hub.Page{}, hub.ErrUnavailable
			}
			return b.model.Read(ctx, q)
		}
	}},
	{name: "a Tail begins again after an outage", check: "15/refuses and is recovered from", want: "each once", bend: func(b *bent) {
		first := true
		b.eachBatch(func(records []hub.Record) []hub.Record {
			if first {
				first = false
				return records
			}
			page, _ := b.model.Read(context.Background(), hub.Query{Patterns: []string{"**"}})
			return page.Records
		})
	}},
}

func sequenceOfRows(s *store) {
	s.state.seq = 0
	for _, r := range s.state.rows {
		if r.Kind == hub.KindEvent {
			s.state.seq = r.Seq
		}
	}
}

func sameEpoch(h *hubtest.Harness) {
	h.Copy = func(t testing.TB, l hub.Log) func() hub.Log {
		m := unbend(l)
		s := newStore(m.config, none)
		s.state = m.state.clone()
		return func() hub.Log { return &model{store: s} }
	}
}

func anyEpoch(b *bent) {
	b.locate = func(ctx context.Context, c hub.Cursor) (hub.Location, error) {
		if c.Epoch != "" && c.Seq <= b.model.Head().Seq {
			return hub.Location{Seq: c.Seq}, nil
		}
		return b.model.Locate(ctx, c)
	}
}

func (m *model) isClosed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}
