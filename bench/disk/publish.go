//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"github.com/tidewire/tidewire/bench/internal/report"
	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/disk"
	"github.com/tidewire/tidewire/server"
)

// The ways to publish, as the table calls them.
const (
	wayRaw     = "append and fdatasync"
	wayGo      = "Go calls"
	wayIDs     = "Go calls, publishers' ids"
	wayHTTP    = "HTTP"
	wayMinimal = "HTTP, minimal lines"
	wayNever   = "HTTP, --sync never"
	wayMemory  = "HTTP, --memory"
	wayBare    = "net/http, nothing stored"
)

// A publishRow is a way to publish, by some publishers at the same time.
type publishRow struct {
	way        string
	publishers int
	batch      int     // events at once
	target     float64 // events/s; 0: none

	rounds []publishRound
}

// A publishRound is what one round has shown.
type publishRound struct {
	perSecond, p50, p99 float64 // latencies in ms
	cpu                 float64 // seconds of the server's processors for a million events
	cores, client       float64 // of processors: the server's, and those who publish
	others              float64 // everybody else's
	busy                float64 // share of the time in which the disk had something to do
	flushes             float64 // of the disk, a second
}

func (r *publishRow) name() string {
	if r.batch > 1 {
		return fmt.Sprintf("%s, %d, batches of %d", r.way, r.publishers, r.batch)
	}
	return fmt.Sprintf("%s, %d", r.way, r.publishers)
}

func publishRows() []*publishRow {
	var rows []*publishRow
	for _, way := range []string{wayRaw, wayGo, wayHTTP} {
		for _, n := range []int{1, 32, 256} {
			rows = append(rows, &publishRow{way: way, publishers: n, batch: 1})
		}
		rows = append(rows, &publishRow{way: way, publishers: 32, batch: 100})
	}
	for _, row := range rows {
		switch {
		case row.way == wayHTTP && row.batch == 100:
			row.target = 200_000
		case row.way == wayHTTP && row.publishers == 32:
			row.target = 40_000
		}
	}
	return append(rows,
		&publishRow{way: wayIDs, publishers: 32, batch: 100},
		&publishRow{way: wayMinimal, publishers: 32, batch: 100, target: 200_000},
		&publishRow{way: wayNever, publishers: 32, batch: 1},
		&publishRow{way: wayMemory, publishers: 32, batch: 1},
		&publishRow{way: wayMemory, publishers: 32, batch: 100},
		&publishRow{way: wayBare, publishers: 32, batch: 1},
		&publishRow{way: wayBare, publishers: 32, batch: 100},
	)
}

func (b *bench) publish() error {
	var rows []*publishRow
	for _, r := range publishRows() {
		if b.rows.MatchString(r.name()) {
			rows = append(rows, r)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	err := measured(b, rows, (*publishRow).name, func(r *publishRow) error {
		round, err := undisturbed(b, func(p publishRound) float64 { return p.others }, func() (publishRound, error) {
			dir := filepath.Join(b.dir, "publish")
			round, err := b.publishRound(r, dir)
			return round, errors.Join(err, os.RemoveAll(dir))
		})
		r.rounds = append(r.rounds, round)
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "\n## Publishing, %d bytes, %d topics, beside %s events; medians, %d rounds of %v\n\n%s%s", dataSize, topics, thousands(float64(b.fill)), b.rounds, b.time, publishTable(rows), publishNotes)
	return nil
}

func (b *bench) publishRound(r *publishRow, dir string) (publishRound, error) {
	switch r.way {
	case wayRaw:
		return b.publishRaw(r, dir)
	case wayGo, wayIDs:
		return b.publishGo(r, dir)
	}
	return b.publishHTTP(r, dir)
}

// publishHTTP publishes to a server of its own, and looks that all is there.
func (b *bench) publishHTTP(r *publishRow, dir string) (round publishRound, err error) {
	p, err := b.launchFor(r, dir)
	if err != nil {
		return round, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	filled, err := b.fillHTTP(r, p)
	if err != nil {
		return round, fmt.Errorf("fill: %w", err)
	}
	var profile error
	var before, used usage
	l := &load{
		address: p.address, conns: r.publishers, make: r.requester(), first: filled.next, warm: b.warm, time: b.time,
		begin: func() {
			profile = b.beginProfile(p)
			before = b.use(p.pid())
		},
		end: func() { used = b.use(p.pid()).minus(before) },
	}
	out, err := l.run(b.ctx)
	if err := errors.Join(err, profile); err != nil {
		return round, err
	}
	round = newPublishRound(out.events, out.elapsed, out.latencies, used)
	round.cpu = used.server.Seconds() / float64(out.events) * 1e6
	round.cores = used.server.Seconds() / out.elapsed.Seconds()
	round.client = used.own.Seconds() / out.elapsed.Seconds()
	if r.way == wayBare {
		return round, nil
	}
	got, err := p.count()
	if want := filled.stored + out.stored; err == nil && got != want {
		err = fmt.Errorf("%d events are there, and %d were answered", got, want)
	}
	return round, err
}

// fillHTTP has a server come to where it is most of the time: its log files were used
// before, its tables in memory are large, and older ones are merged.
func (b *bench) fillHTTP(r *publishRow, p *process) (outcome, error) {
	if r.way == wayBare || b.fill == 0 {
		return outcome{}, nil
	}
	l := &load{address: p.address, conns: 32, make: &batch{notes: newNotes(dataSize), n: 100}, count: uint64(b.fill), time: time.Hour}
	return l.run(b.ctx)
}

func (b *bench) launchFor(r *publishRow, dir string) (*process, error) {
	switch name := "publish " + r.name(); r.way {
	case wayBare:
		return b.launch(name, b.bare, "bare")
	case wayMemory:
		return b.serve(name, "", "--memory", "--retain", "**=all", "--history", "8GiB")
	case wayNever:
		return b.serve(name, dir, "--sync", "never")
	default:
		return b.serve(name, dir)
	}
}

func (r *publishRow) requester() requester {
	n := newNotes(dataSize)
	if r.batch == 1 {
		return newSingle(n)
	}
	return &batch{notes: n, n: r.batch, minimal: r.way == wayMinimal}
}

func newPublishRound(events int, elapsed time.Duration, latencies []time.Duration, used usage) publishRound {
	seconds := elapsed.Seconds()
	all := sorted(latencies)
	return publishRound{
		perSecond: float64(events) / seconds,
		p50:       milliseconds(quantile(all, .5)),
		p99:       milliseconds(quantile(all, .99)),
		others:    max(0, (used.machine-used.server-used.own).Seconds()/seconds),
		busy:      used.disk.Seconds() / seconds,
		flushes:   float64(used.flushes) / seconds,
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// logOptions are those that the server gives its log.
func logOptions(sync disk.Sync) (*disk.Options, error) {
	rule, err := server.ParseRetain(server.DefaultRetain)
	if err != nil {
		return nil, err
	}
	return &disk.Options{Retention: hub.RetentionRules{rule}, MaxBytes: server.DefaultHistoryBytes, Sync: sync}, nil
}

// publishGo appends to a log of its own in this process.
func (b *bench) publishGo(r *publishRow, dir string) (round publishRound, err error) {
	o, err := logOptions(disk.SyncAlways)
	if err != nil {
		return round, err
	}
	l, err := disk.Open(dir, o)
	if err != nil {
		return round, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	n := newNotes(dataSize)
	ids := r.way == wayIDs
	fill := &maker{notes: n, groups: 1 << 50, ids: ids}
	for fill.number < uint64(b.fill) {
		if _, err := l.Append(b.ctx, fill.group(100)); err != nil {
			return round, fmt.Errorf("fill: %w", err)
		}
	}
	out, used, err := b.callers(r, func(i int) func() error {
		// Each has numbers of its own, for the ids, that begin with another topic.
		m := &maker{notes: n, ids: ids, number: uint64(i+1)<<24*topics + uint64(i), groups: uint64(i+1) << 40}
		return func() error {
			_, err := l.Append(b.ctx, m.group(r.batch))
			return err
		}
	})
	if err != nil {
		return round, err
	}
	round = callersRound(out, used)
	got := 0
	for _, name := range topicNames {
		info, err := l.Topic(b.ctx, name)
		if err != nil {
			return round, err
		}
		got += int(info.Count)
	}
	if want := int(fill.number) + out.stored; got != want {
		return round, fmt.Errorf("%d events are there, and %d were answered", got, want)
	}
	return round, nil
}

// callersRound is that of those who publish in this process.
func callersRound(out outcome, used usage) publishRound {
	round := newPublishRound(out.events, out.elapsed, out.latencies, used)
	round.cpu = used.own.Seconds() / float64(out.events) * 1e6
	round.cores = used.own.Seconds() / out.elapsed.Seconds()
	return round
}

// publishRaw appends to a file.
func (b *bench) publishRaw(r *publishRow, dir string) (round publishRound, err error) {
	f, err := newRawFile(dir)
	if err != nil {
		return round, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	n := newNotes(dataSize)
	out, used, err := b.callers(r, func(i int) func() error {
		store := f.shared()
		if r.publishers == 1 {
			store = f.alone()
		}
		var buf []byte
		number := uint64(i)
		return func() error {
			buf = buf[:0]
			for range r.batch {
				buf = n.append(buf, number)
				number++
			}
			return store(buf)
		}
	})
	if err != nil {
		return round, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return round, err
	}
	if info.Size() != int64(out.stored)*dataSize {
		return round, fmt.Errorf("the file has %d bytes after %d events", info.Size(), out.stored)
	}
	return callersRound(out, used), nil
}

// callers has goroutines call what publisher returns, as often as they can.
func (b *bench) callers(r *publishRow, publisher func(i int) func() error) (out outcome, used usage, err error) {
	runtime.GC() // each begins without the garbage of the one before
	ctx, cancel := context.WithCancelCause(b.ctx)
	defer cancel(nil)
	begin := time.Now().Add(b.warm)
	end := begin.Add(b.time)
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range r.publishers {
		call := publisher(i)
		all.Go(func() {
			var own outcome
			for now := time.Now(); now.Before(end) && ctx.Err() == nil; {
				if err := call(); err != nil {
					cancel(err)
					return
				}
				then := now
				now = time.Now()
				own.stored += r.batch
				if then.After(begin) && !now.After(end) {
					own.events += r.batch
					own.latencies = append(own.latencies, now.Sub(then))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			out.events += own.events
			out.stored += own.stored
			out.latencies = append(out.latencies, own.latencies...)
		})
	}
	time.Sleep(time.Until(begin))
	stop, err := b.profileHere("publish " + r.name())
	if err != nil {
		cancel(err)
	}
	before := b.use(0)
	time.Sleep(time.Until(end))
	used = b.use(0).minus(before)
	stop()
	all.Wait()
	out.elapsed = b.time
	if ctx.Err() != nil {
		return out, used, context.Cause(ctx)
	}
	return out, used, nil
}

// profileHere profiles this process, if there is to be a profile.
func (b *bench) profileHere(name string) (stop func(), err error) {
	if b.profile == "" {
		return func() {}, nil
	}
	f, err := os.Create(filepath.Join(b.profile, profileName(name)))
	if err != nil {
		return func() {}, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return func() {}, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close() // who looks at it will see
	}, nil
}

func profileName(name string) string {
	return strings.NewReplacer(" ", "-", ",", "", "/", "-").Replace(name) + ".cpu"
}

const publishNotes = `
- **× limit** is the speed beside that of a file which is appended to and synced by as many
  writers, who share a sync.
- **processors** are those of the process that stores, with the publishers in it for Go calls;
  then those of the program that publishes through HTTP, and those of everybody else on the
  machine. **disk** is the share of the time in which it had something to do, and how often a
  second it was flushed, whoever wanted it. Where the first three together come near the
  machine's, processors are the limit, and not the disk.
- A full line of a batch has data, topic and type; a minimal one data only.
- "` + wayBare + `" reads the body and gives an answer as large as ours: no server
  on net/http can be faster.
`

func publishTable(rows []*publishRow) string {
	cells := [][]string{
		{"way", "publishers", "at once", "events/s", "× limit", "target", "p50 ms", "p99 ms", "s/million", "processors", "client", "others", "disk", "flushes/s"},
		{"---", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:"},
	}
	for i, r := range rows {
		way := r.way
		if i > 0 && rows[i-1].way == way {
			way = ""
		}
		of := func(f func(publishRound) float64) float64 { return medianOf(r.rounds, f) }
		client := "–"
		if strings.Contains(r.way, "HTTP") || r.way == wayBare {
			client = fmt.Sprintf("%.2f", of(func(p publishRound) float64 { return p.client }))
		}
		cells = append(cells, []string{
			way, fmt.Sprint(r.publishers), fmt.Sprint(r.batch),
			thousands(r.speed()), r.ratio(rows), r.verdict(),
			fmt.Sprintf("%.2f", of(func(p publishRound) float64 { return p.p50 })),
			fmt.Sprintf("%.2f", of(func(p publishRound) float64 { return p.p99 })),
			report.Short(of(func(p publishRound) float64 { return p.cpu })),
			fmt.Sprintf("%.2f", of(func(p publishRound) float64 { return p.cores })),
			client,
			fmt.Sprintf("%.2f", of(func(p publishRound) float64 { return p.others })),
			fmt.Sprintf("%.0f %%", 100*of(func(p publishRound) float64 { return p.busy })),
			thousands(of(func(p publishRound) float64 { return p.flushes })),
		})
	}
	return report.Table(cells)
}

// speed is in events/s.
func (r *publishRow) speed() float64 {
	return medianOf(r.rounds, func(p publishRound) float64 { return p.perSecond })
}

// ratio is that to the limit.
func (r *publishRow) ratio(rows []*publishRow) string {
	if r.way == wayMemory || r.way == wayNever {
		return "–"
	}
	for _, limit := range rows {
		if limit.way == wayRaw && limit.publishers == r.publishers && limit.batch == r.batch {
			return fmt.Sprintf("%.2f", r.speed()/limit.speed())
		}
	}
	return "–"
}

func (r *publishRow) verdict() string { return verdict(r.speed(), r.target) }

// verdict tells whether at least a target is reached.
func verdict(got, target float64) string {
	switch {
	case target == 0:
		return "–"
	case got >= target:
		return thousands(target) + " ✓"
	}
	return thousands(target) + " ✗"
}

func medianOf[T any](rounds []T, figure func(T) float64) float64 {
	var all []float64
	for _, r := range rounds {
		all = append(all, figure(r))
	}
	return report.Median(all)
}

// thousands writes a number with commas.
func thousands(x float64) string {
	s := fmt.Sprintf("%.0f", x)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
