package eventsource_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/eventsource"
)

func TestStream_Request(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		opts   eventsource.Options
		method string
		body   string
		header map[string]string // "-": absent
	}{
		{"default", eventsource.Options{}, "GET", "", map[string]string{
			"Accept": "text/event-stream", "Cache-Control": "no-cache", "Last-Event-ID": "-",
			"If-None-Match": "-", "If-Modified-Since": "-", "Range": "-", "Referer": "-", "Content-Length": "-",
		}},
		{"id to resume after", eventsource.Options{LastEventID: "x/1"}, "GET", "", map[string]string{"Last-Event-ID": "x/1"}},
		{"id to resume after as a header", eventsource.Options{Header: http.Header{"Last-Event-Id": {"h"}}}, "GET", "",
			map[string]string{"Last-Event-ID": "h"}},
		{"the option goes before the header", eventsource.Options{LastEventID: "o", Header: http.Header{"Last-Event-Id": {"h"}}}, "GET", "",
			map[string]string{"Last-Event-ID": "o"}},
		{"own headers", eventsource.Options{Header: http.Header{
			"Accept": {"text/event-stream, */*"}, "Cache-Control": {"no-store"}, "Authorization": {"Bearer x"},
		}}, "GET", "", map[string]string{
			"Accept": "text/event-stream, */*", "Cache-Control": "no-store", "Authorization": "Bearer x",
		}},
		{"own method and body", eventsource.Options{Method: "POST", Body: []byte("question"), Header: http.Header{"Content-Type": {"text/plain"}}},
			"POST", "question", map[string]string{
				"Accept": "text/event-stream", "Cache-Control": "no-cache", "Content-Type": "text/plain", "Content-Length": "8",
			}},
		{"GET with a body", eventsource.Options{Body: []byte("query")}, "GET", "query", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, stop)
			if _, err := collect(t, eventsource.Stream(bounded(t), srv.URL+"/a/b?c=d", &tt.opts)); err != nil {
				t.Fatal(err)
			}
			got := srv.wantCalls(t, 1)[0]
			if got.Method != tt.method || got.URI != "/a/b?c=d" || got.Body != tt.body {
				t.Errorf("got %s %s with body %q, want %s /a/b?c=d with %q", got.Method, got.URI, got.Body, tt.method, tt.body)
			}
			for key, want := range tt.header {
				v, ok := got.Header[http.CanonicalHeaderKey(key)]
				if value := strings.Join(v, " and "); ok != (want != "-") || ok && value != want {
					t.Errorf("got %s %q, want %q", key, v, want)
				}
			}
		})
	}
}

func TestStream_HostHeader(t *testing.T) {
	t.Parallel()
	var host string
	srv := newServer(t, func(w http.ResponseWriter, r *http.Request) { host = r.Host; stop(w, r) })
	opts := &eventsource.Options{Header: http.Header{"Host": {"virtual.example"}}}
	if _, err := collect(t, eventsource.Stream(bounded(t), srv.URL, opts)); err != nil {
		t.Fatal(err)
	}
	if host != "virtual.example" {
		t.Errorf("got Host %q, want virtual.example", host)
	}
}

// TestStream_LastEventIDOnReconnection checks what a reconnection says: the id of
// the last finished block, in its own bytes, with an event or without.
func TestStream_LastEventIDOnReconnection(t *testing.T) {
	t.Parallel()
	const absent = "-"
	tests := []struct {
		name  string
		first string
		want  string
	}{
		{"none", "data: x\n\n", absent},
		{"ASCII", "id: 1\ndata: x\n\n", "1"},
		{"UTF-8", "id: \u03B1\U0001F600 a,b%<>\"\ndata: x\n\n", "\u03B1\U0001F600 a,b%<>\""},
		{"malformed UTF-8", "id: a\xFFb\ndata: x\n\n", "a\uFFFDb"},
		{"kept", "id: 1\ndata: x\n\ndata: y\n\n", "1"},
		{"replaced", "id: 1\ndata: x\n\nid: 2\ndata: y\n\n", "2"},
		{"reset", "id: 1\ndata: x\n\nid\ndata: y\n\n", absent},
		{"without an event", "id: 1\ndata: x\n\nid: 2\n\n", "2"},
		{"reset without an event", "id: 1\ndata: x\n\nid:\n\n", absent},
		{"in an unfinished block", "id: 1\ndata: x\n\nid: 2\ndata: y\n", "1"},
		{"with NUL", "id: 1\ndata: x\n\nid: 2\x002\ndata: y\n\n", "1"},
		{"with a tab", "id: 1\t2\ndata: x\n\n", "1\t2"},
		{"spaces around", "id:  1 \ndata: x\n\n", "1"}, // HTTP trims them
		{"long", "id: " + strings.Repeat("x", 100_000) + "\ndata: x\n\n", strings.Repeat("x", 100_000)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, events(tt.first), stop)
			if _, err := collect(t, eventsource.Stream(bounded(t), srv.URL, quick())); err != nil {
				t.Fatal(err)
			}
			got, ok := srv.wantCalls(t, 2)[1].id()
			if !ok {
				got = absent
			}
			if got != tt.want {
				t.Errorf("got Last-Event-ID %.100q, want %.100q", got, tt.want)
			}
		})
	}
}

// TestStream_InitialIDIsReplaced checks that the id that a stream began with does
// not come back, however it was given.
func TestStream_InitialIDIsReplaced(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]*eventsource.Options{
		"option": {LastEventID: "0", ReconnectionTime: -1, MaxDelay: 1},
		"header": {Header: http.Header{"Last-Event-Id": {"0"}}, ReconnectionTime: -1, MaxDelay: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, events("data: x\n\n"), events("id: 1\ndata: y\n\n"), events("id\ndata: z\n\n"), stop)
			got, err := collect(t, eventsource.Stream(bounded(t), srv.URL, opts))
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, ev := range got {
				ids = append(ids, ev.ID)
			}
			wantStrings(t, "events' ids", ids, "0", "1", "")
			var sent []string
			for _, c := range srv.wantCalls(t, 4) {
				id, ok := c.id()
				sent = append(sent, fmt.Sprint(id, " ", ok))
			}
			wantStrings(t, "ids sent", sent, "0 true", "0 true", "1 true", " false")
		})
	}
}

// TestStream_IDThatNoHeaderCanCarry checks that the client says so rather than
// resuming from somewhere else.
func TestStream_IDThatNoHeaderCanCarry(t *testing.T) {
	t.Parallel()
	srv := newServer(t, events("id: a\x1Bb\ndata: x\n\n"), stop)
	d := newDiary()
	got, err := collect(t, eventsource.Stream(bounded(t), srv.URL, d.keep(quick())))
	wantStrings(t, "data", data(got), "x")
	if err == nil || !strings.Contains(err.Error(), `"a\x1bb"`) || !strings.Contains(err.Error(), "0x1B") {
		t.Errorf("got error %v, want one with the id and the byte", err)
	}
	d.want(t, "open", "error 0", "error 2")
	srv.wantCalls(t, 1)
}

// TestStream_OptionsAreCopied changes the header while the stream runs.
func TestStream_OptionsAreCopied(t *testing.T) {
	t.Parallel()
	srv := newServer(t, events("data: x\n\n"), stop)
	opts := quick()
	opts.Header = http.Header{"X-Mine": {"before"}, "Last-Event-Id": {"0"}}
	opts.OnOpen = func(eventsource.OpenEvent) { opts.Header.Set("X-Mine", "after") }
	if _, err := collect(t, eventsource.Stream(bounded(t), srv.URL, opts)); err != nil {
		t.Fatal(err)
	}
	for _, c := range srv.wantCalls(t, 2) {
		if got := c.Header.Get("X-Mine"); got != "before" {
			t.Errorf("got X-Mine %q, want before", got)
		}
	}
	if got := opts.Header.Get("Last-Event-ID"); got != "0" {
		t.Errorf("got Last-Event-ID %q in the caller's own header, want it left alone", got)
	}
}

// TestStream_NewRequest follows what it is told over five attempts: an event, an
// error of its own, a status that is retried, a stream without events, a 204.
func TestStream_NewRequest(t *testing.T) {
	t.Parallel()
	srv := newServer(t, events("retry: 20\nid: 1\ndata: x\n\n"), answer(503, ""), events("id: 2\n\n"), stop)
	mine := errors.New("no token")
	var attempts []eventsource.Attempt
	opts := quick()
	opts.MaxDelay = time.Hour // a stream that is open for as long starts afresh
	d := newDiary()
	d.keep(opts)
	opts.LastEventID = "0"
	opts.Header = http.Header{"X-Ignored": {"x"}}
	opts.NewRequest = func(ctx context.Context, a eventsource.Attempt) (*http.Request, error) {
		attempts = append(attempts, a)
		if a.Number == 2 {
			return nil, fmt.Errorf("ask for one: %w", mine)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/%d", srv.URL, a.Number), nil)
		if err == nil {
			req.Header.Set("Authorization", fmt.Sprint("token ", a.Number))
		}
		return req, err
	}
	// The URL need not be given.
	if _, err := collect(t, eventsource.Stream(bounded(t), "", opts)); err != nil {
		t.Fatal(err)
	}

	var got []string
	for _, a := range attempts {
		got = append(got, fmt.Sprintf("%d, %d failures, id %q, %v", a.Number, a.Failures, a.LastEventID, a.ReconnectionTime))
	}
	wantStrings(t, "attempts", got,
		`1, 0 failures, id "0", 10ms`,
		`2, 1 failures, id "1", 20ms`,
		`3, 2 failures, id "1", 20ms`,
		`4, 3 failures, id "1", 20ms`,
		`5, 4 failures, id "2", 20ms`)

	told := d.told(t, 5)
	if attempts[0].Err != nil {
		t.Errorf("got Err %v in the first attempt, want nil", attempts[0].Err)
	}
	for i, a := range attempts[1:] {
		if a.Err == nil || a.Err != told[i].Err {
			t.Errorf("got Err %v in attempt %d, want what OnError was told: %v", a.Err, a.Number, told[i].Err)
		}
	}
	if !errors.Is(told[1].Err, mine) || told[1].State != eventsource.StateConnecting {
		t.Errorf("got %v and state %v, want NewRequest's own error and connecting", told[1].Err, told[1].State)
	}
	d.want(t, "open", "error 0", "error 0", "error 0", "open", "error 0", "error 2")

	var sent []string
	for _, c := range srv.seen() {
		id, _ := c.id()
		sent = append(sent, fmt.Sprint(c.URI, " ", c.Header.Get("Authorization"), " id ", id))
		if c.Header.Get("Accept") != "text/event-stream" || c.Header.Get("Cache-Control") != "no-cache" || c.Header.Get("X-Ignored") != "" {
			t.Errorf("got headers %v, want Accept and Cache-Control, and none of the option's", c.Header)
		}
	}
	wantStrings(t, "requests", sent, "/1 token 1 id 0", "/3 token 3 id 1", "/4 token 4 id 1", "/5 token 5 id 2")
}

// TestStream_NewRequestKeepsItsOwnHeaders checks that what it has set goes first.
func TestStream_NewRequestKeepsItsOwnHeaders(t *testing.T) {
	t.Parallel()
	srv := newServer(t, stop)
	opts := &eventsource.Options{LastEventID: "7", NewRequest: func(ctx context.Context, _ eventsource.Attempt) (*http.Request, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
		if err == nil {
			req.Header = http.Header{"Accept": {"a/b"}, "Cache-Control": {"c"}, "Last-Event-Id": {"d"}}
		}
		return req, err
	}}
	if _, err := collect(t, eventsource.Stream(bounded(t), srv.URL, opts)); err != nil {
		t.Fatal(err)
	}
	h := srv.wantCalls(t, 1)[0].Header
	wantStrings(t, "headers", []string{h.Get("Accept"), h.Get("Cache-Control"), h.Get("Last-Event-ID")}, "a/b", "c", "d")
}

// TestStream_NewRequestMayBeASparseOne has a request that net/http's client takes:
// no header map, no method, and no context.
func TestStream_NewRequestMayBeASparseOne(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(bounded(t))
	srv := newServer(t, events("data: one\n\n"), func(w http.ResponseWriter, r *http.Request) {
		cancel() // which must reach the request
		silence(w, r)
	})
	base, err := http.NewRequest(http.MethodGet, srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	opts := quick()
	opts.NewRequest = func(context.Context, eventsource.Attempt) (*http.Request, error) {
		return &http.Request{URL: base.URL}, nil
	}
	defer func() {
		if v := recover(); v != nil {
			t.Errorf("got panic %v, want none", v)
		}
	}()
	got, err := collect(t, eventsource.Stream(ctx, srv.URL, opts))
	wantStrings(t, "data", data(got), "one")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
}

// TestStream_NilRequest has a NewRequest that forgets to tell of its failure.
func TestStream_NilRequest(t *testing.T) {
	t.Parallel()
	defer func() {
		if v := recover(); v != nil {
			t.Errorf("got panic %v, want an error", v)
		}
	}()
	_, err := collect(t, eventsource.Stream(bounded(t), "", &eventsource.Options{
		NewRequest: func(context.Context, eventsource.Attempt) (*http.Request, error) { return nil, nil },
		Retry:      func(eventsource.Attempt, time.Duration, bool) (time.Duration, bool) { return 0, false },
	}))
	if err == nil {
		t.Error("got no error, want one")
	}
}

// newRequest returns a hook that makes the same request each time.
func newRequest(method, url string, body *strings.Reader) func(context.Context, eventsource.Attempt) (*http.Request, error) {
	return func(ctx context.Context, _ eventsource.Attempt) (*http.Request, error) {
		again := *body
		return http.NewRequestWithContext(ctx, method, url, &again)
	}
}
