//go:build linux && !portable && (amd64 || arm64)

package hub

import (
	"time"

	"github.com/tidewire/tidewire/sse"
)

// comment keeps an idle stream open through proxies.
var comment = sse.AppendComment(nil, "")

var commentChunk, _ = appendChunk(nil, comment)

// sweep looks at part of the streams: each is looked at eight times in a period. So no
// stream needs a timer, and those that were written to together do not all come at once.
func (s *shard) sweep(period time.Duration) {
	s.now = uint32(time.Since(s.engine.epoch) / time.Millisecond)
	now := time.Now()
	share := float64(now.Sub(s.lastTick)) / float64(period/8)
	s.lastTick = now
	n := min(int(share*float64(len(s.slots)))+1, len(s.slots))
	for range n {
		if s.swept >= len(s.slots) {
			s.swept = 0
		}
		if st := s.slots[s.swept]; st != nil {
			s.look(st, period)
		}
		s.swept++
	}
	s.engine.lookOut(now)
}

// look does what time brings to a stream.
func (s *shard) look(st *stream, period time.Duration) {
	o := &s.hub.opt
	switch {
	case st.full:
		s.judge(st)
		if o.WriteTimeout > 0 && s.ago(st.since) >= o.WriteTimeout {
			s.close(st) // it can come back, and go on where it was
		}
	case st.state != live || len(st.rest) > 0 || st.isPoll():
	case st.beat != beatComment && o.PositionInterval > 0 && s.ago(st.sent) >= o.PositionInterval-period/8 && s.tell(st):
	case o.Heartbeat > 0 && s.ago(st.wrote) >= o.Heartbeat-o.Heartbeat/8:
		s.beat(st)
	}
}

func (s *shard) ago(ms uint32) time.Duration { return time.Duration(s.now-ms) * time.Millisecond }

// beat keeps a stream open.
func (s *shard) beat(st *stream) {
	if st.gzip {
		s.say(st, st.chunk(nil, comment))
		return
	}
	s.say(st, commentChunk)
}

// say writes something of a stream's own, between two events.
func (s *shard) say(st *stream, b []byte) {
	st.rest = b
	s.flush(st)
}

// tell tells a stream its position, if that has moved since the last id. If there is
// something to come, its id is told with that.
func (s *shard) tell(st *stream) bool {
	s.cached.feed, s.cachedGzip.feed = nil, nil
	c := s.cutOf(st)
	if c == nil || len(c.ends) > 0 || !st.behind(c.to) {
		return false
	}
	st.told, st.known, st.sent = c.to, true, s.now
	s.say(st, st.chunk(nil, s.hub.positionBlock(st.beat, c.to)))
	return true
}

// tellAll tells the streams of a feed their position.
func (s *shard) tellAll(f *feed) {
	for _, st := range f.shared.shards[s.n].streams {
		if st.state == live && !st.full && len(st.rest) == 0 {
			s.tell(st)
		}
	}
}
