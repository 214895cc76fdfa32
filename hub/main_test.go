package hub_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/internal/leaktest"
	"github.com/tidewire/tidewire/internal/memnet"
	"github.com/tidewire/tidewire/log/memory"
	"github.com/tidewire/tidewire/sse"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// patience bounds what a test waits for; only a test that fails uses it up.
const patience = 30 * time.Second

// newLog returns a memory log that lives as long as the test.
func newLog(t testing.TB, opts *memory.Options) *memory.Log {
	t.Helper()
	l, err := memory.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// newHub returns a hub that lives as long as the test, over a memory log unless opts
// has another.
func newHub(t testing.TB, opts hub.Options) *hub.Hub {
	t.Helper()
	if opts.Log == nil {
		opts.Log = newLog(t, nil)
	}
	if opts.WriteTimeout == 0 {
		opts.WriteTimeout = time.Hour // what is slow in a test is mostly the machine
	}
	h, err := hub.New(&opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("subscriptions outlive the test: %v", err)
		}
	})
	return h
}

// event returns an event; its topics are separated by commas.
func event(topics, data string) hub.Event {
	return hub.Event{Topics: strings.Split(topics, ","), Data: data}
}

// publish stores events all or none, and ends the test if it cannot.
func publish(t testing.TB, h *hub.Hub, events ...hub.Event) hub.Receipt {
	t.Helper()
	receipt, err := h.Publish(t.Context(), hub.Publication{Events: events})
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

// end closes topics.
func end(t testing.TB, h *hub.Hub, topics ...string) {
	t.Helper()
	if _, err := h.Publish(t.Context(), hub.Publication{End: topics}); err != nil {
		t.Fatal(err)
	}
}

// forget removes a topic's history.
func forget(t testing.TB, h *hub.Hub, topic string) {
	t.Helper()
	if err := h.Forget(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
}

// A step is what a subscription yields at once.
type step struct {
	hub.Delivery
	err   error
	ended bool // the iterator is at its end
}

// String returns an event's data, or what else the step is, in words.
func (s step) String() string {
	var gap *hub.GapError
	switch {
	case s.ended:
		return "end"
	case errors.As(s.err, &gap):
		return "gap " + string(gap.Reason)
	case s.err != nil:
		return "error"
	}
	return s.Data
}

// A reader is a subscriber under synctest that takes an event only when it is told
// to, so that a test decides how far behind it is.
type reader struct {
	ask     chan struct{}
	out     chan step
	asked   bool // and not answered yet: it waits for what comes
	stopped bool
	cancel  context.CancelFunc
}

// read subscribes. The reader is where it begins once it is asked for the first time.
func read(t testing.TB, h *hub.Hub, f hub.Filter) *reader {
	ctx, cancel := context.WithCancel(t.Context())
	r := &reader{ask: make(chan struct{}), out: make(chan step, 1), cancel: cancel}
	go func() {
		next, stop := iter.Pull2(h.Subscribe(ctx, f))
		defer stop()
		for range r.ask {
			d, err, ok := next()
			r.out <- step{d, err, !ok}
		}
	}()
	t.Cleanup(r.stop)
	return r
}

// take returns the next step, or false if there is nothing yet; the reader is then
// waiting for it.
func (r *reader) take() (step, bool) {
	if !r.asked {
		synctest.Wait() // the hub has everything that was published
		r.ask <- struct{}{}
		r.asked = true
	}
	synctest.Wait()
	select {
	case s := <-r.out:
		r.asked = false
		return s, true
	default:
		return step{}, false
	}
}

// all takes everything that comes without waiting, to the end if it comes.
func (r *reader) all() []step {
	const tooMany = 100_000
	var steps []step
	for len(steps) < tooMany {
		s, ok := r.take()
		if !ok {
			break
		}
		steps = append(steps, s)
		if s.ended {
			break
		}
	}
	return steps
}

// texts takes everything that comes without waiting, as words.
func (r *reader) texts() string { return texts(r.all()) }

func texts(steps []step) string {
	var words []string
	for _, s := range steps {
		words = append(words, s.String())
	}
	return strings.Join(words, ", ")
}

// stop ends the subscription.
func (r *reader) stop() {
	if r.stopped {
		return
	}
	r.stopped = true
	r.cancel()
	close(r.ask)
}

// A server is a hub, or another handler, behind a real socket.
type server struct {
	t        testing.TB
	url      string
	patience time.Duration
	*http.Client
}

// serve serves a handler for as long as the test lives.
func serve(t testing.TB, h http.Handler) *server {
	t.Helper()
	srv := httptest.NewServer(h)
	return clientOf(t, srv, &http.Transport{DisableCompression: true})
}

// serveTLS is serve over HTTP/2.
func serveTLS(t testing.TB, h http.Handler) *server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	return clientOf(t, srv, srv.Client().Transport.(*http.Transport))
}

func clientOf(t testing.TB, srv *httptest.Server, transport *http.Transport) *server {
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		srv.CloseClientConnections()
		srv.Close()
	})
	return &server{t: t, url: srv.URL, patience: patience, Client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// serveInBubble serves a handler on a network in memory, so that time is that of
// testing/synctest, and with timeouts that are none of a stream's concern.
func serveInBubble(t testing.TB, h http.Handler) *server {
	t.Helper()
	l := memnet.Listen()
	srv := &http.Server{Handler: h, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-served; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	transport := &http.Transport{DialContext: l.Dial, DisableKeepAlives: true, DisableCompression: true}
	return &server{t: t, url: "http://mem", patience: 365 * 24 * time.Hour, Client: &http.Client{Transport: transport}}
}

// request makes a request that the end of the test ends. Headers are "Name: value".
func (s *server) request(method, path string, body io.Reader, headers ...string) *http.Request {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), s.patience)
	s.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
		}
		r.Header.Add(name, value)
	}
	return r
}

// An answer is a response that was read to its end.
type answer struct {
	*http.Response
	body string
}

// call sends a request and reads the whole answer.
func (s *server) call(method, path, body string, headers ...string) answer {
	s.t.Helper()
	var b io.Reader
	if body != "" {
		b = strings.NewReader(body)
	}
	resp, err := s.Do(s.request(method, path, b, headers...))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v after %q", method, path, err, text)
	}
	return answer{resp, string(text)}
}

// A stream is a subscription over HTTP.
type stream struct {
	t testing.TB
	*http.Response
	decoder *sse.Decoder
}

// open subscribes, and returns when the hub has the subscription.
func (s *server) open(path string, headers ...string) *stream {
	s.t.Helper()
	resp, err := s.Do(s.request("GET", path, nil, headers...))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		s.t.Fatalf("GET %s: got %s %s", path, resp.Status, b)
	}
	return &stream{s.t, resp, sse.NewDecoder(resp.Body, nil)}
}

// read returns the next bytes of the stream as they stand there, as many as are wanted.
func (s *stream) read(n int) string {
	s.t.Helper()
	b := make([]byte, n)
	if n, err := io.ReadFull(s.Body, b); err != nil {
		s.t.Fatalf("got %q and %v, want %d bytes", b[:n], err, len(b))
	}
	return string(b)
}

// rest returns everything up to the clean end of the stream.
func (s *stream) rest() string {
	s.t.Helper()
	b, err := io.ReadAll(s.Body)
	if err != nil {
		s.t.Fatalf("got %q and %v, want a clean end", b, err)
	}
	return string(b)
}

// next returns the next event.
func (s *stream) next() sse.Event {
	s.t.Helper()
	ev, err := s.decoder.Next()
	if err != nil {
		s.t.Fatalf("no event: %v", err)
	}
	return ev
}

// datas returns the data of the next n events.
func (s *stream) datas(n int) string {
	s.t.Helper()
	var all []string
	for range n {
		all = append(all, s.next().Data)
	}
	return strings.Join(all, ", ")
}

// close ends the subscription from the subscriber's side.
func (s *stream) close() { _ = s.Body.Close() }

// A rawConn is a connection on which a test writes and reads what it likes.
type rawConn struct {
	t testing.TB
	*net.TCPConn
}

func (s *server) dial() *rawConn {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &rawConn{s.t, conn.(*net.TCPConn)}
}

func (c *rawConn) write(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.TCPConn, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *rawConn) closeWrite() {
	c.t.Helper()
	if err := c.CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
}

// drain reads up to the end of the connection, clean or not.
func (c *rawConn) drain() string {
	b, _ := io.ReadAll(c.TCPConn)
	return string(b)
}
