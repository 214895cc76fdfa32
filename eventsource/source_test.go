package eventsource_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/sse"
)

// TestOpen_RefusesWhatNoAttemptCouldMend checks that a mistake is told at once.
// Stream tells the same as its only pair.
func TestOpen_RefusesWhatNoAttemptCouldMend(t *testing.T) {
	t.Parallel()
	const good = "http://127.0.0.1:1/"
	tests := []struct {
		name string
		url  string
		opts *eventsource.Options
	}{
		{"empty URL", "", nil},
		{"relative URL", "/x", nil},
		{"URL without a scheme", "example.com/x", nil},
		{"host and port only", "127.0.0.1:80", nil},
		{"scheme-relative URL", "//example.com/x", nil},
		{"other scheme", "ftp://x", nil},
		{"no host", "http://", nil},
		{"no host, with a path", "http:///x", nil},
		{"opaque URL", "http:x", nil},
		{"space in the host", "http://a b/", nil},
		{"control character in the URL", "http://x/\x7F", nil},
		{"bad port", "http://x:y/", nil},
		{"bad escape", "http://x/%zz", nil},
		{"bad method", good, &eventsource.Options{Method: "GE T"}},
		{"id with a line break", good, &eventsource.Options{LastEventID: "1\nX-Injected: 2"}},
		{"id with NUL", good, &eventsource.Options{LastEventID: "1\x00"}},
		{"id with DEL", good, &eventsource.Options{LastEventID: "\x7F"}},
		{"id with a line break in the header", good, &eventsource.Options{Header: http.Header{"Last-Event-Id": {"1\r2"}}}},
		{"id with a line break, NewRequest", "", &eventsource.Options{LastEventID: "1\n2", NewRequest: newRequest("GET", good, new(strings.Reader))}},
		{"header with a line break", good, &eventsource.Options{Header: http.Header{"X-A": {"fine", "1\r\nX-Injected: 2"}}}},
		{"header with NUL", good, &eventsource.Options{Header: http.Header{"X-A": {"\x00"}}}},
		{"header name with a space", good, &eventsource.Options{Header: http.Header{"X A": {"1"}}}},
		{"header name with a colon", good, &eventsource.Options{Header: http.Header{"X:": {"1"}}}},
		{"header without a name", good, &eventsource.Options{Header: http.Header{"": {"1"}}}},
		{"bad URL with NewRequest", "/x", &eventsource.Options{NewRequest: newRequest("GET", good, new(strings.Reader))}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			opts := eventsource.Options{}
			if tt.opts != nil {
				opts = *tt.opts
			}
			opts.OnError = func(ev eventsource.ErrorEvent) { t.Errorf("OnError was told of %v", ev.Err) }
			src, err := eventsource.Open(t.Context(), tt.url, &opts)
			if err == nil {
				src.Close()
				t.Fatal("got no error from Open, want one")
			}
			if src != nil {
				t.Error("got a source with the error, want nil")
			}
			if !strings.HasPrefix(err.Error(), "eventsource: ") {
				t.Errorf("got %q, want a message that names the package", err)
			}
			_, streamErr := collect(t, eventsource.Stream(t.Context(), tt.url, &opts))
			if streamErr == nil || streamErr.Error() != err.Error() {
				t.Errorf("got %v from Stream, want what Open said: %v", streamErr, err)
			}
		})
	}
}

func TestOpen_Takes(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{
		"upper-case scheme": "HTTP://127.0.0.1:1/",
		"https":             "https://127.0.0.1:1/",
		"no path":           "http://127.0.0.1:1",
		"IPv6":              "http://[::1]:1/",
		"user":              "http://user:secret@127.0.0.1:1/",
	} {
		src, err := eventsource.Open(t.Context(), url, nil)
		if err != nil {
			t.Errorf("%s: got error %v, want none", name, err)
			continue
		}
		if src.URL() != url {
			t.Errorf("got URL %q, want %q", src.URL(), url)
		}
		src.Close()
	}
}

// TestSource_ReadyState reads the state in each callback, from the outside before
// any, and at the end.
func TestSource_ReadyState(t *testing.T) {
	t.Parallel()
	proceed := make(chan struct{})
	srv := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		<-proceed
		events(": c\ndata: one\n\n")(w, r)
	}, events("data: two\n\n"), answer(500, ""), stop)

	d := newDiary()
	opts := quick()
	var src *eventsource.Source
	ready := make(chan struct{}) // src is set
	opts.NewRequest = func(ctx context.Context, a eventsource.Attempt) (*http.Request, error) {
		<-ready
		d.note("request %d: %d", a.Number, src.ReadyState())
		return http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
	}
	opts.Retry = func(_ eventsource.Attempt, delay time.Duration, again bool) (time.Duration, bool) {
		return delay, again
	}
	opts.OnComment = func(string) { d.note("comment: %d", src.ReadyState()) }
	opts.OnOpen = func(ev eventsource.OpenEvent) { d.note("open: %d", ev.Target.ReadyState()) }
	opts.OnMessage = func(ev eventsource.MessageEvent) { d.note("message %s: %d", ev.Data, ev.Target.ReadyState()) }
	opts.OnError = func(ev eventsource.ErrorEvent) {
		if got := ev.Target.ReadyState(); got != ev.State {
			t.Errorf("got state %v in OnError, want what it is told: %v", got, ev.State)
		}
		d.note("error: %d", ev.State)
	}
	src = open(t, srv.URL, opts)
	if got := src.ReadyState(); got != eventsource.StateConnecting {
		t.Errorf("got state %v after Open, want connecting", got)
	}
	close(ready)
	d.want(t, "request 1: 0")
	receive(t, srv.arrived, "the request")
	if got := src.ReadyState(); got != eventsource.StateConnecting {
		t.Errorf("got state %v before the answer, want connecting", got)
	}
	close(proceed)
	d.want(t,
		"open: 1", "comment: 1", "message one: 1", "error: 0",
		"request 2: 0", "open: 1", "message two: 1", "error: 0",
		"request 3: 0", "error: 0",
		"request 4: 0", "error: 2")
	wantDone(t, src, eventsource.ErrNoContent)
	d.wantNoMore(t)
}

func TestState_String(t *testing.T) {
	t.Parallel()
	for state, want := range map[eventsource.State]string{0: "connecting", 1: "open", 2: "closed", 3: "State(3)", -1: "State(-1)"} {
		if got := state.String(); got != want {
			t.Errorf("got %q for %d, want %q", got, int(state), want)
		}
	}
}

// TestSource_OpenComesWithTheHeaders checks that a stream counts as open before
// there is a byte of it.
func TestSource_OpenComesWithTheHeaders(t *testing.T) {
	t.Parallel()
	more := make(chan struct{})
	srv := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Stream", "yes")
		begin(w, "")
		<-more
		begin(w, "data: one\n\n")
		<-r.Context().Done()
	})
	d := newDiary()
	opts := d.keep(&eventsource.Options{})
	opts.OnOpen = func(ev eventsource.OpenEvent) {
		d.note("open %d %s", ev.Response.StatusCode, ev.Response.Header.Get("X-Stream"))
	}
	src := open(t, srv.URL, opts)
	d.want(t, "open 200 yes")
	if got := src.ReadyState(); got != eventsource.StateOpen {
		t.Errorf("got state %v, want open", got)
	}
	close(more)
	d.want(t, "message one")
}

// TestSource_ListenersByType checks who gets what. The types open, error, close
// and message are names like any other.
func TestSource_ListenersByType(t *testing.T) {
	t.Parallel()
	srv := newServer(t, events(""+
		"data: 1\n\n"+
		"event: message\ndata: 2\n\n"+
		"event: open\ndata: 3\n\n"+
		"event: error\ndata: 4\n\n"+
		"event: close\ndata: 5\n\n"+
		"event: add\ndata: 6\n\n"+
		"event: Add\ndata: 7\n\n"+
		"event: nobody\ndata: 8\n\n"+
		"event:\ndata: 9\n\n"), stop)
	d := newDiary()
	opts := d.keep(quick())
	opts.Listeners = map[string]func(eventsource.MessageEvent){"": func(ev eventsource.MessageEvent) { d.note("empty %s", ev.Data) }}
	for _, typ := range []string{"open", "error", "close", "add"} {
		opts.Listeners[typ] = func(ev eventsource.MessageEvent) { d.note("listener %s got %s %s", typ, ev.Type, ev.Data) }
	}
	src := open(t, srv.URL, opts)
	wantDone(t, src, eventsource.ErrNoContent)
	d.want(t, "open", "message 1", "message 2",
		"listener open got open 3", "listener error got error 4", "listener close got close 5",
		"listener add got add 6", "message 9", "error 0", "error 2")
	d.wantNoMore(t)
}

func TestSource_MessageEvent(t *testing.T) {
	t.Parallel()
	srv := newServer(t, events("id: 1\nevent: add\nretry: 15\ndata: a\ndata: b\n\ndata: c\n\n"), stop)
	got := make(chan eventsource.MessageEvent, 2)
	opts := quick()
	opts.OnMessage = func(ev eventsource.MessageEvent) { got <- ev }
	opts.Listeners = map[string]func(eventsource.MessageEvent){"add": opts.OnMessage}
	src := open(t, srv.URL+"/path?query", opts)
	for _, want := range []sse.Event{
		{ID: "1", Type: "add", Data: "a\nb", Retry: 15 * time.Millisecond},
		{ID: "1", Type: "message", Data: "c"},
	} {
		ev := receive(t, got, "an event")
		if ev.Event != want {
			t.Errorf("got %+v, want %+v", ev.Event, want)
		}
		if ev.Origin != srv.URL || ev.Target != src {
			t.Errorf("got origin %q and target %p, want %q and %p", ev.Origin, ev.Target, srv.URL, src)
		}
	}
	wantDone(t, src, eventsource.ErrNoContent)
}

// TestSource_Origin checks how an origin is written: lower case, and without a
// port that goes without saying.
func TestSource_Origin(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"http://Example.COM/x?y":       "http://example.com",
		"http://example.com:80/":       "http://example.com",
		"http://example.com:8080/":     "http://example.com:8080",
		"http://example.com:443/":      "http://example.com:443",
		"HTTP://user:pw@example.com/":  "http://example.com",
		"http://[::1]/":                "http://[::1]",
		"http://[2001:DB8::1]:8080/#x": "http://[2001:db8::1]:8080",
	} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, _ *script, c *http.Client) {
				got, err := collect(t, eventsource.Stream(t.Context(), url, &eventsource.Options{HTTPClient: c}))
				if err != nil || len(got) != 1 {
					t.Fatalf("got %d events and error %v, want one event", len(got), err)
				}
				if got[0].Origin != want {
					t.Errorf("got origin %q, want %q", got[0].Origin, want)
				}
				if got[0].Target != nil {
					t.Error("got a target in Stream, want nil")
				}
			}, events("data: x\n\n"), stop)
		})
	}
}

func TestSource_ListenersOfOneTypeAreCalledInOrder(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	srv := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		<-begun
		events("data: x\n\n")(w, r)
	}, stop)
	d := newDiary()
	src := open(t, srv.URL, d.keep(quick()))
	for i := range 5 {
		src.AddEventListener("message", func(eventsource.MessageEvent) { d.note("listener %d", i) })
	}
	close(begun)
	d.want(t, "open", "message x", "listener 0", "listener 1", "listener 2", "listener 3", "listener 4", "error 0", "error 2")
	wantDone(t, src, eventsource.ErrNoContent)
}

// TestSource_ListenersChangeWhileAnEventIsDelivered has listeners that remove
// themselves and each other, and add more: one that is removed is not called any
// more, one that is added is called from the next event on.
func TestSource_ListenersChangeWhileAnEventIsDelivered(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	srv := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		<-begun
		events("event: x\ndata: 1\n\nevent: x\ndata: 2\n\nevent: x\ndata: 3\n\n")(w, r)
	}, stop)
	d := newDiary()
	src := open(t, srv.URL, quick())
	var removeA, removeC, removeD func()
	removeA = src.AddEventListener("x", func(ev eventsource.MessageEvent) {
		d.note("a %s", ev.Data)
		removeA()
		removeC()
		src.AddEventListener("x", func(ev eventsource.MessageEvent) { d.note("e %s", ev.Data) })
	})
	src.AddEventListener("x", func(ev eventsource.MessageEvent) {
		d.note("b %s", ev.Data)
		if ev.Data == "2" {
			removeD()
			removeD() // a second time it does nothing
		}
	})
	removeC = src.AddEventListener("x", func(ev eventsource.MessageEvent) { d.note("c %s", ev.Data) })
	removeD = src.AddEventListener("x", func(ev eventsource.MessageEvent) { d.note("d %s", ev.Data) })
	close(begun)
	d.want(t, "a 1", "b 1", "d 1", "b 2", "e 2", "b 3", "e 3")
	wantDone(t, src, eventsource.ErrNoContent)
	d.wantNoMore(t)
}

// TestSource_OneFunctionTwice adds the same function twice: each registration has
// its own remove.
func TestSource_OneFunctionTwice(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	srv := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		<-begun
		events("event: x\ndata: 1\n\n")(w, r)
	}, stop)
	d := newDiary()
	src := open(t, srv.URL, quick())
	fn := func(ev eventsource.MessageEvent) { d.note("called") }
	remove := src.AddEventListener("x", fn)
	src.AddEventListener("x", fn)
	remove()
	close(begun)
	wantDone(t, src, eventsource.ErrNoContent)
	d.want(t, "called")
	d.wantNoMore(t)
}

// TestSource_ListenersChangeFromOtherGoroutines is for the race detector.
func TestSource_ListenersChangeFromOtherGoroutines(t *testing.T) {
	t.Parallel()
	srv := newServer(t, events(strings.Repeat("data: x\n\n", 1000)), stop)
	src := open(t, srv.URL, quick())
	for i := 0; ; i++ {
		remove := src.AddEventListener("message", func(eventsource.MessageEvent) {})
		_ = src.LastEventID() + src.ReadyState().String() + src.URL()
		_ = src.Err()
		remove()
		select {
		case <-src.Done():
			return
		default:
		}
	}
}

func TestSource_Comments(t *testing.T) {
	t.Parallel()
	srv := newServer(t, events(": one\n:two\r\n:\ndata: x\n:three: 3\n\n: cut o"), stop)
	d := newDiary()
	opts := d.keep(quick())
	opts.OnComment = func(text string) { d.note("comment %q", text) }
	src := open(t, srv.URL, opts)
	wantDone(t, src, eventsource.ErrNoContent)
	d.want(t, "open", `comment " one"`, `comment "two"`, `comment ""`, `comment "three: 3"`, "message x", "error 0", "error 2")
	d.wantNoMore(t)
}

// TestSource_LastEventID reads it where an application would: before any event, in
// a callback, between connections.
func TestSource_LastEventID(t *testing.T) {
	t.Parallel()
	srv := newServer(t, events("data: x\n\nid: 1\ndata: x\n\ndata: x\n\nevent: nobody\nid: 2\ndata: x\n\n"), events("id\ndata: x\n\n"), stop)
	d := newDiary()
	opts := quick()
	opts.LastEventID = "0"
	opts.OnOpen = func(ev eventsource.OpenEvent) { d.note("open %q", ev.Target.LastEventID()) }
	opts.OnMessage = func(ev eventsource.MessageEvent) { d.note("message %q", ev.Target.LastEventID()) }
	opts.OnError = func(ev eventsource.ErrorEvent) { d.note("error %q", ev.Target.LastEventID()) }
	src := open(t, srv.URL, opts)
	d.want(t, `open "0"`, `message "0"`, `message "1"`, `message "1"`, `error "2"`, `open "2"`, `message ""`, `error ""`, `error ""`)
	wantDone(t, src, eventsource.ErrNoContent)
	if got := src.LastEventID(); got != "" {
		t.Errorf("got LastEventID %q, want none", got)
	}
}

// TestSource_LastEventIDOfABlockWithoutData has a server that tells where the client
// stands and has no event for it, in the ways in which a stream can go on from there.
func TestSource_LastEventIDOfABlockWithoutData(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       string
	}{
		{"alone", "id: 9\n\n", "9"},
		{"after retry", "retry: 10\nid: 9\n\n", "9"},
		{"after an event", "id: 1\ndata: x\n\nid: 9\n\n", "9"},
		{"with a type", "id: 1\ndata: x\n\nevent: t\nid: 9\n\n", "9"},
		{"empty", "id: 1\ndata: x\n\nid\n\n", ""},
		{"before an event without one", "id: 9\n\ndata: x\n\n", "9"},
		{"before half an event", "id: 9\n\nid: 10\ndata: x\n", "9"},
		{"not finished", "id: 1\ndata: x\n\nid: 9\n", "1"},
	}
	for _, strict := range []bool{false, true} {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s/strict=%t", tt.name, strict), func(t *testing.T) {
				bubble(t, func(t *testing.T, s *script, c *http.Client) {
					src := open(t, memURL, &eventsource.Options{HTTPClient: c, StrictSpec: strict})
					defer src.Close()
					synctest.Wait()
					if got := src.LastEventID(); got != tt.want {
						t.Errorf("while the stream is open: got %q, want %q", got, tt.want)
					}
					src.Reconnect()
					synctest.Wait()
					if got := src.LastEventID(); got != tt.want {
						t.Errorf("when it is over: got %q, want %q", got, tt.want)
					}
					if got, _ := s.wantCalls(t, 2)[1].id(); got != tt.want {
						t.Errorf("got Last-Event-ID %q, want %q", got, tt.want)
					}
				}, hold(tt.text), silence)
				bubble(t, func(t *testing.T, _ *script, c *http.Client) {
					src := open(t, memURL, &eventsource.Options{HTTPClient: c, StrictSpec: strict})
					defer src.Close()
					time.Sleep(time.Hour) // synctest's
					if got := src.LastEventID(); got != tt.want {
						t.Errorf("of a stream that ended at once: got %q, want %q", got, tt.want)
					}
				}, events(tt.text), silence)
			})
		}
	}
}

// TestSource_LastEventIDFromTheHeader gives the first id in the way that
// Options.Header allows for.
func TestSource_LastEventIDFromTheHeader(t *testing.T) {
	t.Parallel()
	srv := newServer(t, silence)
	src := open(t, srv.URL, &eventsource.Options{Header: http.Header{"Last-Event-Id": {"7"}}})
	if got := src.LastEventID(); got != "7" {
		t.Errorf("got LastEventID %q, want 7", got)
	}
}

// TestSource_LastEventIDIsOfAnEventThatWasDelivered closes a source while further
// events lie in its buffer. Whoever resumes from LastEventID must get those.
func TestSource_LastEventIDIsOfAnEventThatWasDelivered(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"Close", "context"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, hold("id: 1\ndata: x\n\nid: 2\ndata: x\n\nid: 3\ndata: x\n\n"))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var last string
			src, err := eventsource.Open(ctx, srv.URL, &eventsource.Options{OnMessage: func(ev eventsource.MessageEvent) {
				last = ev.ID
				if how == "Close" {
					ev.Target.Close()
				} else {
					cancel()
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			wantDone(t, src, nil)
			if last != "1" {
				t.Errorf("got events up to %q, want the first only", last)
			}
			if got := src.LastEventID(); got != last {
				t.Errorf("got LastEventID %q, want that of the last event that was delivered, %q", got, last)
			}
		})
	}
}

// TestSource_LastEventIDWhenClosedFromOutside is the same at any point of a stream in
// full flow: also between the moment that an event is taken and its callback.
func TestSource_LastEventIDWhenClosedFromOutside(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "id: %d\ndata: x\n\n", i)
	}
	srv := newServer(t, hold(text.String()))
	for way, end := range ways {
		for range 40 {
			ctx, cancel := context.WithCancel(t.Context())
			var last string
			begun := make(chan struct{})
			src, err := eventsource.Open(ctx, srv.URL, &eventsource.Options{OnMessage: func(ev eventsource.MessageEvent) {
				if last == "" {
					close(begun)
				}
				last = ev.ID
			}})
			if err != nil {
				t.Fatal(err)
			}
			receive(t, begun, "the first event")
			end(src, cancel)
			wantDone(t, src, nil)
			cancel()
			if got := src.LastEventID(); got != last {
				t.Fatalf("%s: got LastEventID %q, want that of the last event that was delivered, %q", way, got, last)
			}
		}
	}
}

// TestSource_Err follows it from the beginning to each end.
func TestSource_Err(t *testing.T) {
	t.Parallel()

	t.Run("closed", func(t *testing.T) {
		t.Parallel()
		srv := newServer(t, hold("data: x\n\n"))
		d := newDiary()
		src := open(t, srv.URL, d.keep(quick()))
		d.want(t, "open", "message x")
		if err := src.Err(); err != nil {
			t.Errorf("got Err %v while open, want nil", err)
		}
		src.Close()
		wantDone(t, src, nil)
	})

	t.Run("closed while waiting after an error", func(t *testing.T) {
		t.Parallel()
		srv := newServer(t, answer(503, ""))
		d := newDiary()
		src := open(t, srv.URL, d.keep(&eventsource.Options{ReconnectionTime: time.Hour}))
		d.want(t, "error 0")
		if err := src.Err(); err != nil {
			t.Errorf("got Err %v while waiting, want nil", err)
		}
		src.Close()
		wantDone(t, src, nil)
	})

	t.Run("end of the context", func(t *testing.T) {
		t.Parallel()
		srv := newServer(t, hold(""))
		ctx, cancel := context.WithCancelCause(t.Context())
		d := newDiary()
		src, err := eventsource.Open(ctx, srv.URL, d.keep(quick()))
		if err != nil {
			t.Fatal(err)
		}
		d.want(t, "open")
		cancel(errors.New("mine"))
		wantDone(t, src, nil)
		d.wantNoMore(t)
	})

	t.Run("closed after a final error", func(t *testing.T) {
		t.Parallel()
		srv := newServer(t, answer(404, ""))
		src := open(t, srv.URL, nil)
		receive(t, src.Done(), "the end")
		src.Close()
		var e *eventsource.StatusError
		if !errors.As(src.Err(), &e) {
			t.Errorf("got Err %v, want the *StatusError still", src.Err())
		}
	})
}

// TestSource_CallbacksComeOneAtATime lets them overlap if they could.
func TestSource_CallbacksComeOneAtATime(t *testing.T) {
	t.Parallel()
	srv := newServer(t, events(strings.Repeat(": c\ndata: x\n\nevent: y\ndata: y\n\n", 20)), events(": c\ndata: x\n\n"), answer(503, ""), stop)
	var running, calls int // not atomic: the race detector is to see them
	guard := func() func() {
		if running++; running != 1 {
			t.Errorf("got %d callbacks at a time, want 1", running)
		}
		calls++
		return func() { running-- }
	}
	src := open(t, srv.URL, &eventsource.Options{
		NewRequest: func(ctx context.Context, _ eventsource.Attempt) (*http.Request, error) {
			defer guard()()
			return http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
		},
		Retry: func(_ eventsource.Attempt, _ time.Duration, again bool) (time.Duration, bool) {
			defer guard()()
			return 0, again
		},
		OnOpen:    func(eventsource.OpenEvent) { defer guard()() },
		OnError:   func(eventsource.ErrorEvent) { defer guard()() },
		OnComment: func(string) { defer guard()() },
		OnMessage: func(eventsource.MessageEvent) { defer guard()() },
		Listeners: map[string]func(eventsource.MessageEvent){"y": func(eventsource.MessageEvent) { defer guard()() }},
	})
	wantDone(t, src, eventsource.ErrNoContent)
	// 4 requests, 3 retries, 2 opens, 4 errors, 21 comments, 21 messages, 20 of type y.
	if want := 4 + 3 + 2 + 4 + 21 + 21 + 20; calls != want {
		t.Errorf("got %d calls, want %d", calls, want)
	}
}

// TestSource_BothListenersAndOnMessage gives Options two for the same type.
func TestSource_BothListenersAndOnMessage(t *testing.T) {
	t.Parallel()
	srv := newServer(t, events("data: x\n\n"), stop)
	d := newDiary()
	opts := quick()
	opts.OnMessage = func(ev eventsource.MessageEvent) { d.note("OnMessage") }
	opts.Listeners = map[string]func(eventsource.MessageEvent){"message": func(eventsource.MessageEvent) { d.note("listener") }}
	wantDone(t, open(t, srv.URL, opts), eventsource.ErrNoContent)
	d.want(t, "OnMessage", "listener")
}

func TestSource_ManyAtOnce(t *testing.T) {
	t.Parallel()
	srv := newServer(t, hold("data: x\n\n"))
	d := newDiary()
	for range 50 {
		open(t, srv.URL, &eventsource.Options{OnMessage: func(ev eventsource.MessageEvent) { d.note("message %s", ev.Data) }})
	}
	for i := range 50 {
		if got := receive(t, d.lines, fmt.Sprint("event ", i)); got != "message x" {
			t.Errorf("got %q, want the event", got)
		}
	}
}
