package auth

import (
	"context"
	"crypto/x509"
	"strings"

	"github.com/tidewire/tidewire/hub"
)

const (
	credentialSize = 16  // bytes
	notInSets      = "." // begins the names of keys that no key set can have, and of no others
)

// credential names a key, in the grants that come from it and in tickets, which can be read.
// With Tickets the name is made with their secret: nobody else can try with it what the secret
// of tokens might be.
func (t *Tickets) credential(kind string, key []byte) string {
	var with []byte
	if t != nil {
		with = t.credentialKey
	}
	return mac(with, kind+"\n"+string(key), credentialSize)
}

// named returns a key with its name. Its ID does not count, which may be changed.
func (t *Tickets) named(k Key) Key {
	kind := "token " + k.Algorithm
	if secret, ok := k.key.([]byte); ok {
		k.credential = notInSets + t.credential(kind, secret)
		return k
	}
	public, _ := x509.MarshalPKIXPublicKey(k.key) // all that newKey takes can be written
	k.credential = t.credential(kind, public)
	return k
}

// Holds tells whether the key that a grant came from is still there, which may be by way of a
// ticket. Of a key set the last answer counts, however old it is, and all that could be in one
// that was never fetched.
func (a *Authority) Holds(g *hub.Grant) bool {
	held, known := a.state.Load().holds(g.Credential)
	return held || !known
}

// holds tells whether a key is there. known is false where it may be in a key set that was
// never fetched.
func (s *state) holds(credential string) (held, known bool) {
	switch {
	case credential == "" || s.credentials[credential]:
		return true, true
	case strings.HasPrefix(credential, notInSets):
		return false, true
	}
	known = true
	for _, set := range s.verifier.sets {
		f := set.current.Load()
		if f == nil {
			known = false
			continue
		}
		for _, k := range f.keys {
			if k.credential == credential {
				return true, true
			}
		}
	}
	return false, known
}

// redeemable tells whether the key is there that a ticket was issued for. It waits for key sets
// that were never fetched; the error is that they cannot be.
func (s *state) redeemable(ctx context.Context, credential string) (bool, error) {
	held, known := s.holds(credential)
	if known {
		return held, nil
	}
	for _, set := range s.verifier.sets {
		if set.current.Load() != nil {
			continue
		}
		if err := set.renew(ctx, ""); err != nil {
			return false, err
		}
	}
	if held, known = s.holds(credential); known {
		return held, nil
	}
	return false, unavailable("the keys that tokens are checked with cannot be fetched at the moment: try again", waitTimeout)
}
