//go:build linux

package main

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
)

// A naive hub is what one writes by hand with net/http: a goroutine and a channel for each
// subscriber, a flush for each event, and the history in a slice. Whoever publishes waits
// for full channels, so that nothing is lost.
type naive struct {
	mu     sync.Mutex
	topics map[string]*naiveTopic
}

type naiveTopic struct {
	mu          sync.Mutex
	subscribers map[chan naiveEvent]struct{}
	history     []naiveEvent
}

type naiveEvent struct {
	id   int
	data string
}

func newNaive() (http.Handler, error) {
	h := &naive{topics: map[string]*naiveTopic{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /events/{topic}", h.subscribe)
	mux.Handle("POST /events/{topic}", publishing(h.publish))
	return mux, nil
}

func (h *naive) topic(name string) *naiveTopic {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[name]
	if t == nil {
		t = &naiveTopic{subscribers: map[chan naiveEvent]struct{}{}}
		h.topics[name] = t
	}
	return t
}

func (h *naive) publish(topic, data string) error {
	t := h.topic(topic)
	t.mu.Lock()
	defer t.mu.Unlock()
	ev := naiveEvent{id: 1, data: data}
	if n := len(t.history); n > 0 {
		ev.id = t.history[n-1].id + 1
	}
	t.history = append(t.history, ev)
	if len(t.history) >= 2*keep {
		t.history = append([]naiveEvent(nil), t.history[keep:]...)
	}
	for ch := range t.subscribers {
		ch <- ev
	}
	return nil
}

// join returns what comes from now on, and what has come since an id.
func (t *naiveTopic) join(lastID string) (live chan naiveEvent, missed []naiveEvent) {
	live = make(chan naiveEvent, 64)
	t.mu.Lock()
	defer t.mu.Unlock()
	if id, err := strconv.Atoi(lastID); err == nil && len(t.history) > 0 {
		at := min(max(0, id+1-t.history[0].id), len(t.history))
		missed = t.history[at:]
	}
	t.subscribers[live] = struct{}{}
	return live, missed
}

func (t *naiveTopic) leave(live chan naiveEvent) {
	go func() {
		for range live { // for whoever publishes at this moment
		}
	}()
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.subscribers, live)
	close(live)
}

func (h *naive) subscribe(w http.ResponseWriter, r *http.Request) {
	t := h.topic(r.PathValue("topic"))
	live, missed := t.join(r.Header.Get("Last-Event-ID"))
	defer t.leave(live)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	rc := http.NewResponseController(w)
	for _, ev := range missed {
		if ev.write(w) != nil {
			return
		}
	}
	for rc.Flush() == nil {
		select {
		case ev := <-live:
			if ev.write(w) != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

func (ev naiveEvent) write(w http.ResponseWriter) error {
	_, err := fmt.Fprintf(w, "id: %d\ndata: %s\n\n", ev.id, ev.data)
	return err
}
