package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tidewire/tidewire/hub"
)

const (
	keyPrefix      = "tw_" // of each publisher key
	hashPrefix     = "sha256:"
	maxKeysFile    = 16 << 20 // bytes
	keyRandomBytes = 32
)

// A PublisherKey is what a server has of a key with which a back end publishes (or
// subscribes): not the key itself, which is tw_ID_RANDOM, but its SHA-256. That needs no
// salt and no slow hash, as a password would, because RANDOM has 256 random bits, which
// nobody can guess.
type PublisherKey struct {
	ID   string `json:"id"`   // letters and digits; stands in the key too
	Name string `json:"name"` // for people; the subject of its grants is "key:" and the name
	Hash string `json:"hash"` // "sha256:" and the hexadecimal SHA-256 of the whole key

	Permissions

	Expires time.Time `json:"expires,omitzero"` // zero: never
	Created time.Time `json:"created,omitzero"`
}

// NewPublisherKey makes a key. secret is what the back end sends, as a Bearer token or as the
// password of Basic; it is not kept anywhere else. expires zero is never.
func NewPublisherKey(name string, p Permissions, created, expires time.Time) (secret string, k PublisherKey, err error) {
	id := strings.ToLower(rand.Text()[:10]) // 50 bits
	random := make([]byte, keyRandomBytes)
	_, _ = rand.Read(random) // never fails
	secret = keyPrefix + id + "_" + base64.RawURLEncoding.EncodeToString(random)
	sum := sha256.Sum256([]byte(secret))
	k = PublisherKey{
		ID: id, Name: name, Hash: hashPrefix + hex.EncodeToString(sum[:]),
		Permissions: p, Created: created.UTC().Truncate(time.Second),
	}
	if !expires.IsZero() {
		k.Expires = expires.UTC().Truncate(time.Second)
	}
	if err := k.Check(); err != nil {
		return "", PublisherKey{}, err
	}
	return secret, k, nil
}

// Check says what is wrong with a key.
func (k *PublisherKey) Check() error {
	if k.ID == "" || strings.Trim(k.ID, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return fmt.Errorf("publisher key: the id %q must be letters and digits", k.ID)
	}
	if k.Name == "" || len(k.Name) > 100 || strings.ContainsFunc(k.Name, func(r rune) bool { return r < ' ' || r == 0x7F }) {
		return fmt.Errorf("publisher key %s: the name %q must have 1 to 100 bytes and no control characters", k.ID, k.Name)
	}
	if _, err := k.digest(); err != nil {
		return fmt.Errorf("publisher key %s: %w", k.ID, err)
	}
	if err := k.Permissions.Check(); err != nil {
		return fmt.Errorf("publisher key %s: %w", k.ID, err)
	}
	return nil
}

func (k *PublisherKey) digest() (d digest, err error) {
	text, ok := strings.CutPrefix(k.Hash, hashPrefix)
	b, err := hex.DecodeString(text)
	if !ok || err != nil || len(b) != len(d) {
		return d, errors.New("the hash must be sha256: and 64 hexadecimal digits")
	}
	return digest(b), nil
}

// LoadPublisherKeys reads a file of keys, a JSON object a line, such as tidewire key new
// writes. Empty lines do not count. The error tells of every bad line, with its number.
func LoadPublisherKeys(file string) ([]PublisherKey, error) {
	text, err := readFile(file, maxKeysFile)
	if err != nil {
		return nil, fmt.Errorf("publisher keys: %w", err)
	}
	var keys []PublisherKey
	var errs []error
	first := map[string]int{}
	for i, line := range bytes.Split(text, []byte("\n")) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		k, err := decodePublisherKey(line)
		if at := first[k.ID]; err == nil && at > 0 {
			err = fmt.Errorf("publisher key %s: the id is that of line %d too", k.ID, at)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", file, i+1, err))
			continue
		}
		first[k.ID] = i + 1
		keys = append(keys, k)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return keys, nil
}

func decodePublisherKey(line []byte) (k PublisherKey, err error) {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&k); err != nil {
		return k, fmt.Errorf("it is no publisher key, which tidewire key new writes: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return k, errors.New("there is something after the publisher key: write one a line")
	}
	return k, k.Check()
}

// publisherKeys has the keys by their ids.
type publisherKeys map[string]*publisherKey

type publisherKey struct {
	hash  digest
	grant *hub.Grant
}

// newPublisherKeys returns everything that is wrong with the keys.
func newPublisherKeys(keys []PublisherKey, anonymous *hub.Grant, tickets *Tickets) (publisherKeys, error) {
	all := publisherKeys{}
	var errs []error
	for _, k := range keys {
		err := k.Check()
		if err == nil && all[k.ID] != nil {
			err = fmt.Errorf("publisher key %s: there are two with this id", k.ID)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		hash, _ := k.digest() // which Check has looked at
		g := k.Permissions.grant("key:"+k.Name, fmt.Sprintf("the key %q", k.Name), k.Expires, anonymous)
		g.Credential = notInSets + tickets.credential("publisher key", hash[:])
		all[k.ID] = &publisherKey{hash, g}
	}
	return all, errors.Join(errs...)
}

// find returns what a key grants.
func (all publisherKeys) find(secret string, now time.Time) (*hub.Grant, error) {
	id, _, _ := strings.Cut(strings.TrimPrefix(secret, keyPrefix), "_")
	k := all[id]
	if k == nil {
		k = &publisherKey{} // which nothing has the hash of
	}
	sum := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(sum[:], k.hash[:]) != 1 {
		return nil, refuse("Authorization", "this publisher key is none that this server has: it may have been revoked, or cut off when it was copied; tidewire key list shows those that there are")
	}
	if at := k.grant.Expires; !at.IsZero() && !now.Before(at) {
		return nil, expiredAt(k.grant.By, at, now)
	}
	return k.grant, nil
}
