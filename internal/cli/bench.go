package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidewire/tidewire/internal/load"
)

const benchHelp = `Measure a hub: open many subscribers, publish, and tell how long deliveries take and
what the server takes. A load of this kind is for a hub of your own.

Every event carries its sequence and the time at which it was due. So every subscriber
checks that it gets everything once and in order, and latency counts from when an event
was due: a server that makes publishers wait pays for that. Events that were lost,
repeated, reordered or not the run's own, gaps, streams that the server closed and
refused events make a run worthless, and it fails.

With --storm N all subscribers drop, N events are published to each topic, and all come
back at once with the last id that they have. With --idle nothing is published, and the
server's memory is measured instead.

If the hub is on this machine, its process is looked for and its CPU time and memory are
told. The load client's own cost is told too: on one machine both share the cores.
Without a proxy; over https, and on other systems than Linux, the client costs several
times as much.

The topics are new ones, bench/…, and what was published to them is deleted at the end,
except with --topic-prefix.

Exit codes:
  0    measured
  1    not measured, or something was lost, repeated, reordered, closed or refused
  2    wrong usage
  130  an interrupt (Ctrl-C) ended it early: what was measured so far is told; a second
       one waits for nothing`

type benchCommand struct {
	std    IO
	hub    hubFlags
	opts   load.Options
	asJSON bool
	report string
}

// newBenchCommand makes the load client's command.
func newBenchCommand(std IO) *cobra.Command {
	c := &benchCommand{std: std}
	cmd := &cobra.Command{
		Use:   "bench [flags] [URL]",
		Short: "Measure a hub under load",
		Long:  benchHelp,
		Example: `  tidewire bench
  tidewire bench --subscribers 10000 --rate 50 --duration 30s --report report.html
  tidewire bench --subscribers 500 --topics 100 --publishers 8 --rate 0
  tidewire bench --subscribers 0 --publishers 16 --batch 100 --rate 0
  tidewire bench --subscribers 5000 --storm 100
  tidewire bench --subscribers 10000 --idle --json http://127.0.0.1:8080`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              c.run,
	}
	c.hub.add(cmd)
	f := cmd.Flags()
	f.IntVar(&c.opts.Subscribers, "subscribers", load.DefaultSubscribers, "`N` subscribers; 0 to measure publishing alone")
	f.IntVar(&c.opts.Topics, "topics", load.DefaultTopics, "`N` topics, which subscribers and publishers share evenly")
	f.IntVar(&c.opts.Publishers, "publishers", load.DefaultPublishers, "`N` publishers, each with one request under way")
	f.Float64Var(&c.opts.Rate, "rate", 100, "`EVENTS` a second, of all publishers together; 0 for as fast as they are answered")
	f.DurationVar(&c.opts.Duration, "duration", load.DefaultDuration, "how long is published, or idled")
	f.IntVar(&c.opts.Size, "size", load.DefaultSize, "`BYTES` of data of an event")
	f.IntVar(&c.opts.Batch, "batch", load.DefaultBatch, "`N` events of a request; they are due at once")
	f.IntVar(&c.opts.Storm, "storm", 0, "resume storm: all drop, miss `N` events, and come back at once")
	f.BoolVar(&c.opts.Idle, "idle", false, "publish nothing, and measure the memory of idle subscribers")
	f.StringVar(&c.opts.TopicPrefix, "topic-prefix", "", "the topics are `PREFIX`/000000 and so on (default a new one, which is deleted at the end)")
	f.IntVar(&c.opts.PID, "pid", 0, "the server's process `ID` (default: what listens at the URL, if it is of this machine)")
	f.BoolVar(&c.asJSON, "json", false, "print one JSON object instead of a table")
	f.StringVar(&c.report, "report", "", "write a report with plots to `FILE`.html too")
	return cmd
}

func (c *benchCommand) run(cmd *cobra.Command, args []string) error {
	if err := c.check(cmd, args); err != nil {
		return err
	}
	var report *os.File
	if c.report != "" {
		var err error // which is better known now than after the run
		if report, err = os.OpenFile(c.report, os.O_WRONLY|os.O_CREATE, 0o666); err != nil {
			return fmt.Errorf("cannot write the report: %w", err)
		}
		defer c.leave(report)
	}
	line := &progressLine{std: c.std, on: c.std.IsTerminal(c.std.Err)}
	c.opts.Progress = line.show
	res, err := load.Run(cmd.Context(), &c.opts)
	line.clear()
	if err != nil && cmd.Context().Err() != nil {
		return exitCode(ExitInterrupted)
	}
	if err != nil {
		return errors.New(c.reason(err))
	}
	res.Conditions.Command = append([]string{"tidewire", "bench"}, c.commandLine(cmd, args)...)
	res.Conditions.Version = buildVersion().Version
	if err := c.tell(res, report); err != nil {
		return err
	}
	switch {
	case res.Faults.Any():
		return errors.New("the run is no measurement: " + res.Faults.String())
	case res.Interrupted:
		return exitCode(ExitInterrupted)
	}
	return nil
}

// check finishes the options, and reports everything that is wrong with them at once.
func (c *benchCommand) check(cmd *cobra.Command, args []string) error {
	var wrong []string
	note := func(err error) {
		if err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	switch {
	case len(args) > 1:
		note(usagef("bench takes one URL, and got %d", len(args)))
	case len(args) == 1 && cmd.Flags().Changed("url"):
		note(usagef("the URL is given twice, as %q and with --url", args[0]))
	case len(args) == 1:
		note(cmd.Flags().Set("url", args[0]))
	}
	var err error
	c.opts.URL, err = c.hub.base(cmd, c.std)
	note(err)
	c.opts.Header, err = c.hub.headers()
	note(err)
	for _, name := range []string{"subscribers", "topics", "publishers", "duration", "size", "batch", "storm", "pid"} {
		note(c.positive(cmd, name))
	}
	if c.opts.Idle {
		note(needless(cmd, "does not go with --idle, which publishes nothing", "topics", "publishers", "rate", "size", "batch", "storm"))
	} else if c.opts.Storm > 0 {
		note(needless(cmd, "does not go with --storm, which publishes a number of events as fast as they are answered", "rate", "duration"))
	}
	if cmd.Flags().Changed("topic-prefix") && c.opts.TopicPrefix == "" {
		note(usagef("--topic-prefix needs at least one character"))
	}
	if cmd.Flags().Changed("report") && c.report == "" {
		note(usagef("--report needs the name of a file"))
	}
	if c.opts.Subscribers == 0 {
		c.opts.Subscribers = -1 // 0 is the default there
	}
	if len(wrong) == 0 {
		for _, m := range c.opts.WithDefaults().Check() {
			wrong = append(wrong, "--"+m.Option+": "+m.Text)
		}
	}
	if len(wrong) > 0 {
		return usagef("%s", strings.Join(wrong, "\n          "))
	}
	return nil
}

// positive refuses zeros that would mean the default, and negative numbers.
func (c *benchCommand) positive(cmd *cobra.Command, name string) error {
	f := cmd.Flags().Lookup(name)
	text := f.Value.String()
	negative := strings.HasPrefix(text, "-")
	switch {
	case f.Changed && name == "subscribers" && negative:
		return usagef("--subscribers is %s, and must be 0 or more", text)
	case f.Changed && name != "subscribers" && (negative || text == "0" || text == "0s"):
		return usagef("--%s is %s, and must be more than 0", name, text)
	}
	return nil
}

// commandLine returns the arguments without what is secret.
func (c *benchCommand) commandLine(cmd *cobra.Command, args []string) (line []string) {
	for _, name := range []string{"subscribers", "topics", "publishers", "rate", "duration", "size", "batch", "storm", "idle", "topic-prefix", "pid", "json", "report"} {
		if f := cmd.Flags().Lookup(name); f.Changed && f.Value.Type() == "bool" {
			line = append(line, "--"+name)
		} else if f.Changed {
			line = append(line, "--"+name, f.Value.String())
		}
	}
	for _, h := range c.hub.header {
		name, _, _ := strings.Cut(h, ":")
		line = append(line, "--header", name+": …")
	}
	return append(line, c.opts.URL.Redacted())
}

// reason says in words for a user why nothing could be measured.
func (c *benchCommand) reason(err error) string {
	var status *load.StatusError
	target := c.opts.URL.String()
	switch {
	case errors.As(err, &status):
		prefix, _, _ := strings.Cut(err.Error(), status.Error())
		text := prefix + status.Doing + ": " + refusal("the server", status.Status, status.Header(), status.Body)
		if status.Status == 404 || status.Status == 405 {
			text += "; is this the URL of a hub?"
		}
		return text
	case errors.Is(err, load.ErrNotHub):
		return err.Error() + "; is this the URL of a hub?"
	}
	var request *url.Error
	if unreachable(err) || errors.As(err, &request) {
		text := connectionReason(target, err)
		if unreachable(err) {
			text += startOne
		}
		return text
	}
	return err.Error()
}

// leave closes the report's file, which goes if nothing was written.
func (c *benchCommand) leave(report *os.File) {
	info, err := report.Stat()
	_ = report.Close() // what matters is written by then
	if err == nil && info.Mode().IsRegular() && info.Size() == 0 {
		_ = os.Remove(c.report)
	}
}

// tell prints the result, and writes the report.
func (c *benchCommand) tell(res *load.Result, report *os.File) error {
	var err error
	if c.asJSON {
		err = json.NewEncoder(c.std.Out).Encode(res)
	} else {
		_, err = c.std.Out.Write(appendVisible(nil, res.Table(), "\n"))
	}
	if report == nil {
		return err
	}
	_ = report.Truncate(0) // a pipe cannot be, and has nothing to lose
	if failed := res.WriteHTML(report); failed != nil {
		return errors.Join(err, fmt.Errorf("cannot write the report: %w", failed))
	}
	return err
}

// A progressLine is rewritten while a run goes on.
type progressLine struct {
	std  IO
	on   bool
	last int // columns
}

func (l *progressLine) show(p load.Progress) {
	if !l.on {
		return
	}
	text := fmt.Sprintf("%s %s", p.Phase, p.Elapsed.Round(time.Second/10))
	if p.Total > 0 {
		text += fmt.Sprintf(" of %s", shortly(p.Total))
	}
	if p.Connected > 0 {
		text += fmt.Sprintf("  %s connected", load.Count(int64(p.Connected)))
	}
	if p.Published > 0 {
		text += fmt.Sprintf("  %s published", load.Count(p.Published))
	}
	if p.Delivered > 0 {
		text += fmt.Sprintf("  %s delivered, %s/s, 99 %% in %s", load.Count(p.Delivered), load.Count(int64(p.PerSecond)), p.P99.Round(time.Microsecond*10))
	}
	if p.Faults > 0 {
		text += fmt.Sprintf("  %s FAULTS", load.Count(p.Faults))
	}
	l.put(text)
}

// put rewrites the line, over all of what was there.
func (l *progressLine) put(text string) {
	fmt.Fprintf(l.std.Err, "\r%-*s", l.last, text)
	l.last = len(text)
}

func (l *progressLine) clear() {
	if l.on && l.last > 0 {
		l.put("")
		fmt.Fprintf(l.std.Err, "\r")
	}
}
