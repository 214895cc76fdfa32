package hub

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tidewire/tidewire/sse"
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

// parseLines reads a batch: one JSON event a line. What a line leaves out comes from
// the request.
func parseLines(body []byte, proto Event) ([]Event, error) {
	var events []Event
	n := 0
	for line := range bytes.Lines(body) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		ev, err := parseEvent(line, proto)
		if err != nil {
			var e *RequestError
			if errors.As(err, &e) {
				e.Detail = fmt.Sprintf("line %d: %s; nothing was stored", n, e.Detail)
			}
			return nil, err
		}
		events = append(events, ev)
	}
	return events, nil
}

// parseEvent reads an event as JSON.
func parseEvent(b []byte, proto Event) (Event, error) {
	if !utf8.Valid(b) { // which the JSON package would replace
		return Event{}, &RequestError{Problem: ProblemBody, Field: "data", Detail: "this is not UTF-8"}
	}
	if ev, ok := parsePlain(b, proto); ok {
		return ev, nil
	}
	return parseJSON(b, proto)
}

// parseJSON is parseEvent for what is not written plainly.
func parseJSON(b []byte, proto Event) (Event, error) {
	var in struct {
		ID      *string         `json:"id"`
		Type    *string         `json:"type"`
		Data    json.RawMessage `json:"data"`
		Topics  []string        `json:"topics"`
		Retry   *float64        `json:"retry"` // in milliseconds
		Private *bool           `json:"private"`
	}
	if b[0] != '{' {
		return Event{}, &RequestError{Problem: ProblemBody, Detail: "this is not an event as JSON: an object such as {\"data\":\"hello\"}"}
	}
	if err := json.Unmarshal(b, &in); err != nil {
		var typ *json.UnmarshalTypeError
		if errors.As(err, &typ) && typ.Field != "" {
			return Event{}, &RequestError{Problem: ProblemBody, Field: typ.Field, Detail: typ.Field + " cannot be a JSON " + typ.Value}
		}
		return Event{}, &RequestError{Problem: ProblemBody, Detail: "this is not an event as JSON: " + err.Error()}
	}
	if field, ok := loneSurrogate(b, in.Data); ok {
		return Event{}, &RequestError{Problem: ProblemBody, Field: field, Detail: "a \\u escape stands for half of a UTF-16 surrogate pair, which no text has: write both, or the character itself"}
	}
	ev := proto
	if in.ID != nil {
		ev.ID = *in.ID
	}
	if in.Type != nil {
		ev.Type = *in.Type
	}
	if in.Topics != nil {
		ev.Topics = in.Topics
	}
	if in.Private != nil {
		ev.Private = *in.Private
	}
	if in.Retry != nil {
		var err error
		if ev.Retry, err = parseRetry(strconv.FormatFloat(*in.Retry, 'f', 0, 64)); err != nil {
			return Event{}, err
		}
	}
	ev.Data = textOf(in.Data)
	return ev, nil
}

// textOf returns the text of a JSON string, and any other value as its JSON text.
func textOf(value json.RawMessage) string {
	if len(value) == 0 || value[0] != '"' {
		return string(value)
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : len(value)-1])
	}
	var text string
	if json.Unmarshal(value, &text) != nil {
		return string(value) // not reached: it was parsed before
	}
	return text
}

// loneSurrogate tells whether a text in an event as JSON has half of a UTF-16 pair, where
// the JSON package would put U+FFFD, and in which field, if that is data. Data that is not
// a string is kept as it is written, with all that is in it.
func loneSurrogate(object, data []byte) (field string, ok bool) {
	inData := loneSurrogates(data)
	if inData > 0 && data[0] == '"' {
		return "data", true
	}
	return "", loneSurrogates(object) > inData
}

// loneSurrogates counts the \u escapes in valid JSON that are half of a pair.
func loneSurrogates(b []byte) (n int) {
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 {
			return n
		}
		const escape = len(`\ud800`)
		b = b[i:]
		switch r := escaped(b); {
		case !utf16.IsSurrogate(r):
			b = b[len(`\\`):] // or more, which has no backslash
		case utf16.DecodeRune(r, escaped(b[escape:])) != utf8.RuneError:
			b = b[2*escape:]
		default:
			b = b[escape:]
			n++
		}
	}
}

// escaped returns the rune of a \u escape at the beginning of b, -1 if there is none.
func escaped(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}

// parseCloudEvent takes a CloudEvent in the JSON format, whole, as the data. Its id and
// type are the event's unless the request names others.
func parseCloudEvent(body []byte, proto Event) ([]Event, error) {
	var in struct {
		SpecVersion string `json:"specversion"`
		ID          string `json:"id"`
		Source      string `json:"source"`
		Type        string `json:"type"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, &RequestError{Problem: ProblemBody, Detail: "this is not a CloudEvent in the JSON format: " + err.Error()}
	}
	for _, f := range []struct{ name, value string }{{"specversion", in.SpecVersion}, {"id", in.ID}, {"source", in.Source}, {"type", in.Type}} {
		if f.value == "" {
			return nil, &RequestError{Problem: ProblemBody, Field: f.name, Detail: "a CloudEvent must have " + f.name}
		}
	}
	if in.SpecVersion != "1.0" {
		return nil, &RequestError{Problem: ProblemBody, Field: "specversion", Detail: "the version of CloudEvents known here is 1.0, not " + quote(in.SpecVersion)}
	}
	if proto.ID == "" {
		proto.ID = in.ID
	}
	if proto.Type == "" {
		proto.Type = in.Type
	}
	proto.Data = string(body)
	return []Event{proto}, nil
}

// relay publishes a stream of events, each as it arrives.
func (h *Hub) relay(w http.ResponseWriter, r *http.Request, proto Event, end bool, permit *permit) error {
	for _, name := range []string{"Idempotency-Key", "If-Match", "If-None-Match"} {
		if r.Header.Get(name) != "" {
			return &RequestError{Problem: ProblemQuery, Field: name, Detail: "a stream is stored event by event as it arrives: " + name + " is for single events and batches"}
		}
	}
	if proto.ID != "" {
		return &RequestError{Problem: ProblemField, Field: "id", Detail: "the events of a stream have their own ids"}
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{})  // a stream takes as long as it takes,
	_ = rc.SetWriteDeadline(time.Time{}) // and is answered after it
	ctx := r.Context()
	var a batchAnswer
	id := ""
	body := bufio.NewReader(r.Body)
	skipPreamble(body)
	d := sse.NewDecoder(body, &sse.DecoderOptions{MaxEventSize: h.limits.Load().EventSize})
	for {
		in, err := d.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return h.relayError(err, a.Count)
		}
		ev := proto
		ev.Data = in.Data
		if in.Retry > 0 {
			ev.Retry = in.Retry
		}
		if in.ID != id { // an event without an id has the one before, which is not its own
			id, ev.ID = in.ID, in.ID
		}
		if epoch, _, ok := parsePosition(ev.ID); ok && epoch == h.log.Head().Epoch {
			ev.ID = "" // our own stream, piped back into us: it gets a new place
		}
		if in.Type != "message" {
			ev.Type = in.Type
		}
		if strings.HasPrefix(ev.Type, "tidewire.") {
			continue // another hub's control events are not ours to repeat
		}
		if permit.expired(time.Now()) {
			return h.relayError(permit.expiry(), a.Count)
		}
		receipt, err := h.Publish(ctx, Publication{Events: []Event{ev}})
		if err != nil {
			return h.relayError(err, a.Count)
		}
		a.Count++
		a.Last = receiptOf(receipt, 0, &ev)
		if a.First == nil {
			a.First = a.Last
		}
	}
	if end {
		if _, err := h.Publish(ctx, Publication{End: proto.Topics}); err != nil {
			return h.relayError(err, a.Count)
		}
	}
	answer(w, a)
	return nil
}

// skipPreamble takes a retry off the very beginning of a stream. With it a server, and
// this one too, tells its own subscribers when to come back; it stands directly before
// the first event, and is none of its fields.
func skipPreamble(r *bufio.Reader) {
	const retry = "retry:"
	if begin, _ := r.Peek(len(retry)); string(begin) != retry {
		return
	}
	for {
		// An LF that is left behind a CR ends an empty block.
		if b, err := r.ReadByte(); err != nil || b == '\n' || b == '\r' {
			return
		}
	}
}

// relayError says how far a stream came.
func (h *Hub) relayError(err error, count int) error {
	var tooLarge *sse.SizeError
	var e RequestError
	switch {
	case errors.As(err, &tooLarge):
		e = RequestError{Problem: ProblemTooLarge, Detail: fmt.Sprintf("an event is larger than %d bytes", tooLarge.Limit)}
	case err == io.ErrUnexpectedEOF:
		e = RequestError{Problem: ProblemBody, Detail: "the stream broke off inside an event, which was not stored"}
	default:
		e = *problemOf(err)
		if e.Problem == ProblemInternal {
			e = RequestError{Problem: ProblemBody, Detail: "the stream broke off"}
		}
	}
	e.Count = count
	e.Detail = fmt.Sprintf("after %d events that were stored: %s", count, e.Detail)
	return &e
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
