package memory

import (
	"errors"
	"fmt"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// mostRemovals is how many events a record removes at most beyond what its own events push
// out, so that nobody waits long for others' retention.
const mostRemovals = 1000

func checkRetention(rules hub.RetentionRules, maxBytes int64) error {
	for _, r := range rules {
		if err := hub.CheckPattern(r.Pattern); err != nil {
			return fmt.Errorf("memory: retention of %q: %w", r.Pattern, err)
		}
		if r.Age < 0 || r.Count < 0 || r.Bytes < 0 {
			return fmt.Errorf("memory: retention of %q is negative: 0 keeps everything", r.Pattern)
		}
	}
	if maxBytes < 0 {
		return errors.New("memory: the bound of all events together is negative: 0 is none")
	}
	return nil
}

// A retention is how much is kept of which topics.
type retention struct {
	maxBytes int64 // of all events together; 0: any
	patterns []string
	rules    []*agingRule // of the patterns
	whole    *agingRule   // of topics that no pattern matches
}

func newRetention(rules hub.RetentionRules, maxBytes int64) *retention {
	r := &retention{maxBytes: maxBytes, whole: &agingRule{}}
	for _, given := range rules {
		r.patterns = append(r.patterns, given.Pattern)
		r.rules = append(r.rules, &agingRule{Retention: given.Retention})
	}
	return r
}

// ruleOf returns the first rule that matches.
func (r *retention) ruleOf(name string) *agingRule {
	for i, p := range r.patterns {
		if hub.Match(p, name) {
			return r.rules[i]
		}
	}
	return r.whole
}

// shortestAge returns the shortest of all rules, 0 if none has one.
func (r *retention) shortestAge() time.Duration {
	var shortest time.Duration
	for _, rule := range r.rules {
		if rule.Age > 0 && (shortest == 0 || rule.Age < shortest) {
			shortest = rule.Age
		}
	}
	return shortest
}

// retain has another retention hold for all records that are applied from now on: what is
// there goes with them, a part with each. The rules of the first topics are given.
func (t *tables) retain(r *retention, of []*agingRule) {
	t.retention = r
	t.excess, t.cut = queue[*topic]{}, false
	for i, topic := range t.topics.all {
		if topic.queued = false; i < len(of) {
			topic.rule = of[i]
		} else {
			topic.rule = r.ruleOf(topic.name)
		}
		if topic.entries.len() > 0 {
			topic.rule.added(topic)
		}
		if topic.excess() {
			t.excess.push(topic)
		}
	}
}

// rest returns how long it may be until somebody looks for what has come of age.
func (t *tables) rest() time.Duration {
	age := t.retention.shortestAge()
	switch {
	case t.overdue():
		return 0
	case age == 0:
		return time.Minute
	}
	return min(max(age/10, time.Second), time.Minute)
}

// overdue tells whether there is more to remove than one record does.
func (t *tables) overdue() bool { return t.cut || t.excess.len() > 0 || t.tooLarge() }

// tooLarge tells whether all events together are more than they may be. The newest
// stays, however large.
func (t *tables) tooLarge() bool {
	most := t.retention.maxBytes
	return most > 0 && t.bytes > most && t.events.len()-t.dead > 1
}

// pass has time pass, which lets go what has come of age, and what is left of earlier
// records.
func (t *tables) pass(now time.Time) {
	t.time = now
	left := mostRemovals
	for _, r := range t.retention.rules {
		for topic := r.next(now); topic != nil; topic = r.next(now) {
			for ; left > 0 && topic.entries.len() > 0 && now.Sub(topic.entries.front().time) > r.Age; left-- {
				t.trim(topic)
			}
			if topic.entries.len() > 0 {
				r.added(topic)
			}
			if left == 0 {
				break
			}
		}
	}
	t.cut = left == 0
	for t.excess.len() > 0 && t.trimExcess(t.excess.front(), &left) {
		t.excess.pop()
	}
	t.trimAll(&left)
	t.keys.expire(now)
}

// trimExcess removes what a topic has too much of, and tells whether that is all.
func (t *tables) trimExcess(topic *topic, left *int) bool {
	for ; topic.excess() && *left > 0; *left-- {
		t.trim(topic)
	}
	return !topic.excess()
}

// trimAll removes what all topics together have too much of.
func (t *tables) trimAll(left *int) {
	for ; t.tooLarge() && *left > 0; *left-- {
		// The oldest of all is the oldest in each topic that still keeps it.
		oldest := t.events.front()
		for _, name := range oldest.event.Topics {
			if topic := t.topics.get(name); topic.entries.len() > 0 && topic.entries.front() == oldest {
				t.trim(topic)
			}
		}
	}
}
