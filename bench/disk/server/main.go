// Command server is tidewire with what its measuring needs: with a file in
// TIDEWIRE_CPU_PROFILE, SIGUSR1 begins a profile that ends with the process. As
// "server bare" it is a server that does nothing but net/http's part of a publish.
package main

import (
	"context"
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

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	end := profile.OnSignal(os.Getenv("TIDEWIRE_CPU_PROFILE"))
	code := run(ctx, os.Args[1:])
	end()
	os.Exit(code)
}

func run(ctx context.Context, args []string) int {
	if len(args) == 1 && args[0] == "bare" {
		if err := bare(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "server:", err)
			return 1
		}
		return 0
	}
	return cli.Main(ctx, args, cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}

// bare reads each body and gives an answer of the size and the headers of ours.
func bare(ctx context.Context) error {
	body := []byte(`{"id":"abcdefgh-1000000","position":"abcdefgh-1000000","topics":["t00"]}` + "\n")
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write(body) // who has gone needs no answer
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("Open       http://%s/\n", l.Addr())
	context.AfterFunc(ctx, func() { _ = s.Close() })
	if err := s.Serve(l); err != http.ErrServerClosed {
		return err
	}
	return nil
}
