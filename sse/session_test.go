package sse_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidewire/tidewire/sse"
)

// serverTimeout is long enough for a TLS handshake on a busy machine.
const serverTimeout = 2 * time.Second

// forEachProtocol runs a test over HTTP/1.1, HTTP/2 with TLS and HTTP/2 in clear
// text, each with a real server and socket.
func forEachProtocol(t *testing.T, test func(t *testing.T, serve func(http.HandlerFunc) *httptest.Server)) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0", "HTTP/2.0 in clear text"} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			test(t, func(h http.HandlerFunc) *httptest.Server {
				check := func(w http.ResponseWriter, r *http.Request) {
					if !strings.HasPrefix(proto, r.Proto) {
						t.Errorf("got %s, want %s: the test tests something else", r.Proto, proto)
					}
					h(w, r)
				}
				s := httptest.NewUnstartedServer(http.HandlerFunc(check))
				s.Config.WriteTimeout = serverTimeout // every session must outlive it
				s.Config.ReadTimeout = serverTimeout
				switch proto {
				case "HTTP/2.0":
					s.EnableHTTP2 = true
					s.StartTLS()
				case "HTTP/2.0 in clear text":
					s.Config.Protocols = new(http.Protocols)
					s.Config.Protocols.SetUnencryptedHTTP2(true)
					s.Start()
					tr := &http.Transport{Protocols: s.Config.Protocols}
					t.Cleanup(tr.CloseIdleConnections)
					s.Client().Transport = tr
				default:
					s.Start()
				}
				t.Cleanup(s.Close)
				return s
			})
		})
	}
}

func get(t *testing.T, s *httptest.Server, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func TestAccept_SendsHeadersAndAFirstByteAtOnce(t *testing.T) {
	forEachProtocol(t, func(t *testing.T, serve func(http.HandlerFunc) *httptest.Server) {
		release := make(chan struct{})
		s := serve(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "5") // a middleware's mistake
			ses, err := sse.Accept(w, r, &sse.SessionOptions{Retry: 1500 * time.Millisecond})
			if err != nil {
				t.Error(err)
				return
			}
			defer ses.Close()
			<-release
		})
		defer close(release)
		resp := get(t, s) // returns although nothing was sent
		if resp.StatusCode != 200 {
			t.Errorf("got status %d, want 200", resp.StatusCode)
		}
		for key, want := range map[string]string{
			"Content-Type":      "text/event-stream",
			"Cache-Control":     "no-store",
			"X-Accel-Buffering": "no",
			"Content-Length":    "",
		} {
			if got := resp.Header.Get(key); got != want {
				t.Errorf("got %s %q, want %q", key, got, want)
			}
		}
		line, err := bufio.NewReader(resp.Body).ReadString('\n')
		if line != "retry: 1500\n" || err != nil {
			t.Errorf("got first line %q, %v", line, err)
		}
	})
}

func TestSession_SendsAndEndsCleanly(t *testing.T) {
	forEachProtocol(t, func(t *testing.T, serve func(http.HandlerFunc) *httptest.Server) {
		frame, err := sse.Encode(sse.Event{ID: "3", Data: "frame"})
		if err != nil {
			t.Fatal(err)
		}
		s := serve(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-cache, private") // the handler's own stays
			ses, err := sse.Accept(w, r, &sse.SessionOptions{Retry: -1, Heartbeat: -1, WriteTimeout: -1})
			if err != nil {
				t.Error(err)
				return
			}
			defer ses.Close()
			if got := ses.LastEventID(); got != "é-7" {
				t.Errorf("got last event id %q", got)
			}
			var fe *sse.FieldError
			for _, err := range []error{
				ses.Send(sse.Event{Data: "never"}, sse.Event{ID: "\n"}),
				ses.SendID("\x00"),
				ses.SendRetry(0),
			} {
				if !errors.As(err, &fe) {
					t.Errorf("got %v, want a field error", err)
				}
			}
			for _, err := range []error{
				ses.Send(sse.Event{ID: "1", Data: "a"}, sse.Event{ID: "2", Data: "b"}),
				ses.SendFrame(frame, frame),
				ses.SendID("9"),
				ses.SendRetry(2 * time.Second),
				ses.Comment("bye"),
				ses.Context().Err(),
			} {
				if err != nil {
					t.Error(err)
				}
			}
			ses.Close()
			if err := ses.Send(sse.Event{}); err != sse.ErrClosed || context.Cause(ses.Context()) != sse.ErrClosed {
				t.Errorf("after Close: got %v, cause %v", err, context.Cause(ses.Context()))
			}
			ses.Close()
		})
		resp := get(t, s, "Last-Event-ID", "é-7")
		body, err := io.ReadAll(resp.Body)
		want := ":\nid: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\ndata: frame\n\nid: 3\ndata: frame\n\nid: 9\n\nretry: 2000\n: bye\n"
		if string(body) != want || err != nil {
			t.Errorf("got %q, %v, want %q", body, err, want)
		}
		if got := resp.Header.Get("Cache-Control"); got != "no-cache, private" {
			t.Errorf("got Cache-Control %q, want the handler's", got)
		}
	})
}

// TestSession_OutlivesTheServersTimeouts sends long after the server's WriteTimeout
// and ReadTimeout, and the session's own, once idle and once with heartbeats.
func TestSession_OutlivesTheServersTimeouts(t *testing.T) {
	forEachProtocol(t, func(t *testing.T, serve func(http.HandlerFunc) *httptest.Server) {
		for _, heartbeat := range []time.Duration{-1, 20 * time.Millisecond} {
			s := serve(func(w http.ResponseWriter, r *http.Request) {
				ses, err := sse.Accept(w, r, &sse.SessionOptions{Heartbeat: heartbeat, WriteTimeout: serverTimeout})
				if err != nil {
					t.Error(err)
					return
				}
				defer ses.Close()
				select {
				case <-time.After(serverTimeout + serverTimeout/4):
				case <-ses.Context().Done():
					t.Errorf("the session ended: %v", context.Cause(ses.Context()))
				}
				if err := ses.Send(sse.Event{Data: "late"}); err != nil {
					t.Error(err)
				}
			})
			n := 0
			for ev, err := range sse.Events(get(t, s).Body, nil) {
				if err != nil || ev.Data != "late" {
					t.Errorf("got %+v, %v", ev, err)
				}
				n++
			}
			if n != 1 {
				t.Errorf("got %d events, want 1", n)
			}
		}
	})
}

// TestSession_GivesUpAPeerThatDoesNotRead fills every buffer on the way.
func TestSession_GivesUpAPeerThatDoesNotRead(t *testing.T) {
	forEachProtocol(t, func(t *testing.T, serve func(http.HandlerFunc) *httptest.Server) {
		result := make(chan error, 1)
		s := serve(func(w http.ResponseWriter, r *http.Request) {
			ses, err := sse.Accept(w, r, &sse.SessionOptions{WriteTimeout: 200 * time.Millisecond})
			if err != nil {
				t.Error(err)
				return
			}
			defer ses.Close()
			for err == nil {
				err = ses.Send(sse.Event{Data: strings.Repeat("x", 1<<20)})
			}
			if again := ses.Send(sse.Event{}); again != err {
				t.Errorf("the next Send: got %v, want %v again", again, err)
			}
			if cause := context.Cause(ses.Context()); cause != err {
				t.Errorf("got cause %v, want %v", cause, err)
			}
			result <- err
		})
		get(t, s) // and does not read on
		err := <-result
		if err == nil || !strings.HasPrefix(err.Error(), "sse: send: ") {
			t.Errorf("got %v, want an error", err)
		}
		if s.TLS == nil && s.Config.Protocols == nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want a deadline", err)
		}
	})
}

func TestSession_EndsWhenTheClientLeaves(t *testing.T) {
	forEachProtocol(t, func(t *testing.T, serve func(http.HandlerFunc) *httptest.Server) {
		accepted, left := make(chan struct{}), make(chan error, 1)
		s := serve(func(w http.ResponseWriter, r *http.Request) {
			ses, err := sse.Accept(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer ses.Close()
			close(accepted) // before that a client that leaves is one that never came
			<-ses.Context().Done()
			left <- ses.Send(sse.Event{Data: "too late"})
		})
		resp := get(t, s)
		<-accepted
		_ = resp.Body.Close()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
}

// TestSession_ConcurrentSends checks under the race detector that what is sent
// at once does not mix.
func TestSession_ConcurrentSends(t *testing.T) {
	const senders, each = 8, 50
	forEachProtocol(t, func(t *testing.T, serve func(http.HandlerFunc) *httptest.Server) {
		s := serve(func(w http.ResponseWriter, r *http.Request) {
			ses, err := sse.Accept(w, r, &sse.SessionOptions{Heartbeat: time.Microsecond})
			if err != nil {
				t.Error(err)
				return
			}
			defer ses.Close()
			var wg sync.WaitGroup
			for i := range senders {
				wg.Go(func() {
					for j := range each {
						if err := ses.Send(sse.Event{Type: fmt.Sprint(i), Data: fmt.Sprintf("%d\n%d", i, j)}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
		})
		next := make(map[string]int)
		for ev, err := range sse.Events(get(t, s).Body, nil) {
			if want := fmt.Sprintf("%s\n%d", ev.Type, next[ev.Type]); err != nil || ev.Data != want {
				t.Fatalf("got %q, %v, want %q", ev.Data, err, want)
			}
			next[ev.Type]++
		}
		for i := range senders {
			if n := next[fmt.Sprint(i)]; n != each {
				t.Errorf("got %d events of sender %d, want %d", n, i, each)
			}
		}
	})
}

// The ways in which middleware wraps a ResponseWriter.
type (
	unwrapping  struct{ http.ResponseWriter }
	flushOnly   struct{ http.ResponseWriter }
	embedding   struct{ http.ResponseWriter } // hides all but the three methods
	deepWrapper struct{ unwrapping }
)

func (w unwrapping) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (w flushOnly) Flush()                       { _ = http.NewResponseController(w.ResponseWriter).Flush() }

func TestAccept_WrappedResponseWriters(t *testing.T) {
	for name, wrap := range map[string]func(http.ResponseWriter) http.ResponseWriter{
		"Unwrap":       func(w http.ResponseWriter) http.ResponseWriter { return unwrapping{w} },
		"Unwrap twice": func(w http.ResponseWriter) http.ResponseWriter { return deepWrapper{unwrapping{unwrapping{w}}} },
		"Flush only":   func(w http.ResponseWriter) http.ResponseWriter { return flushOnly{w} },
		"embedded":     func(w http.ResponseWriter) http.ResponseWriter { return embedding{w} },
	} {
		t.Run(name, func(t *testing.T) {
			forEachProtocol(t, func(t *testing.T, serve func(http.HandlerFunc) *httptest.Server) {
				s := serve(func(w http.ResponseWriter, r *http.Request) {
					err := sse.Serve(wrap(w), r, func(*sse.Session) iter.Seq2[sse.Event, error] {
						return func(yield func(sse.Event, error) bool) { yield(sse.Event{Data: "x"}, nil) }
					}, nil)
					if name == "embedded" {
						if !errors.Is(err, http.ErrNotSupported) || !strings.Contains(err.Error(), "sse_test.embedding has neither Flush nor an Unwrap") {
							t.Errorf("got %v", err)
						}
					} else if err != nil {
						t.Error(err)
					}
				})
				resp := get(t, s)
				body, err := io.ReadAll(resp.Body)
				want, status := "retry: 3000\ndata: x\n\n", 200
				if name == "embedded" {
					want, status = "this server cannot stream\n", 500
				}
				if string(body) != want || err != nil || resp.StatusCode != status {
					t.Errorf("got %d %q, %v, want %d %q", resp.StatusCode, body, err, status, want)
				}
			})
		})
	}
}

// TestServe_WithARecorder is how handlers are commonly unit-tested.
func TestServe_WithARecorder(t *testing.T) {
	w := httptest.NewRecorder()
	err := sse.Serve(w, httptest.NewRequest("GET", "/", nil), events(sse.Event{Data: "a"}), nil)
	if want := "retry: 3000\ndata: a\n\n"; err != nil || w.Body.String() != want || !w.Flushed {
		t.Errorf("got %q, %v, flushed %v, want %q", w.Body.String(), err, w.Flushed, want)
	}
}

func TestServe_ReturnsWhyItEnded(t *testing.T) {
	broken := errors.New("broken")
	tests := []struct {
		name   string
		events func(*sse.Session) iter.Seq2[sse.Event, error]
		want   error
		body   string
	}{
		{"iterator ends", events(sse.Event{Data: "a"}), nil, "data: a\n\n"},
		{"iterator fails", func(*sse.Session) iter.Seq2[sse.Event, error] {
			return func(yield func(sse.Event, error) bool) {
				if yield(sse.Event{Data: "a"}, nil) {
					yield(sse.Event{Data: "not sent"}, broken)
				}
			}
		}, broken, "data: a\n\n"},
		{"event cannot be encoded", events(sse.Event{Data: "a"}, sse.Event{ID: "\n"}, sse.Event{Data: "b"}), &sse.FieldError{}, "data: a\n\n"},
		{"session is closed", func(s *sse.Session) iter.Seq2[sse.Event, error] {
			s.Close()
			return events(sse.Event{Data: "a"})(s)
		}, sse.ErrClosed, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			err := sse.Serve(w, httptest.NewRequest("GET", "/", nil), tt.events, &sse.SessionOptions{Retry: -1})
			var fe *sse.FieldError
			if _, wantField := tt.want.(*sse.FieldError); wantField != errors.As(err, &fe) || !wantField && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if w.Body.String() != ":\n"+tt.body {
				t.Errorf("got %q, want %q", w.Body.String(), ":\n"+tt.body)
			}
		})
	}
}

func events(evs ...sse.Event) func(*sse.Session) iter.Seq2[sse.Event, error] {
	return func(*sse.Session) iter.Seq2[sse.Event, error] {
		return func(yield func(sse.Event, error) bool) {
			for _, ev := range evs {
				if !yield(ev, nil) {
					return
				}
			}
		}
	}
}

func TestServe_HeadEndsAtOnce(t *testing.T) {
	forEachProtocol(t, func(t *testing.T, serve func(http.HandlerFunc) *httptest.Server) {
		s := serve(func(w http.ResponseWriter, r *http.Request) {
			ask := func(s *sse.Session) iter.Seq2[sse.Event, error] {
				t.Error("the iterator was asked for a HEAD request")
				return events()(s)
			}
			if err := sse.Serve(w, r, ask, nil); err != nil {
				t.Error(err)
			}
		})
		resp, err := s.Client().Head(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("got %d, %q", resp.StatusCode, resp.Header.Get("Content-Type"))
		}
	})
}
