package tables

import (
	"slices"

	"github.com/tidewire/tidewire/hub"
)

// A Retention is how much is kept of which topics.
type Retention struct {
	maxBytes int64 // of all events together; 0: any
	patterns []string
	rules    []*rule // of the patterns
	noRule   *rule   // of topics that no pattern matches
	of       []*rule // of topics, by number, as far as they were known
}

func newRetention(rules hub.RetentionRules, maxBytes int64) *Retention {
	r := &Retention{maxBytes: maxBytes, noRule: &rule{}}
	for _, given := range rules {
		r.patterns = append(r.patterns, given.Pattern)
		r.rules = append(r.rules, &rule{Retention: given.Retention})
	}
	return r
}

// ruleOf returns the first rule that matches.
func (r *Retention) ruleOf(name string) *rule {
	for i := range r.patterns {
		if hub.Match(r.patterns[i], name) {
			return r.rules[i]
		}
	}
	return r.noRule
}

// Prepare finds the rule of each topic, so that little is left for [Tables.Retain] to do. It is
// safe for concurrent use. The rules must be valid.
func (t *Tables) Prepare(rules hub.RetentionRules, maxBytes int64) *Retention {
	r := newRetention(rules, maxBytes)
	t.mu.RLock()
	topics := t.topics // whose number and name do not change
	t.mu.RUnlock()
	r.of = make([]*rule, 0, len(topics))
	for _, topic := range topics {
		r.of = append(r.of, r.ruleOf(topic.name))
	}
	return r
}

// Retain has what Prepare returned hold for all records that are applied from now on, as if
// the store were opened with it: what is there goes with them, a part with each. It must
// come between two rounds, and be used once. Whoever applies the same records must do
// so between the same two.
func (t *Tables) Retain(r *Retention) {
	for _, topic := range t.topics[len(r.of):] {
		r.of = append(r.of, r.ruleOf(topic.name))
	}
	for i, topic := range t.topics {
		topic.rule, topic.queued = r.of[i], false
	}
	r.of = nil
	t.retention = r
	t.begin()
}

// begin has all topics be where retention looks for them.
func (t *Tables) begin() {
	t.overdue = t.tooLarge() || slices.ContainsFunc(t.topics, (*topic).excess)
	for _, topic := range t.topics {
		if topic.count > 0 {
			topic.rule.added(topic)
		}
	}
}
