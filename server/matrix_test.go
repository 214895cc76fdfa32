package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go/http3"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/server"
	"github.com/tidewire/tidewire/sse"
)

// A waiting is a way of waiting for events. It reads what comes after an id, and hands each
// event to take, until that returns false or the connection ends, and returns the id to go
// on from.
type waiting struct {
	name string
	read func(ctx context.Context, c *http.Client, url, lastID string, take func(data string) bool) (id string, gap bool)
}

var waitings = []waiting{
	{"polling", poller("")},
	{"long-polling", poller("wait=5s")},
	{"event stream", readStream},
	{"JSON lines", readLines},
	{"WebSocket", readSocket},
}

// fetch asks for a representation, and returns the body where there is one.
func fetch(ctx context.Context, c *http.Client, url, accept string) io.ReadCloser {
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		panic(err) // a test that is wrong
	}
	r.Header.Set("Accept", accept)
	resp, err := c.Do(r)
	if err != nil {
		return io.NopCloser(strings.NewReader(""))
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return io.NopCloser(strings.NewReader(""))
	}
	return resp.Body
}

func poller(wait string) func(context.Context, *http.Client, string, string, func(string) bool) (string, bool) {
	return func(ctx context.Context, c *http.Client, url, id string, take func(string) bool) (string, bool) {
		for polls := 1; ; polls++ {
			body := fetch(ctx, c, url+"?limit=7&"+wait+"&last_event_id="+id, "application/json")
			var answer struct {
				Events []struct{ Data string }
				LastID string `json:"last_id"`
				Gap    any
			}
			err := json.NewDecoder(body).Decode(&answer)
			body.Close()
			if err != nil || answer.LastID == "" {
				return id, false
			}
			id = answer.LastID
			more := wait != "" || len(answer.Events) == 0 && polls < 100
			for _, ev := range answer.Events { // all of them: the id is for all
				more = take(ev.Data) && more
			}
			if answer.Gap != nil || !more {
				return id, answer.Gap != nil
			}
		}
	}
}

func readStream(ctx context.Context, c *http.Client, url, id string, take func(string) bool) (string, bool) {
	body := fetch(ctx, c, url+"?last_event_id="+id, "text/event-stream")
	defer body.Close()
	d := sse.NewDecoder(body, &sse.DecoderOptions{LastEventID: id})
	for {
		ev, err := d.Next()
		switch {
		case err != nil:
			return d.LastEventID(), false
		case ev.Type == "tidewire.gap":
			return ev.ID, true
		case ev.Type == "message" && !take(ev.Data):
			return ev.ID, false
		}
	}
}

func readLines(ctx context.Context, c *http.Client, url, id string, take func(string) bool) (string, bool) {
	body := fetch(ctx, c, url+"?last_event_id="+id, "application/x-ndjson")
	defer body.Close()
	in := bufio.NewReader(body)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return id, false // what there is of a line is none
		}
		next, gap, more := readObject(line, id, take)
		if id = next; gap || !more {
			return id, gap
		}
	}
}

// readObject deals with an event as JSON.
func readObject(text []byte, id string, take func(string) bool) (next string, gap, more bool) {
	var ev struct{ ID, Type, Data string }
	if err := json.Unmarshal(text, &ev); err != nil || ev.ID == "" {
		return id, false, true // an empty line, or an error that has none
	}
	switch ev.Type {
	case "tidewire.gap":
		return ev.ID, true, false
	case "message":
		return ev.ID, false, take(ev.Data)
	}
	return id, false, true
}

// A relay stands between clients and the server, and cuts connections.
type relay struct {
	net.Listener
	to     string
	budget func() int // bytes from the server before a connection is cut; negative: never

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	all   sync.WaitGroup
}

func newRelay(t testing.TB, to string, budget func() int) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Listener: l, to: to, budget: budget, conns: make(map[net.Conn]struct{})}
	r.all.Go(r.run)
	t.Cleanup(func() {
		r.Close()
		r.mu.Lock()
		for c := range r.conns {
			c.Close()
		}
		r.mu.Unlock()
		r.all.Wait()
	})
	return r
}

func (r *relay) run() {
	for {
		in, err := r.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", r.to)
		if err != nil {
			in.Close()
			continue
		}
		r.mu.Lock()
		r.conns[in], r.conns[out] = struct{}{}, struct{}{}
		r.mu.Unlock()
		cut := sync.OnceFunc(func() {
			if rand.IntN(2) == 0 {
				_ = in.(*net.TCPConn).SetLinger(0) // a reset, and not an end
			}
			in.Close()
			out.Close()
		})
		r.all.Go(func() { _, _ = io.Copy(out, in); cut() })
		r.all.Go(func() {
			if n := r.budget(); n >= 0 {
				_, _ = io.CopyN(in, out, int64(n))
			} else {
				_, _ = io.Copy(in, out)
			}
			cut()
		})
	}
}

// TestMatrix has events followed in every way of waiting, over each protocol, through every
// kind of cut, and each time gone on with in another way from the id of the one before: each
// event must come once and in order.
func TestMatrix(t *testing.T) {
	const events = 150
	never := func() int { return -1 }
	for _, w := range ways {
		for _, cut := range []struct {
			name     string
			budget   func() int
			after    func() int // events after which the client goes
			interval int        // events after which an administrator ends all streams, or the server is started again
			restart  bool
		}{
			{"the client goes", never, func() int { return 1 + rand.IntN(20) }, 0, false},
			{"connections are cut anywhere", func() int { return 300 + rand.IntN(6000) }, nil, 0, false},
			{"an administrator ends streams", never, nil, 17, false},
			{"the server starts again", never, nil, 50, true},
		} {
			if w.h3 && cut.budget() >= 0 {
				continue // the relay is for TCP
			}
			t.Run(w.name+"/"+cut.name, func(t *testing.T) {
				t.Parallel()
				cfg, roots := w.config(t)
				cfg.Data, cfg.Listen = t.TempDir(), "127.0.0.1:0"
				run := runAgain(t, &cfg)
				scheme, address, _ := strings.Cut(run.url(), "://")
				through := newRelay(t, address, cut.budget).Addr().String()
				if w.h3 {
					through = address
				}
				direct, _ := w.client(t, roots)
				path := "/events/a"
				start, _ := waitings[0].read(t.Context(), direct, scheme+"://"+address+path, "", func(string) bool { return true })
				if start == "" {
					t.Fatal("got no id to begin from")
				}
				var publisher sync.WaitGroup
				publisher.Go(func() {
					for i := range events {
						publishUntilStored(t, direct, scheme+"://"+address+path, i)
						if cut.interval > 0 && i%cut.interval == cut.interval-1 {
							if cut.restart {
								run.again()
							} else {
								endAll(t, direct, scheme+"://"+address)
							}
						}
					}
				})
				client, _ := w.client(t, roots)
				id, next, turns := start, 0, 0
				came := make(map[string]int) // by way of waiting
				deadline := time.Now().Add(2 * time.Minute)
				for next < events && time.Now().Before(deadline) && !t.Failed() {
					left := -1
					if cut.after != nil {
						left = cut.after()
					}
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					wt := waitings[turns%len(waitings)]
					turns++
					var gap bool
					id, gap = wt.read(ctx, client, scheme+"://"+through+path, id, func(data string) bool {
						if data != fmt.Sprint(next) {
							t.Errorf("%s: got %s, want %d", wt.name, data, next)
						}
						next++
						left--
						came[wt.name]++
						return left != 0 && next < events
					})
					cancel()
					if gap {
						t.Errorf("%s: got a gap after %d", wt.name, next)
					}
				}
				publisher.Wait()
				if next != events {
					t.Errorf("got %d of %d events", next, events)
				}
				for _, wt := range waitings {
					if cut.after != nil && came[wt.name] == 0 {
						t.Errorf("nothing came by %s: %v", wt.name, came)
					}
				}
			})
		}
	}
}

// A running server can be started again at the same address, with what it has stored.
type running struct {
	t     testing.TB
	cfg   *server.Config
	s     *server.Server
	stop  context.CancelFunc
	ended chan error
}

func runAgain(t testing.TB, cfg *server.Config) *running {
	r := &running{t: t, cfg: cfg}
	r.start()
	t.Cleanup(r.end)
	return r
}

func (r *running) start() {
	c := *r.cfg
	c.DrainTimeout = 3 * time.Second
	s, err := server.New(&c)
	if err != nil {
		r.t.Error(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	r.s, r.stop, r.ended = s, stop, make(chan error, 1)
	go func() { r.ended <- s.Run(ctx, context.Background()) }()
	_, r.cfg.Listen, _ = strings.Cut(s.URL(), "://")
}

func (r *running) end() {
	r.stop()
	if err := <-r.ended; err != nil {
		r.t.Error(err)
	}
}

func (r *running) again() { r.end(); r.start() }

func (r *running) url() string { return r.s.URL() }

// publishUntilStored repeats what may have been stored, which is stored once.
func publishUntilStored(t testing.TB, c *http.Client, url string, i int) {
	for range 1000 {
		r, err := http.NewRequest("POST", url, strings.NewReader(fmt.Sprint(i)))
		if err != nil {
			t.Error(err)
			return
		}
		r.Header.Set("Idempotency-Key", fmt.Sprint(i))
		resp, err := c.Do(r)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusCreated {
				return
			}
		}
	}
	t.Errorf("event %d was not stored", i)
}

func endAll(t testing.TB, c *http.Client, url string) {
	r, err := http.NewRequest("DELETE", url+"/admin/subscriptions?all=true", nil)
	if err != nil {
		t.Error(err)
		return
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("end all streams: got %s", resp.Status)
	}
}

// TestMatrix_GapsAreTold has every way of waiting resume from where events have expired.
func TestMatrix_GapsAreTold(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			cfg, roots := w.config(t)
			cfg.Retention = hub.RetentionRules{{Pattern: "**", Retention: hub.Retention{Count: 3}}}
			url, _, _, _ := start(t, cfg)
			c, _ := w.client(t, roots)
			from, _ := waitings[0].read(t.Context(), c, url+"/events/a", "", func(string) bool { return true })
			for i := range 10 {
				publish(t, c, url+"/events/a", fmt.Sprint(i))
			}
			for _, wt := range waitings {
				id, gap := wt.read(t.Context(), c, url+"/events/a", from, func(data string) bool {
					if wt.name == "polling" || wt.name == "long-polling" {
						return true // the gap stands beside the events
					}
					t.Errorf("%s: got %s before the gap", wt.name, data)
					return false
				})
				if !gap {
					t.Errorf("%s: got no gap", wt.name)
				}
				if wt.name == "polling" || wt.name == "long-polling" {
					continue
				}
				var rest []string
				wt.read(t.Context(), c, url+"/events/a", id, func(data string) bool {
					rest = append(rest, data)
					return len(rest) < 3
				})
				if got := strings.Join(rest, " "); got != "7 8 9" {
					t.Errorf("%s after the gap: got %q, want 7 8 9", wt.name, got)
				}
			}
		})
	}
}

func readSocket(ctx context.Context, c *http.Client, url, id string, take func(string) bool) (string, bool) {
	conn, _, err := websocket.Dial(ctx, url+"?last_event_id="+id, &websocket.DialOptions{HTTPClient: oldest(c)})
	if err != nil {
		return id, false
	}
	defer conn.CloseNow()
	conn.SetReadLimit(-1)
	for {
		_, message, err := conn.Read(ctx)
		if err != nil {
			return id, false
		}
		next, gap, more := readObject(message, id, take)
		if id = next; gap || !more {
			return id, gap
		}
	}
}

// oldest returns a client that speaks HTTP/1.1, which an upgrade needs, and trusts the same.
func oldest(c *http.Client) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols), DisableKeepAlives: true}
	tr.Protocols.SetHTTP1(true)
	switch of := c.Transport.(type) {
	case *http.Transport:
		tr.TLSClientConfig = of.TLSClientConfig.Clone()
	case *http3.Transport:
		tr.TLSClientConfig = of.TLSClientConfig.Clone()
	}
	if tr.TLSClientConfig != nil {
		tr.TLSClientConfig.NextProtos = nil
	}
	return &http.Client{Transport: tr}
}
