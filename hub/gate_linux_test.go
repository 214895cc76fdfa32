//go:build linux && !portable && (amd64 || arm64)

package hub

import (
	"context"
	"testing"
)

// newTestShard returns a shard that nobody runs, and feeds of it that have so many streams.
func newTestShard(t *testing.T, streams ...int) (*shard, []*feed) {
	t.Helper()
	h := &Hub{opt: withDefaults(Options{}), hot: newTestHot(1 << 20)}
	h.ctx, h.cancel = context.WithCancel(t.Context())
	h.engine = newEngine(h)
	s, err := newShard(h.engine, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.release)
	var feeds []*feed
	for i, n := range streams {
		f := h.hot.follow(Filter{Topics: []string{string(rune('a' + i))}})
		f.shared.streams.Store(int64(n))
		f.shared.shards[0].count.Store(int32(n))
		feeds = append(feeds, f)
	}
	return s, feeds
}

// turnAll has the turns begin of all that the shard was offered.
func turnAll(s *shard) {
	s.take()
	for len(s.turns) > 0 {
		s.turn(turnSize)
	}
}

func TestShard_PublishersWaitWhileItIsBehind(t *testing.T) {
	offers := func(bytes int, feeds ...*feed) func(*shard) {
		return func(s *shard) {
			for _, f := range feeds {
				f.fresh = bytes
			}
			s.offer(feeds)
		}
	}
	for _, tt := range []struct {
		name    string
		streams []int
		bytes   int // of each feed
		waits   bool
	}{
		{"nobody subscribes", []int{0, 0}, 1 << 20, false},
		{"as many bytes as may wait", []int{1}, owedMost, false},
		{"more bytes", []int{1}, owedMost + 1, true},
		{"one large feed, whose events gather", []int{10 * dueMost}, 100, false},
		{"as many writes as may wait", []int{dueMost / 2, dueMost / 2}, 100, false},
		{"more writes", []int{dueMost / 2, dueMost/2 + 1}, 100, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, feeds := newTestShard(t, tt.streams...)
			offers(tt.bytes, feeds...)(s)
			offers(0, feeds...)(s) // which adds nothing
			if got := s.engine.gate.closed() != nil; got != tt.waits {
				t.Fatalf("got publishers waiting: %v, want %v", got, tt.waits)
			}
			ended, end := context.WithCancel(t.Context())
			end()
			s.engine.admit(ended) // returns, as its context has ended
			let := make(chan struct{})
			go func() {
				s.engine.admit(t.Context())
				close(let)
			}()
			turnAll(s)
			<-let
			if s.due != 0 || s.heavy != 0 || s.waits != 0 || s.engine.gate.closed() != nil {
				t.Errorf("got %d writes, %d heavy feeds and %d feeds left, want none", s.due, s.heavy, s.waits)
			}
		})
	}
}

// Bytes that come in many small steps count as those that come at once.
func TestShard_PublishersWaitForBytesThatAddUp(t *testing.T) {
	s, feeds := newTestShard(t, 1)
	feeds[0].fresh = 1 << 10
	for range owedMost >> 10 {
		s.offer(feeds)
	}
	if s.engine.gate.closed() != nil {
		t.Error("got publishers waiting at the bound")
	}
	s.offer(feeds)
	if s.engine.gate.closed() == nil {
		t.Error("got publishers let in above the bound")
	}
	turnAll(s)
	if s.engine.gate.closed() != nil {
		t.Error("got publishers waiting after the turn has begun")
	}
}
