//go:build unix

// Package profile lets a server that is measured write a CPU profile of just that time.
package profile

import (
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
)

// OnSignal writes a CPU profile to a file from SIGUSR1 until end is called. An empty name is
// none.
func OnSignal(name string) (end func()) {
	if name == "" {
		return func() {}
	}
	begin := make(chan os.Signal, 1)
	signal.Notify(begin, syscall.SIGUSR1)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-begin:
		case <-done:
			return
		}
		f, err := os.Create(name)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		<-done
		if err != nil {
			fmt.Fprintln(os.Stderr, "server: profile:", err)
			return
		}
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "server: profile:", err)
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}
