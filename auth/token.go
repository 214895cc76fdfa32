package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"

	"github.com/tidewire/tidewire/hub"
)

const (
	maxTokenSize = 8 << 10 // bytes
	maxTried     = 16      // keys that the signature of one token is tried with
)

// A verifier turns tokens into grants (RFC 7519, section 7.2, and RFC 8725).
type verifier struct {
	keys          []Key
	sets          []*keySet
	issuer        string
	audience      []string
	leeway        time.Duration
	requireExpiry bool
	anonymous     *hub.Grant // what everyone may do; nil: nothing
	now           func() time.Time
	cache         *cache
	version       *atomic.Uint64 // counts changes of the sets' keys
}

// on tells whether there can be keys at all.
func (v *verifier) on() bool { return len(v.keys)+len(v.sets) > 0 }

// grant returns what a token grants. field is where it stands in the request.
func (v *verifier) grant(ctx context.Context, field, text string) (*hub.Grant, error) {
	if len(text) > maxTokenSize {
		return nil, refuse(field, "the token has %d bytes, more than %d: leave claims out of it", len(text), maxTokenSize)
	}
	sum := digest(sha256.Sum256([]byte(text)))
	version := v.version.Load() // before the keys are looked at, which may change meanwhile
	if g := v.cache.get(sum, version); g != nil {
		if !g.Expires.IsZero() && !v.now().Before(g.Expires) {
			return nil, v.expired(g.Expires.Add(-v.leeway))
		}
		return g, nil
	}
	t, err := parseToken(field, text)
	if err != nil {
		return nil, err
	}
	payload, credential, err := v.verify(ctx, t)
	if err != nil {
		return nil, err
	}
	c, err := readClaims(payload)
	if err != nil {
		return nil, err
	}
	if err := v.check(c); err != nil {
		return nil, err
	}
	expires := c.Expires
	if !expires.IsZero() {
		expires = expires.Add(v.leeway)
	}
	g := c.Permissions.grant(c.Subject, "the token", expires, v.anonymous)
	g.Credential = credential
	v.cache.put(sum, version, g)
	return g, nil
}

// A token is one whose signature has not been looked at.
type token struct {
	field   string
	text    string
	alg, id string // alg is what it says, and counts only beside a key that is for it
}

// parseToken reads the header of a JWS in the compact form (RFC 7515, section 7.1).
// The keys that it may have or name (jwk, jku, x5c, x5u) are never used.
func parseToken(field, text string) (*token, error) {
	parts := strings.Split(text, ".")
	switch {
	case len(parts) == 5:
		return nil, refuse(field, "the token is encrypted (JWE), and this server reads signed ones (JWS)")
	case len(parts) != 3:
		return nil, refuse(field, "the token has %d parts, and a JWT has three with dots between them: send all of it, and nothing else", len(parts))
	}
	for _, p := range parts {
		// Decoders of base64 pass over line breaks, which no token has.
		if strings.ContainsAny(p, "\r\n") {
			return nil, refuse(field, "the token has a line break in it: send it as one line")
		}
	}
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil {
		return nil, refuse(field, "the token's header is not base64url (RFC 7515, section 2): send the token as it was made")
	}
	members, err := readObject("header", header)
	if err != nil {
		return nil, err
	}
	t := &token{field: field, text: text}
	for name, to := range map[string]*string{"alg": &t.alg, "kid": &t.id} {
		raw, ok := members[name]
		if ok && (isNull(raw) || json.Unmarshal(raw, to) != nil) {
			return nil, refuse(name, "the token's header %s must be text", name)
		}
	}
	// RFC 7515, section 4.1.11, and RFC 7797, section 7: there is none that we know, and
	// b64 is not for tokens.
	for _, name := range []string{"crit", "b64"} {
		if _, ok := members[name]; ok {
			return nil, refuse(name, "the token's header has %s, which this server does not know: make it without", name)
		}
	}
	return t, nil
}

// verify returns the payload of a token whose signature holds, and the name of its key.
func (v *verifier) verify(ctx context.Context, t *token) (payload []byte, credential string, err error) {
	if strings.EqualFold(t.alg, "none") {
		return nil, "", refuse("alg", "the token has no signature (alg is %s): sign it with %s", quote(t.alg), v.algorithms())
	}
	payload, credential, renewable, err := v.try(t)
	if err == nil || !renewable || len(v.sets) == 0 {
		return payload, credential, err
	}
	var unavailable error
	for _, s := range v.sets {
		if e := s.renew(ctx, t.id); e != nil {
			unavailable = e
		}
	}
	payload, credential, renewable, err = v.try(t)
	if err == nil || !renewable {
		return payload, credential, err
	}
	if unavailable != nil {
		return nil, "", unavailable
	}
	for _, s := range v.sets {
		s.lacks(t.id)
	}
	return nil, "", err
}

// try looks for a key with which the signature of a token holds. renewable tells that newer
// keys could have it.
func (v *verifier) try(t *token) (payload []byte, credential string, renewable bool, err error) {
	var named, fit []Key // by the token's kid, and what may verify it
	for k := range v.all {
		if t.id != "" && k.ID == t.id {
			named = append(named, k)
		}
	}
	for k := range v.all {
		switch {
		case k.Algorithm != t.alg || len(fit) == maxTried:
		case len(named) > 0 && k.ID != t.id:
		case len(named) == 0 && t.id != "" && k.ID != "":
		default:
			fit = append(fit, k)
		}
	}
	if len(fit) == 0 {
		return nil, "", len(named) == 0, v.noKey(t, named)
	}
	signed, err := jose.ParseSignedCompact(t.text, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(t.alg)})
	if err != nil {
		return nil, "", false, refuse(t.field, "the token is not a JWS as RFC 7515 has it: send it as it was made")
	}
	for _, k := range fit {
		if payload, err := signed.Verify(k.key); err == nil {
			return payload, k.credential, false, nil
		}
	}
	if t.id == "" {
		return nil, "", true, refuse(t.field, "the token's signature does not hold with any of this server's keys for %s: sign it with the key that belongs to one of them, and send it unchanged", t.alg)
	}
	return nil, "", len(named) == 0, refuse(t.field, "the token's signature does not hold with the key for %s and kid %s: sign it with the key that belongs to it, and send it unchanged", t.alg, quote(t.id))
}

// all yields the keys that there are at this moment.
func (v *verifier) all(yield func(Key) bool) {
	for _, k := range v.keys {
		if !yield(k) {
			return
		}
	}
	for _, s := range v.sets {
		for _, k := range s.keys() {
			if !yield(k) {
				return
			}
		}
	}
}

// noKey says why no key may verify a token.
func (v *verifier) noKey(t *token, named []Key) error {
	if len(named) > 0 {
		return refuse("alg", "the token is signed with %s, and the key %s is for %s only", quote(t.alg), quote(t.id), named[0].Algorithm)
	}
	for k := range v.all {
		if k.Algorithm == t.alg {
			return refuse("kid", "the token's kid %s is that of no key of this server: sign it with a key that it has", quote(t.id))
		}
	}
	return refuse("alg", "the token is signed with %s, and this server has keys for %s: sign it with such a key", quote(t.alg), v.algorithms())
}

// algorithms names those of the keys.
func (v *verifier) algorithms() string {
	var all []string
	for k := range v.all {
		all = append(all, k.Algorithm)
	}
	if len(all) == 0 {
		return "no algorithm yet"
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ", ")
}

// check compares claims with what is wanted (RFC 7519, section 4.1).
func (v *verifier) check(c *Claims) error {
	now := v.now()
	switch {
	case v.issuer != "" && c.Issuer == "":
		return refuse("iss", "the token has no issuer, and must have %s as iss", quote(v.issuer))
	case v.issuer != "" && c.Issuer != v.issuer:
		return refuse("iss", "the token is from the issuer %s, and must be from %s", quote(c.Issuer), quote(v.issuer))
	case len(v.audience) > 0 && !slices.ContainsFunc(v.audience, func(a string) bool { return slices.Contains(c.Audience, a) }):
		return refuse("aud", "the token is not for this server: %s must be among its aud", quoteAll(v.audience))
	case v.requireExpiry && c.Expires.IsZero():
		return refuse("exp", "the token never expires, and must: give it the claim exp")
	case !c.Expires.IsZero() && !now.Before(c.Expires.Add(v.leeway)):
		return v.expired(c.Expires)
	case now.Add(v.leeway).Before(c.NotBefore):
		return refuse("nbf", "the token is valid from %s on, which is %s away: wait, or set the clocks right", stamp(c.NotBefore), c.NotBefore.Sub(now).Round(time.Second))
	case now.Add(v.leeway).Before(c.IssuedAt):
		return refuse("iat", "the token was issued at %s, which has not come yet: set the clock right of who makes it, or of this server", stamp(c.IssuedAt))
	}
	return nil
}

func (v *verifier) expired(at time.Time) error {
	return expiredAt("the token", at, v.now())
}

// expiredAt refuses what held once.
func expiredAt(what string, at, now time.Time) error {
	return refusal(hub.ProblemTokenExpired, "invalid_token", "exp",
		fmt.Sprintf("%s expired at %s, %s ago: get a new one", what, stamp(at), now.Sub(at).Round(time.Second)))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func quoteAll(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quote(n)
	}
	return strings.Join(quoted, " or ")
}
