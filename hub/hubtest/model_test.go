package hubtest_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/hub/hubtest"
)

// A bug is a mistake that is made within the model, for want of a way to make it from
// outside.
type bug int

const (
	none bug = iota
	closedAcceptsOnce
	keyOfFirstTopic
	keyOfJoinedTopics
	keyOfOrderedTopics
	refusalUsesKey
	tornWrite
	ackBeforeSync
	storedThoughUnavailable
	goesOnAfterSync
	sequenceFromKept
	trimmedEverywhere
	forgottenEverywhere
	timeFalls
	ageOfOwnTopic
	forgetReopens
	trimsNothing
	retentionOutlivesEnd
)

// A model is the plainest correct Log: one mutex, slices, and linear scans. Several
// can stand over one store.
type model struct {
	*store
	handle int
	behind *state // what it sees while it lags
	closed bool
}

// A store is what handles share, and what survives a crash.
type store struct {
	bug     bug
	slipped string // the group that closedAcceptsOnce let through
	config  hubtest.Config

	mu     sync.Mutex
	rules  hub.RetentionRules // while it is open
	most   int64              // bytes of all events; 0: any
	state  *state
	more   chan struct{} // closed and replaced when the order grows, or a handle closes
	fault  hubtest.Fault
	steps  int          // until the fault
	late   []*hub.Group // written, and not synced, when the fault came
	saved  *state       // what a crash leaves, if it is not state
	down   bool         // nothing can be appended
	calls  int64
	looked int64 // rows looked at to answer
}

// A state is what was applied.
type state struct {
	epoch  string
	seq    uint64
	time   time.Time
	rows   []row
	topics map[string]topic
	ids    map[string]uint64 // first use
	done   []done
	times  []hub.Record // Seq and Time of all that was applied, removed or not
	lost   uint64       // the highest sequence of a row that is removed
}

type row struct {
	hub.Record
	under []string // topics that keep the event
}

type topic struct {
	newest, trimmed uint64
	newestID        string
	closed          bool
}

type done struct {
	group   *hub.Group
	receipt hub.Receipt
}

func newStore(c hubtest.Config, b bug) *store {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.KeyLife == 0 {
		c.KeyLife = 24 * time.Hour
	}
	if c.Limits == (hub.Limits{}) {
		c.Limits = hub.Limits{Group: 1000, Bytes: 1 << 20}
	}
	return &store{bug: b, config: c, rules: c.Retention, more: make(chan struct{}), state: &state{
		epoch: rand.Text(), topics: make(map[string]topic), ids: make(map[string]uint64),
	}}
}

func (s *state) clone() *state {
	c := *s
	c.rows, c.done, c.times = slices.Clone(s.rows), slices.Clone(s.done), slices.Clone(s.times)
	c.topics, c.ids = maps.Clone(s.topics), maps.Clone(s.ids)
	return &c
}

func (m *model) Append(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.down || ctx.Err() != nil {
		return hub.Receipt{}, hub.ErrUnavailable
	}
	own := *g
	own.Events = slices.Clone(g.Events)
	g = &own
	if m.meets(hubtest.FailWrite) {
		switch {
		case m.fault == hubtest.Crash:
			m.down = true
			if m.bug == tornWrite && len(g.Events) > 1 {
				g.Events = g.Events[:1]
				m.late = append(m.late, g)
			}
			return hub.Receipt{}, hub.ErrIndeterminate
		case m.bug == storedThoughUnavailable:
			m.late = append(m.late, g)
		}
		return hub.Receipt{}, hub.ErrUnavailable
	}
	if m.meets(hubtest.FailSync) {
		m.down = m.bug != goesOnAfterSync
		if m.bug == ackBeforeSync {
			m.saved = m.state.clone()
			return m.apply(g)
		}
		m.late = append(m.late, g)
		return hub.Receipt{}, hub.ErrIndeterminate
	}
	return m.apply(g)
}

// meets tells whether a step of writing meets the fault.
func (s *store) meets(step hubtest.Fault) bool {
	if s.fault != step && s.fault != hubtest.Crash {
		return false
	}
	s.steps--
	return s.steps == 0
}

// apply judges a group and changes the state. mu is held.
func (s *store) apply(g *hub.Group) (hub.Receipt, error) {
	st, now := s.state, s.config.Now()
	if now.Before(st.time) && s.bug != timeFalls {
		now = st.time
	}
	for _, d := range st.done {
		sameKey := g.Key != "" && d.group.Key == g.Key && s.scope(d.group) == s.scope(g) && now.Sub(d.receipt.Time) < s.config.KeyLife
		if sameKey && d.group.Sum != g.Sum {
			return hub.Receipt{}, hub.ErrKeyReused
		}
		if sameKey || g.ID != "" && d.group.ID == g.ID {
			r := d.receipt
			r.Replayed = true
			return r, nil
		}
	}
	if err := s.refusal(g); err != nil {
		if s.bug == refusalUsesKey && g.Key != "" {
			st.done = append(st.done, done{&hub.Group{Key: g.Key, Sum: g.Sum, Events: g.Events}, hub.Receipt{Time: now}})
		}
		return hub.Receipt{}, err
	}
	st.time = now
	receipt := hub.Receipt{Epoch: st.epoch, Time: now}
	add := func(kind hub.Kind, topics []string, ev *hub.Event) {
		st.seq++
		r := hub.Record{Seq: st.seq, Kind: kind, Time: now, Topics: topics, Event: ev}
		st.rows = append(st.rows, row{Record: r})
		st.times = append(st.times, hub.Record{Seq: st.seq, Time: now})
	}
	for _, ev := range g.Events {
		add(hub.KindEvent, ev.Topics, &ev)
		st.rows[len(st.rows)-1].under = ev.Topics
		receipt.Sequences = append(receipt.Sequences, st.seq)
		for _, name := range ev.Topics {
			t := st.topics[name]
			t.newest, t.newestID = st.seq, st.id(st.rows[len(st.rows)-1])
			st.topics[name] = t
		}
		if _, ok := st.ids[ev.ID]; !ok && ev.ID != "" {
			st.ids[ev.ID] = st.seq
		}
	}
	for _, name := range g.Close {
		if t := st.topics[name]; !t.closed {
			t.closed = true
			st.topics[name] = t
			add(hub.KindClosed, []string{name}, nil)
		}
	}
	if g.Forget != "" {
		s.remove(g.Forget, func([]row) bool { return true }, s.bug == forgottenEverywhere)
		add(hub.KindForgotten, []string{g.Forget}, nil)
		if t := st.topics[g.Forget]; s.bug == forgetReopens {
			t.closed = false
			st.topics[g.Forget] = t
		}
	}
	s.retain(g, now)
	own := hub.Group{ID: g.ID, Key: g.Key, Sum: g.Sum, Close: g.Close}
	for _, ev := range g.Events[:min(1, len(g.Events))] {
		own.Events = []hub.Event{{Topics: ev.Topics}} // the scope of the key
	}
	st.done = append(st.done, done{&own, receipt})
	close(s.more)
	s.more = make(chan struct{})
	return receipt, nil
}

func (s *store) refusal(g *hub.Group) error {
	for _, ev := range g.Events {
		for _, name := range ev.Topics {
			if t := s.state.topics[name]; t.closed {
				if s.bug == closedAcceptsOnce && (s.slipped == "" || s.slipped == g.ID) {
					s.slipped = g.ID
					continue
				}
				return hub.ErrClosed
			}
		}
	}
	if name := g.Canonical(); g.IfLast != nil && name != "" {
		if t := s.state.topics[name]; t.newest != *g.IfLast {
			return &hub.ConflictError{Topic: name, Newest: t.newest, NewestID: t.newestID}
		}
	}
	return nil
}

// scope tells keys of the same name apart.
func (s *store) scope(g *hub.Group) string {
	topics := slices.Clone(g.Close)
	if len(g.Events) > 0 {
		topics = slices.Clone(g.Events[0].Topics)
	}
	if s.bug != keyOfOrderedTopics {
		slices.Sort(topics)
	}
	switch s.bug {
	case keyOfFirstTopic:
		return topics[0]
	case keyOfJoinedTopics:
		return strings.Join(topics, ",")
	}
	return fmt.Sprintf("%q", topics)
}

// retain applies the rules to all topics.
func (s *store) retain(g *hub.Group, now time.Time) {
	for name := range s.state.topics {
		rule := s.rules.For(name)
		if rule == (hub.Retention{}) {
			continue
		}
		if s.bug == ageOfOwnTopic && !slices.ContainsFunc(g.Events, func(ev hub.Event) bool { return slices.Contains(ev.Topics, name) }) {
			continue
		}
		s.remove(name, func(kept []row) bool {
			size := int64(0)
			for _, r := range kept {
				size += int64(r.Event.Size())
			}
			return rule.Count > 0 && int64(len(kept)) > rule.Count || rule.Bytes > 0 && size > rule.Bytes ||
				rule.Age > 0 && now.Sub(kept[0].Time) > rule.Age
		}, s.bug == trimmedEverywhere)
	}
	if gone := s.tooMany(); gone > 0 {
		for name := range s.state.topics {
			s.remove(name, func(kept []row) bool { return kept[0].Seq <= gone }, false)
		}
	}
	if st := s.state; s.bug == sequenceFromKept && !slices.ContainsFunc(st.rows, func(r row) bool { return r.Kind == hub.KindEvent }) {
		st.seq = 0
	}
}

// tooMany returns the sequence of the newest event that must go for all to be small enough.
func (s *store) tooMany() (gone uint64) {
	size, n := int64(0), 0
	for _, r := range s.state.rows {
		if len(r.under) > 0 {
			size += int64(r.Event.Size())
			n++
		}
	}
	for _, r := range s.state.rows {
		if s.most == 0 || size <= s.most || n == 1 {
			break
		}
		if len(r.under) > 0 {
			size -= int64(r.Event.Size())
			n--
			gone = r.Seq
		}
	}
	return gone
}

// setRetention has other bounds hold.
func (m *model) setRetention(rules hub.RetentionRules, maxBytes int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return hub.ErrUnavailable
	}
	for _, r := range rules {
		if err := hub.CheckPattern(r.Pattern); err != nil {
			return err
		}
		if min(r.Count, r.Bytes, int64(r.Age), maxBytes) < 0 {
			return errors.New("negative")
		}
	}
	m.rules, m.most = rules, maxBytes
	if m.bug != trimsNothing {
		m.retain(&hub.Group{}, m.config.Now())
	}
	return nil
}

// remove removes a topic's oldest events while there is an excess.
func (s *store) remove(name string, excess func([]row) bool, everywhere bool) {
	st := s.state
	var kept []row
	for _, r := range st.rows {
		if slices.Contains(r.under, name) {
			kept = append(kept, r)
		}
	}
	gone := make(map[uint64]bool)
	for len(kept) > 0 && excess(kept) {
		gone[kept[0].Seq] = true
		kept = kept[1:]
	}
	if len(gone) == 0 {
		return
	}
	t := st.topics[name]
	for i, r := range st.rows {
		if !gone[r.Seq] {
			continue
		}
		t.trimmed = r.Seq
		st.rows[i].under = slices.DeleteFunc(slices.Clone(r.under), func(u string) bool { return u == name || everywhere })
		if len(st.rows[i].under) == 0 {
			st.lost = max(st.lost, r.Seq)
		}
	}
	st.topics[name] = t
	st.rows = slices.DeleteFunc(slices.Clone(st.rows), func(r row) bool { return gone[r.Seq] && len(r.under) == 0 })
}

func (s *state) id(r row) string {
	if r.Event.ID != "" {
		return r.Event.ID
	}
	return hub.Position(s.epoch, r.Seq)
}

// look returns what the handle sees, to be used until unlock is called.
func (m *model) look() (s *state, unlock func(), err error) {
	m.mu.Lock()
	m.calls++
	if m.closed {
		err = hub.ErrUnavailable
	}
	if m.behind != nil {
		return m.behind, m.mu.Unlock, err
	}
	return m.state, m.mu.Unlock, err
}

func (m *model) Read(_ context.Context, q hub.Query) (hub.Page, error) {
	s, unlock, err := m.look()
	defer unlock()
	if err != nil {
		return hub.Page{}, err
	}
	selects := func(name string) bool {
		return slices.Contains(q.Topics, name) || slices.ContainsFunc(q.Patterns, func(p string) bool { return hub.Match(p, name) })
	}
	until := s.seq
	if q.Until > 0 {
		until = min(until, q.Until)
	}
	page := hub.Page{Through: max(q.After, until)}
	for name, t := range s.topics {
		page.Gap = page.Gap || t.trimmed > q.After && selects(name)
	}
	rows := slices.Values(s.rows)
	if q.Newest {
		rows = func(yield func(row) bool) {
			slices.Backward(s.rows)(func(_ int, r row) bool { return yield(r) })
		}
	}
	bytes, last := 0, uint64(0)
	for r := range rows {
		m.looked++
		if r.Seq <= q.After || r.Seq > until || !slices.ContainsFunc(r.under, selects) {
			continue
		}
		if n := len(page.Records); n > 0 && (n == q.Limit || q.Bytes > 0 && bytes >= q.Bytes) {
			if !q.Newest {
				page.Through = last
			}
			break
		}
		page.Records, last = append(page.Records, r.Record), r.Seq
		bytes += r.Event.Size()
	}
	if q.Newest {
		slices.Reverse(page.Records)
	}
	return page, nil
}

func (m *model) Tail(ctx context.Context, after uint64) iter.Seq2[[]hub.Record, error] {
	return func(yield func([]hub.Record, error) bool) {
		for ctx.Err() == nil {
			s, unlock, err := m.look()
			var records []hub.Record
			oldest := s.seq + 1
			for i := len(s.rows) - 1; i >= 0 && s.rows[i].Seq > max(after, s.lost); i-- {
				records = append(records, s.rows[i].Record)
				oldest = s.rows[i].Seq
			}
			if after < s.lost && err == nil {
				err = &hub.TrimmedError{After: after, Oldest: oldest}
			}
			slices.Reverse(records)
			more := m.more
			unlock()
			if err != nil {
				yield(nil, err)
				return
			}
			if len(records) > 0 {
				if !yield(records, nil) {
					return
				}
				after = records[len(records)-1].Seq
				continue
			}
			select {
			case <-more:
			case <-ctx.Done():
			}
		}
	}
}

func (m *model) Locate(_ context.Context, c hub.Cursor) (hub.Location, error) {
	s, unlock, err := m.look()
	defer unlock()
	switch {
	case err != nil:
		return hub.Location{}, err
	case c.Epoch != "":
		if c.Epoch != s.epoch || c.Seq > s.seq {
			return hub.Location{Lost: hub.LostEpoch}, nil
		}
		return hub.Location{Seq: c.Seq}, nil
	case c.ID != "":
		seq, ok := s.ids[c.ID]
		if !ok {
			return hub.Location{Lost: hub.LostUnknown}, nil
		}
		return hub.Location{Seq: seq}, nil
	}
	before := uint64(0)
	for _, r := range s.times {
		m.looked++
		if r.Time.Before(c.Since) {
			before = r.Seq
		}
	}
	return hub.Location{Seq: before}, nil
}

func (m *model) Topic(_ context.Context, name string) (hub.TopicInfo, error) {
	s, unlock, err := m.look()
	defer unlock()
	if err != nil {
		return hub.TopicInfo{}, err
	}
	t := s.topics[name]
	info := hub.TopicInfo{Newest: t.newest, NewestID: t.newestID, Trimmed: t.trimmed, Closed: t.closed}
	for _, r := range s.rows {
		m.looked++
		if slices.Contains(r.under, name) {
			if info.Count++; info.Count == 1 {
				info.Oldest, info.OldestID = r.Seq, s.id(r)
			}
		}
	}
	return info, nil
}

func (m *model) Sync(ctx context.Context) (hub.Head, error) {
	for {
		s, unlock, err := m.look()
		lags, more := s == m.behind, m.more
		unlock()
		if err != nil || !lags {
			return m.Head(), err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return hub.Head{}, ctx.Err()
		}
	}
}

func (m *model) Head() hub.Head {
	s, unlock, _ := m.look()
	defer unlock()
	h := hub.Head{Epoch: s.epoch, Seq: s.seq, Oldest: s.seq + 1, Time: s.time}
	for _, r := range s.rows {
		if r.Kind == hub.KindEvent {
			h.Oldest = r.Seq
			break
		}
	}
	return h
}

func (m *model) Limits() hub.Limits { return m.config.Limits }

func (m *model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	close(m.more)
	m.more = make(chan struct{})
	return nil
}

// reopen ends a handle and returns another one over the same store.
func (m *model) reopen() *model {
	err := m.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down, m.fault = false, 0
	if m.bug != retentionOutlivesEnd {
		m.rules, m.most = m.config.Retention, 0
	}
	if m.saved != nil {
		m.state, m.saved = m.saved, nil
	}
	for _, g := range m.late {
		_, late := m.apply(g)
		err = errors.Join(err, late)
	}
	m.late = nil
	if err != nil {
		panic(err)
	}
	return &model{store: m.store}
}
