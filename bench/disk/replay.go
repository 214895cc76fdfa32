//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidewire/tidewire/bench/internal/report"
	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/disk"
)

const replayTarget = 500_000 // events/s to one client

// A replayRow is a way to read a whole history.
type replayRow struct {
	name    string
	query   string // of a subscription; "": Go calls
	pattern bool   // topics are asked for by a pattern
	cold    bool   // the system has nothing of the files in memory
	history *history

	rounds []replayRound
}

// A replayRound is what one round has shown.
type replayRound struct {
	perSecond float64
	first     float64 // ms to the first event
	cpu       float64 // seconds of the server's processors for a million events
	cores     float64
	client    float64
	memory    float64 // of the server then, in MiB
	others    float64
}

func (b *bench) replay() error {
	one, err := b.loadHistory("one", b.events, &maker{notes: newNotes(dataSize), topic: "one"})
	if err != nil {
		return err
	}
	many, err := b.loadHistory("many", b.events, &maker{notes: newNotes(dataSize)})
	if err != nil {
		return err
	}
	if err := b.replayOne(one, many); err != nil {
		return err
	}
	if b.rows.MatchString("storm") {
		if err := b.storms(many); err != nil {
			return err
		}
	}
	return errors.Join(one.remove(), many.remove())
}

func (b *bench) replayOne(one, many *history) error {
	var rows []*replayRow
	for _, r := range []*replayRow{
		{name: "Go calls, one topic", history: one},
		{name: "Go calls, pattern **, 100 topics", pattern: true, history: many},
		{name: "HTTP, one topic", query: "/one?since=earliest", history: one},
		{name: "HTTP, one topic, nothing in memory", query: "/one?since=earliest", cold: true, history: one},
		{name: "HTTP, pattern **, 100 topics", query: "?pattern=**&since=earliest", pattern: true, history: many},
	} {
		if b.rows.MatchString(r.name) {
			rows = append(rows, r)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	err := measured(b, rows, func(r *replayRow) string { return r.name }, func(r *replayRow) error {
		round, err := undisturbed(b, func(p replayRound) float64 { return p.others }, func() (replayRound, error) { return b.replayRound(r) })
		r.rounds = append(r.rounds, round)
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "\n## Replay to one client, %s events of %d bytes, a process just started; medians, %d rounds\n\n%s", thousands(float64(b.events)), dataSize, b.rounds, replayTable(rows))
	return nil
}

func (b *bench) replayRound(r *replayRow) (replayRound, error) {
	prepare := readAll
	if r.cold {
		prepare = evict
	}
	if err := prepare(r.history.dir); err != nil {
		return replayRound{}, err
	}
	if r.query == "" {
		return b.replayGo(r)
	}
	return b.replayHTTP(r)
}

// replayHTTP reads a history through a server that has just been started.
func (b *bench) replayHTTP(r *replayRow) (round replayRound, err error) {
	p, err := b.serve("replay "+r.name, r.history.dir)
	if err != nil {
		return round, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := b.beginProfile(p); err != nil {
		return round, err
	}
	before := b.use(p.pid())
	s, err := subscribe(p.address, r.query, "")
	if err != nil {
		return round, err
	}
	defer s.close()
	err = readOne(b.ctx, s, func(s *subscriber) bool { return s.count >= r.history.count })
	if err != nil {
		return round, err
	}
	used := b.use(p.pid()).minus(before)
	elapsed := time.Since(before.at).Seconds()
	memory, _ := resident(p.pid())
	round = replayRound{
		perSecond: float64(s.count) / elapsed,
		first:     milliseconds(s.first.Sub(before.at)),
		cpu:       used.server.Seconds() / float64(s.count) * 1e6,
		cores:     used.server.Seconds() / elapsed,
		client:    used.own.Seconds() / elapsed,
		others:    max(0, (used.machine-used.server-used.own).Seconds()/elapsed),
		memory:    float64(memory) / (1 << 20),
	}
	return round, s.check(r.history.expect())
}

// expect is what a subscriber to all of a history gets.
func (h *history) expect() expect {
	return expect{h.count, sumOf(0, 1, uint64(h.count))}
}

// replayGo reads a history page by page, as the hub does.
func (b *bench) replayGo(r *replayRow) (round replayRound, err error) {
	o, err := logOptions(disk.SyncAlways)
	if err != nil {
		return round, err
	}
	l, err := disk.Open(r.history.dir, o)
	if err != nil {
		return round, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	q := hub.Query{Topics: []string{"one"}, Limit: 256, Bytes: 64 << 10} // as a cursor of the hub has it
	if r.pattern {
		q.Topics, q.Patterns = nil, []string{"**"}
	}
	stop, err := b.profileHere("replay " + r.name)
	if err != nil {
		return round, err
	}
	defer stop()
	before := b.use(0)
	var got expect
	for {
		page, err := l.Read(b.ctx, q)
		if err != nil {
			return round, err
		}
		if got.count == 0 {
			round.first = milliseconds(time.Since(before.at))
		}
		for i := range page.Records {
			got.count++
			got.sum += readNumber([]byte(page.Records[i].Event.Data[len(dataPrefix):]))
		}
		if page.Through == q.After {
			break
		}
		q.After = page.Through
	}
	used := b.use(0).minus(before)
	elapsed := time.Since(before.at).Seconds()
	round.perSecond = float64(got.count) / elapsed
	round.cpu = used.own.Seconds() / float64(got.count) * 1e6
	round.cores = used.own.Seconds() / elapsed
	round.others = max(0, (used.machine-used.own).Seconds()/elapsed)
	if got != r.history.expect() {
		return round, fmt.Errorf("read %v, want %v", got, r.history.expect())
	}
	return round, nil
}

func replayTable(rows []*replayRow) string {
	cells := [][]string{
		{"way", "events/s", "target", "first event ms", "s/million", "processors", "client", "others", "server MiB"},
		{"---", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:"},
	}
	for _, r := range rows {
		of := func(f func(replayRound) float64) float64 { return medianOf(r.rounds, f) }
		speed := of(func(p replayRound) float64 { return p.perSecond })
		row := []string{
			r.name, thousands(speed), "–",
			fmt.Sprintf("%.1f", of(func(p replayRound) float64 { return p.first })),
			fmt.Sprintf("%.2f", of(func(p replayRound) float64 { return p.cpu })),
			fmt.Sprintf("%.2f", of(func(p replayRound) float64 { return p.cores })),
			"–",
			fmt.Sprintf("%.2f", of(func(p replayRound) float64 { return p.others })),
			"–",
		}
		if r.query != "" {
			row[2] = verdict(speed, replayTarget)
			row[6] = fmt.Sprintf("%.2f", of(func(p replayRound) float64 { return p.client }))
			row[8] = fmt.Sprintf("%.0f", of(func(p replayRound) float64 { return p.memory }))
		}
		cells = append(cells, row)
	}
	return report.Table(cells)
}

// A storm is many clients that come back at the same moment, each from another place,
// while events are published.
type storm struct {
	live       float64 // s until all have what was there when they came
	p50, p99   float64 // s, of single clients
	perSecond  float64 // events to all of them together
	before     pace
	during     pace
	cores      float64
	client     float64
	others     float64
	memory     float64 // MiB
	deliveries int
}

// A pace is how long paced publishes took, in ms from when each was due.
type pace struct {
	count    int
	p50, p99 float64
	most     float64
}

// The paced publisher.
const (
	paceRate  = 1000 // events/s
	paceConns = 256  // so that one which is late has no other one wait
)

func (b *bench) storms(h *history) error {
	var rounds []storm
	for i := range b.rounds {
		b.say("round %d of %d: %d clients at once", i+1, b.rounds, b.clients)
		s, err := undisturbed(b, func(s storm) float64 { return s.others }, func() (storm, error) { return b.storm(h) })
		if err != nil {
			return fmt.Errorf("%d clients at once: %w", b.clients, err)
		}
		rounds = append(rounds, s)
	}
	fmt.Fprintf(b.out, "\n## Replay to %s clients at once, about %s events each, while %s events/s are published; medians, %d rounds\n\n%s",
		thousands(float64(b.clients)), thousands(float64(b.rest())), thousands(paceRate), b.rounds, stormTable(rounds))
	return nil
}

// rest is about how many events each client of the storm is behind.
func (b *bench) rest() int { return min(1000, b.events/topics/2) }

// behind returns how many of the loaded events a client is behind: each another number,
// and fewer if there are more events after them.
func (b *bench) behind(h *history, client int) int {
	rest := b.rest()
	return max(0, rest/2+rest*client/b.clients-(h.count-h.loaded)/topics)
}

func (b *bench) storm(h *history) (st storm, err error) {
	// Of its own, as events are added to it.
	p, err := b.serve("replay storm", h.dir, "--heartbeat", "0")
	if err != nil {
		return st, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	ctx, stop := context.WithCancel(b.ctx)
	defer stop()
	l := &load{address: p.address, conns: paceConns, make: newSingle(h.notes), rate: paceRate, first: uint64(h.count), warm: b.warm, time: time.Hour}
	var out outcome
	var failed error
	published := make(chan struct{})
	go func() {
		defer close(published)
		out, failed = l.run(ctx)
	}()
	if err := b.sleep(4 * b.warm); err != nil { // the first of which is not measured
		return st, err
	}
	c, err := newCrowd()
	if err != nil {
		return st, err
	}
	defer c.close()
	if err := b.beginProfile(p); err != nil {
		return st, err
	}
	before := b.use(p.pid())
	caught, err := b.comeBack(c, p, h)
	if err != nil {
		return st, err
	}
	used := b.use(p.pid()).minus(before)
	memory, _ := resident(p.pid())
	if err := b.sleep(b.warm); err != nil {
		return st, err
	}
	stop()
	<-published
	if failed != nil {
		return st, fmt.Errorf("publish: %w", failed)
	}
	seconds := caught.all.Seconds()
	st = storm{
		live: seconds, p50: quantile(caught.each, .5).Seconds(), p99: quantile(caught.each, .99).Seconds(),
		perSecond: float64(caught.events) / seconds, deliveries: caught.events,
		before: paceOf(&out, time.Time{}, before.at),
		during: paceOf(&out, before.at, before.at.Add(caught.all)),
		cores:  used.server.Seconds() / seconds, client: used.own.Seconds() / seconds,
		others: max(0, (used.machine-used.server-used.own).Seconds()/seconds),
		memory: float64(memory) / (1 << 20),
	}
	err = b.nothingLost(c, h, out.next)
	h.count = int(out.next)
	return st, err
}

// A catchUp is how long it took.
type catchUp struct {
	all    time.Duration
	each   []time.Duration // sorted
	events int
}

// comeBack has all clients subscribe, and reads until each has all events that were
// there when the first one came.
func (b *bench) comeBack(c *crowd, p *process, h *history) (up catchUp, err error) {
	newest := make([]uint64, topics)
	for i, name := range topicNames {
		s, err := p.head(name)
		if err != nil {
			return up, err
		}
		newest[i] = readNumber([]byte(afterDash(s.newest)))
	}
	begun := time.Now()
	for i := range b.clients {
		s, err := subscribe(p.address, "/"+topicNames[i%topics], h.position(b.lastSeen(h, i)))
		if err != nil {
			return up, err
		}
		if err := c.add(s); err != nil {
			return up, err
		}
	}
	caught := make(map[*subscriber]bool, b.clients)
	index := make(map[*subscriber]int, b.clients)
	for i, s := range c.all {
		index[s] = i
	}
	err = c.read(b.ctx, func(s *subscriber) bool {
		if !caught[s] && s.sequence >= newest[index[s]%topics] {
			caught[s] = true
			up.each = append(up.each, time.Since(begun))
		}
		return len(caught) == len(c.all)
	})
	up.all = time.Since(begun)
	for _, s := range c.all {
		up.events += s.count
	}
	sorted(up.each)
	return up, err
}

func afterDash(id string) string {
	for i := range id {
		if id[i] == '-' {
			return id[i+1:]
		}
	}
	return ""
}

// lastSeen returns the number of the last event that a client has: of the loaded ones, in
// its topic.
func (b *bench) lastSeen(h *history, client int) uint64 {
	inTopic := h.loaded/topics - 1 - b.behind(h, client)
	return uint64(inTopic*topics + client%topics)
}

// nothingLost reads until each client has every event up to next, once and in order.
func (b *bench) nothingLost(c *crowd, h *history, next uint64) error {
	want := make([]expect, len(c.all))
	index := make(map[*subscriber]int, len(c.all))
	for i, s := range c.all {
		first := b.lastSeen(h, i) + topics
		count := uint64(0)
		if next > first {
			count = (next - first + topics - 1) / topics
		}
		want[i] = expect{int(count), sumOf(first, topics, count)}
		index[s] = i
	}
	lacking := make(map[*subscriber]bool)
	for i, s := range c.all {
		if s.count < want[i].count {
			lacking[s] = true
		}
	}
	if len(lacking) > 0 {
		err := c.read(b.ctx, func(s *subscriber) bool {
			if s.count >= want[index[s]].count {
				delete(lacking, s)
			}
			return len(lacking) == 0
		})
		if err != nil {
			return fmt.Errorf("%d clients lack events: %w", len(lacking), err)
		}
	}
	for i, s := range c.all {
		if err := s.check(want[i]); err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
	}
	return nil
}

func paceOf(out *outcome, from, to time.Time) pace {
	var all []time.Duration
	for i, due := range out.due {
		if !due.Before(from) && due.Before(to) {
			all = append(all, out.latencies[i])
		}
	}
	sorted(all)
	return pace{len(all), milliseconds(quantile(all, .5)), milliseconds(quantile(all, .99)), milliseconds(quantile(all, 1))}
}

func stormTable(rounds []storm) string {
	of := func(f func(storm) float64) float64 { return medianOf(rounds, f) }
	two := func(f func(storm) float64) string { return fmt.Sprintf("%.2f", of(f)) }
	cells := [][]string{
		{"figure", "median"},
		{"---", "--:"},
		{"until all are live, s", two(func(s storm) float64 { return s.live })},
		{"until one is live, p50 s", two(func(s storm) float64 { return s.p50 })},
		{"until one is live, p99 s", two(func(s storm) float64 { return s.p99 })},
		{"events until then", thousands(of(func(s storm) float64 { return float64(s.deliveries) }))},
		{"events/s to all", thousands(of(func(s storm) float64 { return s.perSecond }))},
		{"publish before, p50 ms", two(func(s storm) float64 { return s.before.p50 })},
		{"publish before, p99 ms", two(func(s storm) float64 { return s.before.p99 })},
		{"publish meanwhile, p50 ms", two(func(s storm) float64 { return s.during.p50 })},
		{"publish meanwhile, p99 ms", two(func(s storm) float64 { return s.during.p99 })},
		{"publish meanwhile, longest ms", two(func(s storm) float64 { return s.during.most })},
		{"server's processors", two(func(s storm) float64 { return s.cores })},
		{"client's processors", two(func(s storm) float64 { return s.client })},
		{"others' processors", two(func(s storm) float64 { return s.others })},
		{"server's memory then, MiB", thousands(of(func(s storm) float64 { return s.memory }))},
	}
	return report.Table(cells)
}
