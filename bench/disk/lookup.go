//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tidewire/tidewire/bench/internal/report"
	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/disk"
)

// lookupTarget is what a look-up may take.
const lookupTarget = time.Millisecond

// A lookupRow is a way to find a place.
type lookupRow struct {
	name string

	// prepare returns the look-up of a number, which tells whether what it has found
	// is right; only the look-up is timed.
	prepare func(number uint64) func() error

	took, firstTook []time.Duration
}

func (b *bench) lookup() error {
	h, err := b.largeHistory()
	if err != nil {
		return err
	}
	calls, err := b.lookupGo(h)
	if err != nil {
		return fmt.Errorf("by Go calls: %w", err)
	}
	streams, err := b.lookupHTTP(h)
	if err != nil {
		return fmt.Errorf("through HTTP: %w", err)
	}
	fmt.Fprintf(b.out, "\n## Look-up among %s events of %d bytes, at random\n\n%s%s- The history was loaded by one goroutine in groups of %d, not synced, with %s events/s.\n",
		thousands(float64(h.count)), largeSize, lookupTable(append(calls, streams...)), lookupNotes, groupSize, h.rate())
	return nil
}

// firstLookups is how many look-ups there are while the system has nothing of the files
// in memory: few, so that most meet something that was not read.
func (b *bench) firstLookups() int { return max(20, b.lookups/40) }

func (b *bench) lookupGo(h *history) (rows []*lookupRow, err error) {
	b.say("look-up, Go calls")
	if err := evict(h.dir); err != nil {
		return nil, err
	}
	o, err := logOptions(disk.SyncAlways)
	if err != nil {
		return nil, err
	}
	l, err := disk.Open(h.dir, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	locate := func(c hub.Cursor, want hub.Location) func() error {
		return func() error {
			got, err := l.Locate(b.ctx, c)
			if err == nil && got != want {
				err = fmt.Errorf("%+v is at %+v, want %+v", c, got, want)
			}
			return err
		}
	}
	rows = []*lookupRow{
		{name: "Locate, a publisher's id", prepare: func(n uint64) func() error {
			return locate(hub.Cursor{ID: idOf(n)}, hub.Location{Seq: h.sequence(n)})
		}},
		{name: "Locate, an unknown id", prepare: func(n uint64) func() error {
			return locate(hub.Cursor{ID: idOf(n + 1<<40)}, hub.Location{Lost: hub.LostUnknown})
		}},
		{name: "Locate, a position", prepare: func(n uint64) func() error {
			return locate(hub.Cursor{Epoch: h.groups[0].epoch, Seq: h.sequence(n)}, hub.Location{Seq: h.sequence(n)})
		}},
		{name: "Locate, a time", prepare: func(n uint64) func() error {
			g := h.groups[n/groupSize]
			return locate(hub.Cursor{Since: g.time}, hub.Location{Seq: h.before(g.time)})
		}},
	}
	return rows, b.lookAll(rows, h)
}

// before returns the last sequence of the groups that are older than a time.
func (h *history) before(t time.Time) uint64 {
	low, high := 0, len(h.groups)
	for low < high {
		if mid := (low + high) / 2; h.groups[mid].time.Before(t) {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return h.groups[low].first - 1
}

// lookAll looks up with files that nothing is known of, and again when all of them were
// read. Rows take turns.
func (b *bench) lookAll(rows []*lookupRow, h *history) error {
	rng := rand.New(rand.NewPCG(3, uint64(len(rows))))
	look := func(n int, keep func(*lookupRow, time.Duration)) error {
		for range n {
			for _, r := range rows {
				// The last events of each topic are left out: something has to follow.
				look := r.prepare(rng.Uint64N(uint64(h.loaded - 2*topics)))
				begun := time.Now()
				err := look()
				took := time.Since(begun)
				if err == nil {
					err = b.ctx.Err()
				}
				if err != nil {
					return fmt.Errorf("%s: %w", r.name, err)
				}
				keep(r, took)
			}
		}
		return nil
	}
	err := look(b.firstLookups(), func(r *lookupRow, d time.Duration) { r.firstTook = append(r.firstTook, d) })
	if err != nil {
		return err
	}
	if err := readAll(h.dir); err != nil {
		return err
	}
	n := b.lookups
	if err := look(n/10, func(*lookupRow, time.Duration) {}); err != nil {
		return err
	}
	return look(n, func(r *lookupRow, d time.Duration) { r.took = append(r.took, d) })
}

// lookupHTTP measures how long a subscriber that resumes waits for its first event, on a
// connection that is there already.
func (b *bench) lookupHTTP(h *history) (rows []*lookupRow, err error) {
	b.say("look-up, HTTP")
	if err := evict(h.dir); err != nil {
		return nil, err
	}
	p, err := b.serve("lookup", h.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := b.beginProfile(p); err != nil {
		return nil, err
	}
	resume := func(n uint64, id string) func() error {
		fd, err := dial(p.address)
		s := &subscriber{fd: fd}
		return func() error {
			if err != nil {
				return err
			}
			defer s.close()
			return firstIs(b.ctx, s, "/"+topicNames[topicOf(n)], id, n+topics)
		}
	}
	rows = []*lookupRow{
		{name: "HTTP, a publisher's id", prepare: func(n uint64) func() error { return resume(n, idOf(n)) }},
		{name: "HTTP, a position", prepare: func(n uint64) func() error { return resume(n, h.position(n)) }},
	}
	own := *b
	own.lookups = b.lookups / 10
	return rows, own.lookAll(rows, h)
}

// firstIs subscribes, and looks at the first event.
func firstIs(ctx context.Context, s *subscriber, query, after string, want uint64) error {
	if err := s.ask(query, after); err != nil {
		return err
	}
	var first uint64
	s.each = func(number uint64) {
		if s.count == 1 {
			first = number
		}
	}
	if err := readOne(ctx, s, func(s *subscriber) bool { return s.count > 0 }); err != nil {
		return err
	}
	if first != want {
		return fmt.Errorf("the first event after %s is %d, want %d", after, first, want)
	}
	return nil
}

const lookupNotes = `
- **first touch**: the process was just started, and the system had nothing of its files in
  memory. **warm**: the system has all of them, the process as much as its cache holds.
- HTTP: from the request, on an open connection, to the first event that follows.
`

func lookupTable(rows []*lookupRow) string {
	cells := [][]string{
		{"way", "warm p50 µs", "p99 µs", "longest µs", "first touch p50 µs", "p99 µs", "longest µs", "warm p99 < 1 ms"},
		{"---", "--:", "--:", "--:", "--:", "--:", "--:", "--:"},
	}
	for _, r := range rows {
		row := []string{r.name}
		for _, took := range [][]time.Duration{sorted(r.took), sorted(r.firstTook)} {
			for _, share := range []float64{.5, .99, 1} {
				row = append(row, report.Short(float64(quantile(took, share))/float64(time.Microsecond)))
			}
		}
		met := "✗"
		if quantile(r.took, .99) < lookupTarget {
			met = "✓"
		}
		cells = append(cells, append(row, met))
	}
	return report.Table(cells)
}
