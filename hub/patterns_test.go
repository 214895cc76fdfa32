package hub

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestPatternTree compares it with [Match] while patterns come and go.
func TestPatternTree(t *testing.T) {
	segments := []string{"a", "b", "cc", "", "*", "**", "é"} // as topics may have them too
	name := func(pattern bool) string {
		var all []string
		for range 1 + rand.IntN(5) {
			s := segments[rand.IntN(len(segments))]
			if pattern && s == "**" {
				s = "*"
			}
			all = append(all, s)
		}
		if pattern && rand.IntN(3) == 0 {
			all = append(all, "**")
		}
		if pattern && rand.IntN(20) == 0 {
			return "**"
		}
		return strings.Join(all, "/")
	}
	type entry struct {
		pattern string
		feed    *feed
	}
	for range 50 {
		var tree patternTree
		var all []entry
		steps := 400
		for step := range steps + 1000 {
			if step >= steps && len(all) == 0 {
				break
			}
			switch add := step < steps && rand.IntN(5) < 3; {
			case add:
				e := entry{name(true), new(feed)}
				if err := CheckPattern(e.pattern); err != nil {
					continue // it cannot be followed
				}
				if len(all) > 0 && rand.IntN(4) == 0 {
					e.feed = all[rand.IntN(len(all))].feed // it has several patterns
				}
				if !slices.Contains(all, e) {
					all = append(all, e)
					tree.add(e.pattern, e.feed)
				}
			case len(all) > 0:
				i := rand.IntN(len(all))
				tree.remove(all[i].pattern, all[i].feed)
				all = slices.Delete(all, i, i+1)
			}
			topic := name(rand.IntN(4) == 0)
			want, got := make(map[*feed]int), make(map[*feed]int)
			for _, e := range all {
				if Match(e.pattern, topic) {
					want[e.feed]++
				}
			}
			tree.match(topic, func(f *feed) { got[f]++ })
			for _, e := range all {
				if got[e.feed] != want[e.feed] {
					t.Fatalf("topic %q: got the feed of pattern %q %d times, want %d", topic, e.pattern, got[e.feed], want[e.feed])
				}
			}
			if len(got) != len(want) {
				t.Fatalf("topic %q: got %d feeds, want %d", topic, len(got), len(want))
			}
		}
		if root := tree.root; len(root.next) > 0 || len(root.exact) > 0 || len(root.rest) > 0 {
			t.Fatalf("got %+v left after all patterns were removed", root)
		}
	}
}

func TestPatternTree_RemovesOnlyWhatIsThere(t *testing.T) {
	var tree patternTree
	f, other := new(feed), new(feed)
	for _, p := range []string{"a/*", "a/**", "**", "a"} {
		tree.add(p, f)
	}
	for _, p := range []string{"a/*", "a/**", "**", "a", "b", "a/*/c", "*"} {
		tree.remove(p, other)
	}
	for _, p := range []string{"b", "a/*/c", "*/**"} {
		tree.remove(p, f)
	}
	n := 0
	tree.match("a", func(*feed) { n++ })
	tree.match("a/b", func(*feed) { n++ })
	if n != 3+3 {
		t.Errorf("got %d matches, want 6", n)
	}
}

// manyPatterns are distinct patterns, some of which match every topic that begins as
// theirs do, few the same one.
func manyPatterns(n int) []string {
	all := make([]string, n)
	for i := range all {
		switch i % 100 {
		case 0:
			all[i] = fmt.Sprintf("groups/%d/**", i)
		case 1:
			all[i] = fmt.Sprintf("*/%d/orders", i)
		default:
			all[i] = fmt.Sprintf("users/%d/*", i)
		}
	}
	return all
}

func BenchmarkPatterns(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var tree patternTree
			for _, p := range manyPatterns(n) {
				tree.add(p, new(feed))
			}
			for range 3 {
				tree.add("**", new(feed))
			}
			topics := []string{"users/502/orders", "users/777/mail", "groups/300/a/b/c", "nobody/1/2", "x"}
			b.ReportAllocs()
			visited := 0
			for i := 0; b.Loop(); i++ {
				tree.match(topics[i%len(topics)], func(*feed) { visited++ })
			}
			if visited == 0 {
				b.Error("nothing matched")
			}
			b.ReportMetric(float64(visited)/float64(b.N), "matches/op")
		})
	}
}

// BenchmarkHotLog adds an event that concerns few of very many subscriptions.
func BenchmarkHotLog(b *testing.B) {
	for _, feeds := range []int{1000, 100_000} {
		for _, matching := range []int{1, 10} {
			b.Run(fmt.Sprintf("%d of %d", matching, feeds), func(b *testing.B) {
				h := newTestHot(1 << 20)
				for i, p := range manyPatterns(feeds) {
					h.follow(Filter{Patterns: []string{p}})
					if i > 0 && i < matching { // else of the topic's own
						h.follow(Filter{Patterns: []string{"users/502/*"}, Types: []string{fmt.Sprint("t", i), "message"}})
					}
				}
				ev := &Event{Topics: []string{"users/502/orders"}, Data: strings.Repeat("x", 100)}
				if n := len(h.add("epoch0", []Record{{Seq: 1, Kind: KindEvent, Topics: ev.Topics, Event: ev}})); n != matching {
					b.Fatalf("got %d feeds, want %d", n, matching)
				}
				b.ReportAllocs()
				seq := uint64(1)
				for b.Loop() {
					seq++
					h.add("epoch0", []Record{{Seq: seq, Kind: KindEvent, Topics: ev.Topics, Event: ev}})
				}
			})
		}
	}
}
