package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidewire/tidewire/internal/doctor"
)

// A doctorCommand has the flags.
type doctorCommand struct {
	std IO
	hub hubFlags

	origin        string
	publish       string
	idle, timeout time.Duration
	jsonOutput    bool
}

// newDoctorCommand makes the command that says what stands in a stream's way.
func newDoctorCommand(std IO) *cobra.Command {
	c := &doctorCommand{std: std}
	cmd := &cobra.Command{
		Use:   "doctor [flags] URL|TOPIC",
		Short: "Say what stands in a stream's way: buffering, idle cuts, CORS and so on",
		Long: `Try a stream from outside, as a browser would, and say what stands in its way: proxies
that buffer it, delay its events, or cut it when it is idle, compression that holds
events back, missing headers, HTTP/1.1's six connections, CORS, clocks, certificates, and
a resumption that loses events or repeats them. Each problem comes with its remedies;
docs/proxies.md has them in full.

An argument that begins with http:// or https:// is the URL of any event stream. Any
other is a topic of the hub at --url. With --publish-topic about ten short events are
published to that topic of the same hub, where they stay like others: only so can the
delay of events, and in a quiet stream resumption, be measured.

It takes as long as --idle and some seconds. A finding is ok, a note, or a problem.

Exit codes: 0 there is no problem; 1 there is, or it was interrupted; 2 wrong usage.`,
		Example: `  tidewire doctor https://example.com/stream
  tidewire doctor --publish-topic probe https://example.com/events/clock
  tidewire doctor --origin https://app.example.com --idle 0 https://example.com/stream
  tidewire doctor --json clock | jq '.findings[] | select(.severity == "problem")'`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd, args)
		},
	}
	c.hub.add(cmd)
	f := cmd.Flags()
	f.StringVar(&c.publish, "publish-topic", "", "publish to this `TOPIC` of the hub, and measure how its events come")
	f.StringVar(&c.origin, "origin", "", "look whether pages of this `ORIGIN`, such as https://app.example.com, can read the stream")
	f.DurationVar(&c.idle, "idle", doctor.DefaultIdle, "hold the stream open for this `DURATION`, to see who cuts it; 0 leaves that out")
	f.DurationVar(&c.timeout, "timeout", doctor.DefaultTimeout, "wait for this `DURATION` for what should come at once")
	f.BoolVar(&c.jsonOutput, "json", false, "print a JSON object")
	return cmd
}

func (c *doctorCommand) run(cmd *cobra.Command, args []string) error {
	target, err := c.target(cmd, args)
	if err != nil {
		return err
	}
	opts, err := c.options(target)
	if err != nil {
		return err
	}
	report, failed := doctor.Run(cmd.Context(), target, opts)
	if err := c.print(report); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	switch {
	case failed != nil:
		return errors.New("it was interrupted, and not everything was looked at")
	case report.Problems() > 0:
		return exitCode(ExitFailed)
	}
	return nil
}

// target returns the stream's URL.
func (c *doctorCommand) target(cmd *cobra.Command, args []string) (string, error) {
	switch {
	case len(args) != 1 || args[0] == "":
		return "", usagef("doctor takes one URL or topic: tidewire doctor https://example.com/stream, or tidewire doctor clock")
	case c.timeout <= 0:
		return "", usagef("--timeout is %v, and must be more than 0", c.timeout)
	case c.idle < 0:
		return "", usagef("--idle is %v, and must be 0 or more", c.idle)
	case c.origin != "" && !isOrigin(c.origin):
		return "", usagef("--origin is %q: write it as browsers do, as in https://example.com, in lower case, without a path, and without the port where that is the usual one", c.origin)
	}
	base, err := c.hub.base(cmd, c.std)
	if err != nil {
		return "", err
	}
	scheme, _, absolute := strings.Cut(args[0], "://")
	if !absolute || !isHTTP(scheme) {
		return eventsURL(base, args, nil, url.Values{}), nil
	}
	target, err := withQuery(args[0], nil)
	if hostOf(target) != hostOf(base.String()) {
		c.hub.hubToken = "" // it is for the hub
	}
	return target, err
}

func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && isHTTP(u.Scheme) && u.Host != "" && !hasDefaultPort(u) && s == strings.ToLower(u.Scheme+"://"+u.Host)
}

func hasDefaultPort(u *url.URL) bool {
	return u.Scheme == "http" && u.Port() == "80" || u.Scheme == "https" && u.Port() == "443"
}

func (c *doctorCommand) options(target string) (*doctor.Options, error) {
	header, err := c.hub.headers()
	if err != nil {
		return nil, err
	}
	opts := &doctor.Options{Header: header, Origin: c.origin, Idle: c.idle, Timeout: c.timeout}
	if c.idle == 0 {
		opts.Idle = -1
	}
	if c.publish != "" {
		if opts.Probe, err = beside(target, c.publish); err != nil {
			return nil, err
		}
	}
	if c.std.IsTerminal(c.std.Err) {
		opts.Progress = func(step string) { fmt.Fprintf(c.std.Err, "tidewire: looking at %s\n", step) }
	}
	return opts, nil
}

// beside returns the URL of another topic of the hub that has the one at rawURL.
func beside(rawURL, topic string) (string, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "", err
	}
	before, _, found := strings.Cut(u.Path+"/", "/events/")
	if !found {
		return "", usagef("--publish-topic is for a hub, whose streams are at /events/TOPIC: %q has no such path", redacted(rawURL))
	}
	u.Path, u.RawPath, u.RawQuery, u.Fragment = before, "", "", ""
	return eventsURL(u, []string{topic}, nil, url.Values{}), nil
}

func (c *doctorCommand) print(r *doctor.Report) error {
	if c.jsonOutput {
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_, err = c.std.Out.Write(append(appendVisibleJSON(nil, text), '\n'))
		return err
	}
	var s strings.Builder
	counts := map[doctor.Severity]int{}
	for _, f := range r.Findings {
		counts[f.Severity]++
		fmt.Fprintf(&s, "%-8s %s: %s\n", f.Severity, f.Check, visible(f.Says))
		if f.Severity == doctor.Problem {
			for _, remedy := range f.Remedies {
				fmt.Fprintf(&s, "         %-18s %s\n", remedy.For, remedy.Do)
			}
		}
		if f.More != "" {
			fmt.Fprintf(&s, "         %-18s %s\n", "more", f.More)
		}
	}
	fmt.Fprintf(&s, "\n%s: %s, %s, %d ok\n", visible(r.URL), count(counts[doctor.Problem], "problem"), count(counts[doctor.Note], "note"), counts[doctor.OK])
	_, err := io.WriteString(c.std.Out, s.String())
	return err
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
