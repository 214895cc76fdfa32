package torture

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tidewire/tidewire/hub"
)

// topics are all there are. The last two belong to one publisher each, which chains its
// events with If-Match.
var topics = []string{"a/1", "a/2", "a/3", "b/1", "b/2", "c/x/1", "c/x/2", "wide", "chain/match", "chain/key"}

const (
	sharedTopics = 8
	chainByMatch = 8 // the topic's index
	chainByKey   = 9
)

// A topicSet has a bit for each of topics.
type topicSet uint16

func (s topicSet) names() (names []string) {
	for i, name := range topics {
		if s&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

func setOf(names []string) (s topicSet) {
	for _, name := range names {
		if i := slices.Index(topics, name); i >= 0 {
			s |= 1 << i
		}
	}
	return s
}

// A selection is what a subscriber asks for.
type selection struct{ topics, patterns []string }

// selections are those of the subscribers, and each of them is read again in the end.
var selections = []selection{
	{patterns: []string{"**"}},
	{patterns: []string{"a/*"}},
	{topics: []string{"a/1"}},
	{topics: []string{"a/2", "b/1", "c/x/1"}},
	{topics: []string{"b/2"}, patterns: []string{"a/*"}},
	{patterns: []string{"c/**", "chain/*"}},
	{topics: []string{"wide"}},
	{topics: []string{"chain/match", "chain/key"}},
	{patterns: []string{"b/*", "**"}},
	{topics: []string{"c/x/2"}},
}

func (s selection) String() string {
	return strings.Join(append(slices.Clone(s.topics), s.patterns...), "+")
}

// set returns the topics that are selected.
func (s selection) set() topicSet {
	all := setOf(s.topics)
	for i, name := range topics {
		if slices.ContainsFunc(s.patterns, func(p string) bool { return hub.Match(p, name) }) {
			all |= 1 << i
		}
	}
	return all
}

// query returns the parameters of a subscription.
func (s selection) query() url.Values { return url.Values{"topic": s.topics, "pattern": s.patterns} }

// A name is an event's own, whatever the server calls it: its publisher, and a number
// from 1. Its data says it.
type name struct{ publisher, n int32 }

func (k name) String() string { return fmt.Sprintf("%d/%d", k.publisher, k.n) }

// id is the one that its publisher gives it, if it gives one.
func (k name) id() string { return fmt.Sprintf("of publisher %d: %d", k.publisher, k.n) }

// noise is what events are filled with.
var noise = func() string {
	const letters = "abcdefghijklmnopqrstuvwxyz :,\"\\{}<&\n"
	rng := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 64<<10)
	for i := range b {
		b[i] = letters[rng.IntN(len(letters))]
	}
	return string(b)
}()

const maxFilling = len("x") << 15

// filling is what follows an event's name, so that damage is seen.
func filling(k name, size int) string {
	from := (int(k.publisher)*7919 + int(k.n)*104729) % (len(noise) - maxFilling)
	return noise[from : from+size]
}

// dataOf returns an event's data: its name, whether it has an id of its own, and size
// bytes more.
func dataOf(k name, own bool, size int) string {
	return fmt.Sprintf("%d/%d/%t/%d/%s", k.publisher, k.n, own, size, filling(k, size))
}

// parseData returns the name of an event, and whether it has an id of its own; false if
// it was never published like that.
func parseData(data string) (k name, own, ok bool) {
	f := strings.SplitN(data, "/", 5)
	if len(f) < 5 {
		return k, false, false
	}
	publisher, err1 := strconv.ParseInt(f[0], 10, 32)
	n, err2 := strconv.ParseInt(f[1], 10, 32)
	size, err3 := strconv.Atoi(f[3])
	if err1 != nil || err2 != nil || err3 != nil || size < 0 || size > maxFilling {
		return k, false, false
	}
	k = name{int32(publisher), int32(n)}
	return k, f[2] == "true", filling(k, size) == f[4]
}

// someSize draws how much an event is filled with: most are small, a few are larger than
// a block of the write-ahead log.
func someSize(rng *rand.Rand) int {
	switch r := rng.IntN(100); {
	case r < 90:
		return rng.IntN(300)
	case r < 98:
		return rng.IntN(4 << 10)
	default:
		return rng.IntN(maxFilling)
	}
}
