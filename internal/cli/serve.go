package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/disk"
	"github.com/tidewire/tidewire/server"
)

// newServeCommand makes the daemon's command.
func newServeCommand(std IO) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a hub that anyone on this machine can publish and subscribe to",
		Long: `Run a hub: POST /events/{topic} publishes, GET /events/{topic} subscribes.

It needs no configuration, and keeps its history in a directory: what was answered
with success survives a crash and a power failure. There is no authorisation yet, so
it listens on this machine only.

The first interrupt stops it in an orderly way: subscribers are told to come back a
little later, each at another time. A second one stops it at once.

Exit codes: 0 stopped by an interrupt; 1 it could not listen or serve; 2 wrong usage;
130 stopped by a second interrupt.`,
		Example: `  tidewire serve
  tidewire serve --listen 127.0.0.1:8080 --data /var/lib/tidewire
  tidewire serve --retain 'news/**=count:1000,age:7d' --retain 'prices/*=latest' --retain '**=age:1h'
  tidewire serve --memory
  tidewire serve --allow-origin https://example.com`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.config(cmd.Flags())
			if err != nil {
				return err
			}
			return serve(cmd.Context(), std, cfg, "hello", nil)
		},
	}
	f.add(cmd)
	return cmd
}

// defaultData is where history is kept.
const defaultData = "./tidewire-data"

// serveFlags are those of everything that serves.
type serveFlags struct {
	file      string
	listen    string
	data      string
	memory    bool
	sync      string
	free      string
	retain    []string
	slow      []string
	history   string
	heartbeat time.Duration
	retry     time.Duration
	write     time.Duration
	drain     time.Duration
	origins   []string
	cookies   bool
	event     string
	batch     string
	events    int
	topics    int
	id        int
	headers   string
}

func (f *serveFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.file, "config", "", "`file` in TOML with any of these flags, such as listen = \"127.0.0.1:8080\"; what the command line says counts")
	flags.StringVar(&f.listen, "listen", server.DefaultListen, "`address` to listen on, of this machine only; port 0 takes any free one")
	f.addLog(flags)
	flags.DurationVar(&f.heartbeat, "heartbeat", hub.DefaultHeartbeat, "how long a stream may be idle before a comment keeps it open; 0 for ever")
	flags.DurationVar(&f.retry, "retry", hub.DefaultRetry, "reconnection time that subscribers are told")
	flags.DurationVar(&f.write, "write-timeout", hub.DefaultWriteTimeout, "how long a subscriber may take nothing before it is cut off")
	flags.StringArrayVar(&f.slow, "slow", nil, "`pattern=policy` for a subscriber that takes nothing while events wait: replay sends it all of them, later; latest,lag:1000 skips to the newest event; disconnect,lag:1000 closes its connection; the first that matches counts (repeat for more) (default **=replay)")
	flags.DurationVar(&f.drain, "drain-timeout", server.DefaultDrainTimeout, "how long an orderly stop may take")
	flags.StringArrayVar(&f.origins, "allow-origin", nil, "`origin` whose pages may use the hub from a browser, such as https://example.com, or * (repeat for more)")
	flags.BoolVar(&f.cookies, "allow-credentials", false, "let cookies come with requests from the allowed origins")
	flags.StringVar(&f.event, "max-event", size(hub.DefaultMaxEventSize), "`bytes` of an event's data at most")
	flags.StringVar(&f.batch, "max-batch", size(hub.DefaultMaxBatchSize), "`bytes` of a batch's body at most")
	flags.IntVar(&f.events, "max-batch-events", hub.DefaultMaxBatchEvents, "events in a batch at most")
	flags.IntVar(&f.topics, "max-topics", hub.DefaultMaxTopics, "topics and patterns of a request or an event at most")
	flags.IntVar(&f.id, "max-id", hub.DefaultMaxIDSize, "bytes of an id, a type or an idempotency key at most")
	flags.StringVar(&f.headers, "max-headers", size(hub.DefaultMaxHeaderSize), "`bytes` of a request's URL and headers at most")
}

// addLog adds the flags of where history is kept, and how much of it.
func (f *serveFlags) addLog(flags *pflag.FlagSet) {
	if !f.memory {
		flags.StringVar(&f.data, "data", defaultData, "`directory` that keeps the history")
		flags.BoolVar(&f.memory, "memory", false, "keep the history in memory, until the process ends")
		flags.StringVar(&f.sync, "sync", disk.SyncAlways.String(), "when a publish is answered: always, when the disk has it; interval=100ms, the end of the machine can lose so much; never, half a minute or so")
		flags.StringVar(&f.free, "min-free", "", "`bytes` that must stay free on the disk, or publishing is refused; 0 for none (default "+size(disk.DefaultMinFree)+", or a twentieth of the disk)")
	}
	retain, history := server.DefaultRetain, size(server.DefaultHistoryBytes)
	if memory, bytes := server.DefaultMemoryRetain, size(server.DefaultMemoryHistoryBytes); f.memory {
		retain, history = memory, bytes
	} else {
		retain, history = retain+", in memory "+memory, history+", in memory "+bytes
	}
	flags.StringArrayVar(&f.retain, "retain", nil, "`pattern=bounds` of a topic's history: age:24h, count:1000, bytes:64MiB, or latest for one event, or all; the first that matches counts (repeat for more) (default "+retain+")")
	flags.StringVar(&f.history, "history", "", "`bytes` of all topics' history together; 0 for no bound (default "+history+")")
}

// config checks all flags and reports everything that is wrong with them at once.
func (f *serveFlags) config(flags *pflag.FlagSet) (*server.Config, error) {
	var wrong []string
	if f.file != "" {
		wrong = setFromFile(flags, f.file)
	}
	note := func(flag string, err error) {
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("--%s: %v", flag, err))
		}
	}
	bytes := func(flag, value string, least int64) int64 {
		n, err := server.ParseBytes(value)
		if err == nil && n < least {
			err = fmt.Errorf("%q must be %d or more", value, least)
		}
		note(flag, err)
		return n
	}
	positive := func(flag string, ok bool) {
		if !ok {
			note(flag, fmt.Errorf("must be more than 0"))
		}
	}
	// optional reads a size whose 0 is none, and that has a default.
	optional := func(flag, value string) int64 {
		if value == "" {
			return 0
		}
		if n := bytes(flag, value, 0); n > 0 {
			return n
		}
		return -1
	}
	c := &server.Config{Listen: f.listen, DrainTimeout: f.drain, HistoryBytes: optional("history", f.history)}
	note("listen", onThisMachine(f.listen))
	if !f.memory {
		var err error
		c.Data, c.MinFree = f.data, optional("min-free", f.free)
		c.Sync, err = disk.ParseSync(f.sync)
		note("sync", err)
		if f.data == "" {
			note("data", errors.New("name a directory, or use --memory"))
		}
	}
	var slow hub.SlowRules
	for _, s := range f.retain {
		rule, err := server.ParseRetain(s)
		note("retain", err)
		c.Retention = append(c.Retention, rule)
	}
	for _, s := range f.slow {
		rule, err := server.ParseSlow(s)
		note("slow", err)
		slow = append(slow, rule)
	}
	positive("retry", f.retry >= time.Millisecond)
	positive("write-timeout", f.write > 0)
	positive("drain-timeout", f.drain > 0)
	positive("max-batch-events", f.events > 0)
	positive("max-topics", f.topics > 0)
	positive("max-id", f.id > 0)
	if f.heartbeat <= 0 {
		f.heartbeat = -1
	}
	c.Hub = hub.Options{
		Heartbeat:        f.heartbeat,
		Retry:            f.retry,
		WriteTimeout:     f.write,
		Slow:             slow,
		AllowedOrigins:   f.origins,
		AllowCredentials: f.cookies,
		Limits: hub.RequestLimits{
			EventSize:   int(bytes("max-event", f.event, 1)),
			BatchSize:   int(bytes("max-batch", f.batch, 1)),
			BatchEvents: f.events,
			Topics:      f.topics,
			IDSize:      f.id,
			TypeSize:    f.id,
			HeaderSize:  int(bytes("max-headers", f.headers, 1024)),
		},
	}
	note("allow-origin", c.Hub.CheckOrigins())
	if len(wrong) > 0 {
		return nil, usagef("%s", strings.Join(wrong, "\n          "))
	}
	return c, nil
}

// onThisMachine refuses addresses that others could reach: there is no authorisation
// yet.
func onThisMachine(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is no address such as %s", address, server.DefaultListen)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%q can be reached from other machines, and there is no authorisation yet: listen on 127.0.0.1, and put a proxy that asks who is there in front", address)
}

// serve runs a server until the first interrupt, and says how to use it. also, if not
// nil, runs beside it.
func serve(ctx context.Context, std IO, cfg *server.Config, topic string, also func(context.Context)) error {
	s, err := server.New(cfg)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.Out, "Open       %s/\nSubscribe  curl -N %[1]s/events/%s\nPublish    curl -d 'hello' %[1]s/events/%[2]s\n", s.URL(), topic)
	var beside sync.WaitGroup
	running, stop := context.WithCancel(ctx)
	defer stop()
	if also != nil {
		beside.Go(func() { also(running) })
	}
	err = s.Run(ctx, context.Background())
	stop()
	beside.Wait()
	if err != nil {
		return err
	}
	fmt.Fprintf(std.Err, "stopped\n")
	return nil
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
