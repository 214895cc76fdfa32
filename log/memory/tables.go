package memory

import (
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/internal/tailwindow"
)

// Bounds of what is remembered beyond the events themselves, in entries.
const (
	maxGroups = 100_000   // group ids, for a repeat after an unknown outcome
	maxLostID = 100_000   // ids of removed events, which still say where they stood
	maxMarks  = 1_000_000 // times of records, for "since"
)

// A record is one step of the order, as apply takes it.
type record struct {
	seq   uint64 // of the first thing in the group
	time  time.Time
	group *hub.Group // nil: time passes, and nothing else; it uses no sequence up
}

// An entry is an event that at least one topic keeps.
type entry struct {
	seq    uint64
	time   time.Time
	event  *hub.Event
	size   int64
	topics int // that keep it
}

// tables hold all that reading needs. They change in apply only.
type tables struct {
	epoch     string
	retention *retention
	keys      keys

	seq  uint64
	time time.Time

	events queue[*entry] // all, dead ones among them until they come to the front
	dead   int
	bytes  int64 // of all live ones
	topics topics
	ids    ids
	groups *recent[hub.Receipt]
	marks  marks
	tail   *tailwindow.Window // the newest records, also of events that are removed

	excess queue[*topic] // that hold more than they may
	cut    bool          // there is more that has come of age
	left   int           // of what a record's events may remove
}

func newTables(epoch string, r *retention, keyLife time.Duration, tailBytes int) *tables {
	return &tables{
		epoch:     epoch,
		retention: r,
		keys:      keys{life: keyLife, byName: make(map[string]keyed)},
		topics:    topics{byName: make(map[string]*topic)},
		ids:       ids{first: make(map[string]uint64), lost: newRecent[struct{}](maxLostID)},
		groups:    newRecent[hub.Receipt](maxGroups),
		tail:      tailwindow.New(tailBytes, 0),
	}
}

// apply does what a record says, or refuses it and changes nothing. It depends on the
// record and on what was applied before, and on nothing else.
func (t *tables) apply(r record) (hub.Receipt, error) {
	g := r.group
	if g == nil {
		t.pass(r.time)
		return hub.Receipt{}, nil
	}
	if receipt, ok := t.groups.get(g.ID); ok && g.ID != "" {
		receipt.Replayed = true
		return receipt, nil
	}
	key := keyName(g)
	if receipt, err := t.keys.check(key, g.Sum, r.time); err != nil || receipt != nil {
		if err != nil {
			return hub.Receipt{}, err
		}
		return *receipt, nil
	}
	if err := t.refusal(g); err != nil {
		return hub.Receipt{}, err
	}

	t.pass(r.time)
	receipt := hub.Receipt{Epoch: t.epoch, Time: r.time}
	seq := r.seq
	t.left = mostRemovals
	var records []hub.Record
	for i := range g.Events {
		records = append(records, t.add(seq, r.time, &g.Events[i]))
		receipt.Sequences = append(receipt.Sequences, seq)
		seq++
	}
	for _, name := range g.Close {
		if topic := t.topics.make(name, t.retention.ruleOf); !topic.closed {
			topic.closed = true
			records = append(records, hub.Record{Seq: seq, Kind: hub.KindClosed, Time: r.time, Topics: []string{name}})
			seq++
		}
	}
	if g.Forget != "" {
		t.forget(g.Forget)
		records = append(records, hub.Record{Seq: seq, Kind: hub.KindForgotten, Time: r.time, Topics: []string{g.Forget}})
		seq++
	}
	if len(records) > 0 {
		t.seq = seq - 1
		t.marks.add(r.seq, r.time)
		t.tail.Add(records)
	}
	t.groups.put(g.ID, receipt)
	t.keys.put(key, g.Sum, receipt)
	return receipt, nil
}

// refusal says why a group cannot be applied.
func (t *tables) refusal(g *hub.Group) error {
	for i := range g.Events {
		for _, name := range g.Events[i].Topics {
			if topic := t.topics.get(name); topic != nil && topic.closed {
				return hub.ErrClosed
			}
		}
	}
	name := g.Canonical()
	if g.IfLast == nil || name == "" {
		return nil
	}
	if info := t.info(name); info.Newest != *g.IfLast {
		return &hub.ConflictError{Topic: name, Newest: info.Newest, NewestID: info.NewestID}
	}
	return nil
}

// add stores one event under its topics.
func (t *tables) add(seq uint64, now time.Time, ev *hub.Event) hub.Record {
	own := *ev
	own.Topics = slices.Clone(ev.Topics)
	e := &entry{seq: seq, time: now, event: &own, size: int64(own.Size()), topics: len(own.Topics)}
	t.events.push(e)
	t.bytes += e.size
	t.ids.add(own.ID, seq)
	for _, name := range own.Topics {
		topic := t.topics.make(name, t.retention.ruleOf)
		topic.add(e, t.wireID(e))
		topic.rule.added(topic)
		t.left++ // for what it pushes out
		if !t.trimExcess(topic, &t.left) {
			t.excess.push(topic)
		}
	}
	t.trimAll(&t.left)
	return hub.Record{Seq: seq, Kind: hub.KindEvent, Time: now, Topics: own.Topics, Event: e.event}
}

// trim removes a topic's oldest event from it.
func (t *tables) trim(topic *topic) {
	e := topic.entries.pop()
	topic.bytes -= e.size
	topic.trimmed = e.seq
	topic.removed++
	if e.topics--; e.topics > 0 {
		topic.orphans.push(e)
		return
	}
	for _, name := range e.event.Topics {
		t.topics.get(name).lost(e.seq)
	}
	t.ids.remove(e.event.ID, e.seq)
	t.bytes -= e.size
	t.dead++
	for t.events.len() > 0 && t.events.front().topics == 0 {
		t.events.pop()
		t.dead--
	}
	if t.dead > t.events.len()/2 {
		t.events.filter(func(e *entry) bool { return e.topics > 0 })
		t.dead = 0
	}
}

func (t *tables) forget(name string) {
	if topic := t.topics.get(name); topic != nil {
		for topic.entries.len() > 0 {
			t.trim(topic)
		}
	}
}

// wireID returns an event's id as subscribers see it.
func (t *tables) wireID(e *entry) string {
	if e.event.ID != "" {
		return e.event.ID
	}
	return hub.Position(t.epoch, e.seq)
}

func (t *tables) info(name string) hub.TopicInfo {
	topic := t.topics.get(name)
	if topic == nil {
		return hub.TopicInfo{}
	}
	info := hub.TopicInfo{
		Newest:   topic.newest,
		NewestID: topic.newestID,
		Trimmed:  topic.trimmed,
		Count:    int64(topic.entries.len()),
		Closed:   topic.closed,
	}
	if info.Count > 0 {
		oldest := topic.entries.front()
		info.Oldest, info.OldestID = oldest.seq, t.wireID(oldest)
	}
	return info
}

func (t *tables) head() hub.Head {
	h := hub.Head{Epoch: t.epoch, Seq: t.seq, Oldest: t.seq + 1, Time: t.time}
	if t.events.len() > 0 {
		h.Oldest = t.events.front().seq
	}
	return h
}

func (t *tables) locate(c hub.Cursor) hub.Location {
	switch {
	case c.Epoch != "":
		if c.Epoch != t.epoch || c.Seq > t.seq {
			return hub.Location{Lost: hub.LostEpoch}
		}
		return hub.Location{Seq: c.Seq}
	case c.ID != "":
		if seq, ok := t.ids.first[c.ID]; ok {
			return hub.Location{Seq: seq}
		}
		return hub.Location{Lost: hub.LostUnknown}
	case !c.Since.IsZero():
		return hub.Location{Seq: t.before(c.Since)}
	}
	return hub.Location{}
}

// before returns the highest sequence with an earlier time.
func (t *tables) before(when time.Time) uint64 {
	if seq, ok := t.marks.before(when); ok {
		return seq
	}
	// Earlier than all times that are remembered: only what is kept matters.
	i := sort.Search(t.events.len(), func(i int) bool { return !t.events.at(i).time.Before(when) })
	if i == t.events.len() {
		return t.seq
	}
	return t.events.at(i).seq - 1
}

// keyName scopes an idempotency key to the topics of its first event.
func keyName(g *hub.Group) string {
	if g.Key == "" {
		return ""
	}
	var names []string
	if len(g.Events) > 0 {
		names = slices.Sorted(slices.Values(g.Events[0].Topics))
	} else {
		names = slices.Sorted(slices.Values(g.Close))
	}
	return strings.Join(append(names, g.Key), "\x00") // no topic or key has a NUL
}
