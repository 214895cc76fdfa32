package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for what must come: long enough for 14 MB under
// the race detector on a busy machine.
const patience = time.Minute

// A harness stands in for the public one, with real sockets: it drives a service,
// plays the server of its streams, and takes its callbacks. When the test ends, it
// fails it if a goroutine is left over.
type harness struct {
	t    *testing.T
	svc  *service
	http *http.Client

	url, streamURL, callbackURL string

	connections chan *connection
	callbacks   chan *callback
	states      chan http.ConnState // of the connections that callbacks come on
	logged      chan string         // lines
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	before := goroutines()
	h := &harness{
		t:           t,
		http:        &http.Client{Transport: &http.Transport{}, Timeout: patience},
		connections: make(chan *connection),
		callbacks:   make(chan *callback),
		states:      make(chan http.ConnState, 100),
		logged:      make(chan string, 100),
	}
	h.svc = newService(log.New(lineWriter(h.logged), "", 0))
	api := httptest.NewServer(h.svc)
	streams := httptest.NewUnstartedServer(http.HandlerFunc(h.serveStream))
	streams.Config.ErrorLog = log.New(io.Discard, "", 0)
	streams.Start()
	callbacks := httptest.NewUnstartedServer(http.HandlerFunc(h.serveCallback))
	callbacks.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		select {
		case h.states <- state:
		default: // no test looks at so many
		}
	}
	callbacks.Start()
	h.url, h.streamURL, h.callbackURL = api.URL, streams.URL+"/stream", callbacks.URL+"/callbacks/99"
	t.Cleanup(func() {
		h.svc.Close()
		h.http.CloseIdleConnections()
		api.Close()
		streams.Close()
		callbacks.Close()
		checkGoroutines(t, before)
	})
	return h
}

type lineWriter chan<- string

func (w lineWriter) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}

// checkGoroutines fails the test if there are, and stay, goroutines that were not
// there before. A goroutine that has told of its end still has some steps to go.
func checkGoroutines(t *testing.T, before map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		var left []string
		for id, stack := range goroutines() {
			if before[id] == "" {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return
		}
		if ctx.Err() != nil {
			t.Errorf("%d goroutines left behind:\n\n%s", len(left), strings.Join(left, "\n\n"))
			return
		}
		runtime.Gosched()
	}
}

// goroutines returns the stack of every goroutine by its id.
func goroutines() map[string]string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	all := make(map[string]string)
	for _, stack := range strings.Split(string(buf), "\n\n") {
		id, _, _ := strings.Cut(strings.TrimPrefix(stack, "goroutine "), " ")
		all[id] = stack
	}
	return all
}

// receive returns the next element of ch.
func receive[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("timed out waiting for %s", what)
		panic("unreachable")
	}
}

// call sends a request to the service, whose JSON body is v unless that is nil or,
// as a string, the body itself.
func (h *harness) call(method, path string, v any) (status int, header http.Header, body string) {
	h.t.Helper()
	var in string
	switch v := v.(type) {
	case nil:
	case string:
		in = v
	default:
		b, err := json.Marshal(v)
		if err != nil {
			h.t.Fatal(err)
		}
		in = string(b)
	}
	req, err := http.NewRequest(method, h.url+path, strings.NewReader(in))
	if err != nil {
		h.t.Fatal(err)
	}
	resp, err := h.http.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(out)
}

// want is call for requests that must be answered with status.
func (h *harness) want(status int, method, path string, v any) http.Header {
	h.t.Helper()
	got, header, body := h.call(method, path, v)
	if got != status {
		h.t.Fatalf("%s %s answered %d %q, want %d", method, path, got, body, status)
	}
	return header
}

// object is JSON to be.
type object map[string]any

// create creates a client of h's stream with further parameters, that reconnects
// at once unless they say otherwise, and returns its location.
func (h *harness) create(params object) string {
	h.t.Helper()
	all := object{"streamUrl": h.streamURL, "callbackUrl": h.callbackURL, "tag": h.t.Name(), "initialDelayMs": 0}
	for name, value := range params {
		all[name] = value
	}
	location := h.want(http.StatusCreated, "POST", "/", all).Get("Location")
	if !strings.HasPrefix(location, "/") {
		h.t.Fatalf("got Location %q, want a path", location)
	}
	return location
}

// A connection is one request that a client has sent for its stream.
type connection struct {
	t      *testing.T
	method string
	header http.Header
	body   string
	steps  chan func(http.ResponseWriter)
	gone   <-chan struct{} // closed when the client has hung up
}

// connect waits for a client's request.
func (h *harness) connect() *connection {
	h.t.Helper()
	return receive(h.t, h.connections, "a connection")
}

func (h *harness) serveStream(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone already
	}
	c := &connection{
		t:      h.t,
		method: r.Method,
		header: r.Header,
		body:   string(body),
		steps:  make(chan func(http.ResponseWriter)),
		gone:   r.Context().Done(),
	}
	select {
	case h.connections <- c:
	case <-c.gone:
		return
	}
	for {
		select {
		case step := <-c.steps:
			if step == nil {
				return
			}
			step(w)
		case <-c.gone:
			return
		}
	}
}

// do has the handler take a step.
func (c *connection) do(step func(http.ResponseWriter)) {
	c.t.Helper()
	select {
	case c.steps <- step:
	case <-c.gone:
		c.t.Fatal("the client has hung up")
	case <-time.After(patience):
		c.t.Fatal("timed out writing to the stream")
	}
}

// send writes to the stream, after its headers.
func (c *connection) send(text string) {
	c.t.Helper()
	c.do(func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, text) // the test sees what arrives
		_ = http.NewResponseController(w).Flush()
	})
}

// refuse answers with a status and headers and no stream.
func (c *connection) refuse(status int, header http.Header) {
	c.t.Helper()
	c.do(func(w http.ResponseWriter) {
		maps.Copy(w.Header(), header)
		w.WriteHeader(status)
	})
	c.end()
}

// end ends the answer as its format says.
func (c *connection) end() {
	c.t.Helper()
	c.do(nil)
}

// cut ends the answer in the middle of what it is.
func (c *connection) cut() {
	c.t.Helper()
	c.do(func(http.ResponseWriter) { panic(http.ErrAbortHandler) })
}

// reset has TCP drop the connection.
func (c *connection) reset() {
	c.t.Helper()
	c.do(func(w http.ResponseWriter) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			c.t.Error(err)
			return
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
		panic(http.ErrAbortHandler)
	})
}

// A callback is one that a client has posted and that waits for its answer.
type callback struct {
	n      int
	msg    message
	raw    string
	method string
	header http.Header
	answer chan int // its status
}

func (h *harness) serveCallback(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	c := &callback{raw: string(body), method: r.Method, header: r.Header, answer: make(chan int, 1)}
	number, ok := strings.CutPrefix(r.URL.Path, "/callbacks/99/")
	if c.n, err = strconv.Atoi(number); !ok || err != nil {
		h.t.Errorf("got a callback at %s", r.URL)
	}
	if err := json.Unmarshal(body, &c.msg); err != nil {
		h.t.Errorf("callback %d: %v", c.n, err)
	}
	select {
	case h.callbacks <- c:
	case <-r.Context().Done():
		return
	}
	select {
	case status := <-c.answer:
		w.WriteHeader(status)
	case <-r.Context().Done():
	}
}

// next waits for the next callback, whose number must be n, and accepts it.
func (h *harness) next(n int) *callback {
	h.t.Helper()
	return h.nextAnswer(n, http.StatusAccepted)
}

func (h *harness) nextAnswer(n, status int) *callback {
	h.t.Helper()
	c := receive(h.t, h.callbacks, fmt.Sprintf("callback %d", n))
	c.answer <- status
	if c.n != n {
		h.t.Fatalf("got callback %d %.100s, want number %d", c.n, c.raw, n)
	}
	return c
}

// wantRaw checks the next callback byte for byte.
func (h *harness) wantRaw(n int, body string) {
	h.t.Helper()
	if c := h.next(n); c.raw != body {
		h.t.Fatalf("got callback %d %s, want %s", n, c.raw, body)
	}
}

// wantData checks that the next callback is an event with that data.
func (h *harness) wantData(n int, data string) {
	h.t.Helper()
	if c := h.next(n); c.msg.Event == nil || c.msg.Event.Data != data {
		h.t.Fatalf("got callback %d %.100s, want an event with data %q", n, c.raw, data)
	}
}

// wantError checks that the next callback is an error with text in it.
func (h *harness) wantError(n int, text string) {
	h.t.Helper()
	c := h.next(n)
	if c.msg.Kind != "error" || c.msg.Error == nil || !strings.Contains(*c.msg.Error, text) {
		h.t.Fatalf("got callback %d %s, want an error with %q", n, c.raw, text)
	}
}
