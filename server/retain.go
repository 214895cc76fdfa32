package server

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// ParseRetain reads a retention rule as it stands on a command line: a pattern, "=", and
// one or more of age:DURATION, count:N, bytes:N (with KiB, MiB or GiB), separated by
// commas, or "all" to keep everything, or "latest" to keep a topic's newest event only.
// The last "=" counts, as topics may have some.
func ParseRetain(s string) (hub.RetentionRule, error) {
	i := strings.LastIndexByte(s, '=')
	if i < 0 {
		return hub.RetentionRule{}, fmt.Errorf("retention %q has no \"=\": write it as in news/**=count:1000,age:24h", s)
	}
	rule := hub.RetentionRule{Pattern: s[:i]}
	if err := hub.CheckPattern(rule.Pattern); err != nil {
		return rule, fmt.Errorf("retention %q: %w", s, err)
	}
	switch s[i+1:] {
	case "all":
		return rule, nil
	case "latest":
		rule.Count = 1
		return rule, nil
	}
	for part := range strings.SplitSeq(s[i+1:], ",") {
		name, value, _ := strings.Cut(part, ":")
		var err error
		switch name {
		case "age":
			rule.Age, err = parseAge(value)
		case "count":
			rule.Count, err = strconv.ParseInt(value, 10, 64)
		case "bytes":
			rule.Bytes, err = ParseBytes(value)
		default:
			return rule, fmt.Errorf("retention %q: %q is none of age:…, count:…, bytes:…, latest and all", s, part)
		}
		if err != nil {
			return rule, fmt.Errorf("retention %q: %s: %w", s, name, err)
		}
	}
	if rule.Age < 0 || rule.Count < 0 || rule.Bytes < 0 {
		return rule, fmt.Errorf("retention %q is negative: write all to keep everything", s)
	}
	return rule, nil
}

// parseAge reads a duration, with d for days too.
func parseAge(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 && n < 100_000 {
			return time.Duration(n * 24 * float64(time.Hour)), nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 90s, 24h or 7d", s)
	}
	return d, nil
}

// ParseBytes reads a size in bytes, with KiB, MiB or GiB behind it, if need be.
func ParseBytes(s string) (int64, error) {
	digits, unit := s, int64(1)
	for suffix, n := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if d, ok := strings.CutSuffix(s, suffix); ok {
			digits, unit = strings.TrimSpace(d), n
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return 0, fmt.Errorf("%q is not a size such as 1000, 64KiB, 16MiB or 1GiB", s)
	}
	return n * unit, nil
}
