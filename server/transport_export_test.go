package server

import (
	"net/http"
	"net/netip"
)

var HostGuard = hostGuard

// Settle tells where a request is taken to come from.
func Settle(r *http.Request, header string, trusted ...netip.Prefix) error {
	p := trustedProxies{prefixes: trusted, header: header}
	_, err := p.settle(r)
	return err
}

// Hosts are those by which a server may be reached.
func (c *Config) Hosts() []string { return c.hosts() }

// ReloadTransport is what a server does when its configuration is read again.
func (s *Server) ReloadTransport(t *Transport) error { return s.front.reload(t) }
