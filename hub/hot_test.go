package hub

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// wantEmpty fails the test if the hot log has anything of a topic or a subscription.
func wantEmpty(t *testing.T, h *hotLog) {
	t.Helper()
	if len(h.topics) > 0 || len(h.feeds) > 0 || len(h.dirty) > 0 {
		t.Errorf("got %d topics, %d feeds and %d of them with something new, want none: %v", len(h.topics), len(h.feeds), len(h.dirty), h.topics)
	}
	if root := &h.patterns.root; len(root.next) > 0 || len(root.exact) > 0 || len(root.rest) > 0 {
		t.Errorf("got patterns left: %+v", root)
	}
}

// evict has the hot log let go of all events.
func evict(h *hotLog) {
	h.add("epoch0", []Record{{Seq: h.to + 1, Kind: KindEpoch}})
}

// TestHotLog_KeepsNothingOfWhatIsGone has subscriptions of every kind come and go while
// events are added, forgotten and dropped, and topics closed.
func TestHotLog_KeepsNothingOfWhatIsGone(t *testing.T) {
	names := func(n int) []string {
		all := make([]string, 1+rand.IntN(n))
		for i := range all {
			all[i] = fmt.Sprint([]string{"a/", "b/", "c/d/"}[rand.IntN(3)], rand.IntN(20))
		}
		return unique(all)
	}
	filter := func() Filter {
		switch rand.IntN(4) {
		case 0:
			return Filter{Topics: names(1)}
		case 1:
			return Filter{Topics: names(4), Private: [][]string{nil, all}[rand.IntN(2)]}
		case 2:
			return Filter{Topics: names(2), Types: []string{"t"}}
		}
		f := Filter{Patterns: []string{[]string{"a/*", "**", "*/1", "c/**", "c/d/2"}[rand.IntN(5)]}}
		if rand.IntN(2) == 0 {
			f.Topics = names(2)
		}
		return f
	}
	h := newTestHot(20_000)
	var feeds []*feed
	for range 5000 {
		switch n := rand.IntN(100); {
		case n < 25 && len(feeds) < 50:
			feeds = append(feeds, h.follow(filter()))
		case n < 50 && len(feeds) > 0:
			i := rand.IntN(len(feeds))
			h.release(feeds[i])
			feeds[i] = feeds[len(feeds)-1]
			feeds = feeds[:len(feeds)-1]
		case n < 55:
			h.add("epoch0", []Record{{Seq: h.to + 1, Kind: KindForgotten, Topics: names(1)}})
		case n < 60:
			h.add("epoch0", []Record{{Seq: h.to + 1, Kind: KindClosed, Topics: names(1)}})
		case n < 61:
			h.skipTo(h.to + 10)
		default:
			ev := &Event{Topics: names(3), Type: []string{"", "t"}[rand.IntN(2)], Private: rand.IntN(4) == 0, Data: "x"}
			h.add("epoch0", []Record{{Seq: h.to + 1, Kind: KindEvent, Topics: ev.Topics, Event: ev}})
		}
		for _, f := range h.feeds {
			if f.refs <= 0 {
				t.Fatalf("got a feed that nobody follows: %+v", f.filter)
			}
		}
	}
	for _, f := range feeds {
		h.release(f)
	}
	h.limit = 1
	evict(h)
	wantEmpty(t, h)
	if n := len(h.items); n != 1 {
		t.Errorf("got %d records, want the newest", n)
	}
}

// TestHotLog_LanesHaveWhatIsSelected compares lanes with what filters select.
func TestHotLog_LanesHaveWhatIsSelected(t *testing.T) {
	filters := []Filter{
		{Topics: []string{"a"}}, {Topics: []string{"b"}}, {Topics: []string{"a", "b"}}, {Topics: []string{"a"}, Types: []string{"t"}},
		{Topics: []string{"a"}, Private: all}, {Patterns: []string{"*"}}, {Patterns: []string{"a/*", "a", "**"}}, {Topics: []string{"a"}, Patterns: []string{"*/x"}, Types: []string{"message"}},
	}
	for name, hotBytes := range map[string]int{"all in memory": 1 << 20, "some in memory": 10_000, "one in memory": 1} {
		t.Run(name, func(t *testing.T) {
			h := newTestHot(hotBytes)
			var feeds []*feed
			for _, f := range filters {
				feeds = append(feeds, h.follow(f))
			}
			count := make([]uint64, len(feeds)) // of the events of each
			topics := []string{"a", "b", "c", "a/x", "b/x", "a/x/y"}
			for seq := uint64(1); seq <= 500; seq++ {
				names := unique([]string{topics[rand.IntN(len(topics))], topics[rand.IntN(len(topics))]})
				ev := &Event{Topics: names, Type: []string{"", "t", "message"}[rand.IntN(3)], Private: rand.IntN(3) == 0}
				dirty := make(map[*feed]bool)
				for _, f := range h.add("epoch0", []Record{{Seq: seq, Kind: KindEvent, Topics: names, Event: ev}}) {
					dirty[f] = true
				}
				for i, f := range feeds {
					is := f.filter.selectsTopic(names) && f.filter.selectsEvent(ev)
					if is {
						count[i]++
						if !dirty[f] {
							t.Errorf("%+v: its streams are not told of %d", f.filter, seq)
						}
					}
					if f.lane.end() != count[i] {
						t.Fatalf("%+v: got %d events up to %d, want %d", f.filter, f.lane.end(), seq, count[i])
					}
					if last := f.lane.last(); is && (last == nil || last.Seq != seq) {
						t.Fatalf("%+v: got last %v, want %d", f.filter, last, seq)
					}
					for _, it := range f.lane.items {
						if it.Seq <= h.from || it.Seq <= f.lane.from {
							t.Fatalf("%+v: got %d in a lane from %d of a log from %d", f.filter, it.Seq, f.lane.from, h.from)
						}
					}
				}
			}
			for _, f := range feeds {
				h.release(f)
			}
			h.limit = 1
			evict(h)
			wantEmpty(t, h)
		})
	}
}
