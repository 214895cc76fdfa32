package auth

import (
	"context"
	"crypto/hmac"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/tidewire/tidewire/hub"
)

const (
	proofPrefix = "tw-" // of the cookie's name; a ticket's id follows
	proofSize   = 16    // bytes
	maxProofs   = 32    // that a browser is to keep: with all of them, requests have less than 2 KiB more

	retrySpent    = time.Minute
	retryReserved = time.Second
	retryFull     = 10 * time.Second
)

// Redeem returns the grant of a ticket that came with a request, or a [hub.RequestError]. The
// first use of a ticket, unless it is reusable, sets a cookie, and is only over when
// the grant's Started is called, because browsers silently send a GET again whose connection
// broke before an answer.
//
// [Tickets.Ended] must be called with the grant when the stream is over, or does not come
// to be. An answer that is sent without a call of Started must not have the cookie, as it
// would let the ticket be used for good though it is given back.
//
// A ticket that is expired or was used by another gets [hub.ProblemTicketSpent]: the first
// time with a minute until the next attempt, and to an EventSource that comes with it again,
// Stop.
//
// To describe a topic uses nothing up.
//
// Whether the key is there that the ticket was issued for is not looked at: [Authority.Holds]
// knows.
func (t *Tickets) Redeem(w http.ResponseWriter, r *http.Request, text string, a *hub.Access) (*hub.Grant, error) {
	return t.redeem(w, r, text, a, func(context.Context, string) (bool, error) { return true, nil })
}

// redeem is Redeem, with what tells whether the key is still there that a ticket was issued
// for.
func (t *Tickets) redeem(w http.ResponseWriter, r *http.Request, text string, a *hub.Access, held func(context.Context, string) (bool, error)) (*hub.Grant, error) {
	c := t.open(text)
	if c == nil {
		return nil, refuse("ticket", "the ticket is not one that this server has issued, or not all of it: take the query of the answer to POST /tickets as it is")
	}
	if a.Action != hub.ActionSubscribe && a.Action != hub.ActionDescribe {
		return nil, &hub.RequestError{Problem: hub.ProblemForbidden, Field: "ticket", Detail: "a ticket is for subscribing only: send the Authorization header with any other request"}
	}
	now := t.opt.Now()
	switch {
	case !now.Before(time.UnixMilli(c.Expires)):
		return nil, t.spent(c, a, "the ticket has expired: fetch another with POST /tickets")
	case c.Credential == nil:
		return nil, t.spent(c, a, "the ticket is from before an update of the server, and does not say what it was issued for: fetch another with POST /tickets")
	}
	g := c.grant()
	if ok, err := held(r.Context(), g.Credential); err != nil {
		return nil, err
	} else if !ok {
		return nil, t.spent(c, a, "the key that stood behind the ticket was revoked: fetch another with POST /tickets, with other credentials")
	}
	switch {
	case c.Reuse:
		if a.Action == hub.ActionSubscribe {
			g.Started = func() { t.overtaken(c.ID, g) }
			t.replace(c.ID, g)
		}
		return g, nil
	case t.proved(r, c.ID):
		return g, nil
	case c.Instance != t.instance:
		return nil, t.spent(c, a, "the server has started since the ticket was issued, and does not know whether it was used: fetch another with POST /tickets")
	case !now.Before(time.UnixMilli(c.FirstUse)):
		return nil, t.spent(c, a, unproved)
	}
	switch t.reserve(c.ID, g, a, now) {
	case ticketUsed:
		return nil, t.spent(c, a, unproved)
	case ticketReserved:
		return nil, &hub.RequestError{Problem: hub.ProblemUnavailable, Field: "ticket", RetryAfter: retryReserved, Detail: "another request uses the ticket at this moment: try again in a second, or fetch another with POST /tickets"}
	case ticketsFull:
		return nil, &hub.RequestError{Problem: hub.ProblemUnavailable, Field: "ticket", RetryAfter: retryFull, Detail: "too many tickets are used for the first time at the moment: try again in some seconds"}
	}
	if a.Action == hub.ActionSubscribe {
		t.setProof(w, r, c.ID, g.Expires.Sub(now))
	}
	return g, nil
}

const unproved = "the ticket was used before, or not in time, and its cookie did not come: fetch another with POST /tickets; across origins make the EventSource with withCredentials, and where cookies cannot be had ask for one with \"reuse\": true"

func (c *ticketClaims) grant() *hub.Grant {
	return &hub.Grant{
		Subject:   c.Subject,
		Expires:   time.UnixMilli(c.Expires),
		Subscribe: c.Subscribe,
		Private:   c.Private,
		Narrow:    c.Narrow,
		By:        "the ticket",

		Credential: *c.Credential,
	}
}

// spent refuses a ticket for good.
func (t *Tickets) spent(c *ticketClaims, a *hub.Access, detail string) error {
	e := refusal(hub.ProblemTicketSpent, "invalid_token", "ticket", detail)
	e.RetryAfter = retrySpent
	if a.EventSource {
		e.Stop, _ = t.told.ContainsOrAdd(c.ID, struct{}{})
	}
	return e
}

// A ticketState is what is known of a ticket's first use.
type ticketState int

const (
	ticketFresh ticketState = iota
	ticketReserved
	ticketUsed
	ticketsFull
)

// reserve notes that a ticket is about to be used for the first time, and has g say when it
// is.
func (t *Tickets) reserve(id string, g *hub.Grant, a *hub.Access, now time.Time) ticketState {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	_, used := t.used[id]
	_, usedOld := t.usedOld[id]
	switch {
	case used, usedOld:
		return ticketUsed
	case t.reserved[id] != nil:
		return ticketReserved
	case a.Action == hub.ActionDescribe:
		return ticketFresh
	case len(t.used)+len(t.usedOld)+len(t.reserved) >= t.opt.MaxFirstUses:
		return ticketsFull
	}
	t.reserved[id], t.ids[g] = g, id
	g.Started = func() { t.started(g) }
	return ticketFresh
}

// turn forgets the uses of tickets whose time for a first use is over.
func (t *Tickets) turn(now time.Time) {
	switch age := now.Sub(t.turned); {
	case age < t.opt.FirstUse:
		return
	case age < 2*t.opt.FirstUse:
		t.usedOld = t.used
	default:
		t.usedOld = nil
	}
	t.used, t.turned = make(map[string]struct{}), now
}

// started notes that a reserved ticket is used.
func (t *Tickets) started(g *hub.Grant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id, ok := t.ids[g]
	if !ok {
		return
	}
	t.turn(t.opt.Now())
	t.used[id] = struct{}{}
	delete(t.reserved, id)
	delete(t.ids, g)
}

// replace notes the newest stream of a reusable ticket, and has the one before be ended.
func (t *Tickets) replace(id string, g *hub.Grant) {
	t.mu.Lock()
	old := t.streams[id]
	delete(t.ids, old)
	t.streams[id], t.ids[g] = g, id
	t.mu.Unlock()
	if old != nil && t.opt.OnReplace != nil {
		t.opt.OnReplace(old)
	}
}

// overtaken has the stream of a reusable ticket be ended that had not begun when the next
// one took its place.
func (t *Tickets) overtaken(id string, g *hub.Grant) {
	t.mu.Lock()
	newest := t.streams[id] == g
	t.mu.Unlock()
	if !newest && t.opt.OnReplace != nil {
		t.opt.OnReplace(g)
	}
}

// Ended is to be called when the stream of a grant is over, or does not come to be: a ticket
// of which nothing was sent can be used again. It does nothing with grants that are not of
// Redeem.
func (t *Tickets) Ended(g *hub.Grant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id, ok := t.ids[g]
	if !ok {
		return
	}
	delete(t.ids, g)
	delete(t.reserved, id)
	delete(t.streams, id)
}

// proof returns the value of the cookie that proves who used a ticket first.
func (t *Tickets) proof(id string) string { return mac(t.proofKey, id, proofSize) }

func (t *Tickets) proved(r *http.Request, id string) bool {
	for _, c := range r.CookiesNamed(proofPrefix + id) {
		if hmac.Equal([]byte(c.Value), []byte(t.proof(id))) {
			return true
		}
	}
	return false
}

// setProof sends the proof of a ticket, and has the browser forget the oldest ones that it
// has when they are too many: each page that is loaded adds one.
func (t *Tickets) setProof(w http.ResponseWriter, r *http.Request, id string, life time.Duration) {
	cookie := http.Cookie{
		Name:     proofPrefix + id,
		Value:    t.proof(id),
		Path:     t.opt.Path,
		MaxAge:   int((life + time.Second - 1) / time.Second),
		HttpOnly: true,
		Secure:   isSecure(r),
		SameSite: http.SameSiteStrictMode,
	}
	if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		cookie.Secure, cookie.SameSite, cookie.Partitioned = true, http.SameSiteNoneMode, true
	}
	http.SetCookie(w, &cookie)
	old := t.proofs(r)
	for i := range len(old) - (maxProofs - 1) {
		cookie.Name, cookie.Value, cookie.MaxAge = old[i], "", -1
		http.SetCookie(w, &cookie)
	}
}

// proofs returns the names of the proofs that came with a request: the oldest are first
// (RFC 6265, section 5.4, step 2).
func (t *Tickets) proofs(r *http.Request) (names []string) {
	for _, c := range r.Cookies() {
		if id, ok := strings.CutPrefix(c.Name, proofPrefix); ok && c.Value == t.proof(id) {
			names = append(names, c.Name)
		}
	}
	return names
}

// isSecure tells whether a browser takes a cookie for TLS only. Behind a proxy that ends
// TLS the proxy's word counts, or the browser's: it sends Sec-Fetch headers over TLS, and
// to this machine, from which not every browser takes such a cookie. A client that has these
// headers lie harms itself alone.
func isSecure(r *http.Request) bool {
	if r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		return true
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	return r.Header.Get("Sec-Fetch-Site") != "" && !isLoopback(strings.Trim(host, "[]"))
}
