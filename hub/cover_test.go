package hub_test

import (
	"slices"
	"testing"

	"github.com/tidewire/tidewire/hub"
)

// names are all topics of up to three segments over an alphabet, an empty segment
// included.
func shortTopics() (names []string) {
	alphabet := []string{"", "a", "b"}
	level := []string{""}
	for depth := range 3 {
		var next []string
		for _, prefix := range level {
			for _, s := range alphabet {
				name := s
				if depth > 0 {
					name = prefix + "/" + s
				}
				next = append(next, name)
			}
		}
		names = append(names, next...)
		level = next
	}
	return slices.DeleteFunc(names, func(n string) bool { return n == "" })
}

func shortPatterns() (patterns []string) {
	for _, a := range []string{"", "a", "b", "*"} {
		patterns = append(patterns, a, a+"/**")
		for _, b := range []string{"", "a", "*"} {
			patterns = append(patterns, a+"/"+b, a+"/"+b+"/**", a+"/"+b+"/a", a+"/"+b+"/*")
		}
	}
	patterns = append(patterns, "**")
	return slices.DeleteFunc(patterns, func(p string) bool { return hub.CheckPattern(p) != nil })
}

// Names of three segments tell all that these patterns differ in, but for those of more
// segments, which ** alone reaches.
func TestCovers_IsContainment(t *testing.T) {
	topics := append(shortTopics(), "a/a/a/a", "b/b/b/b/b", "/a/b/a", "a//b/b", "//a/a", "x/y/z", "a/x", "a/x/y", "x", "b/x/x/x", "/x", "/x/x/x", "a//x", "a//x/x", "//x", "//x/x", "a/a/x", "b/a/x/x", "b//x", "b//x/x", "b/a/x", "/a/x", "/a/x/x", "a/a/x/x", "b/x", "x/a", "x/", "x/a/a", "x//a", "x/x/a", "x//x", "x/a/x", "x/a/x/x", "x//x/x", "b/x/a", "/x/a", "a/x/a")
	matches := func(p string) (m []string) {
		for _, topic := range topics {
			if hub.Match(p, topic) {
				m = append(m, topic)
			}
		}
		return m
	}
	for _, p := range shortPatterns() {
		of := matches(p)
		for _, q := range shortPatterns() {
			within := matches(q)
			want := !slices.ContainsFunc(within, func(n string) bool { return !slices.Contains(of, n) })
			if got := hub.Covers(p, q); got != want && !(q == "/**" && !got) {
				t.Errorf("Covers(%q, %q) = %v, want %v", p, q, got, want)
			}
			want2 := slices.DeleteFunc(slices.Clone(within), func(n string) bool { return !slices.Contains(of, n) })
			both, ok := hub.Intersect(p, q)
			if !ok {
				if len(want2) > 0 {
					t.Errorf("Intersect(%q, %q) is none, want one for %q", p, q, want2)
				}
				continue
			}
			if err := hub.CheckPattern(both); err != nil {
				t.Errorf("Intersect(%q, %q) = %q: %v", p, q, both, err)
			} else if got := matches(both); !slices.Equal(got, want2) {
				t.Errorf("Intersect(%q, %q) = %q, which matches %q, want %q", p, q, both, got, want2)
			}
		}
	}
}
