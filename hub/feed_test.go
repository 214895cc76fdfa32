package hub

import "testing"

// A type may be any text in a query, so that no character can stand between names.
func TestFilter_TheKeysOfDifferentSelectionsDiffer(t *testing.T) {
	keys := make(map[string]int)
	for i, f := range []Filter{
		{Topics: []string{"a"}},
		{Patterns: []string{"a"}},
		{Topics: []string{"a"}, Types: []string{"b"}},
		{Topics: []string{"a"}, Types: []string{"b"}, Private: []string{"**"}},
		{Topics: []string{"a", "b"}},
		{Topics: []string{"a"}, Types: []string{"b", "c\x00d"}},
		{Topics: []string{"a"}, Types: []string{"b\x00c", "d"}},
		{Topics: []string{"a"}, Types: []string{"b\x001 c", "d"}},
		{Topics: []string{"a"}, Types: []string{"b", "1 c\x00d"}},
	} {
		key := f.key()
		if other, ok := keys[key]; ok {
			t.Errorf("got the key %q for filters %d and %d", key, other, i)
		}
		keys[key] = i
	}
	one, other := Filter{Topics: []string{"a", "b"}}, Filter{Topics: []string{"b", "a"}}
	if one.key() != other.key() {
		t.Error("got different keys for the same topics in another order")
	}
}
