//go:build linux && !portable && (amd64 || arm64)

package hub_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/hub"
)

// TestEngine_EndsWithAClientThatTalks has clients that say more than a request before they
// go: net/http reads no more than the first byte of that, and the engine all.
func TestEngine_EndsWithAClientThatTalks(t *testing.T) {
	tests := []struct {
		name, says string
		gone       func(w *wire)
	}{
		{"another request, and a close", get("/events/a"), (*wire).close},
		{"another request, and half a close", get("/events/a"), func(w *wire) { _ = w.conn.CloseWrite() }},
		{"nonsense, and a close", strings.Repeat("x", 10_000), (*wire).close},
		{"more than anybody has to say", strings.Repeat("x", 1<<20), func(*wire) {}},
	}
	h := newHub(t, hub.Options{Heartbeat: -1})
	s := serve(t, h)
	wantNothingLeft := leavesNothing(t, h, s)
	for _, tt := range tests {
		for _, path := range []string{"/events/a", "/events?pattern=*&since=earliest"} {
			w := s.wire(path)
			w.wantText(t, "retry: 3000\n")
			_ = w.say(tt.says) // it may be cut off meanwhile
			tt.gone(w)
			eventually(t, tt.name, func() bool { return h.Streams() == 0 })
			w.close()
		}
	}
	wantNothingLeft()
}

// TestEngine_HasNoGoroutineForAStream has many streams that are idle, and then get an event.
func TestEngine_HasNoGoroutineForAStream(t *testing.T) {
	const streams = 300
	h := newHub(t, hub.Options{})
	s := serve(t, h)
	wantNothingLeft := leavesNothing(t, h, s)
	before := runtime.NumGoroutine()
	var all []*wire
	for i := range streams {
		w := s.wire([]string{"/events/a", fmt.Sprint("/events/own/", i, "?topic=a"), "/events?pattern=*"}[i%3])
		w.wantText(t, "retry: 3000\n")
		all = append(all, w)
	}
	eventually(t, "no goroutine for a stream", func() bool { return runtime.NumGoroutine() <= before })
	publish(t, h, hub.Event{Topics: []string{"a"}, ID: "1", Data: "x"})
	for _, w := range all {
		w.wantText(t, "id: 1\ndata: x\n\n")
		w.vanish()
	}
	wantNothingLeft()
}
