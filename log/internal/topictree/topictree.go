// Package topictree finds what belongs to topics, by pattern.
package topictree

import "strings"

// A Tree holds a value for each topic. The zero Tree is empty. It is not safe for
// concurrent use while it changes.
type Tree[T any] struct {
	root node[T]
}

type node[T any] struct {
	value    T
	set      bool // a topic ends here
	children map[string]*node[T]
}

// Put sets the value of a topic.
func (t *Tree[T]) Put(topic string, value T) {
	n := &t.root
	for segment := range strings.SplitSeq(topic, "/") {
		child := n.children[segment]
		if child == nil {
			if n.children == nil {
				n.children = make(map[string]*node[T])
			}
			child = &node[T]{}
			n.children[segment] = child
		}
		n = child
	}
	n.value, n.set = value, true
}

// Match calls found for the value of each topic that matches a pattern, once. Its cost
// is that of what matches.
func (t *Tree[T]) Match(pattern string, found func(T)) { t.root.match(pattern, found) }

func (n *node[T]) match(pattern string, found func(T)) {
	if pattern == "**" {
		n.all(found)
		return
	}
	segment, rest, more := strings.Cut(pattern, "/")
	if segment == "*" {
		for _, child := range n.children {
			child.end(rest, more, found)
		}
		return
	}
	if child := n.children[segment]; child != nil {
		child.end(rest, more, found)
	}
}

// end goes on behind a segment that matched.
func (n *node[T]) end(rest string, more bool, found func(T)) {
	switch {
	case more:
		n.match(rest, found)
	case n.set:
		found(n.value)
	}
}

func (n *node[T]) all(found func(T)) {
	if n.set {
		found(n.value)
	}
	for _, child := range n.children {
		child.all(found)
	}
}
