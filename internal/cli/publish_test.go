package cli_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/tidewire/tidewire/internal/cli"
	"github.com/tidewire/tidewire/sse"
)

// A publish is one as the hub saw it.
type publish struct {
	method, uri string
	header      http.Header
	body        string
	length      int64
}

// record takes publishes down and answers them with an id.
func record(publishes chan<- publish) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has gone
		}
		publishes <- publish{r.Method, r.RequestURI, r.Header, string(body), r.ContentLength}
		answer(http.StatusCreated, "application/json", `{"id":"k7-1","position":"k7-1","topics":["clock"]}`+"\n")(w, r)
	}
}

func TestPublish_OneEvent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(file, []byte("from a file\r\n\x00"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		args   []string
		uri    string
		body   string
		header map[string]string
		out    string
	}{
		{"argument", []string{"clock", "it is noon"}, "/events/clock", "it is noon", map[string]string{"Content-Type": "text/plain; charset=utf-8"}, "k7-1\n"},
		{"empty argument", []string{"clock", ""}, "/events/clock", "", nil, "k7-1\n"},
		{"standard input", []string{"clock"}, "/events/clock", "from\nstdin\n", nil, "k7-1\n"},
		{"a dash", []string{"clock", "-"}, "/events/clock", "from\nstdin\n", nil, "k7-1\n"},
		{"a dash after --", []string{"clock", "--", "-x"}, "/events/clock", "-x", nil, "k7-1\n"},
		{"file", []string{"clock", "--file", file}, "/events/clock", "from a file\r\n\x00", nil, "k7-1\n"},
		{"JSON", []string{"--json", "clock", `{"a": 1}`}, "/events/clock", `{"a": 1}`, map[string]string{"Content-Type": "application/json"}, "k7-1\n"},
		{"fields", []string{"--type", "price", "--id", "a b", "--retry", "1500ms", "--private", "--end", "clock", "x"},
			"/events/clock?end=true&id=a+b&private=true&retry=1500&type=price", "x", nil, "k7-1\n"},
		{"retry is rounded up", []string{"--retry", "1500us", "clock", "x"}, "/events/clock?retry=2", "x", nil, "k7-1\n"},
		{"conditions", []string{"--idempotency-key", "K 1", "--if-match", "k7-0", "clock", "x"}, "/events/clock", "x",
			map[string]string{"Idempotency-Key": "K 1", "If-Match": `"k7-0"`}, "k7-1\n"},
		{"end alone", []string{"--end", "clock"}, "/events/clock?end=true", "", nil, "k7-1\n"},
		{"end with standard input", []string{"--end", "clock", "-"}, "/events/clock?end=true", "from\nstdin\n", nil, "k7-1\n"},
		{"headers", []string{"--header", "Authorization: Bearer x", "-H", "X-A:1", "-H", "x-a: 2", "clock", "x"}, "/events/clock", "x",
			map[string]string{"Authorization": "Bearer x", "X-A": "1, 2", "User-Agent": "tidewire"}, "k7-1\n"},
		{"own user agent", []string{"--header", "User-Agent: me", "clock", "x"}, "/events/clock", "x", map[string]string{"User-Agent": "me"}, "k7-1\n"},
		{"answer as JSON", []string{"--json-output", "clock", "x"}, "/events/clock", "x", nil, `{"id":"k7-1","position":"k7-1","topics":["clock"]}` + "\n"},
		{"quiet", []string{"-q", "clock", "x"}, "/events/clock", "x", nil, ""},
		{"several topics", []string{"--topic", "b/c", "--topic", "d e", "clock", "x"}, "/events?topic=clock&topic=b%2Fc&topic=d+e", "x", nil, "k7-1\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			publishes := make(chan publish, 1)
			hub := serve(t, record(publishes))
			code, out, errs := run(t, append([]string{"publish", "--url", hub.URL}, test.args...), stdin(strings.NewReader("from\nstdin\n")))
			if code != cli.ExitOK || out != test.out || errs != "" {
				t.Fatalf("got code %d, output %q and errors %q, want 0 and %q", code, out, errs, test.out)
			}
			got := receive(t, publishes, "the publish")
			if got.method != "POST" || got.uri != test.uri || got.body != test.body || got.length != int64(len(test.body)) {
				t.Errorf("got %s %s with %d bytes %q, want POST %s with %q", got.method, got.uri, got.length, got.body, test.uri, test.body)
			}
			for key, want := range test.header {
				if v := strings.Join(got.header.Values(key), ", "); v != want {
					t.Errorf("got %s: %s, want %s", key, v, want)
				}
			}
		})
	}
}

func TestPublish_TopicBecomesURL(t *testing.T) {
	for _, test := range []struct{ name, base, topic, uri string }{
		{"plain", "", "clock", "/events/clock"},
		{"segments", "", "news/sport/de", "/events/news/sport/de"},
		{"base with a path", "/hub/", "clock", "/hub/events/clock"},
		{"space and umlaut", "", "größe 1", "/events/gr%C3%B6%C3%9Fe%201"},
		{"what a URL would split at", "", "a?b#c;d,e%2F", "/events/a%3Fb%23c%3Bd%2Ce%252F"},
		{"an IRI", "", "https://example.com/books/1", "/events?topic=https%3A%2F%2Fexample.com%2Fbooks%2F1"},
		{"an URN", "", "urn:isbn:1", "/events/urn:isbn:1"},
		{"dots", "", "a/../b", "/events?topic=a%2F..%2Fb"},
		{"a dot", "", ".", "/events?topic=."},
		{"slash at the end", "", "a/", "/events?topic=a%2F"},
		{"slash at the beginning", "", "/a", "/events?topic=%2Fa"},
	} {
		t.Run(test.name, func(t *testing.T) {
			publishes := make(chan publish, 1)
			hub := serve(t, record(publishes))
			code, _, errs := run(t, []string{"publish", test.topic, "x"}, env(map[string]string{"TIDEWIRE_URL": hub.URL + test.base}))
			if code != cli.ExitOK {
				t.Fatalf("got code %d: %s", code, errs)
			}
			if got := receive(t, publishes, "the publish"); got.uri != test.uri {
				t.Errorf("got %s, want %s", got.uri, test.uri)
			}
		})
	}
}

// relay hands out the events of a body as they arrive, and answers as a hub does.
func relay(t *testing.T, arrived chan<- sse.Event) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Content-Type"); got != "text/event-stream" {
			t.Errorf("got Content-Type %q, want text/event-stream", got)
		}
		n := 0
		for ev, err := range sse.Events(r.Body, nil) {
			if err != nil {
				t.Errorf("the body: %v", err)
				return
			}
			n++
			arrived <- ev
		}
		body := fmt.Sprintf(`{"count":%d,"first":{"id":"k7-1"},"last":{"id":"k7-%[1]d"}}`, n)
		answer(http.StatusCreated, "application/json", body)(w, r)
	}
}

func TestPublish_LinesArriveWhileTheInputIsOpen(t *testing.T) {
	arrived := make(chan sse.Event, 10)
	hub := serve(t, relay(t, arrived))
	set, in := openStdin(t)
	c := start(t, []string{"publish", "--url", hub.URL, "--lines", "--type", "log", "--retry", "2s", "--private", "logs"}, set)
	for _, line := range []string{"first", "second", ""} {
		in.write(line + "\n")
		if got := receive(t, arrived, "the event"); got.Data != line || got.Type != "log" {
			t.Errorf("got %+v, want the line %q", got, line)
		}
	}
	if got := receive(t, hub.requests, "the request"); got.RequestURI != "/events/logs?private=true&retry=2000" {
		t.Errorf("got %s, want no type where each event has it, and the retry of all", got.RequestURI)
	}
	in.end()
	c.ends(cli.ExitOK)
	c.prints("k7-3")
	c.notes("published 3 events")
}

func TestPublish_LinesAreExact(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for _, test := range []struct {
		name, in string
		want     []string
	}{
		{"nothing", "", nil},
		{"one without a line break", "a", []string{"a"}},
		{"CRLF and empty lines", "a\r\n\r\n\nb\n", []string{"a", "", "", "b"}},
		{"looks like fields", "id: 1\n: no comment\n\ndata:\n", []string{"id: 1", ": no comment", "", "data:"}},
		{"longer than what is read at once", "a\n" + long + "\nb\n" + long, []string{"a", long, "b", long}},
	} {
		for _, reader := range []struct {
			name string
			make func(io.Reader) io.Reader
		}{
			{"whole", func(r io.Reader) io.Reader { return r }},
			{"byte by byte", iotest.OneByteReader},
			{"with its end", iotest.DataErrReader},
		} {
			t.Run(test.name+" "+reader.name, func(t *testing.T) {
				if len(test.in) > 10_000 && reader.name == "byte by byte" {
					t.Skip("too long for this") // the other readers cut it as well
				}
				arrived := make(chan sse.Event, 10)
				hub := serve(t, relay(t, arrived))
				code, _, errs := run(t, []string{"publish", "--url", hub.URL, "--lines", "logs"}, stdin(reader.make(strings.NewReader(test.in))))
				if code != cli.ExitOK {
					t.Fatalf("got code %d: %s", code, errs)
				}
				close(arrived)
				var got []string
				for ev := range arrived {
					got = append(got, ev.Data)
				}
				if fmt.Sprintf("%.200q", got) != fmt.Sprintf("%.200q", test.want) || len(strings.Join(got, "")) != len(strings.Join(test.want, "")) {
					t.Errorf("got %.200q, want %.200q", got, test.want)
				}
			})
		}
	}
}

func TestPublish_InputThatFailsIsPublishedUpToThere(t *testing.T) {
	for _, test := range []struct {
		name string
		in   io.Reader
		want string
	}{
		{"cannot be read on", io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(errors.New("the disk is on fire"))), "the disk is on fire"},
		{"line too long", strings.NewReader("a\n" + strings.Repeat("x", sse.DefaultMaxEventSize+1)), "line 2 of the input is longer than 16 MiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			arrived := make(chan sse.Event, 10)
			hub := serve(t, relay(t, arrived))
			code, out, errs := run(t, []string{"publish", "--url", hub.URL, "--lines", "logs"}, stdin(test.in))
			if code != cli.ExitFailed || out != "k7-1\n" || !strings.Contains(errs, test.want) {
				t.Errorf("got code %d, output %q and errors %q, want 1, one id and %q", code, out, errs, test.want)
			}
			if got := receive(t, arrived, "the first line"); got.Data != "a" {
				t.Errorf("got %q, want the first line", got.Data)
			}
		})
	}
}

func TestPublish_EventStreamIsRelayedAsItArrives(t *testing.T) {
	pieces := make(chan string, 10)
	hub := serve(t, func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 1000)
		for {
			n, err := r.Body.Read(buf)
			if n > 0 {
				pieces <- string(buf[:n])
			}
			if err != nil {
				break
			}
		}
		stop(w, r)
	})
	set, in := openStdin(t)
	c := start(t, []string{"publish", "--url", hub.URL, "--event-stream", "mirror"}, set)
	for _, piece := range []string{"\uFEFF: hi\r\nda", "ta: a\r\n\r\n", "id: 1\ndata: b\xff\n\n"} {
		in.write(piece)
		if got := receive(t, pieces, "the piece"); got != piece {
			t.Errorf("got %q, want %q", got, piece)
		}
	}
	in.end()
	c.ends(cli.ExitOK)
	if got := c.out.String() + c.err.String(); got != "" {
		t.Errorf("got %q, want nothing, as the answer says nothing", got)
	}
}

func TestPublish_InterruptEndsLinesCleanly(t *testing.T) {
	arrived := make(chan sse.Event, 10)
	hub := serve(t, relay(t, arrived))
	set, in := openStdin(t)
	c := start(t, []string{"publish", "--url", hub.URL, "--lines", "logs"}, set)
	in.write("whole\nha")
	receive(t, arrived, "the line")
	c.interrupt()
	c.ends(cli.ExitOK)
	c.prints("k7-1")
	c.notes("published 1 event")
}

func TestPublish_InterruptOfOneEventFails(t *testing.T) {
	hub := serve(t, silence)
	c := start(t, []string{"publish", "--url", hub.URL, "clock", "x"})
	receive(t, hub.requests, "the request")
	c.interrupt()
	c.ends(cli.ExitFailed)
	c.notes("interrupted", "may be published, or not")

	set, in := openStdin(t)
	c = start(t, []string{"publish", "--url", hub.URL, "clock"}, set)
	in.write("half")
	c.interrupt()
	c.ends(cli.ExitFailed)
	c.notes("interrupted", "nothing is published")
}

func TestPublish_TimeoutBoundsOneEvent(t *testing.T) {
	hub := serve(t, silence)
	code, _, errs := run(t, []string{"publish", "--url", hub.URL, "--timeout", "10ms", "clock", "x"})
	if want := "within 10ms: the event may be published, or not"; code != cli.ExitFailed || !strings.Contains(errs, want) {
		t.Errorf("got code %d and %q, want 1 and %q", code, errs, want)
	}
}

// A hub's refusal is told before the first line, or the next, has come.
func TestPublish_RefusalEndsAStream(t *testing.T) {
	refuse := answer(http.StatusUnauthorized, "application/problem+json", `{"detail":"this topic needs a token","field":"Authorization"}`)
	for _, test := range []struct {
		name   string
		refuse http.HandlerFunc
	}{
		{"at once", refuse},
		{"after an event", func(w http.ResponseWriter, r *http.Request) {
			if _, err := sse.NewDecoder(r.Body, nil).Next(); err != nil {
				t.Error(err)
			}
			refuse(w, r)
		}},
	} {
		for _, mode := range []string{"--lines", "--event-stream"} {
			t.Run(test.name+" "+mode, func(t *testing.T) {
				hub := serve(t, test.refuse)
				set, in := openStdin(t)
				c := start(t, []string{"publish", "--url", hub.URL, mode, "logs"}, set)
				if test.name != "at once" {
					in.write("data: a\n\n")
				}
				c.ends(cli.ExitFailed)
				c.notes("401 Unauthorized", "this topic needs a token", "Authorization", "--token")
			})
		}
	}
}

// A body that is refused for its size is not sent in vain, and the refusal is heard.
func TestPublish_LargeDataIsAskedForFirst(t *testing.T) {
	hub := serve(t, answer(http.StatusRequestEntityTooLarge, "application/problem+json", `{"detail":"send less"}`))
	for range 20 {
		code, _, errs := run(t, []string{"publish", "--url", hub.URL, "clock"}, stdin(bytes.NewReader(make([]byte, 8<<20))))
		if code != cli.ExitFailed || !strings.Contains(errs, "413 Request Entity Too Large: send less") {
			t.Fatalf("got code %d and %q, want 1 and the refusal", code, errs)
		}
	}
}

func TestPublish_Answers(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		code   int
		out    string
		errs   string // a part
	}{
		{"problem with a field", answer(400, "application/problem+json; charset=utf-8", `{"title":"Bad field","detail":"the type has a line break","field":"type"}`),
			1, "", `the hub answered 400 Bad Request: the type has a line break (field "type")`},
		{"problem with a title only", answer(409, "application/problem+json", `{"title":"Topic closed"}`), 1, "", "409 Conflict: Topic closed\n"},
		{"problem that is none", answer(400, "application/problem+json", "oops"), 1, "", "400 Bad Request: oops\n"},
		{"text", answer(500, "text/plain", "it broke\nat line 1\n"), 1, "", "500 Internal Server Error: it broke\n"},
		{"control characters in text", answer(500, "text/plain", "a\x1b[2Jb\u202ec"), 1, "", `a\x1b[2Jb\u202ec`},
		{"several lines", answer(500, "application/problem+json", `{"detail":"a\ntidewire: b"}`), 1, "", `a\ntidewire: b`},
		{"a page", answer(404, "text/html", "<h1>No</h1>"), 1, "", "404 Not Found\n"},
		{"an unknown status", answer(599, "", ""), 1, "", "answered 599\n"},
		{"elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/there", http.StatusMovedPermanently)
		},
			1, "", `301 Moved Permanently, and leads on to /there: give the hub's own URL with --url`},
		{"closed", answer(200, "application/json", `{"closed":["clock"]}`), 0, "", ""},
		{"no content", stop, 0, "", ""},
		{"not JSON", answer(200, "text/plain", "thank you"), 0, "", ""},
		{"an id that would clear the terminal", answer(201, "application/json", `{"id":"a\u001b[2Jb"}`), 0, "a\\x1b[2Jb\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			hub := serve(t, test.answer)
			code, out, errs := run(t, []string{"publish", "--url", hub.URL, "clock", "x"})
			if code != test.code || out != test.out || !strings.Contains(errs, test.errs) || strings.Count(errs, "\n") > 1 {
				t.Errorf("got code %d, output %q and errors %q, want %d, %q and one line with %q", code, out, errs, test.code, test.out, test.errs)
			}
		})
	}
	t.Run("JSON is asked for and there is none", func(t *testing.T) {
		hub := serve(t, answer(200, "text/plain", "thank you"))
		code, _, errs := run(t, []string{"publish", "--url", hub.URL, "--json-output", "clock", "x"})
		if code != cli.ExitFailed || !strings.Contains(errs, "published, but") {
			t.Errorf("got code %d and %q, want 1", code, errs)
		}
	})
	t.Run("before the end of the input", func(t *testing.T) {
		hub := serve(t, answer(201, "application/json", `{"id":"k7-1"}`))
		set, _ := openStdin(t)
		c := start(t, []string{"publish", "--url", hub.URL, "--lines", "logs"}, set)
		c.ends(cli.ExitFailed)
		c.notes("answered before the input had ended")
	})
}

func TestPublish_NoHub(t *testing.T) {
	url := nobody(t)
	for _, args := range [][]string{
		{"publish", "--url", url, "clock", "x"},
		{"publish", "--url", url, "--lines", "clock"},
	} {
		set, _ := openStdin(t) // a stream does not wait for its first line to notice
		c := start(t, args, set)
		c.ends(cli.ExitFailed)
		c.notes("cannot reach "+url+": connection refused", `start a hub with "tidewire serve"`, "--url")
	}
	code, _, errs := run(t, []string{"publish", "--url", "http://hub.invalid", "clock", "x"})
	if code != cli.ExitFailed || !strings.Contains(errs, "hub.invalid") {
		t.Errorf("got code %d and %q, want 1 and the host", code, errs)
	}
}

func TestPublish_DataThatCannotBe(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		in   io.Reader
		want string
	}{
		{"no such file", []string{"--file", "no/such/file", "clock"}, nil, "no/such/file: no such file"},
		{"a folder", []string{"--file", ".", "clock"}, nil, "is a directory"},
		{"not JSON", []string{"--json", "clock", `{"a":}`}, nil, "the argument is not JSON: invalid character '}'"},
		{"too large", []string{"clock"}, io.LimitReader(endless{}, sse.DefaultMaxEventSize+1), "standard input is larger than 16 MiB"},
		{"unreadable", []string{"clock"}, iotest.ErrReader(errors.New("on fire")), "cannot read the data: on fire"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, out, errs := run(t, append([]string{"publish", "--url", nobody(t)}, test.args...), stdin(test.in))
			if code != cli.ExitFailed || out != "" || !strings.Contains(errs, test.want) {
				t.Errorf("got code %d, output %q and errors %q, want 1 and %q", code, out, errs, test.want)
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestPublish_SaysThatItReadsTheTerminal(t *testing.T) {
	publishes := make(chan publish, 1)
	hub := serve(t, record(publishes))
	_, _, errs := run(t, []string{"publish", "--url", hub.URL, "clock"}, stdin(strings.NewReader("x")), func(std *cli.IO) {
		std.IsTerminal = func(stream any) bool { return stream == std.In }
	})
	if !strings.Contains(errs, "Ctrl-D") {
		t.Errorf("got %q, want how to end it", errs)
	}
}

func TestPublish_AnswerThatCannotBeWritten(t *testing.T) {
	publishes := make(chan publish, 2)
	hub := serve(t, record(publishes))
	args := []string{"publish", "--url", hub.URL, "clock", "x"}
	code, _, errs := run(t, args, stdout(full{}))
	if code != cli.ExitFailed || !strings.Contains(errs, "published, but the answer could not be written: the disk is full") {
		t.Errorf("got code %d and %q, want 1", code, errs)
	}
	if code, _, errs := run(t, args, stdout(gone{})); code != cli.ExitOK || errs != "" {
		t.Errorf("got code %d and %q, want 0 where nobody reads the answer", code, errs)
	}
}

type gone struct{}

func (gone) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
