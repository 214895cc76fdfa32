package server

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tidewire/tidewire/hub"
)

// ParseSlow reads a rule for slow subscribers as it stands on a command line: a pattern,
// "=", one of replay, latest and disconnect, and perhaps ",lag:" and a number of events.
// The last "=" counts, as topics may have some.
func ParseSlow(s string) (hub.SlowRule, error) {
	i := strings.LastIndexByte(s, '=')
	if i < 0 {
		return hub.SlowRule{}, fmt.Errorf("rule %q has no \"=\": write it as in prices/**=latest,lag:100", s)
	}
	rule := hub.SlowRule{Pattern: s[:i]}
	if err := hub.CheckPattern(rule.Pattern); err != nil {
		return rule, fmt.Errorf("rule %q: %w", s, err)
	}
	policy, bound, bounded := strings.Cut(s[i+1:], ",")
	switch policy {
	case "replay":
		rule.Policy = hub.SlowReplay
	case "latest":
		rule.Policy = hub.SlowLatest
	case "disconnect":
		rule.Policy = hub.SlowDisconnect
	default:
		return rule, fmt.Errorf("rule %q: %q is none of replay, latest and disconnect", s, policy)
	}
	if !bounded {
		return rule, nil
	}
	lag, ok := strings.CutPrefix(bound, "lag:")
	n, err := strconv.Atoi(lag)
	if !ok || err != nil || n < 1 {
		return rule, fmt.Errorf("rule %q: %q is not lag: and a number of events, from 1", s, bound)
	}
	rule.Lag = n
	return rule, nil
}
