package server

import (
	"errors"
	"fmt"
	"strings"
)

// A forwardedElement is what one proxy says.
type forwardedElement struct {
	node  string // for=
	proto string // proto=
}

// parseForwarded reads a Forwarded header (RFC 7239, section 4):
//
//	element   = [ pair ] *( ";" [ pair ] )
//	pair      = token "=" ( token / quoted-string )
//
// It reads from the left, and takes nothing that is not so: a client could otherwise open a
// quotation that swallows what a proxy adds.
func parseForwarded(s string) ([]forwardedElement, error) {
	var (
		all  []forwardedElement
		e    forwardedElement
		some bool // the element has a pair
	)
	end := func() {
		if some {
			all = append(all, e)
		}
		e, some = forwardedElement{}, false
	}
	for {
		s = strings.TrimLeft(s, " \t")
		switch {
		case s == "":
			end()
			return all, nil
		case s[0] == ',':
			end()
			s = s[1:]
			continue
		case s[0] == ';':
			s = s[1:]
			continue
		}
		name, value, rest, err := cutPair(s)
		if err != nil {
			return nil, err
		}
		switch {
		case strings.EqualFold(name, "for") && e.node == "":
			e.node = value
		case strings.EqualFold(name, "proto") && e.proto == "":
			e.proto = value
		case strings.EqualFold(name, "for"), strings.EqualFold(name, "proto"):
			return nil, fmt.Errorf("%q stands twice in an element", name)
		}
		some = true
		if s = strings.TrimLeft(rest, " \t"); s != "" && s[0] != ',' && s[0] != ';' {
			return nil, fmt.Errorf("%.20q follows a value", s)
		}
	}
}

// cutPair cuts a pair off.
func cutPair(s string) (name, value, rest string, err error) {
	n := tokenLength(s)
	if n == 0 || n == len(s) || s[n] != '=' {
		return "", "", "", fmt.Errorf("%.20q is no name and value", s)
	}
	name, s = s[:n], s[n+1:]
	if strings.HasPrefix(s, `"`) {
		value, rest, err = cutQuoted(s[1:])
		return name, value, rest, err
	}
	// Addresses that have a colon or a bracket should be quoted, and often are not.
	n = strings.IndexFunc(s, func(c rune) bool { return c > 0x7e || !isTokenByte(byte(c)) && !strings.ContainsRune(":[]", c) })
	if n < 0 {
		n = len(s)
	}
	if n == 0 {
		return "", "", "", fmt.Errorf("%q has no value", name)
	}
	return name, s[:n], s[n:], nil
}

// cutQuoted cuts a quoted-string off whose opening quote is gone (RFC 9110, section 5.6.4).
func cutQuoted(s string) (value, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], nil
		case '\\':
			if i++; i == len(s) {
				return "", "", errNoQuote
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", errNoQuote
}

var errNoQuote = errors.New("a quotation has no end")

func tokenLength(s string) int {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return i
		}
	}
	return len(s)
}

// isTokenByte tells what can stand in a token (RFC 9110, section 5.6.2).
func isTokenByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
