package hub

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/tidewire/tidewire/sse"
)

// mayBeEventSource tells whether a status of an error could stop a request's sender for
// good: it asks for an event stream by name, and does not say that it would rather have the
// status.
func mayBeEventSource(h http.Header) bool {
	_, status := preference(h, "status")
	return !status && strings.Contains(strings.ToLower(strings.Join(h.Values("Accept"), ",")), "text/event-stream")
}

// turnAway answers a subscription that is refused. By the standard any status but 200 stops
// an EventSource for good, so one that may come back later is answered with a stream that
// says why and ends, and one that must not, with 204.
func (h *Hub) turnAway(w http.ResponseWriter, r *http.Request, err error) {
	e := problemOf(err)
	switch {
	case !mayBeEventSource(r.Header):
		Fail(w, e)
	case e.Stop:
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent)
	case e.passes():
		h.sendAway(w, r, e)
	default:
		Fail(w, e)
	}
}

// passes tells whether the same request may be answered otherwise later.
func (e *RequestError) passes() bool {
	switch problems[e.Problem].status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return true
	}
	return e.Problem == ProblemTokenExpired || e.Problem == ProblemTicketSpent
}

// sendAway answers with a stream that ends at once, and says why.
func (h *Hub) sendAway(w http.ResponseWriter, r *http.Request, e *RequestError) {
	w.Header().Del("Set-Cookie") // it would be for what is granted
	s, err := sse.Accept(w, r, &sse.SessionOptions{Retry: h.retryAfter(e), Heartbeat: -1, WriteTimeout: h.opt.WriteTimeout})
	if err != nil {
		return // the client has gone
	}
	defer s.Close()
	why := h.errorEvent(e)
	why.Retry = 0 // which is told already
	_ = s.Send(why)
}

// retryAfter returns when a client should come back. Those who are sent away together are
// kept from coming back together.
func (h *Hub) retryAfter(e *RequestError) time.Duration {
	if e.RetryAfter > 0 {
		return e.RetryAfter + rand.N(e.RetryAfter)
	}
	return h.jitteredRetry()
}

func (h *Hub) jitteredRetry() time.Duration { return h.opt.Retry/2 + rand.N(h.opt.Retry) }
