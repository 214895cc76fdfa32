package hub

import "strings"

// Covers reports whether every topic that pattern q matches is matched by pattern p too.
// Both must be such that [CheckPattern] accepts them. Compared are names, not what there
// is: a/* covers a/b and a/*, and neither a nor a/**.
func Covers(p, q string) bool {
	if p == "*/**" {
		return true // every topic has a segment
	}
	for {
		ps, pRest, pMore := strings.Cut(p, "/")
		qs, qRest, qMore := strings.Cut(q, "/")
		switch {
		case ps == "**" && !pMore:
			return true
		case qs == "**" && !qMore:
			return false // it matches names of any length
		case ps != "*" && (ps != qs || qs == "*"):
			return false
		case !pMore && !qMore:
			return true
		case !qMore:
			return pRest == "**" // which also matches no segment at all
		case !pMore:
			return false
		}
		p, q = pRest, qRest
	}
}

// Intersect returns the pattern that matches just the topics that p and q both match, and
// false if there can be none. Both must be such that [CheckPattern] accepts them.
func Intersect(p, q string) (string, bool) {
	var both []string
	for {
		ps, pRest, pMore := strings.Cut(p, "/")
		qs, qRest, qMore := strings.Cut(q, "/")
		switch {
		case ps == "**" && !pMore:
			return strings.Join(append(both, q), "/"), true
		case qs == "**" && !qMore:
			return strings.Join(append(both, p), "/"), true
		case ps == "*":
			both = append(both, qs)
		case qs == "*" || ps == qs:
			both = append(both, ps)
		default:
			return "", false
		}
		switch {
		case !pMore && !qMore, !pMore && qRest == "**", !qMore && pRest == "**":
			name := strings.Join(both, "/")
			return name, name != ""
		case !pMore || !qMore:
			return "", false
		}
		p, q = pRest, qRest
	}
}

// coveredBy tells whether one of a grant's patterns covers a pattern.
func coveredBy(grants []string, pattern string) bool {
	for _, g := range grants {
		if Covers(g, pattern) {
			return true
		}
	}
	return false
}

// grantsTopic tells whether one of a grant's patterns matches a topic.
func grantsTopic(grants []string, topic string) bool {
	for _, g := range grants {
		if Match(g, topic) {
			return true
		}
	}
	return false
}
