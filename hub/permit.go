package hub

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A permit is a grant in use: by a request, and the stream that it may become.
type permit struct {
	hub     *Hub
	grant   *Grant
	action  Action
	address netip.Addr
	since   int64 // ms of Unix time
}

// authorize asks who sends a request, and what may be done with it. end must follow.
func (h *Hub) authorize(w http.ResponseWriter, r *http.Request, action Action, req *request, eventSource bool) (*permit, error) {
	p := &permit{hub: h, grant: everything, action: action, address: addressOf(r), since: time.Now().UnixMilli()}
	if h.opt.Authority == nil {
		return p, nil
	}
	var err error
	p.grant, err = h.opt.Authority.Authorize(w, r, &Access{
		Action: action, Topics: req.topics, Patterns: req.patterns, Address: p.address, EventSource: eventSource,
	})
	if err != nil {
		return nil, err
	}
	if p.expired(time.Now()) {
		p.end()
		return nil, p.expiry()
	}
	return p, nil
}

// end is called once, when all is over.
func (p *permit) end() {
	if a := p.hub.opt.Authority; a != nil {
		a.Ended(p.grant, p.action, p.address)
	}
}

// begun is called once, when the first bytes of a stream have gone out.
func (p *permit) begun() {
	if p.grant.Started != nil {
		p.grant.Started()
	}
}

// addressOf returns the client's address, which is what a proxy in front says where the
// server believes it.
func addressOf(r *http.Request) netip.Addr {
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return at.Addr().Unmap()
	}
	a, _ := netip.ParseAddr(r.RemoteAddr)
	return a.Unmap()
}

func (p *permit) expired(now time.Time) bool {
	return !p.grant.Expires.IsZero() && !now.Before(p.grant.Expires)
}

// expiry is what a stream ends with whose permit is over.
func (p *permit) expiry() *RequestError {
	return &RequestError{
		Problem: ProblemTokenExpired, Challenge: `Bearer realm="tidewire", error="invalid_token"`,
		Detail: fmt.Sprintf("what %s grants ended at %s: get something newer, and go on with the last id", p.by(), p.grant.Expires.UTC().Format(time.RFC3339)),
	}
}

// errRevoked is what a stream ends with whose credentials are gone.
var errRevoked = &RequestError{
	Problem: ProblemTokenExpired, Challenge: `Bearer realm="tidewire", error="invalid_token"`,
	Detail: "the permission for this was revoked: get other credentials, and go on with the last id",
}

// holds tells whether what is granted was not revoked.
func (p *permit) holds() bool {
	a := p.hub.opt.Authority
	return a == nil || a.Holds(p.grant)
}

// over tells why a permit is good no more, nil if it is.
func (p *permit) over() error {
	switch {
	case p.expired(time.Now()):
		return p.expiry()
	case !p.holds():
		return errRevoked
	}
	return nil
}

func (p *permit) by() string {
	if p.grant.By == "" {
		return "the grant"
	}
	return p.grant.By
}

// refuse says that something is not granted. It names only what was asked for.
func (p *permit) refuse(field, name string) *RequestError {
	action, claim := p.action.String(), p.action.String()
	if p.action == ActionDescribe {
		claim = "subscribe"
	}
	if p.grant.Anonymous {
		return &RequestError{
			Problem: ProblemUnauthorized, Field: field, Challenge: `Bearer realm="tidewire"`,
			Detail: fmt.Sprintf("without credentials nobody may %s %s %s: send a token as \"Authorization: Bearer …\" or in a cookie; an EventSource can have a ticket in its URL, from POST /tickets", action, field, quote(name)),
		}
	}
	what := "matches it"
	if field == "pattern" {
		what = "covers all of it"
	}
	return &RequestError{
		Problem: ProblemForbidden, Field: field,
		Detail: fmt.Sprintf("%s does not allow to %s %s %s: among what it grants to %s nothing %s; ask for one that does, or for less", p.by(), action, field, quote(name), claim, what),
	}
}

// may tells of an action other than to subscribe what is wrong with it.
func (p *permit) may(grants []string, topics []string) error {
	for _, t := range topics {
		if !grantsTopic(grants, t) {
			return p.refuse("topic", t)
		}
	}
	return nil
}

// mayPublish tells what is wrong with a publication, whose events may have topics of their
// own.
func (p *permit) mayPublish(pub *Publication) error {
	if slices.Contains(p.grant.Publish, "**") {
		return nil
	}
	for i := range pub.Events {
		if err := p.may(p.grant.Publish, pub.Events[i].Topics); err != nil {
			return err
		}
	}
	return p.may(p.grant.Publish, pub.End)
}

// maySubscribe leaves of a filter what is granted, or tells what is not.
func (p *permit) maySubscribe(f *Filter) error {
	g := p.grant
	f.Private = g.Private
	if slices.Contains(g.Subscribe, "**") {
		return nil
	}
	var topics, patterns []string
	for _, t := range f.Topics {
		switch {
		case grantsTopic(g.Subscribe, t):
			topics = append(topics, t)
		case !g.Narrow:
			return p.refuse("topic", t)
		}
	}
	for _, pattern := range f.Patterns {
		switch {
		case coveredBy(g.Subscribe, pattern):
			patterns = append(patterns, pattern)
		case !g.Narrow:
			return p.refuse("pattern", pattern)
		default:
			for _, granted := range g.Subscribe {
				if both, ok := Intersect(granted, pattern); ok {
					patterns = append(patterns, both)
				}
			}
		}
	}
	if len(topics)+len(patterns) == 0 {
		if len(f.Topics) > 0 {
			return p.refuse("topic", f.Topics[0])
		}
		return p.refuse("pattern", f.Patterns[0])
	}
	patterns = slices.DeleteFunc(patterns, func(p string) bool {
		if strings.Contains(p, "*") {
			return false
		}
		topics = append(topics, p) // a pattern that is a name
		return true
	})
	// Two grants can leave the same.
	f.Topics, f.Patterns = unique(topics), unique(patterns)
	return nil
}
