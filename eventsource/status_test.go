package eventsource_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/eventsource"
)

// TestStream_StatusOtherThan200 checks for each status whether there is another
// request. To the standard there is none, whatever the status.
func TestStream_StatusOtherThan200(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status  int
		retried bool
	}{
		{201, false}, {202, false}, {203, false}, {205, false}, {206, false}, {299, false},
		{300, false}, {304, false}, {305, false}, {399, false},
		{400, false}, {401, false}, {402, false}, {403, false}, {404, false}, {405, false}, {406, false},
		{408, true}, {409, false}, {410, false}, {418, false}, {425, true}, {428, false}, {429, true}, {451, false}, {499, false},
		{500, true}, {501, true}, {502, true}, {503, true}, {504, true}, {511, true}, {599, true},
		{600, false}, {999, false},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.status), func(t *testing.T) {
			t.Parallel()
			checkStatus(t, tt.status, tt.retried, quick())
		})
		t.Run(fmt.Sprintf("%d with StrictSpec", tt.status), func(t *testing.T) {
			t.Parallel()
			opts := quick()
			opts.StrictSpec = true
			checkStatus(t, tt.status, false, opts)
		})
	}
}

func checkStatus(t *testing.T, status int, retried bool, opts *eventsource.Options) {
	body := "why not\nsecond line"
	srv := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Reason", "on purpose")
		answer(status, body)(w, r)
	}, stop)
	d := newDiary()
	got, err := collect(t, eventsource.Stream(bounded(t), srv.URL, d.keep(opts)))
	if len(got) > 0 {
		t.Errorf("got events %q, want none", data(got))
	}
	var told []eventsource.ErrorEvent
	if retried {
		d.want(t, "error 0", "error 2")
		told = d.told(t, 2)
		srv.wantCalls(t, 2)
		if err != nil {
			t.Errorf("got error %v, want none, as the next answer was a 204", err)
		}
	} else {
		d.want(t, "error 2")
		told = d.told(t, 1)
		srv.wantCalls(t, 1)
		if err == nil || told[0].Err != err {
			t.Errorf("got error %v, want what OnError got: %v", err, told[0].Err)
		}
	}
	d.wantNoMore(t)

	var e *eventsource.StatusError
	if !errors.As(told[0].Err, &e) {
		t.Fatalf("got %T %v, want a *StatusError", told[0].Err, told[0].Err)
	}
	if status == 304 { // which has no body
		body = ""
	}
	if e.StatusCode != status || e.Body != body || e.Header.Get("X-Reason") != "on purpose" {
		t.Errorf("got %d, %q, X-Reason %q, want %d, %q, \"on purpose\"", e.StatusCode, e.Body, e.Header.Get("X-Reason"), status, body)
	}
	if msg := e.Error(); !strings.Contains(msg, fmt.Sprint(status)) || body != "" && !strings.HasSuffix(msg, `: "why not"`) {
		t.Errorf("got message %q, want the status and the body's first line in it", msg)
	}
}

func TestStatusError_BodyIsTheFirstKilobyte(t *testing.T) {
	t.Parallel()
	srv := newServer(t, answer(http.StatusForbidden, strings.Repeat("x", 1024)+strings.Repeat("y", 1<<20)))
	_, err := collect(t, eventsource.Stream(bounded(t), srv.URL, nil))
	var e *eventsource.StatusError
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *StatusError", err)
	}
	if want := strings.Repeat("x", 1024); e.Body != want {
		t.Errorf("got a body of %d bytes, want the first 1024", len(e.Body))
	}
}

// TestStatusError_BodyIsText has an answer that would confuse a terminal.
func TestStatusError_BodyIsText(t *testing.T) {
	t.Parallel()
	srv := newServer(t, answer(http.StatusForbidden, " \n\x1B[2J\xFF\u00E9 \nsecond"))
	_, err := collect(t, eventsource.Stream(bounded(t), srv.URL, nil))
	var e *eventsource.StatusError
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *StatusError", err)
	}
	if want := " \n\x1B[2J\uFFFD\u00E9 \nsecond"; e.Body != want {
		t.Errorf("got body %q, want %q", e.Body, want)
	}
	if want := `: "\x1b[2J` + "\uFFFD\u00E9" + ` "`; !strings.HasSuffix(e.Error(), want) {
		t.Errorf("got message %q, want it to end with %s", e, want)
	}
}

// TestStream_RefusalWithoutEnd has a body of an error answer that does not end.
func TestStream_RefusalWithoutEnd(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *script, c *http.Client) {
		start := time.Now()
		_, err := collect(t, eventsource.Stream(t.Context(), memURL, &eventsource.Options{HTTPClient: c}))
		var e *eventsource.StatusError
		if !errors.As(err, &e) || e.StatusCode != 403 || e.Body != "because" {
			t.Errorf("got %v, want a *StatusError with what there was of the body", err)
		}
		if got := time.Since(start); got != time.Second {
			t.Errorf("waited %v for the body, want 1s", got)
		}
	}, func(w http.ResponseWriter, r *http.Request) {
		answer(http.StatusForbidden, "because")(w, r)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
}

// TestStream_SwitchingProtocols has an answer whose body is the connection itself,
// which no context ends.
func TestStream_SwitchingProtocols(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	srv := newServer(t, raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n", waitFor(release)))
	ctx, cancel := context.WithCancel(bounded(t))
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := collect(t, eventsource.Stream(ctx, srv.URL, nil))
		ended <- err
	}()
	err := receive(t, ended, "the end of the stream")
	var e *eventsource.StatusError
	if !errors.As(err, &e) || e.StatusCode != 101 {
		t.Errorf("got %v, want a *StatusError with 101", err)
	}
}

func TestSource_NoContentIsTheEnd(t *testing.T) {
	t.Parallel()
	for _, strict := range []bool{false, true} {
		t.Run(fmt.Sprintf("first, StrictSpec %t", strict), func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, stop)
			d := newDiary()
			opts := quick()
			opts.StrictSpec = strict
			src := open(t, srv.URL, d.keep(opts))
			wantDone(t, src, eventsource.ErrNoContent)
			d.want(t, "error 2")
			d.wantNoMore(t)
			srv.wantCalls(t, 1)
		})
		t.Run(fmt.Sprintf("on reconnection, StrictSpec %t", strict), func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, events("data: one\n\n"), stop)
			d := newDiary()
			opts := quick()
			opts.StrictSpec = strict
			src := open(t, srv.URL, d.keep(opts))
			wantDone(t, src, eventsource.ErrNoContent)
			d.want(t, "open", "message one", "error 0", "error 2")
			d.wantNoMore(t)
			srv.wantCalls(t, 2)
			if got := d.told(t, 2)[1]; got.Err != eventsource.ErrNoContent || got.Delay != 0 {
				t.Errorf("got %v and a delay of %v, want ErrNoContent and none", got.Err, got.Delay)
			}
		})
	}
}

func TestStream_NoContentEndsItWithoutError(t *testing.T) {
	t.Parallel()
	srv := newServer(t, stop)
	got, err := collect(t, eventsource.Stream(bounded(t), srv.URL, nil))
	if len(got) > 0 || err != nil {
		t.Errorf("got %d events and error %v, want none of either", len(got), err)
	}
	srv.wantCalls(t, 1)
}

// TestSource_RefusalIsFinal checks what a source tells after a failure for good.
func TestSource_RefusalIsFinal(t *testing.T) {
	t.Parallel()
	srv := newServer(t, events("data: one\n\n"), answer(http.StatusNotFound, ""))
	d := newDiary()
	src := open(t, srv.URL, d.keep(quick()))
	receive(t, src.Done(), "the end")
	d.want(t, "open", "message one", "error 0", "error 2")
	d.wantNoMore(t)
	wantDone(t, src, d.told(t, 2)[1].Err)
	var e *eventsource.StatusError
	if !errors.As(src.Err(), &e) || e.StatusCode != 404 {
		t.Errorf("got Err %v, want a *StatusError with 404", src.Err())
	}
	srv.wantCalls(t, 2)
}

// TestStream_ContentType checks which types are a stream: only the essence
// counts, and of several the last.
func TestStream_ContentType(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		types []string // nil: no header
		ok    bool
	}{
		{"plain", []string{"text/event-stream"}, true},
		{"charset", []string{"text/event-stream;charset=utf-8"}, true},
		{"space before charset", []string{"text/event-stream ; charset=UTF-8"}, true},
		{"other charset", []string{"text/event-stream;charset=latin1"}, true},
		{"nonsense charset", []string{"text/event-stream;charset=nonsense"}, true},
		{"trailing semicolon", []string{"text/event-stream;"}, true},
		{"malformed parameters", []string{"text/event-stream;;=;a=\""}, true},
		{"parameter with a quoted comma", []string{`text/event-stream;a="b,c"`}, true},
		{"parameter with a quoted type", []string{`text/event-stream;a="b,text/html"`}, true},
		{"parameter with an escaped quote", []string{`text/event-stream;a="\",text/html"`}, true},
		{"case", []string{"Text/EVENT-Stream"}, true},
		{"outer space", []string{" \ttext/event-stream\t "}, true},
		{"list, stream last", []string{"text/html, text/event-stream"}, true},
		{"two headers, stream last", []string{"text/html", "text/event-stream"}, true},
		{"list, then anything", []string{"text/event-stream, */*"}, true},
		{"list, then nothing", []string{"text/event-stream,"}, true},

		{"none", nil, false},
		{"empty", []string{""}, false},
		{"plain text", []string{"text/plain"}, false},
		{"html", []string{"text/html; charset=utf-8"}, false},
		{"json", []string{"application/json"}, false},
		{"anything", []string{"*/*"}, false},
		{"longer subtype", []string{"text/event-streams"}, false},
		{"suffix", []string{"text/event-stream+json"}, false},
		{"shorter subtype", []string{"text/event-strea"}, false},
		{"other type", []string{"application/event-stream"}, false},
		{"third part", []string{"text/event-stream/x"}, false},
		{"legacy type", []string{"application/x-dom-event-stream"}, false},
		{"no slash", []string{"event-stream"}, false},
		{"space inside", []string{"text/ event-stream"}, false},
		{"words after it", []string{"text/event-stream charset=utf-8"}, false},
		{"type as a parameter", []string{"text/plain; x=text/event-stream"}, false},
		{"list, stream first", []string{"text/event-stream, text/html"}, false},
		{"two headers, stream first", []string{"text/event-stream", "text/html"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = tt.types
				io.WriteString(w, "data: one\n\n")
			}, stop)
			d := newDiary()
			got, err := collect(t, eventsource.Stream(bounded(t), srv.URL, d.keep(quick())))
			if tt.ok {
				wantStrings(t, "data", data(got), "one")
				if err != nil {
					t.Errorf("got error %v, want none", err)
				}
				return
			}
			d.want(t, "error 2")
			d.wantNoMore(t)
			srv.wantCalls(t, 1)
			var e *eventsource.ContentTypeError
			if !errors.As(err, &e) || len(got) > 0 {
				t.Fatalf("got events %q and error %v, want no event and a *ContentTypeError", data(got), err)
			}
			if want := strings.Join(tt.types, ", "); e.ContentType != want || !strings.Contains(e.Error(), fmt.Sprintf("%q", want)) {
				t.Errorf("got type %q in %q, want %q", e.ContentType, e, want)
			}
		})
	}
}

// TestStream_ContentTypeOnReconnection has a proxy's page in the stream's place.
func TestStream_ContentTypeOnReconnection(t *testing.T) {
	t.Parallel()
	page := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<p>please log in")
	}
	srv := newServer(t, events("data: one\n\n"), page)
	got, err := collect(t, eventsource.Stream(bounded(t), srv.URL, quick()))
	wantStrings(t, "data", data(got), "one")
	var e *eventsource.ContentTypeError
	if !errors.As(err, &e) {
		t.Errorf("got error %v, want a *ContentTypeError", err)
	}
	srv.wantCalls(t, 2)
}
