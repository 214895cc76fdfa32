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
	code := m.Run()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if left := leftOver(5 * time.Second); len(left) > 0 {
		fmt.Fprintf(os.Stderr, "FAIL: %d goroutines outlive the tests:\n\n%s\n", len(left), strings.Join(left, "\n\n"))
		code = 1
	}
	os.Exit(code)
}

// leftOver returns the stacks of the goroutines that should be gone, and are not
// within the time given.
func leftOver(within time.Duration) []string {
	deadline := time.Now().Add(within)
	for {
		left := goroutines(func(stack string) bool {
			ours := strings.Contains(stack, "tidewire/") && !strings.Contains(stack, ".TestMain(")
			return ours || strings.Contains(stack, "net/http.(*persistConn)")
		})
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
