package demo_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/demo"
	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
)

// newHub returns a hub over an empty log, which the end of the test closes.
func newHub(t *testing.T, opts hub.Options) *hub.Hub {
	t.Helper()
	log, err := memory.New(&memory.Options{Retention: demo.Retention()})
	if err != nil {
		t.Fatal(err)
	}
	opts.Log = log
	h, err := hub.New(&opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// serve runs a demo over a hub, and returns its address and what stops Run.
func serve(t *testing.T, h *hub.Hub) (url string, stop func()) {
	t.Helper()
	d := demo.New(h)
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); d.Run(ctx) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return server.URL, stop
}

func start(t *testing.T, opts hub.Options) (url string) {
	t.Helper()
	url, _ = serve(t, newHub(t, opts))
	return url
}

// get asks for a URL, whose answer the end of the test closes.
func get(t *testing.T, url string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func post(t *testing.T, url, contentType, body string) *http.Response {
	t.Helper()
	resp, err := http.Post(url, contentType, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// A number is the data of what the demo publishes.
type number struct {
	Count int
	Time  time.Time
}

func parse(t *testing.T, data string) number {
	t.Helper()
	var n number
	if err := json.Unmarshal([]byte(data), &n); err != nil {
		t.Fatalf("got data %q: %v", data, err)
	}
	return n
}

func TestDemo_ClockIsTheseBytes(t *testing.T) {
	t.Parallel()
	url, stop := serve(t, newHub(t, hub.Options{}))
	resp := get(t, url+"/demo/clock")
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("got Content-Type %q", got)
	}
	lines := bufio.NewReader(resp.Body)
	var got strings.Builder
	for range 8 {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("after %q: %v", got.String(), err)
		}
		got.WriteString(line)
	}
	const stamp = `(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d))`
	want := regexp.MustCompile(`^retry: 10000\nevent: connecttime\ndata: ` + stamp + `\n\n` +
		`data: ` + stamp + `\n\n` + `data: ` + stamp + `\n\n$`)
	m := want.FindStringSubmatch(got.String())
	if m == nil {
		t.Fatalf("got %q, want a match of %s", got.String(), want)
	}
	var times [3]time.Time
	for i := range times {
		var err error
		if times[i], err = time.Parse(time.RFC3339, m[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if d := times[1].Sub(times[0]); d != time.Second {
		t.Errorf("the first message is %v after the connection's second, want 1s", d)
	}
	if d := times[2].Sub(times[1]); d != time.Second {
		t.Errorf("the second message is %v after the first, want 1s", d)
	}

	// The end of Run is the end of the clock.
	stop()
	if _, err := io.ReadAll(lines); err != nil {
		t.Errorf("got %v, want a clean end", err)
	}
}

func TestDemo_CounterCountsInJSON(t *testing.T) {
	t.Parallel()
	url := start(t, hub.Options{})
	next := 1
	for ev, err := range eventsource.Stream(t.Context(), url+"/events/demo/counter?since=earliest", nil) {
		if err != nil {
			t.Fatal(err)
		}
		n := parse(t, ev.Data)
		if n.Count != next || ev.Type != "message" || ev.ID == "" || time.Since(n.Time) > time.Minute {
			t.Fatalf("got %+v with %+v, want count %d, now", ev.Event, n, next)
		}
		if next++; next > 3 {
			return
		}
	}
}

func TestDemo_NumbersGoOnWhereTheyStood(t *testing.T) {
	t.Parallel()
	h := newHub(t, hub.Options{})
	url, stop := serve(t, h)
	newest := func(url string) int {
		for ev, err := range eventsource.Stream(t.Context(), url+"/events/demo/panel?last=1", nil) {
			if err != nil {
				t.Fatal(err)
			}
			return parse(t, ev.Data).Count
		}
		return 0
	}
	newest(url)
	stop()
	before := newest(url)
	after, _ := serve(t, h)
	for ev, err := range eventsource.Stream(t.Context(), after+"/events/demo/panel?since=earliest", nil) {
		if err != nil {
			t.Fatal(err)
		}
		if n := parse(t, ev.Data).Count; n == before+1 {
			return
		} else if n > before+1 {
			t.Fatalf("got number %d after %d", n, before)
		}
	}
}

func TestDemo_CutStreamComesBackWithNothingMissed(t *testing.T) {
	t.Parallel()
	url := start(t, hub.Options{Retry: 1200 * time.Millisecond}) // so that something is published in between
	var got []int
	opened, failed := 0, 0
	opts := &eventsource.Options{
		StrictSpec: true,
		OnOpen:     func(eventsource.OpenEvent) { opened++ },
		OnError: func(e eventsource.ErrorEvent) {
			failed++
			if !errors.Is(e.Err, io.EOF) {
				t.Errorf("got error %v, want io.EOF", e.Err)
			}
		},
	}
	cutAt := 0
	for ev, err := range eventsource.Stream(t.Context(), url+"/demo/stream?token=mine", opts) {
		if err != nil {
			t.Fatal(err)
		}
		n := parse(t, ev.Data).Count
		if len(got) > 0 && n != got[len(got)-1]+1 {
			t.Fatalf("got number %d after %v", n, got)
		}
		got = append(got, n)
		switch {
		case len(got) == 1:
			var answer struct{ Cut int }
			resp := post(t, url+"/demo/cut?token=another", "", "")
			if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Cut != 0 {
				t.Errorf("another's token: got %+v, %v, want cut 0", answer, err)
			}
		case len(got) == 2:
			var answer struct{ Cut int }
			resp := post(t, url+"/demo/cut?token=mine", "", "")
			if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Cut != 1 {
				t.Errorf("got %+v, %v, want cut 1", answer, err)
			}
			cutAt = n
		case n >= cutAt+5:
			if opened != 2 || failed != 1 {
				t.Errorf("opened %d times, failed %d times, want 2, 1", opened, failed)
			}
			return
		}
	}
	t.Fatalf("the stream has ended after %v", got)
}

func TestDemo_StreamTakesTheLastIDFromTheURL(t *testing.T) {
	t.Parallel()
	url := start(t, hub.Options{})
	var last string
	var want int
	for ev, err := range eventsource.Stream(t.Context(), url+"/demo/stream?token=a", nil) {
		if err != nil {
			t.Fatal(err)
		}
		if last != "" {
			want = parse(t, ev.Data).Count
			break
		}
		last = ev.ID
	}
	for ev, err := range eventsource.Stream(t.Context(), url+"/demo/stream?token=a&last_event_id="+last, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if got := parse(t, ev.Data).Count; got != want {
			t.Errorf("got number %d after %s, want %d", got, last, want)
		}
		return
	}
}

func TestDemo_PageNeedsNothingButThisServer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(demo.New(newHub(t, hub.Options{})))
	t.Cleanup(server.Close)
	url := server.URL

	outside := regexp.MustCompile(`(?:src|srcset|action|data)="(?:https?:)?//|@import|url\(`)
	local := regexp.MustCompile(`(?:src|href)="(/[^"#]*)"|from "\./([^"]+)"`)
	seen := map[string]string{"/": "text/html; charset=utf-8"}
	types := map[string]string{"": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
	for todo := []string{"/"}; len(todo) > 0; todo = todo[1:] {
		resp := get(t, url+todo[0])
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: got %s, %v", todo[0], resp.Status, err)
		}
		if got := resp.Header.Get("Content-Type"); got != seen[todo[0]] {
			t.Errorf("%s: got Content-Type %q, want %q", todo[0], got, seen[todo[0]])
		}
		if got := resp.Header.Get("Content-Security-Policy"); !strings.Contains(got, "script-src 'self'") {
			t.Errorf("%s: got Content-Security-Policy %q", todo[0], got)
		}
		if found := outside.Find(body); found != nil {
			t.Errorf("%s loads something from outside: %s", todo[0], found)
		}
		for _, m := range local.FindAllStringSubmatch(string(body), -1) {
			path := m[1]
			if path == "" {
				path = "/demo/" + m[2]
			}
			if _, ok := seen[path]; !ok {
				seen[path] = types[filepath.Ext(path)]
				todo = append(todo, path)
			}
		}

		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+todo[0], nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("If-None-Match", resp.Header.Get("ETag"))
		again, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = again.Body.Close()
		if again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: got %s for its own ETag, want 304", todo[0], again.Status)
		}
	}
	for _, path := range []string{"/demo/page.js", "/demo/examples.js", "/demo/view.js", "/demo/chart.js", "/demo/code.js", "/demo/style.css", "/demo/icon.svg",
		"/compare", "/demo/compare.js", "/demo/ways.js", "/demo/compare.css"} {
		if _, ok := seen[path]; !ok {
			t.Errorf("nothing leads to %s: found %q", path, seen)
		}
	}
}

func TestDemo_Answers(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(demo.New(newHub(t, hub.Options{})))
	t.Cleanup(server.Close)
	for _, c := range []struct {
		name, method, path, origin string
		status                     int
		body                       string
	}{
		{"another page", "GET", "/favicon.ico", "", 404, ""},
		{"no token", "GET", "/demo/stream", "", 400, "token of 1 to 64 bytes"},
		{"long token", "GET", "/demo/stream?token=" + strings.Repeat("x", 65), "", 400, "token of 1 to 64 bytes"},
		{"cut with GET", "GET", "/demo/cut?token=x", "", 405, ""},
		{"cut from elsewhere", "POST", "/demo/cut?token=x", "https://elsewhere.example", 403, ""},
		{"cut nothing", "POST", "/demo/cut?token=x", "", 200, `{"cut":0}`},
		{"publish", "POST", "/events/demo/articles", "", 201, `"topics":["demo/articles"]`},
		{"topic with two slashes", "POST", "/events/https://example.com/1", "", 201, `"topics":["https://example.com/1"]`},
		{"several topics", "POST", "/events?topic=a&topic=b", "", 201, `"topics":["a","b"]`},
		{"the hub's own errors", "GET", "/events", "", 400, `bad-topic`},
		{"publish from elsewhere", "POST", "/events/demo/articles", "https://elsewhere.example", 403, `origin-not-allowed`},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), c.method, server.URL+c.path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			if c.origin != "" {
				req.Header.Set("Origin", c.origin)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != c.status || !strings.Contains(string(body), c.body) {
				t.Errorf("got %s %q, %v, want %d and %q", resp.Status, body, err, c.status, c.body)
			}
		})
	}
}

func TestDemo_RunEndsWithItsHub(t *testing.T) {
	t.Parallel()
	h := newHub(t, hub.Options{})
	ended := make(chan struct{})
	go func() { defer close(ended); demo.New(h).Run(t.Context()) }()
	for _, err := range h.Subscribe(t.Context(), hub.Filter{Topics: []string{"demo/panel"}, From: hub.Start{Earliest: true}}) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if err := h.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-ended
}

func TestRetention_BoundsEveryTopicOfThePage(t *testing.T) {
	rules := demo.Retention()
	for _, topic := range []string{"demo/counter", "demo/panel", "demo/articles", "demo/types", "demo/compare/a"} {
		if rules.For(topic).Count == 0 {
			t.Errorf("%s is kept whole", topic)
		}
	}
	if slices.ContainsFunc(rules, func(r hub.RetentionRule) bool { return hub.Match(r.Pattern, "news") }) {
		t.Error("other topics are bounded too")
	}
}
