package hubtest_test

import (
	"slices"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/hub/hubtest"
)

var changeMutants = []mutant{
	{name: "what is there stays until something is appended", check: "18/a narrower count trims", want: "want 10 in the end", bug: trimsNothing, spoil: hasty},
	{name: "one more is kept", check: "18/a narrower count trims", want: "want 10 in the end", spoil: changed(func(rules hub.RetentionRules, max *int64) {
		rules[0].Count++
	})},
	{name: "a rule is for all topics", check: "18/a narrower count trims", want: `read {Topics:[b]`, spoil: changed(func(rules hub.RetentionRules, max *int64) {
		rules[0].Pattern = "**"
	})},
	{name: "a Gap is not told", check: "18/a narrower count trims", want: "got gap false, want true", bend: func(b *bent) {
		b.eachPage(func(_ hub.Query, p *hub.Page) { p.Gap = false })
	}},
	{name: "bytes are not counted", check: "18/fewer bytes trim", want: "want 20 in the end", spoil: changed(func(rules hub.RetentionRules, max *int64) {
		rules[0].Bytes = 0
	})},
	{name: "age does not change", check: "18/a shorter age trims", want: "want 2 in the end", spoil: changed(func(rules hub.RetentionRules, max *int64) {
		rules[0].Age = 0
	})},
	{name: "the bound of all does not change", check: "18/fewer bytes of all together trim", want: "want 20 in the end", spoil: changed(func(rules hub.RetentionRules, max *int64) {
		*max = 0
	})},
	{name: "nothing changes", check: "18/other rules keep from then on", want: "read", spoil: unchanged},
	{name: "the last rule counts", check: "18/other rules keep from then on", want: "read", spoil: changed(func(rules hub.RetentionRules, max *int64) {
		slices.Reverse(rules)
	})},
	{name: "nothing changes", check: "18/another age keeps from then on", want: "read", spoil: unchanged},
	{name: "nothing is refused", check: "18/what cannot be is refused", want: "got no error", spoil: unchanged},
	{name: "a Gap is told at the beginning only", check: "18/while others append and read", want: "gap false", bend: func(b *bent) {
		b.eachPage(func(q hub.Query, p *hub.Page) { p.Gap = p.Gap && q.After == 0 })
	}},
	{name: "what is there stays until something is appended", check: "18/while others append and read", want: "want 5 in the end", bug: trimsNothing, spoil: patient},
	{name: "it outlives the end of the Log", check: "18/until the Log is closed", want: "read {Topics:[b]", bug: retentionOutlivesEnd},
	{name: "nothing changes", check: "18/until the Log is closed", want: "want 10 in the end", spoil: unchanged},
}

// changed spoils the harness: retention changes to something else than the test asks for.
func changed(change func(hub.RetentionRules, *int64)) func(*hubtest.Harness) {
	return func(h *hubtest.Harness) {
		hasty(h)
		set := h.SetRetention
		h.SetRetention = func(l hub.Log, rules hub.RetentionRules, maxBytes int64) error {
			rules = slices.Clone(rules)
			change(rules, &maxBytes)
			return set(l, rules, maxBytes)
		}
	}
}

// patient lets a check that does much give up, but not too early.
func patient(h *hubtest.Harness) { h.Patience = 8 * time.Second }

// unchanged spoils the harness: retention does not change.
func unchanged(h *hubtest.Harness) {
	hasty(h)
	h.SetRetention = func(hub.Log, hub.RetentionRules, int64) error { return nil }
}
