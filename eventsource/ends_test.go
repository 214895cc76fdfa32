package eventsource_test

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tidewire/tidewire/eventsource"
)

const (
	one        = "id: 1\ndata: one\n\n"
	contentLen = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 1000\r\n\r\n"
	untilClose = "HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
)

// TestSource_GoesOnAfterEveryEnd ends the first connection in every way that there
// is. Each must lead to one error notice, one new request after the last complete
// event, and the next events.
func TestSource_GoesOnAfterEveryEnd(t *testing.T) {
	t.Parallel()
	reset := func(c *net.TCPConn) { c.SetLinger(0) }
	tests := []struct {
		name  string
		first func(got <-chan struct{}) http.HandlerFunc // got: event one has arrived
		// What the client tells of the first connection.
		opened, message bool
		err             error // in what OnError gets; nil: any
	}{
		{name: "clean", opened: true, message: true, err: io.EOF,
			first: func(<-chan struct{}) http.HandlerFunc { return events(one) }},
		{name: "clean, empty", opened: true, err: io.EOF,
			first: func(<-chan struct{}) http.HandlerFunc { return events("") }},
		{name: "clean, inside a line", opened: true, message: true, err: io.ErrUnexpectedEOF,
			first: func(<-chan struct{}) http.HandlerFunc { return events(one + "id: 2\ndata: lo") }},
		{name: "clean, before the blank line", opened: true, message: true, err: io.ErrUnexpectedEOF,
			first: func(<-chan struct{}) http.HandlerFunc { return events(one + "id: 2\ndata: lost\n") }},
		{name: "clean, after an id alone", opened: true, message: true, err: io.ErrUnexpectedEOF,
			first: func(<-chan struct{}) http.HandlerFunc { return events(one + "id: 2\n") }},
		{name: "reset", opened: true, message: true, err: syscall.ECONNRESET,
			first: func(got <-chan struct{}) http.HandlerFunc {
				return raw(chunkedHead+chunk(one), func(c *net.TCPConn) { <-got; reset(c) })
			}},
		{name: "reset inside an event", opened: true, message: true, err: syscall.ECONNRESET,
			first: func(got <-chan struct{}) http.HandlerFunc {
				return raw(chunkedHead+chunk(one)+chunk("id: 2\nda"), func(c *net.TCPConn) { <-got; reset(c) })
			}},
		{name: "no last chunk", opened: true, message: true, err: io.ErrUnexpectedEOF,
			first: func(<-chan struct{}) http.HandlerFunc { return raw(chunkedHead+chunk(one), nil) }},
		{name: "chunk cut off", opened: true, message: true, err: io.ErrUnexpectedEOF,
			first: func(<-chan struct{}) http.HandlerFunc {
				return raw(chunkedHead+chunk(one)+"ff\r\nid: 2\ndata: lost\n", nil)
			}},
		{name: "bad chunk size", opened: true, message: true,
			first: func(<-chan struct{}) http.HandlerFunc { return raw(chunkedHead+chunk(one)+"zz\r\n", nil) }},
		{name: "body shorter than Content-Length", opened: true, message: true, err: io.ErrUnexpectedEOF,
			first: func(<-chan struct{}) http.HandlerFunc { return raw(contentLen+one, nil) }},
		{name: "HTTP/1.0", opened: true, message: true, err: io.EOF,
			first: func(<-chan struct{}) http.HandlerFunc { return raw(untilClose+one, nil) }},
		{name: "HTTP/1.0, inside an event", opened: true, message: true, err: io.ErrUnexpectedEOF,
			first: func(<-chan struct{}) http.HandlerFunc { return raw(untilClose+one+"id: 2\ndata: lost\n", nil) }},
		{name: "gzip that is none", opened: true, err: gzip.ErrHeader,
			first: func(<-chan struct{}) http.HandlerFunc {
				return raw("HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n"+one, nil)
			}},
		{name: "closed before the headers", err: io.EOF,
			first: func(<-chan struct{}) http.HandlerFunc { return raw("", nil) }},
		{name: "reset before the headers", err: syscall.ECONNRESET,
			first: func(<-chan struct{}) http.HandlerFunc { return raw("", reset) }},
		{name: "closed inside the headers", err: io.ErrUnexpectedEOF,
			first: func(<-chan struct{}) http.HandlerFunc {
				return raw("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n", nil)
			}},
		{name: "no HTTP at all",
			first: func(<-chan struct{}) http.HandlerFunc { return raw("220 mail.example ESMTP\r\n", nil) }},
		{name: "bad header",
			first: func(<-chan struct{}) http.HandlerFunc {
				return raw("HTTP/1.1 200 OK\r\n: no name\r\n\r\n"+one, nil)
			}},
	}
	for _, tt := range tests {
		for _, strict := range []bool{false, true} {
			name := tt.name
			if strict {
				name += ", StrictSpec"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				got := make(chan struct{})
				srv := newServer(t, tt.first(got), hold("data: two\n\nid: 3\ndata: three\n\n"))
				d := newDiary()
				opts := quick()
				opts.StrictSpec = strict
				opts.LastEventID = "0"
				d.keep(opts)
				var arrived sync.Once
				opts.OnMessage = func(ev eventsource.MessageEvent) {
					d.note("message %s, id %s", ev.Data, ev.ID)
					arrived.Do(func() { close(got) })
				}
				src := open(t, srv.URL, opts)
				lastID := "0"
				if tt.opened {
					d.want(t, "open")
				}
				if tt.message {
					d.want(t, "message one, id 1")
					lastID = "1"
				}
				// The event without an id keeps the one from before the fault.
				d.want(t, "error 0", "open", "message two, id "+lastID, "message three, id 3")
				src.Close()
				d.wantNoMore(t)
				if id, _ := srv.wantCalls(t, 2)[1].id(); id != lastID {
					t.Errorf("got Last-Event-ID %q, want %q", id, lastID)
				}
				told := d.told(t, 1)[0]
				if told.Err == nil || tt.err != nil && !errors.Is(told.Err, tt.err) {
					t.Errorf("got error %v, want one that wraps %v", told.Err, tt.err)
				}
				if told.State != eventsource.StateConnecting || told.Target != src {
					t.Errorf("got state %v and target %p, want connecting and the source, %p", told.State, told.Target, src)
				}
			})
		}
	}
}

// TestSource_GoesOnAfterRefusedConnections dials a port without a listener first.
func TestSource_GoesOnAfterRefusedConnections(t *testing.T) {
	t.Parallel()
	srv := newServer(t, hold("data: one\n\n"))
	var dials atomic.Int32
	tr := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials.Add(1) <= 2 {
			addr = "127.0.0.1:1"
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	d := newDiary()
	opts := d.keep(quick())
	opts.HTTPClient = &http.Client{Transport: tr}
	open(t, srv.URL, opts)
	d.want(t, "error 0", "error 0", "open", "message one")
	for _, ev := range d.told(t, 2) {
		if !errors.Is(ev.Err, syscall.ECONNREFUSED) {
			t.Errorf("got error %v, want one that wraps ECONNREFUSED", ev.Err)
		}
	}
}

// TestStream_ParserStartsAfresh checks that nothing but the id and the
// reconnection time outlives a connection: a BOM is dropped again, an LF is not
// the other half of a CR, and no part of a block is left.
func TestStream_ParserStartsAfresh(t *testing.T) {
	t.Parallel()
	srv := newServer(t,
		events("\uFEFFid: 1\ndata: one\n\nid: 2\nevent: odd\ndata: lost"),
		events("\uFEFFdata: two\r\r"),
		events("\ndata: three\n\n"),
		stop)
	got, err := collect(t, eventsource.Stream(bounded(t), srv.URL, quick()))
	if err != nil {
		t.Fatal(err)
	}
	wantStrings(t, "data", data(got), "one", "two", "three")
	for _, ev := range got {
		if ev.ID != "1" || ev.Type != "message" {
			t.Errorf("got id %q and type %q with %q, want 1 and message", ev.ID, ev.Type, ev.Data)
		}
	}
}

func TestStream_ReadsGzip(t *testing.T) {
	t.Parallel()
	srv := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close()
		io.WriteString(z, one)
	}, stop)
	got, err := collect(t, eventsource.Stream(bounded(t), srv.URL, quick()))
	if err != nil {
		t.Fatal(err)
	}
	wantStrings(t, "data", data(got), "one")
}

// idle is the limit in the tests of it, on a clock that stands still while
// anything happens.
const idle = 5 * time.Second

func TestStream_IdleTimeout(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		first http.HandlerFunc
		want  []string
		after time.Duration
	}{
		{"before the headers", silence, []string{"error 0", "open", "error 2"}, idle},
		{"before the first byte", hold(""), []string{"open", "error 0", "open", "error 2"}, idle},
		{"after an event", hold("data: one\n\n"), []string{"open", "error 0", "open", "error 2"}, idle},
		{"inside an event", hold("data: o"), []string{"open", "error 0", "open", "error 2"}, idle},
		{"a while after the headers", func(w http.ResponseWriter, r *http.Request) {
			begin(w, "")
			<-time.After(idle - 1)
			begin(w, ":")
			<-r.Context().Done()
		}, []string{"open", "error 0", "open", "error 2"}, 2*idle - 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, s *script, c *http.Client) {
				d := newDiary()
				opts := d.keep(quick())
				opts.HTTPClient, opts.IdleTimeout, opts.MaxEventSize = c, idle, 10
				var after time.Duration
				start := time.Now()
				onError := opts.OnError
				opts.OnError = func(ev eventsource.ErrorEvent) {
					if after == 0 {
						after = time.Since(start)
					}
					onError(ev)
				}
				// The second connection ends it all.
				for range eventsource.Stream(t.Context(), memURL, opts) {
				}
				d.want(t, tt.want...)
				d.wantNoMore(t)
				if got := d.told(t, 2)[0].Err; got != eventsource.ErrIdleTimeout {
					t.Errorf("got error %v, want ErrIdleTimeout", got)
				}
				if after != tt.after {
					t.Errorf("got it after %v, want %v", after, tt.after)
				}
				s.wantCalls(t, 2)
				receive(t, s.gone, "the server to see that the client has left")
			}, tt.first, events("data: larger than 10 bytes\n\n"))
		})
	}
}

// TestStream_TrickleIsNotIdle has bytes that make no event, each just in time.
func TestStream_TrickleIsNotIdle(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *script, c *http.Client) {
		d := newDiary()
		opts := d.keep(&eventsource.Options{HTTPClient: c, IdleTimeout: idle})
		for ev, err := range eventsource.Stream(t.Context(), memURL, opts) {
			if err != nil || ev.Data != "at last" {
				t.Errorf("got %q and error %v, want the event", ev.Data, err)
			}
			break
		}
		d.want(t, "open")
		d.wantNoMore(t)
		s.wantCalls(t, 1)
	}, func(w http.ResponseWriter, r *http.Request) {
		<-time.After(idle - 1)
		begin(w, ":")
		for range 50 {
			<-time.After(idle - 1)
			begin(w, ".")
		}
		begin(w, "\ndata: at last\n\n")
		<-r.Context().Done()
	})
}

// TestStream_SlowApplicationIsNotIdle takes ages over each event.
func TestStream_SlowApplicationIsNotIdle(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *script, c *http.Client) {
		d := newDiary()
		opts := d.keep(&eventsource.Options{HTTPClient: c, IdleTimeout: idle})
		opts.OnOpen = func(eventsource.OpenEvent) { <-time.After(10 * idle) }
		opts.OnComment = func(string) { <-time.After(10 * idle) }
		n := 0
		for ev, err := range eventsource.Stream(t.Context(), memURL, opts) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; ev.Data == "last" {
				break
			}
			<-time.After(10 * idle)
		}
		if n != 4 {
			t.Errorf("got %d events, want 4", n)
		}
		d.wantNoMore(t)
		s.wantCalls(t, 1)
	}, func(w http.ResponseWriter, r *http.Request) {
		for range 3 {
			begin(w, ": slow\ndata: one\n\n")
			<-time.After(idle - 1)
		}
		begin(w, "data: last\n\n")
		<-r.Context().Done()
	})
}

func TestStream_WithoutIdleTimeoutSilenceIsNoFault(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *script, c *http.Client) {
		// The client's own Timeout is meant for answers that end.
		c.Timeout = time.Second
		d := newDiary()
		for ev, err := range eventsource.Stream(t.Context(), memURL, d.keep(&eventsource.Options{HTTPClient: c})) {
			if err != nil || ev.Data != "at last" {
				t.Errorf("got %q and error %v, want the event", ev.Data, err)
			}
			break
		}
		d.want(t, "open")
		d.wantNoMore(t)
		s.wantCalls(t, 1)
		if c.Timeout != time.Second {
			t.Errorf("got Timeout %v in the caller's client, want it left alone", c.Timeout)
		}
	}, func(w http.ResponseWriter, r *http.Request) {
		<-time.After(1000 * time.Hour)
		begin(w, "")
		<-time.After(1000 * time.Hour)
		begin(w, "data: at last\n\n")
		<-r.Context().Done()
	})
}
