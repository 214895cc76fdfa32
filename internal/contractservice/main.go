// Command contractservice puts the client of package eventsource behind HTTP, so
// that a contract-test harness can drive it, such as
// github.com/launchdarkly/sse-contract-tests:
//
//	go run ./internal/contractservice -listen 127.0.0.1:8000
//
// It says on standard output where it listens. DELETE / or a signal ends it with
// status 0; a second signal does not wait for what is under way. Callbacks that
// could not be delivered are told on standard error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	defaultListen = "127.0.0.1:8000"

	// shutdownTimeout bounds the wait for requests that are under way. A harness
	// may leave connections that it has never used, which look like those.
	shutdownTimeout = time.Second
)

func main() {
	listen := flag.String("listen", defaultListen, "`address` to listen on; port 0 takes any free one")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "contractservice: unexpected argument %q\n", flag.Arg(0))
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal is the system's to deal with
	if err := run(ctx, *listen, os.Stdout, log.New(os.Stderr, "contractservice: ", 0)); err != nil {
		fmt.Fprintln(os.Stderr, "contractservice:", err)
		os.Exit(1)
	}
}

// run serves on addr, whose resolved form it tells out, until DELETE / or the end
// of ctx. When it returns, every client has ended.
func run(ctx context.Context, addr string, out io.Writer, logger *log.Logger) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err // says all: "listen tcp 127.0.0.1:8000: bind: ..."
	}
	if _, err := fmt.Fprintf(out, "listening on http://%s\n", ln.Addr()); err != nil {
		_ = ln.Close() // nobody knows of it
		return fmt.Errorf("tell the address: %w", err)
	}
	svc := newService(logger)
	defer svc.Close()
	srv := &http.Server{Handler: svc, ErrorLog: logger}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()

	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-svc.Quit():
	case <-ctx.Done():
	}
	err = drain(srv)
	if e := <-served; e != http.ErrServerClosed {
		err = errors.Join(err, fmt.Errorf("serve: %w", e))
	}
	return err
}

// drain lets requests that are under way finish, above all the one that asked for
// the end.
func drain(srv *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	err := srv.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	if err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	return nil
}
