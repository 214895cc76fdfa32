package demo

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
)

// maxToken is the longest token of a page in bytes.
const maxToken = 64

// A stream is one of a page's that can be cut.
type stream struct {
	cancel context.CancelFunc
}

// serveStream is the hub's stream of the panel's numbers, under a token of the page's
// choice with which it can have the stream cut.
func (d *Demo) serveStream(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	token := query.Get("token")
	if token == "" || len(token) > maxToken {
		http.Error(w, "give the stream a token of 1 to 64 bytes, as in /demo/stream?token=mine", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer d.enter(token, &stream{cancel})()

	query.Del("token")
	inner := r.Clone(ctx)
	inner.URL = &url.URL{Path: "/events/" + topicPanel, RawQuery: query.Encode()}
	d.hub.ServeHTTP(held{w}, inner)
}

// A held response stays with its handler, as it has no Hijack: the stream ends with the
// request's context.
type held struct{ http.ResponseWriter }

func (h held) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// enter notes a stream, and returns what forgets it.
func (d *Demo) enter(token string, s *stream) (leave func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.streams[token] == nil {
		d.streams[token] = make(map[*stream]struct{})
	}
	d.streams[token][s] = struct{}{}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if delete(d.streams[token], s); len(d.streams[token]) == 0 {
			delete(d.streams, token)
		}
	}
}

// serveCut ends the streams that have a token, as a server that restarts would, and
// tells how many there were.
func (d *Demo) serveCut(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	var found []*stream
	for s := range d.streams[r.URL.Query().Get("token")] {
		found = append(found, s)
	}
	d.mu.Unlock()
	for _, s := range found {
		s.cancel()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]int{"cut": len(found)}) // to a page that has gone it is no matter
}
