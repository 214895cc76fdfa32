package server_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/internal/leaktest"
	"github.com/tidewire/tidewire/server"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// start runs a server on a free port; stop drains it, cut ends what is left.
func start(t *testing.T, c server.Config) (url string, stop, cut context.CancelFunc, ended <-chan error) {
	t.Helper()
	c.Listen = "127.0.0.1:0"
	s, err := server.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	cutCtx, cut := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, cutCtx) }()
	t.Cleanup(func() { stop(); cut() })
	return s.URL(), stop, cut, done
}

func post(t *testing.T, url, data string) {
	t.Helper()
	resp, err := http.Post(url, "text/plain", strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("publish: got %s %s", resp.Status, b)
	}
}

func TestServer_ServesAndDrains(t *testing.T) {
	url, stop, _, ended := start(t, server.Config{Hub: hub.Options{Retry: 200 * time.Millisecond}})

	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || !strings.Contains(string(page), "Tidewire is running") {
		t.Errorf("got page %.80q, %v", page, err)
	}

	post(t, url+"/events/https://example.com//x", "one") // no redirect for //
	var told []time.Duration
	for ev, err := range eventsource.Stream(t.Context(), url+"/events/https://example.com//x?since=earliest", &eventsource.Options{
		Retry: func(a eventsource.Attempt, _ time.Duration, _ bool) (time.Duration, bool) {
			told = append(told, a.ReconnectionTime)
			return 0, false
		},
	}) {
		if err != nil {
			break // the hub has drained
		}
		if ev.Data != "one" {
			t.Errorf("got %q, want one", ev.Data)
		}
		stop()
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(told) != 1 || told[0] < 100*time.Millisecond || told[0] > 300*time.Millisecond {
		t.Errorf("got reconnection times %v, want one around 200ms", told)
	}
}

// TestServer_CutEndsWhatDoesNotDrain holds a request open that no drain can end.
func TestServer_CutEndsWhatDoesNotDrain(t *testing.T) {
	url, stop, cut, ended := start(t, server.Config{DrainTimeout: time.Hour})
	body, more := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		resp, err := http.Post(url+"/events/a", "text/event-stream", body)
		if err == nil {
			err = resp.Body.Close()
		}
		sent <- err
	}()
	if _, err := io.WriteString(more, "data: x\n\n"); err != nil {
		t.Fatal(err)
	}
	for ev, err := range eventsource.Stream(t.Context(), url+"/events/a?since=earliest", nil) {
		if err != nil || ev.Data != "x" {
			t.Fatalf("got %q, %v", ev.Data, err)
		}
		break // the stream of events is being relayed
	}
	stop()
	select {
	case err := <-ended:
		t.Fatalf("the server ended (%v) while a request was under way", err)
	case <-time.After(50 * time.Millisecond):
	}
	cut()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	_ = more.Close()
	<-sent // an error or not: it was cut
}

func TestNew_SaysWhatIsWrong(t *testing.T) {
	url, _, _, _ := start(t, server.Config{})
	_, err := server.New(&server.Config{Listen: strings.TrimPrefix(url, "http://")})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("got %v, want an address in use", err)
	}
	if _, err := server.New(&server.Config{Hub: hub.Options{AllowedOrigins: []string{"example.com"}}}); err == nil {
		t.Error("got no error for an origin without a scheme")
	}
}

func TestParseRetain(t *testing.T) {
	for in, want := range map[string]hub.RetentionRule{
		"**=all":                {Pattern: "**"},
		"a/*=latest":            {Pattern: "a/*", Retention: hub.Retention{Count: 1}},
		"a/*=count:5":           {Pattern: "a/*", Retention: hub.Retention{Count: 5}},
		"a=b=age:1h30m":         {Pattern: "a=b", Retention: hub.Retention{Age: 90 * time.Minute}},
		"a=age:1.5d,bytes:2KiB": {Pattern: "a", Retention: hub.Retention{Age: 36 * time.Hour, Bytes: 2048}},
	} {
		if got, err := server.ParseRetain(in); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", in, got, err, want)
		}
	}
	for in, says := range map[string]string{
		"a":           `has no "="`,
		"=all":        "pattern is empty",
		"a*=all":      "within the segment",
		"a=":          "none of age",
		"a=size:1":    "none of age",
		"a=age:x":     "not a duration",
		"a=count:x":   "invalid syntax",
		"a=count:-1":  "negative",
		"a=bytes:1TB": "not a size",
	} {
		if _, err := server.ParseRetain(in); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want an error that says %q", in, err, says)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "12": 12, "3KiB": 3 << 10, "64 MiB": 64 << 20, "1GiB": 1 << 30} {
		if got, err := server.ParseBytes(in); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x", "-1", "1MB", "1.5KiB", "9999999999GiB"} {
		if n, err := server.ParseBytes(in); err == nil {
			t.Errorf("%s: got %d, want an error", in, n)
		}
	}
}
