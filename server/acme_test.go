package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/tidewire/tidewire/server"
)

// acmeDomain is one that only the test's own name server knows.
const acmeDomain = "events.tidewire.test"

// TestACME_GetsACertificate has an authority, Pebble in a process of its own, which
// validates by TLS-ALPN-01 and issues.
func TestACME_GetsACertificate(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and runs an authority")
	}
	directory, management, roots, begin := newAuthority(t)
	data, address := t.TempDir(), freePort(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	begin(port)
	s := startServer(t, server.Config{Listen: address, Data: data, Transport: server.Transport{
		TLS: server.TLSACME, HTTP3: true,
		ACME: server.ACME{Domains: []string{acmeDomain}, Email: "admin@tidewire.test", Directory: directory, Roots: roots},
	}})
	if want := "https://" + acmeDomain + ":" + port; s.URL() != want {
		t.Errorf("got URL %s, want %s", s.URL(), want)
	}
	kept := filepath.Join(data, "acme", acmeDomain)
	eventually(t, "there is a certificate before anybody comes", func() bool {
		info, err := os.Stat(kept)
		return err == nil && info.Size() > 0
	})
	issuer := authorityRoots(t, management, roots)
	conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: acmeDomain, RootCAs: issuer, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	cert := conn.ConnectionState().PeerCertificates[0]
	_ = conn.Close()
	if got := conn.ConnectionState().NegotiatedProtocol; got != "h2" {
		t.Errorf("got protocol %q, want h2", got)
	}

	// HTTP/3 has the same one.
	h3 := handshakeQUIC(t, address, &tls.Config{ServerName: acmeDomain, RootCAs: issuer, NextProtos: []string{"h3"}})
	if h3.SerialNumber.Cmp(cert.SerialNumber) != 0 {
		t.Errorf("got certificate %v over QUIC, want %v", h3.SerialNumber, cert.SerialNumber)
	}
	for _, name := range []string{"other.tidewire.test", ""} {
		if conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: name, InsecureSkipVerify: true}); err == nil {
			t.Errorf("%q: got a certificate for %v", name, conn.ConnectionState().PeerCertificates[0].DNSNames)
			_ = conn.Close()
		}
	}
}

// newAuthority prepares an authority. begin runs it: it will connect to a port of this machine
// to validate. management is the URL where it shows its roots.
func newAuthority(t *testing.T) (directory, management, roots string, begin func(port string)) {
	t.Helper()
	dir := t.TempDir()
	pebble := filepath.Join(dir, "pebble")
	build := exec.Command("go", "build", "-modfile=../tools/go.mod", "-o", pebble, "github.com/letsencrypt/pebble/v2/cmd/pebble")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the authority: %v\n%s", err, out)
	}
	address, manage := freePort(t), freePort(t)
	p := newCertPair(t, dir)
	begin = func(port string) {
		t.Helper()
		config, err := json.Marshal(map[string]any{"pebble": map[string]any{
			"listenAddress": address, "managementListenAddress": manage,
			"certificate": p.cert, "privateKey": p.key,
			"httpPort": 1, "tlsPort": json.Number(port), "keyAlgorithm": "ecdsa",
			"retryAfter": map[string]int{"authz": 1, "order": 1},
		}})
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "config.json"), config)
		ctx, stop := context.WithCancel(context.Background())
		cmd := exec.CommandContext(ctx, pebble, "-config", filepath.Join(dir, "config.json"), "-dnsserver", nameServer(t))
		cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			stop()
			_ = cmd.Wait() // it was killed
			if t.Failed() {
				t.Logf("the authority said:\n%s", out.String())
			}
		})
		eventually(t, "the authority listens", func() bool {
			conn, err := net.Dial("tcp", manage)
			if err == nil {
				_ = conn.Close()
				conn, err = net.Dial("tcp", address)
			}
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		})
	}
	return "https://" + address + "/dir", "https://" + manage, p.cert, begin
}

// authorityRoots asks an authority for the root of what it issues.
func authorityRoots(t *testing.T, management, trust string) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(trust)
	if err != nil {
		t.Fatal(err)
	}
	own := x509.NewCertPool()
	own.AppendCertsFromPEM(pem)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: own}, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr}).Get(management + "/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	root, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(root) {
		t.Fatalf("got no root: %s", root)
	}
	return pool
}

// freePort returns an address that nobody listens on, as it was a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// nameServer runs a name server on TCP to which every name is this machine.
func nameServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if err := answerName(c); err != nil {
				t.Errorf("name server: %v", err)
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
	return l.Addr().String()
}

func answerName(c net.Conn) error {
	var size uint16
	if err := binary.Read(c, binary.BigEndian, &size); err != nil {
		return err
	}
	query := make([]byte, size)
	if _, err := io.ReadFull(c, query); err != nil {
		return err
	}
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return err
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	for _, q := range m.Questions {
		if q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
				Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
			})
		}
	}
	answer, err := m.Pack()
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	_, err = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
	return err
}

// TestACME_StopsWhileTheAuthorityIsSilent has one that takes connections, and says nothing.
func TestACME_StopsWhileTheAuthorityIsSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, stop, _, ended := start(t, server.Config{Transport: server.Transport{TLS: server.TLSACME, ACME: server.ACME{
		Domains: []string{acmeDomain}, Directory: "https://" + l.Addr().String() + "/dir", Cache: t.TempDir(),
	}}})
	conn, err := l.Accept() // it is asked
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the server waits for it")
	}
}
