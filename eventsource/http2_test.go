package eventsource_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/internal/memnet"
	"github.com/tidewire/tidewire/sse"
)

// bubble2 is bubble over HTTP/2, where streams share a connection and net/http has
// errors of its own for them.
func bubble2(t *testing.T, fn func(t *testing.T, s *script, c *http.Client), steps ...http.HandlerFunc) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		only2 := new(http.Protocols)
		only2.SetUnencryptedHTTP2(true)
		l := memnet.Listen()
		s := newScript(steps...)
		srv := &http.Server{Protocols: only2, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 2 {
				t.Errorf("got %s, want HTTP/2", r.Proto)
			}
			s.ServeHTTP(w, r)
		})}
		go srv.Serve(l)
		defer srv.Close()
		tr := &http.Transport{Protocols: only2, DialContext: l.Dial}
		defer tr.CloseIdleConnections()
		fn(t, s, &http.Client{Transport: tr})
	})
}

// aborted sends text and breaks the stream off.
func aborted(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		begin(w, text)
		panic(http.ErrAbortHandler)
	}
}

func TestSource_HTTP2(t *testing.T) {
	t.Parallel()
	bubble2(t, func(t *testing.T, s *script, c *http.Client) {
		d := newDiary()
		opts := d.keep(quick())
		opts.HTTPClient, opts.IdleTimeout = c, idle
		src := open(t, memURL, opts)

		d.want(t, "open", "message one", "error 0") // a clean end
		d.want(t, "open", "message two", "error 0") // a broken one
		d.want(t, "error 0")                        // 503
		d.want(t, "error 0")                        // silence before the headers
		d.want(t, "open", "message three", "error 0")
		told := d.told(t, 5)
		if !errors.Is(told[0].Err, io.EOF) {
			t.Errorf("got error %v, want an io.EOF", told[0].Err)
		}
		if told[1].Err == nil || errors.Is(told[1].Err, io.EOF) {
			t.Errorf("got error %v, want one of the stream's", told[1].Err)
		}
		var status *eventsource.StatusError
		if !errors.As(told[2].Err, &status) {
			t.Errorf("got error %v, want a *StatusError", told[2].Err)
		}
		for _, ev := range told[3:] {
			if ev.Err != eventsource.ErrIdleTimeout {
				t.Errorf("got error %v, want ErrIdleTimeout", ev.Err)
			}
		}

		d.want(t, "open", "message four")
		src.Reconnect()
		d.want(t, "open", "message five")
		src.Close()
		d.wantNoMore(t)
		wantDone(t, src, nil)
		var ids []string
		for _, c := range s.wantCalls(t, 7) {
			id, _ := c.id()
			ids = append(ids, id)
		}
		wantStrings(t, "ids sent", ids, "", "1", "1", "1", "1", "1", "4")
		for range 4 { // the silent ones, and those that Reconnect and Close have left
			receive(t, s.gone, "the server to see that the client has left")
		}
	},
		events("id: 1\ndata: one\n\n"), aborted("data: two\n\nid: 2\ndata: lost\n"), answer(503, ""), silence,
		hold("data: three\n\n"), hold("id: 4\ndata: four\n\n"), hold("data: five\n\n"))
}

func TestDo_HTTP2(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		step http.HandlerFunc
		opts eventsource.ResponseOptions
		want []error
	}{
		{"whole", events("data: 1\n\n"), eventsource.ResponseOptions{}, nil},
		{"whole, held open", hold("data: 1\n\n"), eventsource.ResponseOptions{Terminal: func(sse.Event) bool { return true }}, nil},
		{"broken off", aborted("data: 1\n\n"), eventsource.ResponseOptions{}, []error{eventsource.ErrTruncated}},
		{"silent", hold("data: 1\n\n"), eventsource.ResponseOptions{IdleTimeout: idle}, []error{eventsource.ErrTruncated, eventsource.ErrIdleTimeout}},
		{"context", hold("data: 1\n\n"), eventsource.ResponseOptions{}, []error{context.DeadlineExceeded}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bubble2(t, func(t *testing.T, s *script, c *http.Client) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, memURL, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, seq, err := eventsource.Do(c, req, &tt.opts)
				if err != nil {
					t.Fatal(err)
				}
				got, err := whole(t, seq)
				wantStrings(t, "data", got, "1")
				if (err != nil) != (tt.want != nil) {
					t.Errorf("got error %v, want %v", err, tt.want)
				}
				for _, want := range tt.want {
					if !errors.Is(err, want) {
						t.Errorf("got error %v, want one that wraps %v", err, want)
					}
				}
			}, tt.step)
		})
	}
}
