package auth

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/tidewire/tidewire/hub"
)

// The defaults of [TicketOptions].
const (
	DefaultTicketFirstUse  = time.Minute
	DefaultTicketLife      = 24 * time.Hour
	DefaultTicketReuseLife = 10 * time.Minute
	DefaultMaxFirstUses    = 1_000_000
	DefaultTicketPath      = "/events"
)

const (
	ticketVersion = "tk1."
	maxTicketSize = 4096 // bytes: a URL has it
	ticketIDSize  = 16   // bytes
	toldTickets   = 10_000
)

// TicketOptions configure [Tickets]; zero fields mean the defaults, but Secret is needed.
type TicketOptions struct {
	// Secret signs tickets: at least 32 random bytes, which [LoadTicketSecret] keeps. With
	// another secret all tickets are void.
	Secret []byte

	// FirstUse is how long after its issue a ticket can be used for the first time. Default:
	// [DefaultTicketFirstUse].
	FirstUse time.Duration

	// Life is how long a ticket can be good at most. Default: [DefaultTicketLife].
	Life time.Duration

	// ReuseLife is the same of a ticket that can be used more than once by anyone who has
	// it. Default: [DefaultTicketReuseLife]; negative: there are none.
	ReuseLife time.Duration

	// MaxFirstUses is how many tickets may be used for the first time within FirstUse; it
	// bounds memory, with about 100 bytes for each. More of them are refused with 503 for
	// the moment, as to forget one would let it be used again. Default: [DefaultMaxFirstUses].
	MaxFirstUses int

	// Path is that of the events as browsers see it, in front of a proxy or an
	// [http.StripPrefix] too. Proofs are sent back below it only. Default:
	// [DefaultTicketPath].
	Path string

	// OnReplace, if not nil, is called with the grant of a stream that another one with the
	// same reusable ticket takes the place of: it should end that stream. It must not wait.
	OnReplace func(old *hub.Grant)

	// Now tells the time. Default: [time.Now].
	Now func() time.Time
}

// Tickets issues and redeems tickets: credentials for the URL of a browser's EventSource, which
// can send no header. A ticket has no secret that is good for anything else, and can be read
// by whoever has it.
//
// A ticket can be used once, soon after its issue. The answer sets a cookie, without which
// the ticket is good for nothing any more; with it, the EventSource can reconnect to the same
// URL until the ticket expires. Where cookies cannot be had, a ticket can be asked for that is
// good for any number of uses, one stream at a time, for some minutes.
//
// What was used is kept in memory, for as long as it could be used again. So a first use is
// only accepted by the Tickets that issued the ticket: after a restart a page needs another
// one, unless it has the cookie.
//
// A ticket is good until it expires, or the key is revoked that stood behind the credentials
// that it was had for, which an [Authority] looks at. Another secret voids all tickets.
//
// All methods are safe for concurrent use.
type Tickets struct {
	opt           TicketOptions
	signKey       []byte
	proofKey      []byte
	credentialKey []byte
	instance      string                       // of this process: it alone remembers the first uses of its tickets
	told          *lru.Cache[string, struct{}] // ids of tickets that were refused as spent

	mu       sync.Mutex
	used     map[string]struct{} // ids of tickets used since turned
	usedOld  map[string]struct{} // and at most FirstUse before that
	turned   time.Time
	reserved map[string]*hub.Grant // those whose first stream has sent nothing yet
	streams  map[string]*hub.Grant // the newest of each reusable ticket
	ids      map[*hub.Grant]string // of the grants in reserved and streams
}

// NewTickets returns Tickets, or an error with all that is wrong with the options.
func NewTickets(o *TicketOptions) (*Tickets, error) {
	if o == nil {
		o = &TicketOptions{}
	}
	t := &Tickets{
		opt:      *o,
		instance: randomText(8),
		used:     make(map[string]struct{}),
		reserved: make(map[string]*hub.Grant),
		streams:  make(map[string]*hub.Grant),
		ids:      make(map[*hub.Grant]string),
	}
	t.opt.Secret = nil
	if err := t.opt.defaults(); err != nil {
		return nil, err
	}
	if len(o.Secret) < ticketSecretSize {
		return nil, fmt.Errorf("auth: the secret of tickets has %d bytes: take %d random ones or more", len(o.Secret), ticketSecretSize)
	}
	var errSign, errProof, errCredential, errTold error
	t.signKey, errSign = hkdf.Key(sha256.New, o.Secret, nil, "tidewire ticket 1 signature", sha256.Size)
	t.proofKey, errProof = hkdf.Key(sha256.New, o.Secret, nil, "tidewire ticket 1 proof", sha256.Size)
	t.credentialKey, errCredential = hkdf.Key(sha256.New, o.Secret, nil, "tidewire ticket 1 credential", sha256.Size)
	t.told, errTold = lru.New[string, struct{}](toldTickets)
	if err := errors.Join(errSign, errProof, errCredential, errTold); err != nil {
		return nil, fmt.Errorf("auth: make tickets: %w", err)
	}
	t.turned = t.opt.Now()
	return t, nil
}

func (o *TicketOptions) defaults() error {
	if o.FirstUse == 0 {
		o.FirstUse = DefaultTicketFirstUse
	}
	if o.Life == 0 {
		o.Life = DefaultTicketLife
	}
	if o.ReuseLife == 0 {
		o.ReuseLife = DefaultTicketReuseLife
	}
	if o.MaxFirstUses == 0 {
		o.MaxFirstUses = DefaultMaxFirstUses
	}
	if o.Path == "" {
		o.Path = DefaultTicketPath
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	var wrong []error
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"first use", o.FirstUse}, {"life", o.Life}} {
		if d.d < time.Second {
			wrong = append(wrong, fmt.Errorf("auth: the %s of tickets is %v: it must be a second or more", d.name, d.d))
		}
	}
	if o.ReuseLife > 0 && o.ReuseLife < time.Second {
		wrong = append(wrong, fmt.Errorf("auth: the life of reusable tickets is %v: it must be a second or more, or negative for none", o.ReuseLife))
	}
	if o.MaxFirstUses < 0 {
		wrong = append(wrong, fmt.Errorf("auth: the first uses of tickets are %d: they must be 1 or more", o.MaxFirstUses))
	}
	if bad := func(c rune) bool { return c <= ' ' || c > '~' || c == ';' }; o.Path[0] != '/' || strings.ContainsFunc(o.Path, bad) {
		wrong = append(wrong, fmt.Errorf("auth: the path of the events is %q: it must be one such as /events, and fit into a cookie", o.Path))
	}
	return errors.Join(wrong...)
}

// A Ticket is what [Tickets.Issue] returns.
type Ticket struct {
	Text       string    // of A-Z a-z 0-9 - _ . only
	FirstUseBy time.Time // Expires, if it can be used more than once
	Expires    time.Time
	Reuse      bool
}

// Query returns the part of a URL's query that carries the ticket.
func (t *Ticket) Query() string { return "ticket=" + t.Text }

// A ticketClaims is what a ticket says.
type ticketClaims struct {
	ID        string   `json:"jti"`
	Subject   string   `json:"sub,omitempty"`
	Subscribe []string `json:"s"`
	Private   []string `json:"p,omitempty"`
	Narrow    bool     `json:"n,omitempty"`
	Reuse     bool     `json:"r,omitempty"`
	Instance  string   `json:"i"`
	FirstUse  int64    `json:"f"`   // milliseconds since 1970
	Expires   int64    `json:"exp"` // likewise

	// Credential is that of the grant that it was issued for; nil in tickets from before
	// there was one.
	Credential *string `json:"c"`
}

// seal writes a ticket.
func (t *Tickets) seal(c *ticketClaims) (string, error) {
	payload, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("auth: write ticket: %w", err)
	}
	text := ticketVersion + base64.RawURLEncoding.EncodeToString(payload)
	return text + "." + mac(t.signKey, text, sha256.Size), nil
}

// open reads a ticket, and returns nil if it is not one that seal wrote.
func (t *Tickets) open(text string) *ticketClaims {
	if len(text) > maxTicketSize {
		return nil
	}
	dot := strings.LastIndexByte(text, '.')
	if dot < 0 {
		return nil
	}
	// Texts are compared, not what they decode to: there is but one for each ticket.
	if want := mac(t.signKey, text[:dot], sha256.Size); !hmac.Equal([]byte(text[dot+1:]), []byte(want)) {
		return nil
	}
	payload, ok := strings.CutPrefix(text[:dot], ticketVersion)
	if !ok {
		return nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return nil
	}
	var c ticketClaims
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil
	}
	return &c
}

// mac returns the first size bytes of a message's HMAC-SHA-256, as text for URLs and cookies.
func mac(key []byte, message string, size int) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:size])
}

// randomText returns size random bytes as text for URLs and cookies.
func randomText(size int) string {
	b := make([]byte, size)
	rand.Read(b) // which never fails
	return base64.RawURLEncoding.EncodeToString(b)
}
