package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/server"
)

// dialQUIC connects as a client of HTTP/3 does, and sends nothing.
func dialQUIC(t testing.TB, address string, c *tls.Config) *quic.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := quic.DialAddr(ctx, address, c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseWithError(0, "") })
	return conn
}

func handshakeQUIC(t *testing.T, address string, c *tls.Config) *x509.Certificate {
	t.Helper()
	return dialQUIC(t, address, c).ConnectionState().TLS.PeerCertificates[0]
}

// startHTTP3 starts a server of HTTP/3.
func startHTTP3(t testing.TB, c server.Config) (url string, client *tls.Config) {
	t.Helper()
	p := newCertPair(t, t.TempDir())
	c.Transport.TLS, c.Transport.CertFile, c.Transport.KeyFile, c.Transport.HTTP3 = server.TLSFiles, p.cert, p.key, true
	s := startServer(t, c)
	return s.URL(), &tls.Config{RootCAs: p.roots, NextProtos: []string{http3.NextProtoH3}}
}

func TestHTTP3_IsAnnounced(t *testing.T) {
	proxied, _ := startHTTP3(t, server.Config{Transport: server.Transport{TrustedProxies: loopback}})
	direct, _ := startHTTP3(t, server.Config{})
	_, port, err := net.SplitHostPort(strings.TrimPrefix(direct, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, url, want string
		way             way
	}{
		{"HTTP/2", direct, `h3=":` + port + `"; ma=86400`, ways[3]},
		{"HTTP/1.1", direct, `h3=":` + port + `"; ma=86400`, ways[1]},
		{"HTTP/3", direct, "", ways[4]},
		{"a proxy's clients", proxied, "", ways[3]}, // they reach the proxy
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: !c.way.http1}
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr}
			if c.way.h3 {
				h3 := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
				defer h3.Close()
				client.Transport = h3
			}
			resp, err := client.Head(c.url + "/events/a")
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if got := resp.Header.Get("Alt-Svc"); got != c.want {
				t.Errorf("got Alt-Svc %q over %s, want %q", got, resp.Proto, c.want)
			}
		})
	}
}

// TestHTTP3_ConnectionWithoutARequestIsClosed has connections that send nothing, a half of a
// request's headers, or a stream and then nothing but such halves.
func TestHTTP3_ConnectionWithoutARequestIsClosed(t *testing.T) {
	url, config := startHTTP3(t, server.Config{Limits: server.Limits{HeaderTimeout: 300 * time.Millisecond, IdleTimeout: 300 * time.Millisecond}})
	address := strings.TrimPrefix(url, "https://")
	half := func(t *testing.T, c *quic.Conn) {
		str, err := c.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := str.Write([]byte{0x1, 0x40}); err != nil { // HEADERS, half a length
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		do   func(*testing.T, *quic.Conn)
	}{
		{"nothing", func(*testing.T, *quic.Conn) {}},
		{"half of the headers", half},
		{"a request, and half of another", func(t *testing.T, c *quic.Conn) {
			req, err := http.NewRequest(http.MethodHead, url+"/events/a", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := (&http3.Transport{}).NewClientConn(c).RoundTrip(req)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("got %v, %v", resp, err)
			}
			half(t, c)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn := dialQUIC(t, address, config)
			c.do(t, conn)
			select {
			case <-conn.Context().Done():
				var closed *quic.ApplicationError
				if err := context.Cause(conn.Context()); !errors.As(err, &closed) || !closed.Remote || closed.ErrorMessage != "idle" {
					t.Errorf("got %v, want it closed by the server", err)
				}
			case <-time.After(patience):
				t.Error("the connection stays open")
			}
		})
	}
}

func TestHTTP3_StreamKeepsTheConnection(t *testing.T) {
	url, config := startHTTP3(t, server.Config{
		Limits: server.Limits{HeaderTimeout: 100 * time.Millisecond, IdleTimeout: 100 * time.Millisecond},
		Hub:    hub.Options{Heartbeat: 100 * time.Millisecond},
	})
	tr := &http3.Transport{TLSClientConfig: config}
	defer tr.Close()
	_, lines := subscribe(t, t.Context(), &http.Client{Transport: tr}, url+"/events/a", "")
	for range 5 { // more than both times
		next(t, lines, ":")
	}
}

func TestHTTP3_ConnectionsAreLimited(t *testing.T) {
	url, config := startHTTP3(t, server.Config{Limits: server.Limits{ConnectionsPerAddress: 2}})
	address := strings.TrimPrefix(url, "https://")
	first := dialQUIC(t, address, config)
	dialQUIC(t, address, config)
	third := dialQUIC(t, address, config)
	select {
	case <-third.Context().Done():
	case <-time.After(patience):
		t.Fatal("a third connection is let in")
	}
	_ = first.CloseWithError(0, "")
	eventually(t, "another connection is let in when the first has ended", func() bool {
		c := dialQUIC(t, address, config)
		tr := (&http3.Transport{}).NewClientConn(c)
		req, err := http.NewRequest(http.MethodHead, url+"/events/a", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			_ = c.CloseWithError(0, "")
			return false
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode == http.StatusOK
	})
}

// TestHTTP3_ClientThatStaysDoesNotHoldUpAStop has a client that keeps its connection open
// though there is no request any more.
func TestHTTP3_ClientThatStaysDoesNotHoldUpAStop(t *testing.T) {
	p := newCertPair(t, t.TempDir())
	url, stop, _, ended := start(t, server.Config{
		DrainTimeout: time.Hour,
		Transport:    server.Transport{TLS: server.TLSFiles, CertFile: p.cert, KeyFile: p.key, HTTP3: true},
	})
	conn := dialQUIC(t, strings.TrimPrefix(url, "https://"), &tls.Config{RootCAs: p.roots, NextProtos: []string{http3.NextProtoH3}})
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the server waits for it")
	}
	<-conn.Context().Done()
}
