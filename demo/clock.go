package demo

import (
	"iter"
	"net/http"
	"time"

	"github.com/tidewire/tidewire/sse"
)

// clockRetry is how long a browser waits before it comes back to a clock that has
// stopped.
const clockRetry = 10 * time.Second

// serveClock is the example without a hub: a handler that is a generator.
func (d *Demo) serveClock(w http.ResponseWriter, r *http.Request) {
	// The error says why the stream ended: mostly that the client has gone.
	_ = sse.Serve(w, r, d.ticks, &sse.SessionOptions{Retry: clockRetry})
}

// ticks yields the time of the connection, and then the time at each full second.
func (d *Demo) ticks(s *sse.Session) iter.Seq2[sse.Event, error] {
	return func(yield func(sse.Event, error) bool) {
		now := time.Now()
		if !yield(sse.Event{Type: "connecttime", Data: now.Format(time.RFC3339)}, nil) {
			return
		}
		for next := now.Truncate(time.Second); ; {
			next = next.Add(time.Second)
			if now := time.Now().Truncate(time.Second); now.After(next) {
				next = now // the machine was asleep
			}
			select {
			case <-time.After(time.Until(next)):
			case <-s.Context().Done():
				return
			case <-d.over:
				return
			}
			if !yield(sse.Event{Data: next.Format(time.RFC3339)}, nil) {
				return
			}
		}
	}
}
