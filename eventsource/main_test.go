package eventsource_test

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails if a goroutine of ours, or a connection, outlives the tests: a
// source that was not waited for, a body that was not closed.
func TestMain(m *testing.M) {
	// httptest closes idle connections of the default transport whenever a server
	// closes, and with them now and then one that a parallel test has just dialled.
	// It does not if it cannot see how.
	transport := http.DefaultTransport.(*http.Transport)
	http.DefaultTransport = struct{ http.RoundTripper }{transport}

	code := m.Run()
	transport.CloseIdleConnections()
	left := leftOver(5*time.Second, func(stack string) bool {
		ours := strings.Contains(stack, "tidewire/") && !strings.Contains(stack, ".TestMain(")
		return ours || strings.Contains(stack, "net/http.(*persistConn)")
	})
	if len(left) > 0 {
		fmt.Fprintf(os.Stderr, "FAIL: %d goroutines outlive the tests:\n\n%s\n", len(left), strings.Join(left, "\n\n"))
		code = 1
	}
	os.Exit(code)
}

// leftOver returns the stacks that match of goroutines that should be gone, and are
// not within the time given.
func leftOver(within time.Duration, match func(stack string) bool) []string {
	deadline := time.Now().Add(within)
	for {
		left := goroutines(match)
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		<-time.After(10 * time.Millisecond)
	}
}

// goroutines returns the stacks that match.
func goroutines(match func(stack string) bool) []string {
	buf := make([]byte, 1<<20)
	for n := runtime.Stack(buf, true); n == len(buf); n = runtime.Stack(buf, true) {
		buf = make([]byte, 2*len(buf))
	}
	var found []string
	for stack := range strings.SplitSeq(strings.TrimRight(string(buf), "\x00"), "\n\n") {
		if match(stack) {
			found = append(found, stack)
		}
	}
	return found
}
