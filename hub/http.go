package hub

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// eventsPath is where the interface lives; topics follow it.
const eventsPath = "/events"

const allowedMethods = "GET, HEAD, POST, PUT, DELETE, OPTIONS"

// ServeHTTP serves the HTTP interface: GET, HEAD, POST, PUT, DELETE and OPTIONS on
// /events/{topic} and /events?topic=…, where a topic may contain slashes and is
// percent-decoded once. Mount it elsewhere with [http.StripPrefix], and not under an
// [http.ServeMux] if topics have // in them, which that redirects.
//
// On Linux it takes the connection of an event stream over HTTP/1.1 from the server, as for
// a WebSocket, and returns while the stream goes on: it ends when the client goes or the hub
// does, and no longer with the request's context or what the server does to its connections.
// A w without a Hijack method of its own (one that has Unwrap only), or a method TakeSocket
// that returns a descriptor and whether there is more to read, keeps the handler, and
// a goroutine, until the stream has ended. So does a WebSocket.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.routes.ServeHTTP(w, r) }

func (h *Hub) newRoutes() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path := r.URL.EscapedPath(); path != eventsPath && !strings.HasPrefix(path, eventsPath+"/") {
			Fail(w, &RequestError{Problem: ProblemNotFound, Detail: "there is nothing here: events are at /events/{topic}"})
			return
		}
		if err := h.checkHeaders(r); err != nil {
			Fail(w, err)
			return
		}
		if err := h.CheckOrigin(w, r); err != nil {
			Fail(w, err)
			return
		}
		var err error
		switch r.Method {
		case http.MethodGet:
			if asksWebSocket(r) {
				err = h.serveWebSocket(w, r)
			} else {
				err = h.serveSubscribe(w, r)
			}
		case http.MethodPost, http.MethodPut:
			err = h.servePublish(w, r)
		case http.MethodHead:
			err = h.serveHead(w, r)
		case http.MethodDelete:
			err = h.serveDelete(w, r)
		case http.MethodOptions:
			h.serveOptions(w, r)
		default:
			w.Header().Set("Allow", allowedMethods)
			err = &RequestError{Problem: ProblemMethod, Detail: "the method " + r.Method + " is not one of " + allowedMethods}
		}
		if err != nil {
			Fail(w, err)
		}
	})
}

// checkHeaders bounds a request's URL and headers. net/http has a bound too, the
// server's MaxHeaderBytes, but no words for it.
func (h *Hub) checkHeaders(r *http.Request) error {
	n := len(r.RequestURI)
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(v) + len(": \r\n")
		}
	}
	if limit := h.limits.Load().HeaderSize; n > limit {
		return &RequestError{Problem: ProblemHeaders, Detail: fmt.Sprintf("the URL and headers have %d bytes, more than %d: name fewer topics at once, or shorter ones", n, limit)}
	}
	return nil
}

// A request is what all methods read from a URL.
type request struct {
	topics   []string
	patterns []string
	query    url.Values
	header   http.Header
}

func parseRequest(r *http.Request) (*request, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &RequestError{Problem: ProblemQuery, Detail: "the query cannot be parsed: " + err.Error()}
	}
	req := &request{topics: q["topic"], patterns: q["pattern"], query: q, header: r.Header}
	if escaped := strings.TrimPrefix(strings.TrimPrefix(r.URL.EscapedPath(), eventsPath), "/"); escaped != "" {
		topic, err := url.PathUnescape(escaped)
		if err != nil {
			return nil, &RequestError{Problem: ProblemTopic, Field: "topic", Detail: "the topic in the path is not percent-encoded as it should be: " + err.Error()}
		}
		req.topics = slices.Insert(slices.Clone(req.topics), 0, topic)
	}
	return req, nil
}

// field returns a field of a request: the query's, else the header's. Header names are
// the field's with Tidewire- before it.
func (r *request) field(name string) string {
	if r.query.Has(name) {
		return r.query.Get(name)
	}
	return r.header.Get("Tidewire-" + name)
}

// flag returns a field that is true or false.
func (r *request) flag(name string) (bool, error) {
	switch v := r.field(name); v {
	case "", "false", "0":
		return false, nil
	case "true", "1":
		return true, nil
	default:
		return false, &RequestError{Problem: ProblemQuery, Field: name, Detail: name + " is " + quote(v) + ": it can be true or false"}
	}
}

// oneTopic returns the topic of a request that is about one.
func (r *request) oneTopic() (string, error) {
	if len(r.topics) != 1 || len(r.patterns) > 0 {
		return "", &RequestError{Problem: ProblemTopic, Field: "topic", Detail: "this method is about one topic: name it, as in /events/news"}
	}
	return r.topics[0], nil
}

// serveHead tells of a topic without its events.
func (h *Hub) serveHead(w http.ResponseWriter, r *http.Request) error {
	req, err := parseRequest(r)
	if err != nil {
		return err
	}
	topic, err := req.oneTopic()
	if err != nil {
		return err
	}
	p, err := h.authorize(w, r, ActionDescribe, req, false)
	if err != nil {
		return err
	}
	defer p.end()
	if err := p.may(p.grant.Subscribe, req.topics); err != nil {
		return err
	}
	info, err := h.Topic(r.Context(), topic)
	if err != nil {
		return err
	}
	describe(w.Header(), info)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return nil
}

// serveDelete forgets a topic's history.
func (h *Hub) serveDelete(w http.ResponseWriter, r *http.Request) error {
	req, err := parseRequest(r)
	if err != nil {
		return err
	}
	topic, err := req.oneTopic()
	if err != nil {
		return err
	}
	p, err := h.authorize(w, r, ActionDelete, req, false)
	if err != nil {
		return err
	}
	defer p.end()
	if err := p.may(p.grant.Delete, req.topics); err != nil {
		return err
	}
	if err := h.Forget(r.Context(), topic); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// serveOptions answers a preflight, and anyone else who asks what there is.
func (h *Hub) serveOptions(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Allow", allowedMethods)
	header.Set("Accept-Post", strings.Join(bodyTypes, ", "))
	if r.Header.Get("Access-Control-Request-Method") != "" && header.Get("Access-Control-Allow-Origin") != "" {
		header.Set("Access-Control-Allow-Methods", allowedMethods)
		header.Set("Access-Control-Allow-Headers", allowedHeaders)
		header.Set("Access-Control-Max-Age", "7200")
	}
	w.WriteHeader(http.StatusNoContent)
}
