package server

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/tidewire/tidewire/hub"
)

// hosts are the names by which the server may be reached while it asks nobody who they are.
func (c *Config) hosts() []string {
	names := slices.Concat(c.Transport.AllowedHosts, c.Transport.ACME.Domains)
	if host, _, err := net.SplitHostPort(c.Listen); err == nil && host != "" && !isUnix(c.Listen) {
		names = append(names, host)
	}
	return names
}

// hostGuard refuses requests whose Host is not localhost, an IP address or one of allowed,
// which are names without ports; "*" allows all. A page whose own name is made to point at
// this server (DNS rebinding) is so kept from it: its browser sends that name.
func hostGuard(allowed []string, next http.Handler) http.Handler {
	names := map[string]bool{"localhost": true}
	for _, name := range allowed {
		names[hostName(name)] = true
	}
	if names["*"] {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := hostName(r.Host)
		if _, err := netip.ParseAddr(name); err != nil && !names[name] {
			hub.Fail(w, &hub.RequestError{Problem: hub.ProblemMisdirected, Field: "Host", Detail: fmt.Sprintf("this server asks nobody who they are, and so answers to localhost, to its addresses and to names that it was told, of which %.100q is none: if it is to be reached by that name, start it with --allow-host NAME", name)})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hostName returns a Host header's name or address, without the port, in lower case.
func hostName(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	} else if h, ok := strings.CutPrefix(host, "["); ok {
		host = strings.TrimSuffix(h, "]")
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
