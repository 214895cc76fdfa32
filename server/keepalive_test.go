package server_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/server"
)

// polled is what a poll answers.
type polled struct {
	Events []struct{ Data string }
	LastID string `json:"last_id"`
}

// pollOnce polls, and tells whether the connection had been used before.
func pollOnce(t testing.TB, client *http.Client, url string) (p polled, reused bool) {
	t.Helper()
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }}
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "application/json")
	resp, err := client.Do(r)
	if err != nil {
		t.Error(err)
		return p, reused
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || resp.StatusCode != 200 {
		t.Errorf("GET %s: got %s, %v", url, resp.Status, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return p, reused
}

func TestLongPoll_TheConnectionIsKept(t *testing.T) {
	s, address := serve(t, server.Config{})
	url := "http://" + address + "/events/a"
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	publisher := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	p, _ := pollOnce(t, client, url)
	for i := range 20 {
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			var reused bool
			if p, reused = pollOnce(t, client, url+"?wait=30s&last_event_id="+p.LastID); !reused {
				t.Errorf("poll %d came on a new connection", i)
			}
		}()
		if i%2 == 0 { // else it is there already, or not, as it comes
			eventually(t, "the poll waits", func() bool { return s.Usage().Streams == 1 })
		}
		publish(t, publisher, url, fmt.Sprint(i))
		<-answered
		if len(p.Events) != 1 || p.Events[0].Data != fmt.Sprint(i) {
			t.Fatalf("got %+v, want %d", p, i)
		}
	}
	eventually(t, "one connection is left", func() bool { return s.Usage().Connections == 1 && s.Usage().Streams == 0 })
}

// A client may send its next request before it has the answer to the one before (RFC 9112,
// section 9.3.2).
func TestLongPoll_ARequestThatComesMeanwhileIsServed(t *testing.T) {
	s, address := serve(t, server.Config{})
	c, err := dialFrom("", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /events/a?wait=30s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n")
	eventually(t, "the poll waits", func() bool { return s.Usage().Streams == 1 })
	_, _ = io.WriteString(c, "GET /events/b?wait=30ms HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n")
	publish(t, http.DefaultClient, "http://"+address+"/events/a", "one")
	in := bufio.NewReader(c)
	for i, want := range []string{`"data":"one"`, `"events":[]`} {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil || !strings.Contains(string(b), want) {
			t.Errorf("answer %d: got %q, %v, want %s", i, b, err, want)
		}
	}
}

func TestLongPoll_EndsWithTheServer(t *testing.T) {
	url, stop, _, ended := start(t, server.Config{})
	c, err := dialFrom("", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /events/a?wait=50s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n")
	eventually(t, "the poll waits", func() bool {
		resp, err := http.Get(url + "/admin/subscriptions")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return strings.Contains(string(b), `"count":1`)
	})
	stop()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got %v, %v, want 503 with Retry-After", resp, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
