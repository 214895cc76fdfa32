package hub

import (
	"net/http"
	"net/netip"
	"time"
)

// An Authority says who may do what. Its methods are called by many goroutines at a time.
type Authority interface {
	// Authorize says what the sender of a request may do, before anything else is done with
	// it. It may set headers of the response, such as a cookie, and must not answer it. The
	// error is answered and should be a *[RequestError]; any other one is an internal error.
	//
	// It is asked at each request, and so at each resume; [Hub] compares what the grant has
	// with what is asked for.
	Authorize(w http.ResponseWriter, r *http.Request, a *Access) (*Grant, error)

	// Ended is called once for each grant that Authorize returned, when the request, or
	// the stream that it became, is over. It must not wait.
	Ended(g *Grant, a Action, address netip.Addr)

	// Holds tells whether what a grant of Authorize came from is still good. It is asked when
	// a stream has just come to be, before each event of a stream that is published, and by
	// [Hub.Recheck]. It must not wait.
	Holds(g *Grant) bool
}

// An Action is what a request is to do.
type Action uint8

const (
	ActionSubscribe  Action = iota // GET
	ActionPublish                  // POST and PUT; closing a topic too
	ActionDescribe                 // HEAD
	ActionDelete                   // DELETE
	ActionAdminister               // to see and end others' streams
)

func (a Action) String() string {
	return [...]string{"subscribe", "publish", "describe", "delete", "administer"}[a]
}

// An Access is what a request asks for.
type Access struct {
	Action Action

	// Topics and Patterns are those in the URL. The events of a batch may name other
	// topics, each of which the grant must have too.
	Topics, Patterns []string

	// Address is the sender's.
	Address netip.Addr

	// EventSource tells that the sender is, or may be, an EventSource: a status of an error
	// would stop it for good, without a reason that its page can see.
	EventSource bool
}

// A Grant says who sends a request, and what may be done with it. It may be shared by
// requests and is not changed any more.
type Grant struct {
	// Subject is who it is, "" for nobody in particular.
	Subject string

	// Expires ends a stream, and the grant. The zero time is never.
	Expires time.Time

	// Patterns of the topics whose events may be subscribed to and published, whose
	// private events come too, and whose history may be deleted; "**" is every topic.
	Subscribe, Publish, Private, Delete []string

	// Admin lets others' streams be seen and ended.
	Admin bool

	// Narrow has a subscription get what is granted of the topics and patterns that it asks for,
	// and be refused only where that is nothing. Otherwise all of them must be granted.
	Narrow bool

	// By is where the grant comes from, as the beginning of a sentence: "the token". It
	// stands in refusals. Default: "the grant".
	By string

	// Credential names what the grant came from, for [Authority.Holds]: it is nothing that
	// anyone could come in with. Default: nothing that can be revoked.
	Credential string

	// Anonymous tells that no credentials came: what is missing is a 401, not a 403.
	Anonymous bool

	// Started, if not nil, is called once when the first bytes of a stream's answer have
	// gone out. It must not wait.
	Started func()
}

// everything is granted where there is no Authority, but private events: they need one who
// grants them.
var everything = &Grant{Subscribe: all, Publish: all, Delete: all, Admin: true}

var all = []string{"**"}
