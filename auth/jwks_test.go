package auth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/hub"
)

// patience bounds what a test waits for; only a test that fails uses it up.
const patience = 30 * time.Second

// A keyServer serves a key set over HTTP.
type keyServer struct {
	*httptest.Server
	answer  atomic.Pointer[http.HandlerFunc]
	fetches atomic.Int64
}

func newKeyServer(t testing.TB) *keyServer {
	s := &keyServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fetches.Add(1)
		(*s.answer.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) serve(h http.HandlerFunc) { s.answer.Store(&h) }

// has makes these the keys.
func (s *keyServer) has(t testing.TB, pairs ...pair) {
	t.Helper()
	set := toJSON(t, keySetOf(pairs...))
	s.serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set) })
}

func keySetOf(pairs ...pair) (set jose.JSONWebKeySet) {
	set.Keys = []jose.JSONWebKey{}
	for _, p := range pairs {
		set.Keys = append(set.Keys, p.publicJWK)
	}
	return set
}

func failing(w http.ResponseWriter, _ *http.Request) { http.Error(w, "broken", 500) }

// A clock is moved by the test.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.nanos.Store(tokenNow.UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) forward(d time.Duration) { c.nanos.Add(int64(d)) }

var quiet = slog.New(slog.DiscardHandler)

// No request with a valid token is refused while the issuer changes keys: a new one is in
// the set before tokens are signed with it, and an old one as long as there are tokens.
func TestJWKS_RotationRefusesNoValidToken(t *testing.T) {
	const rotations, senders = 20, 8
	keys := newKeyServer(t)
	current := newPair(t, "EdDSA", "key-0")
	keys.has(t, current)
	time := newClock()
	a := newAuthority(t, &auth.Options{JWKS: []string{keys.URL}, Now: time.now, Logger: quiet})
	server := newHubServer(t, noExpiry{a}, hub.Options{})

	c := good()
	c.Expires = tokenNow.AddDate(1, 0, 0)
	var tokens atomic.Pointer[[]string] // all that are valid
	tokens.Store(&[]string{current.sign(t, c)})
	var (
		sending sync.WaitGroup
		stop    = make(chan struct{})
		sent    [senders]atomic.Int64
	)
	defer sending.Wait()
	defer close(stop)
	for n := range senders {
		sending.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for i := n; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				valid := *tokens.Load()
				req, err := http.NewRequest("POST", server.URL+"/events/news/sport", strings.NewReader("x"))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer "+valid[i%len(valid)])
				resp, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				b, _ := io.ReadAll(resp.Body)
				if resp.Body.Close(); resp.StatusCode != 201 {
					t.Errorf("got %d %s, want 201", resp.StatusCode, b)
					return
				}
				sent[n].Add(1)
			}
		})
	}
	before := current
	for i := range rotations {
		next := newPair(t, "EdDSA", fmt.Sprintf("key-%d", i+1))
		keys.has(t, before, current, next)
		time.forward(11e9) // so that requests may cause a fetch
		old := (*tokens.Load())[0]
		tokens.Store(&[]string{next.sign(t, c), old})
		for n := range sent { // the second request from now on has one of these tokens
			until(t, &sent[n], sent[n].Load()+4)
		}
		before, current = current, next
	}
	if n := keys.fetches.Load(); n > rotations+3 {
		t.Errorf("got %d fetches for %d rotations", n, rotations)
	}
}

// noExpiry leaves time to the authority, whose clock is not the hub's.
type noExpiry struct{ hub.Authority }

func (a noExpiry) Authorize(w http.ResponseWriter, r *http.Request, x *hub.Access) (*hub.Grant, error) {
	g, err := a.Authority.Authorize(w, r, x)
	if err != nil {
		return nil, err
	}
	forever := *g
	forever.Expires = time.Time{}
	return &forever, nil
}

// until waits for a count.
func until(t *testing.T, n *atomic.Int64, want int64) {
	t.Helper()
	for deadline := time.Now().Add(patience); n.Load() < want; {
		if time.Now().After(deadline) || t.Failed() {
			t.Fatalf("got %d after %v, want %d", n.Load(), patience, want)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestJWKS_AKeyThatIsGoneVerifiesNothing(t *testing.T) {
	keys, time := newKeyServer(t), newClock()
	old, kept := newPair(t, "ES256", "old"), newPair(t, "RS256", "kept")
	keys.has(t, old, kept)
	a := newAuthority(t, &auth.Options{JWKS: []string{keys.URL}, Now: time.now, Logger: quiet})
	oldToken, keptToken := request("GET", "/events/x", bearer(old.sign(t, good()))), request("GET", "/events/x", bearer(kept.sign(t, good())))
	granted(t, a, oldToken)
	granted(t, a, keptToken)

	keys.has(t, kept)
	time.forward(11e9)
	granted(t, a, oldToken) // there was no fetch
	refused(t, a, request("GET", "/events/x", bearer(newPair(t, "EdDSA", "nobody").sign(t, good()))), hub.ProblemUnauthorized, "RS256")
	time.forward(11e9)
	refused(t, a, oldToken, hub.ProblemUnauthorized, "keys for RS256")
	granted(t, a, keptToken)
}

// Tokens with kids that are made up cost a fetch each ten seconds, and no more; the same one
// is not told that it could be good later.
func TestJWKS_UnknownKidsCauseFewFetches(t *testing.T) {
	keys, time := newKeyServer(t), newClock()
	known := newPair(t, "EdDSA", "known")
	keys.has(t, known)
	a := newAuthority(t, &auth.Options{JWKS: []string{keys.URL}, Now: time.now, Logger: quiet})
	granted(t, a, request("GET", "/events/x", bearer(known.sign(t, good()))))
	time.forward(11e9)
	before := keys.fetches.Load()
	unknown := func(id string) *http.Request {
		p := known
		p.id = id
		return request("GET", "/events/x", bearer(p.sign(t, good())))
	}
	refused(t, a, unknown("first"), hub.ProblemUnauthorized, `kid "first" is that of no key`)
	refused(t, a, unknown("first"), hub.ProblemUnauthorized, `kid "first" is that of no key`)
	time.forward(4e9)
	for i := range 100 {
		e := refused(t, a, unknown(fmt.Sprint("other", i)), hub.ProblemUnavailable, "fetched a moment ago")
		if e.RetryAfter != 6e9 {
			t.Fatalf("got retry after %v, want 6s", e.RetryAfter)
		}
	}
	if n := keys.fetches.Load() - before; n != 1 {
		t.Errorf("got %d fetches, want 1", n)
	}
	time.forward(7e9)
	refused(t, a, unknown("other1"), hub.ProblemUnauthorized, `is that of no key`)
}

func TestJWKS_WithoutKeysItIsUnavailable(t *testing.T) {
	keys, clock := newKeyServer(t), newClock()
	p := newPair(t, "EdDSA", "a")
	token := request("GET", "/events/x", bearer(p.sign(t, good())))
	keys.serve(failing)
	a := newAuthority(t, &auth.Options{JWKS: []string{keys.URL}, Keys: []auth.Key{secretKey(t)}, Now: clock.now, Logger: quiet})
	if e := refused(t, a, token, hub.ProblemUnavailable, "cannot be fetched"); e.RetryAfter < time.Second || e.Challenge != "" {
		t.Errorf("got retry after %v and challenge %q", e.RetryAfter, e.Challenge)
	}
	// Static keys need no set.
	granted(t, a, request("GET", "/events/x", bearer(signSecret(t, goodJSON+`}`, nil))))

	keys.has(t, p)
	clock.forward(11e9)
	granted(t, a, token)
	keys.serve(failing)
	clock.forward(23 * time.Hour)
	late := good()
	late.Expires = time.Time{}
	granted(t, a, request("GET", "/events/x", bearer(p.sign(t, late)))) // with the keys of before
	clock.forward(2 * time.Hour)
	c := good()
	c.Expires, c.Subject = time.Time{}, "bob"
	refused(t, a, request("GET", "/events/x", bearer(p.sign(t, c))), hub.ProblemUnavailable, "cannot be fetched")
}

func TestJWKS_ARequestThatEndsDoesNotWait(t *testing.T) {
	keys := newKeyServer(t)
	release := make(chan struct{})
	keys.serve(func(http.ResponseWriter, *http.Request) { <-release })
	a := newAuthority(t, &auth.Options{JWKS: []string{keys.URL}, Logger: quiet})
	t.Cleanup(func() { close(release) })
	r := request("GET", "/events/x", bearer(newPair(t, "EdDSA", "a").sign(t, good())))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	refused(t, a, r.WithContext(ctx), hub.ProblemUnavailable, "cannot be fetched")
}

// What is no public key for signatures counts as if it was not there.
func TestJWKS_LeavesOutWhatIsNoKey(t *testing.T) {
	es, ed, private := newPair(t, "ES256", "es"), newPair(t, "EdDSA", "ed"), newPair(t, "EdDSA", "private")
	es.publicJWK.Algorithm = "" // its curve says it
	rs := newPair(t, "RS256", "rs")
	rs.publicJWK.Algorithm = ""
	enc := newPair(t, "ES384", "enc")
	enc.publicJWK.Use = "enc"
	crossed := newPair(t, "EdDSA", "crossed")
	crossed.publicJWK.Algorithm = "HS256"
	none := newPair(t, "EdDSA", "none")
	none.publicJWK.Algorithm = "none"
	set := keySetOf(es, ed, rs, enc, crossed, none)
	set.Keys = append(set.Keys, jose.JSONWebKey{Key: private.private, KeyID: "private", Algorithm: "EdDSA"},
		jose.JSONWebKey{Key: []byte(secret), KeyID: "secret", Algorithm: "HS256"})
	text := strings.Replace(string(toJSON(t, set)), `{"keys":[`, `{"keys":[{"kty":"new"},{"kty":"RSA"},{},7,null,`, 1)
	keys := newKeyServer(t)
	keys.serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
	var log lockedBuffer
	a := newAuthority(t, &auth.Options{JWKS: []string{keys.URL}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for _, p := range []pair{es, ed, rs} {
		granted(t, a, request("GET", "/events/x", bearer(p.sign(t, good()))))
	}
	for _, p := range []pair{enc, crossed, none, private} {
		g, err := authorize(a, request("GET", "/events/x", bearer(p.sign(t, good()))))
		if err == nil {
			t.Errorf("%s: got %+v, want a refusal", p.id, g)
		}
	}
	forged := signRaw(t, jose.HS256, []byte(secret), goodJSON+`}`, map[jose.HeaderKey]any{"kid": "secret"})
	if g, err := authorize(a, request("GET", "/events/x", bearer(forged))); err == nil {
		t.Errorf("a secret that is public: got %+v, want a refusal", g)
	}
	// RSA without alg is RS256 and nothing else.
	ps := newPair(t, "PS256", "rs")
	refused(t, a, request("GET", "/events/x", bearer(ps.sign(t, good()))), hub.ProblemUnauthorized, "for RS256 only")
	for _, want := range []string{"not for verifying signatures", "it is a private key", "kid \\\"secret\\\"", "is no algorithm"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("got log %s, want %s in it", log.String(), want)
		}
	}
}

func TestJWKS_AnswersThatAreNoSet(t *testing.T) {
	p := newPair(t, "EdDSA", "a")
	set := string(toJSON(t, keySetOf(p)))
	elsewhere := newKeyServer(t)
	elsewhere.has(t, p)
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		log    string
	}{
		{"an error", failing, "500 Internal Server Error"},
		{"no JSON", text("<html>"), "not a JWK set"},
		{"no keys", text(`{"error":"none"}`), "not a JWK set"},
		{"keys null", text(`{"keys":null}`), "not a JWK set"},
		{"too many keys", text(`{"keys":[` + strings.Repeat(`{},`, 200) + `{}]}`), "201 keys, more than 200"},
		{"too large", text(`{"x":"` + strings.Repeat("x", 1<<20) + `",` + set[1:]), "more than 1048576 bytes"},
		{"redirect to http elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://keys.example/jwks", http.StatusFound)
		}, "over http anyone"},
		{"redirects in a circle", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, "too many redirects"},
	} {
		t.Run(test.name, func(t *testing.T) {
			keys := newKeyServer(t)
			keys.serve(test.answer)
			var log lockedBuffer
			a := newAuthority(t, &auth.Options{JWKS: []string{keys.URL + "/?secret"}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			refused(t, a, request("GET", "/events/x", bearer(p.sign(t, good()))), hub.ProblemUnavailable, "cannot be fetched")
			if !strings.Contains(log.String(), test.log) || strings.Contains(log.String(), "?secret") {
				t.Errorf("got log %s, want %q and no query", log.String(), test.log)
			}
		})
	}
	t.Run("redirect that is allowed", func(t *testing.T) {
		keys := newKeyServer(t)
		keys.serve(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) })
		a := newAuthority(t, &auth.Options{JWKS: []string{keys.URL}, Logger: quiet})
		granted(t, a, request("GET", "/events/x", bearer(p.sign(t, good()))))
	})
}

func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) }
}

// The owner fetches as often as the answer says, within bounds, and soon after a failure.
func TestJWKS_Intervals(t *testing.T) {
	for _, test := range []struct {
		header string // "": the fetches fail
		in     time.Duration
		want   int
	}{
		{"no-cache", time.Hour + time.Second, 5}, // each 15 minutes
		{"max-age=600", time.Hour + time.Second, 7},
		{"public, Max-Age=\"600\"", time.Hour + time.Second, 7},
		{"max-age=1", 10*time.Minute + time.Second, 11},
		{"max-age=0", 10*time.Minute + time.Second, 11},
		{"max-age=99999999", 49 * time.Hour, 3},
		{"max-age=-1", time.Hour + time.Second, 5},
		{"max-age=99999999999999999999", time.Hour + time.Second, 5},
		{"", 63*time.Second + time.Millisecond, 7}, // after 1, 3, 7, 15, 31, 63 seconds
		{"", 63*time.Second + 10*time.Minute + time.Millisecond, 17},
	} {
		t.Run(test.header, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fetches := 0
				client := &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
					fetches++
					if test.header == "" {
						return nil, errors.New("no network")
					}
					return &http.Response{StatusCode: 200, Header: http.Header{"Cache-Control": {test.header}}, Body: io.NopCloser(strings.NewReader(`{"keys":[]}`))}, nil
				})}
				a, err := auth.New(&auth.Options{JWKS: []string{"https://keys.example/"}, Client: client, Logger: quiet})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(test.in) // of the bubble
				synctest.Wait()
				if err := a.Close(); err != nil {
					t.Error(err)
				}
				if fetches != test.want {
					t.Errorf("got %d fetches in %v, want %d", fetches, test.in, test.want)
				}
			})
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Other options keep the keys of a URL that stays, even while it cannot be fetched.
func TestJWKS_ReplaceKeepsKeys(t *testing.T) {
	keys := newKeyServer(t)
	p := newPair(t, "EdDSA", "a")
	keys.has(t, p)
	a := newAuthority(t, &auth.Options{JWKS: []string{keys.URL}, Logger: quiet})
	token := request("GET", "/events/x", bearer(p.sign(t, good())))
	granted(t, a, token)
	keys.serve(failing)
	if err := a.Replace(&auth.Options{JWKS: []string{keys.URL}, Keys: []auth.Key{secretKey(t)}, Now: at(tokenNow), Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	granted(t, a, token)
	if err := a.Replace(&auth.Options{Keys: []auth.Key{secretKey(t)}, Now: at(tokenNow), Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	refused(t, a, token, hub.ProblemUnauthorized, "keys for HS256")
}

// A lockedBuffer takes a log down.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
