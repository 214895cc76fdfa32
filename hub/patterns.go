package hub

import (
	"slices"
	"strings"
)

// A patternTree finds the feeds with a pattern that matches a topic. Its cost is that of
// the patterns that begin as the topic does, however many others there are.
type patternTree struct{ root patternNode }

// A patternNode stands for the first segments of patterns.
type patternNode struct {
	next  map[string]*patternNode // by segment, * too
	exact []*feed                 // of patterns that end here
	rest  []*feed                 // of those that have ** next
}

func (t *patternTree) add(pattern string, f *feed) { t.root.add(pattern, f) }

func (n *patternNode) add(pattern string, f *feed) {
	if pattern == "**" {
		n.rest = append(n.rest, f)
		return
	}
	segment, rest, more := strings.Cut(pattern, "/")
	if n.next == nil {
		n.next = make(map[string]*patternNode)
	}
	next := n.next[segment]
	if next == nil {
		next = new(patternNode)
		n.next[segment] = next
	}
	if more {
		next.add(rest, f)
	} else {
		next.exact = append(next.exact, f)
	}
}

func (t *patternTree) remove(pattern string, f *feed) { t.root.remove(pattern, f) }

func (n *patternNode) remove(pattern string, f *feed) {
	if pattern == "**" {
		n.rest = without(n.rest, f)
		return
	}
	segment, rest, more := strings.Cut(pattern, "/")
	next := n.next[segment]
	switch {
	case next == nil:
		return
	case more:
		next.remove(rest, f)
	default:
		next.exact = without(next.exact, f)
	}
	if len(next.next) == 0 && len(next.exact) == 0 && len(next.rest) == 0 {
		delete(n.next, segment)
	}
}

// without returns feeds except one, in any order, and nil for none.
func without(feeds []*feed, f *feed) []*feed {
	i := slices.Index(feeds, f)
	if i < 0 {
		return feeds
	}
	last := len(feeds) - 1
	feeds[i], feeds[last] = feeds[last], nil
	if last == 0 {
		return nil
	}
	return feeds[:last]
}

// match calls visit for each pattern that matches: for a feed with several, perhaps more
// than once.
func (t *patternTree) match(topic string, visit func(*feed)) {
	t.root.match(topic, true, visit)
}

// match visits what matches topic below a node; more says that there is any of it left.
func (n *patternNode) match(topic string, more bool, visit func(*feed)) {
	for _, f := range n.rest {
		visit(f) // ** is any number of segments, and none
	}
	if !more {
		for _, f := range n.exact {
			visit(f)
		}
		return
	}
	if len(n.next) == 0 {
		return
	}
	segment, rest, more := strings.Cut(topic, "/")
	if next := n.next[segment]; next != nil && segment != "*" {
		next.match(rest, more, visit)
	}
	if next := n.next["*"]; next != nil {
		next.match(rest, more, visit)
	}
}
