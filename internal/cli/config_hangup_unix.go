//go:build unix

package cli

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyHangup returns the process's hangups, until they are left alone.
func notifyHangup() (hangups <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}
