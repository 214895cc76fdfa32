//go:build linux && !portable && (amd64 || arm64)

package hub

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"
)

// whole returns what a lane has from an ordinal on, as it stands on the wire.
func whole(l *lane, next uint64) []byte {
	var b []byte
	for _, it := range l.items[next-l.base:] {
		b = append(b, it.wire...)
	}
	return b
}

// records are numbered events, one of each topics (separated by commas), from a sequence on.
func records(from uint64, topics ...string) []Record {
	var all []Record
	for i, names := range topics {
		seq := from + uint64(i)
		all = append(all, Record{Seq: seq, Kind: KindEvent, Topics: strings.Split(names, ","), Event: &Event{Topics: strings.Split(names, ","), Data: fmt.Sprint(seq)}})
	}
	return all
}

// TestCut_IsWhatTheLaneHas has events of sizes about those at which another block or
// another write begins.
func TestCut_IsWhatTheLaneHas(t *testing.T) {
	sizes := [][]int{
		{}, {0}, {1, 2, 3}, {blockSize/4 - 60, blockSize/4 - 30, blockSize / 4}, {writeBytes - 30, writeBytes, writeBytes + 1, 5},
		{blockSize / 8, blockSize / 8, blockSize / 8, blockSize / 8, blockSize / 8, blockSize / 8, blockSize / 8, blockSize / 8, blockSize / 8}, {1 << 20, 1, 1 << 20},
	}
	for range 20 {
		some := make([]int, rand.IntN(3000))
		for i := range some {
			some[i] = rand.IntN(300)
		}
		sizes = append(sizes, some)
	}
	for _, sizes := range sizes {
		h := newTestHot(1 << 30)
		f := h.follow(Filter{Topics: []string{"a"}})
		sparse := h.follow(Filter{Topics: []string{"a"}, Types: []string{"t"}})
		for i, size := range sizes {
			ev := &Event{Topics: []string{"a"}, Data: strings.Repeat("x", size), Type: []string{"t", "u"}[i%2]}
			h.add("epoch0", []Record{{Seq: uint64(i + 1), Kind: KindEvent, Topics: ev.Topics, Event: ev}})
		}
		for _, f := range []*feed{f, sparse} {
			var c cut
			var got []byte
			for next := uint64(0); ; {
				if !h.cut(&c, f, next) {
					t.Fatalf("got no cut at %d", next)
				}
				joined := bytes.Join(c.slices, nil)
				if len(joined) != c.bytes() || len(c.slices) > writeSlices {
					t.Fatalf("got %d bytes in %d slices, want %d in %d at most", len(joined), len(c.slices), c.bytes(), writeSlices)
				}
				if most := writeBytes + 1<<20 + 100; len(joined) > most {
					t.Fatalf("got %d bytes, want %d at most", len(joined), most)
				}
				got = append(got, joined...)
				next += uint64(len(c.ends))
				if c.all {
					break
				}
				if len(c.ends) == 0 {
					t.Fatal("got nothing, and not the end")
				}
			}
			if want := whole(f.lane, 0); !bytes.Equal(got, want) {
				t.Errorf("sizes %.20v: got %d bytes, want %d, or others", sizes, len(got), len(want))
			}
		}
	}
}

// TestStream_GoesOnWhereverAWriteStops stops a write at each byte.
func TestStream_GoesOnWhereverAWriteStops(t *testing.T) {
	h := newTestHot(1 << 20)
	f := h.follow(Filter{Topics: []string{"a"}})
	other := h.follow(Filter{Topics: []string{"b"}, Private: all})
	all := records(1, "a", "a,b", "b", "a", "b", "a,b", "a")
	all[3].Event.Data = strings.Repeat("y", blockSize/4) // in a block of its own
	h.add("epoch0", all)
	for _, f := range []*feed{f, other} {
		for _, rest := range []string{"", "the rest of one before"} {
			want := rest + string(whole(f.lane, 0))
			for n := range len(want) + 1 {
				if n > 400 && n < len(want)-400 && n%97 > 0 {
					continue // inside of the long one
				}
				s := &shard{now: 5}
				st := &stream{feed: f, state: live, rest: []byte(rest)}
				var c cut
				if !h.cut(&c, f, 0) {
					t.Fatal("got no cut")
				}
				s.wroteSome(st, &c, n)
				if got := want[:n] + string(st.rest) + string(whole(f.lane, st.next)); got != want {
					t.Fatalf("%d bytes written: got %.99q to come, and events from %d on, want %.99q", n, st.rest, st.next, want[n:])
				}
				if begun := int(st.next); begun > 0 && st.after != f.lane.items[begun-1].Seq || begun == 0 && st.after != 0 {
					t.Fatalf("%d bytes written: got place %d after %d events", n, st.after, begun)
				}
			}
		}
	}
}

// TestStream_HasTheWholeWriteTimeoutFromWhenItIsStuck has a stream that was idle for long,
// and then a socket that takes nothing.
func TestStream_HasTheWholeWriteTimeoutFromWhenItIsStuck(t *testing.T) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fds[1]) }()
	for err == nil {
		_, err = syscall.Write(fds[0], make([]byte, 1<<10))
	}
	h := &Hub{opt: withDefaults(Options{WriteTimeout: time.Second}), hot: newTestHot(1 << 20), streams: 1}
	s, err := newShard(newEngine(h), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.release()
	f := h.hot.follow(Filter{Topics: []string{"a"}})
	st := &stream{feed: f, permit: &permit{hub: h, grant: everything}, state: live, fd: int32(fds[0])}
	s.slots, s.streams = []*stream{st}, 1
	f.shared.shards[0].streams = []*stream{st}
	if err := s.poller.add(st); err != nil {
		t.Fatal(err)
	}
	s.now = 60_000 // a minute after it was last written to
	s.say(st, comment)
	s.look(st, time.Second)
	if st.state == gone {
		t.Error("got it closed at once, want it given the time that a write has")
	}
	s.now += 999
	s.look(st, time.Second)
	if st.state == gone {
		t.Error("got it closed before the time was over")
	}
	s.now += 2
	s.look(st, time.Second)
	if st.state != gone {
		t.Error("got it open when the time was over")
		s.close(st)
	}
}
