package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// A Problem is what went wrong with a request, as the stable last part of the type of
// its problem document (RFC 9457).
type Problem string

// The problems. The comment is the status with which each is answered.
const (
	ProblemTopic          Problem = "bad-topic"           // 400: a topic or pattern is missing or malformed
	ProblemQuery          Problem = "bad-query"           // 400: a query parameter or header is malformed
	ProblemBody           Problem = "bad-body"            // 400: the body is not what its type says
	ProblemField          Problem = "bad-field"           // 400: a field of an event is malformed
	ProblemTooManyTopics  Problem = "too-many-topics"     // 400
	ProblemFieldTooLong   Problem = "field-too-long"      // 400: an id, type or key
	ProblemUnauthorized   Problem = "unauthorized"        // 401: no credentials, or none that hold
	ProblemTokenExpired   Problem = "token-expired"       // 401: they did once
	ProblemTicketSpent    Problem = "ticket-spent"        // 401: expired, or used by another
	ProblemForbidden      Problem = "forbidden"           // 403: they hold, but not for this
	ProblemOrigin         Problem = "origin-not-allowed"  // 403
	ProblemNotFound       Problem = "not-found"           // 404
	ProblemMethod         Problem = "method-not-allowed"  // 405
	ProblemNotAcceptable  Problem = "not-acceptable"      // 406
	ProblemTimeout        Problem = "request-timeout"     // 408: the body came too slowly
	ProblemClosed         Problem = "topic-closed"        // 409
	ProblemPrecondition   Problem = "precondition-failed" // 412
	ProblemTooLarge       Problem = "too-large"           // 413: an event or a batch
	ProblemMediaType      Problem = "unsupported-type"    // 415
	ProblemMisdirected    Problem = "misdirected"         // 421: a Host that is not this server's
	ProblemKeyReused      Problem = "key-reused"          // 422
	ProblemTooManyStreams Problem = "too-many-streams"    // 429
	ProblemTooOften       Problem = "too-many-requests"   // 429
	ProblemHeaders        Problem = "headers-too-large"   // 431: the URL included
	ProblemUnavailable    Problem = "unavailable"         // 503
	ProblemIndeterminate  Problem = "indeterminate"       // 503: it may have been stored
	ProblemShutdown       Problem = "shutting-down"       // 503
	ProblemOverloaded     Problem = "overloaded"          // 503: as many connections or streams as there may be
	ProblemNoSpace        Problem = "no-space"            // 507: the disk is full
	ProblemInternal       Problem = "internal"            // 500
	problemTypePrefix             = "urn:tidewire:problem:"
	problemContentType            = "application/problem+json"
	retryAfterUnavailable         = 1 // seconds
)

var problems = map[Problem]struct {
	status int
	title  string
}{
	ProblemTopic:          {400, "Bad topic"},
	ProblemQuery:          {400, "Bad query"},
	ProblemBody:           {400, "Bad body"},
	ProblemField:          {400, "Bad field"},
	ProblemTooManyTopics:  {400, "Too many topics"},
	ProblemFieldTooLong:   {400, "Field too long"},
	ProblemUnauthorized:   {401, "Unauthorized"},
	ProblemTokenExpired:   {401, "Token expired"},
	ProblemTicketSpent:    {401, "Ticket spent"},
	ProblemForbidden:      {403, "Forbidden"},
	ProblemOrigin:         {403, "Origin not allowed"},
	ProblemNotFound:       {404, "Not found"},
	ProblemMethod:         {405, "Method not allowed"},
	ProblemNotAcceptable:  {406, "Not acceptable"},
	ProblemTimeout:        {408, "Request timeout"},
	ProblemClosed:         {409, "Topic closed"},
	ProblemPrecondition:   {412, "Precondition failed"},
	ProblemTooLarge:       {413, "Too large"},
	ProblemMediaType:      {415, "Unsupported media type"},
	ProblemMisdirected:    {421, "Misdirected request"},
	ProblemKeyReused:      {422, "Idempotency key reused"},
	ProblemTooManyStreams: {429, "Too many streams"},
	ProblemTooOften:       {429, "Too many requests"},
	ProblemHeaders:        {431, "Headers too large"},
	ProblemUnavailable:    {503, "Unavailable"},
	ProblemIndeterminate:  {503, "Outcome unknown"},
	ProblemShutdown:       {503, "Shutting down"},
	ProblemOverloaded:     {503, "Overloaded"},
	ProblemNoSpace:        {507, "No space"},
	ProblemInternal:       {500, "Internal error"},
}

// A RequestError says what is wrong with a call or a request.
type RequestError struct {
	Problem Problem
	Field   string // at fault, "" if none is
	Detail  string // a sentence that says what to do

	// RetryAfter is when to try again, in the header and an EventSource's reconnection
	// time; some jitter is added to that. Default: a second, of a 503.
	RetryAfter time.Duration

	// Challenge is the WWW-Authenticate header of a 401.
	Challenge string

	// Stop has an EventSource be answered 204, which stops it for good.
	Stop bool

	// Count is how many events of a stream or batch were stored before.
	Count int
}

func (e *RequestError) Error() string { return "hub: " + e.Detail }

// problemOf turns any error into one that can be answered.
func problemOf(err error) *RequestError {
	var (
		request  *RequestError
		conflict *ConflictError
		tooLarge *http.MaxBytesError
	)
	switch {
	case errors.As(err, &request):
		return request
	case errors.As(err, &conflict):
		return &RequestError{Problem: ProblemPrecondition, Field: "If-Match", Detail: fmt.Sprintf("the topic's newest event is %q: read on from there, and try again with that id", conflict.NewestID)}
	case errors.As(err, &tooLarge):
		return &RequestError{Problem: ProblemTooLarge, Detail: fmt.Sprintf("the body is larger than %d bytes: send less at once", tooLarge.Limit)}
	case errors.Is(err, ErrClosed):
		return &RequestError{Problem: ProblemClosed, Field: "topic", Detail: "the topic is closed and takes no more events: use another topic"}
	case errors.Is(err, ErrKeyReused):
		return &RequestError{Problem: ProblemKeyReused, Field: "Idempotency-Key", Detail: "this key came with another body before: use a new key for a new event"}
	case errors.Is(err, ErrNoSpace):
		return &RequestError{Problem: ProblemNoSpace, Detail: "the server's disk is full, and nothing was stored: make room on it, or have it keep less history, and try again"}
	case errors.Is(err, ErrIndeterminate):
		return &RequestError{Problem: ProblemIndeterminate, Detail: "it is not known whether the events were stored: repeat the request with the same Idempotency-Key"}
	case errors.Is(err, ErrUnavailable):
		return &RequestError{Problem: ProblemUnavailable, Detail: "the log does not take events at the moment: try again in a second"}
	case errors.Is(err, ErrShutdown):
		return &RequestError{Problem: ProblemShutdown, Detail: "the server is shutting down: try again in a second"}
	}
	return &RequestError{Problem: ProblemInternal, Detail: "something went wrong inside: the server's log has more"}
}

// document is a problem document.
type document struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Field  string `json:"field,omitempty"`
	Count  int    `json:"count,omitempty"`
}

func (e *RequestError) document() document {
	p := problems[e.Problem]
	return document{problemTypePrefix + string(e.Problem), p.title, p.status, e.Detail, e.Field, e.Count}
}

// retrySeconds returns when to try again, 0 where that is not said.
func (e *RequestError) retrySeconds() int {
	if e.RetryAfter <= 0 && problems[e.Problem].status == http.StatusServiceUnavailable {
		return retryAfterUnavailable
	}
	return int((max(e.RetryAfter, 0) + time.Second - 1) / time.Second)
}

// Fail answers a request with a problem document, whose status and text are those of a
// *[RequestError], and otherwise of what the error is to the hub.
func Fail(w http.ResponseWriter, err error) {
	e := problemOf(err)
	doc := e.document()
	h := w.Header()
	h.Set("Content-Type", problemContentType)
	h.Set("Cache-Control", "no-store")
	h.Del("Content-Length")
	h.Del("Set-Cookie") // it would be for what is granted
	if n := e.retrySeconds(); n > 0 {
		h.Set("Retry-After", strconv.Itoa(n))
	}
	if e.Challenge != "" {
		h.Set("WWW-Authenticate", e.Challenge)
	}
	w.WriteHeader(doc.Status)
	_ = json.NewEncoder(w).Encode(doc) // who has gone needs no answer
}
