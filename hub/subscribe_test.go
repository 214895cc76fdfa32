package hub_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
)

// A clock stands still until it is set.
type clock struct{ now time.Time }

// everyTopic has private events come too, whatever their topic.
var everyTopic = []string{"**"}

func (c *clock) time() time.Time { return c.now }

// noon is when the tests begin.
var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func TestSubscribe_BeginsWhereItIsTold(t *testing.T) {
	private := func(ev hub.Event) hub.Event { ev.Private = true; return ev }
	typed := func(typ string, ev hub.Event) hub.Event { ev.Type = typ; return ev }
	id := func(id string, ev hub.Event) hub.Event { ev.ID = id; return ev }
	// One a second, from noon on.
	history := []hub.Event{
		event("a", "1"),
		typed("t", event("b", "2")),
		id("own-3", event("a,b", "3")),
		private(event("a", "4")),
		typed("t", event("a", "5")),
		event("news/de", "6"),
		event("news/de/berlin", "7"),
		id("own-3", event("a", "8")), // the same id again
	}
	tests := []struct {
		name   string
		filter hub.Filter
		want   string
	}{
		{"now", hub.Filter{Topics: []string{"a", "b"}}, ""},
		{"earliest", hub.Filter{Topics: []string{"a"}, From: hub.Start{Earliest: true}}, "1, 3, 5, 8"},
		{"several topics, an event of both once", hub.Filter{Topics: []string{"a", "b"}, From: hub.Start{Earliest: true}}, "1, 2, 3, 5, 8"},
		{"the same topic named twice", hub.Filter{Topics: []string{"b", "b"}, From: hub.Start{Earliest: true}}, "2, 3"},
		{"a topic and a pattern that select the same event", hub.Filter{Topics: []string{"a"}, Patterns: []string{"*", "**"}, From: hub.Start{Earliest: true}}, "1, 2, 3, 5, 6, 7, 8"},
		{"a topic that nobody has named", hub.Filter{Topics: []string{"c"}, From: hub.Start{Earliest: true}}, ""},

		{"after a position", hub.Filter{Topics: []string{"a"}, From: hub.Start{LastEventID: "#1"}}, "3, 5, 8"},
		{"after a position of another topic's event", hub.Filter{Topics: []string{"a"}, From: hub.Start{LastEventID: "#6"}}, "8"},
		{"after position 0", hub.Filter{Topics: []string{"a"}, From: hub.Start{LastEventID: "#0"}}, "1, 3, 5, 8"},
		{"after the newest", hub.Filter{Topics: []string{"a"}, From: hub.Start{LastEventID: "#8"}}, ""},
		{"after the position of an event that has an id", hub.Filter{Topics: []string{"a"}, From: hub.Start{LastEventID: "#3"}}, "5, 8"},
		{"after a publisher's id, by its first use", hub.Filter{Topics: []string{"a"}, From: hub.Start{LastEventID: "own-3"}}, "5, 8"},
		{"after an id of another topic", hub.Filter{Topics: []string{"news/de"}, From: hub.Start{LastEventID: "own-3"}}, "6"},
		{"an id counts before all else", hub.Filter{Topics: []string{"a"}, From: hub.Start{LastEventID: "#5", Earliest: true, Last: 4}}, "8"},
		{"earliest counts before a time", hub.Filter{Topics: []string{"b"}, From: hub.Start{Earliest: true, Since: noon.Add(time.Hour), Last: 1}}, "2, 3"},
		{"a time counts before a number", hub.Filter{Topics: []string{"b"}, From: hub.Start{Since: noon.Add(2 * time.Second), Last: 2}}, "3"},

		{"since the time of an event", hub.Filter{Topics: []string{"a"}, From: hub.Start{Since: noon.Add(2 * time.Second)}}, "3, 5, 8"},
		{"since just after an event", hub.Filter{Topics: []string{"a"}, From: hub.Start{Since: noon.Add(2*time.Second + 1)}}, "5, 8"},
		{"since before all", hub.Filter{Topics: []string{"a"}, From: hub.Start{Since: noon.Add(-time.Hour)}}, "1, 3, 5, 8"},
		{"since a time to come", hub.Filter{Topics: []string{"a"}, From: hub.Start{Since: noon.Add(time.Hour)}}, ""},

		{"the newest one", hub.Filter{Topics: []string{"a"}, From: hub.Start{Last: 1}}, "8"},
		{"the newest two of two topics", hub.Filter{Topics: []string{"a", "b"}, From: hub.Start{Last: 2}}, "5, 8"},
		{"more than there are", hub.Filter{Topics: []string{"b"}, From: hub.Start{Last: 99}}, "2, 3"},
		{"the newest one of a type", hub.Filter{Topics: []string{"a", "b"}, Types: []string{"t"}, From: hub.Start{Last: 1}}, "5"},
		{"the newest two of a type that is far back", hub.Filter{Patterns: []string{"**"}, Types: []string{"t"}, From: hub.Start{Last: 2}}, "2, 5"},
		{"the newest four, with private ones", hub.Filter{Topics: []string{"a"}, Private: everyTopic, From: hub.Start{Last: 4}}, "3, 4, 5, 8"},
		{"the newest one of a pattern", hub.Filter{Patterns: []string{"news/*"}, From: hub.Start{Last: 1}}, "6"},

		{"a pattern of one segment", hub.Filter{Patterns: []string{"*"}, From: hub.Start{Earliest: true}}, "1, 2, 3, 5, 8"},
		{"a pattern with one segment more", hub.Filter{Patterns: []string{"news/*"}, From: hub.Start{Earliest: true}}, "6"},
		{"a pattern with any number more", hub.Filter{Patterns: []string{"news/**"}, From: hub.Start{Earliest: true}}, "6, 7"},
		{"a pattern in the middle", hub.Filter{Patterns: []string{"news/*/berlin"}, From: hub.Start{Earliest: true}}, "7"},
		{"every topic", hub.Filter{Patterns: []string{"**"}, From: hub.Start{Earliest: true}}, "1, 2, 3, 5, 6, 7, 8"},
		{"a pattern that nothing matches", hub.Filter{Patterns: []string{"a/*"}, From: hub.Start{Earliest: true}}, ""},

		{"a type", hub.Filter{Topics: []string{"a", "b"}, Types: []string{"t"}, From: hub.Start{Earliest: true}}, "2, 5"},
		{"the default type by its name", hub.Filter{Topics: []string{"a", "b"}, Types: []string{"message"}, From: hub.Start{Earliest: true}}, "1, 3, 8"},
		{"several types", hub.Filter{Topics: []string{"a", "b"}, Types: []string{"u", "message", "t"}, From: hub.Start{Earliest: true}}, "1, 2, 3, 5, 8"},
		{"private ones with a grant", hub.Filter{Topics: []string{"a"}, Private: everyTopic, From: hub.Start{Earliest: true}}, "1, 3, 4, 5, 8"},
	}
	kinds := []struct {
		name     string
		hotBytes int
		late     bool // the hub finds the history in its log
	}{
		{"in memory", 0, false},
		{"from the log", 1, false},
		{"of an earlier hub", 0, true},
	}
	for _, kind := range kinds {
		for _, tt := range tests {
			t.Run(kind.name+"/"+tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := &clock{noon}
					log := newLog(t, &memory.Options{Now: c.time})
					h := newHub(t, hub.Options{Log: log, HotBytes: kind.hotBytes})
					for i, ev := range history {
						c.now = noon.Add(time.Duration(i) * time.Second)
						publish(t, h, ev)
					}
					if kind.late {
						h = newHub(t, hub.Options{Log: log})
					}
					f := tt.filter
					f.From.LastEventID = strings.Replace(f.From.LastEventID, "#", log.Head().Epoch+"-", 1)
					synctest.Wait() // the hub has it all
					r := read(t, h, f)
					if got := r.texts(); got != tt.want {
						t.Errorf("got history %q, want %q", got, tt.want)
					}
					// The same goes on live, for events of every kind.
					for _, ev := range history {
						ev.Data += " live"
						publish(t, h, ev)
					}
					var want []string
					for i, ev := range history {
						if wanted(tt.filter, ev) {
							want = append(want, fmt.Sprint(i+1, " live"))
						}
					}
					if got := r.texts(); got != strings.Join(want, ", ") {
						t.Errorf("got live %q, want %q", got, want)
					}
				})
			})
		}
	}
}

// wanted tells whether a filter selects an event, in the simplest words.
func wanted(f hub.Filter, ev hub.Event) bool {
	typ := ev.Type
	if typ == "" {
		typ = "message"
	}
	if ev.Private && len(f.Private) == 0 || len(f.Types) > 0 && !slices.Contains(f.Types, typ) {
		return false
	}
	return slices.ContainsFunc(ev.Topics, func(topic string) bool { return wantedTopic(f, topic) })
}

func wantedTopic(f hub.Filter, topic string) bool {
	return slices.Contains(f.Topics, topic) ||
		slices.ContainsFunc(f.Patterns, func(p string) bool { return matches(strings.Split(p, "/"), strings.Split(topic, "/")) })
}

// matches is what a pattern means, segment by segment.
func matches(pattern, topic []string) bool {
	switch {
	case len(pattern) == 0:
		return len(topic) == 0
	case pattern[0] == "**":
		return true
	case len(topic) == 0:
		return false
	}
	return (pattern[0] == "*" || pattern[0] == topic[0]) && matches(pattern[1:], topic[1:])
}

func TestSubscribe_TellsEverythingOfAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clock{noon}
		log := newLog(t, &memory.Options{Now: c.time})
		h := newHub(t, hub.Options{Log: log})
		epoch := log.Head().Epoch
		in := []hub.Event{
			{Topics: []string{"a", "b"}, ID: "own", Type: "t", Data: "line\nline\r\n", Retry: 5 * time.Second, Private: true},
			{Topics: []string{"a"}},
		}
		publish(t, h, in...)
		steps := read(t, h, hub.Filter{Topics: []string{"b", "a"}, Private: everyTopic, From: hub.Start{Earliest: true}}).all()
		if len(steps) != 2 {
			t.Fatalf("got %v, want 2 events", steps)
		}
		for i, want := range []hub.Delivery{
			{Event: in[0], ID: "own", Position: epoch + "-1", Time: noon},
			{Event: in[1], ID: epoch + "-2", Position: epoch + "-2", Time: noon},
		} {
			if got := steps[i].Delivery; fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		}
	})
}

// TestSubscribe_OrderIsTotal has subscribers of overlapping topics, who must all see
// the events in the order of their sequences.
func TestSubscribe_OrderIsTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, hub.Options{})
		filters := []hub.Filter{
			{Topics: []string{"a"}}, {Topics: []string{"b"}}, {Topics: []string{"b", "a"}}, {Patterns: []string{"*"}},
		}
		var readers []*reader
		for _, f := range filters {
			r := read(t, h, f)
			r.take() // it is there before the first event
			readers = append(readers, r)
		}
		const publishers, each = 8, 100
		for p := range publishers {
			go func() {
				for i := range each {
					ev := event([]string{"a", "b", "a,b", "b,a"}[(p+i)%4], "")
					if _, err := h.Publish(t.Context(), hub.Publication{Events: []hub.Event{ev}}); err != nil {
						t.Error(err)
					}
				}
			}()
		}
		synctest.Wait()
		for i, want := range []int{3 * publishers * each / 4, 3 * publishers * each / 4, publishers * each, publishers * each} {
			steps := readers[i].all()
			if len(steps) != want {
				t.Errorf("subscriber %d: got %d events, want %d", i, len(steps), want)
			}
			var last uint64
			for _, s := range steps {
				seq := sequence(t, s.Position)
				if seq <= last {
					t.Fatalf("subscriber %d: got sequence %d after %d", i, seq, last)
				}
				last = seq
			}
		}
	})
}

// sequence returns the number in a position.
func sequence(t testing.TB, position string) uint64 {
	t.Helper()
	var seq uint64
	_, digits, _ := strings.Cut(position, "-")
	if _, err := fmt.Sscan(digits, &seq); err != nil {
		t.Fatalf("position %q: %v", position, err)
	}
	return seq
}

func TestSubscribe_LostPlaceIsToldFirst(t *testing.T) {
	tests := []struct {
		name, id, want string
		resumed        uint64
	}{
		{"an id that nobody published", "nobody's", "gap unknown, 2, 3", 1},
		{"an id with spaces and signs", "é😀 a,b", "gap unknown, 2, 3", 1},
		{"a position of another log", "zzzzzz-2", "gap epoch, 2, 3", 1},
		{"a position that is still to come", "#999", "gap epoch, 2, 3", 1},
		{"a position too large for a number", "#99999999999999999999", "gap unknown, 2, 3", 1},
		{"a position with a leading zero", "#01", "gap unknown, 2, 3", 1},
	}
	for _, hotBytes := range []int{0, 1} {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("hot=%d/%s", hotBytes, tt.name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					log := newLog(t, nil)
					h := newHub(t, hub.Options{Log: log, HotBytes: hotBytes})
					publish(t, h, event("other", "1"), event("a", "2"), event("a", "3"))
					synctest.Wait()
					id := strings.Replace(tt.id, "#", log.Head().Epoch+"-", 1)
					steps := read(t, h, hub.Filter{Topics: []string{"a"}, From: hub.Start{LastEventID: id}}).all()
					if got := texts(steps); got != tt.want {
						t.Fatalf("got %q, want %q", got, tt.want)
					}
					var gap *hub.GapError
					if !errors.As(steps[0].err, &gap) {
						t.Fatalf("got %v, want a *GapError", steps[0].err)
					}
					if want := hub.Position(log.Head().Epoch, tt.resumed); gap.Requested != id || gap.Resumed != want {
						t.Errorf("got requested %q and resumed %q, want %q and %q", gap.Requested, gap.Resumed, id, want)
					}
					if gap.Error() == "" {
						t.Error("the gap has no words")
					}
					// From there on nothing is missing.
					again := read(t, h, hub.Filter{Topics: []string{"a"}, From: hub.Start{LastEventID: gap.Resumed}})
					if got, want := again.texts(), "2, 3"; got != want {
						t.Errorf("resumed from the gap: got %q, want %q", got, want)
					}
				})
			})
		}
	}
}

// TestSubscribe_ExpiredPlaceIsTold resumes where retention has removed something, and
// where it has not.
func TestSubscribe_ExpiredPlaceIsTold(t *testing.T) {
	tests := []struct {
		name   string
		topics []string
		from   hub.Start
		want   string
	}{
		{"after what was removed last", []string{"a"}, hub.Start{LastEventID: "#3"}, "4, 5"},
		{"before that", []string{"a"}, hub.Start{LastEventID: "#2"}, "gap expired, 4, 5"},
		{"from the very beginning", []string{"a"}, hub.Start{LastEventID: "#0"}, "gap expired, 4, 5"},
		{"after a removed event's id", []string{"a"}, hub.Start{LastEventID: "id-1"}, "gap expired, 4, 5"},
		{"after the id of the one that was removed last", []string{"a"}, hub.Start{LastEventID: "id-3"}, "4, 5"},
		{"a topic that lost nothing", []string{"whole"}, hub.Start{LastEventID: "#0"}, "6"},
		{"earliest asks for what is kept", []string{"a"}, hub.Start{Earliest: true}, "4, 5"},
		{"the newest do too", []string{"a"}, hub.Start{Last: 4}, "4, 5"},
		{"a time before it", []string{"a"}, hub.Start{Since: noon.Add(-time.Hour)}, "gap expired, 4, 5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := newLog(t, &memory.Options{
					Now:       (&clock{noon}).time,
					Retention: hub.RetentionRules{{Pattern: "a", Retention: hub.Retention{Count: 2}}},
				})
				h := newHub(t, hub.Options{Log: log, HotBytes: 1})
				for i := 1; i <= 5; i++ {
					publish(t, h, hub.Event{Topics: []string{"a"}, ID: fmt.Sprint("id-", i), Data: fmt.Sprint(i)})
				}
				publish(t, h, event("whole", "6"))
				synctest.Wait()
				from := tt.from
				from.LastEventID = strings.Replace(from.LastEventID, "#", log.Head().Epoch+"-", 1)
				if got := read(t, h, hub.Filter{Topics: tt.topics, From: from}).texts(); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// TestSubscribe_EarliestIsWhatIsKept has the same history twice: the hub's memory still
// has what retention has removed from the log, and must not bring it back.
func TestSubscribe_EarliestIsWhatIsKept(t *testing.T) {
	for name, hotBytes := range map[string]int{"in memory": 0, "from the log": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, hub.Options{HotBytes: hotBytes, Log: newLog(t, &memory.Options{
					Retention: hub.RetentionRules{{Pattern: "**", Retention: hub.Retention{Count: 1}}},
				})})
				publish(t, h, event("a", "1"), event("a", "2"), event("a", "3"))
				synctest.Wait()
				if got, want := read(t, h, hub.Filter{Topics: []string{"a"}, From: hub.Start{Earliest: true}}).texts(), "3"; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		})
	}
}

// TestSubscribe_AGapIsToldOnce has a topic that lost its beginning, beside one that has
// many pages from before: who comes from before the loss is told of it once, and who
// asked for what is kept has lost nothing.
func TestSubscribe_AGapIsToldOnce(t *testing.T) {
	const n = 1500 // events of each topic
	tests := []struct {
		name   string
		filter hub.Filter
		from   hub.Start
		events int
		gaps   int
	}{
		{"topics, from an id", topics("long", "short"), hub.Start{LastEventID: "#1"}, n, 1},
		{"a pattern, from an id", hub.Filter{Patterns: []string{"*"}}, hub.Start{LastEventID: "#1"}, n, 1},
		{"topics, from an unknown id", topics("long", "short"), hub.Start{LastEventID: "nobody's"}, n + 1, 1},
		{"a pattern, from an unknown id", hub.Filter{Patterns: []string{"*"}}, hub.Start{LastEventID: "nobody's"}, n + 1, 1},
		{"topics, since a time", topics("long", "short"), hub.Start{Since: noon}, n + 1, 1},
		{"topics, earliest", topics("long", "short"), earliest, n + 1, 0},
		{"a pattern, earliest", hub.Filter{Patterns: []string{"*"}}, earliest, n + 1, 0},
		{"a topic and a pattern, earliest", hub.Filter{Topics: []string{"long"}, Patterns: []string{"short"}}, earliest, n + 1, 0},
		{"topics, the newest", topics("long", "short"), hub.Start{Last: n}, n, 0},
		{"a pattern, the newest", hub.Filter{Patterns: []string{"*"}}, hub.Start{Last: n}, n, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := newLog(t, &memory.Options{
					Now:       (&clock{noon}).time,
					Retention: hub.RetentionRules{{Pattern: "short", Retention: hub.Retention{Count: 1}}},
				})
				h := newHub(t, hub.Options{Log: log, HotBytes: 1})
				for range n / 100 {
					publish(t, h, slices.Repeat([]hub.Event{event("long", ""), event("short", "")}, 100)...)
				}
				synctest.Wait()
				tt.from.LastEventID = strings.Replace(tt.from.LastEventID, "#", log.Head().Epoch+"-", 1)
				events, gaps := 0, 0
				for i, s := range read(t, h, from(tt.filter, tt.from)).all() {
					if s.err == nil {
						events++
						continue
					}
					if gaps++; gaps == 1 && i > 0 {
						t.Errorf("got the gap as step %d, want it first", i)
					}
				}
				if events != tt.events || gaps != tt.gaps {
					t.Errorf("got %d events and %d gaps, want %d and %d", events, gaps, tt.events, tt.gaps)
				}
			})
		})
	}
}

// TestSubscribe_AnEventThatOneTopicStillHasIsNoGap has an event of two topics of which
// one has let it go: who asked for both gets it, and has lost nothing.
func TestSubscribe_AnEventThatOneTopicStillHasIsNoGap(t *testing.T) {
	tests := []struct {
		name     string
		topics   []string
		patterns []string
		want     string
	}{
		{"both", []string{"short", "long"}, nil, "1, 2"},
		{"the one that has it", []string{"long"}, nil, "1"},
		{"the one that let it go", []string{"short"}, nil, "gap expired, 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := newLog(t, &memory.Options{Retention: hub.RetentionRules{{Pattern: "short", Retention: hub.Retention{Count: 1}}}})
				h := newHub(t, hub.Options{Log: log, HotBytes: 1})
				publish(t, h, event("short,long", "1"))
				publish(t, h, event("short", "2"))
				publish(t, h, event("other", "3"))
				synctest.Wait()
				from := hub.Start{LastEventID: hub.Position(log.Head().Epoch, 0)}
				if got := read(t, h, hub.Filter{Topics: tt.topics, From: from}).texts(); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// TestSubscribe_TheNewestComeInPages asks for far more than anyone should hold at once.
func TestSubscribe_TheNewestComeInPages(t *testing.T) {
	const n, most = 5000, 1000
	log := &spyLog{Log: newLog(t, nil)}
	h := newHub(t, hub.Options{Log: log})
	for range n / 1000 {
		publish(t, h, slices.Repeat([]hub.Event{event("a", "")}, 1000)...)
	}
	largest := 0
	log.read = func(q hub.Query, page hub.Page) { largest = max(largest, len(page.Records)) }
	got := 0
	for _, err := range h.Subscribe(t.Context(), hub.Filter{Topics: []string{"a"}, From: hub.Start{Last: 1_000_000_000}}) {
		if err != nil {
			t.Fatal(err)
		}
		if got++; got == n {
			break
		}
	}
	if largest > most {
		t.Errorf("got a page of %d events from the log, want at most %d: a subscriber costs bounded memory", largest, most)
	}
}

// TestSubscribe_TheNewestAreLookedForAsFarAsNeeded has events so large that a log has few
// of them on a page, and looks at what is read to find where the newest begin.
func TestSubscribe_TheNewestAreLookedForAsFarAsNeeded(t *testing.T) {
	const n, small, large = 30, 1, 50_000
	typed := func(f hub.Filter) hub.Filter { f.Types = []string{"t"}; return f }
	tests := []struct {
		name   string
		filter hub.Filter
		size   int // of an event
		last   int
		want   int // events
		most   int // events that are looked at to find them
	}{
		{"one", topics("a"), large, 1, 1, 1},
		{"one of small ones", topics("a"), small, 1, 1, 1},
		{"some of small ones", topics("a"), small, 7, 7, 7},
		{"some", topics("a"), large, 7, 7, 7},
		{"all", topics("a"), large, n, n, n},
		{"more than there are", topics("a"), large, 1000, n, n},
		{"one of a pattern", hub.Filter{Patterns: []string{"*"}}, large, 1, 1, 1},
		{"the only one of a type", typed(topics("a")), large, 1, 1, n},
		{"more than there are of a type", typed(topics("a")), large, 2, 1, n},
		{"of nothing", topics("b"), large, 3, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &spyLog{Log: newLog(t, nil)}
				h := newHub(t, hub.Options{Log: log})
				for i := range n {
					ev := event("a", strings.Repeat("x", tt.size))
					if i == 0 {
						ev.Type = "t"
					}
					publish(t, h, ev)
				}
				looked := 0
				log.read = func(q hub.Query, page hub.Page) {
					if q.Newest {
						looked += len(page.Records)
					}
				}
				got := read(t, h, from(tt.filter, hub.Start{Last: tt.last})).all()
				if len(got) != tt.want || looked > tt.most {
					t.Errorf("got %d events, and %d were looked at, want %d and at most %d", len(got), looked, tt.want, tt.most)
				}
			})
		})
	}
}

func TestSubscribe_EndsWithItsContext(t *testing.T) {
	t.Run("while it waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, hub.Options{})
			r := read(t, h, hub.Filter{Topics: []string{"a"}})
			if s, ok := r.take(); ok {
				t.Fatalf("got %v, want nothing yet", s)
			}
			r.cancel()
			s, ok := r.take()
			if !ok || !errors.Is(s.err, context.Canceled) {
				t.Errorf("got %v, want the context's error", s.err)
			}
			if s, _ := r.take(); !s.ended {
				t.Errorf("got %v after the error, want the end", s)
			}
		})
	})
	t.Run("with a cause", func(t *testing.T) {
		h := newHub(t, hub.Options{})
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		for _, err := range h.Subscribe(ctx, hub.Filter{Topics: []string{"a"}}) {
			if !errors.Is(err, cause) {
				t.Errorf("got %v, want %v", err, cause)
			}
		}
	})
	t.Run("while there is more", func(t *testing.T) {
		h := newHub(t, hub.Options{})
		const n = 5000
		for range n / 1000 {
			publish(t, h, slices.Repeat([]hub.Event{event("a", "")}, 1000)...)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		got := 0
		var last error
		for _, err := range h.Subscribe(ctx, hub.Filter{Topics: []string{"a"}, From: hub.Start{Earliest: true}}) {
			cancel()
			got++
			last = err
		}
		if !errors.Is(last, context.Canceled) || got > n/2 {
			t.Errorf("got %d events and %v after the context had ended at the first, want fewer and its error", got-1, last)
		}
	})
	t.Run("and with a break", func(t *testing.T) {
		h := newHub(t, hub.Options{})
		publish(t, h, event("a", "1"))
		for d, err := range h.Subscribe(t.Context(), hub.Filter{Topics: []string{"a"}, From: hub.Start{Earliest: true}}) {
			if err != nil || d.Data == "1" {
				break
			}
		}
		// That nothing is left open, the hub's Shutdown tells when the test ends.
	})
}

func TestSubscribe_RefusesAFilter(t *testing.T) {
	long := strings.Repeat("x", hub.MaxTopicSize+1)
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprint("topic", i)
	}
	tests := []struct {
		name    string
		filter  hub.Filter
		problem hub.Problem
		field   string
	}{
		{"no topic", hub.Filter{}, hub.ProblemTopic, "topic"},
		{"an empty topic", hub.Filter{Topics: []string{""}}, hub.ProblemTopic, "topic"},
		{"one bad topic among good ones", hub.Filter{Topics: []string{"a", "b\n"}}, hub.ProblemTopic, "topic"},
		{"a topic too long", hub.Filter{Topics: []string{long}}, hub.ProblemTopic, "topic"},
		{"a topic that is not UTF-8", hub.Filter{Topics: []string{"\xff"}}, hub.ProblemTopic, "topic"},
		{"an empty pattern", hub.Filter{Patterns: []string{""}}, hub.ProblemTopic, "pattern"},
		{"a pattern with ** in the middle", hub.Filter{Topics: []string{"a"}, Patterns: []string{"a/**/b"}}, hub.ProblemTopic, "pattern"},
		{"a pattern with * in a segment", hub.Filter{Patterns: []string{"a*"}}, hub.ProblemTopic, "pattern"},
		{"a pattern too long", hub.Filter{Patterns: []string{long}}, hub.ProblemTopic, "pattern"},
		{"too many topics", hub.Filter{Topics: many}, hub.ProblemTooManyTopics, "topic"},
		{"too many topics and patterns", hub.Filter{Topics: many[:60], Patterns: many[60:]}, hub.ProblemTooManyTopics, "topic"},
		{"less than nothing", hub.Filter{Topics: []string{"a"}, From: hub.Start{Last: -1}}, hub.ProblemQuery, "last"},
	}
	h := newHub(t, hub.Options{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			steps := 0
			for _, err := range h.Subscribe(t.Context(), tt.filter) {
				steps++
				wantProblem(t, err, tt.problem, tt.field)
			}
			if steps != 1 {
				t.Errorf("got %d steps, want the error alone", steps)
			}
		})
	}
	t.Run("not one of exactly as many topics as are allowed", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, err := range h.Subscribe(ctx, hub.Filter{Topics: append(many[:100:100], many[0])}) {
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
}

// wantProblem checks that err is a *RequestError.
func wantProblem(t testing.TB, err error, problem hub.Problem, field string) {
	t.Helper()
	var e *hub.RequestError
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *RequestError", err)
	}
	if e.Problem != problem || e.Field != field {
		t.Errorf("got problem %q of field %q (%s), want %q of %q", e.Problem, e.Field, e.Detail, problem, field)
	}
	if e.Detail == "" || e.Error() == "" {
		t.Error("the error has no words")
	}
}
