package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidewire/tidewire/server"
)

// TestServer_SmugglesNothing sends shapes of requests about which servers and the proxies in
// front of them are known to disagree. {hidden} is a request of its own to who takes the
// body's end to be before it.
//
// Invariants: a request whose end can be taken in two ways is refused and ends its
// connection, or has one end only, the right one (RFC 9112, sections 6.1 and 6.3); what is
// hidden never reaches the handler.
func TestServer_SmugglesNothing(t *testing.T) {
	const (
		hidden = "GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
		post   = "POST /events/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
		head   = "HEAD /events/a HTTP/1.1\r\nHost: localhost\r\n"
		after  = "HEAD /events/after HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
	)
	chunked := fmt.Sprintf("%x\r\n{hidden}\r\n0\r\n\r\n", len(hidden))
	for _, c := range []struct {
		name string
		sent string
		want string // statuses
		seen string // what the handler gets
	}{
		{"two requests", post + "Content-Length: 5\r\n\r\nhello" + after, "201 200", "POST /events/a, HEAD /events/after"},
		{"a body that looks like a request", post + fmt.Sprintf("Content-Length: %d\r\n\r\n{hidden}", len(hidden)) + after, "201 200", "POST /events/a, HEAD /events/after"},
		{"chunks that look like a request", post + "Transfer-Encoding: chunked\r\n\r\n" + chunked + after, "201", "POST /events/a"},
		{"a body of HEAD", head + fmt.Sprintf("Content-Length: %d\r\n\r\n{hidden}", len(hidden)) + after, "200 200", "HEAD /events/a, HEAD /events/after"},

		// Lengths that contradict each other.
		{"length and chunks", post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}", "201", "POST /events/a"},
		{"chunks and length", post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + chunked, "201", "POST /events/a"},
		{"two lengths", post + "Content-Length: 5\r\nContent-Length: 0\r\n\r\n{hidden}", "400", ""},
		{"two lengths in one", post + "Content-Length: 5, 0\r\n\r\n{hidden}", "400", ""},
		{"the same length twice", post + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello" + after, "201 200", "POST /events/a, HEAD /events/after"},
		{"a length with a sign", post + "Content-Length: +5\r\n\r\nhello{hidden}", "400", ""},
		{"a negative length", post + "Content-Length: -5\r\n\r\nhello{hidden}", "400", ""},
		{"a length in hex", post + "Content-Length: 0x5\r\n\r\nhello{hidden}", "400", ""},
		{"an empty length", post + "Content-Length: \r\n\r\n{hidden}", "400", ""},
		{"an immense length", post + "Content-Length: 99999999999999999999\r\n\r\n{hidden}", "400", ""},
		{"a space before the colon", post + "Content-Length : 5\r\n\r\nhello{hidden}", "400", ""},

		// Transfer codings.
		{"an unknown coding", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}", "501", ""},
		{"identity", post + "Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello{hidden}", "501", ""},
		{"chunked twice", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}", "501", ""},
		{"chunked and identity", post + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}", "501", ""},
		{"gzip and chunked", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{hidden}", "501", ""},
		{"chunked after a tab", post + "Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n" + after, "201", "POST /events/a"},
		{"chunked after a vertical tab", post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n{hidden}", "400", ""},
		{"chunked in capitals", post + "Transfer-Encoding: CHUNKED\r\n\r\n" + chunked + after, "201", "POST /events/a"},
		{"chunked in HTTP/1.0", "POST /events/a HTTP/1.0\r\nHost: localhost\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}", "201", "POST /events/a"},
		{"a space before its colon", post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{hidden}", "400", ""},

		// Chunks.
		{"a negative chunk", post + "Transfer-Encoding: chunked\r\n\r\n-1\r\n{hidden}", "400", "POST /events/a"},
		{"an immense chunk", post + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{hidden}", "400", "POST /events/a"},
		{"a chunk in 0x", post + "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n{hidden}", "400", "POST /events/a"},
		{"a chunk that is longer than it says", post + "Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n{hidden}", "400", "POST /events/a"},
		{"a bare LF in an extension", post + "Transfer-Encoding: chunked\r\n\r\n5;x\nhello\r\n0\r\n\r\n{hidden}", "400", "POST /events/a"},
		{"a bare CR in an extension", post + "Transfer-Encoding: chunked\r\n\r\n5;\rx\r\nhello\r\n0\r\n\r\n{hidden}", "400", "POST /events/a"},
		{"a length in the trailers", post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nContent-Length: 40\r\n\r\n" + after, "201", "POST /events/a"},

		// Lines.
		{"bare LF", strings.ReplaceAll(post+"Content-Length: 5\r\n\r\n", "\r\n", "\n") + "hello" + after, "201 200", "POST /events/a, HEAD /events/after"},
		{"a bare CR in a header", head + "X: a\rContent-Length: 40\r\n\r\n{hidden}", "400", ""},
		{"NUL in a header", head + "X: a\x00b\r\n\r\n{hidden}", "400", ""},
		{"NUL in a name", head + "X\x00Y: a\r\n\r\n{hidden}", "400", ""},
		{"no name", head + ": a\r\n\r\n{hidden}", "400", ""},
		{"no colon", head + "Content-Length\r\n\r\n{hidden}", "400", ""},
		{"a folded header", head + "X: a\r\n b\r\n\r\n" + after, "200 200", "HEAD /events/a, HEAD /events/after"},
		{"a folded first header", "HEAD /events/a HTTP/1.1\r\n Host: localhost\r\n\r\n{hidden}", "400", ""},
		{"a folded coding", post + "Transfer-Encoding:\r\n chunked\r\n\r\n" + chunked + after, "201", "POST /events/a"},

		// Request lines.
		{"absolute form of another host", "HEAD http://other.example/events/a HTTP/1.1\r\nHost: localhost\r\n\r\n" + after, "421 200", "HEAD /events/after"},
		{"absolute form", "HEAD https://localhost/events/a HTTP/1.1\r\nHost: localhost\r\n\r\n" + after, "200 200", "HEAD /events/a, HEAD /events/after"},
		{"another scheme", "HEAD gopher://localhost/events/a HTTP/1.1\r\nHost: localhost\r\n\r\n" + after, "200 200", "HEAD /events/a, HEAD /events/after"},
		{"authority form", "CONNECT localhost:25 HTTP/1.1\r\nHost: localhost\r\n\r\n{hidden}", "404", "CONNECT "},
		{"asterisk form", "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n" + after, "200 200", "HEAD /events/after"},
		{"no path", "HEAD events/a HTTP/1.1\r\nHost: localhost\r\n\r\n{hidden}", "400", ""},
		{"a space in the path", "HEAD /events/a b HTTP/1.1\r\nHost: localhost\r\n\r\n{hidden}", "400", ""},
		{"NUL in the path", "HEAD /events/a\x00b HTTP/1.1\r\nHost: localhost\r\n\r\n{hidden}", "400", ""},
		{"a CR in the path", "HEAD /events/a\rb HTTP/1.1\r\nHost: localhost\r\n\r\n{hidden}", "400", ""},
		{"a tab before the version", "HEAD /events/a\tHTTP/1.1\r\nHost: localhost\r\n\r\n{hidden}", "400", ""},
		{"no version", "HEAD /events/a\r\nHost: localhost\r\n\r\n{hidden}", "400", ""},
		{"version 1.2", "HEAD /events/a HTTP/1.2\r\nHost: localhost\r\n\r\n" + after, "200 200", "HEAD /events/a, HEAD /events/after"},
		{"version 3", "HEAD /events/a HTTP/3.0\r\nHost: localhost\r\n\r\n{hidden}", "505", ""},
		{"a preface that goes wrong", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n{hidden}", "421", ""},
		{"an upgrade to HTTP/2", head + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n" + after, "200 200", "HEAD /events/a, HEAD /events/after"},

		// Host.
		{"no Host", "HEAD /events/a HTTP/1.1\r\n\r\n{hidden}", "400", ""},
		{"two Hosts", head + "Host: other.example\r\n\r\n{hidden}", "400", ""},
		{"a space in Host", "HEAD /events/a HTTP/1.1\r\nHost: a b\r\n\r\n{hidden}", "400", ""},
		{"a slash in Host", "HEAD /events/a HTTP/1.1\r\nHost: a/b\r\n\r\n{hidden}", "400", ""},
		{"an at sign in Host", "HEAD /events/a HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n{hidden}", "400", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var (
				mu      sync.Mutex
				reached []string
			)
			s := startServer(t, server.Config{
				// What waits for more of a request, or another one, is closed.
				Limits: server.Limits{HeaderTimeout: 500 * time.Millisecond, BodyTimeout: 500 * time.Millisecond, IdleTimeout: 500 * time.Millisecond},
				Handler: seen(func(r *http.Request) {
					mu.Lock()
					defer mu.Unlock()
					reached = append(reached, r.Method+" "+r.URL.Path)
				}),
			})
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL(), "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, strings.ReplaceAll(c.sent, "{hidden}", hidden)); err != nil {
				t.Fatal(err)
			}
			got := statuses(conn)
			mu.Lock()
			defer mu.Unlock()
			if slices.Contains(reached, "GET /hidden") {
				t.Errorf("what was hidden was served, with %s", got)
			}
			if have := strings.Join(reached, ", "); got != c.want || have != c.seen {
				t.Errorf("got %q after %q, want %q after %q", got, have, c.want, c.seen)
			}
		})
	}
}

// statuses reads answers until the connection ends, and returns their statuses. All of those
// to POST have a length, as problem documents do, and those to HEAD have no body.
func statuses(conn net.Conn) string {
	all, _ := io.ReadAll(conn) // it may be reset after the last answer
	var got []string
	for r := bufio.NewReader(bytes.NewReader(all)); ; {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return strings.Join(got, " ")
		}
		got = append(got, fmt.Sprint(resp.StatusCode))
		if next, _ := r.Peek(5); string(next) == "HTTP/" {
			continue // to HEAD
		}
		_, _ = io.Copy(io.Discard, resp.Body)
	}
}
