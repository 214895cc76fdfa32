package eventsource_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/internal/memnet"
)

// patience is how long a test waits for what must happen, on a busy machine too.
const patience = 30 * time.Second

// A call is one request as a server saw it.
type call struct {
	Method string
	URI    string
	Header http.Header
	Body   string
	At     time.Time
}

// id returns the Last-Event-ID of the request, and whether it has one at all.
func (c call) id() (string, bool) {
	v, ok := c.Header["Last-Event-Id"]
	return strings.Join(v, ", "), ok
}

// A script is a handler that answers the nth request with its nth step, and any
// further one with the last.
type script struct {
	steps   []http.HandlerFunc
	arrived chan call     // each request, as it comes
	gone    chan struct{} // one for each request whose client left before its answer was over

	mu    sync.Mutex
	calls []call
}

func newScript(steps ...http.HandlerFunc) *script {
	return &script{steps: steps, arrived: make(chan call, 1000), gone: make(chan struct{}, 1000)}
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c := call{r.Method, r.RequestURI, r.Header.Clone(), string(body), time.Now()}
	s.mu.Lock()
	step := s.steps[min(len(s.calls), len(s.steps)-1)]
	s.calls = append(s.calls, c)
	s.mu.Unlock()
	select {
	case s.arrived <- c:
	default:
	}
	step(w, r)
	if r.Context().Err() != nil {
		s.gone <- struct{}{}
	}
}

// seen returns the requests up to now.
func (s *script) seen() []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// wantCalls checks how many requests there were.
func (s *script) wantCalls(t *testing.T, want int) []call {
	t.Helper()
	got := s.seen()
	if len(got) != want {
		t.Fatalf("got %d requests, want %d", len(got), want)
	}
	return got
}

// A server plays a script on a real socket.
type server struct {
	*httptest.Server
	*script
}

func newServer(t *testing.T, steps ...http.HandlerFunc) *server {
	t.Helper()
	s := newScript(steps...)
	srv := &server{httptest.NewServer(s), s}
	t.Cleanup(srv.Close)
	return srv
}

// bubble runs fn where time passes at once as soon as all are waiting. All of the
// client's connections lead to a server that plays the steps.
func bubble(t *testing.T, fn func(t *testing.T, s *script, c *http.Client), steps ...http.HandlerFunc) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := memnet.Listen()
		s := newScript(steps...)
		srv := &http.Server{Handler: s}
		go srv.Serve(l)
		defer srv.Close()
		tr := &http.Transport{DialContext: l.Dial}
		defer tr.CloseIdleConnections()
		fn(t, s, &http.Client{Transport: tr})
	})
}

// memURL is the server's in a bubble.
const memURL = "http://mem.test/"

// The steps.

// events answers with a stream that ends cleanly after text.
func events(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { begin(w, text) }
}

// hold answers with a stream that stays open after text.
func hold(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		begin(w, text)
		<-r.Context().Done()
	}
}

// silence does not answer at all.
func silence(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func begin(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/event-stream")
	io.WriteString(w, text)
	w.(http.Flusher).Flush()
}

// answer answers with a status and, where that may have one, a body.
func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// stop is the server's way to say that there is no more.
var stop = answer(http.StatusNoContent, "")

// redirect sends the client on, with net/http's own body and a body that a
// client must not take for a stream.
func redirect(status int, location string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", location)
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(status)
		io.WriteString(w, "data: from the redirect\n\n")
	}
}

// raw answers with these bytes and nothing that a server would add, and closes the
// connection when then has returned. (Without any byte, on a connection that has
// been used before, net/http asks again by itself.)
func raw(text string, then func(c *net.TCPConn)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		io.WriteString(conn, text)
		if then != nil {
			then(conn.(*net.TCPConn))
		}
	}
}

// What goes with raw.
const (
	chunkedHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	lastChunk   = "0\r\n\r\n"
)

func chunk(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }

// waitFor returns a callback that lasts until ch is closed.
func waitFor(ch <-chan struct{}) func(*net.TCPConn) {
	return func(*net.TCPConn) { <-ch }
}

// receive waits for what must come.
func receive[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v := <-ch:
		return v
	case <-timer.C:
		t.Fatalf("waited %v for %s", patience, what)
		panic("unreachable")
	}
}

// bounded returns a context in which a test that does not end fails.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// quick returns options that wait for the shortest time that there is. With them
// any stream is open for MaxDelay, and so counts as a success.
func quick() *eventsource.Options {
	return &eventsource.Options{ReconnectionTime: -1, MaxDelay: time.Millisecond}
}

// collect ranges over a stream until its end.
func collect(t *testing.T, seq iter.Seq2[eventsource.MessageEvent, error]) (got []eventsource.MessageEvent, last error) {
	t.Helper()
	for ev, err := range seq {
		if last != nil {
			t.Errorf("got (%v, %v) after the error %v, want nothing", ev, err, last)
			break
		}
		last = err
		if err == nil {
			got = append(got, ev)
		}
	}
	return got, last
}

// data returns the events' data.
func data(events []eventsource.MessageEvent) []string {
	var s []string
	for _, ev := range events {
		s = append(s, ev.Data)
	}
	return s
}

// wantStrings compares lists.
func wantStrings(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %s %q, want %q", what, got, want)
	}
}

// A diary takes down what a source tells, in order: "open", "message <data>",
// "error <state>".
type diary struct {
	lines chan string

	mu   sync.Mutex
	errs []eventsource.ErrorEvent
}

func newDiary() *diary { return &diary{lines: make(chan string, 1000)} }

// keep makes opts tell the diary.
func (d *diary) keep(opts *eventsource.Options) *eventsource.Options {
	opts.OnOpen = func(eventsource.OpenEvent) { d.note("open") }
	opts.OnMessage = func(ev eventsource.MessageEvent) { d.note("message %s", ev.Data) }
	opts.OnError = func(ev eventsource.ErrorEvent) {
		d.mu.Lock()
		d.errs = append(d.errs, ev)
		d.mu.Unlock()
		d.note("error %d", ev.State)
	}
	return opts
}

func (d *diary) note(format string, args ...any) { d.lines <- fmt.Sprintf(format, args...) }

// want waits for these lines, and for no others between them.
func (d *diary) want(t *testing.T, lines ...string) {
	t.Helper()
	for i, want := range lines {
		if got := receive(t, d.lines, want); got != want {
			t.Fatalf("got %q after %q, want %q", got, lines[:i], want)
		}
	}
}

// wantNoMore checks that the diary has no line that nobody asked for.
func (d *diary) wantNoMore(t *testing.T) {
	t.Helper()
	select {
	case line := <-d.lines:
		t.Errorf("got %q, want nothing more", line)
	default:
	}
}

// told returns what OnError got, which must be so many.
func (d *diary) told(t *testing.T, want int) []eventsource.ErrorEvent {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.errs) != want {
		t.Fatalf("got %d errors, want %d: %v", len(d.errs), want, d.errs)
	}
	return slices.Clone(d.errs)
}

// open opens a source that is closed when the test ends.
func open(t *testing.T, url string, opts *eventsource.Options) *eventsource.Source {
	t.Helper()
	src, err := eventsource.Open(t.Context(), url, opts)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

// wantDone waits for a source to end and checks why.
func wantDone(t *testing.T, src *eventsource.Source, err error) {
	t.Helper()
	receive(t, src.Done(), "the source's end")
	if got := src.Err(); got != err {
		t.Errorf("got Err %v, want %v", got, err)
	}
	if got := src.ReadyState(); got != eventsource.StateClosed {
		t.Errorf("got state %v after the end, want closed", got)
	}
}
