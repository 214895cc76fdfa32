package load_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidewire/tidewire/internal/load"
	"github.com/tidewire/tidewire/server"
)

// forms runs a test with each form of the client.
func forms(t *testing.T, test func(t *testing.T, o load.Options)) {
	for _, portable := range []bool{false, true} {
		name := "portable"
		if !portable {
			name = runtime.GOOS
		}
		t.Run(name, func(t *testing.T) {
			test(t, load.Options{
				Subscribers: 20,
				Duration:    200 * time.Millisecond,
				Rate:        500,
				Portable:    portable,
				// Where something goes wrong by design, tests wait for so long.
				Patience: time.Second,
			})
		})
	}
}

// start returns the URL of a server that runs as long as the test.
func start(t *testing.T) *url.URL {
	t.Helper()
	s, err := server.New(&server.Config{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return parseURL(t, s.URL())
}

func parseURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func run(t *testing.T, o load.Options) *load.Result {
	t.Helper()
	res, err := load.Run(t.Context(), &o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// clean runs what must go well, and returns what came of it.
func clean(t *testing.T, o load.Options) *load.Result {
	t.Helper()
	o.Patience = 30 * time.Second // on a busy machine too
	res := run(t, o)
	if res.Faults.Any() {
		t.Errorf("got faults: %v (%s)", res.Faults.String(), res.Faults.First)
	}
	return res
}

func TestRun_FanOut(t *testing.T) {
	forms(t, func(t *testing.T, o load.Options) {
		o.URL = start(t)
		res := clean(t, o)
		// 500 a second for a fifth of a second, but the last on a busy machine.
		p, d := res.Publish, res.Delivery
		if p.Events == 0 || p.Events > 100 || p.Events+p.Unsent != 100 || p.Requests != p.Events || p.Answer.N != p.Events {
			t.Errorf("got %+v, want 100 events, a request each", p)
		}
		if d.Expected != p.Events*20 || d.Delivered != d.Expected || d.Latency.N != d.Expected || d.Last.N != p.Events {
			t.Errorf("got %+v, want %d deliveries and as many latencies, and a last one of each event", d, p.Events*20)
		}
		if d.Last.P50 < d.Latency.P50 || d.Last.Max != d.Latency.Max {
			t.Errorf("got %+v to the last subscriber, and %+v to any", d.Last, d.Latency)
		}
		if c := res.Connect; c.Subscribers != 20 || c.Head.N != 20 {
			t.Errorf("got %+v, want 20 connections", c)
		}
		if want := map[bool]string{false: "epoll", true: "net/http"}[o.Portable || runtime.GOOS != "linux"]; res.Conditions.Form != want {
			t.Errorf("got the form %q, want %q", res.Conditions.Form, want)
		}
	})
}

func TestRun_Shapes(t *testing.T) {
	for _, test := range []struct {
		name                                   string
		subscribers, topics, publishers, batch int
		rate                                   float64
		size                                   int
	}{
		{"more topics than publishers", 20, 7, 3, 1, 1000, 51},
		{"more publishers than topics", 20, 3, 7, 1, 1000, 200},
		{"more topics than subscribers", 3, 10, 2, 1, 1000, 100},
		{"batches", 10, 2, 2, 25, 5000, 100},
		{"as fast as answered", 5, 1, 4, 3, 0, 100},
		{"large events", 3, 1, 1, 1, 50, 200_000},
		{"no subscribers", -1, 2, 2, 2, 0, 100},
		{"one of each", 1, 1, 1, 1, 100, 100},
	} {
		t.Run(test.name, func(t *testing.T) {
			forms(t, func(t *testing.T, o load.Options) {
				o.URL = start(t)
				o.Subscribers, o.Topics, o.Publishers, o.Batch = test.subscribers, test.topics, test.publishers, test.batch
				o.Rate, o.Size = test.rate, test.size
				res := clean(t, o)
				if p := res.Publish; p.Events == 0 || p.Events != p.Requests*int64(test.batch) {
					t.Errorf("got %+v, want requests of %d events", p, test.batch)
				}
				if d := res.Delivery; d.Delivered != d.Expected {
					t.Errorf("got %d of %d deliveries", d.Delivered, d.Expected)
				}
				if test.topics == 1 && test.subscribers > 0 && res.Delivery.Expected != res.Publish.Events*int64(test.subscribers) {
					t.Errorf("got %d expected deliveries of %d events", res.Delivery.Expected, res.Publish.Events)
				}
			})
		})
	}
}

func TestRun_Storm(t *testing.T) {
	for _, test := range []struct{ topics, publishers, storm, batch int }{
		{1, 1, 10, 1}, {3, 2, 25, 10}, {2, 6, 7, 2},
	} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			forms(t, func(t *testing.T, o load.Options) {
				o.URL = start(t)
				o.Topics, o.Publishers, o.Storm, o.Batch = test.topics, test.publishers, test.storm, test.batch
				res := clean(t, o)
				s, d := res.Storm, res.Delivery
				if s.Missed != test.storm || s.Subscribers != 20 || s.CaughtUp != 20 || s.Times.N != 20 || s.Heads.N != 20 {
					t.Errorf("got %+v, want 20 subscribers who caught up", s)
				}
				if want := int64(20 * test.storm); d.Expected != want || d.Delivered != want {
					t.Errorf("got %d of %d deliveries, want %d", d.Delivered, d.Expected, want)
				}
			})
		})
	}
}

func TestRun_StormWithARate(t *testing.T) {
	forms(t, func(t *testing.T, o load.Options) {
		o.URL, o.Topics, o.Storm, o.StormRate = start(t), 2, 10, 200
		o.Duration = time.Millisecond // is for what is not counted
		res := clean(t, o)
		if p := res.Publish; p.Events != 20 || p.Seconds < 19/200. {
			t.Errorf("got %d events in %v s, want 20 at 200 a second", p.Events, p.Seconds)
		}
		if res.Storm.CaughtUp != 20 {
			t.Errorf("got %+v, want 20 who caught up", res.Storm)
		}
	})
}

func TestRun_Idle(t *testing.T) {
	forms(t, func(t *testing.T, o load.Options) {
		o.URL, o.Idle = start(t), true
		res := clean(t, o)
		if res.Connect.Subscribers != 20 || res.Publish != nil || res.Delivery != nil {
			t.Errorf("got %+v, %+v, %+v, want connections alone", res.Connect, res.Publish, res.Delivery)
		}
	})
}

// What a run has published is not left on the hub, unless it was asked for by name.
func TestRun_LeavesNothingBehind(t *testing.T) {
	forms(t, func(t *testing.T, o load.Options) {
		o.URL = start(t)
		count := func(topic string) string {
			resp, err := http.Head(o.URL.String() + topic)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			return resp.Header.Get("Tidewire-Count")
		}
		res := clean(t, o)
		topic := strings.TrimSuffix(res.Conditions.Topics, "000000…")
		for _, name := range []string{"000000", load.Probe} {
			if got := count(topic + name); got != "0" {
				t.Errorf("%s%s has %q events after the run", topic, name, got)
			}
		}
		o.TopicPrefix = "mine/own"
		res = clean(t, o)
		if got, want := count("/events/mine/own/000000"), fmt.Sprint(res.Publish.Events); got != want {
			t.Errorf("got %s events under the name that was asked for, want %s", got, want)
		}
	})
}

func TestRun_HeadersAndPathOfTheURL(t *testing.T) {
	forms(t, func(t *testing.T, o load.Options) {
		f := &fake{}
		var mu sync.Mutex
		seen := map[string]int{}
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			seen[r.Method+" "+r.Header.Get("X-Token")+" "+r.Header.Get("Authorization")]++
			mu.Unlock()
			http.StripPrefix("/deep", f).ServeHTTP(w, r)
		}))
		defer s.Close()
		defer s.CloseClientConnections()
		o.URL = parseURL(t, s.URL+"/deep/")
		o.URL.User = url.UserPassword("me", "secret")
		o.Header = http.Header{"X-Token": {"abc"}}
		res := clean(t, o)
		mu.Lock()
		defer mu.Unlock()
		for _, method := range []string{"GET", "POST", "DELETE"} {
			if seen[method+" abc Basic bWU6c2VjcmV0"] == 0 {
				t.Errorf("got %v, want the headers with %s", seen, method)
			}
		}
		if strings.Contains(res.Conditions.URL, "secret") {
			t.Errorf("the result has the password: %s", res.Conditions.URL)
		}
	})
}

// A server that is none of ours, with paths and answers of its own.
func TestRun_Peer(t *testing.T) {
	forms(t, func(t *testing.T, o load.Options) {
		var mu sync.Mutex
		topics := map[string]*fake{}
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			topic, ok := strings.CutPrefix(r.URL.Path, map[string]string{"GET": "/base/sub/", "POST": "/base/pub"}[r.Method])
			if topic += r.URL.Query().Get("to"); !ok || r.Method == http.MethodGet && r.URL.RawQuery != "" {
				t.Errorf("%s %s: no such path", r.Method, r.URL)
			}
			mu.Lock()
			f := topics[topic]
			if f == nil {
				f = &fake{answer: func(w http.ResponseWriter, _ int) bool {
					w.WriteHeader(http.StatusAccepted)
					return false
				}}
				topics[topic] = f
			}
			mu.Unlock()
			f.ServeHTTP(w, r)
		}))
		defer s.Close()
		defer s.CloseClientConnections()
		o.URL, o.Topics, o.Publishers = parseURL(t, s.URL+"/base/"), 3, 2
		o.Peer = &load.Peer{Subscribe: "/sub/{topic}", Publish: "/pub?to={topic}"}
		if res := clean(t, o); res.Delivery.Delivered == 0 || res.Delivery.Delivered != res.Delivery.Expected {
			t.Errorf("got %d of %d deliveries", res.Delivery.Delivered, res.Delivery.Expected)
		}
		for _, name := range []string{"000000", "000001", "000002", load.Probe} {
			if topics[name] == nil {
				t.Errorf("nothing was published to %s", name)
			}
		}
		o.Peer = &load.Peer{Subscribe: "sub/{topic}", Publish: "/pub"}
		o.Batch, o.TopicPrefix = 2, "a"
		_, err := load.Run(t.Context(), &o)
		for _, want := range []string{`peer: "sub/{topic}"`, `peer: "/pub"`, "batch: ", "topic-prefix: "} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		}
	})
}

func TestRun_TellsPhases(t *testing.T) {
	o := load.Options{URL: start(t), Subscribers: 3, Storm: 5}
	var got []string
	o.Phase = func(name string) { got = append(got, name) }
	clean(t, o)
	if want := []string{"asking", load.PhaseConnecting, "publishing what the subscribers have", "publishing what they miss", load.PhaseReturning}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A fake is a server that does to its events what a test wants.
type fake struct {
	// change returns what is sent to a subscriber in an event's place. Both are counted
	// from 0. Nil: the event.
	change func(subscriber, event int, data string) string
	// answer, if not nil, answers a publish, and tells whether that is all.
	answer func(w http.ResponseWriter, event int) bool
	// closes has streams end with the connection, instead of chunks.
	closes bool

	mu     sync.Mutex
	events int
	subs   []chan string
}

// end is an event that ends the stream.
const end = "END"

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodGet:
		f.subscribe(w, r)
	case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/"+load.Probe):
		accept(w)
	case r.Method == http.MethodPost:
		f.publish(w, r)
	}
}

func accept(w http.ResponseWriter) {
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, `{"id":"e-1","position":"e-1"}`)
}

func (f *fake) publish(w http.ResponseWriter, r *http.Request) {
	data, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.events
	f.events++
	if f.answer != nil && f.answer(w, n) {
		return
	}
	for i, sub := range f.subs {
		text := fmt.Sprintf("id: e-%d\ndata: %s\n\n", n, data)
		if f.change != nil {
			text = f.change(i, n, string(data))
		}
		if text != "" {
			sub <- text
		}
	}
	accept(w)
}

func (f *fake) subscribe(w http.ResponseWriter, r *http.Request) {
	ch := make(chan string, 10_000)
	f.mu.Lock()
	f.subs = append(f.subs, ch)
	f.mu.Unlock()
	w.Header().Set("Content-Type", "text/event-stream")
	if f.closes {
		w.Header().Set("Connection", "close")
		w.Header().Set("Transfer-Encoding", "identity")
	}
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	_ = rc.Flush() // who has gone needs nothing
	for {
		select {
		case text := <-ch:
			if text == end {
				return
			}
			_, _ = io.WriteString(w, text)
			_ = rc.Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func (f *fake) start(t *testing.T) *url.URL {
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	return parseURL(t, s.URL)
}

func event(data string) string { return "data: " + data + "\n\n" }

// Whatever a server does wrong is found and counted.
func TestRun_Faults(t *testing.T) {
	held := map[int]string{}
	for _, test := range []struct {
		name   string
		change func(subscriber, n int, data string) string
		want   load.Faults
	}{
		{"nothing", func(_, _ int, data string) string { return event(data) }, load.Faults{}},
		{"own events and comments", func(_, _ int, data string) string {
			return "retry: 3\n:\nevent: tidewire.hb\nid: 3\ndata:\n\nid: 7\n\n" + event(data)
		}, load.Faults{}},
		{"one is left out for one", func(i, n int, data string) string {
			if i == 3 && n == 5 {
				return ""
			}
			return event(data)
		}, load.Faults{Lost: 1, Skipped: 1}},
		{"all from the 11th are left out for two", func(i, n int, data string) string {
			if i < 2 && n >= 10 {
				return ""
			}
			return event(data)
		}, load.Faults{Lost: -2 * 10}}, // two times all but ten
		{"one is repeated for all", func(_, n int, data string) string {
			if n == 5 {
				return event(data) + event(data)
			}
			return event(data)
		}, load.Faults{Repeated: 20}},
		{"two are exchanged for all", func(i, n int, data string) string {
			switch n {
			case 5:
				held[i] = data
				return ""
			case 6:
				return event(data) + event(held[i])
			}
			return event(data)
		}, load.Faults{Reordered: 20}},
		{"another's for one", func(i, n int, data string) string {
			if i == 1 && n == 2 {
				return event("hello") + event(data)
			}
			return event(data)
		}, load.Faults{Foreign: 1}},
		{"cut for one", func(i, n int, data string) string {
			if i == 1 && n == 2 {
				return event(data[:len(data)-1])
			}
			return event(data)
		}, load.Faults{Foreign: 1, Lost: 1, Skipped: 1}},
		{"another topic's for one", func(i, n int, data string) string {
			if i == 1 && n == 2 {
				return event(strings.Replace(data, ":000000:", ":000001:", 1)) + event(data)
			}
			return event(data)
		}, load.Faults{Foreign: 1}},
		{"a gap for two", func(i, n int, data string) string {
			if i < 2 && n == 2 {
				return "event: tidewire.gap\ndata: {\"reason\":\"expired\"}\n\n" + event(data)
			}
			return event(data)
		}, load.Faults{Gaps: 2}},
		{"one stream ends after the 5th", func(i, n int, data string) string {
			switch {
			case i == 7 && n == 5:
				return end
			case i == 7 && n > 5:
				return ""
			}
			return event(data)
		}, load.Faults{Closed: 1, Lost: -1 * 5}},
	} {
		t.Run(test.name, func(t *testing.T) {
			forms(t, func(t *testing.T, o load.Options) {
				clear(held)
				o.URL = (&fake{change: test.change}).start(t)
				res := run(t, o)
				got, want := res.Faults, test.want
				if want.Lost < 0 {
					// Those that were published but for the first n, for so many.
					missed := map[bool]int64{true: 2*res.Publish.Events - 20, false: res.Publish.Events - 5}[want.Lost == -20]
					want.Lost = missed
				}
				got.First = ""
				if got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
				if got.Any() != (test.want != load.Faults{}) {
					t.Errorf("got %q", got.String())
				}
			})
		})
	}
}

func TestRun_Refusals(t *testing.T) {
	status := func(code int, from int) func(w http.ResponseWriter, n int) bool {
		return func(w http.ResponseWriter, n int) bool {
			if n < from {
				return false
			}
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, `{"detail":"the disk is full"}`)
			return true
		}
	}
	for _, test := range []struct {
		name   string
		answer func(w http.ResponseWriter, n int) bool
		want   int64
		first  string
	}{
		{"three are enough", status(507, 10), 3, "answered 507: {\"detail\":\"the disk is full\"}"},
		{"no answer", func(_ http.ResponseWriter, n int) bool {
			if n == 10 {
				panic(http.ErrAbortHandler)
			}
			return false
		}, 1, "publishing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			forms(t, func(t *testing.T, o load.Options) {
				o.URL = (&fake{answer: test.answer}).start(t)
				o.Rate = 0
				res := run(t, o)
				f := res.Faults
				if f.Refused != test.want || f.Lost != 0 || res.Publish.Events != 10 || !strings.Contains(f.First, test.first) {
					t.Errorf("got %+v and %d events, want %d refused after 10, and %q", f, res.Publish.Events, test.want, test.first)
				}
			})
		})
	}
}

// Streams that end with the connection, and connections that end with each answer.
func TestRun_CloseDelimited(t *testing.T) {
	forms(t, func(t *testing.T, o load.Options) {
		o.URL = (&fake{closes: true}).start(t)
		clean(t, o)
	})
	forms(t, func(t *testing.T, o load.Options) {
		o.URL = (&fake{answer: func(w http.ResponseWriter, _ int) bool {
			w.Header().Set("Connection", "close")
			return false
		}}).start(t)
		if res := clean(t, o); res.Publish.Events < 2 {
			t.Errorf("got %d events", res.Publish.Events)
		}
	})
}

func TestRun_CannotBegin(t *testing.T) {
	answer := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	hub := &fake{}
	nobody := httptest.NewServer(nil)
	nobody.Close()
	var status *load.StatusError
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		check   func(error) bool
	}{
		{"nobody is there", nil, func(err error) bool {
			var op *net.OpError
			return errors.As(err, &op) && op.Op == "dial"
		}},
		{"not found", answer(404, "text/plain", "no"), func(err error) bool {
			return errors.As(err, &status) && status.Status == 404 && string(status.Body) == "no" && status.Doing == "publishing"
		}},
		{"redirect", answer(301, "", ""), func(err error) bool {
			return errors.As(err, &status) && status.Status == 301
		}},
		{"no hub", answer(200, "text/html", "<!doctype html>"), func(err error) bool { return errors.Is(err, load.ErrNotHub) }},
		{"other JSON", answer(201, "application/json", "{}"), func(err error) bool { return errors.Is(err, load.ErrNotHub) }},
		{"refuses subscribers", func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				answer(503, "application/problem+json", `{"detail":"too many"}`)(w, r)
				return
			}
			hub.ServeHTTP(w, r)
		}, func(err error) bool {
			return errors.As(err, &status) && status.Status == 503 && strings.Contains(string(status.Body), "too many") &&
				strings.HasPrefix(err.Error(), "20 of 20 subscribers could not connect: ")
		}},
		{"serves subscribers no stream", func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				answer(200, "text/html", "<!doctype html>")(w, r)
				return
			}
			hub.ServeHTTP(w, r)
		}, func(err error) bool { return errors.Is(err, load.ErrNotHub) }},
		{"never answers subscribers", func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				<-r.Context().Done()
				return
			}
			hub.ServeHTTP(w, r)
		}, func(err error) bool { return strings.Contains(err.Error(), "no answer within 1s") }},
		{"hangs up on subscribers", func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				panic(http.ErrAbortHandler)
			}
			hub.ServeHTTP(w, r)
		}, func(err error) bool { return strings.Contains(err.Error(), "could not connect") }},
		{"never answers", func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}, func(err error) bool { return strings.Contains(err.Error(), "no answer within 1s") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			forms(t, func(t *testing.T, o load.Options) {
				o.URL = parseURL(t, nobody.URL)
				if test.handler != nil {
					s := httptest.NewServer(test.handler)
					defer s.Close()
					defer s.CloseClientConnections()
					o.URL = parseURL(t, s.URL)
				}
				if res, err := load.Run(t.Context(), &o); err == nil || !test.check(err) {
					t.Errorf("got %v, %v", res, err)
				}
			})
		})
	}
}

// A storm in which the server does not take all back, or not from where they were.
func TestRun_StormThatFails(t *testing.T) {
	forms(t, func(t *testing.T, o load.Options) {
		f := &fake{}
		var mu sync.Mutex
		resumed := 0
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Last-Event-ID") != "" {
				mu.Lock()
				n := resumed
				resumed++
				mu.Unlock()
				if n < 3 {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
			}
			f.ServeHTTP(w, r)
		}))
		defer s.Close()
		defer s.CloseClientConnections()
		o.URL, o.Storm = parseURL(t, s.URL), 5
		res := run(t, o)
		if f := res.Faults; f.Absent != 3 || f.Lost != 20*5 || resumed != 20 {
			t.Errorf("got %+v and %d resumptions, want 3 absent, and all that was missed lost", f, resumed)
		}
		if res.Storm.CaughtUp != 0 || res.Storm.Subscribers != 17 {
			t.Errorf("got %+v, want 17 who came back, and none who caught up", res.Storm)
		}
	})
}

func TestRun_Interrupted(t *testing.T) {
	forms(t, func(t *testing.T, o load.Options) {
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		o.URL, o.Duration, o.Patience = start(t), time.Hour, 30*time.Second
		o.Progress = func(p load.Progress) {
			if p.Delivered > 100 {
				interrupt()
			}
		}
		res, err := load.Run(ctx, &o)
		if err != nil {
			t.Fatal(err)
		}
		if !res.Interrupted || res.Faults.Any() || res.Delivery.Delivered <= 100 || len(res.Timeline) < 2 {
			t.Errorf("got %+v and %+v, want what came so far", res.Delivery, res.Faults)
		}
	})
}

func TestRun_MistakesAreToldTogether(t *testing.T) {
	_, err := load.Run(t.Context(), &load.Options{Topics: -1, Size: 3, Rate: -1, StormRate: -1, Header: http.Header{"Accept": {"x"}}, TopicPrefix: "a/../b"})
	for _, want := range []string{"topics: -1 must be", "size: 3 must be", "rate: -1 must be", "storm-rate: -1 must be", "header: Accept", "topic-prefix: ", "url: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// The object of --json, which others' programs read.
func TestResult_JSON(t *testing.T) {
	forms(t, func(t *testing.T, o load.Options) {
		o.URL = start(t)
		b, err := json.Marshal(clean(t, o))
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{
			"conditions.run", "conditions.url", "conditions.subscribers", "conditions.rate_per_s", "conditions.client",
			"connect.per_s", "connect.to_head.p99_ms", "publish.events_per_s", "publish.answer.p999_ms",
			"delivery.delivered", "delivery.per_s", "delivery.latency.p50_ms", "delivery.latency.max_ms", "delivery.latency_to_last.p99_ms", "delivery.latency_curve",
			"faults.lost", "faults.repeated", "faults.reordered", "faults.closed_by_server", "interrupted", "client.reads", "warnings", "timeline",
		} {
			var v any = got
			for key := range strings.SplitSeq(path, ".") {
				m, _ := v.(map[string]any)
				v = m[key]
			}
			if v == nil {
				t.Errorf("there is no %s in %s", path, b)
			}
		}
	})
}

// The report is well-formed, has what was measured, and asks no one for anything.
func TestResult_HTML(t *testing.T) {
	for _, shape := range []string{"fan-out", "storm", "idle", "faulty"} {
		t.Run(shape, func(t *testing.T) {
			o := load.Options{URL: start(t), Subscribers: 5, Duration: 600 * time.Millisecond, Rate: 100, Patience: time.Second}
			switch shape {
			case "storm":
				o.Storm = 10
			case "idle":
				o.Idle = true
			case "faulty":
				o.URL = (&fake{change: func(_, _ int, _ string) string { return event("<script>&") }}).start(t)
			}
			res := run(t, o)
			res.Conditions.Command = []string{"tidewire", "bench", "--topic-prefix", "<b>&"}
			// As if the server were another process.
			res.Server = &load.Server{PIDs: []int{1}, Name: "</title><script>", User: 1, PerMillion: 3, Memory: "PSS", Bytes: 5e6}
			var b strings.Builder
			if err := res.WriteHTML(&b); err != nil {
				t.Fatal(err)
			}
			elements := wellFormed(t, b.String())
			for _, never := range []string{"script", "link", "img", "iframe", "object", "embed"} {
				if elements[never] > 0 {
					t.Errorf("there is a %s", never)
				}
			}
			for _, never := range []string{"url(", "@import"} {
				if strings.Contains(b.String(), never) {
					t.Errorf("there is %q", never)
				}
			}
			// A curve where something came, and what there was over time.
			if want := map[string]int{"fan-out": 2, "storm": 1, "idle": 1, "faulty": 1}[shape]; elements["svg"] < want {
				t.Errorf("got %d plots, want %d", elements["svg"], want)
			}
			if !strings.Contains(b.String(), res.Conditions.Run) || elements["table"] < 2 {
				t.Error("the numbers or the conditions are missing")
			}
		})
	}
}

// wellFormed reads a page as XML, which ours is but for its doctype, and counts elements.
func wellFormed(t *testing.T, page string) map[string]int {
	t.Helper()
	elements := map[string]int{}
	body, ok := strings.CutPrefix(page, "<!doctype html>\n")
	if !ok {
		t.Errorf("the page begins with %.40q", page)
	}
	for d := xml.NewDecoder(strings.NewReader(body)); ; {
		token, err := d.Token()
		if err == io.EOF {
			return elements
		}
		if err != nil {
			t.Fatalf("%v in %s", err, page)
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		elements[e.Name.Local]++
		for _, a := range e.Attr {
			if slices.Contains([]string{"src", "href", "srcset", "data", "action", "style"}, a.Name.Local) {
				t.Errorf("<%s> has %s=%q", e.Name.Local, a.Name.Local, a.Value)
			}
		}
	}
}

func TestResult_Table(t *testing.T) {
	o := load.Options{URL: start(t), Subscribers: 5, Duration: 200 * time.Millisecond, Rate: 100}
	table := clean(t, o).Table()
	for _, want := range []string{"5 subscribers on 1 topic", "connected ", "published ", "delivered ", "99.9 %", "to the last subscriber", "every subscriber has every event once and in order"} {
		if !strings.Contains(table, want) {
			t.Errorf("there is no %q in\n%s", want, table)
		}
	}
	o.URL = (&fake{change: func(_, n int, data string) string { return strings.Repeat(event(data), n%2+1) }}).start(t)
	if table := run(t, o).Table(); !strings.Contains(table, "NOT A MEASUREMENT: ") || !strings.Contains(table, " repeated") {
		t.Errorf("the repeated events are not told in\n%s", table)
	}
}

func TestListeners(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("processes are looked for on Linux only")
	}
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0", "0.0.0.0:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Skipf("cannot listen on %s: %v", address, err)
		}
		at := l.Addr().(*net.TCPAddr).AddrPort()
		if at.Addr().IsUnspecified() {
			at = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.Port())
		}
		if got := load.Listeners(at); !reflect.DeepEqual(got, []int{os.Getpid()}) {
			t.Errorf("%s: got %v, want this process", address, got)
		}
		l.Close()
		if got := load.Listeners(at); len(got) > 0 {
			t.Errorf("%s, closed: got %v, want none", address, got)
		}
	}
}

func TestCheckDescriptors(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the limit is looked at on Linux only")
	}
	if err := load.CheckDescriptors(10, 1); err != nil {
		t.Error(err)
	}
	var limit *load.DescriptorError
	if err := load.CheckDescriptors(1<<30, 10); !errors.As(err, &limit) || limit.Fits != limit.Limit-10-64 {
		t.Fatalf("got %v, want what would fit", err)
	}
	if err := load.CheckDescriptors(limit.Fits, 10); err != nil {
		t.Errorf("what should fit does not: %v", err)
	}
}
