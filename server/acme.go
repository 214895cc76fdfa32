package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// newACME has certificates come from an authority: at the start, at a handshake that needs
// one which could not be had then, and again a month before it expires.
func newACME(ctx context.Context, a *ACME, data string) (*certificates, error) {
	cache := a.Cache
	if cache == "" {
		cache = filepath.Join(data, "acme")
	}
	client, err := a.client(ctx)
	if err != nil {
		return nil, err
	}
	domains := make([]string, len(a.Domains))
	for i, d := range a.Domains {
		domains[i] = strings.ToLower(d)
	}
	m := &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		Cache:      autocert.DirCache(cache),
		HostPolicy: autocert.HostWhitelist(domains...),
		Email:      a.Email,
		Client:     client,
	}
	failed := &seldom{every: time.Minute}
	get := func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := m.GetCertificate(withSuites(hello))
		if err != nil && ctx.Err() == nil && slices.Contains(domains, hostName(hello.ServerName)) && failed.now() {
			// A handshake that fails is the client's matter elsewhere; here nobody gets in.
			slog.Error("no certificate for a domain: the authority must reach port 443 of it, and that must be this server", "domain", hello.ServerName, "error", err)
		}
		return cert, err
	}
	fetch := func() {
		// Who came first would wait for it, and handshakes have ten seconds or so.
		for _, d := range domains {
			_, _ = get(&tls.ClientHelloInfo{ // an error is logged
				ServerName:        d,
				SupportedVersions: []uint16{tls.VersionTLS13},
				SignatureSchemes:  []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
			})
		}
	}
	return &certificates{get: get, protos: []string{acme.ALPNProto}, fetch: fetch}, nil
}

// client returns a client of the authority, whose requests fail when ctx has ended.
func (a *ACME) client(ctx context.Context) (*acme.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	c := &acme.Client{
		DirectoryURL: a.Directory,
		UserAgent:    "tidewire",
		HTTPClient:   &http.Client{Transport: &untilEnd{transport, ctx}},
	}
	if c.DirectoryURL == "" {
		c.DirectoryURL = acme.LetsEncryptURL
	}
	if a.Roots == "" {
		return c, nil
	}
	pem, err := os.ReadFile(a.Roots)
	if err != nil {
		return nil, fmt.Errorf("read the ACME authority's roots: %w: name a PEM file with --acme-roots", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read the ACME authority's roots: %s has no certificate: name a PEM file with --acme-roots", a.Roots)
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	return c, nil
}

// An untilEnd has requests fail when a context has ended that is not theirs: the manager's
// own are good for minutes.
type untilEnd struct {
	*http.Transport
	end context.Context
}

func (t *untilEnd) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	context.AfterFunc(t.end, cancel) // and with the request's own, which the manager ends
	return t.Transport.RoundTrip(r.WithContext(ctx))
}

// withSuites has the manager see that a client takes ECDSA. It looks for that in the cipher
// suites of TLS 1.2, of which one that speaks 1.3 alone, over QUIC always, has none, and
// would order an RSA certificate for those too.
func withSuites(hello *tls.ClientHelloInfo) *tls.ClientHelloInfo {
	if !slices.Contains(hello.SupportedVersions, tls.VersionTLS13) || !slices.Contains(hello.SignatureSchemes, tls.ECDSAWithP256AndSHA256) {
		return hello
	}
	h := *hello
	h.CipherSuites = append(slices.Clone(h.CipherSuites), tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
	return &h
}
