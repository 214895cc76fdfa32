package sse

import (
	"errors"
	"iter"
	"net/http"
)

// Serve answers a request with the events of an iterator: a handler is a
// generator. It sends each event as it is yielded and ends the response when the
// iterator ends, after which an EventSource reconnects; status 204 is what stops
// one.
//
// events gets the session, for where to begin (LastEventID) and when to stop
// (Context): an iterator that waits must give up when that context ends.
//
// Serve returns nil when the iterator ended or the session reached its MaxAge,
// the error that the iterator yielded, or the one that ended the session, which
// wraps [context.Canceled] if the client has gone. If the ResponseWriter cannot
// stream, it answers 500 and returns the error of [Accept].
func Serve(w http.ResponseWriter, r *http.Request, events func(*Session) iter.Seq2[Event, error], opts *SessionOptions) error {
	s, err := Accept(w, r, opts)
	if err != nil {
		if errors.Is(err, http.ErrNotSupported) {
			http.Error(w, "this server cannot stream", http.StatusInternalServerError)
		}
		return err
	}
	defer s.Close()
	if r.Method == http.MethodHead {
		return nil
	}
	for ev, err := range events(s) {
		if err != nil {
			return err
		}
		if err := s.Send(ev); errors.Is(err, ErrMaxAge) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}
