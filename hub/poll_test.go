package hub_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
)

// A polled is the answer to a poll.
type polled struct {
	*http.Response
	Events []struct {
		ID, Position, Type, Data, Time string
		Topics                         []string
	}
	Gap    *struct{ Reason, Requested, Resumed string }
	LastID string `json:"last_id"`
	Closed bool
}

func (p *polled) datas() string {
	var all []string
	for _, ev := range p.Events {
		all = append(all, ev.Data)
	}
	return strings.Join(all, " ")
}

// poll asks once.
func (s *server) poll(path string, headers ...string) *polled {
	s.t.Helper()
	a := s.call("GET", path, "", append([]string{"Accept: application/json"}, headers...)...)
	p := &polled{Response: a.Response}
	if a.StatusCode == http.StatusOK {
		if err := json.Unmarshal([]byte(a.body), p); err != nil || p.LastID == "" || !strings.Contains(a.body, `"events":[`) {
			s.t.Fatalf("GET %s: got %q, %v", path, a.body, err)
		}
	}
	return p
}

func TestPoll_GoesOnFromTheLastID(t *testing.T) {
	h := newHub(t, hub.Options{})
	s := serve(t, h)
	first := s.poll("/events/a")
	if len(first.Events) != 0 || first.Gap != nil || first.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("got %+v, want nothing yet", first)
	}
	publish(t, h, event("a", "1"), event("b", "x"), event("a", "2"))
	second := s.poll("/events/a?last_event_id=" + first.LastID)
	if second.datas() != "1 2" {
		t.Errorf("got %q, want 1 2", second.datas())
	}
	if ev := second.Events[0]; ev.ID == "" || ev.Position != ev.ID || ev.Type != "message" || !slices.Equal(ev.Topics, []string{"a"}) || ev.Time == "" {
		t.Errorf("got the event %+v", ev)
	}
	publish(t, h, event("a", "3"))
	// An id that was had one way is good any other way.
	st := s.open("/events/a", "Last-Event-ID: "+second.LastID)
	ev := st.next()
	if ev.Data != "3" {
		t.Errorf("a stream from there: got %q, want 3", ev.Data)
	}
	publish(t, h, event("a", "4"))
	if third := s.poll("/events/a", "Last-Event-ID: "+ev.ID); third.datas() != "4" {
		t.Errorf("got %q, want 4", third.datas())
	}
	if all := s.poll("/events?pattern=**&since=earliest"); all.datas() != "1 x 2 3 4" {
		t.Errorf("got %q, want all", all.datas())
	}
}

func TestPoll_LimitCutsAndTheRestComesNext(t *testing.T) {
	h := newHub(t, hub.Options{})
	s := serve(t, h)
	var want []string
	for i := range 700 {
		publish(t, h, hub.Event{Topics: []string{"a"}, Data: fmt.Sprint(i), ID: "same"}) // ids that stand for no place
		want = append(want, fmt.Sprint(i))
	}
	for _, limit := range []int{1, 7, 256, 300, 699, 700, 5000} {
		var got []string
		from := "since=earliest"
		for {
			p := s.poll(fmt.Sprintf("/events/a?limit=%d&%s", limit, from))
			if len(p.Events) > limit {
				t.Fatalf("limit %d: got %d events", limit, len(p.Events))
			}
			if len(p.Events) == 0 {
				break
			}
			got = append(got, p.datas())
			from = "last_event_id=" + p.LastID
			if limit == 1 && len(got) == 20 {
				break
			}
		}
		if w := strings.Join(want, " "); !strings.HasPrefix(w, strings.Join(got, " ")) || limit > 1 && w != strings.Join(got, " ") {
			t.Errorf("limit %d: got %q", limit, got)
		}
	}
	for _, bad := range []string{"limit=0", "limit=x", "limit=-1", "wait=x", "wait=-1s"} {
		if a := s.call("GET", "/events/a?"+bad, "", "Accept: application/json"); a.StatusCode != 400 {
			t.Errorf("%s: got %s, want 400", bad, a.Status)
		}
	}
}

func TestPoll_NothingNewIs304(t *testing.T) {
	h := newHub(t, hub.Options{})
	s := serve(t, h)
	publish(t, h, event("a", "1"))
	for _, path := range []string{"/events/a?since=earliest", "/events/a?last=1"} {
		first := s.poll(path)
		tag := first.Header.Get("ETag")
		if again := s.poll(path, "If-None-Match: "+tag); again.StatusCode != 304 || again.Header.Get("ETag") != tag {
			t.Errorf("%s: got %s, want 304", path, again.Status)
		}
		publish(t, h, event("b", "x")) // nobody asked for that
		if again := s.poll(path, `If-None-Match: "x", W/`+tag); again.StatusCode != 304 {
			t.Errorf("%s after an event elsewhere: got %s, want 304", path, again.Status)
		}
	}
	first := s.poll("/events/a?since=earliest")
	publish(t, h, event("a", "2"))
	if again := s.poll("/events/a?since=earliest", "If-None-Match: "+first.Header.Get("ETag")); again.datas() != "1 2" {
		t.Errorf("got %s %q, want 1 2", again.Status, again.datas())
	}
	if vary := first.Header.Values("Vary"); !slices.Contains(vary, "Accept, Accept-Encoding") {
		t.Errorf("got Vary %q, want Accept, Accept-Encoding", vary)
	}
}

func TestPoll_TellsGapsAndClosedTopics(t *testing.T) {
	log := newLog(t, &memory.Options{Retention: hub.RetentionRules{{Pattern: "a", Retention: hub.Retention{Count: 2}}}})
	h := newHub(t, hub.Options{Log: log})
	s := serve(t, h)
	from := s.poll("/events/a").LastID
	publish(t, h, event("a", "1"), event("a", "2"), event("a", "3"))
	p := s.poll("/events/a?last_event_id=" + from)
	if p.Gap == nil || p.Gap.Reason != "expired" || p.Gap.Requested != from || p.datas() != "2 3" {
		t.Fatalf("got %+v %q, want a gap and 2 3", p.Gap, p.datas())
	}
	if again := s.poll("/events/a?last_event_id=" + p.LastID); again.Gap != nil || len(again.Events) != 0 {
		t.Errorf("got %+v %q, want nothing new", again.Gap, again.datas())
	}
	if unknown := s.poll("/events/a?last_event_id=nobody"); unknown.Gap == nil || unknown.Gap.Reason != "unknown" || unknown.datas() != "2 3" {
		t.Errorf("got %+v %q, want a gap for an unknown id, and all that is kept", unknown.Gap, unknown.datas())
	}
	end(t, h, "a")
	if last := s.poll("/events/a?last_event_id=" + p.LastID + "&wait=30s"); !last.Closed || len(last.Events) != 0 {
		t.Errorf("got %+v, want it closed", last)
	}
	if last := s.poll("/events/a?since=earliest&limit=1"); last.Closed || last.datas() != "2" {
		t.Errorf("got %+v, want 2 and no word of the end yet", last)
	}
}

func TestPoll_WaitsUntilThereIsSomething(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, hub.Options{})
		s := serveInBubble(t, h)
		answers := make(chan *polled)
		wait := func(path string, headers ...string) { go func() { answers <- s.poll(path, headers...) }() }
		begin := time.Now()
		wait("/events/a?wait=30s")
		p := <-answers
		if took := time.Since(begin); took != 30*time.Second || len(p.Events) != 0 {
			t.Errorf("got %q after %v, want nothing after 30s", p.datas(), took)
		}
		wait("/events/a", "Prefer: wait=10")
		<-answers
		if took := time.Since(begin); took != 40*time.Second {
			t.Errorf("Prefer: wait=10: answered after %v, want 10s", took-30*time.Second)
		}
		wait("/events/a?wait=9m")
		<-answers
		if took := time.Since(begin); took != 100*time.Second {
			t.Errorf("wait=9m: answered after %v, want a minute, which is the most", took-40*time.Second)
		}
		wait("/events/a?wait=30s&last_event_id=" + p.LastID)
		synctest.Wait()
		time.Sleep(7 * time.Second)
		publish(t, h, event("b", "x"))
		publish(t, h, event("a", "1"))
		if p = <-answers; p.datas() != "1" || time.Since(begin) != 107*time.Second {
			t.Errorf("got %q after %v, want 1 at once", p.datas(), time.Since(begin)-100*time.Second)
		}
		if first := s.poll("/events/a?wait=30s&since=earliest"); first.datas() != "1" {
			t.Errorf("got %q, want what there is at once", first.datas())
		}
	})
}
