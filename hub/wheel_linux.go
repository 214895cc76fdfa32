//go:build linux && !portable && (amd64 || arm64)

package hub

const (
	wheelTick  = 64   // ms
	wheelTicks = 1024 // that a turn has: more than maxWait
)

// A wheel tells when polls have waited long enough: for each tick of a turn it has a list of
// those whose time is up then. The lists' links are in fields that a poll has no other use
// for, so that a poll that waits costs no more than a stream.
type wheel struct {
	first [wheelTicks]uint32 // the slot of the first in each list, plus 1; 0: the list is empty
	tick  uint32             // that was looked at last
}

// A poll's neighbours in its list are in told: their slots, plus 1, or 0 at an end.

func (st *stream) previousIn() uint32 { return uint32(st.told >> 32) }
func (st *stream) nextIn() uint32     { return uint32(st.told) }
func (st *stream) link(b, n uint32)   { st.told = uint64(b)<<32 | uint64(n) }
func (st *stream) tickOf() uint32     { return st.sent / wheelTick % wheelTicks }

// add has a poll's time be up at a moment, in ms of the shard's clock.
func (w *wheel) add(s *shard, st *stream, at uint32) {
	st.sent, st.waiter.timed = at, true
	first := &w.first[st.tickOf()]
	st.link(0, *first)
	if *first > 0 {
		next := s.slots[*first-1]
		next.link(st.slot+1, next.nextIn())
	}
	*first = st.slot + 1
}

// remove takes a poll out, if it is in.
func (w *wheel) remove(s *shard, st *stream) {
	if !st.waiter.timed {
		return
	}
	st.waiter.timed = false
	before, next := st.previousIn(), st.nextIn()
	if before > 0 {
		b := s.slots[before-1]
		b.link(b.previousIn(), next)
	} else {
		w.first[st.tickOf()] = next
	}
	if next > 0 {
		n := s.slots[next-1]
		n.link(before, n.nextIn())
	}
}

// due takes out the polls whose time is up.
func (w *wheel) due(s *shard) (due []*stream) {
	const ticks = 1 << 32 / wheelTick // of the clock, before it begins anew
	end := s.now / wheelTick
	for left := min((end-w.tick)%ticks, wheelTicks-1); ; left-- {
		for slot := w.first[(end-left)%wheelTicks]; slot > 0; {
			st := s.slots[slot-1]
			slot = st.nextIn()
			if int32(s.now-st.sent) >= 0 {
				w.remove(s, st)
				due = append(due, st)
			}
		}
		if left == 0 {
			w.tick = end
			return due
		}
	}
}

// endWaits answers the polls whose time is up.
func (s *shard) endWaits() {
	for _, st := range s.wheel.due(s) {
		if st.state != gone {
			s.timeIsUp(st)
		}
	}
}
