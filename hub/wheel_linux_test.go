//go:build linux && !portable && (amd64 || arm64)

package hub

import (
	"math/rand/v2"
	"testing"
)

// TestWheel_TellsEachPollOnceWhenItsTimeIsUp has polls come and go while a clock moves, in
// steps from nothing to more than a turn, and begins anew at the end of its range.
func TestWheel_TellsEachPollOnceWhenItsTimeIsUp(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, begin := range []uint32{0, wheelTick*wheelTicks - 100, 1<<32 - 200_000} {
		s := &shard{now: begin}
		s.wheel.due(s)
		type entry struct {
			st *stream
			at uint64
		}
		waiting := make(map[uint32]entry) // by slot
		now := uint64(begin)
		told, removed := 0, 0
		for range 20_000 {
			switch random.IntN(4) {
			case 0, 1:
				slot := uint32(random.IntN(300))
				if _, taken := waiting[slot]; taken {
					continue
				}
				for int(slot) >= len(s.slots) {
					s.slots = append(s.slots, nil)
				}
				at := now + random.Uint64N(uint64(maxWait.Milliseconds())+3)
				st := &stream{slot: slot}
				s.slots[slot] = st
				s.wheel.add(s, st, uint32(at))
				waiting[slot] = entry{st, at}
			case 2:
				for slot, e := range waiting {
					s.wheel.remove(s, e.st)
					s.wheel.remove(s, e.st) // which it is not any more
					s.slots[slot] = nil
					delete(waiting, slot)
					removed++
					break
				}
			case 3:
				step := random.Uint64N(200)
				if random.IntN(500) == 0 {
					step = random.Uint64N(200_000) // the machine slept
				}
				now += step
				s.now = uint32(now)
				for _, st := range s.wheel.due(s) {
					e, ok := waiting[st.slot]
					if !ok || e.st != st || e.at > now {
						t.Fatalf("at %d: slot %d is told, which %v is to be at %d", now, st.slot, ok, e.at)
					}
					s.slots[st.slot] = nil
					delete(waiting, st.slot)
					told++
				}
				for slot, e := range waiting {
					if e.at <= now {
						t.Fatalf("at %d: slot %d is not told, whose time was up at %d", now, slot, e.at)
					}
				}
			}
		}
		if told < 1000 || removed < 1000 {
			t.Errorf("%d were told and %d removed: the test tests little", told, removed)
		}
	}
}
