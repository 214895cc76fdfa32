package server

import (
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
)

// maxBuckets is how many clients a rate knows at a time, of some 300 bytes each. Who would
// have its own bucket forgotten must send from so many addresses while that fills.
const maxBuckets = 1 << 16

// A client is whom a rate is about: a subject or an address.
type client struct {
	subject string
	address netip.Addr
}

// rates are token buckets, one for each client. A client is forgotten when its bucket must
// be full again, which makes no difference to it. The zero value has no bound.
type rates struct {
	mu      sync.Mutex
	limit   rate.Limit // tokens a second; 0: no bound
	burst   int
	buckets *simplelru.LRU[client, *bucket]
}

type bucket struct {
	*rate.Limiter
	used time.Time
}

// set changes the rate. All begin anew with a full bucket if it is another one.
func (r *rates) set(perSecond float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.limit == rate.Limit(perSecond) {
		return
	}
	r.limit, r.burst = rate.Limit(perSecond), max(1, int(2*perSecond))
	r.buckets, _ = simplelru.NewLRU[client, *bucket](maxBuckets, nil) // an error is of a size that is not positive
}

// allow takes a token of a client's, or says when there will be one.
func (r *rates) allow(c client) (wait time.Duration, ok bool) {
	if c == (client{}) {
		return 0, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.limit == 0 {
		return 0, true
	}
	now := time.Now()
	r.forget(now)
	b, known := r.buckets.Get(c)
	if !known {
		b = &bucket{Limiter: rate.NewLimiter(r.limit, r.burst)}
		r.buckets.Add(c, b)
	}
	b.used = now
	if b.AllowN(now, 1) {
		return 0, true
	}
	missing := 1 - b.TokensAt(now)
	return time.Duration(missing / float64(r.limit) * float64(time.Second)), false
}

// forget removes what is full again: a few each time, so that nobody waits long.
func (r *rates) forget(now time.Time) {
	fills := time.Duration(float64(r.burst) / float64(r.limit) * float64(time.Second))
	for range 4 {
		_, oldest, ok := r.buckets.GetOldest()
		if !ok || now.Sub(oldest.used) < fills {
			return
		}
		r.buckets.RemoveOldest()
	}
}
