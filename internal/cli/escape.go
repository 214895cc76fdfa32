package cli

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A stream is written by others, and a terminal obeys what is written to it: clears
// itself, moves, answers as if typed. Runes that could make it do so, or that change
// the order or the lines in which other text is shown, are therefore written out.

// dangerous tells whether a rune must not reach a terminal as it is.
func dangerous(r rune) bool {
	return unicode.IsControl(r) || // C0, DEL and C1
		unicode.Is(unicode.Bidi_Control, r) ||
		unicode.In(r, unicode.Zl, unicode.Zp) ||
		r == '\uFEFF'
}

// appendVisible appends s with every dangerous rune but those in except written out,
// such as \x1b or \u202e. So are bytes that are not UTF-8.
func appendVisible(dst []byte, s, except string) []byte {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			dst = fmt.Appendf(dst, `\x%02x`, s[i])
		case !dangerous(r) || strings.ContainsRune(except, r):
			dst = append(dst, s[i:i+n]...)
		default:
			dst = appendEscape(dst, r)
		}
		i += n
	}
	return dst
}

func appendEscape(dst []byte, r rune) []byte {
	switch {
	case r == '\n':
		return append(dst, `\n`...)
	case r == '\r':
		return append(dst, `\r`...)
	case r == '\t':
		return append(dst, `\t`...)
	case r < utf8.RuneSelf:
		return fmt.Appendf(dst, `\x%02x`, r)
	}
	return fmt.Appendf(dst, `\u%04x`, r) // none of them is above U+FFFF
}

// visible is appendVisible for a line of text.
func visible(s string) string { return string(appendVisible(nil, s, "")) }

// appendVisibleJSON appends JSON whose strings mean the same, and in which the
// dangerous runes that JSON allows as they are have become escapes.
func appendVisibleJSON(dst, text []byte) []byte {
	for _, r := range string(text) {
		if dangerous(r) {
			dst = fmt.Appendf(dst, `\u%04x`, r)
		} else {
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst
}
