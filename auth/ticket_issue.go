package auth

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tidewire/tidewire/hub"
)

const (
	maxTicketPatterns = 100
	maxSubjectSize    = 1024 // bytes
)

// A TicketRequest is the JSON body of POST /tickets; every field may be left out.
type TicketRequest struct {
	// Subscribe are the topics and patterns that the ticket is for. The bearer must be
	// granted all of them. Default: all that the bearer is granted.
	Subscribe []string `json:"subscribe"`

	// Private are those whose private events come too, likewise. Default: what the bearer
	// is granted of Subscribe. The empty list is none.
	Private []string `json:"private"`

	// Subject is whom the ticket is for. Default: the bearer. Another one can be named by
	// an administrator, and by a back end with a publisher key.
	Subject string `json:"subject"`

	// Reuse asks for a ticket that needs no cookie: it can be used until it expires, by
	// whoever has it, for one stream at a time.
	Reuse bool `json:"reuse"`

	// ExpiresIn is how many seconds the ticket is to be good for. It is no longer than the
	// bearer's grant, and than the life that the server gives tickets, which is the
	// default.
	ExpiresIn int64 `json:"expires_in"`
}

// Issue returns a ticket for the bearer of a grant, which it never exceeds: not in its topics,
// not in its private events, not in its end. A nil request asks for the defaults. Errors are
// [hub.RequestError]s.
func (t *Tickets) Issue(g *hub.Grant, q *TicketRequest) (*Ticket, error) {
	if q == nil {
		q = &TicketRequest{}
	}
	if g.Anonymous {
		return nil, &hub.RequestError{Problem: hub.ProblemUnauthorized, Detail: "a ticket stands for other credentials, and none came: send a token or a key in the Authorization header", Challenge: challenge}
	}
	now := t.opt.Now()
	c := ticketClaims{
		ID:       randomText(ticketIDSize),
		Narrow:   g.Narrow,
		Reuse:    q.Reuse,
		Instance: t.instance,

		Credential: &g.Credential,
	}
	expires, err := t.expiry(g, q, now)
	if err != nil {
		return nil, err
	}
	firstUse := expires
	if by := now.Add(t.opt.FirstUse); !q.Reuse && by.Before(expires) {
		firstUse = by
	}
	c.Expires, c.FirstUse = expires.UnixMilli(), firstUse.UnixMilli()
	if c.Subject, err = ticketSubject(g, q.Subject); err != nil {
		return nil, err
	}
	if c.Subscribe, err = ticketPart(g, "subscribe", g.Subscribe, q.Subscribe); err != nil {
		return nil, err
	}
	if len(c.Subscribe) == 0 {
		return nil, &hub.RequestError{Problem: hub.ProblemForbidden, Field: "subscribe", Detail: grantedBy(g) + " lets nothing of that be subscribed to: ask for topics that it grants"}
	}
	if c.Private, err = ticketPart(g, "private", g.Private, q.Private); err != nil {
		return nil, err
	}
	if q.Subscribe != nil && q.Private == nil {
		c.Private = intersect(g.Private, c.Subscribe)
	}
	text, err := t.seal(&c)
	if err != nil {
		return nil, err
	}
	if len(text) > maxTicketSize {
		return nil, &hub.RequestError{Problem: hub.ProblemFieldTooLong, Field: "subscribe", Detail: fmt.Sprintf("the ticket would have %d bytes, more than the %d that a URL can take: ask in subscribe and private for fewer topics and patterns, or shorter ones", len(text), maxTicketSize)}
	}
	return &Ticket{Text: text, FirstUseBy: time.UnixMilli(c.FirstUse), Expires: time.UnixMilli(c.Expires), Reuse: c.Reuse}, nil
}

// expiry returns when a ticket is to end.
func (t *Tickets) expiry(g *hub.Grant, q *TicketRequest, now time.Time) (time.Time, error) {
	life := t.opt.Life
	if q.Reuse {
		life = min(t.opt.ReuseLife, life)
	}
	switch {
	case life < 0:
		return time.Time{}, &hub.RequestError{Problem: hub.ProblemForbidden, Field: "reuse", Detail: "this server issues no tickets for more than one use: leave reuse out, and let the browser keep the cookie that comes with the first answer"}
	case q.ExpiresIn < 0:
		return time.Time{}, &hub.RequestError{Problem: hub.ProblemField, Field: "expires_in", Detail: fmt.Sprintf("expires_in is %d: it is a number of seconds, from 1", q.ExpiresIn)}
	case q.ExpiresIn > 0 && q.ExpiresIn < int64(life/time.Second):
		life = time.Duration(q.ExpiresIn) * time.Second
	}
	expires := now.Add(life)
	if !g.Expires.IsZero() && g.Expires.Before(expires) {
		expires = g.Expires
	}
	if !expires.After(now) {
		return time.Time{}, &hub.RequestError{Problem: hub.ProblemTokenExpired, Detail: grantedBy(g) + " has expired: send one that is good"}
	}
	return expires, nil
}

// ticketSubject returns whom a ticket is for.
func ticketSubject(g *hub.Grant, asked string) (string, error) {
	// The claim of a token may be anything, and may begin with "key:" too: By says what
	// the subject was taken from.
	backEnd := strings.HasPrefix(g.Subject, "key:") && strings.HasPrefix(g.By, "the key ")
	switch {
	case asked == "" || asked == g.Subject:
		return g.Subject, nil
	case !g.Admin && !backEnd:
		return "", &hub.RequestError{Problem: hub.ProblemForbidden, Field: "subject", Detail: grantedBy(g) + " is not for tickets in another's name: leave subject out, or have a back end with a publisher key ask for the ticket"}
	}
	if err := checkSubject(asked); err != nil {
		return "", &hub.RequestError{Problem: hub.ProblemField, Field: "subject", Detail: err.Error()}
	}
	return asked, nil
}

func checkSubject(s string) error {
	switch {
	case len(s) > maxSubjectSize:
		return fmt.Errorf("the subject has %d bytes, more than %d", len(s), maxSubjectSize)
	case !utf8.ValidString(s), strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("the subject is not UTF-8 without control characters")
	}
	return nil
}

// ticketPart returns what is asked for of the patterns that a grant has, and all of them if
// nothing is.
func ticketPart(g *hub.Grant, field string, has, asked []string) ([]string, error) {
	if asked == nil {
		return has, nil
	}
	if len(asked) > maxTicketPatterns {
		return nil, &hub.RequestError{Problem: hub.ProblemTooManyTopics, Field: field, Detail: fmt.Sprintf("%s has %d patterns, more than %d: ask for fewer", field, len(asked), maxTicketPatterns)}
	}
	for _, p := range asked {
		if err := hub.CheckPattern(p); err != nil {
			return nil, &hub.RequestError{Problem: hub.ProblemTopic, Field: field, Detail: err.Error()}
		}
	}
	if g.Narrow {
		return intersect(has, asked), nil
	}
	for _, p := range asked {
		if !covered(has, p) {
			return nil, &hub.RequestError{Problem: hub.ProblemForbidden, Field: field, Detail: fmt.Sprintf("%s does not grant all that %q matches (%s): ask for what it grants, or less", grantedBy(g), p, field)}
		}
	}
	return asked, nil
}

// grantedBy begins a sentence about a grant.
func grantedBy(g *hub.Grant) string {
	if g.By == "" {
		return "the grant"
	}
	return g.By
}

// covered tells whether one of a grant's patterns covers a pattern.
func covered(has []string, p string) bool {
	for _, h := range has {
		if hub.Covers(h, p) {
			return true
		}
	}
	return false
}

// intersect returns patterns that match just the topics that one of a and one of b match.
func intersect(a, b []string) []string {
	var both []string
	seen := make(map[string]bool)
	for _, p := range a {
		for _, q := range b {
			if i, ok := hub.Intersect(p, q); ok && !seen[i] {
				seen[i] = true
				both = append(both, i)
			}
		}
	}
	return both
}
