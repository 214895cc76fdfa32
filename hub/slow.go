package hub

import (
	"fmt"
	"slices"
)

// A SlowPolicy says what becomes of a stream that has been live and falls behind.
type SlowPolicy uint8

const (
	// SlowReplay gives it everything, from memory or from the Log, however late. It is
	// the default.
	SlowReplay SlowPolicy = iota

	// SlowLatest skips to the newest event, after a gap with the reason [LostSlow].
	SlowLatest

	// SlowDisconnect closes its connection. A client that comes back goes on where it
	// was.
	SlowDisconnect
)

// DefaultSlowLag is the Lag of a [SlowRule].
const DefaultSlowLag = 1000

// A SlowRule says what becomes of the streams of topics that match a pattern.
type SlowRule struct {
	Pattern string // "**" matches every topic
	Policy  SlowPolicy

	// Lag is how many events a stream may be behind before the policy applies. Default:
	// [DefaultSlowLag].
	Lag int
}

// SlowRules are tried in order for each topic of a subscription, and for each pattern as if
// it were a topic; the first that matches any of them counts. Where none does it is
// [SlowReplay].
type SlowRules []SlowRule

func (rules SlowRules) check() error {
	for _, r := range rules {
		if err := CheckPattern(r.Pattern); err != nil {
			return fmt.Errorf("slow streams of %q: %w", r.Pattern, err)
		}
		if r.Lag < 0 || r.Policy > SlowDisconnect {
			return fmt.Errorf("slow streams of %q: the lag is negative, or there is no such policy", r.Pattern)
		}
	}
	return nil
}

// of returns the rule for a subscription.
func (rules SlowRules) of(f *Filter) SlowRule {
	names := slices.Concat(f.Topics, f.Patterns)
	for _, r := range rules {
		if slices.ContainsFunc(names, func(n string) bool { return Match(r.Pattern, n) }) {
			if r.Lag == 0 {
				r.Lag = DefaultSlowLag
			}
			return r
		}
	}
	return SlowRule{}
}

// tooSlow tells whether a stream at a sequence is further behind its feed than a rule allows.
// Then newest is the place before the newest event.
func (h *hotLog) tooSlow(f *feed, after uint64, rule *SlowRule) (newest uint64, slow bool) {
	if rule.Policy == SlowReplay {
		return 0, false
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	// Where the lane does not reach back, what it has is what is surely missing.
	left := len(f.lane.items)
	if next, ok := f.lane.join(after); ok {
		left = int(f.lane.end() - next)
	}
	if left <= rule.Lag {
		return 0, false
	}
	return f.lane.last().Seq - 1, true
}
