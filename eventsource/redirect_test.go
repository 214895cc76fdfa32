package eventsource_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/eventsource"
)

// uris returns where requests went.
func uris(calls []call) []string {
	var s []string
	for _, c := range calls {
		s = append(s, c.Method+" "+c.URI)
	}
	return s
}

// TestStream_RedirectIsFollowedAnewEachTime checks that every redirect is
// followed, and that reconnecting starts at the original URL: the final one may
// have been made for one connection only. (Browsers differ: stream-rules.md, 34.)
func TestStream_RedirectIsFollowedAnewEachTime(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			srv := newServer(t,
				redirect(status, "/b?c=d"), events("id: 1\ndata: one\n\n"),
				redirect(status, "/e"), events("data: two\n\n"),
				stop)
			d := newDiary()
			got, err := collect(t, eventsource.Stream(bounded(t), srv.URL+"/a?x=y", d.keep(quick())))
			if err != nil {
				t.Error(err)
			}
			wantStrings(t, "data", data(got), "one", "two")
			calls := srv.seen()
			wantStrings(t, "requests", uris(calls), "GET /a?x=y", "GET /b?c=d", "GET /a?x=y", "GET /e", "GET /a?x=y")
			for i, want := range []string{"", "", "1", "1", "1"} {
				if id, _ := calls[i].id(); id != want {
					t.Errorf("got Last-Event-ID %q in request %d, want %q", id, i+1, want)
				}
			}
			d.want(t, "open", "error 0", "open", "error 0", "error 2")
		})
	}
}

func TestStream_RedirectAndMethod(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status int
		method string
		body   string
	}{
		{301, "GET", ""}, {302, "GET", ""}, {303, "GET", ""},
		{307, "POST", "question"}, {308, "POST", "question"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.status), func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, redirect(tt.status, "/b"), events("data: one\n\n"))
			got, err := collect(t, eventsource.Stream(bounded(t), srv.URL+"/a", &eventsource.Options{
				Method: http.MethodPost,
				Body:   []byte("question"),
			}))
			if err != nil {
				t.Error(err)
			}
			wantStrings(t, "data", data(got), "one")
			calls := srv.wantCalls(t, 2)
			wantStrings(t, "requests", uris(calls), "POST /a", tt.method+" /b")
			if calls[1].Body != tt.body {
				t.Errorf("got body %q after the redirect, want %q", calls[1].Body, tt.body)
			}
		})
	}
}

func TestStream_RedirectWithoutLocation(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		step func(status int) http.HandlerFunc
	}{
		{"missing", func(status int) http.HandlerFunc { return answer(status, "") }},
		{"empty", func(status int) http.HandlerFunc { return redirect(status, "") }},
	}
	for _, tt := range tests {
		for _, status := range []int{301, 302, 303, 307, 308} {
			t.Run(fmt.Sprintf("%s, %d", tt.name, status), func(t *testing.T) {
				t.Parallel()
				srv := newServer(t, tt.step(status), stop)
				_, err := collect(t, eventsource.Stream(bounded(t), srv.URL, quick()))
				var e *eventsource.StatusError
				if !errors.As(err, &e) || e.StatusCode != status {
					t.Fatalf("got %v, want a *StatusError with %d", err, status)
				}
				if !strings.Contains(e.Error(), "without a Location") {
					t.Errorf("got message %q, want it to say what is missing", e)
				}
				srv.wantCalls(t, 1)
			})
		}
	}
}

// TestStream_RedirectLoop counts requests: the first, and the 20 redirects that
// the Fetch standard allows.
func TestStream_RedirectLoop(t *testing.T) {
	t.Parallel()
	srv := newServer(t, redirect(302, "/round"))
	d := newDiary()
	_, err := collect(t, eventsource.Stream(bounded(t), srv.URL, d.keep(quick())))
	var e *eventsource.RedirectError
	if !errors.As(err, &e) || !strings.Contains(e.Reason, "20") {
		t.Errorf("got %v, want a *RedirectError that tells the limit", err)
	}
	srv.wantCalls(t, 21)
	d.want(t, "error 2")
	d.wantNoMore(t)
}

func TestStream_TwentyRedirectsAreFollowed(t *testing.T) {
	t.Parallel()
	var steps []http.HandlerFunc
	for range 20 {
		steps = append(steps, redirect(302, "/next"))
	}
	srv := newServer(t, append(steps, events("data: one\n\n"), stop)...)
	got, err := collect(t, eventsource.Stream(bounded(t), srv.URL, quick()))
	if err != nil {
		t.Error(err)
	}
	wantStrings(t, "data", data(got), "one")
	srv.wantCalls(t, 22)
}

func TestStream_RedirectToOtherSchemes(t *testing.T) {
	t.Parallel()
	for _, location := range []string{"ftp://127.0.0.1/", "file:///etc/passwd", "data:text/event-stream,data:x", "mailto:a@b"} {
		t.Run(location, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, redirect(302, location), stop)
			_, err := collect(t, eventsource.Stream(bounded(t), srv.URL, quick()))
			var e *eventsource.RedirectError
			if !errors.As(err, &e) {
				t.Errorf("got %v, want a *RedirectError", err)
			}
			srv.wantCalls(t, 1)
		})
	}
}

// private are the headers that one origin must not learn of another.
var private = http.Header{
	"Authorization":       {"Bearer secret"},
	"Cookie":              {"session=secret"},
	"X-Api-Key":           {"secret"},
	"Proxy-Authorization": {"Basic secret"},
	"Www-Authenticate":    {"secret"},
	"Origin":              {"http://secret"},
	"Referer":             {"http://secret/"},
}

// harmless are those that it may.
var harmless = http.Header{
	"Accept":          {"text/event-stream"},
	"Accept-Language": {"el"},
	"Cache-Control":   {"no-cache"},
	"Last-Event-Id":   {"7"},
	"User-Agent":      {"test"},
	"Content-Type":    {"text/plain"},
}

// withHeaders returns options with both.
func withHeaders() *eventsource.Options {
	opts := quick()
	opts.Header = http.Header{}
	for _, h := range []http.Header{private, harmless} {
		for key, v := range h {
			opts.Header[key] = v
		}
	}
	return opts
}

func checkHeaders(t *testing.T, which string, got, want http.Header, present bool) {
	t.Helper()
	for key, v := range want {
		_, ok := got[key]
		if ok != present || present && got.Get(key) != v[0] {
			t.Errorf("%s: got %s %q, want it there: %t", which, key, got[key], present)
		}
	}
}

func TestStream_RedirectWithinTheOriginKeepsHeaders(t *testing.T) {
	t.Parallel()
	srv := newServer(t, redirect(307, "/b"), redirect(307, "/c"), events("data: one\n\n"), stop)
	if _, err := collect(t, eventsource.Stream(bounded(t), srv.URL, withHeaders())); err != nil {
		t.Fatal(err)
	}
	for i, c := range srv.wantCalls(t, 4) {
		which := fmt.Sprintf("request %d, %s", i+1, c.URI)
		own := private.Clone()
		if c.URI != "/" { // a redirect carries no Referer, not even the caller's
			own.Del("Referer")
			checkHeaders(t, which, c.Header, http.Header{"Referer": nil}, false)
		}
		checkHeaders(t, which, c.Header, own, true)
		checkHeaders(t, which, c.Header, harmless, true)
	}
}

// TestStream_RedirectToAnotherOriginDropsCredentials uses ports of one host:
// net/http itself would pass everything on there.
func TestStream_RedirectToAnotherOriginDropsCredentials(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			b := newServer(t, events("data: one\n\n"))
			a := newServer(t, redirect(status, b.URL+"/b"), stop)
			got, err := collect(t, eventsource.Stream(bounded(t), a.URL, withHeaders()))
			if err != nil {
				t.Fatal(err)
			}
			wantStrings(t, "data", data(got), "one")
			if got[0].Origin != b.URL {
				t.Errorf("got origin %q, want that of the final URL, %q", got[0].Origin, b.URL)
			}
			at := b.wantCalls(t, 1)[0]
			checkHeaders(t, "the other origin", at.Header, private, false)
			kept := harmless.Clone()
			if status < 307 {
				kept.Del("Content-Type") // there is no content any more
			}
			checkHeaders(t, "the other origin", at.Header, kept, true)

			// The reconnection is a request of its own.
			calls := a.wantCalls(t, 2)
			checkHeaders(t, "the first request", calls[0].Header, private, true)
			checkHeaders(t, "the reconnection", calls[1].Header, private, true)
		})
	}
}

// TestStream_RedirectBackStaysWithoutCredentials goes A, B, A: the second A may
// be anything that B made up.
func TestStream_RedirectBackStaysWithoutCredentials(t *testing.T) {
	t.Parallel()
	var back string
	b := newServer(t, func(w http.ResponseWriter, r *http.Request) { redirect(307, back)(w, r) })
	a := newServer(t, redirect(307, b.URL), events("data: one\n\n"), stop)
	back = a.URL + "/back"
	if _, err := collect(t, eventsource.Stream(bounded(t), a.URL, withHeaders())); err != nil {
		t.Fatal(err)
	}
	calls := a.wantCalls(t, 3)
	checkHeaders(t, "B", b.wantCalls(t, 1)[0].Header, private, false)
	checkHeaders(t, "A again", calls[1].Header, private, false)
	checkHeaders(t, "A again", calls[1].Header, harmless, true)
	checkHeaders(t, "the reconnection", calls[2].Header, private, true)
}

func TestStream_RedirectSendsNoReferer(t *testing.T) {
	t.Parallel()
	b := newServer(t, events(""))
	a := newServer(t, redirect(302, "/next?token=secret"), redirect(302, b.URL), stop)
	if _, err := collect(t, eventsource.Stream(bounded(t), a.URL+"/?token=secret", quick())); err != nil {
		t.Fatal(err)
	}
	for _, c := range append(a.wantCalls(t, 3), b.wantCalls(t, 1)...) {
		if got, ok := c.Header["Referer"]; ok {
			t.Errorf("got Referer %q at %s, want none", got, c.URI)
		}
	}
}

func TestStream_CheckRedirectIsAskedToo(t *testing.T) {
	t.Parallel()

	t.Run("lets it pass", func(t *testing.T) {
		t.Parallel()
		b := newServer(t, events("data: one\n\n"))
		a := newServer(t, redirect(302, "/2"), redirect(302, b.URL), stop)
		opts := withHeaders()
		var asked []string
		opts.HTTPClient = &http.Client{CheckRedirect: func(req *http.Request, via []*http.Request) error {
			asked = append(asked, fmt.Sprintf("%d: %s, Authorization %q", len(via), req.URL, req.Header["Authorization"]))
			return nil
		}}
		if _, err := collect(t, eventsource.Stream(bounded(t), a.URL, opts)); err != nil {
			t.Fatal(err)
		}
		// After our own rules: the credentials are gone by then.
		wantStrings(t, "calls", asked,
			fmt.Sprintf(`1: %s/2, Authorization ["Bearer secret"]`, a.URL),
			fmt.Sprintf(`2: %s, Authorization []`, b.URL))
	})

	t.Run("its error is final", func(t *testing.T) {
		t.Parallel()
		srv := newServer(t, redirect(302, "/2"), stop)
		mine := errors.New("not there")
		opts := quick()
		opts.HTTPClient = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return mine }}
		_, err := collect(t, eventsource.Stream(bounded(t), srv.URL, opts))
		var e *eventsource.RedirectError
		if !errors.As(err, &e) || !errors.Is(err, mine) || e.Err != mine {
			t.Errorf("got %v, want a *RedirectError with CheckRedirect's own in it", err)
		}
		srv.wantCalls(t, 1)
	})

	t.Run("may use the redirect as the answer", func(t *testing.T) {
		t.Parallel()
		srv := newServer(t, redirect(302, "/2"), stop)
		opts := quick()
		opts.HTTPClient = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		_, err := collect(t, eventsource.Stream(bounded(t), srv.URL, opts))
		var e *eventsource.StatusError
		if !errors.As(err, &e) || e.StatusCode != 302 {
			t.Errorf("got %v, want a *StatusError with 302", err)
		}
		srv.wantCalls(t, 1)
	})
}

// TestStream_RedirectIntoARefusal checks that what counts is the final answer.
func TestStream_RedirectIntoARefusal(t *testing.T) {
	t.Parallel()
	srv := newServer(t, redirect(302, "/2"), answer(404, ""))
	_, err := collect(t, eventsource.Stream(bounded(t), srv.URL, quick()))
	var e *eventsource.StatusError
	if !errors.As(err, &e) || e.StatusCode != 404 {
		t.Errorf("got %v, want a *StatusError with 404", err)
	}
	srv.wantCalls(t, 2)
}
