package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"
)

// withProxyProtocol has each connection of a trusted proxy begin with a header of the PROXY
// protocol, which says who the client is. Others' connections are as they were: a header is
// no HTTP, nor TLS, and ends them.
func withProxyProtocol(l net.Listener, trusted *trustedProxies, timeout time.Duration) net.Listener {
	if timeout < 0 {
		timeout = -1 // none, to the library too
	}
	return &proxyListener{
		Listener: &proxyproto.Listener{
			Listener:          l,
			ReadHeaderTimeout: timeout,
			ValidateHeader:    checkProxyHeader,
			ConnPolicy: func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
				peer, err := netip.ParseAddrPort(o.Upstream.String())
				if err != nil {
					peer = local
				}
				if trusted.trusts(peer.Addr()) {
					return proxyproto.REQUIRE, nil
				}
				return proxyproto.SKIP, nil
			},
		},
		failed: &seldom{every: time.Minute},
	}
}

// checkProxyHeader refuses clients that have not come by TCP.
func checkProxyHeader(h *proxyproto.Header) error {
	if h.Command.IsLocal() {
		return nil // the proxy itself, which looks whether we are well
	}
	if _, ok := h.SourceAddr.(*net.TCPAddr); !ok {
		return fmt.Errorf("the PROXY header's client is at %v, which is no address of TCP", h.SourceAddr)
	}
	return nil
}

type proxyListener struct {
	net.Listener
	failed *seldom
}

func (l *proxyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if p, ok := c.(*proxyproto.Conn); ok {
		return &proxyConn{Conn: p, failed: l.failed}, nil
	}
	return c, err
}

// A proxyConn tells why a proxy gets no answer: net/http has no words for it.
type proxyConn struct {
	*proxyproto.Conn
	failed *seldom
	begun  bool // something was read
}

func (c *proxyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && !c.begun && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && c.failed.now() {
		slog.Warn("a trusted proxy's connection was closed: it must begin with a header of the PROXY protocol", "peer", c.Raw().RemoteAddr().String(), "error", err)
	}
	c.begun = true
	return n, err
}
