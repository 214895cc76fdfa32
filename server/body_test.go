package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/server"
)

// transports are clients of HTTP/1.1, and of HTTP/2 in clear text.
func transports(t *testing.T) map[string]*http.Transport {
	all := make(map[string]*http.Transport)
	for name, set := range map[string]func(*http.Protocols, bool){"HTTP/1.1": (*http.Protocols).SetHTTP1, "HTTP/2": (*http.Protocols).SetUnencryptedHTTP2} {
		tr := &http.Transport{Protocols: new(http.Protocols)}
		set(tr.Protocols, true)
		t.Cleanup(tr.CloseIdleConnections)
		all[name] = tr
	}
	return all
}

func TestBody_SlowOnesAreAnswered(t *testing.T) {
	for name, tr := range transports(t) {
		for _, sent := range []int{0, 10, 4096, 10_000} {
			t.Run(fmt.Sprint(name, " after ", sent), func(t *testing.T) {
				s, address := serve(t, server.Config{Limits: server.Limits{BodyTimeout: 50 * time.Millisecond}})
				body, more := io.Pipe()
				defer more.Close()
				go func() { _, _ = more.Write(bytes.Repeat([]byte("x"), sent)) }()
				resp, err := tr.RoundTrip(request(t, "POST", address, "text/plain", body))
				if err != nil {
					t.Fatal(err)
				}
				problem, detail := refusal(t, resp)
				if resp.StatusCode != http.StatusRequestTimeout || problem != "request-timeout" || !strings.Contains(detail, "(--body-timeout 50ms)") {
					t.Errorf("got %s %s %q, want 408", resp.Status, problem, detail)
				}
				if got := s.Refused()["body-timeout"]; got != 1 {
					t.Errorf("got %d counted, want 1", got)
				}
			})
		}
	}
}

func request(t *testing.T, method, address, typ string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+"/events/a", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", typ)
	return r
}

// A body that comes 4 KiB at a time may take longer than the time that each of them has.
// What says that the time is over is another body, of which nothing comes.
func TestBody_StepsHaveTheirOwnTime(t *testing.T) {
	for name, tr := range transports(t) {
		t.Run(name, func(t *testing.T) {
			_, address := serve(t, server.Config{Limits: server.Limits{BodyTimeout: 2 * time.Second}})
			body, more := io.Pipe()
			r := request(t, "POST", address, "text/plain", body)
			answered := make(chan error, 1)
			go func() {
				resp, err := tr.RoundTrip(r)
				if err == nil && resp.StatusCode != http.StatusCreated {
					err = fmt.Errorf("got %s, want 201", resp.Status)
				}
				if err == nil {
					err = resp.Body.Close()
				}
				answered <- err
			}()
			stuck := dial(t, "", address)
			if _, err := io.WriteString(stuck, "POST /events/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			timeout := make(chan error, 1)
			go func() {
				resp, err := http.ReadResponse(stuck.r, nil)
				if err == nil && resp.StatusCode != http.StatusRequestTimeout {
					err = fmt.Errorf("got %s, want 408", resp.Status)
				}
				timeout <- err
			}()
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			n := 0
			for over := false; !over; n += 4096 {
				select {
				case <-tick.C:
				case err := <-timeout:
					if err != nil {
						t.Fatal(err)
					}
					over = true
				}
				if _, err := more.Write(bytes.Repeat([]byte("x"), 4096)); err != nil {
					t.Fatal(err)
				}
			}
			more.Close()
			if err := <-answered; err != nil {
				t.Errorf("after %d bytes: %v", n, err)
			}
		})
	}
}

// waitFor waits until a body of which nothing comes was given up.
func waitFor(t *testing.T, address string) {
	t.Helper()
	resp := dial(t, "", address).ask(t, "POST /events/clock", "Content-Length: 1")
	if resp.StatusCode != http.StatusRequestTimeout {
		t.Fatalf("got %s, want 408", resp.Status)
	}
	resp.Body.Close()
}

func TestBody_DeadlineEndsWithTheBody(t *testing.T) {
	limits := server.Limits{BodyTimeout: 50 * time.Millisecond}
	t.Run("before the next request", func(t *testing.T) {
		_, address := serve(t, server.Config{Limits: limits})
		p := dial(t, "", address)
		for range 3 {
			resp := p.ask(t, "POST /events/a", "Content-Length: 1", "", "x")
			if resp.StatusCode != http.StatusCreated {
				t.Fatalf("got %s, want 201", resp.Status)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Fatal(err)
			}
			waitFor(t, address)
		}
	})
	for _, accept := range []string{"text/event-stream", "application/x-ndjson"} {
		t.Run("before "+accept, func(t *testing.T) {
			_, address := serve(t, server.Config{Limits: limits})
			p := dial(t, "", address)
			// By a body that nobody asked for.
			if resp := p.ask(t, "GET /events/a", "Accept: "+accept, "Content-Length: 5", "", "hello"); resp.StatusCode != http.StatusOK {
				t.Fatalf("got %s, want a stream", resp.Status)
			}
			waitFor(t, address)
			waitFor(t, address)
			post(t, "http://"+address+"/events/a", "after it")
			for line := ""; !strings.Contains(line, "after it"); {
				var err error
				if line, err = p.r.ReadString('\n'); err != nil {
					t.Fatalf("got %v, want the event", err)
				}
			}
		})
	}
	for name, tr := range transports(t) {
		t.Run("of a relay on "+name, func(t *testing.T) {
			_, address := serve(t, server.Config{Limits: limits})
			body, more := io.Pipe()
			r := request(t, "POST", address, "Text/Event-Stream; charset=utf-8", body)
			answered := make(chan error, 1)
			go func() {
				resp, err := tr.RoundTrip(r)
				if err == nil {
					var b []byte
					if b, err = io.ReadAll(resp.Body); err == nil && (resp.StatusCode != http.StatusCreated || !strings.Contains(string(b), `"count":3`)) {
						err = fmt.Errorf("got %s %s, want 201 and three events", resp.Status, b)
					}
					resp.Body.Close()
				}
				answered <- err
			}()
			for range 3 {
				if _, err := io.WriteString(more, "data: x\n\n"); err != nil {
					t.Fatal(err)
				}
				waitFor(t, address)
			}
			more.Close()
			if err := <-answered; err != nil {
				t.Error(err)
			}
		})
	}
}

// Whatever the handler answers, net/http reads on for the rest of a body.
func TestBody_UnreadRestHoldsNothing(t *testing.T) {
	for _, tt := range []struct{ name, head, want string }{
		{"of a type that cannot be", "POST /events/a HTTP/1.1\r\nContent-Type: image/png\r\n", "415"},
		{"of a stream that is refused", "POST /events/a HTTP/1.1\r\nContent-Type: text/event-stream\r\nIf-Match: \"x\"\r\n", "400"},
		{"of a stream for nobody", "POST / HTTP/1.1\r\nContent-Type: text/event-stream\r\n", ""},
		{"of a subscription", "GET /events/a HTTP/1.1\r\n", "408"},
		{"of a deletion", "DELETE /events/a HTTP/1.1\r\n", "408"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, address := serve(t, server.Config{Limits: server.Limits{BodyTimeout: 50 * time.Millisecond}})
			p := dial(t, "", address)
			if _, err := io.WriteString(p, tt.head+"Host: localhost\r\nContent-Length: 100000\r\n\r\nbegin"); err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(p)
			if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 "+tt.want) {
				t.Errorf("got %.100q, %v, want %s and the end", b, err, tt.want)
			}
			eventually(t, "it is gone", func() bool { return s.Usage() == server.Usage{} })
		})
	}
}

func TestBody_UnwantedOnesAreBounded(t *testing.T) {
	_, address := serve(t, server.Config{})
	p := dial(t, "", address)
	go func() { // the server does not read all of it
		_, _ = fmt.Fprintf(p, "GET /events/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", 1<<20, strings.Repeat("x", 1<<20))
	}()
	resp, err := http.ReadResponse(p.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if problem, _ := refusal(t, resp); resp.StatusCode != http.StatusRequestEntityTooLarge || problem != "too-large" {
		t.Errorf("got %s %s, want 413", resp.Status, problem)
	}
}

// A client that waits for 100 Continue must not have to send what is refused.
func TestBody_RefusedWithoutBeingAskedFor(t *testing.T) {
	_, address := serve(t, server.Config{})
	p := dial(t, "", address)
	resp := p.ask(t, "POST /events/a", "Content-Type: image/png", "Content-Length: 1000", "Expect: 100-continue")
	if resp.StatusCode != http.StatusUnsupportedMediaType || !resp.Close {
		t.Errorf("got %s, close: %v, want 415 and the end", resp.Status, resp.Close)
	}
	p = dial(t, "", address)
	if resp := p.ask(t, "POST /events/a", "Content-Length: 2", "Expect: 100-continue"); resp.StatusCode != http.StatusContinue {
		t.Fatalf("got %s, want 100", resp.Status)
	}
	if _, err := io.WriteString(p, "hi"); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.ReadResponse(p.r, nil); err != nil || resp.StatusCode != http.StatusCreated {
		t.Errorf("got %v, %v, want 201", resp, err)
	}
}

// What the limits cost of a request, beside one without them.
func BenchmarkLimits_Publish(b *testing.B) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			hub.Fail(w, err)
		}
	})
	for _, bb := range []struct {
		name    string
		handler http.Handler
	}{{"without", h}, {"with", server.LimitedHandler(server.Limits{}, h)}} {
		b.Run(bb.name, func(b *testing.B) {
			ts := httptest.NewServer(bb.handler)
			defer ts.Close()
			c, err := net.Dial("tcp", ts.Listener.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			r := bufio.NewReader(c)
			msg := []byte("POST /events/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(msg); err != nil {
					b.Fatal(err)
				}
				resp, err := http.ReadResponse(r, nil)
				if err != nil || resp.StatusCode != 200 {
					b.Fatal(resp, err)
				}
			}
		})
	}
}
