// Clock streams the time of day to every browser that asks for it: a whole server
// with this module's format package alone.
package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"io"
	"iter"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/tidewire/tidewire/sse"
)

//go:embed index.html
var page []byte

func main() {
	listen := flag.String("listen", "127.0.0.1:7730", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *listen, os.Stdout); err != nil {
		log.Fatal("clock: ", err)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, listen string, out io.Writer) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(page) // a browser that has gone needs no page
	})
	mux.HandleFunc("GET /clock", func(w http.ResponseWriter, r *http.Request) {
		// The error says why the stream ended: mostly that the client has gone.
		_ = sse.Serve(w, r, ticks, nil)
	})
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		// Streams end when the program is told to.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	fmt.Fprintf(out, "Open http://%s/ in a browser, or: curl -N http://%[1]s/clock\n", l.Addr())

	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(grace)
}

// ticks counts the seconds. A client that was away goes on with its count.
func ticks(s *sse.Session) iter.Seq2[sse.Event, error] {
	return func(yield func(sse.Event, error) bool) {
		n, _ := strconv.Atoi(s.LastEventID()) // 0 for a new client
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case t := <-tick.C:
				n++
				if !yield(sse.Event{ID: strconv.Itoa(n), Data: t.Format(time.TimeOnly)}, nil) {
					return
				}
			case <-s.Context().Done():
				return
			}
		}
	}
}
