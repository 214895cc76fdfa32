package httploop

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
)

func TestPlain(t *testing.T) {
	const host = "Host: example.com\r\n"
	for _, tt := range []struct {
		name, request string
		rest          string // what follows the request, if that is plain
		ok            bool
	}{
		{name: "get", request: "GET /events/a?last=1 HTTP/1.1\r\n" + host + "\r\n", ok: true},
		{name: "get of a stream", request: "GET / HTTP/1.1\r\n" + host + "accept:text/event-stream\r\nCache-Control: no-cache\r\nLast-Event-ID: a\xc3\xa9\r\n\r\n", ok: true},
		{name: "post", request: "POST /a HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\nabc", ok: true},
		{name: "put that is followed", request: "PUT /a HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 1\r\n\r\na", rest: "GET", ok: true},
		{name: "post without a body", request: "POST /a HTTP/1.1\r\n" + host + "\r\n", ok: true},
		{name: "kept alive", request: "GET / HTTP/1.1\r\n" + host + "Connection: Keep-Alive\r\n\r\n", ok: true},

		{name: "nothing"},
		{name: "half a head", request: "GET / HTTP/1.1\r\n" + host},
		{name: "half a body", request: "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\nab"},
		{name: "long head", request: "GET / HTTP/1.1\r\n" + host + "a: " + strings.Repeat("x", mostHead) + "\r\n\r\n"},
		{name: "HTTP/1.0", request: "GET / HTTP/1.0\r\n" + host + "\r\n"},
		{name: "HTTP/2", request: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
		{name: "head", request: "HEAD / HTTP/1.1\r\n" + host + "\r\n"},
		{name: "small letters", request: "get / HTTP/1.1\r\n" + host + "\r\n"},
		{name: "absolute form", request: "GET http://a/ HTTP/1.1\r\n" + host + "\r\n"},
		{name: "asterisk", request: "GET * HTTP/1.1\r\n" + host + "\r\n"},
		{name: "space in the target", request: "GET /a b HTTP/1.1\r\n" + host + "\r\n"},
		{name: "two spaces", request: "GET  / HTTP/1.1\r\n" + host + "\r\n"},
		{name: "bytes of UTF-8 in the target", request: "GET /\xc3\xa9 HTTP/1.1\r\n" + host + "\r\n"},
		{name: "lines that end with LF", request: "GET / HTTP/1.1\n" + "Host: a\n\n\r\n\r\n"},
		{name: "LF in a value", request: "GET / HTTP/1.1\r\n" + host + "a: b\nContent-Length: 5\r\n\r\n"},
		{name: "CR in a value", request: "GET / HTTP/1.1\r\n" + host + "a: b\rc\r\n\r\n"},
		{name: "NUL in a value", request: "GET / HTTP/1.1\r\n" + host + "a: \x00\r\n\r\n"},
		{name: "folded", request: "GET / HTTP/1.1\r\n" + host + "a: b\r\n c\r\n\r\n"},
		{name: "space before the colon", request: "POST / HTTP/1.1\r\n" + host + "Content-Length : 3\r\n\r\nabc"},
		{name: "no name", request: "GET / HTTP/1.1\r\n" + host + ": b\r\n\r\n"},
		{name: "no colon", request: "GET / HTTP/1.1\r\n" + host + "b\r\n\r\n"},
		{name: "no host", request: "GET / HTTP/1.1\r\na: b\r\n\r\n"},
		{name: "no host's name", request: "GET / HTTP/1.1\r\nHost:\r\n\r\n"},
		{name: "two hosts", request: "GET / HTTP/1.1\r\n" + host + host + "\r\n"},
		{name: "strange host", request: "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"},
		{name: "two lengths", request: "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"},
		{name: "list of lengths", request: "POST / HTTP/1.1\r\n" + host + "Content-Length: 3, 3\r\n\r\nabc"},
		{name: "signed length", request: "POST / HTTP/1.1\r\n" + host + "Content-Length: +3\r\n\r\nabc"},
		{name: "no length", request: "POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n\r\nabc"},
		{name: "huge length", request: "POST / HTTP/1.1\r\n" + host + "Content-Length: 99999999999999999999\r\n\r\nabc"},
		{name: "get with a body", request: "GET / HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\nabc"},
		{name: "chunks", request: "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{name: "chunks and a length", request: "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"},
		{name: "expectation", request: "POST / HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"},
		{name: "upgrade", request: "GET / HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"},
		{name: "last request", request: "GET / HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n"},
		{name: "hop-by-hop header", request: "GET / HTTP/1.1\r\n" + host + "Connection: keep-alive, a\r\n\r\n"},
		{name: "trailers", request: "GET / HTTP/1.1\r\n" + host + "TE: trailers\r\n\r\n"},
		{name: "JSON lines", request: "GET / HTTP/1.1\r\n" + host + "Accept: application/x-ndjson\r\n\r\n"},
		{name: "empty line before", request: "\r\nGET / HTTP/1.1\r\n" + host + "\r\n"},
	} {
		n, ok := plain([]byte(tt.request + tt.rest))
		if ok != tt.ok || ok && n != len(tt.request) {
			t.Errorf("%s: got %d, %v, want %d, %v", tt.name, n, ok, len(tt.request), tt.ok)
		}
	}
	longest := "POST / HTTP/1.1\r\n" + host + "Content-Length: 65000\r\n\r\n" + strings.Repeat("x", 65000)
	for n := range len(longest) {
		if got, ok := plain([]byte(longest[:n])); ok {
			t.Fatalf("got %d for the first %d of %d bytes, want that it is not whole", got, n, len(longest))
		}
	}
}

// FuzzPlain compares what is taken for plain with what net/http makes of it.
func FuzzPlain(f *testing.F) {
	f.Add([]byte("GET /events/a HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n"))
	f.Add([]byte("POST /events/a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhelloGET / HTTP/1.1"))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nUpgrade: x\r\nExpect: 100-continue\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, ok := plain(b)
		if !ok {
			return
		}
		if n > len(b) {
			t.Fatalf("got %d of %d bytes", n, len(b))
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return // net/http gets it, and refuses it
		}
		head := bytes.Index(b, headEnd) + len(headEnd)
		if int(r.ContentLength) != n-head || len(r.TransferEncoding) > 0 || r.Close || !r.ProtoAtLeast(1, 1) || r.Host == "" || len(r.Trailer) > 0 {
			t.Fatalf("%q: net/http has length %d, codings %q, close %v, %s, host %q, trailers %v; plain has length %d", b, r.ContentLength, r.TransferEncoding, r.Close, r.Proto, r.Host, r.Trailer, n-head)
		}
		if r.URL.Host != "" || !bytes.HasPrefix([]byte(r.RequestURI), []byte("/")) {
			t.Fatalf("%q: got URL %v", b, r.URL)
		}
	})
}
