package auth

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"
)

// A Signer makes tokens, with one algorithm. It may be used by many goroutines at a time.
type Signer struct {
	signer jose.Signer
}

// NewSecretSigner returns a signer for HS256, HS384 or HS512. A secret is as long as
// [NewSecretKey] wants it; id becomes the kid, "" none.
func NewSecretSigner(alg, id, secret string) (*Signer, error) {
	return newSigner(alg, id, []byte(secret))
}

// ParseSigner reads "ALG:FILE" or "ALG:FILE#kid", as [ParseKey] does, but the file has the
// private key: in PEM, as a JWK, or for HS256, HS384 and HS512 the secret.
func ParseSigner(s string) (*Signer, error) {
	alg, file, id, err := splitKey(s)
	if err != nil {
		return nil, err
	}
	text, err := readKeyFile(file)
	if err != nil {
		return nil, err
	}
	signer, err := decodeSigner(alg, id, text)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", file, err)
	}
	return signer, nil
}

func decodeSigner(alg, id string, text []byte) (*Signer, error) {
	if block, _ := pem.Decode(text); block != nil {
		key, err := privateFromPEM(block)
		if err != nil {
			return nil, err
		}
		return newSigner(alg, id, key)
	}
	if isJWK(text) {
		var jwk jose.JSONWebKey
		if err := json.Unmarshal(text, &jwk); err != nil {
			return nil, err
		}
		if jwk.Algorithm != "" && jwk.Algorithm != alg {
			return nil, fmt.Errorf("it is for %s", quote(jwk.Algorithm))
		}
		if id == "" {
			id = jwk.KeyID
		}
		return newSigner(alg, id, jwk.Key)
	}
	if hashSizes[alg] == 0 {
		return nil, errors.New("it has neither PEM nor a JWK: tidewire token keygen makes a pair of keys")
	}
	return newSigner(alg, id, trimLineBreak(text))
}

func privateFromPEM(block *pem.Block) (any, error) {
	switch block.Type {
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	}
	return nil, fmt.Errorf("it has a PEM block %q, and must have a PRIVATE KEY (that is not encrypted) to make tokens with", block.Type)
}

func newSigner(alg, id string, key any) (*Signer, error) {
	public := key
	if k, ok := key.(crypto.Signer); ok {
		public = k.Public()
	} else if _, secret := key.([]byte); !secret {
		return nil, errors.New("it is a public key, and a private one is needed to make tokens with")
	}
	if _, err := newKey(alg, id, public); err != nil {
		return nil, err
	}
	opts := (&jose.SignerOptions{}).WithType("JWT")
	if id != "" {
		opts.WithHeader("kid", id)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: key}, opts)
	if err != nil {
		return nil, fmt.Errorf("signer: %w", err)
	}
	return &Signer{s}, nil
}

// Sign returns a token with these claims. An error says which of its patterns is none.
func (s *Signer) Sign(c *Claims) (string, error) {
	if err := c.Permissions.Check(); err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	text, err := jwt.Signed(s.signer).Claims(struct {
		jwt.Claims
		Tidewire Permissions `json:"tidewire"`
	}{
		jwt.Claims{
			Issuer: c.Issuer, Subject: c.Subject, Audience: c.Audience,
			Expiry: jwt.NewNumericDate(c.Expires), NotBefore: jwt.NewNumericDate(c.NotBefore), IssuedAt: jwt.NewNumericDate(c.IssuedAt),
		},
		c.Permissions,
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return text, nil
}
