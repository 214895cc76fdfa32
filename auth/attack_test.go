package auth_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
)

// newHubServer serves a hub that asks an authority.
func newHubServer(t *testing.T, a hub.Authority, o hub.Options) *httptest.Server {
	t.Helper()
	log, err := memory.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	o.Log, o.Authority = log, a
	h, err := hub.New(&o)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.Close()
		if err := h.Shutdown(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		_ = log.Close()
	})
	return s
}

// An answer is what an attack got.
type answer struct {
	status    int
	challenge string
	body      string
	problem   struct{ Type, Detail, Field string }
}

func (a *answer) read(t *testing.T, resp *http.Response) {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a.status, a.challenge, a.body = resp.StatusCode, resp.Header.Get("WWW-Authenticate"), string(b)
	_ = json.Unmarshal(b, &a.problem) // of net/http's own answers nothing
}

// The table of attacks: each goes to a real server and is refused with a reason. What would be
// granted is publishing to news/sport.
func TestAuthority_RefusesAttacks(t *testing.T) {
	const issuer, audience = "https://issuer.example", "tidewire"
	rs, ed, ed2 := newPair(t, "RS256", "rs"), newPair(t, "EdDSA", "ed"), newPair(t, "EdDSA", "ed2")
	hsFile := t.TempDir() + "/secret"
	writeFile(t, hsFile, []byte(secret))
	keys := []auth.Key{rs.publicKeyOption, ed.publicKeyOption, ed2.publicKeyOption, parseKey(t, "HS256:"+hsFile+"#hs")}
	a := newAuthority(t, &auth.Options{Keys: keys, Issuer: issuer, Audience: []string{"other", audience}, Now: time.Now})
	server := newHubServer(t, a, hub.Options{})

	now := time.Now()
	claims := func(change string) string {
		all := map[string]any{
			"iss": issuer, "aud": audience, "sub": "mallory", "exp": now.Add(time.Hour).Unix(),
			"tidewire": map[string]any{"publish": []string{"news/sport", "secret/plans"}, "subscribe": []string{"news/sport"}},
		}
		if change != "" {
			if err := json.Unmarshal([]byte(change), &all); err != nil {
				t.Fatal(err)
			}
			for name, v := range all {
				if v == "gone" {
					delete(all, name)
				}
			}
		}
		return string(toJSON(t, all))
	}
	header := func(kid string, more ...any) map[jose.HeaderKey]any {
		h := map[jose.HeaderKey]any{"kid": kid}
		for i := 0; i < len(more); i += 2 {
			h[jose.HeaderKey(more[i].(string))] = more[i+1]
		}
		return h
	}
	hs := func(payload string) string { return signSecret(t, payload, header("hs")) }
	valid := hs(claims(""))
	parts := strings.Split(valid, ".")
	edSigned := func(payload string, h map[jose.HeaderKey]any) string {
		return signRaw(t, jose.EdDSA, ed.private, payload, h)
	}
	encrypt := func() string {
		e, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: []byte(secret)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		jwe, err := e.Encrypt([]byte(claims("")))
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwe.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	unsigned := func(alg string) string {
		return segment(`{"alg":"`+alg+`"}`) + "." + segment(claims("")) + "."
	}
	attacker := newPair(t, "EdDSA", "evil")
	embedded := jose.JSONWebKey{Key: attacker.private.Public(), KeyID: "evil", Algorithm: "EdDSA"}
	unixIn := func(d time.Duration) int64 { return now.Add(d).Unix() }
	deep := strings.Repeat(`[`, 40) + strings.Repeat(`]`, 40)

	const unauthorized, expired, query = "unauthorized", "token-expired", "bad-query"
	for _, test := range []struct {
		name    string
		token   string
		status  int
		problem string
		says    string
	}{
		{"nothing at all", "", 400, query, "no more than the name of a scheme"},
		{"alg none", unsigned("none"), 401, unauthorized, `alg is "none"`},
		{"alg None", unsigned("None"), 401, unauthorized, "has no signature"},
		{"alg nOnE", unsigned("nOnE"), 401, unauthorized, "has no signature"},
		{"alg none with a signature", segment(`{"alg":"none"}`) + "." + parts[1] + "." + parts[2], 401, unauthorized, "has no signature"},
		{"no alg", segment(`{"kid":"hs"}`) + "." + parts[1] + "." + parts[2], 401, unauthorized, `is for HS256 only`},
		{"alg in lower case", segment(`{"alg":"hs256","kid":"hs"}`) + "." + parts[1] + "." + parts[2], 401, unauthorized, "HS256 only"},
		{"alg null", segment(`{"alg":null}`) + "." + parts[1] + "." + parts[2], 401, unauthorized, "alg must be text"},
		{"HMAC with the public RSA key as secret", signRaw(t, jose.HS256, rs.publicPEMBytes, claims(""), nil), 401, unauthorized, ""},
		{"the same with that key's kid", signRaw(t, jose.HS256, rs.publicPEMBytes, claims(""), header("rs")), 401, unauthorized, `the key "rs" is for RS256 only`},
		{"the same with the secret's kid", signRaw(t, jose.HS256, rs.publicPEMBytes, claims(""), header("hs")), 401, unauthorized, "signature does not hold"},
		{"another algorithm of the same key", signRaw(t, jose.PS256, rs.private, claims(""), header("rs")), 401, unauthorized, `signed with "PS256"`},
		{"unknown kid", edSigned(claims(""), header("unknown")), 401, unauthorized, `kid "unknown" is that of no key`},
		{"kid that is a path", edSigned(claims(""), header("../../dev/null")), 401, unauthorized, "is that of no key"},
		{"kid that is a number", segment(`{"alg":"EdDSA","kid":1}`) + "." + parts[1] + "." + parts[2], 401, unauthorized, "kid must be text"},
		{"kid of A, signed by B", signRaw(t, jose.EdDSA, ed2.private, claims(""), header("ed")), 401, unauthorized, "signature does not hold"},
		{"kid of an RSA key, signed with Ed25519", edSigned(claims(""), header("rs")), 401, unauthorized, "RS256 only"},
		{"embedded jwk", signRaw(t, jose.EdDSA, attacker.private, claims(""), header("evil", "jwk", embedded)), 401, unauthorized, "is that of no key"},
		{"embedded jwk without kid", signRaw(t, jose.EdDSA, attacker.private, claims(""), map[jose.HeaderKey]any{"jwk": embedded}), 401, unauthorized, "signature does not hold"},
		{"jku", signRaw(t, jose.EdDSA, attacker.private, claims(""), header("evil", "jku", "https://evil.example/jwks.json")), 401, unauthorized, "is that of no key"},
		{"x5u", signRaw(t, jose.EdDSA, attacker.private, claims(""), header("ed", "x5u", "https://evil.example/cert.pem")), 401, unauthorized, "signature does not hold"},
		{"crit", segment(`{"alg":"HS256","kid":"hs","crit":["exp"],"exp":1}`) + "." + parts[1] + "." + parts[2], 401, unauthorized, "header has crit"},
		{"crit null", segment(`{"alg":"HS256","kid":"hs","crit":null}`) + "." + parts[1] + "." + parts[2], 401, unauthorized, "header has crit"},
		{"b64", segment(`{"alg":"HS256","kid":"hs","b64":false}`) + "." + parts[1] + "." + parts[2], 401, unauthorized, "header has b64"},
		{"alg twice", segment(`{"alg":"HS256","alg":"none"}`) + "." + parts[1] + "." + parts[2], 401, unauthorized, "each name comes once"},
		{"header that is a list", segment(`[]`) + "." + parts[1] + "." + parts[2], 401, unauthorized, "not a JSON object"},
		{"header that is null", segment(`null`) + "." + parts[1] + "." + parts[2], 401, unauthorized, "not a JSON object"},
		{"header that is not UTF-8", segment("{\"alg\":\"\xff\"}") + "." + parts[1] + "." + parts[2], 401, unauthorized, "not UTF-8"},
		{"deep header", segment(`{"a":`+deep+`}`) + "." + parts[1] + "." + parts[2], 401, unauthorized, "deeper than 16"},

		{"wrong iss", hs(claims(`{"iss":"https://evil.example"}`)), 401, unauthorized, `from the issuer "https://evil.example", and must be from "https://issuer.example"`},
		{"no iss", hs(claims(`{"iss":"gone"}`)), 401, unauthorized, "has no issuer"},
		{"iss that begins right", hs(claims(`{"iss":"https://issuer.example.evil"}`)), 401, unauthorized, "must be from"},
		{"wrong aud", hs(claims(`{"aud":["a","b"]}`)), 401, unauthorized, `"other" or "tidewire" must be among its aud`},
		{"no aud", hs(claims(`{"aud":"gone"}`)), 401, unauthorized, "among its aud"},
		{"aud that is a number", hs(claims(`{"aud":7}`)), 401, unauthorized, "aud must be text, or a list"},
		{"expired", hs(claims(fmt.Sprintf(`{"exp":%d}`, unixIn(-time.Minute)))), 401, expired, "the token expired at"},
		{"not yet valid", hs(claims(fmt.Sprintf(`{"nbf":%d}`, unixIn(time.Minute)))), 401, unauthorized, "valid from"},
		{"issued in the future", hs(claims(fmt.Sprintf(`{"iat":%d}`, unixIn(time.Minute)))), 401, unauthorized, "issued at"},
		{"exp that is text", hs(claims(`{"exp":"9999999999"}`)), 401, unauthorized, "exp must be a number"},
		{"exp null", hs(claims(`{"exp":null}`)), 401, unauthorized, "exp must be a number"},
		{"exp beyond all time", hs(claims(`{"exp":1e300}`)), 401, unauthorized, "exp must be a number"},
		{"nbf that wraps round", hs(claims(`{"nbf":9223372036854775807}`)), 401, unauthorized, "nbf must be a number"},
		{"exp that wraps round", hs(claims(`{"exp":-9223372036854775808}`)), 401, unauthorized, "exp must be a number"},
		{"sub that is an object", hs(claims(`{"sub":{}}`)), 401, unauthorized, "sub must be text"},
		{"exp twice", hs(strings.Replace(claims(""), `"iss"`, `"exp":1,"iss"`, 1)), 401, unauthorized, "each name comes once"},
		{"payload that is a list", hs(`[]`), 401, unauthorized, "not a JSON object"},
		{"payload that is null", hs(`null`), 401, unauthorized, "not a JSON object"},
		{"payload that is not UTF-8", hs("{\"sub\":\"\xff\"}"), 401, unauthorized, "not UTF-8"},
		{"deep payload", hs(claims(`{"x":` + deep + `}`)), 401, unauthorized, "deeper than 16"},

		{"no tidewire claim", hs(claims(`{"tidewire":"gone"}`)), 401, unauthorized, `it needs a claim "tidewire": {"subscribe"`},
		{"tidewire null", hs(claims(`{"tidewire":null}`)), 401, unauthorized, "must be an object"},
		{"tidewire true", hs(claims(`{"tidewire":true}`)), 401, unauthorized, "must be an object"},
		{"tidewire in capitals", hs(claims(`{"tidewire":"gone","Tidewire":{"publish":["**"]}}`)), 401, unauthorized, "it needs a claim"},
		{"publish that is text", hs(claims(`{"tidewire":{"publish":"**"}}`)), 401, unauthorized, "publish must be a list"},
		{"publish with null", hs(claims(`{"tidewire":{"publish":[null]}}`)), 401, unauthorized, "publish must be a list"},
		{"publish true", hs(claims(`{"tidewire":{"publish":true}}`)), 401, unauthorized, "publish must be a list"},
		{"admin that is text", hs(claims(`{"tidewire":{"admin":"true"}}`)), 401, unauthorized, "admin must be true or false"},
		{"publish twice", hs(strings.Replace(claims(""), `"publish"`, `"publish":["**"],"publish"`, 1)), 401, unauthorized, "must be an object"},
		{"unknown member", hs(claims(`{"tidewire":{"publsih":["**"]}}`)), 401, unauthorized, `has "publsih", and can have`},
		{"** in the middle", hs(claims(`{"tidewire":{"publish":["a","**/secret"]}}`)), 401, unauthorized, "number 2 of publish is no pattern"},
		{"* in a segment", hs(claims(`{"tidewire":{"publish":["secret*"]}}`)), 401, unauthorized, "number 1 of publish is no pattern"},
		{"empty pattern", hs(claims(`{"tidewire":{"publish":[""]}}`)), 401, unauthorized, "is no pattern"},
		{"NUL in a pattern", hs(claims(`{"tidewire":{"publish":["a\u0000"]}}`)), 401, unauthorized, "is no pattern"},
		{"line break in a pattern", hs(claims(`{"tidewire":{"publish":["a\r\nb"]}}`)), 401, unauthorized, "is no pattern"},
		{"too many patterns", hs(claims(`{"tidewire":{"publish":[` + strings.Repeat(`"a",`, 1000) + `"a"]}}`)), 401, unauthorized, "1001 patterns, more than 1000"},

		{"tampered payload", parts[0] + "." + segment(claims(`{"sub":"admin"}`)) + "." + parts[2], 401, unauthorized, "signature does not hold"},
		{"tampered signature", valid[:len(valid)-8] + "AAAAAAAA", 401, unauthorized, "signature does not hold"},
		{"cut signature", valid[:len(valid)-8], 401, unauthorized, "signature does not hold"},
		{"no signature", parts[0] + "." + parts[1] + ".", 401, unauthorized, "signature does not hold"},
		{"no payload", parts[0] + ".." + parts[2], 401, unauthorized, "signature does not hold"},
		{"cut in the payload", valid[:len(parts[0])+20], 401, unauthorized, "has 2 parts"},
		{"one part", "abc", 401, unauthorized, "has 1 parts"},
		{"four parts", valid + ".x", 401, unauthorized, "has 4 parts"},
		{"six parts", valid + ".x.y.z", 401, unauthorized, "has 6 parts"},
		{"JWE", encrypt(), 401, unauthorized, "is encrypted (JWE)"},
		{"token in a token", edSigned(valid, header("ed", "cty", "JWT")), 401, unauthorized, "not a JSON object"},
		{"JSON form", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, 401, unauthorized, "has 1 parts"},
		{"padding", parts[0] + "=." + parts[1] + "." + parts[2], 401, unauthorized, "not base64url"},
		{"blank in the middle", parts[0] + ". " + parts[1] + "." + parts[2], 401, unauthorized, ""},
		{"another token behind a comma", valid + ", " + valid, 401, unauthorized, ""},
		{"huge", segment(`{"alg":"HS256","x":"`+strings.Repeat("x", 9000)+`"}`) + "." + parts[1] + "." + parts[2], 401, unauthorized, "bytes, more than 8192"},

		{"a topic that is not granted", hs(claims(`{"tidewire":{"publish":["secret/plans"]}}`)), 403, "forbidden", `publish topic "news/sport"`},
		{"a grant of an empty segment", hs(claims(`{"tidewire":{"publish":["news/sport/"]}}`)), 403, "forbidden", ""},
		{"a grant of dot segments", hs(claims(`{"tidewire":{"publish":["news/./sport","x/../news/sport"]}}`)), 403, "forbidden", ""},
		{"a grant that is encoded", hs(claims(`{"tidewire":{"publish":["news%2Fsport"]}}`)), 403, "forbidden", ""},
		{"subscribing only", hs(claims(`{"tidewire":{"subscribe":["**"],"private":true}}`)), 403, "forbidden", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			req, err := http.NewRequest("POST", server.URL+"/events/news/sport", strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+test.token)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			var got answer
			got.read(t, resp)
			if got.status != test.status || got.problem.Type != "urn:tidewire:problem:"+test.problem || !strings.Contains(got.problem.Detail, test.says) {
				t.Errorf("got %d %s, want %d %s with %q", got.status, got.body, test.status, test.problem, test.says)
			}
			checkSaysNoSecret(t, test.token, got)
			if wants := test.status == 401; wants != strings.Contains(got.challenge, `error="invalid_token", error_description="`) {
				t.Errorf("got challenge %q", got.challenge)
			}
			if description, _, _ := strings.Cut(strings.TrimPrefix(got.challenge, `Bearer realm="tidewire", error="invalid_token", error_description="`), `"`); strings.ContainsAny(description, `\`) {
				t.Errorf("got description %q", description)
			}
		})
	}
	t.Run("the token itself is good", func(t *testing.T) {
		req, err := http.NewRequest("POST", server.URL+"/events/news/sport", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+valid)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var got answer
		if got.read(t, resp); got.status != 201 {
			t.Errorf("got %d %s, want 201: the attacks show nothing", got.status, got.body)
		}
	})
}

// checkSaysNoSecret looks for the token, a part of it, and a topic that was not asked for.
func checkSaysNoSecret(t *testing.T, token string, got answer) {
	t.Helper()
	said := got.body + got.challenge
	for _, part := range strings.Split(token, ".") {
		if len(part) > 8 && strings.Contains(said, part) {
			t.Errorf("the answer repeats the token: %s", said)
		}
	}
	if strings.Contains(said, "secret/plans") || strings.Contains(said, "secret*") || strings.Contains(said, "**/secret") {
		t.Errorf("the answer names a topic that was not asked for: %s", said)
	}
}

// What HTTP does not allow in a header never reaches the authority, and is no way round it.
func TestAuthority_RefusesRawHeaders(t *testing.T) {
	a := newAuthority(t, &auth.Options{Keys: []auth.Key{secretKey(t)}, Now: time.Now})
	server := newHubServer(t, a, hub.Options{})
	token := signSecret(t, goodJSON+`}`, nil)
	for _, test := range []struct {
		name, headers string
		status        int
	}{
		{"NUL", "Authorization: Bearer " + token + "\x00\r\n", 400},
		{"NUL within", "Authorization: Bearer " + token[:9] + "\x00" + token[9:] + "\r\n", 400},
		{"CR within", "Authorization: Bearer " + token[:9] + "\r" + token[9:] + "\r\n", 400},
		{"folded line, which is a blank (RFC 9112, section 5.2)", "Authorization: Bearer\r\n " + token + "\r\n", 201},
		{"line break within", "Authorization: Bearer " + token[:9] + "\r\n" + token[9:] + "\r\n", 400},
		{"two headers", "Authorization: Bearer " + token + "\r\nAuthorization: Bearer " + token + "\r\n", 400},
		{"blank before the colon", "Authorization : Bearer " + token + "\r\n", 400},
		{"control character in the cookie", "Cookie: tidewire=" + token + "\x01\r\nOrigin: http://x\r\n", 400},
		{"two cookies", "Cookie: tidewire=" + token + "; tidewire=" + token + "\r\nOrigin: http://x\r\n", 400},
		{"empty cookie", "Cookie: tidewire=\r\nOrigin: http://x\r\n", 401},
		{"as it should be", "Authorization: bEARER   " + token + " \r\n", 201},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, err = io.WriteString(c, "POST /events/news/sport HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n"+test.headers+"\r\nx")
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			var got answer
			if got.read(t, resp); got.status != test.status {
				t.Errorf("got %d %s, want %d", got.status, got.body, test.status)
			}
			checkSaysNoSecret(t, token, got)
		})
	}
}
