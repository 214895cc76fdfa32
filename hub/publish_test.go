package hub_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
)

func TestPublish_ReceiptSaysWhereItStands(t *testing.T) {
	c := &clock{noon}
	log := newLog(t, &memory.Options{Now: c.time})
	h := newHub(t, hub.Options{Log: log})
	tests := []struct {
		name   string
		events []hub.Event
		want   []uint64
	}{
		{"one event", []hub.Event{event("a", "1")}, []uint64{1}},
		{"a batch", []hub.Event{event("a", "2"), event("b", "3"), event("a,b", "4")}, []uint64{2, 3, 4}},
		{"the next", []hub.Event{event("c", "5")}, []uint64{5}},
	}
	for i, tt := range tests {
		c.now = noon.Add(time.Duration(i) * time.Second)
		got := publish(t, h, tt.events...)
		if !slices.Equal(got.Sequences, tt.want) || got.Epoch != log.Head().Epoch || !got.Time.Equal(c.now) || got.Replayed {
			t.Errorf("%s: got %+v, want sequences %v of epoch %s at %v", tt.name, got, tt.want, log.Head().Epoch, c.now)
		}
	}
}

func TestPublish_TopicTellsOfIt(t *testing.T) {
	log := newLog(t, &memory.Options{Retention: hub.RetentionRules{{Pattern: "a", Retention: hub.Retention{Count: 2}}}})
	h := newHub(t, hub.Options{Log: log})
	epoch := log.Head().Epoch
	topic := func(name string) hub.TopicInfo {
		t.Helper()
		info, err := h.Topic(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	if got := topic("a"); got != (hub.TopicInfo{}) {
		t.Errorf("before anything: got %+v, want nothing", got)
	}
	publish(t, h, event("a", "1"), event("a,b", "2"), hub.Event{Topics: []string{"a"}, ID: "own"})
	if got, want := topic("a"), (hub.TopicInfo{Oldest: 2, Newest: 3, Trimmed: 1, NewestID: "own", OldestID: epoch + "-2", Count: 2}); got != want {
		t.Errorf("with events: got %+v, want %+v", got, want)
	}
	end(t, h, "a")
	forget(t, h, "a")
	if got, want := topic("a"), (hub.TopicInfo{Newest: 3, Trimmed: 3, NewestID: "own", Closed: true}); got != want {
		t.Errorf("closed and forgotten: got %+v, want %+v", got, want)
	}
	if got, want := topic("b"), (hub.TopicInfo{Oldest: 2, Newest: 2, NewestID: epoch + "-2", OldestID: epoch + "-2", Count: 1}); got != want {
		t.Errorf("the other topic: got %+v, want %+v", got, want)
	}
	_, err := h.Topic(t.Context(), "")
	wantProblem(t, err, hub.ProblemTopic, "topic")
	wantProblem(t, h.Forget(t.Context(), "x\x00"), hub.ProblemTopic, "topic")
}

// TestPublish_AllOrNone has groups in which one thing is wrong: nothing of them is
// stored.
func TestPublish_AllOrNone(t *testing.T) {
	log := newLog(t, nil)
	h := newHub(t, hub.Options{Log: log, Limits: hub.RequestLimits{EventSize: 10, BatchEvents: 3, Topics: 2, IDSize: 5, TypeSize: 4}})
	publish(t, h, event("closed", "x"))
	end(t, h, "closed")
	good := event("a", "good")
	with := func(change func(*hub.Event)) []hub.Event {
		bad := event("a", "bad")
		change(&bad)
		return []hub.Event{good, bad, good}
	}
	newest := "nobody's"
	tests := []struct {
		name    string
		p       hub.Publication
		problem hub.Problem
		field   string
	}{
		{"nothing at all", hub.Publication{}, hub.ProblemBody, ""},
		{"no topic", hub.Publication{Events: with(func(ev *hub.Event) { ev.Topics = nil })}, hub.ProblemTopic, "topic"},
		{"an empty topic", hub.Publication{Events: with(func(ev *hub.Event) { ev.Topics = []string{"a", ""} })}, hub.ProblemTopic, "topic"},
		{"a topic with a line break", hub.Publication{Events: with(func(ev *hub.Event) { ev.Topics = []string{"a\nb"} })}, hub.ProblemTopic, "topic"},
		{"too many topics", hub.Publication{Events: with(func(ev *hub.Event) { ev.Topics = []string{"a", "b", "c"} })}, hub.ProblemTooManyTopics, "topic"},
		{"data too long", hub.Publication{Events: with(func(ev *hub.Event) { ev.Data = strings.Repeat("x", 11) })}, hub.ProblemTooLarge, "data"},
		{"data that is not UTF-8", hub.Publication{Events: with(func(ev *hub.Event) { ev.Data = "\xff" })}, hub.ProblemBody, "data"},
		{"an id too long", hub.Publication{Events: with(func(ev *hub.Event) { ev.ID = "123456" })}, hub.ProblemFieldTooLong, "id"},
		{"an id with a NUL", hub.Publication{Events: with(func(ev *hub.Event) { ev.ID = "a\x00" })}, hub.ProblemField, "id"},
		{"an id with a line break", hub.Publication{Events: with(func(ev *hub.Event) { ev.ID = "a\r" })}, hub.ProblemField, "id"},
		{"an id with a space at its end", hub.Publication{Events: with(func(ev *hub.Event) { ev.ID = "a " })}, hub.ProblemField, "id"},
		{"an id that is not UTF-8", hub.Publication{Events: with(func(ev *hub.Event) { ev.ID = "\xff" })}, hub.ProblemField, "id"},
		{"a type too long", hub.Publication{Events: with(func(ev *hub.Event) { ev.Type = "12345" })}, hub.ProblemFieldTooLong, "type"},
		{"a type with a line break", hub.Publication{Events: with(func(ev *hub.Event) { ev.Type = "a\nb" })}, hub.ProblemField, "type"},
		{"a type of the server's own", hub.Publication{Events: with(func(ev *hub.Event) { ev.Type = "tidewire.gap" })}, hub.ProblemFieldTooLong, "type"},
		{"a negative retry", hub.Publication{Events: with(func(ev *hub.Event) { ev.Retry = -1 })}, hub.ProblemField, "retry"},
		{"too many events", hub.Publication{Events: []hub.Event{good, good, good, good}}, hub.ProblemTooLarge, ""},
		{"a key too long", hub.Publication{Events: []hub.Event{good}, IdempotencyKey: "123456"}, hub.ProblemFieldTooLong, "Idempotency-Key"},
		{"a key with a NUL", hub.Publication{Events: []hub.Event{good}, IdempotencyKey: "1\x00"}, hub.ProblemField, "Idempotency-Key"},
		{"an end of a bad topic", hub.Publication{Events: []hub.Event{good}, End: []string{"a", ""}}, hub.ProblemTopic, "topic"},
		{"an end of too many topics", hub.Publication{End: []string{"x", "y", "z"}}, hub.ProblemTooManyTopics, "topic"},
		{"a closed topic", hub.Publication{Events: with(func(ev *hub.Event) { ev.Topics = []string{"a", "closed"} }), End: []string{"a"}}, "", ""},
		{"another newest", hub.Publication{Events: []hub.Event{good, good}, IfNewest: &newest, End: []string{"a"}}, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := log.Head()
			_, err := h.Publish(t.Context(), tt.p)
			var conflict *hub.ConflictError
			switch {
			case tt.problem != "":
				wantProblem(t, err, tt.problem, tt.field)
			case tt.p.IfNewest != nil:
				if !errors.As(err, &conflict) || conflict.Topic != "a" {
					t.Errorf("got %v, want a *ConflictError of topic a", err)
				}
			case !errors.Is(err, hub.ErrClosed):
				t.Errorf("got %v, want ErrClosed", err)
			}
			if got := log.Head(); got != before {
				t.Errorf("got head %+v after a refusal, want %+v as before", got, before)
			}
			if info, _ := h.Topic(t.Context(), "a"); info != (hub.TopicInfo{}) {
				t.Errorf("got topic %+v, want nothing", info)
			}
		})
	}
}

func TestPublish_RefusesTheServersOwnNames(t *testing.T) {
	log := newLog(t, nil)
	h := newHub(t, hub.Options{Log: log})
	for _, tt := range []struct {
		name  string
		ev    hub.Event
		field string // "" if it is allowed
	}{
		{"a type of the server's", hub.Event{Type: "tidewire.gap"}, "type"},
		{"a type of the server's to come", hub.Event{Type: "tidewire."}, "type"},
		{"a type that only looks like it", hub.Event{Type: "tidewire"}, ""},
		{"a position of this log", hub.Event{ID: hub.Position(log.Head().Epoch, 7)}, "id"},
		{"a position of another log", hub.Event{ID: "zzzzzz-7"}, ""},
		{"an id that has this log's name in it", hub.Event{ID: log.Head().Epoch}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.ev.Topics = []string{"a"}
			_, err := h.Publish(t.Context(), hub.Publication{Events: []hub.Event{tt.ev}})
			if tt.field != "" {
				wantProblem(t, err, hub.ProblemField, tt.field)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPublish_RetryIsClamped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, hub.Options{})
		for _, tt := range []struct{ in, want time.Duration }{
			{0, 0}, {1, 100 * time.Millisecond}, {99 * time.Millisecond, 100 * time.Millisecond}, {100 * time.Millisecond, 100 * time.Millisecond},
			{3 * time.Second, 3 * time.Second}, {24 * time.Hour, 24 * time.Hour}, {24*time.Hour + 1, 24 * time.Hour}, {1 << 62, 24 * time.Hour},
		} {
			r := read(t, h, hub.Filter{Topics: []string{"a"}})
			r.take()
			publish(t, h, hub.Event{Topics: []string{"a"}, Retry: tt.in})
			if got, _ := r.take(); got.Retry != tt.want {
				t.Errorf("%v: got %v, want %v", tt.in, got.Retry, tt.want)
			}
		}
	})
}

// TestPublish_TakesNoHoldOfTheCallersMemory has a publisher that goes on to use the
// slices that it has published from.
func TestPublish_TakesNoHoldOfTheCallersMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, hub.Options{})
		r := read(t, h, hub.Filter{Topics: []string{"a"}})
		r.take()
		topics := []string{"a", "b"}
		events := []hub.Event{{Topics: topics, Data: "1"}, {Topics: topics, Data: "2"}}
		publish(t, h, events...)
		topics[0], topics[1], events[0].Data = "x", "y", "z"
		for _, s := range r.all() {
			if !slices.Equal(s.Topics, []string{"a", "b"}) || s.Data != "1" && s.Data != "2" {
				t.Errorf("got %+v, want the event as it was published", s.Delivery)
			}
		}
	})
}

func TestPublish_IdempotencyKey(t *testing.T) {
	c := &clock{noon}
	log := newLog(t, &memory.Options{Now: c.time, KeyLife: time.Hour})
	h := newHub(t, hub.Options{Log: log})
	wrong := "nobody's"
	key := func(key string, events ...hub.Event) hub.Publication {
		return hub.Publication{IdempotencyKey: key, Events: events}
	}
	steps := []struct {
		name     string
		after    time.Duration
		p        hub.Publication
		want     []uint64
		replayed bool
		err      error
	}{
		{"first", 0, key("k", event("a", "1")), []uint64{1}, false, nil},
		{"a repeat", 0, key("k", event("a", "1")), []uint64{1}, true, nil},
		{"other data", 0, key("k", event("a", "2")), nil, false, hub.ErrKeyReused},
		{"another type", 0, key("k", hub.Event{Topics: []string{"a"}, Data: "1", Type: "t"}), nil, false, hub.ErrKeyReused},
		{"another id", 0, key("k", hub.Event{Topics: []string{"a"}, Data: "1", ID: "i"}), nil, false, hub.ErrKeyReused},
		{"private", 0, key("k", hub.Event{Topics: []string{"a"}, Data: "1", Private: true}), nil, false, hub.ErrKeyReused},
		{"an event more", 0, key("k", event("a", "1"), event("a", "1")), nil, false, hub.ErrKeyReused},
		{"an end more", 0, hub.Publication{IdempotencyKey: "k", Events: []hub.Event{event("a", "1")}, End: []string{"a"}}, nil, false, hub.ErrKeyReused},
		{"another key", 0, key("l", event("a", "1")), []uint64{2}, false, nil},
		{"the same key on another topic", 0, key("k", event("b", "1")), []uint64{3}, false, nil},
		{"the same key on two topics", 0, key("k", event("a,b", "1")), []uint64{4}, false, nil},
		{"a batch", 0, key("batch", event("a", "1"), event("c", "2")), []uint64{5, 6}, false, nil},
		{"the batch again", 0, key("batch", event("a", "1"), event("c", "2")), []uint64{5, 6}, true, nil},
		{"the batch in another order", 0, key("batch", event("a", "2"), event("c", "1")), nil, false, hub.ErrKeyReused},
		{"no key", 0, key("", event("a", "1")), []uint64{7}, false, nil},
		{"no key again", 0, key("", event("a", "1")), []uint64{8}, false, nil},
		{"a repeat whose condition no longer holds", 0, hub.Publication{IdempotencyKey: "k", Events: []hub.Event{event("a", "1")}, IfNewest: &wrong}, []uint64{1}, true, nil},
		{"an end", 0, hub.Publication{IdempotencyKey: "end", End: []string{"a"}}, nil, false, nil},
		{"the end again", 0, hub.Publication{IdempotencyKey: "end", End: []string{"a"}}, nil, true, nil},
		{"a repeat after the topic was closed", 0, key("k", event("a", "1")), []uint64{1}, true, nil},
		{"at the end of its life", time.Hour, key("k", event("b", "1")), []uint64{3}, true, nil},
		{"after its life", 1, key("k", event("b", "other")), []uint64{10}, false, nil},
	}
	for _, tt := range steps {
		c.now = c.now.Add(tt.after)
		got, err := h.Publish(t.Context(), tt.p)
		if !errors.Is(err, tt.err) || !slices.Equal(got.Sequences, tt.want) || got.Replayed != tt.replayed {
			t.Errorf("%s: got sequences %v, replayed %v, %v; want %v, %v, %v", tt.name, got.Sequences, got.Replayed, err, tt.want, tt.replayed, tt.err)
		}
	}
	if got := log.Head().Seq; got != 10 {
		t.Errorf("got %d records, want 10", got)
	}
}

// TestPublish_OneKeyAtOnce has the same publication many times at once.
func TestPublish_OneKeyAtOnce(t *testing.T) {
	log := newLog(t, nil)
	h := newHub(t, hub.Options{Log: log})
	var first atomic.Int32
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			receipt, err := h.Publish(t.Context(), hub.Publication{IdempotencyKey: "k", Events: []hub.Event{event("a", "1")}})
			if err != nil || !slices.Equal(receipt.Sequences, []uint64{1}) {
				t.Errorf("got %+v, %v, want sequence 1", receipt, err)
			}
			if !receipt.Replayed {
				first.Add(1)
			}
		})
	}
	all.Wait()
	if first.Load() != 1 || log.Head().Seq != 1 {
		t.Errorf("got %d first ones and %d events, want one of each", first.Load(), log.Head().Seq)
	}
}

func TestPublish_IfNewest(t *testing.T) {
	log := newLog(t, &memory.Options{Retention: hub.RetentionRules{{Pattern: "**", Retention: hub.Retention{Count: 2}}}})
	h := newHub(t, hub.Options{Log: log})
	epoch := log.Head().Epoch
	position := func(seq uint64) string { return hub.Position(epoch, seq) }
	steps := []struct {
		name   string
		newest string
		events []hub.Event
		want   uint64 // the first sequence; 0 if it is refused
		actual string // the newest id that a refusal tells of
	}{
		{"none yet, but something is expected", "x", []hub.Event{event("a", "")}, 0, ""},
		{"none yet", "", []hub.Event{event("a", "")}, 1, ""},
		{"none yet, but there is one", "", []hub.Event{event("a", "")}, 0, position(1)},
		{"its position", position(1), []hub.Event{{Topics: []string{"a"}, ID: "own"}}, 2, ""},
		{"one that was", position(1), []hub.Event{event("a", "")}, 0, "own"},
		{"its own id", "own", []hub.Event{{Topics: []string{"a"}, ID: "own2"}}, 3, ""},
		{"the position of one with an own id", position(3), []hub.Event{event("a", "")}, 4, ""},
		{"a position to come", position(9), []hub.Event{event("a", "")}, 0, position(4)},
		{"the canonical topic counts", "", []hub.Event{event("b,a", "")}, 5, ""},
		{"other topics do not", position(5), []hub.Event{event("a,c", ""), event("c", "")}, 6, ""},
		{"the first event of a batch counts", position(6), []hub.Event{event("a", ""), event("b", "")}, 8, ""},
	}
	for _, tt := range steps {
		got, err := h.Publish(t.Context(), hub.Publication{Events: tt.events, IfNewest: &tt.newest})
		if tt.want == 0 {
			var conflict *hub.ConflictError
			if !errors.As(err, &conflict) || conflict.NewestID != tt.actual || conflict.Topic != tt.events[0].Topics[0] {
				t.Errorf("%s: got %+v, want a *ConflictError with newest %q", tt.name, err, tt.actual)
			}
			continue
		}
		if err != nil || got.Sequences[0] != tt.want {
			t.Errorf("%s: got %v, %v, want sequence %d", tt.name, got.Sequences, err, tt.want)
		}
	}
	// The newest is remembered when it is no longer there.
	forget(t, h, "a")
	newest := position(8)
	if _, err := h.Publish(t.Context(), hub.Publication{Events: []hub.Event{event("a", "")}, IfNewest: &newest}); err != nil {
		t.Errorf("after forgetting: %v", err)
	}
}

// TestPublish_IfNewestHoldsForAnEndAlone closes a topic on a condition: one that does
// not hold must not close it.
func TestPublish_IfNewestHoldsForAnEndAlone(t *testing.T) {
	h := newHub(t, hub.Options{})
	publish(t, h, hub.Event{Topics: []string{"a"}, ID: "1"})
	wrong := "2"
	_, err := h.Publish(t.Context(), hub.Publication{End: []string{"a"}, IfNewest: &wrong})
	info, _ := h.Topic(t.Context(), "a")
	if err == nil || info.Closed {
		t.Errorf("got %v and closed %v, want an error and an open topic", err, info.Closed)
	}
}

// TestPublish_IfNewestHasOneWinner has 32 publishers who all want to be the next.
func TestPublish_IfNewestHasOneWinner(t *testing.T) {
	h := newHub(t, hub.Options{})
	newest := ""
	for round := range 20 {
		var winners atomic.Int32
		var won atomic.Value
		var all sync.WaitGroup
		for p := range 32 {
			all.Go(func() {
				own := fmt.Sprintf("%d by %d", round, p)
				_, err := h.Publish(t.Context(), hub.Publication{
					Events: []hub.Event{{Topics: []string{"a"}, ID: own}}, IfNewest: &newest,
				})
				var conflict *hub.ConflictError
				switch {
				case err == nil:
					winners.Add(1)
					won.Store(own)
				case !errors.As(err, &conflict):
					t.Errorf("got %v, want a *ConflictError", err)
				}
			})
			// Other topics are nobody's concern.
			all.Go(func() {
				if _, err := h.Publish(t.Context(), hub.Publication{Events: []hub.Event{event("b", "")}}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if winners.Load() != 1 {
			t.Fatalf("round %d: got %d winners, want 1", round, winners.Load())
		}
		newest = won.Load().(string)
	}
}

func TestTopics(t *testing.T) {
	long := strings.Repeat("x", hub.MaxTopicSize)
	tests := []struct {
		name, topic    string
		topicOK, patOK bool
	}{
		{"a word", "news", true, true},
		{"an IRI", "https://example.com/x?y=z#é", true, true},
		{"empty segments", "/a//b/", true, true},
		{"a slash", "/", true, true},
		{"spaces and other scripts", " 新聞 ", true, true},
		{"as long as can be", long, true, true},
		{"longer", long + "x", false, false},
		{"longer in bytes", long[2:] + "é" + "x", false, false},
		{"empty", "", false, false},
		{"not UTF-8", "a\xc3", false, false},
		{"a line break", "a\nb", false, false},
		{"a NUL", "a\x00", false, false},
		{"a DEL", "a\x7f", false, false},
		{"a control character beyond ASCII", "a\u0085", false, false},
		{"a star", "*", true, true},
		{"stars at the end", "a/*/**", true, true},
		{"stars before the end", "**/a", true, false},
		{"a star in a segment", "a/b*", true, false},
		{"three stars", "***", true, false},
	}
	for _, tt := range tests {
		if err := hub.CheckTopic(tt.topic); (err == nil) != tt.topicOK {
			t.Errorf("topic with %s: got %v, want ok %v", tt.name, err, tt.topicOK)
		}
		if err := hub.CheckPattern(tt.topic); (err == nil) != tt.patOK {
			t.Errorf("pattern with %s: got %v, want ok %v", tt.name, err, tt.patOK)
		}
	}
}

func TestMatch(t *testing.T) {
	tests := []struct {
		pattern, topic string
		want           bool
	}{
		{"a", "a", true}, {"a", "A", false}, {"a", "a/", false}, {"a/", "a/", true},
		{"*", "a", true}, {"*", "", true}, {"*", "a/b", false},
		{"a/*", "a/b", true}, {"a/*", "a/", true}, {"a/*", "a", false}, {"a/*", "a/b/c", false},
		{"*/b", "a/b", true}, {"*/b", "b", false}, {"*/*", "a/b", true},
		{"**", "a", true}, {"**", "a/b/c", true}, {"**", "/", true},
		{"a/**", "a", true}, {"a/**", "a/b", true}, {"a/**", "a/b/c", true}, {"a/**", "ab", false}, {"a/**", "b/a", false},
		{"a/b/**", "a", false}, {"a/b/**", "a/b", true}, {"*/**", "a", true}, {"*/**", "a/b/c", true}, {"*/b/**", "a", false},
		{"a//b", "a//b", true}, {"a/*/b", "a//b", true}, {"a//b", "a/b", false},
		{"https://example.com/*", "https://example.com/x", true}, {"https://*/x", "https://example.com/x", true},
	}
	for _, tt := range tests {
		if got := hub.Match(tt.pattern, tt.topic); got != tt.want {
			t.Errorf("Match(%q, %q): got %v, want %v", tt.pattern, tt.topic, got, tt.want)
		}
	}
}

func TestRetentionRules_TheFirstThatMatchesCounts(t *testing.T) {
	rules := hub.RetentionRules{
		{Pattern: "a/b", Retention: hub.Retention{Count: 1}},
		{Pattern: "a/**", Retention: hub.Retention{Count: 2}},
		{Pattern: "*", Retention: hub.Retention{Count: 3}},
	}
	for topic, want := range map[string]int64{"a/b": 1, "a": 2, "a/c": 2, "b": 3, "b/c": 0} {
		if got := rules.For(topic).Count; got != want {
			t.Errorf("%s: got %d, want %d", topic, got, want)
		}
	}
}
