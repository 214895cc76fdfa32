package cli_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/internal/cli"
	"github.com/tidewire/tidewire/sse"
)

func TestSubscribe_Target(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string // %s is the server's URL
		uri  string
	}{
		{"URL", []string{"%s/a%%20b/stream?x=1#part"}, "/a%20b/stream?x=1"},
		{"URL in capitals", []string{"HTTP%s/stream"}, "/stream"},
		{"URL of a hub, from a time on", []string{"%s/events/clock?x=1", "--since", "1h"}, "/events/clock?x=1&since=1h"},
		{"topic", []string{"--url", "%s", "clock"}, "/events/clock"},
		{"topic with segments", []string{"--url", "%s/", "news/größe 1"}, "/events/news/gr%C3%B6%C3%9Fe%201"},
		{"topic that looks like a URL", []string{"--url", "%s", "--topic", "https://example.com/1"}, "/events?topic=https%3A%2F%2Fexample.com%2F1"},
		{"topic that looks like an address", []string{"--url", "%s", "localhost:1/x"}, "/events/localhost:1/x"},
		{"URN", []string{"--url", "%s", "urn:a:b"}, "/events/urn:a:b"},
		{"several topics", []string{"--url", "%s", "clock", "b", "--topic", "c"}, "/events?topic=c&topic=clock&topic=b"},
		{"pattern", []string{"--url", "%s", "--pattern", "news/*", "--pattern", "a/**"}, "/events?pattern=news%2F%2A&pattern=a%2F%2A%2A"},
		{"topic and pattern", []string{"--url", "%s", "clock", "--pattern", "news/*"}, "/events?pattern=news%2F%2A&topic=clock"},
		{"the newest", []string{"--url", "%s", "--last", "5", "clock"}, "/events/clock?last=5"},
		{"since", []string{"--url", "%s", "--since", "2026-01-02T15:04:05+01:00", "clock"}, "/events/clock?since=2026-01-02T15%3A04%3A05%2B01%3A00"},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := serve(t, stop)
			args := []string{"subscribe"}
			for _, arg := range test.args {
				if strings.HasPrefix(arg, "HTTP") {
					arg = "HTTP" + strings.TrimPrefix(fmt.Sprintf(arg[4:], srv.URL), "http")
				} else if strings.Contains(arg, "%s") {
					arg = fmt.Sprintf(arg, srv.URL)
				}
				args = append(args, arg)
			}
			code, out, errs := run(t, args)
			if code != cli.ExitOK || out != "" {
				t.Fatalf("got code %d, output %q and errors %q, want 0 after a 204", code, out, errs)
			}
			if got := receive(t, srv.requests, "the request"); got.RequestURI != test.uri || got.Method != "GET" || got.Header.Get("Accept") != "text/event-stream" {
				t.Errorf("got %s %s, want GET %s", got.Method, got.RequestURI, test.uri)
			}
		})
	}
}

func TestSubscribe_DoubtsATopicThatLooksLikeAnAddress(t *testing.T) {
	srv := serve(t, stop)
	_, _, errs := run(t, []string{"subscribe", "--url", srv.URL, "localhost:7730/clock"})
	if want := `taking "localhost:7730/clock" for a topic; if it is a URL, write http://localhost:7730/clock`; !strings.Contains(errs, want) {
		t.Errorf("got %q, want %q", errs, want)
	}
}

func TestSubscribe_Request(t *testing.T) {
	for _, test := range []struct {
		name   string
		args   []string
		method string
		body   string
		header map[string]string
	}{
		{"headers", []string{"--header", "Authorization: Bearer x", "-H", "X-A:1", "--last-event-id", "k 7"}, "GET", "",
			map[string]string{"Authorization": "Bearer x", "X-A": "1", "Last-Event-Id": "k 7", "Cache-Control": "no-cache"}},
		{"a position's form", nil, "GET", "", map[string]string{"Prefer": "heartbeat=id"}},
		{"a preference of its own", []string{"-H", "prefer: status"}, "GET", "", map[string]string{"Prefer": "status"}},
		{"JSON body", []string{"--body", `{"a": 1}`}, "POST", `{"a": 1}`, map[string]string{"Content-Type": "application/json"}},
		{"other body", []string{"--body", "a=1"}, "POST", "a=1", map[string]string{"Content-Type": "text/plain; charset=utf-8"}},
		{"body with a type", []string{"--body", "a=1", "-H", "content-type: application/x-www-form-urlencoded"}, "POST", "a=1",
			map[string]string{"Content-Type": "application/x-www-form-urlencoded"}},
		{"method", []string{"--method", "QUERY", "--body", "q"}, "QUERY", "q", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			bodies := make(chan string, 1)
			srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				bodies <- string(body)
				stop(w, r)
			})
			code, _, errs := run(t, append([]string{"subscribe", srv.URL}, test.args...))
			r := receive(t, srv.requests, "the request")
			if body := receive(t, bodies, "the body"); code != cli.ExitOK || r.Method != test.method || body != test.body {
				t.Errorf("got code %d (%s), %s with %q, want 0, %s with %q", code, errs, r.Method, body, test.method, test.body)
			}
			for key, want := range test.header {
				if got := r.Header.Get(key); got != want {
					t.Errorf("got %s: %s, want %s", key, got, want)
				}
			}
		})
	}
}

// nasty has what a stream could do harm with, and what it must keep.
var nasty = []sse.Event{
	{Data: "plain"},
	{ID: "k7-1", Data: "with an id"},
	{ID: "k7-2", Type: "price", Data: `{"eur":12.5}`},
	{ID: "k7-3", Data: "two lines\n\tand a tab\n"},
	{ID: "k7-4", Data: ""},
	{ID: "k7-5", Data: "clear \x1b[2J bell \x07 title \x1b]0;x\x1b\\ back \b delete \x7f"},
	{ID: "k7-6", Data: "C1 \u009b2J and \u0085 next line, NUL \x00"},
	{ID: "k7-7", Data: "bidi \u202egnp.exe \u2066x\u2069 \u200f \u061c"},
	{ID: "k7-8", Data: "lines \u2028 \u2029 BOM \ufeff"},
	{ID: "i\x1bd\t", Type: "ty\x1b[1mpe\t\x00", Data: "tab\there"},
	{ID: "k7-9", Data: "grüße 日本 👩‍👩‍👧 \\x1b as text <b>&</b>"},
	{ID: "k7-10", Type: "open", Data: "\n\n\x1b[A"},
}

// crash answers with every line break that the format knows, and what is not UTF-8.
const crash = "retry: 10\n\ndata: CR\rdata: then CRLF\r\ndata: not UTF-8 \xff\xc3\x1b\n\n"

func nastyStream(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, crash)
		for _, ev := range nasty {
			text, err := sse.AppendEvent(nil, ev)
			if err != nil {
				t.Error(err)
			}
			_, _ = w.Write(text)
		}
	}
}

func TestSubscribe_Forms(t *testing.T) {
	always := map[string]string{"NO_COLOR": "1"}
	for _, test := range []struct {
		name     string
		args     []string
		settings []setting
		golden   string
	}{
		{"human", nil, nil, "human.txt"},
		{"human on a terminal", nil, []setting{terminal(true, false)}, "human-colors.txt"},
		{"human on a terminal without colours", nil, []setting{terminal(true, false), env(always)}, "human.txt"},
		{"human on a dumb terminal", nil, []setting{terminal(true, false), env(map[string]string{"TERM": "dumb"})}, "human.txt"},
		{"human never in colours", []string{"--color", "never"}, []setting{terminal(true, false)}, "human.txt"},
		{"human always in colours", []string{"--color=always"}, []setting{env(always)}, "human-colors.txt"},
		{"JSON", []string{"--json"}, nil, "events.jsonl"},
		{"JSON on a terminal", []string{"--json"}, []setting{terminal(true, false)}, "events.jsonl"},
		{"data", []string{"--data-only"}, nil, "data-raw.txt"},
		{"data on a terminal", []string{"--data-only"}, []setting{terminal(true, false)}, "data-terminal.txt"},
		{"one type", []string{"--type", "price", "--type", "open"}, nil, "types.txt"},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := serve(t, nastyStream(t), stop)
			code, out, errs := run(t, append([]string{"subscribe", "-q", srv.URL}, test.args...), test.settings...)
			if code != cli.ExitOK || errs != "" {
				t.Errorf("got code %d and errors %q, want 0 and none", code, errs)
			}
			golden(t, test.golden, out)
		})
	}
}

func TestSubscribe_ExitCodes(t *testing.T) {
	one := []sse.Event{{ID: "1", Data: "a"}}
	cut := func(w http.ResponseWriter, r *http.Request) {
		send(t, w, r, one).Close()
		panic(http.ErrAbortHandler)
	}
	for _, test := range []struct {
		name   string
		server http.HandlerFunc
		args   []string
		code   int
		errs   string // a part
	}{
		{"204", stop, nil, cli.ExitOK, "nothing more will come (204)"},
		{"count is reached", hold(t, one...), []string{"--count", "1"}, cli.ExitOK, ""},
		{"count is reached in time", hold(t, one...), []string{"--count", "1", "--timeout", "1h"}, cli.ExitOK, ""},
		{"204 before the count", stop, []string{"--count", "1"}, cli.ExitOK, ""},
		{"timeout before the count", hold(t, one...), []string{"--count", "2", "--timeout", "300ms"}, cli.ExitTimeout, "--timeout was reached before"},
		{"timeout without an answer before the count", silence, []string{"--count", "2", "--timeout", "10ms"}, cli.ExitTimeout, ""},
		{"timeout alone", hold(t, one...), []string{"--timeout", "2s"}, cli.ExitOK, ""},
		{"timeout without a connection", silence, []string{"--timeout", "10ms"}, cli.ExitFailed, "without a connection"},
		{"not found", answer(404, "text/plain", "no such page"), nil, cli.ExitFailed, "the server answered 404 Not Found: no such page"},
		{"unauthorized", answer(401, "", ""), nil, cli.ExitFailed, "give a token with --token"},
		{"problem", answer(400, "application/problem+json", `{"detail":"since is not a time","field":"since"}`), nil, cli.ExitFailed, `since is not a time (field "since")`},
		{"a page", answer(200, "text/html", "<p>"), nil, cli.ExitFailed, "the answer is text/html, not text/event-stream"},
		{"no type", func(w http.ResponseWriter, _ *http.Request) { w.Header()["Content-Type"] = nil }, nil, cli.ExitFailed, "no Content-Type"},
		{"strict", answer(503, "text/plain", "busy"), []string{"--strict"}, cli.ExitFailed, "503 Service Unavailable: busy"},
		{"redirect to nowhere", answer(302, "", ""), nil, cli.ExitFailed, "302"},
		{"redirects in a circle", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, nil, cli.ExitFailed, "redirect: more than 20 in a row"},
		{"an event too large", hold(t, sse.Event{Data: strings.Repeat("x", sse.DefaultMaxEventSize+1)}), nil, cli.ExitFailed, "more than 16 MiB"},
		{"an answer that is whole", events(t, one...), []string{"--method", "POST"}, cli.ExitOK, ""},
		{"an answer that is cut off", cut, []string{"--method", "POST"}, cli.ExitFailed, "broke off"},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := serve(t, test.server)
			code, _, errs := run(t, append([]string{"subscribe", srv.URL}, test.args...))
			if code != test.code || !strings.Contains(errs, test.errs) || strings.Count(errs, "\n") > 1 {
				t.Errorf("got code %d and errors %q, want %d and at most one line, with %q", code, errs, test.code, test.errs)
			}
		})
	}
	t.Run("interrupt", func(t *testing.T) {
		srv := serve(t, hold(t, one...))
		c := start(t, []string{"subscribe", "--data-only", "--count", "2", "--timeout", "1h", srv.URL})
		c.prints("a")
		c.interrupt()
		c.ends(cli.ExitOK)
	})
	t.Run("interrupt before the answer", func(t *testing.T) {
		srv := serve(t, silence)
		c := start(t, []string{"subscribe", srv.URL})
		receive(t, srv.requests, "the request")
		c.interrupt()
		c.ends(cli.ExitOK)
	})
	t.Run("interrupt while waiting to reconnect", func(t *testing.T) {
		c := start(t, []string{"subscribe", nobody(t)})
		c.notes("trying again in")
		c.interrupt()
		c.ends(cli.ExitOK)
	})
}

func TestSubscribe_TellsOfReconnections(t *testing.T) {
	srv := serve(t,
		events(t, sse.Event{ID: "k7-1", Data: "a"}),
		func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "close") // net/http itself repeats a request on a connection that it has kept
			answer(503, "text/plain", "come back")(w, r)
		},
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "retry: 1\ndata: half")
		},
		hold(t, sse.Event{ID: "k7-2", Data: "b"}))
	c := start(t, []string{"subscribe", "--data-only", srv.URL})
	c.prints("a", "b")
	c.notes("the server ended the stream; trying again in ")
	c.notes("the server answered 503 Service Unavailable: come back; trying again in ")
	c.notes(srv.URL + " closed the connection before it had answered; trying again in ")
	c.notes(`connected again, to go on after "k7-1"`)
	c.notes("the stream broke off inside an event or a chunk; trying again in ")
	c.notes(`connected again, to go on after "k7-1"`)
	for _, want := range []string{"", "k7-1", "k7-1", "k7-1", "k7-1"} {
		if got := receive(t, srv.requests, "the request").Header.Get("Last-Event-ID"); got != want {
			t.Errorf("got Last-Event-ID %q, want %q", got, want)
		}
	}
	c.interrupt()
	c.ends(cli.ExitOK)
}

func TestSubscribe_TellsWhoWatchesOfTheConnection(t *testing.T) {
	srv := serve(t, hold(t))
	c := start(t, []string{"subscribe", "--url", strings.Replace(srv.URL, "http://", "http://me:secret@", 1), "clock"}, terminal(false, true))
	c.notes("connected to http://me:xxxxx@", "/events/clock")
	c.interrupt()
	c.ends(cli.ExitOK)
}

func TestSubscribe_NoHub(t *testing.T) {
	url := nobody(t)
	c := start(t, []string{"subscribe", "--url", url, "clock"})
	c.notes("cannot reach "+url+": connection refused", `start a hub with "tidewire serve"`, "trying again in")
	c.interrupt()
	c.ends(cli.ExitOK)
}

func TestSubscribe_QuietSilencesAllButTheEnd(t *testing.T) {
	gap := sse.Event{Type: "tidewire.gap", Data: `{"reason":"expired"}`}
	srv := serve(t, events(t, gap, sse.Event{ID: "1", Data: "a"}), answer(503, "text/plain", ""), answer(404, "text/plain", "gone"))
	code, out, errs := run(t, []string{"subscribe", "-q", "--data-only", srv.URL})
	if want := "tidewire: the server answered 404 Not Found: gone\n"; code != cli.ExitFailed || out != "a\n" || errs != want {
		t.Errorf("got code %d, output %q and errors %q, want 1 and %q", code, out, errs, want)
	}
}

// control is what a hub puts into a stream by itself.
var control = []sse.Event{
	{ID: "k7-5", Type: "tidewire.gap", Data: `{"reason":"expired","requested":"k7-1","resumed":"k7-5"}`},
	{ID: "k7-6", Data: "a"},
	{Type: "tidewire.gap", Data: `{"reason":"unknown","requested":"x\u001b","resumed":"k7-6"}`},
	{Type: "tidewire.gap", Data: `{"reason":"epoch","requested":"","resumed":""}`},
	{Type: "tidewire.gap", Data: `{"reason":"war","requested":null}`},
	{Type: "tidewire.gap", Data: "what?"},
	{Type: "tidewire.error", Data: `{"title":"Unauthorized","detail":"the token has expired","field":"Authorization"}`},
	{Type: "tidewire.error", Data: "what?"},
	{Type: "tidewire.other", Data: "for a later version"},
	{ID: "k7-7", Data: "b"},
}

func TestSubscribe_TellsOfGapsAndErrors(t *testing.T) {
	for _, form := range []string{"--json", "--data-only", "--exec=cat; echo"} {
		t.Run(form, func(t *testing.T) {
			srv := serve(t, hold(t, control...))
			code, out, errs := run(t, []string{"subscribe", form, "--count", "2", srv.URL})
			want := "a\nb\n"
			if form == "--json" {
				want = `{"type":"message","data":"a","id":"k7-6"}` + "\n" + `{"type":"message","data":"b","id":"k7-7"}` + "\n"
			}
			if code != cli.ExitOK || out != want {
				t.Errorf("got code %d and %q, want 0 and %q", code, out, want)
			}
			golden(t, "control.txt", errs)
		})
	}
	t.Run("all", func(t *testing.T) {
		srv := serve(t, hold(t, control...))
		_, out, errs := run(t, []string{"subscribe", "--json", "--all", "--count", fmt.Sprint(len(control)), srv.URL})
		if got := strings.Count(out, "\n"); got != len(control) || !strings.HasPrefix(out, `{"type":"tidewire.gap","data":"{\"reason\":\"expired\",`) {
			t.Errorf("got %q, want all %d events", out, len(control))
		}
		golden(t, "control.txt", errs)
	})
}

func TestSubscribe_ReaderThatHasGoneIsNoError(t *testing.T) {
	t.Run("a pipe, at the next event", func(t *testing.T) {
		srv := serve(t, hold(t, sse.Event{Data: "a"}))
		code, _, errs := run(t, []string{"subscribe", srv.URL}, stdout(gone{}))
		if code != cli.ExitOK || errs != "" {
			t.Errorf("got code %d and %q, want 0 and nothing", code, errs)
		}
	})
	t.Run("a pipe of the system, though no event comes", func(t *testing.T) {
		srv := serve(t, hold(t, sse.Event{Data: "a"}))
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer closed(t, w)
		c := start(t, []string{"subscribe", "--data-only", srv.URL}, stdout(w))
		if _, err := io.ReadFull(r, make([]byte, 2)); err != nil {
			t.Error(err)
		}
		closed(t, r)
		c.ends(cli.ExitOK)
		if errs := c.err.String(); errs != "" {
			t.Errorf("got %q, want nothing", errs)
		}
	})
	t.Run("a pipe of the system, which is still read", func(t *testing.T) {
		srv := serve(t, hold(t, sse.Event{Data: "a"}))
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer closed(t, r)
		defer closed(t, w)
		c := start(t, []string{"subscribe", "--data-only", "--count", "1", srv.URL}, stdout(w))
		c.ends(cli.ExitOK)
	})
	t.Run("no more room is one", func(t *testing.T) {
		srv := serve(t, hold(t, sse.Event{Data: "a"}))
		code, _, errs := run(t, []string{"subscribe", srv.URL}, stdout(full{}))
		if code != cli.ExitFailed || !strings.Contains(errs, "cannot write the event: the disk is full") {
			t.Errorf("got code %d and %q, want 1", code, errs)
		}
	})
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("the disk is full") }
