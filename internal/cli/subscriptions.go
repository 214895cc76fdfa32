package cli

import (
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
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidewire/tidewire/server"
)

// maxList bounds what is read of a list of subscriptions, in bytes.
const maxList = 256 << 20

const defaultAdminTimeout = 30 * time.Second

// A subscriptionsCommand has the flags.
type subscriptionsCommand struct {
	std IO
	hub hubFlags

	data                    string
	subject, topic, address string
	limit                   int
	all, end                bool
	jsonOutput              bool
	timeout                 time.Duration
}

// newSubscriptionsCommand makes the command that lists and ends streams.
func newSubscriptionsCommand(std IO) *cobra.Command {
	c := &subscriptionsCommand{std: std}
	cmd := &cobra.Command{
		Use:   "subscriptions [flags]",
		Short: "List the streams that are open on a server, or end them",
		Long: `List the streams that are open on a server, the oldest first, or with --end end them.
Those that are meant meet all of --subject, --topic and --address; a stream has a topic
too if one of its patterns matches it.

A stream that is ended is told so by an event tidewire.error. An EventSource connects
again after that: what it may do then is asked anew.

The server is found by its directory (--data), where who can write to it is an
administrator, or at --url, which asks for a token that grants admin.

Exit codes: 0 listed, or ended; 1 the server refused it or could not be reached;
2 wrong usage.`,
		Example: `  tidewire subscriptions
  tidewire subscriptions --data /var/lib/tidewire --topic news/today
  tidewire subscriptions --end --subject mallory
  tidewire subscriptions --end --address 192.0.2.0/24`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.run(cmd)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.data, "data", "", "`directory` of the server, on this machine, instead of its URL")
	c.hub.add(cmd)
	f.StringVar(&c.subject, "subject", "", "those of this `SUBJECT`; an empty one is nobody in particular")
	f.StringVar(&c.topic, "topic", "", "those that get the events of this `TOPIC`")
	f.StringVar(&c.address, "address", "", "those from this `ADDRESS`, or a range such as 192.0.2.0/24")
	f.IntVar(&c.limit, "limit", server.DefaultListed, "list `N` of them at most")
	f.BoolVar(&c.end, "end", false, "end them, and say how many there were")
	f.BoolVar(&c.all, "all", false, "end all streams")
	f.BoolVar(&c.jsonOutput, "json", false, "print the server's answer, a JSON object")
	f.DurationVar(&c.timeout, "timeout", defaultAdminTimeout, "how long to wait for the server, as a `DURATION`")
	return cmd
}

func (c *subscriptionsCommand) run(cmd *cobra.Command) error {
	query, err := c.query(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
	defer cancel()
	answer, err := c.ask(ctx, cmd, query)
	if err != nil {
		return err
	}
	if c.jsonOutput {
		_, err := c.std.Out.Write(answer)
		return err
	}
	if c.end {
		var ended struct{ Ended int }
		if err := json.Unmarshal(answer, &ended); err != nil {
			return fmt.Errorf("the server's answer cannot be read: %w", err)
		}
		_, err := fmt.Fprintf(c.std.Out, "ended %d\n", ended.Ended)
		return err
	}
	return c.print(answer)
}

// query checks the flags, and returns them as the server has them.
func (c *subscriptionsCommand) query(cmd *cobra.Command) (url.Values, error) {
	query := make(url.Values)
	for name, value := range map[string]string{"subject": c.subject, "topic": c.topic, "address": c.address} {
		if cmd.Flags().Changed(name) {
			query.Set(name, value)
		}
	}
	switch {
	case c.limit < 1:
		return nil, usagef("--limit is %d, and must be 1 or more", c.limit)
	case c.timeout <= 0:
		return nil, usagef("--timeout is %v, and must be more than 0", c.timeout)
	case !c.end && c.all:
		return nil, usagef("--all goes with --end; a list has all streams anyway")
	case c.end && len(query) == 0 && !c.all:
		return nil, usagef("say which streams are to end, by --subject, --topic or --address, or --all")
	case c.all && len(query) > 0:
		return nil, usagef("--all ends all streams, and goes with no condition")
	case c.all:
		query.Set("all", "true")
	case !c.end:
		query.Set("limit", strconv.Itoa(c.limit))
	}
	if c.end {
		return query, needless(cmd, "is about a list, and --end ends all that are meant", "limit")
	}
	return query, nil
}

// ask sends the request, and returns the body of the answer.
func (c *subscriptionsCommand) ask(ctx context.Context, cmd *cobra.Command, query url.Values) ([]byte, error) {
	client, target, header, err := c.target(cmd)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	method := http.MethodGet
	if c.end {
		method = http.MethodDelete
	}
	req, err := http.NewRequestWithContext(ctx, method, target+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	req.Header = header
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, server.ErrNotRunning):
		return nil, fmt.Errorf("no server is running on %s: name the directory that serve --data has", visible(c.data))
	case err != nil && c.data != "":
		return nil, fmt.Errorf("the server on %s: %w", visible(c.data), errors.Unwrap(err))
	case err != nil:
		return nil, errors.New(connectionReason(target, err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxList))
	if err != nil {
		return nil, errors.New(connectionReason(target, err))
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(refusal("the server", resp.StatusCode, resp.Header, body))
	}
	return body, nil
}

// target finds the server.
func (c *subscriptionsCommand) target(cmd *cobra.Command) (*http.Client, string, http.Header, error) {
	if cmd.Flags().Changed("data") {
		if err := needless(cmd, "is about a server's URL, and --data stands instead of that", "url", "token", "header"); err != nil {
			return nil, "", nil, err
		}
		if _, err := os.Stat(c.data); err != nil {
			return nil, "", nil, fmt.Errorf("%w: name the directory that serve --data has", err)
		}
		return &http.Client{Transport: server.ControlTransport(c.data)}, "http://control/subscriptions", http.Header{}, nil
	}
	base, err := c.hub.base(cmd, c.std)
	if err != nil {
		return nil, "", nil, err
	}
	header, err := c.hub.headers()
	if err != nil {
		return nil, "", nil, err
	}
	client := newClient()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return client, base.JoinPath("admin/subscriptions").String(), header, nil
}

// print prints a list as a table.
func (c *subscriptionsCommand) print(answer []byte) error {
	var list struct {
		Count         int
		More          bool
		Subscriptions []struct {
			Subject, Address, Position string
			Topics, Patterns, Types    []string
			Since                      time.Time
		}
	}
	if err := json.Unmarshal(answer, &list); err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	var text strings.Builder
	text.WriteString("SINCE\tSUBJECT\tADDRESS\tPOSITION\tTOPICS AND PATTERNS\n")
	for _, s := range list.Subscriptions {
		what := strings.Join(append(s.Topics, s.Patterns...), " ")
		if len(s.Types) > 0 {
			what += " of type " + strings.Join(s.Types, ", ")
		}
		fmt.Fprintf(&text, "%s\t%s\t%s\t%s\t%s\n", s.Since.Format(time.RFC3339), orDash(s.Subject), orDash(s.Address), orDash(s.Position), orDash(what))
	}
	table := tabwriter.NewWriter(c.std.Out, 0, 0, 2, ' ', 0)
	_, err := io.WriteString(table, text.String())
	if err := errors.Join(err, table.Flush()); err != nil {
		return err
	}
	if list.More {
		fmt.Fprintf(c.std.Err, "%d of %d: --limit %[2]d lists all\n", len(list.Subscriptions), list.Count)
	}
	return nil
}

// orDash returns text as it can stand in a table.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return visible(s)
}
