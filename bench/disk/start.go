//go:build linux

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tidewire/tidewire/bench/internal/report"
)

// startTarget is how long a start may take after a crash.
const startTarget = 2 * time.Second

// A startRow is what happens before a start.
type startRow struct {
	name   string
	before func(*startRow, *history) error

	took   []time.Duration
	memory []float64 // MiB, then
	logs   []float64 // MiB of write-ahead logs before
}

func (b *bench) start() error {
	h, err := b.largeHistory()
	if err != nil {
		return err
	}
	tables, logs, err := onDisk(h.dir)
	if err != nil {
		return err
	}
	rows := []*startRow{
		{name: "clean", before: func(*startRow, *history) error { return nil }},
		{name: "clean, nothing in memory", before: func(_ *startRow, h *history) error { return evict(h.dir) }},
		{name: "kill -9, 32 publishers", before: func(_ *startRow, h *history) error {
			return b.crash(h, newSingle(h.notes))
		}},
		{name: "kill -9, 32 publishers, batches of 100", before: func(_ *startRow, h *history) error {
			return b.crash(h, &batch{notes: h.notes, n: 100})
		}},
	}
	err = measured(b, rows, func(r *startRow) string { return "start: " + r.name }, func(r *startRow) error { return b.startRound(r, h) })
	if err != nil {
		return err
	}
	held, err := b.held(h)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "\n## Start with %s events of %d bytes, to the first answer; medians, %d rounds\n\n%s", thousands(float64(h.loaded)), largeSize, b.rounds, startTable(rows))
	fmt.Fprintf(b.out, "\n## Size of %s events of %d bytes with ids of %d\n\n%s", thousands(float64(h.loaded)), largeSize, len(idOf(0)), sizeTable(h, tables, logs, held))
	return nil
}

// startRound starts after what the row says, and stops in an orderly way.
func (b *bench) startRound(r *startRow, h *history) (err error) {
	if err := r.before(r, h); err != nil {
		return err
	}
	_, logs, err := onDisk(h.dir)
	if err != nil {
		return err
	}
	p, err := b.serve("start "+r.name, h.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	memory, _ := resident(p.pid())
	r.took = append(r.took, p.took)
	r.memory = append(r.memory, mebibytes(memory))
	r.logs = append(r.logs, mebibytes(logs))
	return b.survived(p, h)
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

// crash kills a server that events are published to, and notes what it has answered.
func (b *bench) crash(h *history, make requester) error {
	p, err := b.serve("crash", h.dir)
	if err != nil {
		return err
	}
	mark, err := p.mark()
	if err != nil {
		return errors.Join(err, p.kill())
	}
	l := &load{address: p.address, conns: 32, make: make, first: uint64(h.count), time: time.Hour, keep: true, broken: true}
	late := time.AfterFunc(b.load, func() { _ = p.kill() })
	defer late.Stop()
	out, err := l.run(b.ctx)
	if err := errors.Join(err, p.kill()); err != nil {
		return err
	}
	if len(out.acked) == 0 {
		return errors.New("nothing was answered before the crash")
	}
	h.crashed = &crashed{mark: mark, first: uint64(h.count), next: out.next, each: make.events(), acked: out.acked, open: out.open}
	h.count = int(out.next)
	return nil
}

// A crashed is what was answered before a crash.
type crashed struct {
	mark        string // the position before
	first, next uint64
	each        int      // events in a request
	acked       []uint64 // numbers of requests that were answered
	open        int      // requests that were under way
}

// survived looks that all is there that was answered before a crash, once, and at most
// what was under way beside.
func (b *bench) survived(p *process, h *history) error {
	c := h.crashed
	if c == nil {
		return nil
	}
	h.crashed = nil
	end, err := p.mark()
	if err != nil {
		return err
	}
	stop := []byte("id: " + end + "\n")
	s, err := subscribe(p.address, "?pattern=**", c.mark)
	if err != nil {
		return err
	}
	defer s.close()
	seen := make([]bool, c.next-c.first)
	n := 0
	var wrong error
	s.each = func(number uint64) {
		switch i := number - c.first; {
		case i >= uint64(len(seen)):
			wrong = fmt.Errorf("event %d was never published", number)
		case seen[i]:
			wrong = fmt.Errorf("event %d is there twice", number)
		default:
			seen[i] = true
			n++
		}
	}
	s.stop = stop
	if err := readOne(b.ctx, s, func(s *subscriber) bool { return s.stopped || wrong != nil }); err != nil {
		return err
	}
	for _, first := range c.acked {
		for i := range uint64(c.each) {
			if !seen[first-c.first+i] {
				return fmt.Errorf("event %d was answered and is lost", first+i)
			}
		}
	}
	if extra := n - len(c.acked)*c.each; extra > c.open*c.each || extra%c.each != 0 {
		return fmt.Errorf("%d events are there that were not answered, in groups of %d, %d of which were under way", extra, c.each, c.open)
	}
	return wrong
}

// A held is what a server takes.
type held struct {
	what           string
	all, anonymous int64
}

// held starts once more, and looks how much memory the server has.
func (b *bench) held(h *history) (list []held, err error) {
	b.say("memory")
	p, err := b.serve("memory", h.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	note := func(what string) {
		all, anonymous := resident(p.pid())
		list = append(list, held{what, all, anonymous})
	}
	note("after the start")
	if err := b.sleep(b.idle); err != nil {
		return nil, err
	}
	note(fmt.Sprintf("after %v idle", b.idle))
	s, err := subscribe(p.address, "?pattern=**&since=earliest", "")
	if err != nil {
		return nil, err
	}
	defer s.close()
	n := min(h.loaded, max(b.events, h.loaded/10))
	if err := readOne(b.ctx, s, func(s *subscriber) bool { return s.count >= n }); err != nil {
		return nil, err
	}
	note(fmt.Sprintf("after a replay of %s events", thousands(float64(n))))
	return list, nil
}

func startTable(rows []*startRow) string {
	cells := [][]string{
		{"after", "ms", "longest ms", "target", "server MiB then", "log files MiB before"},
		{"---", "--:", "--:", "--:", "--:", "--:"},
	}
	for _, r := range rows {
		took := medianOf(r.took, milliseconds)
		target := "–"
		if strings.HasPrefix(r.name, "kill") {
			target = "< 2 s ✓"
			if took >= milliseconds(startTarget) {
				target = "< 2 s ✗"
			}
		}
		cells = append(cells, []string{
			r.name, report.Short(took), report.Short(milliseconds(quantile(sorted(r.took), 1))), target,
			fmt.Sprintf("%.0f", report.Median(r.memory)), fmt.Sprintf("%.0f", report.Median(r.logs)),
		})
	}
	return report.Table(cells)
}

func sizeTable(h *history, tables, logs int64, list []held) string {
	cells := [][]string{
		{"what", "MiB", "bytes an event"},
		{"---", "--:", "--:"},
	}
	add := func(what string, n int64) {
		cells = append(cells, []string{what, thousands(mebibytes(n)), report.Short(float64(n) / float64(h.loaded))})
	}
	add("events, as they count for retention", int64(h.loaded)*(largeSize+int64(len(idOf(0))+len(topicNames[0]))))
	add("on disk, tables", tables)
	add("on disk, log files", logs)
	for _, m := range list {
		add("memory "+m.what, m.all)
		add("of that not of files", m.anonymous)
	}
	return report.Table(cells)
}
