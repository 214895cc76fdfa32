package httploop

import (
	"bytes"
	"strconv"
	"strings"
)

const (
	// A head that is longer than mostHead, and a request that is longer with its body than
	// mostBytes, are net/http's.
	mostHead  = 16 << 10
	mostBytes = 64 << 10
)

var (
	lineEnd = []byte("\r\n")
	headEnd = []byte("\r\n\r\n")
)

// plain returns the length of the request that b begins with, or false if it is not plain,
// or not all there.
//
// A plain request is one that nobody can understand in two ways (RFC 9112, sections 2 to 7,
// and 11.2): of HTTP/1.1, its target a path, with one Host, at most one Content-Length, no
// coding of the transfer, nothing to be negotiated about the connection, and no byte that
// does not belong there. It is a POST or PUT, or a GET without a body that asks for an event
// stream, for a poll, or for nothing in particular.
func plain(b []byte) (length int, ok bool) {
	end := bytes.Index(b[:min(len(b), mostHead)], headEnd)
	if end < 0 {
		return 0, false
	}
	line, rest, _ := bytes.Cut(b[:end+len(lineEnd)], lineEnd)
	get, ok := requestLine(line)
	if !ok {
		return 0, false
	}
	hosts, body := 0, -1
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, lineEnd)
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !isToken(name) { // as of a line that is folded
			return 0, false
		}
		if value = bytes.Trim(value, " \t"); !isText(value) {
			return 0, false
		}
		var lower [20]byte // longer than all names here
		switch string(appendLower(lower[:0], name)) {
		case "transfer-encoding", "trailer", "te", "expect", "upgrade", "http2-settings", "proxy-connection", "keep-alive":
			return 0, false
		case "connection":
			if !bytes.EqualFold(value, []byte("keep-alive")) {
				return 0, false
			}
		case "accept":
			if get && !isUsual(value) {
				return 0, false
			}
		case "host":
			if hosts++; hosts > 1 || !isHost(value) {
				return 0, false
			}
		case "content-length":
			n, err := strconv.ParseUint(string(value), 10, 31) // takes digits only
			if body >= 0 || err != nil {
				return 0, false
			}
			body = int(n)
		}
	}
	if hosts == 0 || get && body > 0 {
		return 0, false
	}
	length = end + len(headEnd) + max(body, 0)
	return length, length <= len(b)
}

// requestLine tells whether a request's first line is plain.
func requestLine(line []byte) (get, ok bool) {
	method, rest, _ := bytes.Cut(line, []byte(" "))
	target, version, _ := bytes.Cut(rest, []byte(" "))
	if string(version) != "HTTP/1.1" || len(target) == 0 || target[0] != '/' {
		return false, false
	}
	for _, c := range target {
		if c <= ' ' || c >= 0x7F {
			return false, false
		}
	}
	switch string(method) {
	case "GET":
		return true, true
	case "POST", "PUT":
		return false, true
	}
	return false, false
}

// isUsual tells whether a GET accepts what is answered whole, or is an event stream.
func isUsual(accept []byte) bool {
	switch string(accept) {
	case "text/event-stream", "application/json", "*/*":
		return true
	}
	return false
}

// isToken tells whether a header's name is one (RFC 9110, section 5.6.2).
func isToken(name []byte) bool {
	for _, c := range name {
		if !tokenBytes[c] {
			return false
		}
	}
	return len(name) > 0
}

var tokenBytes = func() (t [256]bool) {
	for c := range t {
		t[c] = '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0
	}
	return t
}()

// isText tells whether a header's value has no control character but tabs.
func isText(value []byte) bool {
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7F {
			return false
		}
	}
	return true
}

// isHost tells whether a Host is made of what names, addresses and ports are.
func isHost(value []byte) bool {
	for _, c := range value {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', strings.IndexByte("-._:[]", c) >= 0:
		default:
			return false
		}
	}
	return len(value) > 0
}

// appendLower appends a name in lower case, as far as there is room.
func appendLower(b, name []byte) []byte {
	for _, c := range name[:min(len(name), cap(b))] {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

// emptyLines returns the length of what old clients send after a body, which is to be ignored
// (RFC 9112, section 2.2).
func emptyLines(b []byte) int {
	const most = 4
	b = b[:min(len(b), most)]
	return len(b) - len(bytes.TrimLeft(b, "\r\n"))
}
