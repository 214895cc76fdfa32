package hub_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
)

// The property test: a hub and a model of it do the same random things, step by step,
// and what each subscriber gets must be exactly what the model says, gaps included.
//
// Under synctest the hub is at rest after each step, so that the model knows what it
// has where. A subscriber looks at the order only when it is asked for more and has
// handed out what it found the last time it looked.

// A model is a slice of all events, and which of their topics still have them.
type model struct {
	hot    bool // the hub's memory holds everything; else next to nothing
	rules  hub.RetentionRules
	head   uint64
	events []*modelEvent
	times  []modelTime
	ids    map[string]uint64 // of publishers, by first use
	closed map[string]bool
}

type modelEvent struct {
	hub.Event
	seq      uint64
	time     time.Time
	expired  map[string]bool // the topics from which retention has removed it
	forgot   map[string]bool // those from which it was forgotten
	position string
	wire     string // its id on the wire
}

// A modelTime is when a group came.
type modelTime struct {
	first uint64
	time  time.Time
}

// publish does what the Log does, and tells whether it is refused.
func (m *model) publish(epoch string, now time.Time, events []hub.Event, end []string) (refused bool) {
	for _, ev := range events {
		if slices.ContainsFunc(ev.Topics, func(topic string) bool { return m.closed[topic] }) {
			return true
		}
	}
	m.expire(now)
	before := m.head
	for _, ev := range events {
		m.head++
		e := &modelEvent{Event: ev, seq: m.head, time: now, expired: map[string]bool{}, forgot: map[string]bool{}, position: hub.Position(epoch, m.head)}
		e.wire = e.position
		if ev.ID != "" {
			e.wire = ev.ID
			if _, ok := m.ids[ev.ID]; !ok {
				m.ids[ev.ID] = m.head
			}
		}
		m.events = append(m.events, e)
		for _, topic := range ev.Topics {
			m.shorten(topic)
		}
	}
	for _, topic := range end {
		if !m.closed[topic] {
			m.closed[topic] = true
			m.head++
		}
	}
	m.mark(before, now)
	return false
}

func (m *model) forget(now time.Time, topic string) {
	m.expire(now)
	for _, e := range m.events {
		e.forgot[topic] = true // also what retention has removed and the hub still has
	}
	m.head++
	m.mark(m.head-1, now)
}

func (m *model) mark(before uint64, now time.Time) {
	if m.head > before {
		m.times = append(m.times, modelTime{before + 1, now})
	}
}

// expire lets retention by age run.
func (m *model) expire(now time.Time) {
	for _, e := range m.events {
		for _, topic := range e.Topics {
			if age := m.rules.For(topic).Age; age > 0 && now.Sub(e.time) > age && e.keptBy(topic) {
				e.expired[topic] = true
			}
		}
	}
}

// shorten lets retention by count run.
func (m *model) shorten(topic string) {
	count := m.rules.For(topic).Count
	var kept []*modelEvent
	for _, e := range m.events {
		if e.keptBy(topic) {
			kept = append(kept, e)
		}
	}
	if count > 0 && int64(len(kept)) > count {
		for _, e := range kept[:int64(len(kept))-count] {
			e.expired[topic] = true
		}
	}
}

// keptBy tells whether a topic's history has the event.
func (e *modelEvent) keptBy(topic string) bool {
	return slices.Contains(e.Topics, topic) && !e.expired[topic] && !e.forgot[topic]
}

// A modelSubscriber is what a cursor should be.
type modelSubscriber struct {
	filter  hub.Filter
	pos     uint64 // it has looked at everything up to here
	history uint64 // up to here it is given what is kept, and no more
	whole   bool   // it has not looked yet, and asks for what is kept
	gap     hub.Lost
	maybe   bool          // nothing that it wants is lost, and the hot log may know it
	queue   []*modelEvent // found, and not yet handed out
	began   bool

	// Of the last gap, whose Resumed may be anything in between.
	resumedFrom, resumedTo uint64
}

// A modelStep is what a subscriber is to get next.
type modelStep struct {
	event *modelEvent
	gap   hub.Lost
	maybe bool // it may also be that there is no gap
	ended bool
}

func (s modelStep) String() string {
	switch {
	case s.ended:
		return "end"
	case s.event != nil:
		return s.event.Data
	}
	return "gap " + string(s.gap)
}

// begin finds the place of a subscriber that looks for the first time.
func (m *model) begin(s *modelSubscriber, epoch string) {
	s.began = true
	s.history = m.head
	switch start := s.filter.From; {
	case start.LastEventID != "":
		s.pos, s.gap = m.locate(start.LastEventID, epoch)
	case start.Earliest:
		s.whole = true
	case !start.Since.IsZero():
		s.pos = m.head
		if i := slices.IndexFunc(m.times, func(t modelTime) bool { return !t.time.Before(start.Since) }); i >= 0 {
			s.pos = m.times[i].first - 1
		}
	case start.Last > 0:
		s.whole = true
		found := m.find(&s.filter, 0, false)
		if len(found) >= start.Last {
			s.pos = found[len(found)-start.Last].seq - 1
		}
	default:
		s.pos = m.head
	}
}

func (m *model) locate(id, epoch string) (uint64, hub.Lost) {
	if seq, ok := m.ids[id]; ok {
		return seq, hub.Found
	}
	var seq uint64
	other, digits, isPosition := strings.Cut(id, "-")
	if isPosition {
		_, _ = fmt.Sscan(digits, &seq)
	}
	switch {
	case isPosition && (other != epoch || seq > m.head):
		return 0, hub.LostEpoch
	case !isPosition:
		return 0, hub.LostUnknown
	}
	return seq, hub.Found
}

// find returns what a filter selects above a place. The hub's memory keeps what
// retention removes, but not what is forgotten.
func (m *model) find(f *hub.Filter, pos uint64, hot bool) []*modelEvent {
	var found []*modelEvent
	for _, e := range m.events {
		if e.seq > pos && m.has(f, e, hot) && wanted(*f, e.Event) {
			found = append(found, e)
		}
	}
	return found
}

// has tells whether an event is there under a topic that a filter selects.
func (m *model) has(f *hub.Filter, e *modelEvent, hot bool) bool {
	return slices.ContainsFunc(e.Topics, func(topic string) bool {
		return wantedTopic(*f, topic) && !e.forgot[topic] && (hot || !e.expired[topic])
	})
}

// look has a subscriber look at everything above its place.
func (m *model) look(s *modelSubscriber) {
	hot := m.hot && s.pos >= s.history
	for _, e := range m.events {
		lost := e.seq > s.pos && slices.ContainsFunc(e.Topics, func(topic string) bool { return wantedTopic(s.filter, topic) }) && !m.has(&s.filter, e, hot)
		// A log knows topics only: what it has lost may have been of another type.
		if !lost || s.whole || s.gap != "" && !s.maybe {
			continue
		}
		if isWanted := wanted(s.filter, e.Event); isWanted || !hot {
			s.gap, s.maybe = hub.LostExpired, !isWanted && s.pos >= s.history
		}
	}
	s.queue = m.find(&s.filter, s.pos, hot)
	s.resumedFrom, s.resumedTo = s.pos, m.head
	if len(s.queue) > 0 {
		s.resumedTo = s.queue[0].seq - 1
	}
	s.pos, s.whole = m.head, false
}

// next returns what a subscriber gets when it asks, or false if it must wait.
func (m *model) next(s *modelSubscriber, epoch string) (modelStep, bool) {
	if !s.began {
		m.begin(s, epoch)
	}
	if len(s.queue) == 0 {
		m.look(s)
	}
	if s.gap != "" {
		step := modelStep{gap: s.gap, maybe: s.maybe}
		s.gap, s.maybe = "", false
		return step, true
	}
	if len(s.queue) > 0 {
		step := modelStep{event: s.queue[0]}
		s.queue = s.queue[1:]
		return step, true
	}
	open := len(s.filter.Patterns) > 0
	for _, topic := range s.filter.Topics {
		open = open || !m.closed[topic]
	}
	return modelStep{ended: true}, !open
}

// A pair is a subscriber and its model.
type pair struct {
	name string
	r    *reader
	m    *modelSubscriber
	due  *modelStep // the model's, for a reader that has waited
	wait bool
	over bool   // its iterator has ended
	last string // the last id that it got, "" if none
}

// A trial is one run of the property test.
type trial struct {
	t       *testing.T
	rand    *rand.Rand
	clock   *clock
	log     *memory.Log
	hub     *hub.Hub
	m       *model
	pairs   []*pair
	names   int // of subscribers
	numbers int // of events
	events  int // that subscribers got
	gaps    int // that they were told of
	history []string
}

func (tr *trial) note(format string, args ...any) {
	tr.history = append(tr.history, fmt.Sprintf(format, args...))
}

// fail ends the trial, and tells how it came to this.
func (tr *trial) fail(format string, args ...any) {
	tr.t.Helper()
	tr.t.Fatalf("%s\nafter:\n%s", fmt.Sprintf(format, args...), strings.Join(tr.history, "\n"))
}

var modelTopics = []string{"a", "b", "a/x", "a/y/z", "c"}

func (tr *trial) topic() string { return modelTopics[tr.rand.IntN(len(modelTopics))] }

func (tr *trial) chance(percent int) bool { return tr.rand.IntN(100) < percent }

func (tr *trial) pick(all ...string) string { return all[tr.rand.IntN(len(all))] }

// event draws an event.
func (tr *trial) event() hub.Event {
	tr.numbers++
	ev := hub.Event{Topics: []string{tr.topic()}, Type: tr.pick("", "", "message", "t", "u"), Data: fmt.Sprint("#", tr.numbers), Private: tr.chance(10)}
	if other := tr.topic(); tr.chance(30) && other != ev.Topics[0] {
		ev.Topics = append(ev.Topics, other)
	}
	if tr.chance(40) {
		ev.ID = fmt.Sprint("own", tr.numbers)
		if tr.chance(10) {
			ev.ID = fmt.Sprint("own", 1+tr.rand.IntN(tr.numbers)) // perhaps for a second time
		}
	}
	return ev
}

func (tr *trial) publish() {
	var events []hub.Event
	for range 1 + max(0, tr.rand.IntN(8)-5) {
		events = append(events, tr.event())
	}
	var end []string
	if tr.chance(3) {
		end = []string{tr.topic()}
		if tr.chance(50) {
			events = nil
		}
	}
	tr.note("publish %+v end %q", events, end)
	tr.clock.now = tr.clock.now.Add(time.Second)
	_, err := tr.hub.Publish(tr.t.Context(), hub.Publication{Events: events, End: end})
	if refused := tr.m.publish(tr.log.Head().Epoch, tr.clock.now, events, end); refused != errors.Is(err, hub.ErrClosed) || !refused && err != nil {
		tr.fail("publish: got %v, want refused %v", err, refused)
	}
	named := end
	for _, ev := range events {
		named = append(named, ev.Topics...)
	}
	tr.settle(named)
}

func (tr *trial) forget() {
	topic := tr.topic()
	tr.note("forget %s", topic)
	tr.clock.now = tr.clock.now.Add(time.Second)
	if err := tr.hub.Forget(tr.t.Context(), topic); err != nil {
		tr.fail("forget: %v", err)
	}
	tr.m.forget(tr.clock.now, topic)
	tr.settle([]string{topic})
}

// settle has those who wait for one of some topics look, in the model as in the hub.
func (tr *trial) settle(topics []string) {
	synctest.Wait()
	if got := tr.log.Head().Seq; got != tr.m.head {
		tr.fail("got head %d, want %d", got, tr.m.head)
	}
	for _, p := range tr.pairs {
		if p.wait && slices.ContainsFunc(topics, func(topic string) bool { return wantedTopic(p.m.filter, topic) }) {
			if step, ok := tr.m.next(p.m, tr.log.Head().Epoch); ok {
				p.due, p.wait = &step, false
			}
		}
	}
}

// filter draws what a subscriber wants.
func (tr *trial) filter() hub.Filter {
	var f hub.Filter
	for range tr.rand.IntN(3) {
		f.Topics = append(f.Topics, tr.topic())
	}
	if len(f.Topics) == 0 || tr.chance(20) {
		f.Patterns = append(f.Patterns, tr.pick("*", "**", "a/**", "a/*", "*/x"))
	}
	if tr.chance(25) {
		f.Types = []string{tr.pick("message", "t")}
	}
	if tr.chance(30) {
		f.Private = everyTopic
	}
	f.From = tr.start()
	return f
}

// start draws where a subscriber begins.
func (tr *trial) start() hub.Start {
	epoch := tr.log.Head().Epoch
	switch tr.rand.IntN(8) {
	case 0:
		return hub.Start{Earliest: true}
	case 1:
		return hub.Start{Last: 1 + tr.rand.IntN(5)}
	case 2:
		return hub.Start{Since: tr.clock.now.Add(-time.Duration(tr.rand.IntN(30)) * time.Second)}
	case 3:
		return hub.Start{LastEventID: tr.pick("nobody's", "zzzzzz-3", hub.Position(epoch, tr.m.head+1+uint64(tr.rand.IntN(3))))}
	case 4, 5:
		return hub.Start{LastEventID: hub.Position(epoch, uint64(tr.rand.IntN(int(tr.m.head)+1)))}
	case 6:
		if len(tr.m.events) > 0 {
			return hub.Start{LastEventID: tr.m.events[tr.rand.IntN(len(tr.m.events))].wire}
		}
	}
	return hub.Start{}
}

// come adds a subscriber.
func (tr *trial) come(name string, f hub.Filter) {
	tr.note("%s comes with %+v", name, f)
	tr.pairs = append(tr.pairs, &pair{name: name, r: read(tr.t, tr.hub, f), m: &modelSubscriber{filter: f}})
}

// leave removes one, who may come back at once.
func (tr *trial) leave(p *pair) {
	tr.note("%s leaves", p.name)
	p.r.stop()
	synctest.Wait()
	tr.pairs = slices.DeleteFunc(tr.pairs, func(other *pair) bool { return other == p })
	if p.last == "" || !tr.chance(80) {
		return
	}
	f := p.m.filter
	f.From = hub.Start{LastEventID: p.last}
	if tr.chance(10) {
		if f.Private == nil {
			f.Private = everyTopic
		} else {
			f.Private = nil
		}
	}
	tr.come(p.name, f)
}

// take has a subscriber ask for one thing, and compares what it gets. It returns false
// if there is nothing, or nothing more.
func (tr *trial) take(p *pair) bool {
	if p.over {
		return false
	}
	want, ok := modelStep{}, true
	switch {
	case p.due != nil:
		want, p.due = *p.due, nil
	case p.wait: // it waits, and nothing has come
		ok = false
	default:
		want, ok = tr.m.next(p.m, tr.log.Head().Epoch)
		p.wait = !ok
	}
	got, gotOne := p.r.take()
	if want.maybe && !errors.As(got.err, new(*hub.GapError)) {
		want, ok = tr.m.next(p.m, tr.log.Head().Epoch)
		p.wait = !ok
	}
	switch {
	case !ok && gotOne:
		tr.fail("%s: got %q, want it to wait", p.name, got)
	case ok && !gotOne:
		tr.fail("%s: got nothing, want %q", p.name, want)
	case !ok:
		return false
	}
	tr.note("%s gets %s", p.name, got)
	if got.String() != want.String() {
		tr.fail("%s: got %q, want %q", p.name, got, want)
	}
	var gap *hub.GapError
	switch {
	case want.ended:
		p.over = true
		return false
	case errors.As(got.err, &gap):
		resumed := sequence(tr.t, gap.Resumed)
		if gap.Requested != p.m.filter.From.LastEventID || resumed < p.m.resumedFrom || resumed > p.m.resumedTo {
			tr.fail("%s: got gap %+v, want it to resume between %d and %d", p.name, gap, p.m.resumedFrom, p.m.resumedTo)
		}
		p.last = gap.Resumed
		tr.gaps++
	default:
		e := want.event
		d := got.Delivery
		if d.ID != e.wire || d.Position != e.position || !d.Time.Equal(e.time) || d.Event.ID != e.ID || d.Type != e.Type || d.Private != e.Private || !slices.Equal(d.Topics, e.Topics) {
			tr.fail("%s: got %+v, want %+v", p.name, d, e)
		}
		p.last = d.ID
		tr.events++
	}
	return true
}

func (tr *trial) drain(p *pair) {
	for tr.take(p) {
	}
}

// run does random things.
func (tr *trial) run() {
	const steps, subscribers = 250, 6
	for range steps {
		var p *pair
		if len(tr.pairs) > 0 {
			p = tr.pairs[tr.rand.IntN(len(tr.pairs))]
		}
		switch n := tr.rand.IntN(100); {
		case n < 45:
			tr.publish()
		case n < 48:
			tr.forget()
		case n < 55 && len(tr.pairs) < subscribers:
			tr.names++
			tr.come(fmt.Sprint("s", tr.names), tr.filter())
		case p == nil:
		case n < 62:
			tr.leave(p)
		case n < 80:
			tr.drain(p)
		default: // a few, and then it stalls
			for range 1 + tr.rand.IntN(3) {
				tr.take(p)
			}
		}
	}
	for _, p := range tr.pairs {
		tr.drain(p)
	}
	tr.publish()
	for _, p := range tr.pairs {
		tr.drain(p)
	}
}

// rulesOf draws retention rules.
func rulesOf(r *rand.Rand) hub.RetentionRules {
	all := hub.RetentionRules{
		{Pattern: "a", Retention: hub.Retention{Count: 1 + r.Int64N(4)}},
		{Pattern: "a/*", Retention: hub.Retention{Age: time.Duration(1+r.IntN(20)) * time.Second}},
		{Pattern: "b", Retention: hub.Retention{Age: time.Duration(5+r.IntN(20)) * time.Second, Count: 3}},
		{Pattern: "**", Retention: hub.Retention{Count: 5 + r.Int64N(10)}},
	}
	return all[:r.IntN(len(all)+1)]
}

func TestHub_EverySubscriberSeesWhatTheModelSays(t *testing.T) {
	seeds := []uint64{rand.Uint64()}
	for seed := range uint64(80) {
		seeds = append(seeds, seed)
	}
	for name, hot := range map[string]bool{"in memory": true, "from the log": false} {
		t.Run(name, func(t *testing.T) {
			events, gaps := 0, 0
			for _, seed := range seeds {
				synctest.Test(t, func(t *testing.T) {
					defer func() {
						if t.Failed() {
							t.Logf("the seed is %d", seed)
						}
					}()
					r := rand.New(rand.NewPCG(seed, 0))
					c := &clock{noon}
					rules := rulesOf(r)
					log := newLog(t, &memory.Options{Now: c.time, Retention: rules})
					opts := hub.Options{Log: log, HotBytes: 1}
					if hot {
						opts.HotBytes = 0
					}
					tr := &trial{t: t, rand: r, clock: c, log: log, hub: newHub(t, opts), m: &model{
						hot: hot, rules: rules, ids: make(map[string]uint64), closed: make(map[string]bool),
					}}
					tr.note("retention %+v", rules)
					tr.run()
					events, gaps = events+tr.events, gaps+tr.gaps
				})
				if t.Failed() {
					return
				}
			}
			t.Logf("%d trials, %d events, %d gaps", len(seeds), events, gaps)
			if events == 0 || gaps == 0 {
				t.Error("the trials test nothing")
			}
		})
	}
}
