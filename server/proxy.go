package server

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/tidewire/tidewire/hub"
)

// local is whom a peer without an IP address is taken for: one on a Unix socket.
var local = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)

// trustedProxies are whose word on a client's address counts.
type trustedProxies struct {
	prefixes []netip.Prefix
	header   string
}

// trusts tells whether an address is a trusted proxy's.
func (t *trustedProxies) trusts(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(t.prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// settle makes a request say where it comes from: r.RemoteAddr is always an address and a
// port, 0 for an unknown one, and if the peer is a trusted proxy those that it names.
// r.URL.Scheme is "https" if the client has come by TLS, here or to such a proxy, and else
// "". proxied tells whether the peer is a trusted proxy.
func (t *trustedProxies) settle(r *http.Request) (proxied bool, err error) {
	// A target in absolute form brings a scheme of its own, which is the client's word.
	r.URL.Scheme, r.URL.Host = "", ""
	if r.TLS != nil {
		r.URL.Scheme = "https"
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		peer = local
		r.RemoteAddr = peer.String()
	}
	if !t.trusts(peer.Addr()) {
		return false, nil
	}
	from, scheme := peer, ""
	if t.header == Forwarded {
		if from, scheme, err = t.forwarded(peer, r.Header.Values(Forwarded)); err != nil {
			return true, &hub.RequestError{Problem: hub.ProblemQuery, Field: Forwarded, Detail: fmt.Sprintf("the Forwarded header is not as RFC 7239 has it: %v", err)}
		}
	} else {
		from = t.xForwardedFor(peer, r.Header.Values(XForwardedFor))
		scheme, _, _ = strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	}
	r.RemoteAddr = from.String()
	switch scheme = strings.TrimSpace(scheme); {
	case strings.EqualFold(scheme, "https"):
		r.URL.Scheme = "https"
	case scheme != "":
		r.URL.Scheme = ""
	}
	return true, nil
}

// xForwardedFor goes from the last proxy to the first, as long as they are trusted: what
// stands before the first address that is not could be anybody's word.
func (t *trustedProxies) xForwardedFor(from netip.AddrPort, values []string) netip.AddrPort {
	rest := strings.Join(values, ",")
	for rest != "" {
		var last string
		if i := strings.LastIndexByte(rest, ','); i >= 0 {
			rest, last = rest[:i], rest[i+1:]
		} else {
			rest, last = "", rest
		}
		next, ok := parseNode(strings.TrimSpace(last))
		if !ok {
			return from // nothing better is known
		}
		if from = next; !t.trusts(next.Addr()) {
			return from
		}
	}
	return from
}

// forwarded is the same for the elements of Forwarded headers, and returns the protocol that
// the client used to the proxy which names it.
func (t *trustedProxies) forwarded(from netip.AddrPort, values []string) (_ netip.AddrPort, proto string, err error) {
	elements, err := parseForwarded(strings.Join(values, ","))
	if err != nil {
		return from, "", err
	}
	for _, e := range slices.Backward(elements) {
		next, ok := parseNode(e.node)
		if !ok {
			return from, e.proto, nil
		}
		from, proto = next, e.proto
		if !t.trusts(next.Addr()) {
			break
		}
	}
	return from, proto, nil
}

// parseNode reads an address as proxies write it: with a port or without, IPv6 in brackets or,
// without a port, not (RFC 7239, section 6, and what is usual). "unknown" and names that
// hide an address are none.
func parseNode(s string) (netip.AddrPort, bool) {
	if a, err := netip.ParseAddrPort(s); err == nil {
		return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()), true
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if s, ok = strings.CutSuffix(inner, "]"); !ok {
			return netip.AddrPort{}, false
		}
	}
	a, err := netip.ParseAddr(s)
	return netip.AddrPortFrom(a.Unmap().WithZone(""), 0), err == nil
}
