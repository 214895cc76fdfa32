package hubtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// A ledger says by the plainest means what is kept: every event of a topic stands on
// the topic's shelf, and is moved from what is kept to what is gone.
type ledger struct {
	epoch   string
	rules   hub.RetentionRules
	shelves map[string]*shelf
}

type shelf struct {
	kept, gone []entry
}

type entry struct {
	seq   uint64
	time  time.Time
	event *hub.Event
}

func (l *ledger) shelf(topic string) *shelf {
	if l.shelves[topic] == nil {
		l.shelves[topic] = &shelf{}
	}
	return l.shelves[topic]
}

// add enters a group that was stored, and applies the rules.
func (l *ledger) add(g *hub.Group, r hub.Receipt) {
	for i := range g.Events {
		for _, topic := range g.Events[i].Topics {
			s := l.shelf(topic)
			s.kept = append(s.kept, entry{r.Sequences[i], r.Time, &g.Events[i]})
		}
	}
	if g.Forget != "" {
		l.shelf(g.Forget).remove(len(l.shelf(g.Forget).kept))
	}
	for topic, s := range l.shelves {
		rule := l.rules.For(topic)
		for len(s.kept) > 0 && s.exceeds(rule, r.Time) {
			s.remove(1)
		}
	}
}

func (s *shelf) remove(n int) {
	s.gone = append(s.gone, s.kept[:n]...)
	s.kept = s.kept[n:]
}

func (s *shelf) exceeds(rule hub.Retention, now time.Time) bool {
	size := int64(0)
	for _, e := range s.kept {
		size += int64(e.event.Size())
	}
	return rule.Count > 0 && int64(len(s.kept)) > rule.Count ||
		rule.Bytes > 0 && size > rule.Bytes ||
		rule.Age > 0 && now.Sub(s.kept[0].time) > rule.Age
}

func (l *ledger) id(e entry) string {
	if e.event.ID != "" {
		return e.event.ID
	}
	return hub.Position(l.epoch, e.seq)
}

// info is what Topic must return.
func (l *ledger) info(topic string) (want hub.TopicInfo) {
	s := l.shelf(topic)
	if len(s.gone) > 0 {
		e := last(s.gone)
		want.Trimmed, want.Newest, want.NewestID = e.seq, e.seq, l.id(e)
	}
	if len(s.kept) > 0 {
		e := last(s.kept)
		want.Newest, want.NewestID = e.seq, l.id(e)
		want.Oldest, want.OldestID = s.kept[0].seq, l.id(s.kept[0])
	}
	want.Count = int64(len(s.kept))
	return want
}

// read returns the sequences that a query without bounds must return, and those that
// it would have returned if nothing were removed.
func (l *ledger) read(q hub.Query) (kept, gone []uint64) {
	for topic, s := range l.shelves {
		match := func(p string) bool { return hub.Match(p, topic) }
		if !slices.Contains(q.Topics, topic) && !slices.ContainsFunc(q.Patterns, match) {
			continue
		}
		within := func(seq uint64) bool { return seq > q.After && (q.Until == 0 || seq <= q.Until) }
		for _, e := range s.kept {
			if within(e.seq) {
				kept = append(kept, e.seq)
			}
		}
		for _, e := range s.gone {
			if within(e.seq) {
				gone = append(gone, e.seq)
			}
		}
	}
	slices.Sort(kept)
	return slices.Compact(kept), gone
}

// oldest returns the lowest sequence that is kept.
func (l *ledger) oldest() (seq uint64, ok bool) {
	for _, s := range l.shelves {
		if len(s.kept) > 0 && (!ok || s.kept[0].seq < seq) {
			seq, ok = s.kept[0].seq, true
		}
	}
	return seq, ok
}

// randomHistories appends at random under rules of every kind, and compares each
// look-up with a ledger.
func randomHistories(t *run) {
	const seeds, steps = 4, 120
	for seed := range uint64(seeds) {
		clock := t.clock()
		rules := hub.RetentionRules{
			{Pattern: "a/1", Retention: hub.Retention{Count: 3}},
			{Pattern: "a/**", Retention: hub.Retention{Count: 9, Bytes: 150}},
			{Pattern: "b/*", Retention: hub.Retention{Age: 150 * time.Second}},
			{Pattern: "*", Retention: hub.Retention{Bytes: 200, Age: 450 * time.Second}},
		}
		l := t.open(Config{Now: clock.Now, Retention: rules})
		h := &history{
			t: t, l: l, clock: clock,
			random: rand.New(rand.NewPCG(7, seed)),
			ledger: &ledger{epoch: l.Head().Epoch, rules: rules, shelves: make(map[string]*shelf)},
		}
		for step := range steps {
			h.step()
			if t.Failed() {
				t.Fatalf("in step %d of seed %d", step, seed)
			}
		}
	}
}

// A history is one random sequence of appends.
type history struct {
	t      *run
	l      *probe
	clock  *clock
	random *rand.Rand
	ledger *ledger
}

var (
	historyTopics   = []string{"a", "a/1", "a/2", "a/2/x", "b/1", "b/2", "c", "d/1/2"}
	historyPatterns = []string{"**", "*", "a/*", "a/**", "*/1", "b/**", "*/*/*", "d/1/2"}
)

// some returns up to n different ones.
func (h *history) some(n int, of []string) []string {
	var some []string
	for _, i := range h.random.Perm(len(of))[:h.random.IntN(n+1)] {
		some = append(some, of[i])
	}
	return some
}

// step appends, and looks at everything.
func (h *history) step() {
	h.t.Helper()
	g := group("")
	for i := range 1 + h.random.IntN(4) {
		ev := hub.Event{Topics: h.some(3, historyTopics), Data: fmt.Sprintf("%*d", 1+h.random.IntN(40), i)}
		if ev.Topics == nil {
			ev.Topics = []string{historyTopics[h.random.IntN(len(historyTopics))]}
		}
		if h.random.IntN(3) == 0 {
			ev.ID = fmt.Sprint("id", h.random.Uint32())
		}
		g.Events = append(g.Events, ev)
	}
	if h.random.IntN(10) == 0 {
		g.Events, g.Forget = nil, historyTopics[h.random.IntN(len(historyTopics))]
	}
	// Whole minutes, so that no event is exactly as old as a rule allows.
	h.clock.step(time.Duration(h.random.IntN(2)) * time.Minute)
	h.ledger.add(g, h.l.put(g))

	for _, topic := range historyTopics {
		want, got := h.ledger.info(topic), h.l.info(topic)
		if want.Count == 0 {
			want.Oldest, got.Oldest = 0, 0 // no sequence is the oldest
		}
		if got != want {
			h.t.Errorf("topic %q: got %+v, want %+v", topic, got, want)
		}
	}
	head := h.l.Head()
	if oldest, ok := h.ledger.oldest(); ok && head.Oldest != oldest || !ok && head.Oldest != head.Seq+1 {
		h.t.Errorf("got head %+v, want oldest %d (kept: %v)", head, oldest, ok)
	}
	for range 4 {
		h.query(head.Seq)
	}
}

// query reads at random.
func (h *history) query(head uint64) {
	h.t.Helper()
	q := hub.Query{Topics: h.some(3, historyTopics), Patterns: h.some(2, historyPatterns), Limit: h.random.IntN(10)}
	if q.Topics == nil && q.Patterns == nil {
		q.Patterns = everything
	}
	if h.random.IntN(2) == 0 {
		q.After = h.random.Uint64N(head + 1)
	}
	if h.random.IntN(3) == 0 {
		q.Until = q.After + h.random.Uint64N(head-q.After+1)
	}
	if h.random.IntN(4) == 0 {
		q.Bytes = 1 + h.random.IntN(100)
	}
	kept, gone := h.ledger.read(q)
	h.l.expect(q, kept...)

	missing := func(seq uint64) bool { return !slices.Contains(kept, seq) }
	switch gap := h.l.page(q).Gap; {
	case !gap && slices.ContainsFunc(gone, missing):
		h.t.Errorf("read %+v: got no gap, where %d are removed", q, gone)
	case gap && len(gone) == 0 && len(q.Patterns) == 0 && q.Until == 0:
		h.t.Errorf("read %+v: got a gap, where nothing is removed", q)
	}

	newest := q
	newest.Newest, newest.Bytes, newest.Limit = true, 0, 1+h.random.IntN(5)
	want := kept[max(0, len(kept)-newest.Limit):]
	if got := sequences(h.l.page(newest).Records); !slices.Equal(got, want) {
		h.t.Errorf("read %+v: got %d, want %d", newest, got, want)
	}
}
