//go:build linux

// Command server is what the servers written in Go are measured as, each in a process of
// its own: server naive, r3labs, go-sse, limit, or server tidewire with the arguments of
// tidewire. With a file in TIDEWIRE_CPU_PROFILE, SIGUSR1 begins a profile that ends with
// the process.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/tidewire/tidewire/bench/internal/profile"
	"github.com/tidewire/tidewire/internal/cli"
)

// keep is how many events a history has, where it has a bound: more than any row of the
// benchmark asks for.
const keep = 200_000

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	end := profile.OnSignal(os.Getenv("TIDEWIRE_CPU_PROFILE"))
	code := run(ctx, os.Args[1:])
	end()
	os.Exit(code)
}

func run(ctx context.Context, args []string) int {
	handlers := map[string]func() (http.Handler, error){"naive": newNaive, "r3labs": newR3Labs, "go-sse": newGoSSE}
	var err error
	switch name := cmp.Or(append(args, "")...); {
	case name == "tidewire":
		return cli.Main(ctx, args[1:], cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	case name == "limit":
		err = limit(ctx)
	case handlers[name] != nil:
		err = serve(ctx, handlers[name])
	default:
		err = fmt.Errorf("there is no server %q", name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		return 1
	}
	return 0
}

// serve runs a handler with net/http as it is.
func serve(ctx context.Context, handler func() (http.Handler, error)) error {
	h, err := handler()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("Open       http://%s/\n", l.Addr())
	s := &http.Server{Handler: h}
	context.AfterFunc(ctx, func() { _ = s.Close() })
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// publishing makes a handler of what takes an event.
func publishing(take func(topic, data string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err == nil {
			err = take(r.PathValue("topic"), string(data))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}
