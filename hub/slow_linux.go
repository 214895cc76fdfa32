//go:build linux && !portable && (amd64 || arm64)

package hub

import "github.com/tidewire/tidewire/sse"

// judge closes a stream that is too slow, where that is the policy.
func (s *shard) judge(st *stream) {
	if st.feed.slow.Policy != SlowDisconnect || st.state != live || !st.even {
		return
	}
	if _, slow := s.hub.hot.tooSlow(st.feed, st.after, &st.feed.slow); slow {
		s.close(st)
	}
}

// skip has a stream that is too slow go on with the newest event, where that is the
// policy.
func (s *shard) skip(st *stream) bool {
	if st.feed.slow.Policy != SlowLatest || st.state != live || !st.even {
		return false
	}
	newest, slow := s.hub.hot.tooSlow(st.feed, st.after, &st.feed.slow)
	if !slow {
		return false
	}
	next, _, ok := s.hub.hot.join(st.feed, newest)
	if !ok {
		return false
	}
	block, _ := sse.AppendEvent(nil, gapEvent(s.hub.slowGap(newest))) // what the hub makes can be encoded
	st.rest = st.chunk(append([]byte(nil), st.rest...), block)
	st.place(next)
	st.after = newest
	return true
}

// slowGap is told where a stream is skipped to the newest event.
func (h *Hub) slowGap(newest uint64) *GapError {
	return &GapError{Reason: LostSlow, Resumed: Position(h.log.Head().Epoch, newest), resumed: newest}
}
