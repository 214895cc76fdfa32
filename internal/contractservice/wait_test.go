package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
)

// A holdup is a transport that answers every request with one event, but keeps
// the one for path until release is closed. If it is polite, it lets go of that
// when the request's context ends.
type holdup struct {
	path    string
	polite  bool
	release chan struct{}
}

func (h *holdup) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Path == h.path {
		var done <-chan struct{}
		if h.polite {
			done = req.Context().Done()
		}
		select {
		case <-h.release:
		case <-done:
			return nil, req.Context().Err()
		}
	}
	return &http.Response{
		StatusCode: http.StatusOK,
		Header:     http.Header{"Content-Type": {"text/event-stream"}},
		Body:       io.NopCloser(strings.NewReader("data: hello\n\n")),
		Request:    req,
	}, nil
}

// Both ways to end a client cut off what it is doing, at once, and return after its
// last goroutine, not before.
func TestService_EndsClientsAtOnceAndWaits(t *testing.T) {
	ends := map[string]func(*service){
		"DELETE": func(s *service) {
			s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("DELETE", "/clients/1", nil))
		},
		"Close": (*service).Close,
	}
	for name, end := range ends {
		for _, path := range []string{"/stream", "/callback/1", "/nothing"} {
			t.Run(fmt.Sprint(name, " while ", path, " is asked for"), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testEnds(t, path, end) })
			})
			if path == "/nothing" {
				continue
			}
			t.Run(fmt.Sprint(name, " while ", path, " cannot be cut off"), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testWaits(t, path, end) })
			})
		}
	}
}

func testEnds(t *testing.T, path string, end func(*service)) {
	s := startHeldUp(t, &holdup{path: path, polite: true})
	ended := inBackground(func() { end(s) })
	if !isClosed(ended) {
		t.Error("takes its time")
	}
	s.Close()
}

func testWaits(t *testing.T, path string, end func(*service)) {
	transport := &holdup{path: path, release: make(chan struct{})}
	s := startHeldUp(t, transport)
	ended := inBackground(func() { end(s) })
	if isClosed(ended) {
		t.Error("has not waited")
	}
	close(transport.release)
	if !isClosed(ended) {
		t.Error("still waits, but for what?")
	}
	s.Close()
}

// startHeldUp returns a service with one client that is as far as it can get.
func startHeldUp(t *testing.T, transport *holdup) *service {
	t.Helper()
	s := newService(log.New(io.Discard, "", 0))
	s.http.Transport = transport
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader(
		`{"streamUrl":"http://test/stream","callbackUrl":"http://test/callback"}`)))
	if w.Code != http.StatusCreated {
		t.Fatalf("got %d %s, want 201", w.Code, w.Body)
	}
	synctest.Wait()
	return s
}

// inBackground calls fn and returns a channel that is closed after that.
func inBackground(fn func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	return done
}

// isClosed tells whether ch is closed once everything that can happen without a
// tick of the clock has happened.
func isClosed(ch <-chan struct{}) bool {
	synctest.Wait()
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
