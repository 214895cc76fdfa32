package hub

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bodyTypes are the bodies that a publish can have.
var bodyTypes = []string{"text/*", "application/json", "application/x-ndjson", "text/event-stream", "application/cloudevents+json"}

// servePublish answers POST, and PUT, which is what curl -T sends.
func (h *Hub) servePublish(w http.ResponseWriter, r *http.Request) error {
	req, err := parseRequest(r)
	if err != nil {
		return err
	}
	if len(req.patterns) > 0 {
		return &RequestError{Problem: ProblemTopic, Field: "pattern", Detail: "events are published to topics, not to patterns"}
	}
	proto, end, err := req.fields()
	if err != nil {
		return err
	}
	typ, err := bodyType(r.Header.Get("Content-Type"))
	if err != nil {
		w.Header().Set("Accept-Post", strings.Join(bodyTypes, ", "))
		return err
	}
	permit, err := h.authorize(w, r, ActionPublish, req, false)
	if err != nil {
		return err
	}
	defer permit.end()
	if err := permit.may(permit.grant.Publish, req.topics); err != nil {
		return err
	}
	if typ == "text/event-stream" {
		return h.relay(w, r, proto, end, permit)
	}
	p := Publication{IdempotencyKey: r.Header.Get("Idempotency-Key")}
	if p.IfNewest, err = precondition(r.Header); err != nil {
		return err
	}
	limit := h.limits.Load().EventSize
	if typ == "application/x-ndjson" {
		limit = h.limits.Load().BatchSize
	}
	body, err := readBody(w, r, limit)
	if err != nil {
		return err
	}
	switch {
	case typ == "application/x-ndjson":
		p.Events, err = parseLines(body, proto)
	case typ == "application/cloudevents+json":
		p.Events, err = parseCloudEvent(body, proto)
	case end && len(body) == 0:
	default:
		proto.Data = string(body)
		p.Events = []Event{proto}
	}
	if err != nil {
		return err
	}
	if end {
		if p.End = endTopics(p.Events, proto.Topics); len(p.End) == 0 {
			return &RequestError{Problem: ProblemTopic, Field: "topic", Detail: "there is no topic to end: name one, as in /events/news"}
		}
	}
	if err := permit.mayPublish(&p); err != nil {
		return err
	}
	receipt, err := h.Publish(r.Context(), p)
	var conflict *ConflictError
	if errors.As(err, &conflict) && *p.IfNewest == "" {
		return &RequestError{Problem: ProblemPrecondition, Field: "If-None-Match", Detail: "the topic has had events already: read on from there, and send If-Match with the newest id"}
	}
	if err != nil {
		return err
	}
	if receipt.Replayed {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	answer(w, answerOf(receipt, p, typ == "application/x-ndjson"))
	return nil
}

func endTopics(events []Event, named []string) []string {
	all := slices.Clone(named)
	for i := range events {
		all = append(all, events[i].Topics...)
	}
	return unique(all)
}

// fields reads what stands beside the data.
func (r *request) fields() (ev Event, end bool, err error) {
	ev = Event{Topics: r.topics, Type: r.field("type"), ID: r.field("id")}
	if ev.Private, err = r.flag("private"); err != nil {
		return ev, false, err
	}
	if end, err = r.flag("end"); err != nil {
		return ev, false, err
	}
	if v := r.field("retry"); v != "" {
		ev.Retry, err = parseRetry(v)
	}
	return ev, end, err
}

// parseRetry reads milliseconds, or a duration with a unit.
func parseRetry(v string) (time.Duration, error) {
	if ms, err := strconv.ParseInt(v, 10, 64); err == nil && ms >= 0 {
		return time.Duration(min(ms, int64(maxRetry/time.Millisecond))) * time.Millisecond, nil
	}
	if d, err := time.ParseDuration(v); err == nil && d >= 0 {
		return d, nil
	}
	return 0, &RequestError{Problem: ProblemField, Field: "retry", Detail: "retry is " + quote(v) + ": it is a number of milliseconds, or a duration such as 2s"}
}

// bodyType returns the media type of a body. What curl -d and a program that sets none
// send is taken as text.
func bodyType(contentType string) (string, error) {
	if contentType == "" {
		return "text/plain", nil
	}
	typ, _, err := mime.ParseMediaType(contentType)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return "", &RequestError{Problem: ProblemMediaType, Field: "Content-Type", Detail: "the Content-Type " + quote(contentType) + " cannot be parsed"}
	}
	switch {
	case typ == "application/x-www-form-urlencoded":
		return "text/plain", nil
	case strings.HasPrefix(typ, "text/") || slices.Contains(bodyTypes, typ):
		return typ, nil
	}
	return "", &RequestError{Problem: ProblemMediaType, Field: "Content-Type", Detail: "a body of type " + quote(typ) + " cannot be published: it can be " + strings.Join(bodyTypes, ", ")}
}

// readBody reads all of a body, but no more than a limit.
func readBody(w http.ResponseWriter, r *http.Request, limit int) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(limit)))
	var tooLarge *http.MaxBytesError
	var refused *RequestError // by who wrapped the body
	if err != nil && !errors.As(err, &tooLarge) && !errors.As(err, &refused) {
		return nil, &RequestError{Problem: ProblemBody, Detail: "the body broke off: nothing was stored"}
	}
	return body, err
}

// precondition reads If-Match and If-None-Match: *.
func precondition(h http.Header) (*string, error) {
	match, none := h.Get("If-Match"), h.Get("If-None-Match")
	switch {
	case match != "" && none != "", none != "" && none != "*":
		return nil, &RequestError{Problem: ProblemQuery, Field: "If-None-Match", Detail: "the one condition beside If-Match is If-None-Match: *, for a topic without any event"}
	case none == "*":
		return new(""), nil
	case match == "":
		return nil, nil
	case len(match) < 2 || match[0] != '"' || match[len(match)-1] != '"':
		return nil, &RequestError{Problem: ProblemQuery, Field: "If-Match", Detail: "If-Match is an id in double quotes: the topic's newest"}
	}
	return new(match[1 : len(match)-1]), nil
}

// receiptJSON answers for one event.
type receiptJSON struct {
	ID       string   `json:"id"`
	Position string   `json:"position"`
	Topics   []string `json:"topics"`
}

// batchAnswer answers for several.
type batchAnswer struct {
	Count int          `json:"count"`
	First *receiptJSON `json:"first,omitempty"`
	Last  *receiptJSON `json:"last,omitempty"`
}

// endAnswer answers where topics were closed without an event.
type endAnswer struct {
	Closed []string `json:"closed"`
}

func receiptOf(receipt Receipt, i int, ev *Event) *receiptJSON {
	a := &receiptJSON{ID: ev.ID, Position: Position(receipt.Epoch, receipt.Sequences[i]), Topics: unique(ev.Topics)}
	if a.ID == "" {
		a.ID = a.Position
	}
	return a
}

func answerOf(receipt Receipt, p Publication, batch bool) any {
	one := func(i int) *receiptJSON { return receiptOf(receipt, i, &p.Events[i]) }
	switch n := len(p.Events); {
	case n == 0:
		return endAnswer{p.End}
	case batch:
		return batchAnswer{n, one(0), one(n - 1)}
	default:
		return one(0)
	}
}

func answer(w http.ResponseWriter, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	status := http.StatusCreated
	if _, ok := v.(endAnswer); ok {
		status = http.StatusOK
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(jsonBytes(v), '\n')) // who has gone needs no answer
}
