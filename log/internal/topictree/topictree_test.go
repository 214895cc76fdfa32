package topictree_test

import (
	"slices"
	"testing"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/internal/topictree"
)

// TestTree_MatchesAsTheHubDoes compares the tree with hub.Match, one topic at a time.
func TestTree_MatchesAsTheHubDoes(t *testing.T) {
	topics := []string{"a", "b", "a/b", "a/b/c", "a/b/c/d", "a//c", "/", "//", "a/", "/a", "é/b", "https://example.com/x", "*", "a/*"}
	patterns := []string{"**", "*", "a", "a/*", "a/**", "a/*/c", "*/b", "*/*", "*/**", "*/*/c", "a/b/c", "a/b/c/**", "/", "/*", "nobody", "nobody/**"}
	var tree topictree.Tree[string]
	for _, topic := range topics {
		tree.Put(topic, topic)
	}
	for _, pattern := range patterns {
		var got, want []string
		tree.Match(pattern, func(topic string) { got = append(got, topic) })
		for _, topic := range topics {
			if hub.Match(pattern, topic) {
				want = append(want, topic)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", pattern, got, want)
		}
	}
}
