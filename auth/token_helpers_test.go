package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/hub"
)

// secret is one of HS256.
const secret = "0123456789abcdef0123456789abcdef"

// tokenNow is the time in tests of tokens.
var tokenNow = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

// newAuthority returns one that lives as long as the test, at tokenNow unless o says
// another time.
func newAuthority(t testing.TB, o *auth.Options) *auth.Authority {
	t.Helper()
	if o.Now == nil {
		o.Now = at(tokenNow)
	}
	a, err := auth.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// secretKey is the key of the secret.
func secretKey(t testing.TB) auth.Key {
	t.Helper()
	k, err := auth.NewSecretKey("HS256", secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A pair is a private key, and files of both.
type pair struct {
	alg, id         string
	private         crypto.Signer
	privatePEM      string // names of files
	publicPEM       string
	publicPEMBytes  []byte
	publicJWK       jose.JSONWebKey
	publicKeyOption auth.Key
}

var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// newPair makes a key for an algorithm; RSA keys are all the same one, as they are slow to
// make.
func newPair(t testing.TB, alg, id string) pair {
	t.Helper()
	p := pair{alg: alg, id: id}
	var err error
	switch alg {
	case "ES256":
		p.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		p.private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		p.private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "EdDSA":
		_, p.private, err = ed25519.GenerateKey(rand.Reader)
	default:
		p.private, err = rsaKey()
	}
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(p.private)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(p.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p.privatePEM, p.publicPEM = filepath.Join(dir, "private.pem"), filepath.Join(dir, "public.pem")
	p.publicPEMBytes = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	writeFile(t, p.privatePEM, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	writeFile(t, p.publicPEM, p.publicPEMBytes)
	p.publicJWK = jose.JSONWebKey{Key: p.private.Public(), KeyID: id, Algorithm: alg, Use: "sig"}
	p.publicKeyOption = parseKey(t, alg+":"+p.publicPEM+suffix(id))
	return p
}

func suffix(id string) string {
	if id == "" {
		return ""
	}
	return "#" + id
}

func parseKey(t testing.TB, s string) auth.Key {
	t.Helper()
	k, err := auth.ParseKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func writeFile(t testing.TB, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// good are claims that hold.
func good() *auth.Claims {
	return &auth.Claims{
		Subject: "alice", Expires: tokenNow.Add(time.Hour),
		Permissions: auth.Permissions{Subscribe: []string{"news/**"}, Publish: []string{"news/sport"}},
	}
}

// goodJSON are the same as text, to which each test adds.
const goodJSON = `{"sub":"alice","tidewire":{"subscribe":["news/**"],"publish":["news/sport"]}`

func (p pair) sign(t testing.TB, c *auth.Claims) string {
	t.Helper()
	s, err := auth.ParseSigner(p.alg + ":" + p.privatePEM + suffix(p.id))
	if err != nil {
		t.Fatal(err)
	}
	text, err := s.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// signSecret signs any payload with the secret, and a header with more in it.
func signSecret(t testing.TB, payload string, header map[jose.HeaderKey]any) string {
	t.Helper()
	return signRaw(t, jose.HS256, []byte(secret), payload, header)
}

func signRaw(t testing.TB, alg jose.SignatureAlgorithm, key any, payload string, header map[jose.HeaderKey]any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, &jose.SignerOptions{ExtraHeaders: header})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func segment(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// request returns one with headers, written as "Name: value".
func request(method, target string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func bearer(token string) string { return "Authorization: Bearer " + token }

var actions = map[string]hub.Action{"GET": hub.ActionSubscribe, "HEAD": hub.ActionDescribe, "POST": hub.ActionPublish, "DELETE": hub.ActionDelete}

// authorize asks as the hub would.
func authorize(a *auth.Authority, r *http.Request) (*hub.Grant, error) {
	return a.Authorize(httptest.NewRecorder(), r, &hub.Access{Action: actions[r.Method]})
}

// granted ends the test if a request is refused.
func granted(t testing.TB, a *auth.Authority, r *http.Request) *hub.Grant {
	t.Helper()
	g, err := authorize(a, r)
	if err != nil {
		t.Fatalf("got %v, want a grant", err)
	}
	return g
}

// refused checks a refusal, and that it says something.
func refused(t testing.TB, a *auth.Authority, r *http.Request, problem hub.Problem, says string) *hub.RequestError {
	t.Helper()
	g, err := authorize(a, r)
	var e *hub.RequestError
	if g != nil || !errors.As(err, &e) {
		t.Fatalf("got grant %+v and error %v, want the problem %s", g, err, problem)
	}
	if e.Problem != problem || !strings.Contains(e.Detail, says) {
		t.Errorf("got problem %s, %q, want %s with %q", e.Problem, e.Detail, problem, says)
	}
	return e
}

func toJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// benchRequests returns requests with as many tokens.
func benchRequests(b *testing.B, p pair, n int) []*http.Request {
	b.Helper()
	s, err := auth.ParseSigner(p.alg + ":" + p.privatePEM)
	if err != nil {
		b.Fatal(err)
	}
	requests := make([]*http.Request, n)
	for i := range requests {
		c := good()
		c.Subject = strings.Repeat("a", i%97) + string(rune('a'+i%26)) + time.Duration(i).String()
		text, err := s.Sign(c)
		if err != nil {
			b.Fatal(err)
		}
		requests[i] = request("POST", "/events/x", bearer(text))
	}
	return requests
}
