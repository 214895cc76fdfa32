//go:build linux && !portable && (amd64 || arm64)

package hub_test

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// TestGzip_SmallEventsThatWaitShareBlocks has batches of small events, for streams that
// are there and one that comes in their middle.
func TestGzip_SmallEventsThatWaitShareBlocks(t *testing.T) {
	const events = 150
	h := newHub(t, hub.Options{Heartbeat: -1})
	s := serve(t, h)
	first := s.wire("/events/a", codings[1]...)
	first.wantText(t, "retry: 3000\n")
	var batch []hub.Event
	plain := 0
	for i := range events {
		ev := hub.Event{Topics: []string{"a"}, ID: fmt.Sprint(i), Data: order(i, 80)}
		plain += len("id: \ndata: \n\n") + len(ev.ID) + len(ev.Data)
		batch = append(batch, ev)
	}
	publish(t, h, batch...)
	wires := []*wire{first}
	for range events {
		first.next(t)
	}
	for _, after := range []int{0, 1, 62, 63, 64, 100, events - 2} {
		w := s.wire(fmt.Sprint("/events/a?last_event_id=", after), codings[1]...)
		for i := after + 1; i < events; i++ {
			if ev := w.next(t); ev.ID != fmt.Sprint(i) || ev.Data != batch[i].Data {
				t.Fatalf("after %d: got %q, want %d", after, ev.ID, i)
			}
		}
		wires = append(wires, w)
	}
	end(t, h, "a")
	for _, w := range wires {
		w.wantEnd(t)
	}

	h = newHub(t, hub.Options{Heartbeat: -1})
	s = serve(t, h)
	w := s.wire("/events/a", codings[1]...)
	publish(t, h, batch...)
	end(t, h, "a")
	n, err := io.Copy(io.Discard, w)
	if err != nil || int(n) > plain*2/3 {
		t.Errorf("got %d bytes and %v for %d in small events", n, err, plain)
	}
}

// TestGzip_ForgottenEventsAreNotGiven has events in gzip forgotten, those that share a block
// too.
func TestGzip_ForgottenEventsAreNotGiven(t *testing.T) {
	h := newHub(t, hub.Options{Heartbeat: time.Hour})
	s := serve(t, h)
	w := s.wire("/events/a", codings[1]...)
	w.wantText(t, "retry: 3000\n")
	var batch []hub.Event
	for i := range 20 {
		batch = append(batch, hub.Event{Topics: []string{"a"}, ID: fmt.Sprint(i), Data: order(i, 100)})
	}
	publish(t, h, batch...)
	for range batch {
		w.next(t)
	}
	forget(t, h, "a")
	publish(t, h, hub.Event{Topics: []string{"a"}, ID: "after", Data: order(1, 1000)})
	for _, query := range []string{"?last_event_id=3", "?since=earliest"} {
		other := s.wire("/events/a"+query, codings[1]...)
		for {
			ev := other.next(t)
			if ev.ID == "after" {
				break
			}
			if ev.Type != "tidewire.gap" {
				t.Errorf("%s: got %q, which is forgotten", query, ev.ID)
			}
		}
	}
	if ev := w.next(t); ev.ID != "after" {
		t.Errorf("got %q, want the one after", ev.ID)
	}
}
