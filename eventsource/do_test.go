package eventsource_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/sse"
)

// ask makes a request to a server.
func ask(t *testing.T, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(bounded(t), http.MethodPost, url, strings.NewReader("question"))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// answerOf sends a request that must be answered by a stream.
func answerOf(t *testing.T, url string, opts *eventsource.ResponseOptions) iter.Seq2[sse.Event, error] {
	t.Helper()
	resp, seq, err := eventsource.Do(nil, ask(t, url), opts)
	if err != nil {
		t.Fatalf("Do: %v", err)
	}
	if resp.StatusCode != 200 {
		t.Errorf("got status %d, want 200", resp.StatusCode)
	}
	return seq
}

// whole reads an answer to its end.
func whole(t *testing.T, seq iter.Seq2[sse.Event, error]) (got []string, last error) {
	t.Helper()
	for ev, err := range seq {
		if last != nil {
			t.Errorf("got (%v, %v) after the error %v, want nothing", ev, err, last)
			break
		}
		if last = err; err == nil {
			got = append(got, ev.Data)
		}
	}
	return got, last
}

func isDone(ev sse.Event) bool { return ev.Data == "[DONE]" }

// TestDo_WholeAnswer reads answers that end as they should.
func TestDo_WholeAnswer(t *testing.T) {
	t.Parallel()
	isStop := func(ev sse.Event) bool { return ev.Type == "message_stop" }
	tests := []struct {
		name     string
		step     http.HandlerFunc
		terminal func(sse.Event) bool
		want     []string
	}{
		{"any end between events", events("data: 1\n\ndata: 2\n\n"), nil, []string{"1", "2"}},
		{"no events", events(""), nil, nil},
		{"only a comment", events(": nothing\n"), nil, nil},
		{"HTTP/1.0", raw(untilClose+"data: 1\n\n", nil), nil, []string{"1"}},
		{"with Content-Length", raw("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\ndata: 1\n\n", nil), nil, []string{"1"}},
		{"terminal data", events("data: 1\n\ndata: [DONE]\n\n"), isDone, []string{"1", "[DONE]"}},
		{"terminal type", events("data: 1\n\nevent: message_stop\ndata: {}\n\n"), isStop, []string{"1", "{}"}},
		{"terminal event only", events("data: [DONE]\n\n"), isDone, []string{"[DONE]"}},
		{"events after the terminal one", events("data: [DONE]\n\ndata: more\n\n"), isDone, []string{"[DONE]"}},
		{"broken after the terminal one", raw(chunkedHead+chunk("data: 1\n\ndata: [DONE]\n\n"), nil), isDone, []string{"1", "[DONE]"}},
		{"open after the terminal one", hold("data: 1\n\ndata: [DONE]\n\n"), isDone, []string{"1", "[DONE]"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, tt.step)
			resp, seq, err := eventsource.Do(nil, ask(t, srv.URL), &eventsource.ResponseOptions{Terminal: tt.terminal})
			if err != nil {
				t.Fatal(err)
			}
			got, err := whole(t, seq)
			wantStrings(t, "data", got, tt.want...)
			if err != nil {
				t.Errorf("got error %v, want none", err)
			}
			if resp.Request.Context().Err() == nil {
				t.Error("the request's own context is alive, want it ended")
			}
			srv.wantCalls(t, 1)
		})
	}
}

// TestDo_EventsAreWhatTheStreamSays checks the other fields, that no id is sent
// or made up, and that ids and reconnection times change nothing.
func TestDo_EventsAreWhatTheStreamSays(t *testing.T) {
	t.Parallel()
	srv := newServer(t, events("data: a\n\nid: 1\nevent: x\nretry: 5\ndata: b\n\n"))
	var got []sse.Event
	for ev, err := range answerOf(t, srv.URL, nil) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ev)
	}
	want := []sse.Event{{Type: "message", Data: "a"}, {ID: "1", Type: "x", Data: "b", Retry: 5 * time.Millisecond}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestDo_TruncatedAnswer cuts answers off in every way. The error must say that,
// and why; nothing may be asked again.
func TestDo_TruncatedAnswer(t *testing.T) {
	t.Parallel()
	type test struct {
		name     string
		step     func(got <-chan struct{}) http.HandlerFunc // got: the first event has arrived
		terminal bool
		cause    error // nil: any
	}
	fixed := func(h http.HandlerFunc) func(<-chan struct{}) http.HandlerFunc {
		return func(<-chan struct{}) http.HandlerFunc { return h }
	}
	reset := func(got <-chan struct{}) http.HandlerFunc {
		return raw(chunkedHead+chunk("data: 1\n\n"), func(c *net.TCPConn) { <-got; c.SetLinger(0) })
	}
	tests := []test{
		{"clean end before the terminal event", fixed(events("data: 1\n\n")), true, io.ErrUnexpectedEOF},
		{"HTTP/1.0 end before the terminal event", fixed(raw(untilClose+"data: 1\n\n", nil)), true, io.ErrUnexpectedEOF},
	}
	for _, terminal := range []bool{false, true} {
		tests = append(tests,
			test{"clean end inside an event", fixed(events("data: 1\n\ndata: 2\n")), terminal, io.ErrUnexpectedEOF},
			test{"clean end inside the terminal event", fixed(events("data: 1\n\ndata: [DONE]\n")), terminal, io.ErrUnexpectedEOF},
			test{"clean end inside a line", fixed(events("data: 1\n\nda")), terminal, io.ErrUnexpectedEOF},
			test{"reset", reset, terminal, syscall.ECONNRESET},
			test{"no last chunk", fixed(raw(chunkedHead+chunk("data: 1\n\n"), nil)), terminal, io.ErrUnexpectedEOF},
			test{"bad chunk", fixed(raw(chunkedHead+chunk("data: 1\n\n")+"zz\r\n", nil)), terminal, nil},
			test{"body shorter than Content-Length", fixed(raw(contentLen+"data: 1\n\n", nil)), terminal, io.ErrUnexpectedEOF},
		)
	}
	for _, tt := range tests {
		name, opts := tt.name, &eventsource.ResponseOptions{}
		if tt.terminal {
			name, opts.Terminal = name+", with Terminal", isDone
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			arrived := make(chan struct{})
			srv := newServer(t, tt.step(arrived), events("data: again\n\n"))
			var got []string
			var last error
			for ev, err := range answerOf(t, srv.URL, opts) {
				if last = err; err == nil {
					got = append(got, ev.Data)
					close(arrived)
				}
			}
			wantStrings(t, "data", got, "1")
			if !errors.Is(last, eventsource.ErrTruncated) {
				t.Errorf("got error %v, want one that wraps ErrTruncated", last)
			}
			if tt.cause != nil && !errors.Is(last, tt.cause) {
				t.Errorf("got error %v, want one that wraps the cause, %v", last, tt.cause)
			}
			srv.wantCalls(t, 1)
		})
	}
}

// TestDo_NoStream checks what comes back for an answer that is none: the response
// too, its body closed, and a typed error. No status is tried again.
func TestDo_NoStream(t *testing.T) {
	t.Parallel()
	isStatus := func(code int) func(error) bool {
		return func(err error) bool {
			var e *eventsource.StatusError
			return errors.As(err, &e) && e.StatusCode == code && e.Body == `{"error":"why"}`
		}
	}
	page := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"answer":"whole"}`)
	}
	tests := []struct {
		name   string
		step   http.HandlerFunc
		status int
		err    func(error) bool
	}{
		{"201", answer(201, `{"error":"why"}`), 201, isStatus(201)},
		{"204", stop, 204, func(err error) bool { return errors.Is(err, eventsource.ErrNoContent) }},
		{"302 without Location", answer(302, `{"error":"why"}`), 302, isStatus(302)},
		{"400", answer(400, `{"error":"why"}`), 400, isStatus(400)},
		{"401", answer(401, `{"error":"why"}`), 401, isStatus(401)},
		{"429", answer(429, `{"error":"why"}`), 429, isStatus(429)},
		{"500", answer(500, `{"error":"why"}`), 500, isStatus(500)},
		{"503", answer(503, `{"error":"why"}`), 503, isStatus(503)},
		{"other content type", page, 200, func(err error) bool {
			var e *eventsource.ContentTypeError
			return errors.As(err, &e) && e.ContentType == "application/json"
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, tt.step, events("data: again\n\n"))
			resp, seq, err := eventsource.Do(nil, ask(t, srv.URL), nil)
			if !tt.err(err) {
				t.Errorf("got error %v", err)
			}
			if errors.Is(err, eventsource.ErrTruncated) {
				t.Errorf("got %v, want no ErrTruncated: there was no answer to cut off", err)
			}
			if seq != nil {
				t.Error("got events, want nil")
			}
			if resp == nil || resp.StatusCode != tt.status {
				t.Fatalf("got response %v, want one with status %d", resp, tt.status)
			}
			if _, err := io.ReadAll(resp.Body); err == nil && tt.status != 204 {
				t.Error("the response's body is open, want it closed")
			}
			if resp.Request.Context().Err() == nil {
				t.Error("the request's own context is alive, want it ended")
			}
			srv.wantCalls(t, 1)
		})
	}
}

func TestDo_NoAnswer(t *testing.T) {
	t.Parallel()
	srv := newServer(t, raw("", nil), events("data: again\n\n"))
	resp, seq, err := eventsource.Do(nil, ask(t, srv.URL), nil)
	var e *url.Error
	if !errors.As(err, &e) || !errors.Is(err, io.EOF) {
		t.Errorf("got error %v, want net/http's own", err)
	}
	if resp != nil || seq != nil {
		t.Errorf("got response %v and events %t, want neither", resp, seq != nil)
	}
	srv.wantCalls(t, 1)
}

func TestDo_Request(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		header http.Header
		accept string
	}{
		{"no headers", http.Header{}, "text/event-stream"},
		{"no header map", nil, "text/event-stream"},
		{"own headers", http.Header{"Accept": {"application/json, text/event-stream"}, "X-Api-Key": {"key"}}, "application/json, text/event-stream"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if v := recover(); v != nil { // as http.Client.Do takes it
					t.Errorf("got panic %v, want none", v)
				}
			}()
			srv := newServer(t, events("data: x\n\n"))
			req := ask(t, srv.URL+"/v1?x=y")
			req.Header = tt.header
			before := tt.header.Clone()
			_, seq, err := eventsource.Do(http.DefaultClient, req, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := whole(t, seq); err != nil {
				t.Error(err)
			}
			got := srv.wantCalls(t, 1)[0]
			if got.Method != "POST" || got.URI != "/v1?x=y" || got.Body != "question" {
				t.Errorf("got %s %s with %q, want POST /v1?x=y with the question", got.Method, got.URI, got.Body)
			}
			if got.Header.Get("Accept") != tt.accept || got.Header.Get("X-Api-Key") != before.Get("X-Api-Key") {
				t.Errorf("got headers %v, want Accept %q and the request's own", got.Header, tt.accept)
			}
			if id, ok := got.id(); ok {
				t.Errorf("got Last-Event-ID %q, want none", id)
			}
			if len(req.Header) != len(before) {
				t.Errorf("got headers %v in the caller's request, want them left alone: %v", req.Header, before)
			}
		})
	}
}

// TestDo_IdleTimeout measures it where there is nothing yet, in the stream, and
// with an application that takes its time.
func TestDo_IdleTimeout(t *testing.T) {
	t.Parallel()
	opts := &eventsource.ResponseOptions{IdleTimeout: idle}
	do := func(t *testing.T, c *http.Client) (iter.Seq2[sse.Event, error], error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, memURL, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, seq, err := eventsource.Do(c, req, opts)
		return seq, err
	}

	t.Run("before the headers", func(t *testing.T) {
		t.Parallel()
		bubble(t, func(t *testing.T, s *script, c *http.Client) {
			start := time.Now()
			_, err := do(t, c)
			if !errors.Is(err, eventsource.ErrIdleTimeout) || errors.Is(err, eventsource.ErrTruncated) {
				t.Errorf("got error %v, want ErrIdleTimeout, and not ErrTruncated", err)
			}
			if got := time.Since(start); got != idle {
				t.Errorf("got it after %v, want %v", got, idle)
			}
			receive(t, s.gone, "the server to see that the client has left")
		}, silence)
	})

	t.Run("in the stream", func(t *testing.T) {
		t.Parallel()
		bubble(t, func(t *testing.T, s *script, c *http.Client) {
			start := time.Now()
			seq, err := do(t, c)
			if err != nil {
				t.Fatal(err)
			}
			got, err := whole(t, seq)
			wantStrings(t, "data", got, "1")
			if !errors.Is(err, eventsource.ErrIdleTimeout) || !errors.Is(err, eventsource.ErrTruncated) {
				t.Errorf("got error %v, want ErrIdleTimeout and ErrTruncated", err)
			}
			if got := time.Since(start); got != idle {
				t.Errorf("got it after %v, want %v", got, idle)
			}
			receive(t, s.gone, "the server to see that the client has left")
		}, hold("data: 1\n\n"))
	})

	t.Run("slow application, slow server", func(t *testing.T) {
		t.Parallel()
		bubble(t, func(t *testing.T, s *script, c *http.Client) {
			seq, err := do(t, c)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, err := range seq {
				if err != nil {
					t.Fatal(err)
				}
				n++
				<-time.After(10 * idle)
			}
			if n != 5 {
				t.Errorf("got %d events, want 5", n)
			}
		}, func(w http.ResponseWriter, _ *http.Request) {
			for range 5 {
				<-time.After(idle - 1)
				begin(w, ":")
				<-time.After(idle - 1)
				begin(w, "\ndata: x\n\n")
			}
		})
	})
}

// TestDo_ClientTimeout checks that the client's own limit holds here, where an
// answer has an end, and counts as a cut.
func TestDo_ClientTimeout(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, _ *script, c *http.Client) {
		c.Timeout = time.Minute
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, memURL, nil)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, seq, err := eventsource.Do(c, req, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := whole(t, seq)
		wantStrings(t, "data", got, "1")
		var timeout net.Error
		if !errors.Is(err, eventsource.ErrTruncated) || !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("got error %v, want ErrTruncated for a time-out", err)
		}
		if got := time.Since(start); got != time.Minute {
			t.Errorf("got it after %v, want 1m", got)
		}
	}, hold("data: 1\n\n"))
}

// TestDo_EndOfTheContext checks that this is the caller's own doing, and not a cut.
func TestDo_EndOfTheContext(t *testing.T) {
	t.Parallel()

	t.Run("before the headers", func(t *testing.T) {
		t.Parallel()
		srv := newServer(t, silence)
		ctx, cancel := context.WithCancel(bounded(t))
		go func() {
			<-srv.arrived
			cancel()
		}()
		_, _, err := eventsource.Do(nil, ask(t, srv.URL).WithContext(ctx), nil)
		if !errors.Is(err, context.Canceled) || errors.Is(err, eventsource.ErrTruncated) {
			t.Errorf("got error %v, want context.Canceled, and not ErrTruncated", err)
		}
		receive(t, srv.gone, "the server to see that the client has left")
	})

	t.Run("in the stream", func(t *testing.T) {
		t.Parallel()
		srv := newServer(t, hold("data: 1\n\n"))
		mine := errors.New("mine")
		ctx, cancel := context.WithCancelCause(bounded(t))
		defer cancel(nil)
		_, seq, err := eventsource.Do(nil, ask(t, srv.URL).WithContext(ctx), &eventsource.ResponseOptions{Terminal: isDone, IdleTimeout: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		var last error
		for _, err := range seq {
			cancel(mine)
			last = err
		}
		if !errors.Is(last, mine) || errors.Is(last, eventsource.ErrTruncated) {
			t.Errorf("got error %v, want the context's cause, and not ErrTruncated", last)
		}
		receive(t, srv.gone, "the server to see that the client has left")
	})
}

func TestDo_EventThatIsTooLarge(t *testing.T) {
	t.Parallel()
	srv := newServer(t, hold("data: x\n\ndata: larger than ten\n\n"))
	got, err := whole(t, answerOf(t, srv.URL, &eventsource.ResponseOptions{MaxEventSize: 10}))
	wantStrings(t, "data", got, "x")
	var e *sse.SizeError
	if !errors.As(err, &e) || e.Limit != 10 || errors.Is(err, eventsource.ErrTruncated) {
		t.Errorf("got error %v, want a *sse.SizeError with 10, and not ErrTruncated", err)
	}
	receive(t, srv.gone, "the server to see that the client has left")
}

func TestDo_BreakEndsTheRequest(t *testing.T) {
	t.Parallel()
	srv := newServer(t, hold("data: 1\n\ndata: 2\n\n"))
	for range answerOf(t, srv.URL, nil) {
		break
	}
	receive(t, srv.gone, "the server to see that the client has left")
}

// TestDo_TerminalEventEndsTheRequest has a server that keeps the stream open.
func TestDo_TerminalEventEndsTheRequest(t *testing.T) {
	t.Parallel()
	srv := newServer(t, hold("data: [DONE]\n\n"))
	asked := 0
	for range answerOf(t, srv.URL, &eventsource.ResponseOptions{Terminal: func(ev sse.Event) bool {
		asked++
		return isDone(ev)
	}}) {
	}
	receive(t, srv.gone, "the server to see that the client has left")
	if asked != 1 {
		t.Errorf("Terminal was asked %d times, want once for each event", asked)
	}
}

// TestDo_BodyOfAnAnswerThatNobodyReads is for who looks at the headers and leaves.
func TestDo_BodyOfAnAnswerThatNobodyReads(t *testing.T) {
	t.Parallel()
	srv := newServer(t, hold("data: 1\n\n"))
	resp, _, err := eventsource.Do(nil, ask(t, srv.URL), &eventsource.ResponseOptions{IdleTimeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("got Content-Type %q, want text/event-stream", got)
	}
	for range 2 {
		if err := resp.Body.Close(); err != nil {
			t.Errorf("got error %v from Close, want none", err)
		}
	}
	if resp.Request.Context().Err() == nil {
		t.Error("the request's own context is alive, want it ended")
	}
	receive(t, srv.gone, "the server to see that the client has left")
}

// TestDo_RedirectsAreTheClients checks that Do leaves them to the client that it
// was given.
func TestDo_RedirectsAreTheClients(t *testing.T) {
	t.Parallel()
	srv := newServer(t, redirect(307, "/b"), events("data: 1\n\n"))
	asked := 0
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { asked++; return nil }}
	resp, seq, err := eventsource.Do(c, ask(t, srv.URL+"/a"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := whole(t, seq); err != nil {
		t.Error(err)
	}
	if got := resp.Request.URL.Path; got != "/b" || asked != 1 {
		t.Errorf("got %s after %d calls of CheckRedirect, want /b after 1", got, asked)
	}
	calls := srv.wantCalls(t, 2)
	wantStrings(t, "requests", uris(calls), "POST /a", "POST /b")
	if calls[1].Body != "question" {
		t.Errorf("got body %q, want the question again", calls[1].Body)
	}
}
