package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/sse"
)

const subscribeHelp = `Show the events of a stream as they come: of any URL that serves Server-Sent Events, or
of topics of a hub.

An argument that begins with http:// or https:// is a URL. Any other is a topic of the
hub at --url. Several topics, and patterns ("*" is one segment, "**" any number of
trailing ones), are one stream. A topic whose name looks like a URL goes with --topic.

The stream is kept up: when it breaks or the server ends it, the command reconnects and
goes on after the last event that it has. It tells of that, and of events that a hub
no longer has ("tidewire.gap"), on standard error. A request with another --method than
GET is not repeated.

On a terminal nothing in a stream can do harm: control characters are written out, such
as \x1b. That goes for --json and for the human form in pipes and files too; --data-only
passes data on as it is there.

With --exec a command is run for each event, one after the other: sh -c CMD, with the
data on its standard input and TIDEWIRE_TYPE and TIDEWIRE_ID in its environment. One
that is running at the end is waited for. Nothing but its output is printed.

Exit codes:
  0    ended as asked: by --count, --timeout alone, an interrupt (Ctrl-C), a reader of
       the output that has gone, or the server, whose 204 says that nothing more will come
  1    the stream failed for good, --timeout alone was reached without ever a connection,
       the output could not be written, or a command failed with --exec-fail-stop
  2    wrong usage
  3    --timeout was reached before --count
  130  a second interrupt, which waits for nothing`

// Why a stream that goes on was left.
var (
	errTimeout    = errors.New("--timeout")
	errReaderGone = errors.New("the reader of standard output has gone")
)

// A subscribeCommand has the flags.
type subscribeCommand struct {
	std IO
	hub hubFlags

	topics, patterns []string
	lastEventID      string
	since            string
	last             int
	types            []string
	method, body     string
	strict           bool

	count   int
	timeout time.Duration

	asJSON       bool
	all          bool
	dataOnly     bool
	color        string
	quiet        bool
	exec         string
	execFailStop bool
}

func newSubscribeCommand(std IO) *cobra.Command {
	c := &subscribeCommand{std: std}
	cmd := &cobra.Command{
		Use:   "subscribe [flags] URL|TOPIC...",
		Short: "Show the events of any stream, or of topics of a hub",
		Long:  subscribeHelp,
		Example: `  tidewire subscribe clock
  tidewire subscribe https://example.com/stream
  tidewire subscribe --last 10 --pattern 'news/*'
  tidewire subscribe --json --type price stocks/acme | jq .data
  tidewire subscribe --count 1 --timeout 10s jobs/42
  tidewire subscribe --exec 'notify-send "$TIDEWIRE_TYPE" "$(cat)"' alerts
  tidewire subscribe --body '{"stream": true}' https://example.com/v1/answers`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd, args)
		},
	}
	c.hub.add(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&c.topics, "topic", nil, "a `TOPIC`, whatever it looks like; may be repeated")
	f.StringArrayVar(&c.patterns, "pattern", nil, "all topics that match `PATTERN`; may be repeated")
	f.StringVar(&c.lastEventID, "last-event-id", "", "begin after the event with this `ID`")
	f.StringVar(&c.since, "since", "", "begin at this `TIME`, such as 2026-01-02T15:04:05Z, or so long ago, such as 1h; \"earliest\": all there is (hubs only)")
	f.IntVar(&c.last, "last", 0, "begin with the newest `N` events (hubs only)")
	f.StringArrayVarP(&c.types, "type", "t", nil, "only events of this `TYPE`; may be repeated")
	f.StringVarP(&c.method, "method", "X", "", "the request's `METHOD` (default GET, or POST with --body)")
	f.StringVarP(&c.body, "body", "d", "", "the request's `BODY`; its Content-Type is application/json if it is that, else text/plain")
	f.BoolVar(&c.strict, "strict", false, "reconnect like a browser to the letter: every status but 200 is final")
	f.IntVarP(&c.count, "count", "n", 0, "stop after `N` events")
	f.DurationVar(&c.timeout, "timeout", 0, "stop after this `DURATION`, such as 30s")
	f.BoolVar(&c.asJSON, "json", false, `print an object a line: {"type":…,"data":…,"id":…}`)
	f.BoolVar(&c.all, "all", false, "with --json: print a hub's own events too, whose type begins with \"tidewire.\"")
	f.BoolVar(&c.dataOnly, "data-only", false, "print the data only, and a line break")
	f.StringVar(&c.color, "color", "auto", "`WHEN` the human form has colours: auto, always or never; auto minds NO_COLOR")
	f.BoolVarP(&c.quiet, "quiet", "q", false, "print nothing on standard error but why the command failed")
	f.StringVar(&c.exec, "exec", "", "run `CMD` for each event instead of printing it")
	f.BoolVar(&c.execFailStop, "exec-fail-stop", false, "stop when the command of --exec fails")
	colors := cobra.FixedCompletions([]string{"auto", "always", "never"}, cobra.ShellCompDirectiveNoFileComp)
	if err := cmd.RegisterFlagCompletionFunc("color", colors); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

func (c *subscribeCommand) run(cmd *cobra.Command, args []string) error {
	if err := c.check(cmd); err != nil {
		return err
	}
	target, ofHub, err := c.target(cmd, args)
	if err != nil {
		return err
	}
	opts, err := c.options(cmd)
	if err != nil {
		return err
	}
	opts.HTTPClient = newClient()
	defer opts.HTTPClient.CloseIdleConnections()
	if ofHub && !c.quiet {
		c.doubtTopic(args)
	}
	s := &subscription{
		target: target,
		opts:   opts,
		types:  c.types,
		all:    c.all,
		count:  c.count,
		notes:  &notes{w: c.std.Err, quiet: c.quiet, target: target, ofHub: ofHub, verbose: c.std.IsTerminal(c.std.Err)},
		handle: c.handler(),
	}
	opts.OnOpen, opts.OnError = s.notes.opened, s.notes.failed

	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	if c.timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, c.timeout, errTimeout)
		defer stop()
	}
	if out, ok := c.std.Out.(*os.File); ok && c.exec == "" {
		stop := watchReader(out, func() { cancel(errReaderGone) })
		defer stop()
	}
	return s.run(ctx)
}

// check refuses what contradicts itself.
func (c *subscribeCommand) check(cmd *cobra.Command) error {
	errs := []error{
		exclusive(cmd, "last-event-id", "since", "last"),
		exclusive(cmd, "json", "data-only", "exec"),
	}
	if c.all && !c.asJSON {
		errs = append(errs, usagef("--all is for --json: in any other form a hub's own events are told on standard error"))
	}
	if c.execFailStop && c.exec == "" {
		errs = append(errs, usagef("--exec-fail-stop needs --exec"))
	}
	if cmd.Flags().Changed("exec") && c.exec == "" {
		errs = append(errs, usagef("--exec needs a command, such as --exec 'jq .price'"))
	}
	for _, f := range []struct {
		name  string
		value int64
	}{{"count", int64(c.count)}, {"last", int64(c.last)}, {"timeout", int64(c.timeout)}} {
		if cmd.Flags().Changed(f.name) && f.value <= 0 {
			errs = append(errs, usagef("--%s must be more than zero", f.name))
		}
	}
	if !slices.Contains([]string{"auto", "always", "never"}, c.color) {
		errs = append(errs, usagef("--color is %q, and can be auto, always or never", c.color))
	}
	if !isHeaderValue(c.lastEventID) {
		errs = append(errs, usagef("--last-event-id %q has a control character, which HTTP does not allow in a header", c.lastEventID))
	}
	if c.method != "" && !isToken(c.method) {
		errs = append(errs, usagef("--method %q is not an HTTP method such as POST", c.method))
	}
	return firstOf(append(errs, checkTopics("topic", c.topics), checkTopics("pattern", c.patterns)))
}

// target returns the URL to ask, and whether it is one of the hub at --url.
func (c *subscribeCommand) target(cmd *cobra.Command, args []string) (target string, ofHub bool, err error) {
	var urls []string
	topics := slices.Clone(c.topics)
	for _, arg := range args {
		scheme, _, absolute := strings.Cut(arg, "://")
		switch {
		case absolute && isHTTP(scheme):
			urls = append(urls, arg)
		case absolute && schemeName.MatchString(scheme):
			return "", false, usagef("%q is neither an http or https URL nor a plain topic; if it is a topic's name, write --topic %[1]s", arg)
		default:
			topics = append(topics, arg)
		}
	}
	query := url.Values{}
	if c.since != "" {
		query.Set("since", c.since)
	}
	if c.last > 0 {
		query.Set("last", strconv.Itoa(c.last))
	}
	switch {
	case len(urls) > 1:
		return "", false, usagef("subscribe takes one URL at a time, and got %d", len(urls))
	case len(urls) == 1 && len(topics)+len(c.patterns) > 0:
		return "", false, usagef("there is a URL, and topics or patterns beside it: topics are those of the hub at --url")
	case len(urls) == 1:
		target, err = withQuery(urls[0], query)
		return target, false, err
	case len(topics)+len(c.patterns) == 0:
		return "", false, usagef("subscribe needs a URL or a topic: tidewire subscribe https://example.com/stream, or tidewire subscribe clock")
	}
	if err := checkTopics("topic", topics); err != nil {
		return "", false, err
	}
	base, err := c.hub.base(cmd, c.std)
	if err != nil {
		return "", false, err
	}
	return eventsURL(base, topics, c.patterns, query), true, nil
}

// withQuery adds to a URL's query.
func withQuery(text string, query url.Values) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "", usagef("%q is not a URL such as https://example.com/stream", text)
	}
	u.Scheme = strings.ToLower(u.Scheme)
	if len(query) > 0 {
		u.RawQuery = strings.TrimPrefix(u.RawQuery+"&"+query.Encode(), "&")
	}
	return u.String(), nil
}

var (
	schemeName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)
	hostPort   = regexp.MustCompile(`^[A-Za-z0-9.-]+:[0-9]+(/|$)`)
)

// doubtTopic tells of topics that were perhaps meant to be URLs.
func (c *subscribeCommand) doubtTopic(args []string) {
	for _, arg := range args {
		if hostPort.MatchString(arg) {
			fmt.Fprintf(c.std.Err, "tidewire: taking %q for a topic; if it is a URL, write http://%[1]s\n", visible(arg))
		}
	}
}

func (c *subscribeCommand) options(cmd *cobra.Command) (*eventsource.Options, error) {
	header, err := c.hub.headers()
	if err != nil {
		return nil, err
	}
	if header.Get("Prefer") == "" {
		// A hub then tells a quiet stream's position, from which to go on, with a lone
		// id, which this client takes for what it is. Others ignore it.
		header.Set("Prefer", "heartbeat=id")
	}
	opts := &eventsource.Options{
		Method:      c.method,
		Header:      header,
		LastEventID: c.lastEventID,
		StrictSpec:  c.strict,
	}
	if !cmd.Flags().Changed("body") {
		return opts, nil
	}
	opts.Body = []byte(c.body)
	if opts.Method == "" {
		opts.Method = http.MethodPost
	}
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", "text/plain; charset=utf-8")
		if json.Valid(opts.Body) {
			header.Set("Content-Type", "application/json")
		}
	}
	return opts, nil
}

// handler returns what is done with each event.
func (c *subscribeCommand) handler() func(context.Context, sse.Event) error {
	if c.exec != "" {
		r := &runner{std: c.std, command: c.exec, quiet: c.quiet, failStop: c.execFailStop}
		return r.run
	}
	terminal := c.std.IsTerminal(c.std.Out)
	var form form
	switch {
	case c.asJSON:
		form = jsonForm
	case c.dataOnly && terminal:
		form = visibleDataForm
	case c.dataOnly:
		form = dataForm
	default:
		form = humanForm{colors: c.colors(terminal), now: c.std.Now}.append
	}
	var buf []byte
	return func(_ context.Context, ev sse.Event) error {
		buf = form(buf[:0], ev)
		if _, err := c.std.Out.Write(buf); readerGone(err) {
			return errReaderGone
		} else if err != nil {
			return fmt.Errorf("cannot write the event: %w", err)
		}
		return nil
	}
}

func (c *subscribeCommand) colors(terminal bool) bool {
	switch c.color {
	case "always":
		return true
	case "never":
		return false
	}
	return terminal && c.std.Getenv("NO_COLOR") == "" && c.std.Getenv("TERM") != "dumb"
}

// A subscription is one run.
type subscription struct {
	target string
	opts   *eventsource.Options
	types  []string // none: all
	all    bool     // a hub's own events too
	count  int      // 0: no end
	notes  *notes
	handle func(context.Context, sse.Event) error
}

func (s *subscription) run(ctx context.Context) error {
	handled := 0
	for ev, err := range eventsource.Stream(ctx, s.target, s.opts) {
		if cause := context.Cause(ctx); cause != nil {
			return s.left(cause)
		}
		if err != nil {
			return s.lost(err)
		}
		own := strings.HasPrefix(ev.Type, "tidewire.")
		if own {
			s.notes.own(ev.Event)
		}
		if own && !s.all || len(s.types) > 0 && !slices.Contains(s.types, ev.Type) {
			continue
		}
		switch err := s.handle(ctx, ev.Event); {
		case err == errReaderGone:
			return nil
		case err != nil:
			return err
		}
		if handled++; handled == s.count {
			return nil
		}
	}
	return nil
}

// left says how a stream ends that was left because ctx has ended.
func (s *subscription) left(cause error) error {
	switch {
	case cause != errTimeout:
		return nil // an interrupt, or the reader has gone
	case s.count > 0:
		s.notes.say("--timeout was reached before the number of events of --count")
		return exitCode(ExitTimeout)
	case !s.notes.connected:
		return errors.New("--timeout was reached without a connection")
	}
	return nil
}

// lost says why a stream has failed for good.
func (s *subscription) lost(err error) error {
	text := reason(s.target, err)
	if s.notes.ofHub && unreachable(err) {
		text += startOne
	}
	return errors.New(text)
}
