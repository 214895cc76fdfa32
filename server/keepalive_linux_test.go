//go:build linux && !portable && (amd64 || arm64)

package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/tidewire/tidewire/server"
)

func TestLongPoll_ThousandsCostNoGoroutines(t *testing.T) {
	const n = 2000
	s, address := serve(t, server.Config{})
	url := "http://" + address + "/events/a?wait=60s"
	before := runtime.NumGoroutine()
	conns := make([]*bufio.Reader, n)
	for i := range conns {
		c, err := dialFrom("", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n", strings.TrimPrefix(url, "http://"+address))
		conns[i] = bufio.NewReader(c)
	}
	eventually(t, "all wait", func() bool { return s.Usage().Streams == n })
	eventually(t, "they have no goroutines", func() bool { return runtime.NumGoroutine() < before+50 })
	publish(t, http.DefaultClient, "http://"+address+"/events/a", "news")
	var all sync.WaitGroup
	for _, c := range conns {
		all.Go(func() {
			resp, err := http.ReadResponse(c, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if b, err := io.ReadAll(resp.Body); err != nil || strings.Count(string(b), `"data":"news"`) != 1 {
				t.Errorf("got %q, %v", b, err)
			}
		})
	}
	all.Wait()
	eventually(t, "none waits", func() bool { return s.Usage().Streams == 0 })
}
