package hubtest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tidewire/tidewire/hub"
)

// oddTopics are names that an implementation could take for something else.
var oddTopics = []string{
	"a", "A", "a.", ".a", "a.b", "a/b", "a b", " a", "a ", "a  b", " ",
	".", "..", "*", "**", ">", "a.>", "a.*", "a/*", "a/**", "*/b", "$SYS", "$JS.API.>",
	"/", "//", "a//b", "/a", "a/", "//a", "a/../b", "a/./b", "../../etc/passwd",
	"a,b", "a|b", "a:b", "a;b", "a=b", "a%2Fb", "a%00b", "a\\b", "a\"b", "a'b", "a?b#c", "{a}", "[a]", "a+b", "a_b", "a-b",
	"https://example.com/users/1?x=ü#f", "urn:uuid:8f2c", "null", "0", "-1", "true",
	"é", "e\u0301", "Å", "A\u030a", "\u212b", "ß", "ss", "SS", "ﬁ", "fi", "İ", "i", "ı", "I",
	"日本", "𝄞", "👩‍👩‍👧", "\u200b", "a\u200b", "\ufeff", "\u202e", "\u00a0", "\u3000", "\ufffd", "\U0010ffff", "\ue000",
}

func anyTextIsATopic(t *run) {
	l := t.open(Config{})
	long := strings.Repeat("x", hub.MaxTopicSize-1)
	wide := strings.Repeat("日", hub.MaxTopicSize/3)
	topics := append(slices.Clone(oddTopics), long, long+"x", long+"y", wide, strings.Repeat("/", hub.MaxTopicSize))
	seqs := make([][]uint64, len(topics))
	for range 2 {
		for i, topic := range topics {
			seqs[i] = append(seqs[i], l.add(topic, topic))
		}
	}
	for i, topic := range topics {
		records := l.all(hub.Query{Topics: []string{topic}})
		if got := sequences(records); !slices.Equal(got, seqs[i]) {
			t.Fatalf("topic %.40q: got %d, want %d", topic, got, seqs[i])
		}
		for _, r := range records {
			if r.Event.Data != topic || !slices.Equal(r.Topics, []string{topic}) {
				t.Fatalf("topic %.40q: got %s", topic, describe(r))
			}
		}
		if info := l.info(topic); info.Count != 2 || info.Oldest != seqs[i][0] || info.Newest != seqs[i][1] {
			t.Fatalf("topic %.40q: got %+v, want %d", topic, info, seqs[i])
		}
	}
	// Each is closed and forgotten alone.
	for i, topic := range topics {
		l.closeTopic(topic)
		l.forget(topic)
		for k, other := range topics {
			info := l.info(other)
			if done := k <= i; info.Closed != done || (info.Count == 0) != done {
				t.Fatalf("topic %.40q is closed and forgotten: got %+v of %.40q", topic, info, other)
			}
		}
	}
	// A publisher's ids and keys are any text too.
	for _, id := range oddTopics {
		g := group("ids", id)
		g.Events[0].ID, g.Key = id, id
		r := l.put(g)
		l.found(hub.Cursor{ID: id}, r.Sequences[0])
		l.repeated(g, r)
	}
}

func patternsMatchSegments(t *run) {
	topics := []string{"a", "b", "a/b", "a/c", "b/a", "A/b", "a/b/c", "a/x/c", "a/b/c/d", "ab", "a b/c", "https://example.com/x"}
	l := t.open(Config{})
	for _, topic := range topics {
		l.add(topic, topic)
	}
	for pattern, want := range map[string][]string{
		"**":                      topics,
		"*":                       {"a", "b", "ab"},
		"a":                       {"a"},
		"a/b":                     {"a/b"},
		"a/*":                     {"a/b", "a/c"},
		"*/b":                     {"a/b", "A/b"},
		"*/*":                     {"a/b", "a/c", "b/a", "A/b", "a b/c"},
		"a/*/c":                   {"a/b/c", "a/x/c"},
		"a/**":                    {"a", "a/b", "a/c", "a/b/c", "a/x/c", "a/b/c/d"},
		"a/b/**":                  {"a/b", "a/b/c", "a/b/c/d"},
		"*/b/**":                  {"a/b", "A/b", "a/b/c", "a/b/c/d"},
		"*/*/**":                  {"a/b", "a/c", "b/a", "A/b", "a/b/c", "a/x/c", "a/b/c/d", "a b/c", "https://example.com/x"},
		"a b/*":                   {"a b/c"},
		"https://example.com/**":  {"https://example.com/x"},
		"https:/*/example.com/**": {"https://example.com/x"},
		"c/**":                    nil,
		"*/*/*/*/*":               nil,
	} {
		var got []string
		for _, r := range l.all(hub.Query{Patterns: []string{pattern}}) {
			got = append(got, r.Event.Data)
		}
		// What is written before is read before.
		if !slices.Equal(got, want) {
			t.Errorf("pattern %q: got %q, want %q", pattern, got, want)
		}
	}
	// A topic that looks like a pattern is only itself, and a pattern finds it.
	l.add("a/*", "star")
	if got := l.all(hub.Query{Topics: []string{"a/*"}}); len(got) != 1 || got[0].Event.Data != "star" {
		t.Errorf("topic a/*: got %d events, want its own", len(got))
	}
	// Topics that come later match too, by any topic of an event.
	seq := l.post("late", "x/1", "y/1")
	for _, pattern := range []string{"x/*", "y/*", "*/1"} {
		l.expect(hub.Query{Patterns: []string{pattern}}, seq)
	}
	l.expect(hub.Query{Topics: []string{"x/1"}, Patterns: []string{"y/*", "*/1"}}, seq)
	for i := range 20 {
		l.expect(hub.Query{Patterns: []string{fmt.Sprint("z/", i, "/*")}})
		l.expect(hub.Query{Patterns: []string{fmt.Sprint("z/", i, "/*")}}, l.add(fmt.Sprint("z/", i, "/new"), "new"))
	}
}
