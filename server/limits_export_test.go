package server

import (
	"net/http"
	"net/netip"

	"github.com/tidewire/tidewire/hub"
)

// Usage is how much a server counts of what has limits.
type Usage = usage

func (s *Server) Usage() Usage { return s.limiter.usage() }

func (s *Server) Refused() map[string]uint64 { return s.limiter.refused() }

func (s *Server) SetLimits(l Limits) { s.limiter.set(l) }

const (
	MaxBuckets = maxBuckets
	SpareLeast = 16
)

// Limited is an authority with limits.
func Limited(l Limits, trusted []netip.Prefix, inner hub.Authority) hub.Authority {
	return newLimiter(l, trusted).authority(inner)
}

// Buckets returns how many clients an authority's rate of streams knows.
func Buckets(a hub.Authority) int { return a.(*limited).connect.buckets.Len() }

// LimitedHandler is a handler with limits.
func LimitedHandler(l Limits, next http.Handler) http.Handler {
	return newLimiter(l, nil).handler(next)
}

// Begin begins streams of an address, so many in a moment, and returns how many may.
func Begin(l Limits, a netip.Addr, n int) (begun int) {
	limiter := newLimiter(l, nil)
	for range n {
		if limiter.begin(limiter.addressOf(a)) == nil {
			begun++
		}
	}
	return begun
}
