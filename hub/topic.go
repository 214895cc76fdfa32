package hub

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// CheckTopic returns an error if name cannot be a topic: 1 to [MaxTopicSize] bytes of
// UTF-8 without control characters.
func CheckTopic(name string) error {
	switch {
	case name == "":
		return errors.New("topic is empty: name one, as in /events/news")
	case len(name) > MaxTopicSize:
		return fmt.Errorf("topic has %d bytes, more than %d", len(name), MaxTopicSize)
	case !utf8.ValidString(name):
		return errors.New("topic is not UTF-8: percent-encode its UTF-8 bytes")
	}
	if i := strings.IndexFunc(name, unicode.IsControl); i >= 0 {
		return fmt.Errorf("topic has a control character at byte %d", i)
	}
	return nil
}

// CheckPattern returns an error if p cannot be a pattern: a topic in which a whole
// segment may be *, which matches one segment, and the last one **, which matches any
// number of them.
func CheckPattern(p string) error {
	if err := CheckTopic(p); err != nil {
		return errors.New(strings.Replace(err.Error(), "topic", "pattern", 1))
	}
	rest, more := p, true
	for more {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		switch {
		case segment == "**" && more:
			return errors.New("pattern has ** before its end: it can only be the last segment")
		case segment != "*" && segment != "**" && strings.Contains(segment, "*"):
			return fmt.Errorf("pattern has * within the segment %q: it can only be a whole one", segment)
		}
	}
	return nil
}

// Match reports whether a topic matches a pattern that [CheckPattern] accepts. Topics
// are compared byte for byte. a/** matches a, a/b and a/b/c.
func Match(pattern, topic string) bool {
	for {
		p, patternRest, morePattern := strings.Cut(pattern, "/")
		if p == "**" && !morePattern {
			return true
		}
		t, topicRest, moreTopic := strings.Cut(topic, "/")
		if p != "*" && p != t {
			return false
		}
		switch {
		case !morePattern && !moreTopic:
			return true
		case !moreTopic:
			return patternRest == "**" // which also matches no segment at all
		case !morePattern:
			return false
		}
		pattern, topic = patternRest, topicRest
	}
}

// For returns the retention of a topic.
func (rules RetentionRules) For(topic string) Retention {
	for _, r := range rules {
		if Match(r.Pattern, topic) {
			return r.Retention
		}
	}
	return Retention{}
}
