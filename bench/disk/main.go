//go:build linux

// Command disk measures the log on disk, through HTTP and through Go calls, beside what
// the same disk does at most, and prints a table of each part. It needs Linux.
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
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A config says what is measured, and how much of it.
type config struct {
	parts   []string
	rows    *regexp.Regexp // of the publish and replay parts
	rounds  int
	tries   int           // of a row in a round, while others use the machine
	time    time.Duration // of each row of the publish part in each round
	warm    time.Duration // before it
	fill    int           // events that a store has before anything is published
	events  int           // in the history that is replayed
	large   int           // in the history in which is looked up, and that is started with
	clients int           // that come at once
	lookups int           // of each kind
	load    time.Duration // before the process is killed
	idle    time.Duration // before its memory is measured again
	data    string        // the directory for everything; removed at the end
	profile string        // the directory for profiles; "": none
	out     io.Writer
	log     io.Writer // of progress
}

// full is what make bench-disk measures.
func full() config {
	return config{
		parts: partNames(), rounds: 3, tries: 3, time: 5 * time.Second, warm: time.Second, fill: 400_000,
		events: 1_000_000, large: 10_000_000, clients: 1000, lookups: 20_000,
		load: 3 * time.Second, idle: time.Minute,
		out: os.Stdout, log: os.Stderr,
	}
}

// quick shows that everything works.
func quick() config {
	c := full()
	c.rounds, c.tries, c.time, c.warm = 1, 1, 200*time.Millisecond, 50*time.Millisecond
	c.fill = 4000
	c.events, c.large, c.clients, c.lookups = 20_000, 50_000, 50, 200
	c.load, c.idle = 300*time.Millisecond, 500*time.Millisecond
	return c
}

// A part measures one thing, and prints a table.
type part struct {
	name string
	run  func(*bench) error
}

var parts = []part{
	{"publish", (*bench).publish},
	{"replay", (*bench).replay},
	{"lookup", (*bench).lookup},
	{"start", (*bench).start},
}

func partNames() []string {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
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
		fmt.Fprintln(os.Stderr, "disk:", err)
		os.Exit(1)
	}
}

func parseFlags(args []string) (config, error) {
	base := full()
	if slices.Contains(args, "-quick") || slices.Contains(args, "--quick") {
		base = quick() // whose sizes the other flags change
	}
	c := base
	flags := flag.NewFlagSet("disk", flag.ContinueOnError)
	flags.Bool("quick", false, "small sizes: shows that everything works, in less than a minute")
	names := flags.String("run", strings.Join(base.parts, ","), "the `parts` to run")
	rows := flags.String("rows", "", "measure only rows of publish and replay that match this `regexp`, such as 'HTTP, 32'")
	flags.IntVar(&c.rounds, "rounds", base.rounds, "measure everything this `number` of times, and take the medians")
	flags.IntVar(&c.tries, "tries", base.tries, "measure a row this `number` of times at most while other programs use the machine; the try that was disturbed least counts")
	flags.DurationVar(&c.time, "time", base.time, "how long to publish for each row in each round")
	flags.IntVar(&c.fill, "fill", base.fill, "events in a store before anything is published: a new one has log files yet that grow, and small tables in memory")
	flags.IntVar(&c.events, "events", base.events, "events in the history that is replayed")
	flags.IntVar(&c.large, "large", base.large, "events in the history that is looked up in and started with")
	flags.IntVar(&c.clients, "clients", base.clients, "clients that come at once")
	flags.DurationVar(&c.idle, "idle", base.idle, "how long the server is idle before its memory is measured again")
	flags.StringVar(&c.data, "data", ".", "the `directory` on whose disk everything is; what is put there is removed at the end")
	flags.StringVar(&c.profile, "profile", "", "put CPU profiles of the server into this `directory`")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	var err error
	if c.rows, err = regexp.Compile(*rows); err != nil {
		return c, fmt.Errorf("-rows: %w", err)
	}
	c.parts = strings.Split(*names, ",")
	for _, name := range c.parts {
		if !slices.Contains(partNames(), name) {
			return c, fmt.Errorf("-run: there is no part %q: they are %s", name, strings.Join(partNames(), ", "))
		}
	}
	if c.rounds < 1 || c.tries < 1 || c.fill < 0 || c.time <= 0 || c.clients < 1 || c.events < topics*100 || c.large < topics*100 {
		return c, fmt.Errorf("-rounds, -tries, -time and -clients must be positive, -events and -large %d or more", topics*100)
	}
	return c, nil
}

// A bench is a run.
type bench struct {
	config
	ctx     context.Context
	dir     string // for data
	server  string // the program, as it is given to users
	bare    string // the program of package server beside this one
	history *history
}

func run(ctx context.Context, c config) (err error) {
	if c.data == "" {
		c.data = "."
	}
	if err := checkDisk(c.data, c.needs()); err != nil {
		return err
	}
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
	fmt.Fprintf(b.out, "%s\n", conditions(b.dir))
	for _, p := range parts {
		if !slices.Contains(c.parts, p.name) {
			continue
		}
		b.say("%s", p.name)
		if err := p.run(b); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// needs returns how many bytes the disk should have free: about twice what is ever there
// at once.
func (c *config) needs() uint64 {
	const perEvent, perSecond = 1000, 400 << 20
	return uint64(max(2*c.events, c.large)*perEvent) + uint64(c.time.Seconds()*perSecond)
}

// say tells the progress.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.log, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// measured runs a row in every round. Rounds go through all rows, so that a while in
// which the machine is slow falls into one round of many rows, where the median leaves
// it out, and not into all rounds of one.
func measured[R any](b *bench, rows []R, name func(R) string, measure func(R) error) error {
	for i := range b.rounds {
		for _, r := range rows {
			if err := b.ctx.Err(); err != nil {
				return err
			}
			b.say("round %d of %d: %s", i+1, b.rounds, name(r))
			if err := measure(r); err != nil {
				return fmt.Errorf("%s: %w", name(r), err)
			}
		}
	}
	return nil
}

// disturbance is the share of the machine above which others' use of it makes a figure
// doubtful.
const disturbance = 0.08

// undisturbed measures until others, in processors, are few enough, and returns the try
// in which they were the fewest.
func undisturbed[R any](b *bench, others func(R) float64, measure func() (R, error)) (best R, err error) {
	for i := range b.tries {
		r, err := measure()
		if err != nil {
			return r, err
		}
		if i == 0 || others(r) < others(best) {
			best = r
		}
		if others(best) <= disturbance*float64(runtime.NumCPU()) {
			break
		}
	}
	return best, nil
}
