package sse_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidewire/tidewire/internal/memnet"
	"github.com/tidewire/tidewire/sse"
)

// inBubble runs a handler behind a real HTTP server on a network in memory, where
// time is that of testing/synctest, and gives the test the response.
func inBubble(t *testing.T, h http.HandlerFunc, test func(t *testing.T, resp *http.Response)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := memnet.Listen()
		srv := &http.Server{Handler: h}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(l) }()
		client := &http.Client{Transport: &http.Transport{DialContext: l.Dial, DisableKeepAlives: true}}
		resp, err := client.Get("http://mem/")
		if err != nil {
			t.Fatal(err)
		}
		test(t, resp)
		_ = resp.Body.Close()
		_ = srv.Close()
		if err := <-served; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
}

func TestSession_Heartbeat(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		ses, err := sse.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer ses.Close()
		select {
		case <-time.After(100 * time.Second):
		case <-ses.Context().Done():
			t.Error(context.Cause(ses.Context()))
		}
		if err := ses.Send(sse.Event{Data: "x"}); err != nil {
			t.Error(err)
		}
		time.Sleep(12 * time.Second) // synctest's time: not idle for long enough
	}
	inBubble(t, h, func(t *testing.T, resp *http.Response) {
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		// 100 s at one beat each 13.5 to 15 s.
		beats := strings.Count(string(body), ":\n")
		if want := "retry: 3000\n" + strings.Repeat(":\n", beats) + "data: x\n\n"; string(body) != want {
			t.Errorf("got %q, want %q", body, want)
		}
		if beats < 6 || beats > 7 {
			t.Errorf("got %d heartbeats, want 6 or 7", beats)
		}
	})
}

// TestSession_TheHeartbeatFindsADeadPeer has a peer that takes nothing: the handler,
// which only waits, must learn of it.
func TestSession_TheHeartbeatFindsADeadPeer(t *testing.T) {
	ended := make(chan time.Duration, 1)
	h := func(w http.ResponseWriter, r *http.Request) {
		ses, err := sse.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer ses.Close()
		start := time.Now()
		<-ses.Context().Done()
		ended <- time.Since(start)
		if cause := context.Cause(ses.Context()); !errors.Is(cause, os.ErrDeadlineExceeded) {
			t.Errorf("got cause %v, want a deadline", cause)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		ended = make(chan time.Duration, 1) // of this bubble
		l := memnet.Listen()
		srv := &http.Server{Handler: http.HandlerFunc(h)}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(l) }()
		conn, err := l.Dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: mem\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		// The headers and the first line, and then nothing more.
		var got strings.Builder
		for !strings.Contains(got.String(), "retry: 3000\n") {
			b := make([]byte, 64)
			n, err := conn.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			got.Write(b[:n])
		}
		go func() { // the end of the chunk, without which the write is not done
			b := make([]byte, 2)
			_, _ = io.ReadFull(conn, b)
		}()
		if d := <-ended; d < 10*time.Second || d > 25*time.Second {
			t.Errorf("the dead peer was found after %v, want at most a heartbeat and a write timeout", d)
		}
		_ = conn.Close()
		_ = srv.Close()
		if err := <-served; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
}

func TestSession_MaxAge(t *testing.T) {
	var lived time.Duration
	h := func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		ses, err := sse.Accept(w, r, &sse.SessionOptions{MaxAge: time.Hour, Retry: 2 * time.Second, Heartbeat: -1})
		if err != nil {
			t.Error(err)
			return
		}
		defer ses.Close()
		<-ses.Context().Done()
		lived = time.Since(start)
		if cause := context.Cause(ses.Context()); cause != sse.ErrMaxAge {
			t.Errorf("got cause %v, want ErrMaxAge", cause)
		}
		if err := ses.Send(sse.Event{}); err != sse.ErrMaxAge {
			t.Errorf("got %v, want ErrMaxAge", err)
		}
	}
	seen := make(map[string]bool)
	for range 5 {
		inBubble(t, h, func(t *testing.T, resp *http.Response) {
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			m := regexp.MustCompile(`^retry: 2000\nretry: (\d+)\n$`).FindStringSubmatch(string(body))
			if m == nil {
				t.Fatalf("got %q", body)
			}
			if ms, _ := strconv.Atoi(m[1]); ms < 1000 || ms > 3000 {
				t.Errorf("got retry %s, want half to one and a half times 2000", m[1])
			}
			if lived < 54*time.Minute || lived > time.Hour {
				t.Errorf("the session lived %v, want 54 to 60 minutes", lived)
			}
			seen[m[1]+lived.String()] = true
		})
	}
	if len(seen) == 1 {
		t.Errorf("five sessions had the same age and retry %v: there is no jitter", seen)
	}
}

// TestServe_MaxAge ends a generator that waits for something else.
func TestServe_MaxAge(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		ticks := func(s *sse.Session) iter.Seq2[sse.Event, error] {
			return func(yield func(sse.Event, error) bool) {
				for {
					select {
					case <-time.After(7 * time.Minute):
						if !yield(sse.Event{Data: "tick"}, nil) {
							return
						}
					case <-s.Context().Done():
						return
					}
				}
			}
		}
		if err := sse.Serve(w, r, ticks, &sse.SessionOptions{MaxAge: 20 * time.Minute}); err != nil {
			t.Errorf("got %v, want nil", err)
		}
	}
	inBubble(t, h, func(t *testing.T, resp *http.Response) {
		n := 0
		for ev, err := range sse.Events(resp.Body, nil) {
			if err != nil || ev.Data != "tick" {
				t.Errorf("got %+v, %v", ev, err)
			}
			n++
		}
		if n != 2 {
			t.Errorf("got %d events, want 2", n)
		}
	})
}
