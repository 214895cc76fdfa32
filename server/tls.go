package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// certificates are where the certificate of a handshake comes from.
type certificates struct {
	get    func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	reload func(cert, key string) error // nil where there is nothing to read again
	protos []string                     // to negotiate beside HTTP
	fetch  func()                       // gets what can be had before anybody comes; nil where there is nothing
	notice string                       // that the start is to say
}

// certificates returns where certificates come from, nil without TLS. ctx bounds what is
// asked of others for them.
func (c *Config) certificates(ctx context.Context) (*certificates, error) {
	t := &c.Transport
	switch t.TLS {
	case TLSFiles:
		return openCertFiles(t.CertFile, t.KeyFile)
	case TLSDev:
		return newDevCertificate(c.Listen, time.Now())
	case TLSACME:
		return newACME(ctx, &t.ACME, c.Data)
	}
	return nil, nil
}

// config returns what handshakes are made with.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: c.get,
		NextProtos:     append([]string{"h2", "http/1.1"}, c.protos...),
	}
}

// certInterval is how often the files of a certificate are looked at, at most.
const certInterval = time.Second

// A certFiles is a certificate in files. A handshake looks whether they have changed, and
// others that come meanwhile go on with what there is.
type certFiles struct {
	current atomic.Pointer[tls.Certificate]

	mu        sync.Mutex // held while the files are looked at; no handshake waits for it
	cert, key string
	looked    time.Time
	seen      [2]os.FileInfo // of what was read last, even if in vain
}

func openCertFiles(cert, key string) (*certificates, error) {
	f := new(certFiles)
	if err := f.reload(cert, key); err != nil {
		return nil, err
	}
	return &certificates{get: f.get, reload: f.reload}, nil
}

func (f *certFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if f.mu.TryLock() {
		if time.Since(f.looked) >= certInterval {
			f.lookAgain()
		}
		f.mu.Unlock()
	}
	return f.current.Load(), nil
}

// lookAgain reads the files if they have changed. What cannot be used is told once, and
// the certificate that there is stays. f.mu is held.
func (f *certFiles) lookAgain() {
	f.looked = time.Now()
	now := stat(f.cert, f.key)
	if same(now[0], f.seen[0]) && same(now[1], f.seen[1]) {
		return
	}
	f.seen = now // before reading: what changes meanwhile is read again
	pair, err := load(f.cert, f.key)
	if err != nil {
		slog.Error("the new TLS certificate cannot be used: the one before stays", "error", err)
		return
	}
	f.current.Store(pair)
}

// reload reads files, whether they have changed or not. What cannot be used changes nothing.
func (f *certFiles) reload(cert, key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := stat(cert, key)
	pair, err := load(cert, key)
	if err != nil {
		return err
	}
	f.cert, f.key, f.seen, f.looked = cert, key, now, time.Now()
	f.current.Store(pair)
	return nil
}

func load(cert, key string) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s and key %s: %w: --tls-cert and --tls-key name PEM files that belong together", cert, key, err)
	}
	return &pair, nil
}

func stat(cert, key string) (info [2]os.FileInfo) {
	info[0], _ = os.Stat(cert) // what is not there is told when it is read
	info[1], _ = os.Stat(key)
	return info
}

func same(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
