package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/server"
)

const secret = "a secret of 32 bytes or more, for tests"

// tokensOnly lets in whom a token of tokenOf names.
func tokensOnly(t testing.TB) *server.Access {
	t.Helper()
	key, err := auth.NewSecretKey("HS256", secret)
	if err != nil {
		t.Fatal(err)
	}
	return &server.Access{Options: auth.Options{Keys: []auth.Key{key}}}
}

// tokenOf returns a token with which its subject may do everything.
func tokenOf(t testing.TB, subject string) string {
	t.Helper()
	s, err := auth.NewSecretSigner("HS256", "", secret)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"**"}
	token, err := s.Sign(&auth.Claims{Subject: subject, Permissions: auth.Permissions{Subscribe: all, Publish: all}})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// serve runs a server, and returns its address too.
func serve(t testing.TB, c server.Config) (s *server.Server, address string) {
	t.Helper()
	s = startServer(t, c)
	return s, strings.TrimPrefix(s.URL(), "http://")
}

// A peer is one connection of a client, and speaks HTTP/1.1 on it.
type peer struct {
	net.Conn
	r *bufio.Reader
}

// dial connects from an address, "" for any.
func dial(t testing.TB, from, to string) *peer {
	t.Helper()
	c, err := dialFrom(from, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &peer{c, bufio.NewReader(c)}
}

func dialFrom(from, to string) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", to)
	if err == nil {
		err = c.SetDeadline(time.Now().Add(time.Minute)) // so that no test waits for ever
	}
	return c, err
}

// ask sends a request, and returns the head of the answer.
func (p *peer) ask(t testing.TB, line string, headers ...string) *http.Response {
	t.Helper()
	resp, err := p.try(line, headers...)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return resp
}

func (p *peer) try(line string, headers ...string) (*http.Response, error) {
	if _, err := fmt.Fprintf(p, "%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", line, strings.Join(append(headers, ""), "\r\n")); err != nil {
		return nil, err
	}
	method, _, _ := strings.Cut(line, " ")
	return http.ReadResponse(p.r, &http.Request{Method: method})
}

// ended tells whether the server has closed a connection, and waits for it.
func (p *peer) ended() bool {
	_, err := p.r.ReadByte()
	if err == nil {
		return false
	}
	timeout, ok := err.(net.Error)
	return !ok || !timeout.Timeout()
}

// refusal reads an answer that refuses.
func refusal(t testing.TB, resp *http.Response) (problem, detail string) {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if resp.StatusCode == http.StatusOK { // to an EventSource
		_, text, _ = strings.Cut(text, "event: tidewire.error\ndata: ")
		if text == "" {
			t.Fatalf("got %q, want a tidewire.error", b)
		}
	}
	var doc struct{ Type, Detail string }
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&doc); err != nil {
		t.Fatalf("got %d %q: %v", resp.StatusCode, b, err)
	}
	return strings.TrimPrefix(doc.Type, "urn:tidewire:problem:"), doc.Detail
}

func TestLimits_OneMoreIsRefused(t *testing.T) {
	token := "Authorization: Bearer " + tokenOf(t, "me")
	stream := func(t *testing.T, address string) *peer {
		p := dial(t, "", address)
		if resp := p.ask(t, "GET /events/a", token); resp.StatusCode != http.StatusOK {
			_, detail := refusal(t, resp)
			t.Fatalf("got %s %s, want a stream", resp.Status, detail)
		}
		return p
	}
	idle := func(t *testing.T, address string) *peer {
		p := dial(t, "", address)
		if resp := p.ask(t, "HEAD /events/a", token); resp.StatusCode != http.StatusOK || resp.Close {
			t.Fatalf("got %s, close: %v, want 200 on a connection that stays", resp.Status, resp.Close)
		}
		return p
	}
	for _, tt := range []struct {
		name    string
		limits  server.Limits
		open    func(*testing.T, string) *peer
		status  int
		problem string
		says    string
		counts  string
	}{
		{"connections", server.Limits{Connections: 3, Streams: -1}, idle, 503, "overloaded", "(--max-connections 3): try again later", "max-connections"},
		{"connections with streams", server.Limits{Connections: 3, Streams: -1}, stream, 503, "overloaded", "(--max-connections 3)", "max-connections"},
		{"connections of an address", server.Limits{ConnectionsPerAddress: 3}, idle, 429, "too-many-streams", "(--max-connections-per-address 3): close some", "max-connections-per-address"},
		{"connections with streams of an address", server.Limits{ConnectionsPerAddress: 3}, stream, 429, "too-many-streams", "(--max-connections-per-address 3)", "max-connections-per-address"},
		{"streams", server.Limits{Streams: 3}, stream, 503, "overloaded", "(--max-streams 3): try again later", "max-streams"},
		{"streams of an address", server.Limits{StreamsPerAddress: 3}, stream, 429, "too-many-streams", "(--max-streams-per-address 3): end some", "max-streams-per-address"},
		{"streams of a subject", server.Limits{StreamsPerSubject: 3}, stream, 429, "too-many-streams", "(--max-streams-per-subject 3): end some", "max-streams-per-subject"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, address := serve(t, server.Config{Limits: tt.limits, Access: tokensOnly(t)})
			var open []*peer
			for range 3 {
				open = append(open, tt.open(t, address))
			}

			program := dial(t, "", address)
			resp := program.ask(t, "GET /events/a", token)
			if problem, detail := refusal(t, resp); resp.StatusCode != tt.status || problem != tt.problem || !strings.Contains(detail, tt.says) {
				t.Errorf("got %d %s %q, want %d %s that says %q", resp.StatusCode, problem, detail, tt.status, tt.problem, tt.says)
			}
			if got := resp.Header.Get("Retry-After"); got != "5" {
				t.Errorf("got Retry-After %q, want 5", got)
			}
			browser := dial(t, "", address)
			resp = browser.ask(t, "GET /events/a", token, "Accept: text/event-stream")
			if problem, _ := refusal(t, resp); resp.StatusCode != http.StatusOK || problem != tt.problem {
				t.Errorf("got %d %s for an EventSource, want 200 %s", resp.StatusCode, problem, tt.problem)
			}
			if got := s.Refused()[tt.counts]; got != 2 {
				t.Errorf("got %d refused by %s, want 2", got, tt.counts)
			}

			program.Close()
			browser.Close()
			eventually(t, "the refused are gone", func() bool { return s.Usage().Connections == 3 })
			open[0].Close()
			eventually(t, "one is gone", func() bool { return s.Usage().Connections == 2 })
			stream(t, address)

			for _, p := range open {
				p.Close()
			}
			eventually(t, "the others are gone", func() bool { u := s.Usage(); return u.Streams == 1 && u.Connections == 1 })
		})
	}
}

// Far above the bound there is no answer, so that an EventSource comes again.
func TestLimits_FarTooManyConnectionsAreClosed(t *testing.T) {
	s, address := serve(t, server.Config{Limits: server.Limits{ConnectionsPerAddress: 2, Waiting: 100}})
	var open []*peer
	for range 2 + server.SpareLeast {
		open = append(open, dial(t, "127.0.0.1", address))
	}
	eventually(t, "all are there", func() bool { return s.Usage().Connections == len(open) })
	if !dial(t, "127.0.0.1", address).ended() {
		t.Error("got an answer, want none")
	}
	if resp := dial(t, "127.0.0.2", address).ask(t, "HEAD /events/a"); resp.StatusCode != http.StatusOK {
		t.Errorf("got %s for another address, want 200", resp.Status)
	}
	if resp := open[2].ask(t, "GET /events/a"); resp.StatusCode != http.StatusTooManyRequests || !resp.Close {
		t.Errorf("got %s for the first above the bound, want 429 and the end", resp.Status)
	}
}

func TestLimits_TrustedProxyHasNoBoundForItsAddress(t *testing.T) {
	s, address := serve(t, server.Config{
		Limits:    server.Limits{ConnectionsPerAddress: 2, StreamsPerAddress: 1, ConnectRate: -1},
		Transport: server.Transport{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}},
	})
	from := func(client string) int {
		return dial(t, "127.0.0.1", address).ask(t, "GET /events/a", "X-Forwarded-For: "+client).StatusCode
	}
	for i := range 10 {
		if got := from(fmt.Sprintf("192.0.2.%d", i)); got != 200 {
			t.Errorf("got %d for a client's first stream, want 200", got)
		}
	}
	if got := from("192.0.2.1"); got != 429 {
		t.Errorf("got %d for a client's second stream, want 429", got)
	}
	if got := from("2001:db8::1"); got != 200 {
		t.Errorf("got %d for an address of IPv6, want 200", got)
	}
	if got := from("2001:db8::2:3:4:5"); got != 429 {
		t.Errorf("got %d for its neighbour, want 429", got)
	}
	eventually(t, "the refused are gone", func() bool { return s.Usage().Streams == 11 })
}

func TestLimits_WaitingLongestIsClosed(t *testing.T) {
	s, address := serve(t, server.Config{Limits: server.Limits{Waiting: 3, HeaderTimeout: time.Hour}})
	asked := dial(t, "", address)
	asked.ask(t, "HEAD /events/a")
	var slow []*peer
	for i := range 4 {
		p := dial(t, "", address)
		if _, err := io.WriteString(p, "GET /events/a HTTP/1.1\r\nHost: localhost\r\nX-Slow:"); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, p)
		eventually(t, "it is there", func() bool { return s.Usage().Waiting == min(i+1, 3) })
	}
	if !slow[0].ended() {
		t.Error("got an answer on the connection that waited longest, want its end")
	}
	for i, p := range slow[1:] {
		if _, err := io.WriteString(p, " 1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if resp, err := http.ReadResponse(p.r, nil); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("slow %d: got %v, want an answer", i, err)
		}
	}
	if resp := asked.ask(t, "HEAD /events/a"); resp.StatusCode != http.StatusOK {
		t.Errorf("got %s on a connection that had asked before", resp.Status)
	}
	if got := s.Refused()["max-waiting"]; got != 1 {
		t.Errorf("got %d closed, want 1", got)
	}
}

// Who has one connection that waits is not pushed out by who has many.
func TestLimits_WaitingIsSharedAmongAddresses(t *testing.T) {
	s, address := serve(t, server.Config{Limits: server.Limits{Waiting: 4, HeaderTimeout: time.Hour}})
	honest := dial(t, "127.0.0.2", address)
	for n := range 20 {
		dial(t, "127.0.0.3", address)
		eventually(t, "it waits, or another one is closed", func() bool {
			return s.Usage().Waiting == min(n+2, 4) && s.Refused()["max-waiting"] == uint64(max(0, n-2))
		})
	}
	if resp := honest.ask(t, "HEAD /events/a"); resp.StatusCode != http.StatusOK {
		t.Errorf("got %s, want an answer", resp.Status)
	}
}

func TestLimits_HeadersAndIdleConnectionsHaveTime(t *testing.T) {
	for _, tt := range []struct {
		name   string
		limits server.Limits
		sends  string
	}{
		{"no headers", server.Limits{HeaderTimeout: 50 * time.Millisecond}, ""},
		{"slow headers", server.Limits{HeaderTimeout: 50 * time.Millisecond}, "GET / HTTP/1.1\r\nHost:"},
		{"slow headers of a second request", server.Limits{HeaderTimeout: 50 * time.Millisecond}, "HEAD /events/a HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\n"},
		{"idle", server.Limits{IdleTimeout: 50 * time.Millisecond}, "HEAD /events/a HTTP/1.1\r\nHost: localhost\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, address := serve(t, server.Config{Limits: tt.limits})
			p := dial(t, "", address)
			if _, err := io.WriteString(p, tt.sends); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, p); err != nil {
				t.Errorf("got %v, want the end of the connection", err)
			}
			eventually(t, "it is gone", func() bool { return s.Usage() == server.Usage{} })
		})
	}
}

func TestLimits_ChangeWhileStreamsGoOn(t *testing.T) {
	s, address := serve(t, server.Config{Limits: server.Limits{Streams: 2}})
	get := func() (*peer, int) {
		p := dial(t, "", address)
		return p, p.ask(t, "GET /events/a").StatusCode
	}
	first, _ := get()
	get()
	if _, got := get(); got != 503 {
		t.Fatalf("got %d, want 503", got)
	}
	s.SetLimits(server.Limits{Streams: 3})
	if _, got := get(); got != 200 {
		t.Errorf("got %d after the limit was raised, want 200", got)
	}
	s.SetLimits(server.Limits{Streams: 1})
	if _, got := get(); got != 503 {
		t.Errorf("got %d after the limit was lowered, want 503", got)
	}
	if _, err := dial(t, "", address).try("POST /events/a", "Content-Length: 5", "", "hello"); err != nil {
		t.Fatal(err)
	}
	for line := ""; line != "data: hello\n"; {
		var err error
		if line, err = first.r.ReadString('\n'); err != nil {
			t.Fatalf("got %v on a stream that is above the lower limit, want its event", err)
		}
	}
}

func TestLimits_CountOnAllProtocols(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		cfg, roots := w.config(t)
		cfg.Limits = server.Limits{StreamsPerAddress: 3, ConnectionsPerAddress: 5}
		s := startServer(t, cfg)
		c, made := w.client(t, roots)
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		for range 3 {
			if resp, _ := subscribe(t, ctx, c, s.URL()+"/events/a", ""); resp.StatusCode != http.StatusOK || resp.Proto != w.proto {
				t.Fatalf("got %s on %s, want 200 on %s", resp.Status, resp.Proto, w.proto)
			}
		}
		if got, want := s.Usage(), (server.Usage{Connections: int(made.Load()), Streams: 3, Addresses: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		resp, err := c.Get(s.URL() + "/events/a")
		if err != nil {
			t.Fatal(err)
		}
		if problem, _ := refusal(t, resp); resp.StatusCode != http.StatusTooManyRequests || problem != "too-many-streams" {
			t.Errorf("got %s %s, want 429", resp.Status, problem)
		}
		leave()
		eventually(t, "the streams have ended", func() bool { return s.Usage().Streams == 0 })
		c.CloseIdleConnections()
		if w.h3 {
			_ = c.Transport.(io.Closer).Close()
		}
		eventually(t, "the connections are gone", func() bool { return s.Usage() == server.Usage{} })
	})
}

// A handshake of TLS, or the header of the PROXY protocol, may not come either.
func TestLimits_WaitingIsBoundedUnderOtherProtocols(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config func(*testing.T) server.Config
	}{
		{"TLS", func(t *testing.T) server.Config {
			c, _ := way{tls: true}.config(t)
			return c
		}},
		{"PROXY", func(*testing.T) server.Config {
			return server.Config{Transport: server.Transport{ProxyProtocol: true, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}
		}},
		{"HTTP/2", func(*testing.T) server.Config { return server.Config{} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.config(t)
			c.Limits = server.Limits{Waiting: 2, HeaderTimeout: time.Hour}
			s := startServer(t, c)
			_, address, _ := strings.Cut(s.URL(), "://")
			var slow []*peer
			for i := range 3 {
				p := dial(t, "", address)
				if tt.name == "HTTP/2" {
					if _, err := io.WriteString(p, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
						t.Fatal(err)
					}
				}
				slow = append(slow, p)
				eventually(t, "it waits", func() bool { return s.Usage().Waiting == min(i+1, 2) })
			}
			if _, err := io.Copy(io.Discard, slow[0]); err != nil {
				t.Errorf("got %v, want the end of what waited longest", err)
			}
			eventually(t, "it is gone", func() bool { return s.Usage().Connections == 2 })
		})
	}
}

func TestLimits_OverloadIsLoggedNowAndThen(t *testing.T) {
	j := keepJournal(t)
	_, address := serve(t, server.Config{Limits: server.Limits{Streams: 1}})
	for range 10 {
		dial(t, "", address).ask(t, "GET /events/a")
	}
	if got := j.count("flag=--max-streams limit=1"); got != 1 {
		t.Errorf("got %d lines, want one in 10s", got)
	}
}

func TestLimits_DefaultsForAnAddressAreNotForThisMachine(t *testing.T) {
	here, here6, far := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1"), netip.MustParseAddr("192.0.2.1")
	for _, c := range []struct {
		limits server.Limits
		of     netip.Addr
		want   int // of 1,500
	}{
		{server.Limits{Connections: 10_000}, here, 1500},
		{server.Limits{Connections: 10_000}, here6, 1500},
		{server.Limits{Connections: 10_000, ConnectRate: -1}, far, server.DefaultStreamsPerAddress},
		{server.Limits{Connections: 10_000}, far, 2 * server.DefaultConnectRate},
		{server.Limits{Connections: 10_000, StreamsPerAddress: 5}, here, 5},
		{server.Limits{Connections: 10_000, ConnectRate: 3}, here6, 6},
	} {
		if got := server.Begin(c.limits, c.of, 1500); got < c.want || got > c.want+c.want/10 { // a bucket fills meanwhile
			t.Errorf("%v with %+v: got %d streams, want %d", c.of, c.limits, got, c.want)
		}
	}
}
