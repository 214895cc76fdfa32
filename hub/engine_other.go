//go:build !linux || portable || !(amd64 || arm64)

package hub

import (
	"context"
	"net/http"
)

// An engine takes connections over from net/http, which it does on Linux only. Elsewhere,
// and with the build tag portable, each subscriber has a goroutine.
type engine struct{}

// feedShares is what the engine has of a feed.
type feedShares struct{}

func (*feedShares) init(int, int) {}

// laneGzip is what the engine has of a lane in gzip.
type laneGzip struct{}

func (laneGzip) drop(uint64) {}

func newEngine(*Hub) *engine { return new(engine) }

func (*engine) wake([]*feed)           {}
func (*engine) admit(context.Context)  {}
func (*engine) settle(context.Context) {}
func (*engine) drain()                 {}
func (*engine) close()                 {}

func (*engine) takeOver(http.ResponseWriter, *http.Request, *cursor, heartbeat, *permit) bool {
	return false
}

func (*engine) hold(http.ResponseWriter, *http.Request, *cursor, *permit, poll) bool { return false }

func (*engine) subscriptions(context.Context) []Subscription { return nil }

func (*engine) end(context.Context, func(*Subscription) bool, *RequestError) int { return 0 }
