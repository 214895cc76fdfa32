package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

const (
	maxKeyFile = 1 << 20 // bytes
	minRSABits = 2048    // RFC 7518, sections 3.3 and 3.5
)

// A Key verifies the signatures of tokens with one algorithm (RFC 8725, section 3.1), and
// no other.
type Key struct {
	// ID is the kid of the tokens that it verifies. Without one it verifies all whose kid
	// no key has.
	ID string

	// Algorithm is one of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512,
	// ES256, ES384, ES512 and EdDSA (with Ed25519).
	Algorithm string

	key        any    // []byte, *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
	credential string // its name, of the keys that are in use
}

// String never shows the key itself.
func (k Key) String() string {
	if k.ID == "" {
		return k.Algorithm + " key"
	}
	return fmt.Sprintf("%s key %q", k.Algorithm, k.ID)
}

// GoString never shows the key itself either.
func (k Key) GoString() string { return k.String() }

// hashSizes are the bytes that a secret has at least (RFC 7518, section 3.2).
var hashSizes = map[string]int{"HS256": 32, "HS384": 48, "HS512": 64}

// curves are the ones of each algorithm (RFC 7518, section 3.4).
var curves = map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}

// checkAlgorithm says that there is no such algorithm, and which there are.
func checkAlgorithm(alg string) error {
	all := []string{"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
	if slices.Contains(all, alg) {
		return nil
	}
	return fmt.Errorf("%q is no algorithm of a key: use one of %s", alg, strings.Join(all, ", "))
}

// newKey binds a key to an algorithm that it fits.
func newKey(alg, id string, key any) (Key, error) {
	k := Key{ID: id, Algorithm: alg, key: key}
	if err := checkAlgorithm(alg); err != nil {
		return Key{}, err
	}
	switch key := key.(type) {
	case []byte:
		size, ok := hashSizes[alg]
		if !ok {
			return Key{}, fmt.Errorf("a secret is for HS256, HS384 and HS512, and not for %s", alg)
		}
		if len(key) < size {
			return Key{}, fmt.Errorf("the secret has %d bytes, and %s needs %d or more: tidewire token keygen --alg %[2]s makes one", len(key), alg, size)
		}
	case *rsa.PublicKey:
		if !strings.HasPrefix(alg, "RS") && !strings.HasPrefix(alg, "PS") {
			return Key{}, fmt.Errorf("an RSA key is for RS256 to PS512, and not for %s", alg)
		}
		if bits := key.N.BitLen(); bits < minRSABits {
			return Key{}, fmt.Errorf("the RSA key has %d bits, and needs %d or more", bits, minRSABits)
		}
	case *ecdsa.PublicKey:
		if key.Curve != curves[alg] {
			return Key{}, fmt.Errorf("a key of the curve %s is not for %s", key.Curve.Params().Name, alg)
		}
	case ed25519.PublicKey:
		if alg != "EdDSA" {
			return Key{}, fmt.Errorf("an Ed25519 key is for EdDSA, and not for %s", alg)
		}
	default:
		return Key{}, fmt.Errorf("a key of this type (%T) verifies no tokens", key)
	}
	return k, nil
}

// NewSecretKey returns a key of HS256, HS384 or HS512. The secret has at least as many
// bytes as the hash: 32, 48 or 64 (RFC 7518, section 3.2).
func NewSecretKey(alg, secret string) (Key, error) { return newKey(alg, "", []byte(secret)) }

// ParseKey reads "ALG:FILE" or "ALG:FILE#kid". The file has a public key or a certificate
// in PEM (whose dates do not count), a JWK, a JWK set (RFC 7517), or for HS256, HS384 and
// HS512 the secret itself, in which a line break at the end does not count. Of a set it is the
// key that the kid names, or else the only one that fits.
func ParseKey(s string) (Key, error) {
	alg, file, id, err := splitKey(s)
	if err != nil {
		return Key{}, err
	}
	text, err := readKeyFile(file)
	if err != nil {
		return Key{}, err
	}
	k, err := decodeKey(alg, id, text)
	if err != nil {
		return Key{}, fmt.Errorf("key %s: %w", file, err)
	}
	return k, nil
}

// splitKey splits "ALG:FILE#kid".
func splitKey(s string) (alg, file, id string, err error) {
	alg, file, ok := strings.Cut(s, ":")
	if at := strings.LastIndexByte(file, '#'); at >= 0 {
		file, id = file[:at], file[at+1:]
	}
	if !ok || file == "" {
		// It may be a secret that was given by mistake, and is not repeated.
		return "", "", "", errors.New("a key is written as ALG:FILE or ALG:FILE#kid, such as EdDSA:public.pem")
	}
	return alg, file, id, checkAlgorithm(alg)
}

func readKeyFile(name string) ([]byte, error) {
	text, err := readFile(name, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return text, nil
}

// readFile reads a file that is no larger than it may be.
func readFile(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	text, err := readBounded(f, most)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return text, nil
}

func decodeKey(alg, id string, text []byte) (Key, error) {
	if block, _ := pem.Decode(text); block != nil {
		key, err := publicFromPEM(block)
		if err != nil {
			return Key{}, err
		}
		return newKey(alg, id, key)
	}
	if isJWK(text) {
		return keyFromJWKs(alg, id, text)
	}
	if hashSizes[alg] == 0 {
		return Key{}, errors.New("it has neither PEM nor a JWK: tidewire token keygen makes a pair of keys")
	}
	return newKey(alg, id, trimLineBreak(text))
}

func publicFromPEM(block *pem.Block) (any, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return c.PublicKey, nil
	}
	if strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return nil, errors.New("it has a private key: that stays with who makes tokens; give the public one, which openssl pkey -pubout prints")
	}
	return nil, fmt.Errorf("it has a PEM block %q, and must have a PUBLIC KEY or a CERTIFICATE", block.Type)
}

// isJWK tells whether a file has a JWK or a set of them, and not a secret.
func isJWK(text []byte) bool {
	var members map[string]json.RawMessage
	if json.Unmarshal(text, &members) != nil {
		return false
	}
	return members["kty"] != nil || members["keys"] != nil
}

// keyFromJWKs returns the key of a file that is for an algorithm.
func keyFromJWKs(alg, id string, text []byte) (Key, error) {
	raws, err := splitJWKs(text)
	if err != nil {
		return Key{}, err
	}
	var fit []Key
	var errs []error
	for _, raw := range raws {
		k, err := decodeJWK(raw, alg)
		switch {
		case err != nil:
			errs = append(errs, err)
		case len(raws) == 1 && id != "" && k.ID == "":
			k.ID = id
			fit = append(fit, k)
		case id == "" || id == k.ID:
			fit = append(fit, k)
		}
	}
	switch len(fit) {
	case 1:
		return fit[0], nil
	case 0:
		return Key{}, errors.Join(fmt.Errorf("none of its %d keys is for %s and has the kid %q", len(raws), alg, id), errors.Join(errs...))
	}
	var ids []string
	for _, k := range fit {
		ids = append(ids, k.ID)
	}
	return Key{}, fmt.Errorf("it has %d keys for %s: name one with #kid, of %q", len(fit), alg, ids)
}

// splitJWKs returns the keys of a set, or the one that is alone.
func splitJWKs(text []byte) ([]json.RawMessage, error) {
	var set struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, err
	}
	if set.Keys == nil {
		return []json.RawMessage{text}, nil
	}
	return *set.Keys, nil
}

// decodeJWK reads a JWK (RFC 7517, section 4) that verifies signatures. alg, if not "", is
// what it must be for. One that does not say has the algorithm of its curve, or RS256.
func decodeJWK(raw []byte, alg string) (Key, error) {
	var more struct {
		KeyID string   `json:"kid"`
		Ops   []string `json:"key_ops"`
	}
	var jwk jose.JSONWebKey
	if err := json.Unmarshal(raw, &more); err != nil {
		return Key{}, err
	}
	if err := jwk.UnmarshalJSON(raw); err != nil {
		return Key{}, fmt.Errorf("kid %s: %w", quote(more.KeyID), err)
	}
	if jwk.Use != "" && jwk.Use != "sig" || more.Ops != nil && !slices.Contains(more.Ops, "verify") {
		return Key{}, fmt.Errorf("kid %s: it is not for verifying signatures", quote(jwk.KeyID))
	}
	if _, secret := jwk.Key.([]byte); !secret && !jwk.IsPublic() {
		return Key{}, fmt.Errorf("kid %s: it is a private key, which stays with who makes tokens", quote(jwk.KeyID))
	}
	if jwk.Algorithm == "" {
		jwk.Algorithm = alg
	}
	if jwk.Algorithm == "" {
		jwk.Algorithm = impliedAlgorithm(jwk.Key)
	}
	if alg != "" && alg != jwk.Algorithm {
		return Key{}, fmt.Errorf("kid %s: it is for %s", quote(jwk.KeyID), quote(jwk.Algorithm))
	}
	k, err := newKey(jwk.Algorithm, jwk.KeyID, jwk.Key)
	if err != nil {
		return Key{}, fmt.Errorf("kid %s: %w", quote(jwk.KeyID), err)
	}
	return k, nil
}

// impliedAlgorithm is that of a JWK without alg. RSA has several: RS256 is the one that
// OpenID Connect makes the default.
func impliedAlgorithm(key any) string {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return "RS256"
	case *ecdsa.PublicKey:
		for alg, curve := range curves {
			if key.Curve == curve {
				return alg
			}
		}
	case ed25519.PublicKey:
		return "EdDSA"
	}
	return ""
}

func trimLineBreak(text []byte) []byte {
	s := strings.TrimSuffix(string(text), "\n")
	return []byte(strings.TrimSuffix(s, "\r"))
}
