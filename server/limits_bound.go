package server

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// unknownDescriptors is where the system does not say how many there may be.
const unknownDescriptors = 10_000

// A bound is one of [Limits] that a client can meet.
type bound uint8

const (
	noBound bound = iota
	maxConnections
	maxWaitingConnections
	maxConnectionsPerAddress
	maxStreams
	maxStreamsPerAddress
	maxStreamsPerSubject
	connectRate
	publishRate
	bodyTimeout
	bounds // how many there are
)

// String returns the name of the bound's flag, without the dashes.
func (b bound) String() string {
	return [...]string{"", "max-connections", "max-waiting", "max-connections-per-address",
		"max-streams", "max-streams-per-address", "max-streams-per-subject",
		"connect-rate", "publish-rate", "body-timeout"}[b]
}

const (
	refusedRetry = 5 * time.Second  // until an end of something else can have made room
	tellEvery    = 10 * time.Second // that a bound was met
)

// A refusals counts how often each bound was met, and tells the log of it.
type refusals struct {
	counts [bounds]atomic.Uint64
	told   [bounds]atomic.Int64 // when the log was, ns of Unix time
}

// note counts, and tells the log now and then.
func (r *refusals) note(b bound, value any) {
	r.counts[b].Add(1)
	now := time.Now().UnixNano()
	if last := r.told[b].Load(); now-last >= int64(tellEvery) && r.told[b].CompareAndSwap(last, now) {
		slog.Warn("clients are refused: raise the limit if they are honest, and the machine can take more of them",
			"flag", "--"+b.String(), "limit", value, "refused", r.counts[b].Load())
	}
}

// refuse counts, and returns the error that is answered. Its text is a format for the bound
// in words.
func (r *refusals) refuse(b bound, value any, p hub.Problem, after time.Duration, text string) *hub.RequestError {
	r.note(b, value)
	return &hub.RequestError{Problem: p, RetryAfter: after, Detail: fmt.Sprintf(text, fmt.Sprintf("--%s %v", b, value))}
}

// refused returns how often each bound was met since the start, by the names of their
// flags.
func (r *refusals) refused() map[string]uint64 {
	all := make(map[string]uint64, bounds)
	for b := noBound + 1; b < bounds; b++ {
		all[b.String()] = r.counts[b].Load()
	}
	return all
}
