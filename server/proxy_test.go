package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/server"
)

// seen has a server tell of each request that comes to its handler.
func seen(tell func(*http.Request)) func(*hub.Hub) http.Handler {
	return func(h *hub.Hub) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			tell(r)
			h.ServeHTTP(w, r)
		})
	}
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func TestTrustedProxy_SaysWhereARequestComesFrom(t *testing.T) {
	const x, f = server.XForwardedFor, server.Forwarded
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("198.51.100.7/32")}
	for _, c := range []struct {
		name    string
		peer    string
		header  string // to read
		headers []string
		target  string
		want    string
		scheme  string
		fails   bool
	}{
		{name: "nobody in between", peer: "203.0.113.9:4711", header: x, want: "203.0.113.9:4711"},
		{name: "a stranger says so", peer: "203.0.113.9:4711", header: x, headers: []string{"X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"}, want: "203.0.113.9:4711"},
		{name: "a stranger says nonsense", peer: "203.0.113.9:4711", header: f, headers: []string{`Forwarded: for="`}, want: "203.0.113.9:4711"},
		{name: "a proxy says so", peer: "10.1.2.3:80", header: x, headers: []string{"X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"}, want: "192.0.2.1:0", scheme: "https"},
		{name: "the default header", peer: "10.1.2.3:80", headers: []string{"X-Forwarded-For: 192.0.2.1"}, want: "192.0.2.1:0"},
		{name: "a proxy says nothing", peer: "10.1.2.3:80", header: x, want: "10.1.2.3:80"},
		{name: "with a port", peer: "10.1.2.3:80", header: x, headers: []string{"X-Forwarded-For: 192.0.2.1:1234"}, want: "192.0.2.1:1234"},
		{name: "IPv6", peer: "10.1.2.3:80", header: x, headers: []string{"X-Forwarded-For: 2001:db8::1"}, want: "[2001:db8::1]:0"},
		{name: "IPv6 in brackets", peer: "10.1.2.3:80", header: x, headers: []string{"X-Forwarded-For: [2001:db8::1]:99"}, want: "[2001:db8::1]:99"},
		{name: "IPv4 in IPv6", peer: "[::ffff:10.1.2.3]:80", header: x, headers: []string{"X-Forwarded-For: ::ffff:192.0.2.1"}, want: "192.0.2.1:0"},
		{name: "a proxy with a zone", peer: "[fd00::1%eth0]:80", header: x, headers: []string{"X-Forwarded-For: 192.0.2.1"}, want: "192.0.2.1:0"},
		{name: "two proxies", peer: "10.1.2.3:80", header: x, headers: []string{"X-Forwarded-For: 192.0.2.1, 198.51.100.7"}, want: "192.0.2.1:0"},
		{name: "the client adds its own", peer: "10.1.2.3:80", header: x, headers: []string{"X-Forwarded-For: 127.0.0.1, 192.0.2.1"}, want: "192.0.2.1:0"},
		{name: "the client names a proxy", peer: "10.1.2.3:80", header: x, headers: []string{"X-Forwarded-For: 10.9.9.9, 192.0.2.1, 198.51.100.7"}, want: "192.0.2.1:0"},
		{name: "in lines of their own", peer: "10.1.2.3:80", header: x, headers: []string{"X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: 192.0.2.1"}, want: "192.0.2.1:0"},
		{name: "all are proxies", peer: "10.1.2.3:80", header: x, headers: []string{"X-Forwarded-For: 10.0.0.9, 10.0.0.8"}, want: "10.0.0.9:0"},
		{name: "the proxy hides it", peer: "10.1.2.3:80", header: x, headers: []string{"X-Forwarded-For: 192.0.2.1, unknown"}, want: "10.1.2.3:80"},
		{name: "only the other header", peer: "10.1.2.3:80", header: x, headers: []string{"Forwarded: for=192.0.2.1;proto=https"}, want: "10.1.2.3:80"},
		{name: "came in clear text to a proxy", peer: "10.1.2.3:80", header: x, headers: []string{"X-Forwarded-Proto: http"}, want: "10.1.2.3:80"},
		{name: "a list of protocols", peer: "10.1.2.3:80", header: x, headers: []string{"X-Forwarded-Proto: https, http"}, want: "10.1.2.3:80", scheme: "https"},

		{name: "Forwarded", peer: "10.1.2.3:80", header: f, headers: []string{"Forwarded: for=192.0.2.1;proto=https;by=10.1.2.3"}, want: "192.0.2.1:0", scheme: "https"},
		{name: "Forwarded in other letters", peer: "10.1.2.3:80", header: f, headers: []string{"Forwarded: FOR=192.0.2.1 ; Proto=HTTPS"}, want: "192.0.2.1:0", scheme: "https"},
		{name: "Forwarded, quoted", peer: "10.1.2.3:80", header: f, headers: []string{`Forwarded: for="[2001:db8::1]:4711"`}, want: "[2001:db8::1]:4711"},
		{name: "Forwarded, not quoted", peer: "10.1.2.3:80", header: f, headers: []string{"Forwarded: for=[2001:db8::1]:4711"}, want: "[2001:db8::1]:4711"},
		{name: "Forwarded, two proxies", peer: "10.1.2.3:80", header: f, headers: []string{"Forwarded: for=192.0.2.1;proto=https, for=10.0.0.9;proto=http"}, want: "192.0.2.1:0", scheme: "https"},
		{name: "Forwarded, the client adds its own", peer: "10.1.2.3:80", header: f, headers: []string{"Forwarded: for=127.0.0.1;proto=https", "Forwarded: for=192.0.2.1;proto=http"}, want: "192.0.2.1:0"},
		{name: "Forwarded, a comma in quotes", peer: "10.1.2.3:80", header: f, headers: []string{`Forwarded: for=192.0.2.1;secret=", for=10.0.0.1;\""`}, want: "192.0.2.1:0"},
		{name: "Forwarded, hidden", peer: "10.1.2.3:80", header: f, headers: []string{"Forwarded: for=192.0.2.1, for=_secret"}, want: "10.1.2.3:80"},
		{name: "Forwarded, unknown", peer: "10.1.2.3:80", header: f, headers: []string{"Forwarded: for=unknown"}, want: "10.1.2.3:80"},
		{name: "Forwarded, empty elements", peer: "10.1.2.3:80", header: f, headers: []string{"Forwarded: , ;for=192.0.2.1;, ,"}, want: "192.0.2.1:0"},
		{name: "Forwarded, only the other header", peer: "10.1.2.3:80", header: f, headers: []string{"X-Forwarded-For: 192.0.2.1"}, want: "10.1.2.3:80"},
		{name: "Forwarded, the client opens a quotation", peer: "10.1.2.3:80", header: f, headers: []string{`Forwarded: for="127.0.0.1`, "Forwarded: for=192.0.2.1"}, fails: true},
		{name: "Forwarded, the proxy's quotes close it", peer: "10.1.2.3:80", header: f, headers: []string{`Forwarded: for=127.0.0.1;x="`, `Forwarded: for="[2001:db8::1]"`}, fails: true},
		{name: "Forwarded, twice in an element", peer: "10.1.2.3:80", header: f, headers: []string{"Forwarded: for=127.0.0.1;for=192.0.2.1"}, fails: true},
		{name: "Forwarded, no value", peer: "10.1.2.3:80", header: f, headers: []string{"Forwarded: for="}, fails: true},
		{name: "Forwarded, no name", peer: "10.1.2.3:80", header: f, headers: []string{"Forwarded: 192.0.2.1"}, fails: true},

		{name: "a target with a scheme", peer: "203.0.113.9:4711", header: x, target: "https://example.com/events/a", want: "203.0.113.9:4711"},
		{name: "a Unix socket", peer: "@", header: x, headers: []string{"X-Forwarded-For: 192.0.2.1"}, want: "127.0.0.1:0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			target := "/events/a"
			if c.target != "" {
				target = c.target
			}
			r := httptest.NewRequest(http.MethodGet, target, nil)
			r.TLS, r.RemoteAddr = nil, c.peer
			for _, h := range c.headers {
				name, value, _ := strings.Cut(h, ": ")
				r.Header.Add(name, value)
			}
			err := server.Settle(r, c.header, trusted...)
			if (err != nil) != c.fails {
				t.Fatalf("got %v, want an error: %v", err, c.fails)
			}
			if err != nil {
				return
			}
			if r.RemoteAddr != c.want || r.URL.Scheme != c.scheme {
				t.Errorf("got %s and scheme %q, want %s and %q", r.RemoteAddr, r.URL.Scheme, c.want, c.scheme)
			}
		})
	}
}

func TestTrustedProxy_MalformedHeaderIsTheClientsMistake(t *testing.T) {
	s := startServer(t, server.Config{Transport: server.Transport{TrustedProxies: loopback, ForwardedHeader: server.Forwarded}})
	req, err := http.NewRequest(http.MethodGet, s.URL()+"/events/a", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Forwarded", `for="`)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(b), "RFC 7239") {
		t.Errorf("got %s %s, want 400 that says why", resp.Status, b)
	}
}

// proxied sends what a proxy would, and returns all of the answer: nothing where the
// connection is closed without one.
func proxied(t *testing.T, url string, begin []byte, wrap func(net.Conn) net.Conn) string {
	t.Helper()
	_, address, _ := strings.Cut(url, "://")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(begin); err != nil {
		t.Fatal(err)
	}
	if wrap != nil {
		conn = wrap(conn)
	}
	// The connection may be closed already.
	_, _ = io.WriteString(conn, "HEAD /events/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	b, _ := io.ReadAll(conn)
	return string(b)
}

// proxyHeader returns a header that says the client is at 192.0.2.1.
func proxyHeader(t testing.TB, version byte, source net.Addr) []byte {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(version, source, &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 443})
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestProxyProtocol_SaysWhereAConnectionComesFrom(t *testing.T) {
	client := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4711}
	local := &proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}
	check, err := local.Format()
	if err != nil {
		t.Fatal(err)
	}
	udp := proxyproto.HeaderProxyFromAddrs(2, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, &net.UDPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 2})
	overUDP, err := udp.Format()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		trusted []netip.Prefix
		begin   []byte
		want    string // from; "" if nothing is to be served
		answer  string // that it begins with
	}{
		{"version 1", loopback, proxyHeader(t, 1, client), "192.0.2.1:4711", "HTTP/1.1 200"},
		{"version 2", loopback, proxyHeader(t, 2, client), "192.0.2.1:4711", "HTTP/1.1 200"},
		{"IPv6", loopback, []byte("PROXY TCP6 2001:db8::1 2001:db8::2 99 443\r\n"), "[2001:db8::1]:99", "HTTP/1.1 200"},
		{"the proxy's own", loopback, check, "127.0.0.1:", "HTTP/1.1 200"},
		{"unknown", loopback, []byte("PROXY UNKNOWN\r\n"), "127.0.0.1:", "HTTP/1.1 200"},
		{"no header", loopback, nil, "", ""},
		{"two headers", loopback, append(proxyHeader(t, 1, client), proxyHeader(t, 1, client)...), "", "HTTP/1.1 400"},
		{"broken header", loopback, []byte("PROXY TCP4 192.0.2.1\r\n"), "", ""},
		{"endless header", loopback, bytes.Repeat([]byte("PROXY "), 50), "", ""},
		{"of UDP", loopback, overUDP, "", ""},
		{"version 1 of a stranger", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, proxyHeader(t, 1, client), "", "HTTP/1.1 400"},
		{"version 2 of a stranger", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, proxyHeader(t, 2, client), "", "HTTP/1.1 400"},
		{"a stranger without", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, nil, "127.0.0.1:", "HTTP/1.1 200"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			from := make(chan string, 1)
			s := startServer(t, server.Config{
				Transport: server.Transport{TrustedProxies: c.trusted, ProxyProtocol: true},
				Handler:   seen(func(r *http.Request) { from <- r.RemoteAddr }),
			})
			answer := proxied(t, s.URL(), c.begin, nil)
			if !strings.HasPrefix(answer, c.answer) || c.answer == "" && answer != "" {
				t.Errorf("got answer %.60q, want %q", answer, c.answer)
			}
			got := ""
			select {
			case got = <-from:
			default:
			}
			if !strings.HasPrefix(got, c.want) || (c.want == "") != (got == "") {
				t.Errorf("got a request from %q, want %q", got, c.want)
			}
		})
	}
}

func TestProxyProtocol_ComesBeforeTLS(t *testing.T) {
	p := newCertPair(t, t.TempDir())
	from := make(chan string, 1)
	s := startServer(t, server.Config{
		Transport: server.Transport{TLS: server.TLSFiles, CertFile: p.cert, KeyFile: p.key, TrustedProxies: loopback, ProxyProtocol: true},
		Handler:   seen(func(r *http.Request) { from <- r.RemoteAddr + " " + r.URL.Scheme }),
	})
	answer := proxied(t, s.URL(), proxyHeader(t, 2, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4711}), func(c net.Conn) net.Conn {
		return tls.Client(c, &tls.Config{RootCAs: p.roots, ServerName: "localhost"})
	})
	if !strings.HasPrefix(answer, "HTTP/1.1 200") {
		t.Fatalf("got %.60q", answer)
	}
	if got, want := <-from, "192.0.2.1:4711 https"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestProxyProtocol_HeaderMustCome has trusted proxies that begin and go no further: they
// do not hold others up, and are closed.
func TestProxyProtocol_HeaderMustCome(t *testing.T) {
	s := startServer(t, server.Config{
		Transport: server.Transport{TrustedProxies: loopback, ProxyProtocol: true},
		Limits:    server.Limits{HeaderTimeout: 300 * time.Millisecond},
	})
	_, address, _ := strings.Cut(s.URL(), "://")
	var silent []net.Conn
	for _, begin := range []string{"", "\r\n\r\n\x00\r\nQUIT\n"} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, begin); err != nil {
			t.Fatal(err)
		}
		silent = append(silent, conn)
	}
	if got := proxied(t, s.URL(), proxyHeader(t, 1, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}), nil); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("an honest proxy got %.60q", got)
	}
	for i, conn := range silent {
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(conn); len(b) > 0 || err != nil {
			t.Errorf("proxy %d: got %q, %v, want the connection closed", i, b, err)
		}
	}
}

func TestProxyProtocol_StreamsFlow(t *testing.T) {
	s := startServer(t, server.Config{
		Transport: server.Transport{TrustedProxies: loopback, ProxyProtocol: true},
		Hub:       hub.Options{Heartbeat: 50 * time.Millisecond},
	})
	tr := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			_, err = c.Write(proxyHeader(t, 2, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4711}))
		}
		return c, err
	}}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr}
	_, lines := subscribe(t, t.Context(), c, s.URL()+"/events/a", "")
	publish(t, c, s.URL()+"/events/a", "x")
	next(t, lines, "data: x")
	next(t, lines, ":")
}
