//go:build unix

package cli

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// readerGone tells whether a write failed because nobody reads any more.
func readerGone(err error) bool {
	return errors.Is(err, unix.EPIPE) || errors.Is(err, io.ErrClosedPipe)
}

// watchReader calls gone when out is a pipe or a socket that nobody reads any more,
// without the write that would otherwise be needed to notice. The function that it
// returns ends the watch.
func watchReader(out *os.File, gone func()) (stop func()) {
	info, err := out.Stat()
	if err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return func() {}
	}
	r, w, err := os.Pipe() // its other end closed ends the watch
	if err != nil {
		return func() {} // a write will notice
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if waitForReader(out, r) {
			gone()
		}
	}()
	return func() {
		_ = w.Close() // it was never written to
		<-done
		_ = r.Close()
	}
}

// waitForReader waits until out has no reader, and reports that, or until stop has no
// writer.
func waitForReader(out, stop *os.File) (gone bool) {
	withFD(out, func(outFD int32) {
		withFD(stop, func(stopFD int32) {
			fds := []unix.PollFd{{Fd: outFD}, {Fd: stopFD, Events: unix.POLLIN}}
			for {
				_, err := unix.Poll(fds, -1)
				if err == unix.EINTR {
					continue
				}
				gone = err == nil && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
				return
			}
		})
	})
	return gone
}

// withFD calls fn with f's descriptor, which stays valid meanwhile.
func withFD(f *os.File, fn func(fd int32)) {
	c, err := f.SyscallConn()
	if err != nil {
		return // it is closed
	}
	_ = c.Control(func(fd uintptr) { fn(int32(fd)) }) // closed too, and fn was not called
}
