package eventsource_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/eventsource"
)

// TestStream_OnlyGETIsRepeated ends requests that may have an effect at the
// server in several ways, and counts them.
func TestStream_OnlyGETIsRepeated(t *testing.T) {
	t.Parallel()
	isStatus := func(err error) bool { var e *eventsource.StatusError; return errors.As(err, &e) }
	isBroken := func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }
	isNone := func(err error) bool { return err == nil }
	tests := []struct {
		name string
		step http.HandlerFunc
		data []string
		err  func(error) bool
	}{
		{"clean end", events("data: one\n\n"), []string{"one"}, isNone},
		{"clean end without events", events(""), nil, isNone},
		{"end inside an event", events("data: one\n\ndata: tw"), []string{"one"}, isBroken},
		{"broken end", raw(chunkedHead+chunk("data: one\n\n"), nil), []string{"one"}, isBroken},
		{"no answer", raw("", nil), nil, func(err error) bool { return errors.Is(err, io.EOF) }},
		{"503", answer(503, ""), nil, isStatus},
		{"404", answer(404, ""), nil, isStatus},
		{"204", stop, nil, isNone},
	}
	for _, tt := range tests {
		for _, method := range []string{"POST", "PUT", "QUERY", "HEAD", "REPORT"} {
			if method == "HEAD" && tt.data != nil {
				continue // has no body
			}
			t.Run(tt.name+", "+method, func(t *testing.T) {
				t.Parallel()
				srv := newServer(t, tt.step, events("data: again\n\n"), stop)
				opts := quick()
				opts.Method, opts.Body = method, []byte("question")
				d := newDiary()
				got, err := collect(t, eventsource.Stream(bounded(t), srv.URL, d.keep(opts)))
				wantStrings(t, "data", data(got), tt.data...)
				if !tt.err(err) {
					t.Errorf("got error %v", err)
				}
				srv.wantCalls(t, 1)
				told := d.told(t, 1)
				if told[0].State != eventsource.StateClosed || told[0].Err == nil {
					t.Errorf("got errors %v, want one, that is final", told)
				}
			})
		}
	}
}

// TestSource_CleanEndOfPOSTSaysWhyItIsTheEnd is about who wonders why there was no
// reconnection.
func TestSource_CleanEndOfPOSTSaysWhyItIsTheEnd(t *testing.T) {
	t.Parallel()
	srv := newServer(t, events("data: one\n\n"))
	opts := quick()
	opts.Method = http.MethodPost
	d := newDiary()
	src := open(t, srv.URL, d.keep(opts))
	receive(t, src.Done(), "the end")
	d.want(t, "open", "message one", "error 2")
	d.wantNoMore(t)
	told := d.told(t, 1)[0].Err
	wantDone(t, src, told)
	if !errors.Is(told, io.EOF) || !strings.Contains(told.Error(), "RepeatNonGET") {
		t.Errorf("got %v, want an io.EOF that names the option", told)
	}
	srv.wantCalls(t, 1)
}

func TestStream_RepeatNonGET(t *testing.T) {
	t.Parallel()
	srv := newServer(t,
		events("id: 1\ndata: one\n\n"),
		answer(503, ""),
		raw(chunkedHead+chunk("id: 2\ndata: two\n\n"), nil),
		events("data: three\n\n"),
		stop)
	opts := quick()
	opts.Method, opts.Body, opts.RepeatNonGET = http.MethodPost, []byte("question"), true
	got, err := collect(t, eventsource.Stream(bounded(t), srv.URL, opts))
	if err != nil {
		t.Error(err)
	}
	wantStrings(t, "data", data(got), "one", "two", "three")
	var ids []string
	for i, c := range srv.wantCalls(t, 5) {
		if c.Method != "POST" || c.Body != "question" {
			t.Errorf("got request %d %s with body %q, want POST with %q", i+1, c.Method, c.Body, "question")
		}
		id, _ := c.id()
		ids = append(ids, id)
	}
	wantStrings(t, "ids sent", ids, "", "1", "1", "2", "2")
}

// TestStream_MethodOfNewRequestCounts has a POST that Options does not know of.
func TestStream_MethodOfNewRequestCounts(t *testing.T) {
	t.Parallel()
	for _, repeat := range []bool{false, true} {
		srv := newServer(t, events("data: one\n\n"), stop)
		opts := quick()
		opts.RepeatNonGET = repeat
		opts.NewRequest = newRequest(http.MethodPost, srv.URL, strings.NewReader("question"))
		if _, err := collect(t, eventsource.Stream(bounded(t), srv.URL, opts)); err != nil {
			t.Error(err)
		}
		want := 1
		if repeat {
			want = 2
		}
		srv.wantCalls(t, want)
	}
}

// TestStream_TheMethodIsNormalised has a method in lower case, as the Fetch standard
// lets it be written.
func TestStream_TheMethodIsNormalised(t *testing.T) {
	t.Parallel()
	var methods []string
	srv := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		methods = append(methods, r.Method)
		events("data: one\n\n")(w, r)
	}, func(w http.ResponseWriter, r *http.Request) {
		methods = append(methods, r.Method)
		stop(w, r)
	})
	opts := quick()
	opts.Method = "get"
	got, err := collect(t, eventsource.Stream(bounded(t), srv.URL, opts))
	if err != nil {
		t.Error(err)
	}
	wantStrings(t, "data", data(got), "one")
	wantStrings(t, "methods", methods, "GET", "GET")
}
