package hub

import (
	"fmt"
	"strings"
	"testing"
)

// newTestHot returns a hot log of some bytes, for an engine of two shards.
func newTestHot(bytes int) *hotLog {
	o := withDefaults(Options{HotBytes: bytes})
	return newHotLog(&o, 2, Head{Epoch: "epoch0"})
}

func sequences(items []*item) string {
	var all []string
	for _, it := range items {
		all = append(all, fmt.Sprint(it.Seq))
	}
	return strings.Join(all, " ")
}

func TestLane(t *testing.T) {
	// An operation is push 3, drop 3 or reset 3.
	tests := []struct {
		name, ops  string
		items      string
		base, from uint64
		join       map[uint64]string // by sequence: the ordinal, or "gone"
	}{
		{"nothing", "", "", 0, 0, map[uint64]string{0: "0", 7: "0"}},
		{"some", "push 2, push 3, push 5", "2 3 5", 0, 0, map[uint64]string{0: "0", 1: "0", 2: "1", 3: "2", 4: "2", 5: "3", 9: "3"}},
		{"the oldest dropped", "push 2, push 3, push 5, drop 2", "3 5", 1, 2, map[uint64]string{1: "gone", 2: "1", 3: "2", 5: "3"}},
		{"another dropped", "push 2, push 3, drop 1, drop 3", "2 3", 0, 0, map[uint64]string{0: "0", 2: "1"}},
		{"all dropped", "push 2, push 3, drop 2, drop 3", "", 2, 3, map[uint64]string{2: "gone", 3: "2", 9: "2"}},
		{"all dropped, and more", "push 2, drop 2, push 4, push 6", "4 6", 1, 2, map[uint64]string{1: "gone", 2: "1", 4: "2", 5: "2", 6: "3"}},
		{"forgotten", "push 2, push 3, reset 4", "", 2, 4, map[uint64]string{3: "gone", 4: "2", 5: "2"}},
		{"forgotten, and more", "push 2, push 3, reset 4, push 6", "6", 2, 4, map[uint64]string{3: "gone", 4: "2", 6: "3"}},
		{"forgotten, then dropped", "push 2, push 3, reset 4, push 6, drop 2, drop 3", "6", 2, 4, map[uint64]string{3: "gone", 4: "2", 6: "3"}},
		{"forgotten twice", "push 2, reset 3, reset 4", "", 1, 4, map[uint64]string{3: "gone", 4: "1"}},
		{"forgotten while empty", "reset 4, push 5", "5", 0, 4, map[uint64]string{3: "gone", 4: "0", 5: "1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var l lane
			items := make(map[uint64]*item)
			for op := range strings.SplitSeq(tt.ops, ", ") {
				var what string
				var seq uint64
				if _, err := fmt.Sscan(op, &what, &seq); err != nil {
					continue // there is none
				}
				it := items[seq]
				if it == nil {
					it = &item{Record: Record{Seq: seq}}
					items[seq] = it
				}
				switch what {
				case "push":
					l.push(it)
					if n := len(it.lanes); n != 1 || it.lanes[0] != &l {
						t.Errorf("push %d: got %d lanes", seq, n)
					}
				case "drop":
					l.drop(it)
				case "reset":
					l.reset(seq)
				}
			}
			if got := sequences(l.items); got != tt.items || l.base != tt.base || l.from != tt.from {
				t.Errorf("got %q at %d from %d, want %q at %d from %d", got, l.base, l.from, tt.items, tt.base, tt.from)
			}
			if want := tt.base + uint64(len(l.items)); l.end() != want {
				t.Errorf("end: got %d, want %d", l.end(), want)
			}
			last := l.last()
			if (last == nil) != (tt.items == "") || last != nil && !strings.HasSuffix(tt.items, fmt.Sprint(last.Seq)) {
				t.Errorf("last: got %v", last)
			}
			for after, want := range tt.join {
				got := "gone"
				if n, ok := l.join(after); ok {
					got = fmt.Sprint(n)
				}
				if got != want {
					t.Errorf("join after %d: got %s, want %s", after, got, want)
				}
			}
		})
	}
}
