package server

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tidewire/tidewire/hub"
)

const (
	// What a connection, and one request, may have sent of bodies that nobody has read.
	connectionBuffer = 1 << 20
	streamBuffer     = 256 << 10

	// An HTTP/2 peer of which nothing is heard is asked, and gone if it does not answer.
	pingAfter   = 30 * time.Second
	pingTimeout = 15 * time.Second

	// altSvcAge is how long browsers may remember that there is HTTP/3, in seconds.
	altSvcAge = 24 * 60 * 60
)

// A front is how connections come in, as [Transport] says: what stands between the sockets
// and the handler.
type front struct {
	transport    Transport
	proxies      trustedProxies
	certificates *certificates // nil for clear text
	http3        *http3Server  // nil without
	altSvc       string
	url          string
	writeTimeout time.Duration      // of the hub
	stop         context.CancelFunc // of what is asked of others
	serving      sync.WaitGroup
}

// newFront listens.
func newFront(c *Config) (f *front, _ net.Listener, err error) {
	if err := c.checkTransport(); err != nil {
		return nil, nil, err
	}
	f = &front{transport: c.Transport, writeTimeout: c.Hub.WriteTimeout}
	f.proxies = trustedProxies{prefixes: c.Transport.TrustedProxies, header: c.Transport.ForwardedHeader}
	if f.transport.StreamsPerConnection == 0 {
		f.transport.StreamsPerConnection = DefaultStreamsPerConnection
	}
	if f.writeTimeout == 0 {
		f.writeTimeout = hub.DefaultWriteTimeout
	}
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	if f.certificates, err = c.certificates(ctx); err != nil {
		stop()
		return nil, nil, err
	}
	l, packets, err := listenBoth(c.Listen, c.Transport.HTTP3)
	if err != nil {
		stop()
		return nil, nil, err
	}
	f.url = f.urlOf(l)
	if packets == nil {
		return f, l, nil
	}
	if f.http3, err = newHTTP3(packets, f.certificates.config(), f.transport.StreamsPerConnection); err != nil {
		stop()
		return nil, nil, errors.Join(fmt.Errorf("listen for HTTP/3: %w", err), l.Close())
	}
	_, port, _ := net.SplitHostPort(packets.LocalAddr().String())
	f.altSvc = fmt.Sprintf(`h3=":%s"; ma=%d`, port, altSvcAge)
	return f, l, nil
}

// urlOf returns the address that clients go to.
func (f *front) urlOf(l net.Listener) string {
	address := l.Addr().String()
	if l.Addr().Network() == "unix" {
		return unixPrefix + address
	}
	if f.certificates == nil {
		return "http://" + address
	}
	if _, port, err := net.SplitHostPort(address); err == nil && f.transport.TLS == TLSACME {
		address = net.JoinHostPort(f.transport.ACME.Domains[0], port)
	}
	return "https://" + strings.TrimSuffix(address, ":443")
}

// prepare makes a server for TCP one of all that the transport has. Its Handler, limits and
// time-outs are set before, and the log of its errors here. admit counts a connection of
// QUIC until release is called, or refuses it.
func (f *front) prepare(s *http.Server, admit func(peer net.Addr) (release func(), ok bool)) {
	s.Handler = f.handler(s.Handler)
	s.ErrorLog = log.New(errorLog{}, "", 0)
	s.Protocols = new(http.Protocols)
	s.Protocols.SetHTTP1(true)
	s.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams:          f.transport.StreamsPerConnection,
		MaxReceiveBufferPerConnection: connectionBuffer,
		MaxReceiveBufferPerStream:     streamBuffer,
		SendPingTimeout:               pingAfter,
		PingTimeout:                   pingTimeout,
		WriteByteTimeout:              max(f.writeTimeout, 0),
	}
	if f.certificates == nil {
		s.Protocols.SetUnencryptedHTTP2(true)
		return
	}
	s.Protocols.SetHTTP2(true)
	s.TLSConfig = f.certificates.config()
	if f.http3 != nil {
		f.http3.prepare(s, admit)
	}
}

// handler settles where requests come from, and tells of HTTP/3 (RFC 7838, section 3) those
// who have reached this server itself.
func (f *front) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 && (r.Method == http.MethodConnect || len(r.TransferEncoding) > 0) {
			// What follows could be part of this request to a proxy in front. net/http
			// drops a Content-Length beside the coding and does not tell: such a connection
			// must end (RFC 9112, section 6.1). Nor is there a tunnel to write to.
			w.Header().Set("Connection", "close")
		}
		proxied, err := f.proxies.settle(r)
		if err != nil {
			hub.Fail(w, err)
			return
		}
		if f.altSvc != "" && r.ProtoMajor < 3 && !proxied {
			w.Header().Set("Alt-Svc", f.altSvc)
		}
		next.ServeHTTP(w, r)
	})
}

// serve serves until the server and the front are shut down or closed; serving waits for
// that. The first listener that ends says why.
func (f *front) serve(s *http.Server, l net.Listener) (ended <-chan error) {
	if f.transport.ProxyProtocol {
		l = withProxyProtocol(l, &f.proxies, s.ReadHeaderTimeout)
	}
	each := make(chan error, 2)
	f.serving.Go(func() {
		if f.certificates != nil {
			each <- s.ServeTLS(l, "", "")
		} else {
			each <- s.Serve(l)
		}
	})
	if f.http3 != nil {
		f.serving.Go(func() { each <- f.http3.serve() })
	}
	if f.certificates != nil && f.certificates.fetch != nil {
		f.serving.Go(f.certificates.fetch)
	}
	return each
}

// shutdown stops what prepare has added to a server, in an orderly way.
func (f *front) shutdown(ctx context.Context) error {
	f.stop()
	if f.http3 == nil {
		return nil
	}
	return f.http3.shutdown(ctx)
}

// close stops it at once.
func (f *front) close() error {
	f.stop()
	if f.http3 == nil {
		return nil
	}
	return f.http3.close()
}

func (f *front) notice() string {
	if f.certificates == nil {
		return ""
	}
	return f.certificates.notice
}

// reload takes the certificate's files of another configuration. Other changes need a
// new start.
func (f *front) reload(t *Transport) error {
	if f.certificates == nil || f.certificates.reload == nil {
		return nil
	}
	return f.certificates.reload(t.CertFile, t.KeyFile)
}

// An errorLog has net/http's own words: those about clients that fail in a handshake, or
// break HTTP/2, are many and nobody's matter, and others are the server's.
type errorLog struct{}

func (errorLog) Write(b []byte) (int, error) {
	level, line := slog.LevelError, strings.TrimSpace(string(b))
	for _, p := range []string{"http: TLS handshake error", "http2: "} {
		if strings.HasPrefix(line, p) {
			level = slog.LevelDebug
		}
	}
	slog.Log(context.Background(), level, line)
	return len(b), nil
}
