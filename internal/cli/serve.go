package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/tidewire/tidewire/server"
)

// newServeCommand makes the daemon's command.
func newServeCommand(std IO) *cobra.Command {
	r := &configReader{std: std}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a hub that programs publish and browsers subscribe to",
		Long: `Run a hub: POST /events/{topic} publishes, GET /events/{topic} subscribes.

It needs no configuration, and keeps its history in a directory: what was answered
with success survives a crash and a power failure. Without keys it listens on this
machine only, and there anyone may publish and subscribe.

Each flag is also a key of the file that --config names, and a variable of the
environment: --token-secret is token-secret and TIDEWIRE_TOKEN_SECRET. Flags count most,
then the environment, then the file. Of a list in the environment the elements stand on
lines of their own, or between semicolons. "tidewire config check" looks whether all of
it is right, and SIGHUP has it read again: no streams end but those of keys that are gone.

The first interrupt stops it in an orderly way: subscribers are told to come back a
little later, each at another time. A second one stops it at once.

Exit codes: 0 stopped by an interrupt; 1 it could not listen or serve; 2 wrong usage, or
a mistake in the configuration; 130 stopped by a second interrupt.`,
		Example: `  tidewire serve
  tidewire serve --listen 127.0.0.1:8080 --data /var/lib/tidewire
  tidewire serve --config /etc/tidewire.toml
  tidewire serve --listen :443 --tls-cert cert.pem --tls-key key.pem --keys keys.jsonl --anonymous subscribe
  tidewire serve --retain 'news/**=count:1000,age:7d' --retain 'prices/*=latest' --retain '**=age:1h'
  tidewire serve --allow-origin https://example.com`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), r, "hello", nil)
		},
	}
	r.add(cmd)
	return cmd
}

// defaultData is where history is kept.
const defaultData = "./tidewire-data"

// serve runs a server until the first interrupt, and says how to use it. also, if not
// nil, runs beside it.
func serve(ctx context.Context, r *configReader, topic string, also func(context.Context)) error {
	c, err := r.read()
	if err != nil {
		return usagef("%v", err)
	}
	c.printWarnings(r.std.Err)
	hangups, ignore := notifyHangup()
	defer ignore()
	s, err := server.New(&c.server)
	if err != nil {
		return err
	}
	c.greet(r.std.Out, s, topic)
	var beside sync.WaitGroup
	running, stop := context.WithCancel(ctx)
	defer stop()
	beside.Go(func() {
		defer stop() // where the terminal has gone
		r.follow(running, hangups, s, c)
	})
	if also != nil {
		beside.Go(func() { also(running) })
	}
	err = s.Run(running, context.Background())
	stop()
	beside.Wait()
	if err != nil {
		return err
	}
	fmt.Fprintf(r.std.Err, "stopped\n")
	return nil
}

// greet says how to use a server, and who may.
func (c *configuration) greet(w io.Writer, s *server.Server, topic string) {
	url, options := s.URL(), ""
	if path, ok := strings.CutPrefix(url, "unix:"); ok {
		url, options = "http://localhost", " --unix-socket "+path
	} else {
		fmt.Fprintf(w, "Open       %s/\n", url)
	}
	if c.tls == tlsDev {
		options += " --insecure"
	}
	token := func(free []string) string {
		if c.open() || slices.Contains(free, "**") {
			return ""
		}
		return ` -H "Authorization: Bearer $TIDEWIRE_TOKEN"`
	}
	fmt.Fprintf(w, "Subscribe  curl -N%s%s %s/events/%s\n", options, token(c.auth.anonymous.Subscribe), url, topic)
	fmt.Fprintf(w, "Publish    curl -d 'hello'%s%s %s/events/%s\n", options, token(c.auth.anonymous.Publish), url, topic)
	fmt.Fprintf(w, "Allowed    %s\n", visible(c.access()))
	if notice := s.TLSNotice(); notice != "" {
		fmt.Fprintf(w, "TLS        %s\n", visible(notice))
	}
}

// size writes a number of bytes as the flags read it.
func size(n int64) string {
	for _, u := range []struct {
		name string
		n    int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.n && n%u.n == 0 {
			return fmt.Sprint(n/u.n, u.name)
		}
	}
	return fmt.Sprint(n)
}
