package server_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/server"
)

// patience bounds what a test waits for.
const patience = 20 * time.Second

// A certPair is a self-signed certificate for this machine, in files.
type certPair struct {
	cert, key string
	roots     *x509.CertPool
	serial    *big.Int
}

// newCertPair writes a new certificate for names, or for localhost, to a directory.
func newCertPair(t testing.TB, dir string, names ...string) certPair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: append([]string{"localhost"}, names...), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p := certPair{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), roots: x509.NewCertPool(), serial: serial}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	p.roots.AppendCertsFromPEM(certPEM)
	write(t, p.cert, certPEM)
	write(t, p.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return p
}

// write replaces a file at once, as a program that renews certificates does.
func write(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// A way is how clients reach the server.
type way struct {
	name  string
	proto string
	tls   bool
	h3    bool
	http1 bool // else HTTP/2
}

var ways = []way{
	{name: "http1", proto: "HTTP/1.1", http1: true},
	{name: "http1 tls", proto: "HTTP/1.1", tls: true, http1: true},
	{name: "http2 clear text", proto: "HTTP/2.0"},
	{name: "http2 tls", proto: "HTTP/2.0", tls: true},
	{name: "http3", proto: "HTTP/3.0", tls: true, h3: true},
}

// config returns a configuration of a server for a way, and what a client of it trusts.
func (w way) config(t testing.TB) (server.Config, *x509.CertPool) {
	t.Helper()
	if !w.tls {
		return server.Config{}, nil
	}
	p := newCertPair(t, t.TempDir())
	return server.Config{Transport: server.Transport{TLS: server.TLSFiles, CertFile: p.cert, KeyFile: p.key, HTTP3: w.h3}}, p.roots
}

// client returns a client, and how many connections it has made.
func (w way) client(t testing.TB, roots *x509.CertPool) (*http.Client, *atomic.Int64) {
	t.Helper()
	made := new(atomic.Int64)
	config := &tls.Config{RootCAs: roots}
	if w.h3 {
		tr := &http3.Transport{TLSClientConfig: config, Dial: func(ctx context.Context, addr string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
			made.Add(1)
			return quic.DialAddrEarly(ctx, addr, c, q)
		}}
		t.Cleanup(func() { _ = tr.Close() })
		return &http.Client{Transport: tr}, made
	}
	p := new(http.Protocols)
	p.SetHTTP1(w.http1)
	p.SetHTTP2(!w.http1 && w.tls)
	p.SetUnencryptedHTTP2(!w.http1 && !w.tls)
	tr := &http.Transport{TLSClientConfig: config, Protocols: p, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		made.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}, made
}

// eachWay runs a test over all ways.
func eachWay(t *testing.T, test func(t *testing.T, w way)) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			test(t, w)
		})
	}
}

// serveWay starts a server for a way, and returns a client for it.
func serveWay(t *testing.T, w way, h hub.Options) (url string, c *http.Client, made *atomic.Int64, stop context.CancelFunc, ended <-chan error) {
	t.Helper()
	cfg, roots := w.config(t)
	cfg.Hub = h
	url, stop, _, ended = start(t, cfg)
	c, made = w.client(t, roots)
	return url, c, made, stop, ended
}

func publish(t testing.TB, c *http.Client, url, data string) {
	t.Helper()
	resp, err := c.Post(url, "text/plain", strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusCreated {
		t.Fatalf("publish: got %s %s", resp.Status, b)
	}
}

// subscribe opens a stream and returns its lines, without those that set the reconnection
// time and the empty ones.
func subscribe(t testing.TB, ctx context.Context, c *http.Client, url, lastEventID string) (*http.Response, *bufio.Scanner) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastEventID != "" {
		req.Header.Set("Last-Event-ID", lastEventID)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return resp, lines
}

// next returns the next line that begins with prefix.
func next(t testing.TB, lines *bufio.Scanner, prefix string) string {
	t.Helper()
	for lines.Scan() {
		if s, ok := strings.CutPrefix(lines.Text(), prefix); ok {
			return s
		}
	}
	t.Fatalf("the stream ended (%v) before a line that begins with %q", lines.Err(), prefix)
	return ""
}

func TestTransport_PublishesAndStreams(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		url, c, _, _, _ := serveWay(t, w, hub.Options{})
		if scheme := "https://"; strings.HasPrefix(url, scheme) != w.tls {
			t.Errorf("got URL %s", url)
		}
		resp, lines := subscribe(t, t.Context(), c, url+"/events/a", "")
		if resp.Proto != w.proto || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("got %s %s %s, want a stream over %s", resp.Proto, resp.Status, resp.Header.Get("Content-Type"), w.proto)
		}
		// The stream is live: what is published now comes at once, and one at a time.
		for n := range 3 {
			publish(t, c, url+"/events/a", fmt.Sprint("event ", n))
			if got, want := next(t, lines, "data: "), fmt.Sprint("event ", n); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	})
}

// TestTransport_ResumesWithoutLoss cuts a stream again and again while events come.
func TestTransport_ResumesWithoutLoss(t *testing.T) {
	const events, cuts = 200, 8
	eachWay(t, func(t *testing.T, w way) {
		url, c, _, _, _ := serveWay(t, w, hub.Options{})
		publish(t, c, url+"/events/a", "0")
		published := make(chan struct{})
		go func() {
			defer close(published)
			for n := 1; n < events; n++ {
				publish(t, c, url+"/events/a", fmt.Sprint(n))
			}
		}()
		defer func() { <-published }()
		last, want := "", 0
		for cut := range cuts + 1 {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			address := url + "/events/a"
			if last == "" {
				address += "?since=earliest"
			}
			_, lines := subscribe(t, ctx, c, address, last)
			for n := 0; want < events && (cut == cuts || n < events/(2*cuts)); n++ {
				last = next(t, lines, "id: ")
				if got := next(t, lines, "data: "); got != fmt.Sprint(want) {
					t.Fatalf("after cut %d: got event %s, want %d", cut, got, want)
				}
				want++
			}
			cancel()
		}
		if want != events {
			t.Errorf("got %d events, want %d", want, events)
		}
	})
}

func TestTransport_BeatsWhenIdle(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		url, c, _, _, _ := serveWay(t, w, hub.Options{Heartbeat: 50 * time.Millisecond})
		_, lines := subscribe(t, t.Context(), c, url+"/events/a", "")
		for range 3 {
			next(t, lines, ":")
		}
	})
}

func TestTransport_ClosedTopicIsNoContent(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		url, c, _, _, _ := serveWay(t, w, hub.Options{})
		_, lines := subscribe(t, t.Context(), c, url+"/events/a", "")
		publish(t, c, url+"/events/a?end=true", "last")
		id := next(t, lines, "id: ")
		next(t, lines, "data: last")
		for lines.Scan() { // to the end of the stream
			if s := lines.Text(); s != "" {
				t.Errorf("got %q after the last event", s)
			}
		}
		if err := lines.Err(); err != nil {
			t.Errorf("got %v, want a clean end", err)
		}
		if resp, _ := subscribe(t, t.Context(), c, url+"/events/a", id); resp.StatusCode != http.StatusNoContent {
			t.Errorf("got %s, want 204", resp.Status)
		}
	})
}

func TestTransport_DrainsAtShutdown(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		url, c, _, stop, ended := serveWay(t, w, hub.Options{Retry: time.Second})
		_, lines := subscribe(t, t.Context(), c, url+"/events/a", "")
		next(t, lines, "retry: ")
		stop()
		next(t, lines, "retry: ") // when to come back
		for lines.Scan() {
		}
		if err := lines.Err(); err != nil {
			t.Errorf("got %v, want a clean end", err)
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("the server does not end though all streams have")
		}
	})
}

// TestTransport_ManyStreamsShareAConnection opens more streams than the six connections that a
// browser makes to an HTTP/1.1 server.
func TestTransport_ManyStreamsShareAConnection(t *testing.T) {
	const streams = 20
	eachWay(t, func(t *testing.T, w way) {
		url, c, made, _, _ := serveWay(t, w, hub.Options{})
		publish(t, c, url+"/events/before", "x") // and makes the connection
		var opened, done sync.WaitGroup
		opened.Add(streams)
		failed := make(chan error, streams)
		for range streams {
			done.Go(func() {
				open := sync.OnceFunc(opened.Done)
				defer open()
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				for ev, err := range eventsource.Stream(ctx, url+"/events/a", &eventsource.Options{HTTPClient: c, OnOpen: func(eventsource.OpenEvent) { open() }}) {
					if err != nil || ev.Data != "for all" {
						failed <- fmt.Errorf("got %q, %w", ev.Data, err)
					}
					return
				}
			})
		}
		opened.Wait()
		publish(t, c, url+"/events/a", "for all")
		done.Wait()
		close(failed)
		for err := range failed {
			t.Error(err)
		}
		if n := made.Load(); !w.http1 && n != 1 {
			t.Errorf("got %d connections, want 1", n)
		}
	})
}

func TestTransport_LimitsStreamsOfAConnection(t *testing.T) {
	w := ways[3]
	cfg, roots := w.config(t)
	cfg.Transport.StreamsPerConnection = 2
	url, _, _, _ := start(t, cfg)
	c, made := w.client(t, roots)
	for range 3 {
		subscribe(t, t.Context(), c, url+"/events/a", "")
	}
	if n := made.Load(); n != 2 {
		t.Errorf("got %d connections for three streams, want 2 of two streams", n)
	}
}

// TestTransport_SlowSubscriberIsCutOff has a subscriber that takes nothing: it is gone after
// the time for a write, and others on the same server are not held up.
func TestTransport_SlowSubscriberIsCutOff(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		gone := make(chan struct{})
		cfg, roots := w.config(t)
		cfg.Hub = hub.Options{WriteTimeout: 8 * time.Second, Heartbeat: 50 * time.Millisecond, Compression: hub.CompressionOff} // so that it is as much as it says
		cfg.Handler = func(h *hub.Hub) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Has("stuck") {
					// Without Hijack, the handler stays as long as the stream.
					defer close(gone)
					rw = withController{rw}
				}
				h.ServeHTTP(rw, r)
			})
		}
		url, _, _, _ := start(t, cfg)
		stuck, _ := w.client(t, roots)
		subscribe(t, t.Context(), stuck, url+"/events/a?stuck=1", "") // and nothing is read
		other, _ := w.client(t, roots)
		_, lines := subscribe(t, t.Context(), other, url+"/events/a", "")
		big := strings.Repeat("x", 512<<10)
		for range 40 { // more than all the buffers between
			publish(t, other, url+"/events/a", big)
			next(t, lines, "id: ")
		}
		select {
		case <-gone:
		case <-time.After(patience):
			t.Fatal("the stream of a subscriber that takes nothing goes on")
		}
	})
}

// withController leads an [http.ResponseController] to the writer, and hides Hijack.
type withController struct{ http.ResponseWriter }

func (w withController) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// startServer runs a server on a free port until the test ends, if it is to listen nowhere
// else.
func startServer(t testing.TB, c server.Config) *server.Server {
	t.Helper()
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	s, err := server.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}
