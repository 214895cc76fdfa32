package hub_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// shutdown ends a hub, and ends the test if it does not end in time.
func shutdown(t testing.TB, h *hub.Hub) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestShutdown_StreamsEndCleanly has each browser told to come back at another time.
func TestShutdown_StreamsEndCleanly(t *testing.T) {
	const streams = 30
	h := newHub(t, hub.Options{Retry: 2 * time.Second})
	s := serve(t, h)
	var open []*stream
	for range streams {
		open = append(open, s.open("/events/a"))
	}
	lines := s.open("/events/a", "Accept: application/x-ndjson")
	publish(t, h, hub.Event{Topics: []string{"a"}, ID: "1", Data: "x"})
	for _, st := range open {
		if got, want := st.read(len("retry: 2000\nid: 1\ndata: x\n\n")), "retry: 2000\nid: 1\ndata: x\n\n"; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	if got := lines.read(1); got != "{" { // it has the event before the end comes
		t.Fatalf("NDJSON: got %q, want an object", got)
	}
	shutdown(t, h)
	times := make(map[int]bool)
	for _, st := range open {
		var ms int
		got := st.rest()
		if _, err := fmt.Sscanf(got, "retry: %d\n", &ms); err != nil || got != fmt.Sprintf("retry: %d\n", ms) {
			t.Errorf("got %q, want a retry and the end", got)
		}
		if ms < 1000 || ms > 3000 {
			t.Errorf("got retry %d, want between half and one and a half times 2 s", ms)
		}
		times[ms] = true
	}
	if len(times) < streams/3 {
		t.Errorf("got %d different times for %d streams", len(times), streams)
	}
	if got := lines.rest(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"id":"1"`) {
		t.Errorf("NDJSON: got %q, want the event and the end", got)
	}
}

func TestShutdown_LaterCallsAreRefused(t *testing.T) {
	log := newLog(t, nil)
	h := newHub(t, hub.Options{Log: log})
	s := serve(t, h)
	publish(t, h, event("a", "1"))
	shutdown(t, h)
	shutdown(t, h) // once more is nothing

	if _, err := h.Publish(t.Context(), hub.Publication{Events: []hub.Event{event("a", "2")}}); !errors.Is(err, hub.ErrShutdown) {
		t.Errorf("Publish: got %v, want ErrShutdown", err)
	}
	n := 0
	for _, err := range h.Subscribe(t.Context(), from(topics("a"), earliest)) {
		if n++; !errors.Is(err, hub.ErrShutdown) {
			t.Errorf("Subscribe: got %v, want ErrShutdown", err)
		}
	}
	if n != 1 {
		t.Errorf("Subscribe: got %d steps, want the error alone", n)
	}
	for _, tt := range []struct {
		name string
		got  answer
	}{
		{"POST", s.call("POST", "/events/a", "x")},
		{"a stream in", s.call("POST", "/events/a", "data\n\n", "Content-Type: text/event-stream")},
		{"lines out", s.call("GET", "/events/a", "", "Accept: application/x-ndjson")},
		{"a stream out, for a program", s.call("GET", "/events/a", "", "Prefer: status")},
		{"a stream out, for a program with other preferences", s.call("GET", "/events/a", "", "Prefer: wait=5, Status;x=y, heartbeat=id")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantDocument(t, tt.got, http.StatusServiceUnavailable, hub.ProblemShutdown, "")
			if tt.got.Header.Get("Retry-After") == "" {
				t.Error("there is no Retry-After")
			}
		})
	}
	if got := len(stored(t, log)); got != 1 {
		t.Errorf("got %d events, want the 1 from before", got)
	}
	// The log belongs to someone else.
	if _, err := log.Append(t.Context(), &hub.Group{ID: "x", Events: []hub.Event{event("a", "2")}}); err != nil {
		t.Errorf("the log: %v", err)
	}
}

// TestShutdown_ABrowserThatComesMeanwhileIsNotStopped connects an EventSource while the
// hub is going down: any status but 200 would stop it for good.
func TestShutdown_ABrowserThatComesMeanwhileIsNotStopped(t *testing.T) {
	h := newHub(t, hub.Options{})
	s := serve(t, h)
	shutdown(t, h)
	got := s.call("GET", "/events/a", "", native...)
	if got.StatusCode != http.StatusOK || got.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("got %s %s, want an event stream", got.Status, got.body)
	}
	if !strings.HasPrefix(got.body, "retry: ") || !strings.Contains(got.body, "event: tidewire.error\n") || !strings.Contains(got.body, "shutting-down") {
		t.Errorf("got %q, want a retry and a tidewire.error", got.body)
	}
}

// TestShutdown_WaitsForSubscribers has one that takes its time with an event.
func TestShutdown_WaitsForSubscribers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, hub.Options{})
		r := read(t, h, topics("a"))
		r.take()
		publish(t, h, event("a", "1"), event("a", "2"))
		if s, ok := r.take(); !ok || s.Data != "1" {
			t.Fatalf("got %v", s)
		}
		done := make(chan error, 1)
		go func() { done <- h.Shutdown(context.Background()) }()
		time.Sleep(time.Hour) // synctest's
		select {
		case err := <-done:
			t.Fatalf("got %v while there is a subscriber", err)
		default:
		}
		steps := r.all()
		if n := len(steps); n < 2 || !steps[n-1].ended || !errors.Is(steps[n-2].err, hub.ErrShutdown) {
			t.Errorf("got %v, want ErrShutdown and the end", steps)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestShutdown_ItsContextEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, hub.Options{})
		r := read(t, h, topics("a"))
		r.take()
		publish(t, h, event("a", "1"))
		r.take() // and it does not come back for more
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := h.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("got %v after %v, want the context's error after a minute", err, time.Since(began))
		}
		r.all()
	})
}

// TestShutdown_CutsAStreamThatIsStuck has a peer that reads nothing, and a write to it
// that would be waited for much longer.
func TestShutdown_CutsAStreamThatIsStuck(t *testing.T) {
	for _, accept := range []string{"text/event-stream", "application/x-ndjson"} {
		t.Run(accept, func(t *testing.T) {
			const size = 12 << 20 // more than the system's buffers take
			h := newHub(t, hub.Options{WriteTimeout: time.Hour, Limits: hub.RequestLimits{EventSize: size}})
			ended := make(chan struct{})
			s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				h.ServeHTTP(w, r)
				close(ended)
			}))
			conn := s.dial()
			conn.write("GET /events/a HTTP/1.1\r\nHost: x\r\nAccept: " + accept + "\r\n\r\n")
			buf := make([]byte, 4096)
			if _, err := conn.Read(buf); err != nil { // it is subscribed
				t.Fatal(err)
			}
			publish(t, h, event("a", strings.Repeat("x", size)))
			for !bytes.Contains(buf, []byte("xxxx")) { // it is writing
				if _, err := conn.Read(buf); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if err := h.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want the context's error", err)
			}
			select {
			case <-ended:
			case <-time.After(10 * time.Second):
				t.Error("the stream is still open")
			}
		})
	}
}

// TestShutdown_NothingIsLostOverARestart moves subscribers from one hub to the next over
// the same log, as a process does that starts anew over a log on disk.
func TestShutdown_NothingIsLostOverARestart(t *testing.T) {
	log := newLog(t, nil)
	first := newHub(t, hub.Options{Log: log})
	st := serve(t, first).open("/events/a")
	publish(t, first, event("a", "1"))
	last := st.next()
	shutdown(t, first)
	st.rest()

	second := newHub(t, hub.Options{Log: log})
	publish(t, second, event("a", "2"))
	again := serve(t, second).open("/events/a", "Last-Event-ID: "+last.ID)
	publish(t, second, event("a", "3"))
	if got, want := again.datas(2), "2, 3"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestShutdown_DuringALoad ends a hub while many publish and come and go: each call has
// a definite answer, and nothing hangs.
func TestShutdown_DuringALoad(t *testing.T) {
	log := newLog(t, nil)
	h := newHub(t, hub.Options{Log: log})
	ended := make(chan int, 16)
	started := make(chan struct{}, 16)
	for range 8 {
		go func() {
			for n := 0; ; n++ {
				_, err := h.Publish(context.Background(), hub.Publication{Events: []hub.Event{event("a", "")}})
				if n == 50 {
					started <- struct{}{}
				}
				if err != nil {
					if !errors.Is(err, hub.ErrShutdown) {
						t.Errorf("Publish: %v", err)
					}
					ended <- n
					return
				}
			}
		}()
		go func() {
			for n := 0; ; n++ {
				for d, err := range h.Subscribe(context.Background(), from(topics("a"), earliest)) {
					if errors.Is(err, hub.ErrShutdown) {
						ended <- 0
						return
					}
					if err != nil {
						t.Errorf("Subscribe: %v", err)
					}
					if sequence(t, d.Position)%10 == 0 {
						break
					}
				}
				if n == 5 {
					started <- struct{}{}
				}
			}
		}()
	}
	for range 16 {
		<-started
	}
	shutdown(t, h)
	published := 0
	for range 16 {
		published += <-ended
	}
	if got := int(log.Head().Seq); got != published {
		t.Errorf("got %d events, want the %d that were acknowledged", got, published)
	}
}
