// Package leaktest fails a package's tests if they leave goroutines of this module
// behind. It looks for frames of the module, and not for a clean slate, because
// net/http keeps goroutines for idle connections that are nobody's mistake here.
package leaktest

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

const (
	module   = "github.com/tidewire/tidewire/"
	patience = 5 * time.Second // for goroutines that are on their way out
)

// Main runs the tests of a package and exits. Call it from TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if left := Wait(); len(left) > 0 {
			fmt.Fprintf(os.Stderr, "%d goroutines left behind:\n\n%s\n", len(left), strings.Join(left, "\n\n"))
			code = 1
		}
	}
	os.Exit(code)
}

// Wait waits until no goroutine but the caller's runs code of this module, and
// returns the stacks of those that still do when its patience is at an end.
func Wait() []string {
	http.DefaultClient.CloseIdleConnections()
	deadline := time.Now().Add(patience)
	for {
		left := running()
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func running() []string {
	buf := make([]byte, 4<<20)
	stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	var left []string
	for _, s := range stacks[1:] { // the first is the caller's own
		if strings.Contains(s, module) {
			left = append(left, s)
		}
	}
	return left
}
