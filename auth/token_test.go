package auth_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/hub"
)

func TestAuthority_GrantsWhatATokenSays(t *testing.T) {
	a := newAuthority(t, &auth.Options{Keys: []auth.Key{secretKey(t)}})
	exp := tokenNow.Add(time.Hour)
	for _, test := range []struct {
		payload string
		want    hub.Grant
	}{
		{`{"tidewire":{}}`, hub.Grant{}},
		{`{"tidewire":{"subscribe":[]},"other":[1,{"a":null}]}`, hub.Grant{}},
		{`{"sub":"a","tidewire":{"subscribe":["a","b/*"],"publish":["c/**"],"private":["a"],"delete":["d"],"admin":true}}`,
			hub.Grant{Subject: "a", Subscribe: []string{"a", "b/*"}, Publish: []string{"c/**"}, Private: []string{"a"}, Delete: []string{"d"}, Admin: true}},
		{`{"tidewire":{"private":true,"subscribe":["a","b/*"]}}`, hub.Grant{Subscribe: []string{"a", "b/*"}, Private: []string{"a", "b/*"}}},
		{`{"tidewire":{"private":false,"admin":false,"subscribe":["a"]}}`, hub.Grant{Subscribe: []string{"a"}}},
		{fmt.Sprintf(`{"exp":%d.5,"nbf":%d,"iat":%[2]d,"tidewire":{}}`, exp.Unix(), tokenNow.Unix()), hub.Grant{Expires: exp.Add(auth.DefaultLeeway)}},
		{`{"tidewire":{"subscribe":["\u00fc/😀"]}}`, hub.Grant{Subscribe: []string{"ü/😀"}}},
	} {
		r := request("GET", "/events/x", bearer(signSecret(t, test.payload, nil)))
		for range 2 { // the second comes from the cache
			g := granted(t, a, r)
			if g.Subject != test.want.Subject || g.Admin != test.want.Admin || !g.Expires.Equal(test.want.Expires) || g.By != "the token" ||
				!slices.Equal(g.Subscribe, test.want.Subscribe) || !slices.Equal(g.Publish, test.want.Publish) ||
				!slices.Equal(g.Private, test.want.Private) || !slices.Equal(g.Delete, test.want.Delete) || g.Anonymous || g.Narrow {
				t.Errorf("%s: got %+v, want %+v", test.payload, g, test.want)
			}
		}
	}
}

// Leeway is the same in each direction, and a cached grant ends when one that is not would.
func TestAuthority_Leeway(t *testing.T) {
	now := tokenNow
	for _, leeway := range []time.Duration{0, 5 * time.Second, -1} {
		slack := map[time.Duration]time.Duration{0: auth.DefaultLeeway, -1: 0}[leeway]
		if leeway > 0 {
			slack = leeway
		}
		a := newAuthority(t, &auth.Options{Keys: []auth.Key{secretKey(t)}, Leeway: leeway, Now: func() time.Time { return now }})
		token := request("GET", "/events/x", bearer(signSecret(t, fmt.Sprintf(`{"exp":%d,"nbf":%d,"iat":%[2]d,"tidewire":{}}`, tokenNow.Add(time.Hour).Unix(), tokenNow.Unix()), nil)))
		for _, test := range []struct {
			now     time.Time
			problem hub.Problem // "": granted
		}{
			{tokenNow.Add(-slack - time.Second), hub.ProblemUnauthorized},
			{tokenNow.Add(-slack), ""},
			{tokenNow.Add(time.Hour + slack - time.Second), ""},
			{tokenNow.Add(time.Hour + slack), hub.ProblemTokenExpired},
			{tokenNow.Add(2 * time.Hour), hub.ProblemTokenExpired},
		} {
			now = test.now
			if test.problem == "" {
				granted(t, a, token)
			} else {
				refused(t, a, token, test.problem, "2026-05-04T1")
			}
		}
	}
}

func TestAuthority_RequireExpiry(t *testing.T) {
	a := newAuthority(t, &auth.Options{Keys: []auth.Key{secretKey(t)}, RequireExpiry: true})
	refused(t, a, request("GET", "/events/x", bearer(signSecret(t, goodJSON+`}`, nil))), hub.ProblemUnauthorized, "give it the claim exp")
	granted(t, a, request("GET", "/events/x", bearer(signSecret(t, goodJSON+`,"exp":4000000000}`, nil))))
}

// A key without a kid verifies tokens whose kid no key has; a key with one, tokens without.
func TestAuthority_WhichKeyVerifies(t *testing.T) {
	named, unnamed := newPair(t, "EdDSA", "a"), newPair(t, "EdDSA", "")
	a := newAuthority(t, &auth.Options{Keys: []auth.Key{named.publicKeyOption, unnamed.publicKeyOption}})
	sign := func(p pair, id string) string {
		p.id = id
		return p.sign(t, good())
	}
	for _, test := range []struct {
		name, token string
		ok          bool
	}{
		{"named key, its kid", sign(named, "a"), true},
		{"named key, no kid", sign(named, ""), true},
		{"named key, another kid", sign(named, "b"), false},
		{"unnamed key, no kid", sign(unnamed, ""), true},
		{"unnamed key, some kid", sign(unnamed, "b"), true},
		{"unnamed key, the other's kid", sign(unnamed, "a"), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := request("GET", "/events/x", bearer(test.token))
			if test.ok {
				granted(t, a, r)
			} else {
				refused(t, a, r, hub.ProblemUnauthorized, "signature does not hold")
			}
		})
	}
}

func TestSigner_RefusesPatternsThatAreNone(t *testing.T) {
	s, err := auth.NewSecretSigner("HS256", "", secret)
	if err != nil {
		t.Fatal(err)
	}
	c := good()
	c.Permissions.Delete = []string{"a*"}
	if _, err := s.Sign(c); err == nil || !strings.Contains(err.Error(), `delete: "a*"`) {
		t.Errorf("got %v, want the pattern", err)
	}
}

// BenchmarkAuthority is what a request with a token costs, with and without the cache.
func BenchmarkAuthority(b *testing.B) {
	for _, alg := range []string{"EdDSA", "ES256", "RS256"} {
		p := newPair(b, alg, "")
		a := newAuthority(b, &auth.Options{Keys: []auth.Key{p.publicKeyOption}})
		x := &hub.Access{Action: hub.ActionPublish}
		run := func(b *testing.B, tokens int) {
			requests := benchRequests(b, p, tokens)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := a.Authorize(nil, requests[i%tokens], x); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.Run(alg+"/cached", func(b *testing.B) { run(b, 1) })
		b.Run(alg+"/new", func(b *testing.B) { run(b, 5000) }) // more than are kept
	}
}
