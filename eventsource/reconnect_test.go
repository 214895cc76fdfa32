package eventsource_test

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tidewire/tidewire/eventsource"
)

// TestSource_ReconnectWhileOpen drops a good connection. It is no failure, so
// nobody is told but by OnOpen.
func TestSource_ReconnectWhileOpen(t *testing.T) {
	t.Parallel()
	proceed := make(chan struct{})
	srv := newServer(t, hold("id: 1\ndata: one\n\n"), func(w http.ResponseWriter, r *http.Request) {
		<-proceed
		hold("data: two\n\n")(w, r)
	})
	d := newDiary()
	src := open(t, srv.URL, d.keep(&eventsource.Options{ReconnectionTime: time.Hour}))
	d.want(t, "open", "message one")
	receive(t, srv.arrived, "the first request")
	src.Reconnect()
	receive(t, srv.gone, "the server to see that the client has left")
	if got, _ := receive(t, srv.arrived, "the second request").id(); got != "1" {
		t.Errorf("got Last-Event-ID %q, want 1", got)
	}
	if got := src.ReadyState(); got != eventsource.StateConnecting {
		t.Errorf("got state %v, want connecting", got)
	}
	close(proceed)
	d.want(t, "open", "message two")
	if got := src.ReadyState(); got != eventsource.StateOpen {
		t.Errorf("got state %v, want open", got)
	}
	src.Close()
	d.wantNoMore(t)
	srv.wantCalls(t, 2)
}

func TestSource_ReconnectWhileWaiting(t *testing.T) {
	t.Parallel()
	srv := newServer(t, events("retry: 3600000\nid: 1\ndata: one\n\n"), hold("data: two\n\n"))
	d := newDiary()
	src := open(t, srv.URL, d.keep(&eventsource.Options{}))
	d.want(t, "open", "message one", "error 0")
	if got := d.told(t, 1)[0].Delay; got < time.Hour {
		t.Errorf("got delay %v, want an hour or more", got)
	}
	src.Reconnect()
	d.want(t, "open", "message two")
	srv.wantCalls(t, 2)
}

func TestSource_ReconnectWhileConnecting(t *testing.T) {
	t.Parallel()
	srv := newServer(t, silence, hold("data: one\n\n"))
	d := newDiary()
	src := open(t, srv.URL, d.keep(&eventsource.Options{ReconnectionTime: time.Hour}))
	receive(t, srv.arrived, "the first request")
	src.Reconnect()
	receive(t, srv.gone, "the server to see that the client has left")
	d.want(t, "open", "message one")
	src.Close()
	d.wantNoMore(t)
	srv.wantCalls(t, 2)
}

func TestSource_ReconnectWhenClosed(t *testing.T) {
	t.Parallel()

	t.Run("by Close", func(t *testing.T) {
		t.Parallel()
		srv := newServer(t, hold("data: one\n\n"))
		d := newDiary()
		src := open(t, srv.URL, d.keep(quick()))
		d.want(t, "open", "message one")
		src.Close()
		src.Reconnect()
		wantDone(t, src, nil)
		d.wantNoMore(t)
		srv.wantCalls(t, 1)
	})

	t.Run("by a final failure", func(t *testing.T) {
		t.Parallel()
		srv := newServer(t, stop)
		src := open(t, srv.URL, quick())
		receive(t, src.Done(), "the end")
		src.Reconnect()
		wantDone(t, src, eventsource.ErrNoContent)
		srv.wantCalls(t, 1)
	})

	t.Run("in the OnError that says so", func(t *testing.T) {
		t.Parallel()
		srv := newServer(t, stop)
		opts := quick()
		opts.OnError = func(ev eventsource.ErrorEvent) {
			ev.Target.Reconnect()
			if got := ev.Target.ReadyState(); got != eventsource.StateClosed {
				t.Errorf("got state %v, want closed", got)
			}
		}
		src := open(t, srv.URL, opts)
		receive(t, src.Done(), "the end")
		src.Reconnect()
		wantDone(t, src, eventsource.ErrNoContent)
		srv.wantCalls(t, 1)
	})
}

// TestSource_ReconnectInsideACallback asks for it once, in each of them.
func TestSource_ReconnectInsideACallback(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		set   func(opts *eventsource.Options, url string, now func())
		first http.HandlerFunc
		want  []string // after which the second connection is open
		calls int
	}{
		{"OnOpen", func(o *eventsource.Options, _ string, now func()) {
			next := o.OnOpen
			o.OnOpen = func(ev eventsource.OpenEvent) { next(ev); now() }
		}, hold(""), []string{"open", "open", "message two"}, 2},
		{"OnMessage", func(o *eventsource.Options, _ string, now func()) {
			next := o.OnMessage
			o.OnMessage = func(ev eventsource.MessageEvent) { next(ev); now() }
		}, hold("data: one\n\n"), []string{"open", "message one", "open", "message two"}, 2},
		{"OnComment", func(o *eventsource.Options, _ string, now func()) {
			o.OnComment = func(string) { now() }
		}, hold(": c\n"), []string{"open", "open", "message two"}, 2},
		{"OnError", func(o *eventsource.Options, _ string, now func()) {
			next := o.OnError
			o.OnError = func(ev eventsource.ErrorEvent) { next(ev); now() }
		}, answer(503, ""), []string{"error 0", "open", "message two"}, 2},
		{"Retry", func(o *eventsource.Options, _ string, now func()) {
			o.Retry = func(_ eventsource.Attempt, delay time.Duration, again bool) (time.Duration, bool) {
				now()
				return delay, again
			}
		}, answer(503, ""), []string{"error 0", "open", "message two"}, 2},
		{"NewRequest", func(o *eventsource.Options, url string, now func()) {
			o.NewRequest = func(ctx context.Context, a eventsource.Attempt) (*http.Request, error) {
				now()
				return http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			}
		}, hold("data: two\n\n"), []string{"open", "message two"}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, tt.first, hold("data: two\n\n"))
			d := newDiary()
			opts := d.keep(&eventsource.Options{ReconnectionTime: time.Hour, MaxDelay: time.Hour})
			var src *eventsource.Source
			ready := make(chan struct{}) // src is set
			asked := false
			tt.set(opts, srv.URL, func() {
				<-ready
				if !asked {
					asked = true
					src.Reconnect()
				}
			})
			src = open(t, srv.URL, opts)
			close(ready)
			d.want(t, tt.want...)
			src.Close()
			d.wantNoMore(t)
			srv.wantCalls(t, tt.calls)
		})
	}
}

// TestSource_ReconnectIsNoFailure checks what the next attempt is told.
func TestSource_ReconnectIsNoFailure(t *testing.T) {
	t.Parallel()
	srv := newServer(t, answer(503, ""), hold(""))
	attempts := make(chan eventsource.Attempt, 10)
	opts := quick()
	opts.MaxDelay = time.Hour // a stream that is open for as long starts afresh
	opts.NewRequest = func(ctx context.Context, a eventsource.Attempt) (*http.Request, error) {
		attempts <- a
		return http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
	}
	d := newDiary()
	src := open(t, srv.URL, d.keep(opts))
	d.want(t, "error 0", "open")
	src.Reconnect()
	d.want(t, "open")
	for number, failures := range []int{0, 1, 1} {
		if a := receive(t, attempts, "an attempt"); a.Number != number+1 || a.Failures != failures {
			t.Errorf("got attempt %d with %d failures, want %d with %d", a.Number, a.Failures, number+1, failures)
		}
	}
}

// A lateCaller is a transport that calls a function when it has the first answer, and
// before the client gets it.
type lateCaller struct {
	once sync.Once
	fn   func()
}

func (l *lateCaller) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	l.once.Do(l.fn)
	return resp, err
}

// TestSource_ReconnectJustBeforeOpen has a good answer that is given up before
// anybody has seen it.
func TestSource_ReconnectJustBeforeOpen(t *testing.T) {
	t.Parallel()
	srv := newServer(t, hold(""), silence)
	ready := make(chan struct{}) // src is set
	var src *eventsource.Source
	d := newDiary()
	opts := d.keep(quick())
	opts.HTTPClient = &http.Client{Transport: &lateCaller{fn: func() { <-ready; src.Reconnect() }}}
	src = open(t, srv.URL, opts)
	close(ready)
	receive(t, srv.arrived, "the first request")
	receive(t, srv.arrived, "the second request")
	if got := src.ReadyState(); got != eventsource.StateConnecting {
		t.Errorf("got state %v while the second request is unanswered, want connecting", got)
	}
	src.Close()
	d.told(t, 0)
}

// TestSource_ReconnectCountsOnce checks that one that has been fulfilled does not
// cut a later wait short.
func TestSource_ReconnectCountsOnce(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *script, c *http.Client) {
		d := newDiary()
		src := open(t, memURL, d.keep(&eventsource.Options{HTTPClient: c, StrictSpec: true, ReconnectionTime: time.Hour}))
		d.want(t, "open")
		src.Reconnect()
		d.want(t, "open", "message one", "error 0")
		<-src.Done()
		if got, want := gaps(s.wantCalls(t, 3)), []time.Duration{0, time.Hour}; !slices.Equal(got, want) {
			t.Errorf("got waits %v, want %v", got, want)
		}
	}, hold(""), events("data: one\n\n"), stop)
}

// TestSource_ReconnectOften is for the race detector, and for a wake-up that is
// left over: in the end the source must be as it would be without.
func TestSource_ReconnectOften(t *testing.T) {
	t.Parallel()
	srv := newServer(t, hold("data: x\n\n"))
	messages := make(chan struct{}, 1000)
	src := open(t, srv.URL, &eventsource.Options{
		ReconnectionTime: time.Hour,
		OnMessage:        func(eventsource.MessageEvent) { messages <- struct{}{} },
		OnError:          func(ev eventsource.ErrorEvent) { t.Errorf("OnError was told of %v", ev.Err) },
	})
	for range 100 {
		src.Reconnect()
	}
	for range 20 {
		receive(t, messages, "an event")
		src.Reconnect()
	}
	src.Close()
}
