//go:build linux && !portable && (amd64 || arm64)

package hub_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/tidewire/tidewire/hub"
)

// TestLongPoll_CostsWhatAStreamDoes has as many of each, idle, and compares the heap.
func TestLongPoll_CostsWhatAStreamDoes(t *testing.T) {
	const each, slack = 1000, 48 // slack is in bytes: lists grow by leaps
	h := newHub(t, hub.Options{})
	to := netip.MustParseAddrPort(strings.TrimPrefix(serve(t, h).url, "http://"))
	streams, goroutines := 0, 1<<30
	sockets := make([]int, 0, 2*(each+50))
	t.Cleanup(func() {
		for _, fd := range sockets {
			_ = syscall.Close(fd)
		}
	})
	// Sockets of the kernel's own, so that the heap has nothing of the clients.
	open := func(request string, n int) {
		for range n {
			fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			sockets = append(sockets, fd)
			if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
				t.Fatal(err)
			}
			if _, err := syscall.Write(fd, []byte(request)); err != nil {
				t.Fatal(err)
			}
			// One at a time: each goroutine that there was at once leaves something behind.
			streams++
			eventually(t, "the stream", func() bool { return h.Streams() == streams && runtime.NumGoroutine() <= goroutines })
		}
	}
	afterTwo := func() int64 { // collections, which empty pools
		runtime.GC()
		return heap()
	}
	cost := func(request string) int64 {
		open(request, 50) // what is made once
		goroutines = runtime.NumGoroutine()
		before := afterTwo()
		open(request, each)
		return (afterTwo() - before) / each
	}
	const form = "GET /events/a%s HTTP/1.1\r\nHost: test\r\nAccept: %s\r\n\r\n"
	stream := cost(fmt.Sprintf(form, "", "text/event-stream"))
	poll := cost(fmt.Sprintf(form, "?wait=60s", "application/json"))
	if poll > stream+slack {
		t.Errorf("a poll that waits has %d bytes of the heap, an idle stream %d", poll, stream)
	}
	t.Logf("%d bytes for a poll, %d for a stream", poll, stream)
}
