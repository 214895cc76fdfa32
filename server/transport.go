package server

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// A TLSMode says where certificates come from.
type TLSMode string

const (
	TLSOff   TLSMode = ""      // clear text
	TLSFiles TLSMode = "files" // CertFile and KeyFile, read again when they change
	TLSDev   TLSMode = "dev"   // a self-signed one for localhost, made at the start
	TLSACME  TLSMode = "acme"  // from a certificate authority that speaks ACME (RFC 8555)
)

// The headers in which proxies say where a request comes from.
const (
	XForwardedFor = "X-Forwarded-For" // and X-Forwarded-Proto
	Forwarded     = "Forwarded"       // RFC 7239
)

// DefaultStreamsPerConnection is that of [Transport].
const DefaultStreamsPerConnection = 250

// Transport says how connections come in. The zero value is clear text, HTTP/1.1 and HTTP/2
// with prior knowledge. With TLS, 1.2 or later, HTTP/2 and HTTP/1.1 are negotiated.
type Transport struct {
	TLS               TLSMode
	CertFile, KeyFile string // in PEM, the server's certificate first
	ACME              ACME

	// HTTP3 also listens on UDP, at the same port, and says so with Alt-Svc. It needs
	// TLS.
	HTTP3 bool

	// StreamsPerConnection is how many requests may be under way on a connection of
	// HTTP/2 or HTTP/3. Default: [DefaultStreamsPerConnection].
	StreamsPerConnection int

	// TrustedProxies are whose word on the client's address counts: ForwardedHeader, and
	// the PROXY protocol. A peer on a Unix socket is 127.0.0.1. Default: nobody's.
	TrustedProxies []netip.Prefix

	// ForwardedHeader is where they say it, [XForwardedFor] or [Forwarded]. It is one only,
	// because a proxy passes on the other as a client has sent it. Default: [XForwardedFor].
	ForwardedHeader string

	// ProxyProtocol expects a header of the PROXY protocol, version 1 or 2, on each
	// TCP connection from one of TrustedProxies.
	ProxyProtocol bool

	// AllowedHosts are names by which the server is reached, beside its addresses and
	// localhost, while it asks nobody who they are: so no page can reach it by having its
	// own name point here. "*" allows all. Default: none.
	AllowedHosts []string
}

// ACME is where certificates come from with [TLSACME]. The authority connects to port 443 of
// each domain, which must lead here, and finds its proof in the TLS handshake (RFC 8737).
type ACME struct {
	Domains   []string // at least one
	Email     string   // for the authority's warnings
	Directory string   // URL; default: Let's Encrypt
	Roots     string   // PEM file to trust a private authority's own URL by; default: the system's
	Cache     string   // directory of keys and certificates; default: "acme" in the data directory
}

// checkTransport returns all that is wrong with how connections are to come in, nil if nothing is. It looks at
// no file.
func (c *Config) checkTransport() error {
	t := &c.Transport
	var wrong []error
	say := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	switch t.TLS {
	case TLSOff, TLSDev:
	case TLSFiles:
		say(t.CertFile == "" || t.KeyFile == "", "--tls=files needs a certificate and its key: name them with --tls-cert and --tls-key")
	case TLSACME:
		say(len(t.ACME.Domains) == 0, "--tls=acme needs a domain: name it with --acme-domain")
		say(t.ACME.Cache == "" && c.Data == "", "--tls=acme needs a directory to keep certificates in: name one with --acme-cache, or --data")
		for _, d := range t.ACME.Domains {
			_, err := netip.ParseAddr(d)
			say(err == nil || !strings.Contains(d, ".") || strings.ContainsAny(d, "*:/ "), "--acme-domain %q is no full domain name such as events.example.com", d)
		}
	default:
		say(true, "--tls is %q: it can be files, dev or acme", t.TLS)
	}
	say(t.TLS != TLSFiles && t.CertFile+t.KeyFile != "", "--tls-cert and --tls-key are of no use without --tls=files")
	say(t.HTTP3 && t.TLS == TLSOff, "--http3 needs TLS: choose it with --tls")
	say(t.HTTP3 && isUnix(c.Listen), "--http3 needs an address of UDP, and %s has none", c.Listen)
	say(t.StreamsPerConnection < 0, "--max-streams-per-connection is %d: it must be more than 0", t.StreamsPerConnection)
	switch t.ForwardedHeader {
	case "", XForwardedFor, Forwarded:
	default:
		say(true, "--forwarded-header is %q: it can be %s or %s", t.ForwardedHeader, XForwardedFor, Forwarded)
	}
	say(t.ProxyProtocol && len(t.TrustedProxies) == 0, "--proxy-protocol needs to know from whom: name them with --trusted-proxy")
	for _, p := range t.TrustedProxies {
		say(!p.IsValid(), "--trusted-proxy has an entry that is no address or prefix such as 10.0.0.0/8")
	}
	return errors.Join(wrong...)
}
