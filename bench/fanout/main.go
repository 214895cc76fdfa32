//go:build linux

// Command fanout measures how events get to many subscribers: ours, other servers and
// libraries, and what one system call per event and subscriber can do, in one run, with
// one load client. It prints a table of each workload. It needs Linux.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A config says what is measured, and how much of it.
type config struct {
	workloads []string
	servers   []string
	rounds    int
	tries     int           // of a row in a round, while others use the machine
	time      time.Duration // of publishing
	idle      time.Duration // before memory is measured
	patience  time.Duration // how long nothing may happen: some servers are slow when many come at once
	sizes     sizes
	limit     string // "c", "go", or "auto": C if there is a compiler
	nginx     string // the program
	data      string // the directory for everything; removed at the end
	profile   string // the directory for profiles; "": none
	programs  string // the directory of the servers in Go; "": they are built
	out       io.Writer
	log       io.Writer // of progress
}

// sizes are of the workloads.
type sizes struct {
	fanOut      int // subscribers of one topic
	deliveries  int // a second, where the rate is set
	many        int // subscribers where it is counted when the last has an event
	manyRate    int // events a second for these
	idle        int // subscribers that get nothing
	topics      int
	topical     int // subscribers of these
	publishers  int // to these
	connections int
	storm       int // subscribers that come back at once
	missed      int // by each of them
	replay      int // events that one subscriber has missed
}

// threads is how many the limit and Nchan have: the load client has as many readers.
func threads() int { return max(1, runtime.NumCPU()/2) }

// full is what make bench-fanout measures.
func full() config {
	return config{
		workloads: workloadNames(), servers: serverNames(), rounds: 3, tries: 3, time: 5 * time.Second, idle: 10 * time.Second, patience: 30 * time.Second,
		sizes: sizes{
			fanOut: 1000, deliveries: 80_000, many: 10_000, manyRate: 10, idle: 15_000,
			topics: 1000, topical: 5000, publishers: 8, connections: 10_000, storm: 1000, missed: 100, replay: 100_000,
		},
		limit: "auto", nginx: "nginx", data: ".", out: os.Stdout, log: os.Stderr,
	}
}

// quick shows that everything works.
func quick() config {
	c := full()
	c.rounds, c.tries, c.time, c.idle = 1, 1, 100*time.Millisecond, 50*time.Millisecond
	c.sizes = sizes{
		fanOut: 50, deliveries: 5000, many: 100, manyRate: 50, idle: 200,
		topics: 20, topical: 60, publishers: 4, connections: 200, storm: 20, missed: 20, replay: 1000,
	}
	return c
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c, err := parseFlags(os.Args[1:])
	if err == nil {
		err = run(ctx, c)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "fanout:", err)
		os.Exit(1)
	}
}

func parseFlags(args []string) (config, error) {
	base := full()
	if slices.Contains(args, "-quick") || slices.Contains(args, "--quick") {
		base = quick() // whose sizes the other flags change
	}
	c := base
	flags := flag.NewFlagSet("fanout", flag.ContinueOnError)
	flags.Bool("quick", false, "small sizes: shows that everything works, in less than half a minute")
	workloads := flags.String("run", strings.Join(base.workloads, ","), "the `workloads` to run")
	servers := flags.String("servers", strings.Join(base.servers, ","), "the `servers` to measure")
	flags.IntVar(&c.rounds, "rounds", base.rounds, "measure everything this `number` of times, and take the medians")
	flags.IntVar(&c.tries, "tries", base.tries, "measure a row this `number` of times at most while other programs use the machine; the try that was disturbed least counts")
	flags.DurationVar(&c.time, "time", base.time, "how long to publish for each row in each round; twice as long where the rate is set")
	flags.DurationVar(&c.idle, "idle", base.idle, "how long subscribers are idle before the server's memory is measured")
	flags.IntVar(&c.sizes.publishers, "publishers", base.sizes.publishers, "`number` of publishers to many topics")
	flags.StringVar(&c.limit, "limit", base.limit, "the limit is written in `c` or go; auto is C where there is a compiler")
	flags.StringVar(&c.nginx, "nginx", base.nginx, "the nginx `program` that Nchan is loaded into")
	flags.StringVar(&c.data, "data", base.data, "the `directory` on whose disk the log is; what is put there is removed at the end")
	flags.StringVar(&c.profile, "profile", base.profile, "put CPU profiles of the servers in Go into this `directory`")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	var errs []error
	var err error
	c.workloads, err = choose("-run: there is no workload", *workloads, workloadNames())
	errs = append(errs, err)
	c.servers, err = choose("-servers: there is no server", *servers, serverNames())
	errs = append(errs, err)
	if c.rounds < 1 || c.tries < 1 || c.time <= 0 || c.idle <= 0 || c.sizes.publishers < 1 {
		errs = append(errs, errors.New("-rounds, -tries, -time, -idle and -publishers must be positive"))
	}
	if !slices.Contains([]string{"auto", "c", "go"}, c.limit) {
		errs = append(errs, fmt.Errorf("-limit: %q must be auto, c or go", c.limit))
	}
	return c, errors.Join(errs...)
}

// choose reads a list of names.
func choose(wrong, list string, of []string) (names []string, err error) {
	names = strings.Split(list, ",")
	for _, name := range names {
		if !slices.Contains(of, name) {
			return names, fmt.Errorf("%s %q: they are %s", wrong, name, strings.Join(of, ", "))
		}
	}
	return names, nil
}

// A bench is a run.
type bench struct {
	config
	ctx     context.Context
	dir     string // for what is built, and for data
	servers []*contender
	bad     []string // what has made rows worthless
}

func run(ctx context.Context, c config) (err error) {
	b := &bench{config: c, ctx: ctx}
	if b.dir, err = os.MkdirTemp(c.data, "data-*"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.dir, err = filepath.Abs(b.dir); err != nil {
		return err
	}
	if b.profile != "" {
		if b.profile, err = filepath.Abs(b.profile); err != nil {
			return err
		}
	}
	if err := b.build(); err != nil {
		return err
	}
	if err := b.prepare(); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "%s", b.conditions())
	for _, w := range workloads() {
		if !slices.Contains(c.workloads, w.name) {
			continue
		}
		if err := b.measure(w); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	if len(b.bad) > 0 {
		return fmt.Errorf("%d rows are no results:\n  %s", len(b.bad), strings.Join(b.bad, "\n  "))
	}
	return nil
}

// say tells the progress.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.log, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}
