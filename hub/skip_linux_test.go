//go:build linux && !portable && (amd64 || arm64)

package hub

import "testing"

// The hot log can fall behind the Log's window, and begin anew further on. A stream that had
// everything has then missed what was left out.
func TestHotLog_NobodysPlaceIsInALaneThatBeganAnew(t *testing.T) {
	for name, filter := range map[string]Filter{"topic": {Topics: []string{"a"}}, "pattern": {Patterns: []string{"**"}}} {
		t.Run(name, func(t *testing.T) {
			h := newTestHot(1 << 20)
			f := h.follow(filter)
			h.add("epoch0", []Record{{Seq: 1, Kind: KindEvent, Topics: []string{"a"}, Event: &Event{Topics: []string{"a"}}}})
			next, left, ok := h.join(f, 1)
			if left != 0 || !ok {
				t.Fatalf("got %d events left, %v, want none", left, ok)
			}
			if !h.cut(new(cut), f, next) {
				t.Error("got no place, want that of who has everything")
			}
			h.skipTo(10)
			if h.cut(new(cut), f, next) {
				t.Error("got a place in the lane, want none: 2 to 10 were left out")
			}
			if _, _, ok := h.join(f, 9); ok {
				t.Error("got a place after 9, want none")
			}
			if next, _, ok = h.join(f, 10); !ok || !h.cut(new(cut), f, next) {
				t.Error("got no place after 10")
			}
		})
	}
}
