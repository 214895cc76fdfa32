package hub_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// Pollers who wait, for one topic, a pattern, or a type, get every event once and in order,
// however many come between two polls.
func TestLongPoll_EachEventOnce(t *testing.T) {
	const events, each = 400, 6
	h := newHub(t, hub.Options{HotBytes: 20_000}) // so that some read from the Log
	s := serve(t, h)
	want := map[string]int{"/events/a": events / 2, "/events?pattern=*": events, "/events?topic=a&topic=b&type=t": events / 4, "/events/b?limit=3": events / 2}
	var all sync.WaitGroup
	for path, n := range want {
		start := s.poll(path).LastID
		for range each {
			all.Go(func() {
				sep := "?"
				if strings.Contains(path, "?") {
					sep = "&"
				}
				last, id, got := -1, start, 0
				for got < n {
					p := s.poll(path + sep + "wait=20s&last_event_id=" + id)
					if p.StatusCode != http.StatusOK || p.Gap != nil {
						t.Errorf("%s: got %s, gap %+v", path, p.Status, p.Gap)
						return
					}
					for _, ev := range p.Events {
						var i int
						if _, err := fmt.Sscan(ev.Data, &i); err != nil || i <= last {
							t.Errorf("%s: got %s after %d", path, ev.Data, last)
						}
						last = i
					}
					got, id = got+len(p.Events), p.LastID
					if len(p.Events) == 0 {
						t.Errorf("%s: got nothing in 20s after %d of %d", path, got, n)
						return
					}
				}
			})
		}
	}
	for i := range events {
		ev := hub.Event{Topics: []string{[]string{"a", "b"}[i%2]}, Data: fmt.Sprint(i)}
		if i%4 < 1 {
			ev.Type = "t"
		}
		publish(t, h, ev)
		if rand.IntN(4) == 0 {
			runtime.Gosched() // some polls wait, and some come late
		}
	}
	all.Wait()
}

// A shard may have nothing else that time brings.
func TestLongPoll_TheTimeIsUpWithoutHeartbeats(t *testing.T) {
	s := serve(t, newHub(t, hub.Options{Heartbeat: -1, PositionInterval: -1, WriteTimeout: -1}))
	s.patience = 20 * time.Second
	if p := s.poll("/events/a?wait=100ms"); len(p.Events) != 0 || p.LastID == "" {
		t.Errorf("got %q, want nothing", p.datas())
	}
}

func TestLongPoll_TheTimeIsUp(t *testing.T) {
	h := newHub(t, hub.Options{})
	s := serve(t, h)
	publish(t, h, event("a", "1"))
	begin := time.Now()
	p := s.poll("/events/a?wait=200ms")
	if took := time.Since(begin); took < 200*time.Millisecond || len(p.Events) != 0 || p.LastID == "" {
		t.Errorf("got %q after %v, want nothing after 200ms", p.datas(), took)
	}
	publish(t, h, event("a", "2"))
	if again := s.poll("/events/a?wait=20s&last_event_id=" + p.LastID); again.datas() != "2" {
		t.Errorf("got %q, want 2", again.datas())
	}
}

func TestLongPoll_WhoGoesIsForgotten(t *testing.T) {
	d := newDesk(map[string]*hub.Grant{"b": {Subscribe: []string{"**"}}})
	h := newHub(t, hub.Options{Authority: d})
	s := serve(t, h)
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		r := s.request("GET", "/events/a?wait=60s", nil, "Accept: application/json", "Badge: b").WithContext(ctx)
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			if resp, err := s.Do(r); err == nil {
				resp.Body.Close()
			}
		}()
		eventually(t, "it waits", func() bool { return len(h.Subscriptions(t.Context())) == 1 })
		cancel()
		<-gone
		eventually(t, "it is gone", func() bool { return len(h.Subscriptions(t.Context())) == 0 })
	}
	d.allEnded(t)
}

func TestLongPoll_IsAnsweredWhenItMustEnd(t *testing.T) {
	d := newDesk(map[string]*hub.Grant{
		"b":     {Subscribe: []string{"**"}, Subject: "b"},
		"short": {Subscribe: []string{"**"}, By: "the badge", Expires: time.Now().Add(500 * time.Millisecond)},
	})
	h := newHub(t, hub.Options{Authority: d})
	s := serve(t, h)
	wait := func(badge string) <-chan answer {
		c := make(chan answer, 1)
		go func() {
			c <- s.call("GET", "/events/a?wait=60s", "", "Accept: application/json", "Badge: "+badge)
		}()
		return c
	}
	expires := wait("short")
	if a := <-expires; a.StatusCode != 401 || !strings.Contains(a.body, "token-expired") || a.Header.Get("Set-Cookie") != "" {
		t.Errorf("expired: got %s %s", a.Status, a.body)
	}
	ended := wait("b")
	eventually(t, "it waits", func() bool { return len(h.Subscriptions(t.Context())) == 1 })
	n := h.End(t.Context(), func(sub *hub.Subscription) bool { return sub.Subject == "b" }, &hub.RequestError{Problem: hub.ProblemForbidden, Detail: "that will do"})
	if a := <-ended; n != 1 || a.StatusCode != 403 || !strings.Contains(a.body, "that will do") {
		t.Errorf("ended: got %d, %s %s", n, a.Status, a.body)
	}
	closed := wait("b")
	eventually(t, "it waits", func() bool { return len(h.Subscriptions(t.Context())) == 1 })
	end(t, h, "a")
	if a := <-closed; a.StatusCode != 200 || !strings.Contains(a.body, `"closed":true`) {
		t.Errorf("closed: got %s %s", a.Status, a.body)
	}
	d.allEnded(t)
}

// An answer of more than a socket takes at once comes whole.
func TestLongPoll_ALargeAnswerComesWhole(t *testing.T) {
	h := newHub(t, hub.Options{})
	s := serveNarrow(t, h)
	w, err := s.connect(get("/events/a?wait=60s", "Accept: application/json"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	w.narrow()
	eventually(t, "it waits", func() bool { return len(h.Subscriptions(t.Context())) == 1 })
	data := strings.Repeat("0123456789", 90_000)
	publish(t, h, event("a", data))
	resp, err := http.ReadResponse(w.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(b), `"data":"`+data+`"`) {
		t.Errorf("got %d bytes, %v, want the event", len(b), err)
	}
}
