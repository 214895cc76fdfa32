package server_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/big"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidewire/tidewire/server"
)

// handshake returns the certificate that a server shows.
func handshake(t *testing.T, url string, c *tls.Config) *x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), c)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not so after %v: %s", patience, what)
		}
	}
}

// A journal keeps what is logged while a test runs. It is the whole process's, so that the
// test must not run beside others.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func keepJournal(t *testing.T) *journal {
	j := new(journal)
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(j, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return j
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(b)
}

func (j *journal) count(text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.buf.String(), text)
}

func TestTLS_FilesAreReadAgainWhenTheyChange(t *testing.T) {
	told := keepJournal(t)
	dir := t.TempDir()
	first := newCertPair(t, dir)
	transport := server.Transport{TLS: server.TLSFiles, CertFile: first.cert, KeyFile: first.key}
	s := startServer(t, server.Config{Transport: transport})
	shown := func() *big.Int { return handshake(t, s.URL(), &tls.Config{InsecureSkipVerify: true}).SerialNumber } // which one is the question
	if got := shown(); got.Cmp(first.serial) != 0 {
		t.Fatalf("got certificate %v, want the first, %v", got, first.serial)
	}

	second := newCertPair(t, dir)
	eventually(t, "the second certificate is shown", func() bool { return shown().Cmp(second.serial) == 0 })

	const words = "the one before stays"
	write(t, second.cert, []byte("no certificate"))
	eventually(t, "it is told that the new one cannot be used", func() bool { return shown() != nil && told.count(words) > 0 })
	if err := s.ReloadTransport(&transport); err == nil || !strings.Contains(err.Error(), "--tls-cert") {
		t.Errorf("reload: got %v, want an error that names the flag", err)
	}
	if got := shown(); got.Cmp(second.serial) != 0 {
		t.Errorf("got certificate %v after a broken one came, want the second, %v", got, second.serial)
	}

	third := newCertPair(t, t.TempDir())
	transport.CertFile, transport.KeyFile = third.cert, third.key
	if err := s.ReloadTransport(&transport); err != nil {
		t.Error(err)
	}
	if got := shown(); got.Cmp(third.serial) != 0 {
		t.Errorf("got certificate %v after a reload, want the third, %v", got, third.serial)
	}
	if n := told.count(words); n != 1 {
		t.Errorf("it was told %d times that the new one cannot be used, want once", n)
	}
}

func TestTLS_NegotiatesVersionAndProtocol(t *testing.T) {
	p := newCertPair(t, t.TempDir())
	s := startServer(t, server.Config{Transport: server.Transport{TLS: server.TLSFiles, CertFile: p.cert, KeyFile: p.key}})
	for _, c := range []struct {
		name    string
		version uint16
		offer   []string
		want    string
		fails   bool
	}{
		{"TLS 1.3", tls.VersionTLS13, []string{"h2", "http/1.1"}, "h2", false},
		{"TLS 1.2", tls.VersionTLS12, []string{"h2", "http/1.1"}, "h2", false},
		{"HTTP/1.1", tls.VersionTLS13, []string{"http/1.1"}, "http/1.1", false},
		{"no protocol", tls.VersionTLS13, nil, "", false},
		{"TLS 1.1", tls.VersionTLS11, nil, "", true},
		{"other protocol", tls.VersionTLS13, []string{"gopher"}, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL(), "https://"), &tls.Config{RootCAs: p.roots, MinVersion: tls.VersionTLS10, MaxVersion: c.version, NextProtos: c.offer})
			if (err != nil) != c.fails {
				t.Fatalf("got %v, want an error: %v", err, c.fails)
			}
			if err != nil {
				return
			}
			defer conn.Close()
			if got := conn.ConnectionState(); got.NegotiatedProtocol != c.want || got.Version != c.version {
				t.Errorf("got %q and version %x, want %q and %x", got.NegotiatedProtocol, got.Version, c.want, c.version)
			}
		})
	}
}

func TestTLS_DevelopmentCertificateIsForThisMachine(t *testing.T) {
	s := startServer(t, server.Config{Transport: server.Transport{TLS: server.TLSDev}})
	cert := handshake(t, s.URL(), &tls.Config{InsecureSkipVerify: true}) // it is checked here
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		if _, err := cert.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := cert.VerifyHostname("example.com"); err == nil {
		t.Error("the certificate is for example.com too")
	}
	if left := time.Until(cert.NotAfter); left < 29*24*time.Hour || left > 30*24*time.Hour {
		t.Errorf("got a certificate for %v, want 30 days", left)
	}
	sum := sha256.Sum256(cert.Raw)
	print := strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
	if got := s.TLSNotice(); !strings.Contains(got, print) {
		t.Errorf("got notice %q, want one with %s", got, print)
	}
}

func TestNew_TellsAllMistakesOfTheTransport(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for _, c := range []struct {
		name string
		cfg  server.Config
		want []string
	}{
		{"unknown mode", server.Config{Transport: server.Transport{TLS: "on"}}, []string{`"on"`, "files, dev or acme"}},
		{"no files", server.Config{Transport: server.Transport{TLS: server.TLSFiles}}, []string{"--tls-cert", "--tls-key"}},
		{"files that are not there", server.Config{Transport: server.Transport{TLS: server.TLSFiles, CertFile: missing, KeyFile: missing}}, []string{missing, "--tls-cert"}},
		{"files without the mode", server.Config{Transport: server.Transport{CertFile: "a", KeyFile: "b"}}, []string{"--tls=files"}},
		{"nothing of ACME", server.Config{Transport: server.Transport{TLS: server.TLSACME}}, []string{"--acme-domain", "--acme-cache"}},
		{"wild domain", server.Config{Transport: server.Transport{TLS: server.TLSACME, ACME: server.ACME{Domains: []string{"*.example.com"}, Cache: "x"}}}, []string{`"*.example.com"`}},
		{"roots that are not there", server.Config{Transport: server.Transport{TLS: server.TLSACME, ACME: server.ACME{Domains: []string{"a.example.com"}, Cache: "x", Roots: missing}}}, []string{missing, "--acme-roots"}},
		{"HTTP/3 in clear text", server.Config{Transport: server.Transport{HTTP3: true}}, []string{"--http3 needs TLS"}},
		{"HTTP/3 on a Unix socket", server.Config{Listen: "unix:/x", Transport: server.Transport{TLS: server.TLSDev, HTTP3: true}}, []string{"UDP"}},
		{"two at once", server.Config{Transport: server.Transport{HTTP3: true, ProxyProtocol: true}}, []string{"--http3", "--trusted-proxy"}},
		{"unknown header", server.Config{Transport: server.Transport{ForwardedHeader: "Via"}}, []string{`"Via"`, "X-Forwarded-For"}},
		{"no prefix", server.Config{Transport: server.Transport{TrustedProxies: []netip.Prefix{{}}}}, []string{"--trusted-proxy"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := server.New(&c.cfg)
			if err == nil {
				t.Fatal("got no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to say %q", err, want)
				}
			}
		})
	}
}
