package server_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/tidewire/tidewire/server"
)

// FuzzForwarded has a client write whatever it likes before what a trusted proxy adds.
//
// Invariants: where a request comes from is an address and a port; it is never what the
// client says, but what the proxy does, or the request is refused; the scheme is "" or
// "https".
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{
		"", "192.0.2.1", "for=192.0.2.1;proto=https", `for="[2001:db8::1]:4711"`, `for="`, `for=a;x="`, `for=1.2.3.4;"`,
		"10.0.0.9, unknown", ",;,", `for="\"`, "for=\x00", "for==", "a=b=c", "[::1", "127.0.0.1:99999", "for=[::1%25eth0]",
	} {
		f.Add(s, false)
		f.Add(s, true)
	}
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, said string, quoted bool) {
		for _, header := range []string{server.XForwardedFor, server.Forwarded} {
			added, want := "203.0.113.9", "203.0.113.9:0"
			switch {
			case header == server.Forwarded && quoted:
				added, want = `for="[2001:db8::9]:77";proto=http`, "[2001:db8::9]:77"
			case header == server.Forwarded:
				added = "for=203.0.113.9;proto=http"
			}
			for _, values := range [][]string{{said, added}, {said + ", " + added}} {
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				r.RemoteAddr = "10.0.0.1:80"
				r.Header[header] = values
				err := server.Settle(r, header, proxies...)
				if err != nil && header == server.XForwardedFor {
					t.Fatalf("%s %q: %v", header, values, err)
				}
				if err == nil && (r.RemoteAddr != want || r.URL.Scheme != "") {
					t.Errorf("%s %q: got %s %q, want %s", header, values, r.RemoteAddr, r.URL.Scheme, want)
				}
			}
			// And alone, as a proxy may say anything.
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = "10.0.0.1:80"
			r.Header[header] = []string{said}
			r.Header["X-Forwarded-Proto"] = []string{said}
			if err := server.Settle(r, header, proxies...); err != nil {
				continue
			}
			if _, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || r.URL.Scheme != "" && r.URL.Scheme != "https" {
				t.Errorf("%s %q: got %q %q", header, said, r.RemoteAddr, r.URL.Scheme)
			}
		}
	})
}

// FuzzProxyHeader sends whatever a proxy may through a listener, and a request behind it.
//
// Invariants: nothing panics or hangs; where a handler gets the request, it has an address.
func FuzzProxyHeader(f *testing.F) {
	v2 := proxyproto.HeaderProxyFromAddrs(2, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 2})
	b, err := v2.Format()
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{string(b), "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "PROXY UNKNOWN\r\n", "PROXY ", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff", "",
		"\r\n\r\n\x00\r\nQUIT\n 1\x00\f000000000", // it takes a part of the request
	} {
		f.Add([]byte(s))
	}
	from := make(chan string, 100)
	s := startServer(f, server.Config{
		Transport: server.Transport{TrustedProxies: loopback, ProxyProtocol: true},
		Limits:    server.Limits{HeaderTimeout: 2 * time.Second, ConnectionsPerAddress: -1},
		Handler: seen(func(r *http.Request) {
			select {
			case from <- r.RemoteAddr:
			default:
			}
		}),
	})
	address := strings.TrimPrefix(s.URL(), "http://")
	f.Fuzz(func(t *testing.T, header []byte) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Skip(err) // out of ports
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		sent := append(bytes.Clone(header), "HEAD /events/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"...)
		_, _ = conn.Write(sent)
		_ = conn.(*net.TCPConn).CloseWrite()
		_, err = io.Copy(io.Discard, conn)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Fatal("the connection stays open")
		}
		select {
		case a := <-from:
			if _, err := netip.ParseAddrPort(a); err != nil {
				t.Errorf("got a request from %q", a)
			}
			// Only a whole header lets the request through.
			if _, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(sent))); err != nil {
				t.Errorf("a request was served after %q: %v", header, err)
			}
		default:
		}
	})
}
