//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/tidewire/tidewire/internal/load"
)

// dataSize is that of events, in bytes.
const dataSize = 100

// stormRate is at how many events a second, at most, is published what is missed. It is the
// same for all, and no more than Nchan can tell apart.
const stormRate = 20_000

// A workload is what is done to each server, and what of it is looked at.
type workload struct {
	name    string
	title   func(c *config) string
	disk    bool   // ours takes part with its history on disk, too
	history bool   // only servers that have one take part
	alone   bool   // nothing is to be compared with the limit
	phase   string // in which is measured
	options func(c *config) load.Options
	main    figure   // what the ratios are of
	targets []target // of ours
	columns []column // besides
}

func workloadNames() (names []string) {
	for _, w := range workloads() {
		names = append(names, w.name)
	}
	return names
}

func workloads() []workload {
	return []workload{
		{
			name: "throughput",
			title: func(c *config) string {
				return fmt.Sprintf("Throughput: %s subscribers of one topic, one publisher that waits for each answer; %v", thousands(c.sizes.fanOut), c.time)
			},
			phase: load.PhasePublishing,
			options: func(c *config) load.Options {
				return load.Options{Subscribers: c.sizes.fanOut, Duration: c.time}
			},
			main:    figure{"deliveries/s", 0, func(r *load.Result) float64 { return r.Delivery.PerSecond }, false},
			targets: []target{{server: tidewireName, least: 4_000_000}},
			columns: append([]column{publishes, p50, p99}, costs...),
		},
		{
			name: "cpu",
			title: func(c *config) string {
				return fmt.Sprintf("Processor time: %s subscribers of one topic, %s deliveries/s; %v", thousands(c.sizes.fanOut), thousands(c.sizes.deliveries), 2*c.time)
			},
			phase: load.PhasePublishing,
			options: func(c *config) load.Options {
				return load.Options{Subscribers: c.sizes.fanOut, Rate: float64(c.sizes.deliveries) / float64(c.sizes.fanOut), Duration: 2 * c.time}
			},
			main:    figure{"s/million", 2, func(r *load.Result) float64 { return r.Server.PerMillion }, true},
			targets: []target{{server: tidewireName, most: 1.2, of: limitName}},
			columns: []column{deliveries, p50, p99, processors, client, others},
		},
		{
			name: "latency",
			title: func(c *config) string {
				return fmt.Sprintf("Latency to the last: %s subscribers of one topic, %d events/s; %v", thousands(c.sizes.many), c.sizes.manyRate, 2*c.time)
			},
			phase: load.PhasePublishing,
			options: func(c *config) load.Options {
				return load.Options{Subscribers: c.sizes.many, Rate: float64(c.sizes.manyRate), Duration: 2 * c.time}
			},
			main:    figure{"last, p99 ms", 1, func(r *load.Result) float64 { return percentile(r.Delivery.Last).P99 }, true},
			targets: []target{{server: tidewireName, most: 1.1, of: limitName}},
			columns: append([]column{
				{"last, p50 ms", 1, func(r *load.Result) float64 { return percentile(r.Delivery.Last).P50 }},
				deliveries,
			}, costs...),
		},
		{
			name: "idle",
			title: func(c *config) string {
				return fmt.Sprintf("Memory: %s idle subscribers of one topic, after %v", thousands(c.sizes.idle), c.idle)
			},
			alone: true,
			phase: load.PhaseIdle,
			options: func(c *config) load.Options {
				return load.Options{Subscribers: c.sizes.idle, Idle: true, Duration: c.idle}
			},
			main:    figure{"bytes/subscriber", 0, func(r *load.Result) float64 { return r.Server.BytesPerSubscriber }, true},
			targets: []target{{server: tidewireName, most: 1200}},
			columns: []column{
				{"MB without", 1, func(r *load.Result) float64 { return float64(r.Server.BeforeBytes) / 1e6 }},
				{"MB with", 1, func(r *load.Result) float64 { return float64(r.Server.IdleBytes) / 1e6 }},
				processors, others,
			},
		},
		{
			name: "topics",
			title: func(c *config) string {
				return fmt.Sprintf("Topics: %s subscribers of %s topics, %s, each of whom waits for each answer; %v", thousands(c.sizes.topical), thousands(c.sizes.topics), plural(c.sizes.publishers, "publisher"), c.time)
			},
			disk:  true,
			phase: load.PhasePublishing,
			options: func(c *config) load.Options {
				return load.Options{Subscribers: c.sizes.topical, Topics: c.sizes.topics, Publishers: c.sizes.publishers, Duration: c.time}
			},
			main: figure{"deliveries/s", 0, func(r *load.Result) float64 { return r.Delivery.PerSecond }, false},
			targets: []target{
				{server: tidewireName, least: 110_000},
				{server: tidewireName, column: &p99, most: 2, of: naiveName},
				{server: diskName, least: 60_000},
				{server: diskName, column: &p99, most: 2, of: naiveName},
			},
			columns: append([]column{publishes, p50, p99}, costs...),
		},
		{
			name: "connect",
			title: func(c *config) string {
				return fmt.Sprintf("Connecting: %s subscribers of one topic, up to 200 under way at once, to the head of the answer", thousands(c.sizes.connections))
			},
			phase: load.PhaseConnecting,
			options: func(c *config) load.Options {
				return load.Options{Subscribers: c.sizes.connections, Idle: true, Duration: time.Millisecond}
			},
			main:    figure{"connections/s", 0, func(r *load.Result) float64 { return r.Connect.PerSecond }, false},
			targets: []target{{server: tidewireName, least: 0.85, of: limitName}},
			columns: []column{
				{"p50 ms", 2, func(r *load.Result) float64 { return percentile(r.Connect.Head).P50 }},
				{"p99 ms", 2, func(r *load.Result) float64 { return percentile(r.Connect.Head).P99 }},
				{"processors", 2, func(r *load.Result) float64 { return ratio(r.Connect.ServerCPU, r.Connect.Seconds) }},
				{"others", 2, func(r *load.Result) float64 { return othersOf(r) }},
			},
		},
		{
			name: "storm",
			title: func(c *config) string {
				return fmt.Sprintf("Resume storm: %s subscribers come back at once, each of whom has missed %s events", thousands(c.sizes.storm), thousands(c.sizes.missed))
			},
			history: true,
			phase:   load.PhaseReturning,
			options: func(c *config) load.Options {
				return load.Options{Subscribers: c.sizes.storm, Storm: c.sizes.missed, StormRate: stormRate}
			},
			main:    figure{"events/s", 0, func(r *load.Result) float64 { return r.Delivery.PerSecond }, false},
			targets: []target{{server: tidewireName, least: 1_400_000}},
			columns: stormColumns,
		},
		{
			name: "replay",
			title: func(c *config) string {
				return fmt.Sprintf("Replay: one subscriber comes back that has missed %s events", thousands(c.sizes.replay))
			},
			history: true,
			phase:   load.PhaseReturning,
			options: func(c *config) load.Options {
				return load.Options{Subscribers: 1, Storm: c.sizes.replay, StormRate: stormRate}
			},
			main:    figure{"events/s", 0, func(r *load.Result) float64 { return r.Delivery.PerSecond }, false},
			targets: []target{{server: tidewireName, least: 3_000_000}},
			columns: stormColumns,
		},
	}
}

// takesPart tells whether a server can do the workload, and is asked for it.
func (w *workload) takesPart(c *contender) bool {
	return (w.disk || !c.disk) && (c.history || !w.history)
}

// A row is a server's in a workload.
type row struct {
	*contender
	results []*load.Result // of each round
	wrong   string         // why it is no result; "": it is one
}

// measure runs a workload on all servers, and prints a table. Rounds go through all
// servers, so that a while in which the machine is slow falls into one round of many
// rows, where the median leaves it out, and not into all rounds of one.
func (b *bench) measure(w workload) error {
	var rows []*row
	for _, c := range b.servers {
		if w.takesPart(c) {
			rows = append(rows, &row{contender: c})
		}
	}
	if len(rows) == 0 {
		fmt.Fprintf(b.out, "\n## %s\n\nNone of the servers takes part.\n", w.title(&b.config))
		return nil
	}
	for i := range b.rounds {
		for _, r := range rows {
			if r.wrong != "" {
				continue // it is no result any more
			}
			b.say("%s, round %d of %d: %s", w.name, i+1, b.rounds, r.title)
			res, err := b.undisturbed(w, r.contender)
			switch {
			case b.ctx.Err() != nil:
				return b.ctx.Err()
			case err != nil:
				r.wrong = err.Error()
				b.bad = append(b.bad, fmt.Sprintf("%s, %s: %s", w.name, r.title, r.wrong))
				b.say("NO RESULT: %s", r.wrong)
			default:
				r.results = append(r.results, res)
			}
		}
	}
	fmt.Fprintf(b.out, "\n## %s\n\n%s", w.title(&b.config), w.table(&b.config, rows))
	return nil
}

// disturbance is the share of the machine above which others' use of it makes a figure
// doubtful.
const disturbance = 0.08

// undisturbed measures until others use little enough of the machine, and returns the try
// in which they used the least.
func (b *bench) undisturbed(w workload, c *contender) (best *load.Result, err error) {
	for i := range b.tries {
		res, err := b.try(w, c)
		if err != nil {
			return nil, err
		}
		if i == 0 || othersOf(res) < othersOf(best) {
			best = res
		}
		if othersOf(best) <= disturbance*float64(runtime.NumCPU()) {
			break
		}
	}
	return best, nil
}

// try measures once, with a server of its own. An error is a result that is none.
func (b *bench) try(w workload, c *contender) (res *load.Result, err error) {
	debug.FreeOSMemory() // each begins without the garbage of the one before
	p, err := c.start()
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, p.stop())
		if err == nil && p.profile {
			err = os.Rename(b.profileFile(), filepath.Join(b.profile, w.name+"-"+c.name+".cpu"))
		}
	}()
	o := w.options(&b.config)
	o.URL, o.Peer, o.Size, o.Patience = p.url(), c.peer, dataSize, b.patience
	o.Phase = func(name string) {
		if name == w.phase {
			p.beginProfile()
		}
	}
	if c.replays > 0 {
		o.Storm = min(o.Storm, c.replays)
	}
	if res, err = load.Run(b.ctx, &o); err != nil {
		return nil, err
	}
	return res, check(res)
}

// check says why a result is none.
func check(res *load.Result) error {
	switch f := &res.Faults; {
	case f.Any() && f.First != "":
		return fmt.Errorf("%s: %s", f, f.First)
	case f.Any():
		return errors.New(f.String())
	case res.Interrupted:
		return errors.New("interrupted")
	case res.Server == nil:
		return errors.New("the server's process could not be found")
	case res.Delivery != nil && res.Delivery.Delivered != res.Delivery.Expected:
		return fmt.Errorf("%d of %d deliveries", res.Delivery.Delivered, res.Delivery.Expected)
	}
	res.Timeline = nil // there are many results
	return nil
}
