package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidewire/tidewire/sse"
)

const (
	// maxInput bounds one event's data in bytes. It is what this module's own
	// decoders take, and more than hubs do.
	maxInput = sse.DefaultMaxEventSize

	// expectAbove is the size of a body from which the hub is asked first whether it
	// would take it.
	expectAbove = 1 << 20

	// maxAnswer bounds what is read of a hub's answer.
	maxAnswer = 1 << 20

	defaultPublishTimeout = 30 * time.Second
)

const publishHelp = `Publish events to a topic of a hub, and print the id of the last one.

The data is DATA, or the content of the file of --file, or without either (or with
"-") standard input, byte for byte. With --end alone there is no event: the topic is
closed.

With --lines each line of the input is an event, sent as soon as it is there, and with
--event-stream the input is a stream of events, relayed as it arrives. Both go on until
the input ends or an interrupt (Ctrl-C); the hub then confirms what it has.

Exit codes:
  0    published
  1    not published, or not known to be: the hub refused it or could not be reached,
       the input could not be read, or an interrupt came before the answer
  2    wrong usage
  130  a second interrupt, which waits for nothing`

// A publishCommand has the flags.
type publishCommand struct {
	std IO
	hub hubFlags

	topics         []string
	file           string
	lines          bool
	eventStream    bool
	typ, id        string
	retry          time.Duration
	private, end   bool
	idempotencyKey string
	ifMatch        string
	asJSON         bool
	jsonOutput     bool
	quiet          bool
	timeout        time.Duration
}

func newPublishCommand(std IO) *cobra.Command {
	c := &publishCommand{std: std}
	cmd := &cobra.Command{
		Use:   "publish [flags] TOPIC [DATA]",
		Short: "Publish events to a topic of a hub",
		Long:  publishHelp,
		Example: `  tidewire publish clock "it is noon"
  tidewire publish --json --type price stocks/acme '{"eur": 12.5}'
  date | tidewire publish clock
  tail -f app.log | tidewire publish --lines logs
  curl -N https://example.com/stream | tidewire publish --event-stream mirror
  tidewire publish --end clock`,
		Args:              publishArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd, args)
		},
	}
	c.hub.add(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&c.topics, "topic", nil, "publish to this `TOPIC` too; may be repeated")
	f.StringVarP(&c.file, "file", "f", "", "take the data from `FILE`")
	f.BoolVarP(&c.lines, "lines", "l", false, "each line of the input is an event, sent as it arrives")
	f.BoolVar(&c.eventStream, "event-stream", false, "the input is a stream of events, relayed as it arrives")
	f.StringVarP(&c.typ, "type", "t", "", "the events' `TYPE`, under which a browser's listener gets them")
	f.StringVar(&c.id, "id", "", "the event's `ID`, instead of one that the hub gives")
	f.DurationVar(&c.retry, "retry", 0, "tell subscribers to wait this `DURATION` before they reconnect, such as 3s")
	f.BoolVar(&c.private, "private", false, "for subscribers only that may see it")
	f.BoolVar(&c.end, "end", false, "close the topic: nothing comes after this")
	f.StringVar(&c.idempotencyKey, "idempotency-key", "", "`KEY` that makes repeating the same command publish once only")
	f.StringVar(&c.ifMatch, "if-match", "", "publish only if this `ID` is the topic's newest")
	f.BoolVar(&c.asJSON, "json", false, "the data is JSON: check it, and send it as application/json")
	f.BoolVar(&c.jsonOutput, "json-output", false, "print the hub's answer, a JSON object, instead of the id")
	f.BoolVarP(&c.quiet, "quiet", "q", false, "print nothing but errors")
	f.DurationVar(&c.timeout, "timeout", defaultPublishTimeout, "how long to wait for the hub, if it is one event, as a `DURATION`; 0: for ever")
	return cmd
}

func publishArguments(_ *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return usagef(`publish needs a topic: tidewire publish TOPIC "the data"`)
	case len(args) > 2:
		return usagef("publish takes a topic and the data, and got %d arguments: put data that has spaces in quotes", len(args))
	}
	return nil
}

func (c *publishCommand) run(cmd *cobra.Command, args []string) error {
	if err := c.check(cmd, args); err != nil {
		return err
	}
	target, header, err := c.request(cmd, args[0])
	if err != nil {
		return err
	}
	in, err := c.input(args[1:])
	if err != nil {
		return err
	}
	defer in.close()
	p := &publisher{target: target, header: header, client: newClient()}
	p.client.CheckRedirect = func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // a POST that becomes a GET publishes nothing
	}
	defer p.client.CloseIdleConnections()

	if c.lines || c.eventStream {
		return c.stream(cmd.Context(), p, in)
	}
	return c.one(cmd.Context(), p, in)
}

// stream publishes events until the input ends.
func (c *publishCommand) stream(ctx context.Context, p *publisher, in input) error {
	enc := encoder(relayed{})
	if c.lines {
		enc = &lineEvents{event: sse.Event{Type: c.typ}}
	}
	a, inputErr, err := p.stream(ctx, in.r, enc)
	if err != nil {
		return err
	}
	return errors.Join(c.print(a), inputErr)
}

// one publishes one event.
func (c *publishCommand) one(ctx context.Context, p *publisher, in input) error {
	data, err := c.data(ctx, in)
	if err != nil {
		return err
	}
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("the hub has not answered within %s", c.timeout))
		defer cancel()
	}
	a, err := p.once(ctx, data)
	if err != nil {
		return err
	}
	return c.print(a)
}

// check refuses what contradicts itself.
func (c *publishCommand) check(cmd *cobra.Command, args []string) error {
	stream := "--lines"
	if c.eventStream {
		stream = "--event-stream"
	}
	errs := []error{
		exclusive(cmd, "lines", "event-stream"),
		exclusive(cmd, "json", "event-stream"),
		exclusive(cmd, "json-output", "quiet"),
	}
	if c.lines || c.eventStream {
		errs = append(errs, needless(cmd, "is for one event, and "+stream+" publishes many", "id", "idempotency-key", "if-match", "timeout"))
	}
	if c.eventStream {
		errs = append(errs, needless(cmd, "is for events without their own: those of --event-stream have theirs", "type", "retry"))
	}
	if c.lines {
		errs = append(errs, needless(cmd, "is for one event, and not for --lines", "json"))
	}
	if len(args) == 1 && c.endsOnly() {
		errs = append(errs, needless(cmd, `is for data, and --end alone has none: give DATA, or "-" for standard input`, "json", "type", "id", "retry"))
	}
	hasData := len(args) == 2 && args[1] != "-"
	switch {
	case hasData && c.file != "":
		errs = append(errs, usagef("there is data both in the argument %q and in --file: give one of them", args[1]))
	case hasData && (c.lines || c.eventStream):
		errs = append(errs, usagef("%s reads standard input or --file, not the argument %q", stream, args[1]))
	case len(args) == 2 && c.file != "":
		errs = append(errs, usagef(`there is data both in standard input ("-") and in --file: give one of them`))
	}
	_, err := sse.AppendEvent(nil, sse.Event{ID: c.id, Type: c.typ, Retry: c.retry})
	var field *sse.FieldError
	if errors.As(err, &field) {
		flag := map[string]string{"event": "type"}[field.Field]
		if flag == "" {
			flag = field.Field
		}
		errs = append(errs, usagef("--%s: %s", flag, field.Reason))
	}
	errs = append(errs, checkTopics("topic", append([]string{args[0]}, c.topics...)))
	for _, f := range []struct{ name, value string }{{"idempotency-key", c.idempotencyKey}, {"if-match", c.ifMatch}} {
		if !isHeaderValue(f.value) {
			errs = append(errs, usagef("--%s has a control character, which HTTP does not allow in a header", f.name))
		}
	}
	return firstOf(errs)
}

func firstOf(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// request returns the URL to publish at and the headers.
func (c *publishCommand) request(cmd *cobra.Command, topic string) (string, http.Header, error) {
	base, err := c.hub.base(cmd, c.std)
	if err != nil {
		return "", nil, err
	}
	header, err := c.hub.headers()
	if err != nil {
		return "", nil, err
	}
	header.Set("Accept", "application/json, application/problem+json")
	query := url.Values{}
	switch {
	case c.eventStream, c.lines:
		header.Set("Content-Type", "text/event-stream")
	case c.asJSON:
		header.Set("Content-Type", "application/json")
	default:
		header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	if c.typ != "" && !c.lines { // which has it in each event
		query.Set("type", c.typ)
	}
	if c.id != "" {
		query.Set("id", c.id)
	}
	if c.retry > 0 { // with --lines too: a retry that a stream begins with is not an event's
		query.Set("retry", strconv.FormatInt(int64((c.retry+time.Millisecond-1)/time.Millisecond), 10))
	}
	if c.private {
		query.Set("private", "true")
	}
	if c.end {
		query.Set("end", "true")
	}
	if c.idempotencyKey != "" {
		header.Set("Idempotency-Key", c.idempotencyKey)
	}
	if c.ifMatch != "" {
		header.Set("If-Match", `"`+c.ifMatch+`"`)
	}
	return eventsURL(base, append([]string{topic}, c.topics...), nil, query), header, nil
}

// endsOnly tells whether, unless DATA is there, no event comes with the end.
func (c *publishCommand) endsOnly() bool {
	return c.end && c.file == "" && !c.lines && !c.eventStream
}

// An input is where the data comes from.
type input struct {
	r    io.Reader
	name string // for messages
	file *os.File
}

func (in input) close() {
	if in.file != nil {
		_ = in.file.Close() // it was only read
	}
}

func (c *publishCommand) input(data []string) (input, error) {
	switch {
	case c.file != "":
		f, err := os.Open(c.file)
		if err != nil {
			return input{}, fmt.Errorf("cannot read the data: %w", err)
		}
		return input{f, c.file, f}, nil
	case len(data) > 0 && data[0] != "-":
		return input{r: strings.NewReader(data[0]), name: "the argument"}, nil
	case len(data) == 0 && c.endsOnly():
		return input{r: strings.NewReader("")}, nil
	}
	if c.std.IsTerminal(c.std.In) && !c.quiet {
		fmt.Fprintf(c.std.Err, "tidewire: reading the data from the terminal; Ctrl-D on a line of its own ends it\n")
	}
	return input{r: c.std.In, name: "standard input"}, nil
}

// data reads one event's data.
func (c *publishCommand) data(ctx context.Context, in input) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var data []byte
	for chunks := arriving(ctx, in.r); ; {
		var read chunk
		select {
		case read = <-chunks:
		case <-ctx.Done():
			return nil, errors.New("interrupted before the data was complete: nothing is published")
		}
		data = append(data, read.bytes...)
		switch {
		case len(data) > maxInput:
			return nil, fmt.Errorf("%s is larger than %d MiB, which no event can be: did you mean --lines or --event-stream?", in.name, maxInput>>20)
		case read.err == io.EOF:
			return data, c.checkJSON(in.name, data)
		case read.err != nil:
			return nil, fmt.Errorf("cannot read the data: %w", read.err)
		}
	}
}

// checkJSON refuses what --json must not send.
func (c *publishCommand) checkJSON(name string, data []byte) error {
	if !c.asJSON {
		return nil
	}
	var value json.RawMessage
	err := json.Unmarshal(data, &value)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("%s is not JSON: %w, at byte %d", name, err, syntax.Offset)
	}
	return err
}

// print tells the answer.
func (c *publishCommand) print(a answer) error {
	var out []byte
	switch {
	case c.quiet:
		return nil
	case c.jsonOutput:
		var compact bytes.Buffer
		if json.Compact(&compact, a.body) != nil {
			return fmt.Errorf("published, but the hub's answer is not JSON: %.200q", a.body)
		}
		out = append(appendVisibleJSON(nil, compact.Bytes()), '\n')
	default:
		if a.count != nil {
			fmt.Fprintf(c.std.Err, "tidewire: published %s\n", events(*a.count))
		}
		if a.id == "" {
			return nil
		}
		out = append(appendVisible(nil, a.id, ""), '\n')
	}
	if _, err := c.std.Out.Write(out); err != nil && !readerGone(err) {
		return fmt.Errorf("published, but the answer could not be written: %w", err)
	}
	return nil
}

func events(n int) string {
	if n == 1 {
		return "1 event"
	}
	return fmt.Sprintf("%d events", n)
}
