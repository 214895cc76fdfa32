package demo_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/tidewire/tidewire/demo"
	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/server"
)

// A cost is what a way of waiting has taken.
type cost struct {
	Requests, Bytes, Open int
	Held                  float64
}

type report struct {
	Time  time.Time
	Lease int
	Ways  map[string]cost
}

// put sends a page's settings.
func put(t *testing.T, url, settings string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, strings.NewReader(settings))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// set has a page's settings taken.
func set(t *testing.T, page, settings string) (r report) {
	t.Helper()
	status, text := put(t, page, settings)
	if err := json.Unmarshal([]byte(text), &r); status != http.StatusOK || err != nil {
		t.Fatalf("got %d %s, %v, want 200 and a report", status, text, err)
	}
	return r
}

// A batch is the answer to a poll.
type batch struct {
	Events []struct{ ID, Data string }
	LastID string `json:"last_id"`
	Gap    *struct{ Reason string }
}

// poll asks once, and returns an error where the connection was cut.
func poll(t *testing.T, url string) (b batch, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return b, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal(body, &b); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("got %s %s, %v", resp.Status, body, err)
	}
	return b, nil
}

// A follower takes the numbers of a comparison, of which none may be missing.
type follower struct {
	t    *testing.T
	name string
	last int
	ids  []string
}

func (f *follower) take(id, data string) {
	f.t.Helper()
	n := parse(f.t, data).Count
	if f.last > 0 && n != f.last+1 {
		f.t.Fatalf("%s: got number %d after %d", f.name, n, f.last)
	}
	f.last, f.ids = n, append(f.ids, id)
}

// follow takes numbers until one is reached, by polls that wait or not.
func (f *follower) follow(url, from string, until int) (failed int) {
	f.t.Helper()
	for f.last < until {
		b, err := poll(f.t, url+"last_event_id="+from)
		if err != nil {
			failed++
			continue
		}
		if b.Gap != nil {
			f.t.Fatalf("%s: got a gap %+v", f.name, b.Gap)
		}
		for _, ev := range b.Events {
			f.take(ev.ID, ev.Data)
		}
		from = b.LastID
	}
	return failed
}

// followSocket takes numbers until one is reached.
func (f *follower) followSocket(url, from string, until int) (breaks int) {
	f.t.Helper()
	for {
		conn, _, err := websocket.Dial(f.t.Context(), url+from, nil)
		for err == nil {
			var message []byte
			if _, message, err = conn.Read(f.t.Context()); err != nil {
				_ = conn.CloseNow() // it is broken
				break
			}
			var ev struct{ ID, Data string }
			if err := json.Unmarshal(message, &ev); err != nil {
				f.t.Fatalf("%s: got %s: %v", f.name, message, err)
			}
			f.take(ev.ID, ev.Data)
			if from = ev.ID; f.last >= until {
				if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
					f.t.Logf("%s: close: %v", f.name, err) // a cut may come first
				}
				return breaks
			}
		}
		if breaks++; f.t.Context().Err() != nil {
			f.t.Fatal(err)
		}
	}
}

func TestComparison_EveryWayReceivesTheSame(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, settings string }{
		{"good network", `{"rate":50,"delay":0,"buffer":0,"cut":0}`},
		{"delay", `{"rate":50,"delay":30,"buffer":0,"cut":0}`},
		{"buffer", `{"rate":50,"delay":0,"buffer":512,"cut":0}`},
		{"cuts", `{"rate":50,"delay":10,"buffer":0,"cut":1000}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			const until = 120
			page := start(t, hub.Options{WebSocket: server.WebSocket(nil)}) + "/demo/compare/mine"
			set(t, page, c.settings)
			first, err := poll(t, page+"/polling?since=earliest")
			for err != nil || len(first.Events) == 0 { // a cut
				first, err = poll(t, page+"/polling?since=earliest")
			}
			from := first.Events[0].ID

			stream := &follower{t: t, name: "stream"}
			ends := 0
			opts := &eventsource.Options{OnError: func(eventsource.ErrorEvent) { ends++ }}
			for ev, err := range eventsource.Stream(t.Context(), page+"/sse?last_event_id="+from, opts) {
				if err != nil {
					t.Fatal(err)
				}
				if stream.take(ev.ID, ev.Data); stream.last >= until {
					break
				}
			}
			long := &follower{t: t, name: "long-polling"}
			failed := long.follow(page+"/long-polling?wait=10s&", from, until)
			short := &follower{t: t, name: "polling"}
			short.follow(page+"/polling?", from, until)
			socket := &follower{t: t, name: "websocket"}
			breaks := socket.followSocket(page+"/websocket?last_event_id=", from, until)
			for i, id := range stream.ids[:until-2] {
				if long.ids[i] != id || short.ids[i] != id || socket.ids[i] != id {
					t.Fatalf("event %d: got ids %s, %s, %s and %s, want one", i, id, long.ids[i], short.ids[i], socket.ids[i])
				}
			}
			if cuts := strings.Contains(c.settings, `"cut":1000`); cuts != (ends > 0) || !cuts && failed+breaks > 0 {
				t.Errorf("got %d ends of streams, %d failed polls, %d breaks of sockets, cuts: %v", ends, failed, breaks, cuts)
			}
		})
	}
}

func TestComparison_BufferHoldsStreamsAndLetsPollsThrough(t *testing.T) {
	t.Parallel()
	page := start(t, hub.Options{}) + "/demo/compare/mine"
	set(t, page, `{"rate":50,"delay":0,"buffer":65536,"cut":0}`)
	type opened struct {
		resp *http.Response
		err  error
	}
	stream := make(chan opened, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, page+"/sse?since=earliest", nil)
		if err != nil {
			stream <- opened{nil, err}
			return
		}
		resp, err := http.DefaultClient.Do(req)
		stream <- opened{resp, err}
	}()
	short := &follower{t: t, name: "polling"}
	short.follow(page+"/polling?since=earliest&", "", 20)
	select {
	case got := <-stream:
		t.Fatalf("got %+v through a buffer, want nothing yet", got)
	default:
	}

	// What was held comes as soon as the network is good again.
	set(t, page, `{"rate":50,"delay":0,"buffer":0,"cut":0}`)
	got := <-stream
	if got.err != nil {
		t.Fatal(got.err)
	}
	defer got.resp.Body.Close()
	long := &follower{t: t, name: "stream"}
	for ev, err := range events(got.resp.Body) {
		if err != nil {
			t.Fatal(err)
		}
		if long.take(ev[0], ev[1]); long.last == 20 {
			return
		}
	}
}

// events yields the id and data of each event of a stream.
func events(r io.Reader) func(yield func([2]string, error) bool) {
	return func(yield func([2]string, error) bool) {
		var ev [2]string
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch {
			case name == "id":
				ev[0] = value
			case name == "data":
				ev[1] = value
			case name == "" && ev[1] != "":
				if !yield(ev, nil) {
					return
				}
				ev = [2]string{}
			}
		}
		err := lines.Err()
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		yield(ev, err)
	}
}

func TestComparison_DelayIsAddedEachWay(t *testing.T) {
	t.Parallel()
	page := start(t, hub.Options{}) + "/demo/compare/mine"
	set(t, page, `{"rate":1,"delay":100,"buffer":0,"cut":0}`)
	before := time.Now()
	if _, err := poll(t, page+"/polling"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(before); took < 200*time.Millisecond {
		t.Errorf("a poll took %v, want 200ms at least", took)
	}
}

func TestComparison_CostsAreCounted(t *testing.T) {
	t.Parallel()
	const settings = `{"rate":50,"delay":0,"buffer":0,"cut":0}`
	page := start(t, hub.Options{}) + "/demo/compare/mine"
	r := set(t, page, settings)
	if len(r.Ways) != 4 || r.Lease < 1000 || time.Since(r.Time) > time.Minute {
		t.Errorf("got %+v, want four ways, a lease, now", r)
	}
	resp := get(t, page+"/sse?since=earliest")
	lines := bufio.NewReader(resp.Body)
	read := 0
	for range 40 {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		read += len(line)
	}
	for range 3 {
		if _, err := poll(t, page+"/polling?limit=1"); err != nil {
			t.Fatal(err)
		}
	}
	r = set(t, page, settings)
	if got := r.Ways["sse"]; got.Requests != 1 || got.Open != 1 || got.Bytes < read || got.Held <= 0 {
		t.Errorf("got %+v for a stream that has sent %d bytes, want 1 request, 1 open", got, read)
	}
	// An empty answer and both heads are about 400 bytes.
	if got := r.Ways["polling"]; got.Requests != 3 || got.Bytes < 3*250 || got.Bytes > 3*1000 {
		t.Errorf("got %+v for three polls", got)
	}
	if got := r.Ways["websocket"]; got != (cost{}) {
		t.Errorf("got %+v for what was not used", got)
	}
	_ = resp.Body.Close()
	for r.Ways["sse"].Open > 0 {
		if r = set(t, page, settings); t.Context().Err() != nil {
			t.Fatal("the stream is counted as open after its end")
		}
	}
}

func TestComparison_RateCanBeChanged(t *testing.T) {
	t.Parallel()
	page := start(t, hub.Options{}) + "/demo/compare/mine"
	set(t, page, `{"rate":0.2,"delay":0,"buffer":0,"cut":0}`)
	f := &follower{t: t, name: "polling"}
	f.follow(page+"/polling?since=earliest&", "", 1)
	set(t, page, `{"rate":50,"delay":0,"buffer":0,"cut":0}`) // at once, and not after five seconds
	f.follow(page+"/long-polling?wait=10s&", f.ids[0], 50)
}

func TestComparison_PagesHaveTheirOwn(t *testing.T) {
	t.Parallel()
	url := start(t, hub.Options{})
	set(t, url+"/demo/compare/a", `{"rate":50,"delay":0,"buffer":0,"cut":0}`)
	set(t, url+"/demo/compare/b", `{"rate":0.2,"delay":0,"buffer":0,"cut":0}`)
	a, b := &follower{t: t, name: "a"}, &follower{t: t, name: "b"}
	b.follow(url+"/demo/compare/b/polling?since=earliest&", "", 1)
	a.follow(url+"/demo/compare/a/polling?since=earliest&", "", 20)
	got, err := poll(t, url+"/demo/compare/b/polling?since=earliest")
	if err != nil || len(got.Events) > 2 {
		t.Errorf("got %+v, %v of the slow page, want one event or two", got, err)
	}
}

func TestComparison_EndsWithRun(t *testing.T) {
	t.Parallel()
	h := newHub(t, hub.Options{})
	url, stop := serve(t, h)
	page := url + "/demo/compare/mine"
	set(t, page, `{"rate":50,"delay":0,"buffer":0,"cut":0}`)
	resp := get(t, page+"/sse?since=earliest")
	stop()
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Errorf("got %v, want a clean end", err)
	}
	if status, text := put(t, page, `{"rate":1}`); status != http.StatusServiceUnavailable {
		t.Errorf("got %d %s after the end, want 503", status, text)
	}
}

func TestComparison_StreamsEndWithTheirHub(t *testing.T) {
	t.Parallel()
	h := newHub(t, hub.Options{WebSocket: server.WebSocket(nil)})
	url, _ := serve(t, h)
	page := url + "/demo/compare/mine"
	set(t, page, `{"rate":0.2,"delay":100,"buffer":0,"cut":0}`)
	resp := get(t, page+"/sse")
	conn, _, err := websocket.Dial(t.Context(), page+"/websocket", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	closed := make(chan error, 1)
	go func() {
		for {
			if _, _, err := conn.Read(t.Context()); err != nil {
				closed <- err
				return
			}
		}
	}()
	if err := h.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Errorf("got %v, want a clean end", err)
	}
	if err := <-closed; websocket.CloseStatus(err) != websocket.StatusServiceRestart {
		t.Errorf("got %v of the socket, want the code 1012, late", err)
	}
}

func TestComparison_RefusedUpgradeIsTold(t *testing.T) {
	t.Parallel()
	page := start(t, hub.Options{}) + "/demo/compare/mine"
	set(t, page, `{"rate":1,"delay":0,"buffer":0,"cut":0}`)
	conn, resp, err := websocket.Dial(t.Context(), page+"/websocket", nil)
	if err == nil {
		_ = conn.CloseNow()
		t.Fatal("got a socket of a hub that has none")
	}
	if resp == nil || resp.StatusCode != http.StatusNotAcceptable {
		t.Errorf("got %+v, %v, want 406", resp, err)
	}
}

func TestComparison_WaitsForRun(t *testing.T) {
	t.Parallel()
	d := demo.New(newHub(t, hub.Options{}))
	asked, answered := make(chan struct{}), make(chan *httptest.ResponseRecorder)
	go func() {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPut, "/demo/compare/mine", strings.NewReader(`{"rate":1,"delay":0,"buffer":0,"cut":0}`))
		close(asked)
		d.ServeHTTP(w, r)
		answered <- w
	}()
	<-asked
	var w *httptest.ResponseRecorder
	for range 1000 { // a chance to answer too early
		select {
		case w = <-answered:
			t.Fatalf("got %d %s before Run, want it to wait", w.Code, w.Body)
		default:
			runtime.Gosched()
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); d.Run(ctx) }()
	defer func() { stop(); <-ended }()
	if w = <-answered; w.Code != http.StatusOK {
		t.Errorf("got %d %s, want 200", w.Code, w.Body)
	}
}

func TestComparison_EndOfRunEndsSockets(t *testing.T) {
	t.Parallel()
	url, stop := serve(t, newHub(t, hub.Options{WebSocket: server.WebSocket(nil)}))
	page := url + "/demo/compare/mine"
	set(t, page, `{"rate":1,"delay":0,"buffer":0,"cut":0}`)
	conn, _, err := websocket.Dial(t.Context(), page+"/websocket?since=earliest", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	stop()
	for err == nil {
		_, _, err = conn.Read(t.Context())
	}
}

func TestComparison_CutBreaksWhatIsOpen(t *testing.T) {
	t.Parallel()
	page := start(t, hub.Options{}) + "/demo/compare/mine"
	set(t, page, `{"rate":0.2,"delay":0,"buffer":0,"cut":0}`)
	resp := get(t, page+"/sse")
	set(t, page, `{"rate":0.2,"delay":0,"buffer":0,"cut":60000}`) // at once, and then each minute
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

func TestComparison_Bounds(t *testing.T) {
	t.Parallel()
	url := start(t, hub.Options{})
	const ok = `{"rate":1,"delay":0,"buffer":0,"cut":0}`
	for _, c := range []struct {
		name, page, settings string
		status               int
		text                 string
	}{
		{"all bounds", "a-1", `{"rate":50,"delay":2000,"buffer":65536,"cut":60000}`, 200, `"ways":{`},
		{"least", "a-1", `{"rate":0.2,"delay":0,"buffer":0,"cut":1000}`, 200, `"ways":{`},
		{"too slow", "a", `{"rate":0.1}`, 400, "rate is 0.1: it can be 0.2 to 50"},
		{"too fast", "a", `{"rate":51}`, 400, "rate is 51"},
		{"no rate", "a", `{}`, 400, "rate is 0"},
		{"delay", "a", `{"rate":1,"delay":2001}`, 400, "delay is 2001: it can be 0 to 2000"},
		{"negative delay", "a", `{"rate":1,"delay":-1}`, 400, "delay is -1"},
		{"buffer", "a", `{"rate":1,"buffer":65537}`, 400, "buffer is 65537: it can be 0 to 65536"},
		{"cut too often", "a", `{"rate":1,"cut":999}`, 400, "cut is 999: it can be 1000 to 60000"},
		{"several", "a", `{"rate":0,"cut":-1}`, 400, "rate is 0: it can be 0.2 to 50\ncut is -1"},
		{"no JSON", "a", `rate=1`, 400, `send settings such as {"rate":4,"delay":0,"buffer":0,"cut":0}`},
		{"unknown", "a", `{"rate":1,"speed":1}`, 400, `unknown field "speed"`},
		{"too long", "a", `{"rate":1,"delay":` + strings.Repeat(" ", 1<<10) + `0}`, 400, "too large"},
		{"name too long", strings.Repeat("a", 65), ok, 400, "1 to 64 letters"},
		{"name with a slash", "a%2Fb", ok, 400, "1 to 64 letters"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, text := put(t, url+"/demo/compare/"+c.page, c.settings)
			if status != c.status || !strings.Contains(text, c.text) {
				t.Errorf("got %d %s, want %d and %q", status, text, c.status, c.text)
			}
		})
	}
	for _, c := range []struct{ name, path, text string }{
		{"page that is not open", "/demo/compare/nobody/sse", "PUT its settings"},
		{"another way", "/demo/compare/a-1/pigeon", `"pigeon" is no way of waiting`},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp := get(t, url+c.path)
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusNotFound || !strings.Contains(string(body), c.text) {
				t.Errorf("got %s %s, %v, want 404 and %q", resp.Status, body, err, c.text)
			}
		})
	}
	t.Run("requests of one page", func(t *testing.T) {
		set(t, url+"/demo/compare/a-1", ok)
		for range 16 {
			if resp := get(t, url+"/demo/compare/a-1/sse"); resp.StatusCode != http.StatusOK {
				t.Fatalf("got %s", resp.Status)
			}
		}
		if resp := get(t, url+"/demo/compare/a-1/sse"); resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("got %s for the 17th, want 503", resp.Status)
		}
	})
	t.Run("pages", func(t *testing.T) {
		for i := range 31 {
			set(t, url+"/demo/compare/more-"+string(rune('A'+i%26))+string(rune('a'+i/26)), ok)
		}
		if status, text := put(t, url+"/demo/compare/last", ok); status != http.StatusServiceUnavailable {
			t.Errorf("got %d %s for the 33rd page, want 503", status, text)
		}
	})
	t.Run("from elsewhere", func(t *testing.T) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/demo/compare/a-1", strings.NewReader(ok))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", "https://elsewhere.example")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("got %s, want 403", resp.Status)
		}
	})
}

func TestComparison_RunsWithTheDemo(t *testing.T) {
	t.Parallel()
	url, stop := serve(t, newHub(t, hub.Options{}))
	set(t, url+"/demo/compare/mine", `{"rate":1}`) // which waits for the beginning
	stop()
	if status, text := put(t, url+"/demo/compare/mine", `{"rate":1}`); status != http.StatusServiceUnavailable {
		t.Errorf("got %d %s after the end, want 503", status, text)
	}
}

func TestComparison_SocketsAreCounted(t *testing.T) {
	t.Parallel()
	const settings = `{"rate":50,"delay":0,"buffer":0,"cut":0}`
	page := start(t, hub.Options{WebSocket: server.WebSocket(nil)}) + "/demo/compare/mine"
	set(t, page, settings)
	f := &follower{t: t, name: "websocket"}
	f.followSocket(page+"/websocket?since=", "earliest", 20)
	r := set(t, page, settings)
	// A message is about 200 bytes, the handshake about 500.
	if got := r.Ways["websocket"]; got.Requests != 1 || got.Bytes < 20*150 || got.Bytes > 20*300+1000 || got.Held <= 0 {
		t.Errorf("got %+v for a socket with 20 messages", got)
	}
}
