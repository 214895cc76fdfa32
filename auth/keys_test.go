package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/tidewire/tidewire/auth"
)

var publicAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

func TestKey_EachAlgorithmSignsAndVerifies(t *testing.T) {
	for _, alg := range publicAlgorithms {
		t.Run(alg, func(t *testing.T) {
			p := newPair(t, alg, "a")
			a := newAuthority(t, &auth.Options{Keys: []auth.Key{p.publicKeyOption}})
			if g := granted(t, a, request("GET", "/events/x", bearer(p.sign(t, good())))); g.Subject != "alice" {
				t.Errorf("got subject %q, want alice", g.Subject)
			}
		})
	}
	for alg, size := range map[string]int{"HS256": 32, "HS384": 48, "HS512": 64} {
		t.Run(alg, func(t *testing.T) {
			text := strings.Repeat("s", size)
			k, err := auth.NewSecretKey(alg, text)
			if err != nil {
				t.Fatal(err)
			}
			s, err := auth.NewSecretSigner(alg, "", text)
			if err != nil {
				t.Fatal(err)
			}
			token, err := s.Sign(good())
			if err != nil {
				t.Fatal(err)
			}
			granted(t, newAuthority(t, &auth.Options{Keys: []auth.Key{k}}), request("GET", "/events/x", bearer(token)))
			if _, err := auth.NewSecretKey(alg, text[1:]); err == nil || !strings.Contains(err.Error(), fmt.Sprint("needs ", size)) {
				t.Errorf("one byte less: got %v, want the size", err)
			}
		})
	}
}

func TestParseKey_FormsOfFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		writeFile(t, path, content)
		return path
	}
	ed, rs, es := newPair(t, "EdDSA", "ed"), newPair(t, "RS256", "rs"), newPair(t, "ES256", "es")
	certificate := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: tokenNow.Add(-time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, certificate, certificate, es.private.Public(), es.private)
	if err != nil {
		t.Fatal(err)
	}
	cert := file("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	pkcs1 := file("pkcs1.pem", pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(rs.private.Public().(*rsa.PublicKey))}))
	jwk := file("key.jwk", toJSON(t, ed.publicJWK))
	set := file("set.jwks", toJSON(t, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{ed.publicJWK, rs.publicJWK, es.publicJWK}}))
	two := file("two.jwks", toJSON(t, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{ed.publicJWK, newPair(t, "EdDSA", "other").publicJWK}}))
	private := file("private.jwk", toJSON(t, jose.JSONWebKey{Key: ed.private, KeyID: "p", Algorithm: "EdDSA"}))
	plain := file("secret", []byte(secret+"\r\n"))
	oct := file("oct.jwk", fmt.Appendf(nil, `{"kty":"oct","kid":"o","k":%q}`, base64.RawURLEncoding.EncodeToString([]byte(secret))))
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	smallDER, err := x509.MarshalPKIXPublicKey(small.Public())
	if err != nil {
		t.Fatal(err)
	}
	p224 := file("p224.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: smallDER}))
	weak := file("weak.jwk", fmt.Appendf(nil, `{"kty":"RSA","e":"AQAB","n":%q}`, base64.RawURLEncoding.EncodeToString(rs.private.Public().(*rsa.PublicKey).N.Bytes()[:128])))
	enc := file("enc.jwk", fmt.Appendf(nil, `{"kty":"oct","use":"enc","k":%q}`, base64.RawURLEncoding.EncodeToString([]byte(secret))))
	ops := file("ops.jwk", fmt.Appendf(nil, `{"kty":"oct","key_ops":["sign"],"k":%q}`, base64.RawURLEncoding.EncodeToString([]byte(secret))))

	for _, test := range []struct{ key, want, err string }{
		{"EdDSA:" + ed.publicPEM, "EdDSA key", ""},
		{"EdDSA:" + ed.publicPEM + "#k", `EdDSA key "k"`, ""},
		{"ES256:" + cert, "ES256 key", ""},
		{"PS384:" + pkcs1, "PS384 key", ""},
		{"EdDSA:" + jwk, `EdDSA key "ed"`, ""},
		{"EdDSA:" + set, `EdDSA key "ed"`, ""},
		{"RS256:" + set, `RS256 key "rs"`, ""},
		{"EdDSA:" + two + "#other", `EdDSA key "other"`, ""},
		{"HS256:" + plain, "HS256 key", ""},
		{"HS256:" + oct, `HS256 key "o"`, ""},

		{"EdDSA:" + two, "", "2 keys for EdDSA: name one with #kid"},
		{"EdDSA:" + two + "#third", "", "has the kid"},
		{"EdDSA:" + jwk + "#other", "", "has the kid"},
		{"RS384:" + set, "", "is for"},
		{"HS256:" + ed.publicPEM, "", "an Ed25519 key is for EdDSA, and not for HS256"},
		{"HS256:" + rs.publicPEM, "", "an RSA key is for RS256 to PS512, and not for HS256"},
		{"ES384:" + es.publicPEM, "", "a key of the curve P-256 is not for ES384"},
		{"ES256:" + p224, "", "P-224 is not for ES256"},
		{"RS256:" + weak, "", "1024 bits, and needs 2048"},
		{"EdDSA:" + ed.privatePEM, "", "it has a private key"},
		{"EdDSA:" + private, "", "it is a private key"},
		{"RS256:" + plain, "", "neither PEM nor a JWK"},
		{"RS256:" + oct, "", "a secret is for HS256"},
		{"HS512:" + plain, "", "has 32 bytes, and HS512 needs 64"},
		{"HS256:" + enc, "", "not for verifying"},
		{"HS256:" + ops, "", "not for verifying"},
		{"none:" + plain, "", "is no algorithm of a key"},
		{"hs256:" + plain, "", "is no algorithm of a key"},
		{"HS256:" + filepath.Join(dir, "nothing"), "", "no such file"},
		{"HS256", "", "ALG:FILE"},
		{"HS256:", "", "ALG:FILE"},
		{"HS256:#x", "", "ALG:FILE"},
		{"a-secret-by-mistake", "", "ALG:FILE"},
	} {
		k, err := auth.ParseKey(test.key)
		switch {
		case test.err == "" && (err != nil || k.String() != test.want):
			t.Errorf("%s: got %v and %v, want %s", test.key, k, err, test.want)
		case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
			t.Errorf("%s: got %v and %v, want an error with %q", test.key, k, err, test.err)
		case err != nil && strings.Contains(err.Error(), "by-mistake"):
			t.Errorf("got %v, which has what may be a secret", err)
		}
	}
	signer, err := auth.ParseSigner("EdDSA:" + private)
	if err != nil {
		t.Fatal(err)
	}
	if token, err := signer.Sign(good()); err != nil {
		t.Error(err)
	} else {
		a := newAuthority(t, &auth.Options{Keys: []auth.Key{parseKey(t, "EdDSA:"+ed.publicPEM+"#p")}})
		granted(t, a, request("GET", "/events/x", bearer(token)))
	}
	if _, err := auth.ParseSigner("EdDSA:" + ed.publicPEM); err == nil || !strings.Contains(err.Error(), "must have a PRIVATE KEY") {
		t.Errorf("a signer of a public key: got %v", err)
	}
}

func TestKey_IsNeverPrinted(t *testing.T) {
	k := secretKey(t)
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(format, k); strings.Contains(got, "0123") || strings.Contains(got, "48, 49") || strings.Contains(got, "0x30") {
			t.Errorf("%s prints %s", format, got)
		}
	}
}
