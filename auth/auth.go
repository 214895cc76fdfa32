package auth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// The defaults of [Options].
const (
	DefaultLeeway = 30 * time.Second
	DefaultCookie = "tidewire"
)

// Options configure an Authority; nil and zero fields mean the defaults.
type Options struct {
	// Keys verify tokens.
	Keys []Key

	// JWKS are URLs of JWK sets (RFC 7517) with keys that verify tokens: https, or http on
	// this machine. They are fetched when max-age of the last answer is over (a minute at
	// least, a day at most; 15 minutes where it says nothing), and when a token's kid is not
	// there. A JWK without alg is for RS256, the ES algorithm of its curve, or EdDSA. A
	// new key needs a kid of its own. Keys of an answer are good for a day while the next
	// one fails. Secrets and private keys in a set do not count.
	JWKS []string

	// InsecureJWKS lets key sets be fetched over http from other machines. Whoever can change
	// an answer on its way can then make tokens.
	InsecureJWKS bool

	// Issuer is what iss must be. Default: anything, or nothing.
	Issuer string

	// Audience has one value at least of what must be among aud. Default: anything, or
	// nothing.
	Audience []string

	// RequireExpiry refuses tokens without exp. Default: they hold for ever, or until their
	// key goes.
	RequireExpiry bool

	// Leeway is how far clocks may be apart: tokens hold so much longer than exp, and so
	// much earlier than nbf and iat. Default: [DefaultLeeway]; negative: none.
	Leeway time.Duration

	// Cookie is the name of the cookie that may carry a token. Default: [DefaultCookie];
	// "-": none.
	Cookie string

	// PublisherKeys are those that [LoadPublisherKeys] returns.
	PublisherKeys []PublisherKey

	// Anonymous is what may be done without credentials, and with a token or a publisher
	// key beside what that grants. Default: nothing.
	Anonymous *hub.Grant

	// Tickets redeem those in URLs. Default: there are none.
	Tickets *Tickets

	// Application, if not nil, is asked about all but publisher keys and tickets: after a
	// token was verified, or without Keys and JWKS with whatever came. Close closes it.
	Application *Application

	// OnChange, if not nil, is called after a key set has changed, and Holds may tell something
	// else of grants that there are. It must not wait.
	OnChange func()

	// Client fetches the key sets. Default: [http.DefaultClient].
	Client *http.Client

	// Now is the time. Default: [time.Now].
	Now func() time.Time

	// Logger tells of key sets. Default: [slog.Default].
	Logger *slog.Logger
}

// An Authority says who may do what, by the credential of a request. Exactly one counts: that
// of the Authorization header, else a ticket in the URL, else the cookie; and else what the
// application or Anonymous says. Its methods may be called by many goroutines at a time.
type Authority struct {
	state   atomic.Pointer[state]
	version atomic.Uint64 // counts changes of key sets

	mu     sync.Mutex // serializes Replace and Close
	closed bool
}

var _ hub.Authority = (*Authority)(nil)

// A state is all that Replace replaces.
type state struct {
	Options
	verifier    verifier
	publisher   publisherKeys
	credentials map[string]bool // the names of all keys but those of sets
}

// New makes an Authority, and begins to fetch key sets. Close ends that. The error says
// everything that is wrong with the options.
func New(o *Options) (*Authority, error) {
	a := &Authority{}
	s, err := a.newState(o, nil)
	if err != nil {
		return nil, err
	}
	a.state.Store(s)
	return a, nil
}

// Replace puts other options in the place of those that there were, at once for all
// requests that come from then on. Key sets that stay keep their keys, and their Client and
// Logger. With other Tickets Holds knows no grant of before. After an error, which says
// everything that is wrong, all is as before. An Application that is not that of before is
// used from then on, and that of before closed.
func (a *Authority) Replace(o *Options) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return errors.New("auth: the authority is closed")
	}
	old := a.state.Load()
	s, err := a.newState(o, old)
	if err != nil {
		return err
	}
	a.state.Store(s)
	for _, set := range old.verifier.sets {
		if !slices.Contains(s.verifier.sets, set) {
			set.close()
		}
	}
	if old.Application != nil && old.Application != s.Application {
		return old.Application.Close()
	}
	return nil
}

// Close stops what runs in the background, and waits for it. It may be called twice.
func (a *Authority) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	s := a.state.Load()
	for _, set := range s.verifier.sets {
		set.close()
	}
	if s.Application != nil {
		return s.Application.Close()
	}
	return nil
}

// newState checks options, and starts the key sets that old does not have.
func (a *Authority) newState(o *Options, old *state) (*state, error) {
	s := &state{}
	if o != nil {
		s.Options = *o
	}
	s.defaults()
	publisher, err := newPublisherKeys(s.PublisherKeys, s.Anonymous, s.Tickets)
	if err := errors.Join(s.check(), err); err != nil {
		return nil, err
	}
	s.publisher = publisher
	if s.Anonymous != nil {
		g := *s.Anonymous
		g.Anonymous = true
		s.Anonymous = &g
	}
	s.verifier = verifier{
		issuer: s.Issuer, audience: slices.Clone(s.Audience),
		leeway: max(s.Leeway, 0), requireExpiry: s.RequireExpiry,
		anonymous: s.Anonymous, now: s.Now, cache: newCache(), version: &a.version,
	}
	s.credentials = map[string]bool{}
	for _, k := range s.publisher {
		s.credentials[k.grant.Credential] = true
	}
	for _, k := range s.Keys {
		k = s.Tickets.named(k)
		s.credentials[k.credential] = true
		s.verifier.keys = append(s.verifier.keys, k)
	}
	for _, u := range s.JWKS {
		s.verifier.sets = append(s.verifier.sets, a.keySetOf(u, s, old))
	}
	return s, nil
}

// keySetOf returns the key set of a URL, which may be there already.
func (a *Authority) keySetOf(u string, s, old *state) *keySet {
	if old != nil {
		for _, set := range old.verifier.sets {
			if set.url == u {
				return set
			}
		}
	}
	return newKeySet(u, &s.Options, a.changed)
}

// changed notes that a key set has.
func (a *Authority) changed() {
	a.version.Add(1)
	if s := a.state.Load(); s != nil && s.OnChange != nil { // there is none while New is at it
		s.OnChange()
	}
}

func (o *Options) defaults() {
	if o.Leeway == 0 {
		o.Leeway = DefaultLeeway
	}
	if o.Cookie == "" {
		o.Cookie = DefaultCookie
	}
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

// check says everything that is wrong but with the publisher keys.
func (o *Options) check() error {
	var errs []error
	for i, k := range o.Keys {
		if k.key == nil {
			errs = append(errs, fmt.Errorf("key %d has no key: make it with ParseKey or NewSecretKey", i+1))
		}
	}
	for i, u := range o.JWKS {
		errs = append(errs, checkSetURL(u, o.InsecureJWKS))
		if slices.Contains(o.JWKS[:i], u) {
			errs = append(errs, fmt.Errorf("the key set %s is there twice", redacted(u)))
		}
	}
	if o.Cookie != "-" && (&http.Cookie{Name: o.Cookie, Value: "x"}).Valid() != nil {
		errs = append(errs, fmt.Errorf("the cookie's name %q must be letters, digits, - and _, or - alone for none", o.Cookie))
	}
	if g := o.Anonymous; g != nil {
		p := Permissions{Subscribe: g.Subscribe, Publish: g.Publish, Private: g.Private, Delete: g.Delete}
		if err := p.Check(); err != nil {
			errs = append(errs, fmt.Errorf("anonymous: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Authorize returns what the credential of a request grants. The error is a
// *[hub.RequestError] that says why it grants nothing, with the challenge of RFC 6750,
// section 3; none has a credential in it.
func (a *Authority) Authorize(w http.ResponseWriter, r *http.Request, x *hub.Access) (*hub.Grant, error) {
	s := a.state.Load()
	g, err := s.authorize(w, r, x)
	if err == nil {
		return g, nil
	}
	if now := a.state.Load(); now != s {
		return now.authorize(w, r, x) // such as where the application of before was closed meanwhile
	}
	return nil, err
}

func (s *state) authorize(w http.ResponseWriter, r *http.Request, x *hub.Access) (*hub.Grant, error) {
	c, err := s.credential(r, x)
	if err != nil {
		return nil, err
	}
	switch c.kind {
	case credentialNone:
		return s.withoutCredential(w, r, x)
	case credentialKey:
		return s.publisher.find(c.text, s.Now())
	case credentialTicket:
		return s.Tickets.redeem(w, r, c.text, x, s.redeemable)
	case credentialCookie:
		if err := checkOrigin(w, r); err != nil {
			return nil, err
		}
	}
	var verified *hub.Grant
	switch {
	case s.verifier.on():
		if verified, err = s.verifier.grant(r.Context(), c.field(), c.text); err != nil {
			return nil, err
		}
	case s.Application == nil:
		return nil, s.noTokens(c)
	}
	if s.Application == nil {
		return verified, nil
	}
	return s.Application.Ask(r, x, verified)
}

// Ended tells the tickets which of them are used no more.
func (a *Authority) Ended(g *hub.Grant, _ hub.Action, _ netip.Addr) {
	if t := a.state.Load().Tickets; t != nil {
		t.Ended(g)
	}
}

// withoutCredential deals with requests that have none of ours.
func (s *state) withoutCredential(w http.ResponseWriter, r *http.Request, x *hub.Access) (*hub.Grant, error) {
	if s.Application != nil {
		if len(r.Header["Cookie"]) > 0 { // it may be the application's
			if err := checkOrigin(w, r); err != nil {
				return nil, err
			}
		}
		return s.Application.Ask(r, x, nil)
	}
	if s.Anonymous != nil {
		return s.Anonymous, nil
	}
	cookie := ""
	if s.Cookie != "-" {
		cookie = fmt.Sprintf(", or as the cookie %s", s.Cookie)
	}
	ticket := ""
	if s.Tickets != nil {
		ticket = "; an EventSource, which sends no headers, can have a ticket from POST /tickets in its URL, as ticket=…"
	}
	return nil, &hub.RequestError{
		Problem: hub.ProblemUnauthorized, Field: "Authorization", Challenge: challenge,
		Detail: fmt.Sprintf("who sends this? Send a token or a publisher key as \"Authorization: Bearer …\"%s%s. tidewire token new and tidewire key new make them", cookie, ticket),
	}
}

// noTokens refuses tokens where nothing verifies them.
func (s *state) noTokens(c credential) error {
	if len(s.publisher) > 0 {
		return refuse(c.field(), "this server takes no tokens, but publisher keys, which begin with tw_: send one of those, or have keys of tokens configured")
	}
	return refuse(c.field(), "this server has no keys to check tokens with: have keys of tokens configured")
}

// A credential is the one of a request that counts.
type credential struct {
	kind credentialKind
	text string
}

type credentialKind uint8

const (
	credentialNone   credentialKind = iota
	credentialToken                 // in the header
	credentialKey                   // of a publisher, in the header
	credentialOther                 // in the header: what only the application knows
	credentialTicket                // in the URL
	credentialCookie                // with a token
)

// field is where it was found.
func (c credential) field() string {
	if c.kind == credentialCookie {
		return "Cookie"
	}
	return "Authorization"
}

// credential finds the one that counts.
func (s *state) credential(r *http.Request, x *hub.Access) (credential, error) {
	switch lines := r.Header["Authorization"]; {
	case len(lines) > 1:
		return credential{}, malformed("Authorization", "there are %d Authorization headers: send one", len(lines))
	case len(lines) == 1:
		return s.fromHeader(r, lines[0])
	}
	if c, err := s.fromURL(r, x); err != nil || c.kind != credentialNone {
		return c, err
	}
	if s.Cookie == "-" || len(r.Header["Cookie"]) == 0 {
		return credential{}, nil
	}
	cookies := r.CookiesNamed(s.Cookie)
	switch {
	case len(cookies) > 1:
		return credential{}, malformed("Cookie", "there are %d cookies with the name %s: delete those that another path or host has set", len(cookies), s.Cookie)
	case len(cookies) == 0 || cookies[0].Value == "":
		return credential{}, nil
	}
	return credential{credentialCookie, cookies[0].Value}, nil
}

// fromHeader reads an Authorization header (RFC 9110, section 11.6.2; RFC 6750, section 2.1).
func (s *state) fromHeader(r *http.Request, line string) (credential, error) {
	scheme, text, _ := strings.Cut(line, " ")
	text = strings.Trim(text, " ")
	switch {
	case strings.EqualFold(scheme, "Bearer") && strings.HasPrefix(text, keyPrefix):
		return credential{credentialKey, text}, nil
	case strings.EqualFold(scheme, "Bearer") && text != "":
		return credential{credentialToken, text}, nil
	case strings.EqualFold(scheme, "Basic"):
		if _, password, ok := r.BasicAuth(); ok && strings.HasPrefix(password, keyPrefix) {
			return credential{credentialKey, password}, nil
		}
	}
	if s.Application != nil && !s.verifier.on() {
		return credential{kind: credentialOther}, nil
	}
	return credential{}, s.notOurs(scheme, text)
}

// notOurs says what is wrong with an Authorization header.
func (s *state) notOurs(scheme, text string) error {
	const right = "send \"Authorization: Bearer \" and then a token or a publisher key"
	switch {
	case scheme == "" || text == "":
		return malformed("Authorization", "the Authorization header is empty or has no more than the name of a scheme: %s", right)
	case !strings.EqualFold(scheme, "Basic"):
		// What stands there may be the token itself, and is not repeated.
		return malformed("Authorization", "the Authorization header has a scheme that is not Bearer: %s", right)
	}
	if _, err := base64.StdEncoding.DecodeString(text); err != nil {
		return malformed("Authorization", "the Authorization header of the scheme Basic is not base64: %s", right)
	}
	return refuse("Authorization", "the password of Basic must be a publisher key, which begins with tw_: with curl, -u :tw_…")
}

// fromURL finds a ticket.
func (s *state) fromURL(r *http.Request, x *hub.Access) (credential, error) {
	if !strings.Contains(r.URL.RawQuery, "ticket") {
		return credential{}, nil
	}
	query, _ := url.ParseQuery(r.URL.RawQuery) // what is wrong with it is told by the hub
	tickets := query["ticket"]
	switch {
	case len(tickets) == 0:
		return credential{}, nil
	case len(tickets) > 1 || tickets[0] == "":
		return credential{}, malformed("ticket", "the URL must have one ticket, and it has %d, or an empty one", len(tickets))
	case s.Tickets == nil:
		return credential{}, refuse("ticket", "this server gives no tickets: send a token in the Authorization header")
	case x.Action != hub.ActionSubscribe && x.Action != hub.ActionDescribe:
		return credential{}, refuse("ticket", "a ticket is for subscribing: to %s, send a token in the Authorization header", x.Action)
	}
	return credential{credentialTicket, tickets[0]}, nil
}
