package server

import "net/netip"

// A TLSMode says where certificates come from.
type TLSMode string

const (
	TLSOff   TLSMode = ""      // clear text
	TLSFiles TLSMode = "files" // CertFile and KeyFile, read again when they change
	TLSDev   TLSMode = "dev"   // a self-signed one for localhost, made at the start
	TLSACME  TLSMode = "acme"  // from a certificate authority that speaks ACME (RFC 8555)
)

// Transport says how connections come in. The zero value is clear text, HTTP/1.1 and HTTP/2
// with prior knowledge.
type Transport struct {
	TLS               TLSMode
	CertFile, KeyFile string // in PEM
	ACME              ACME

	// HTTP3 also listens on UDP, at the same port, and says so with Alt-Svc. It needs
	// TLS.
	HTTP3 bool

	// TrustedProxies are whose word on the client's address counts: the Forwarded and
	// X-Forwarded-For headers, and the PROXY protocol. Default: nobody's.
	TrustedProxies []netip.Prefix

	// ProxyProtocol expects a header of the PROXY protocol, version 1 or 2, on each
	// connection from one of TrustedProxies.
	ProxyProtocol bool

	// AllowedHosts are names by which the server is reached, beside its addresses and
	// localhost, while it asks nobody who they are: so no page can reach it by having its
	// own name point here. "*" allows all. Default: none.
	AllowedHosts []string
}

// ACME is where certificates come from with [TLSACME].
type ACME struct {
	Domains   []string // at least one
	Email     string   // for the authority's warnings
	Directory string   // URL; default: Let's Encrypt
	Cache     string   // directory; default: "acme" in the data directory
}
