package torture

import (
	"net/http"
	"slices"
	"strconv"
)

// A stored event is one of the history, as it is read in the end.
type stored struct {
	name   name
	seq    uint64
	topics topicSet
	own    bool
}

// A judge compares what publishers and subscribers were told with the history.
type judge struct {
	*ledger
	history []stored
	places  [publishers + 1][]int32 // by name: where it is in history, from 1; 0 if it is not
}

// newJudge finds out what is where in the history, each event once and in order.
func newJudge(l *ledger, history []stored) *judge {
	j := &judge{ledger: l, history: history}
	for i := range j.places {
		j.places[i] = make([]int32, len(l.accounts[i].entries))
	}
	before := uint64(0)
	for i, h := range history {
		if h.seq <= before {
			l.add("the history is not in order", "%s at %d, after %d", h.name, h.seq, before)
		}
		before = h.seq
		if !j.known(h.name) {
			l.add("the history has an event that nobody has published", "%s", h.name)
			continue
		}
		place := &j.places[h.name.publisher][h.name.n-1]
		if *place != 0 {
			l.add("an event is stored twice", "%s (%s) at %d and %d", h.name, j.of(h.name).fate, history[*place-1].seq, h.seq)
			continue
		}
		*place = int32(i + 1)
		if e := j.of(h.name); h.topics != e.topics || h.own != e.own {
			l.add("an event is stored other than it was published", "%s in %v, not %v", h.name, h.topics.names(), e.topics.names())
		}
	}
	return j
}

func (f fate) String() string { return []string{"unknown", "acknowledged", "refused"}[f] }

func (j *judge) known(k name) bool {
	return k.publisher >= 0 && int(k.publisher) < len(j.accounts) && k.n > 0 && int(k.n) <= len(j.accounts[k.publisher].entries)
}

func (j *judge) of(k name) *entry { return j.accounts[k.publisher].of(k.n) }

// place returns where an event is in the history; false if it is not there.
func (j *judge) place(k name) (int, bool) {
	if !j.known(k) {
		return 0, false
	}
	i := j.places[k.publisher][k.n-1]
	return int(i) - 1, i > 0
}

// at returns the event of a sequence.
func (j *judge) at(seq uint64) (stored, bool) {
	i, ok := slices.BinarySearchFunc(j.history, seq, func(h stored, seq uint64) int {
		switch {
		case h.seq < seq:
			return -1
		case h.seq > seq:
			return 1
		}
		return 0
	})
	if !ok {
		return stored{}, false
	}
	return j.history[i], true
}

// sequence says whether a sequence that somebody was told is the event's, now and for
// ever.
func (j *judge) sequence(k name, seq uint64, who string) {
	if seq == 0 {
		return
	}
	if i, ok := j.place(k); ok && j.history[i].seq != seq {
		j.add("an event has another position than was told", "%s: %s at %d, not %d", who, k, j.history[i].seq, seq)
	}
	if other, ok := j.at(seq); ok && other.name != k {
		j.add("a position was used for two events", "%d: %s was told that of %s, and %s has it", seq, who, k, other.name)
	}
}

// judgePublishers says whether
//   - each acknowledged event is stored, where its publisher was told;
//   - what was refused is not;
//   - each batch is stored wholly or not at all, and unbroken;
//   - each event in a chain follows the one that it was to follow.
func (j *judge) judgePublishers() {
	for p := range j.accounts {
		entries := j.accounts[p].entries
		for i := range entries {
			e, k := &entries[i], name{int32(p), int32(i + 1)}
			at, there := j.place(k)
			switch {
			case e.fate == acked && !there:
				j.add("an acknowledged event is lost", "%s in %v at %d", k, e.topics.names(), e.seq)
			case e.fate == refused && there:
				j.add("a refused event is stored", "%s at %d", k, j.history[at].seq)
			}
			j.sequence(k, e.seq, "its publisher")
			if k.n > e.first {
				before, thereToo := j.place(name{k.publisher, k.n - 1})
				switch {
				case there != thereToo:
					j.add("a batch is stored in part", "%d events from %s: %s is the first difference", e.size, name{k.publisher, e.first}, k)
				case there && at != before+1:
					j.add("a batch is broken up", "%d events from %s: at %s", e.size, name{k.publisher, e.first}, k)
				}
			}
		}
	}
	j.chain(chainByMatch)
	j.chain(chainByKey)
}

func (j *judge) chain(topic int) {
	last := int32(0)
	for _, h := range j.history {
		if h.topics != 1<<topic || h.name.publisher == theEnd || !j.known(h.name) {
			continue
		}
		if after := j.of(h.name).after; after != last {
			j.add("a chain is broken", "%s of %s comes after %d, and should after %d", h.name, topics[topic], last, after)
		}
		last = h.name.n
	}
}

// judgeSubscriber says whether a subscriber got all events of its selection from where it
// began, each once, in order, and nothing else.
func (j *judge) judgeSubscriber(s *subscriber) {
	set := s.selection.set()
	begin := j.begin(s)
	got := make([]bool, len(j.history))
	last := -1
	for _, sight := range s.seen {
		k := sight.name
		j.sequence(k, sight.seq, s.String())
		i, there := j.place(k)
		switch {
		case !there:
			j.add("an event that was seen is lost", "%s: %s at %d", s, k, sight.seq)
			continue
		case got[i]:
			j.add("an event was delivered twice", "%s: %s (%s)", s, k, j.of(k).fate)
		case i < last:
			j.add("events were delivered out of order", "%s: %s after %s", s, k, j.history[last].name)
		case i < begin, j.history[i].topics&set == 0:
			j.add("an event was delivered that was not asked for", "%s: %s in %v", s, k, j.history[i].topics.names())
		}
		got[i] = true
		last = max(last, i)
	}
	for i := begin; i < len(j.history); i++ {
		h := &j.history[i]
		if at, ok := j.place(h.name); !ok || at != i || h.topics&set == 0 || got[i] {
			continue
		}
		rule := "an acknowledged event was not delivered"
		if j.of(h.name).fate != acked {
			rule = "a stored event was not delivered"
		}
		j.add(rule, "%s: %s at %d, who has got %d events", s, h.name, h.seq, len(s.seen))
	}
}

// begin returns where in the history a subscriber begins. One that begins now must get
// all that was published after it was connected; what it gets before is by chance.
func (j *judge) begin(s *subscriber) int {
	switch s.start {
	case fromID, fromPosition:
		if i, ok := j.place(s.from.name); ok {
			return i + 1
		}
		i, _ := slices.BinarySearchFunc(j.history, s.from.seq, func(h stored, seq uint64) int {
			if h.seq <= seq {
				return -1
			}
			return 1
		})
		return i
	case fromNow:
		first := len(j.history)
		if len(s.seen) > 0 {
			if i, ok := j.place(s.seen[0].name); ok {
				first = i
			}
		}
		set := s.selection.set()
		for i, h := range j.history[:first] {
			if h.topics&set != 0 && j.known(h.name) && j.of(h.name).begun > s.joined {
				return i
			}
		}
		return first
	}
	return 0
}

// judgeHead says whether a topic has as many events as the history, and the same oldest
// and newest.
func (j *judge) judgeHead(topic int, told http.Header) {
	count, oldest, newest := 0, "", ""
	for _, h := range j.history {
		if h.topics&(1<<topic) == 0 {
			continue
		}
		newest = *j.epoch.Load() + "-" + strconv.FormatUint(h.seq, 10)
		if h.own {
			newest = h.name.id()
		}
		if count++; count == 1 {
			oldest = newest
		}
	}
	for field, want := range map[string]string{"Tidewire-Count": strconv.Itoa(count), "Tidewire-Oldest-Id": oldest, "Tidewire-Newest-Id": newest} {
		if got := told.Get(field); got != want {
			j.add("HEAD tells something else than the history", "%s of %s is %q, and should be %q", field, topics[topic], got, want)
		}
	}
}
