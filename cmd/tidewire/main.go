// Command tidewire publishes events to a hub and subscribes to any stream of
// Server-Sent Events. "tidewire --help" has the rest; package internal/cli does the
// work.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/tidewire/tidewire/internal/cli"
)

func main() {
	ctx, interrupt := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		interrupt()
		<-signals
		os.Exit(cli.ExitInterrupted)
	}()
	// A reader of our output that has gone is an error of Write, and not the end by
	// a signal. Notify rather than Ignore, which the commands that we run would inherit.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(cli.Main(ctx, os.Args[1:], cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
