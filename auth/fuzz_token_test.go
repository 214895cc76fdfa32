package auth_test

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/hub"
)

// FuzzAuthority_Token has two keys: what is granted must be signed with one of them, which is
// looked at here by hand.
func FuzzAuthority_Token(f *testing.F) {
	ed := newPair(f, "EdDSA", "ed")
	a := newAuthority(f, &auth.Options{Keys: []auth.Key{secretKey(f), ed.publicKeyOption}})
	valid := signSecret(f, goodJSON+`}`, nil)
	parts := strings.Split(valid, ".")
	for _, seed := range []string{
		"", ".", "..", "a.b.c", "....", valid, valid + ".", valid[:len(valid)-1],
		ed.sign(f, good()),
		segment(`{"alg":"none"}`) + "." + parts[1] + ".",
		segment(`{"alg":"HS256","kid":"ed"}`) + "." + parts[1] + "." + parts[2],
		signSecret(f, `{"tidewire":{"subscribe":["a*"],"private":true}}`, nil),
		signSecret(f, `{"exp":1e400}`, map[jose.HeaderKey]any{"kid": "x"}),
		signSecret(f, strings.Repeat("[", 9999), nil),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		r := &http.Request{Method: "POST", Header: http.Header{"Authorization": {"Bearer " + token}}, URL: httptest.NewRequest("POST", "/events/x", nil).URL}
		g, err := a.Authorize(httptest.NewRecorder(), r, &hub.Access{Action: hub.ActionPublish})
		if (g == nil) == (err == nil) {
			t.Fatalf("got %+v and %v", g, err)
		}
		if err == nil && !signed(strings.Trim(token, " "), ed.private.Public().(ed25519.PublicKey)) {
			t.Fatalf("granted %+v without a signature", g)
		}
	})
}

// signed checks a signature without any of what is tested.
func signed(token string, key ed25519.PublicKey) bool {
	at := strings.LastIndexByte(token, '.')
	if at < 0 {
		return false
	}
	signature, err := base64.RawURLEncoding.DecodeString(token[at+1:])
	if err != nil {
		return false
	}
	// Decoders pass over what the last digit has too much, and what is signed is the text.
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(token[:at]))
	return hmac.Equal(mac.Sum(nil), signature) || ed25519.Verify(key, []byte(token[:at]), signature)
}
