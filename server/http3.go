package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

const (
	// A peer of which nothing is heard is gone after this, and is asked at half of it.
	quicIdleTimeout = 30 * time.Second

	// A connection of HTTP/3 has a control stream, two of QPACK, and what browsers try out.
	quicUniStreams = 16

	// quicHandshakes is how many connections may be under way from addresses that have not
	// been proved; those beyond prove theirs first, a round trip more (RFC 9000, section 8.1).
	quicHandshakes = 256

	// http3Linger is how long a client has to take the ends of its streams, after which
	// the connection is closed at a stop.
	http3Linger = time.Second
)

// An http3Server serves HTTP/3 (RFC 9114) on a UDP socket.
type http3Server struct {
	packets   net.PacketConn
	transport *quic.Transport
	listener  *quic.Listener
	http      *http3.Server

	header, idle time.Duration // how long a connection may be without a request: at first, and later

	admit func(peer net.Addr) (release func(), ok bool)

	mu         sync.Mutex
	handshakes int           // under way,
	requests   int           // as are these
	quiet      chan struct{} // closed when there are no requests, once somebody waits for that
}

// newHTTP3 listens. The socket is the server's then.
func newHTTP3(packets net.PacketConn, config *tls.Config, streams int) (*http3Server, error) {
	h := &http3Server{packets: packets}
	h.transport = &quic.Transport{Conn: packets, VerifySourceAddress: h.isBusy, ConnContext: h.begin}
	var err error
	h.listener, err = h.transport.Listen(http3.ConfigureTLSConfig(config), &quic.Config{
		MaxIdleTimeout:             quicIdleTimeout,
		KeepAlivePeriod:            quicIdleTimeout / 2,
		MaxIncomingStreams:         int64(streams),
		MaxIncomingUniStreams:      quicUniStreams,
		InitialStreamReceiveWindow: streamBuffer,
		MaxStreamReceiveWindow:     streamBuffer,
		MaxConnectionReceiveWindow: connectionBuffer,
		// No early data: somebody else could send a publish again (RFC 8470).
		Allow0RTT: false,
	})
	if err != nil {
		return nil, errors.Join(err, h.transport.Close(), packets.Close())
	}
	return h, nil
}

// prepare takes the handler, limits and time-outs of a server for TCP.
func (h *http3Server) prepare(from *http.Server, admit func(net.Addr) (func(), bool)) {
	h.admit = admit
	h.header, h.idle = from.ReadHeaderTimeout, from.IdleTimeout
	h.http = &http3.Server{
		Handler:        h.count(from.Handler),
		MaxHeaderBytes: from.MaxHeaderBytes,
		ConnContext:    h.track,
	}
}

// serve serves until shutdown, and returns [http.ErrServerClosed] then.
func (h *http3Server) serve() error { return h.http.ServeListener(h.listener) }

// shutdown tells clients to send no more requests (GOAWAY), waits for those under way, and
// a little for the clients to have all of the answers.
func (h *http3Server) shutdown(ctx context.Context) error {
	err := h.listener.Close()
	quiet := h.whenQuiet()
	linger, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		_ = h.http.Shutdown(linger) // it closes when linger ends
		close(ended)
	}()
	select {
	case <-quiet:
		select {
		case <-time.After(http3Linger):
		case <-ended:
		case <-ctx.Done():
		}
	case <-ctx.Done():
	}
	cancel()
	<-ended
	return errors.Join(err, h.close(), ctx.Err())
}

// close closes everything at once.
func (h *http3Server) close() error {
	err := h.listener.Close()
	if h.http != nil {
		err = errors.Join(err, h.http.Close())
	}
	err = errors.Join(err, h.transport.Close(), h.packets.Close())
	if errors.Is(err, net.ErrClosed) {
		return nil // it was closed before
	}
	return err
}

// isBusy tells whether who comes has to prove its address first.
func (h *http3Server) isBusy(net.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.handshakes >= quicHandshakes
}

// whenQuiet returns a channel that is closed as soon as no request is under way.
func (h *http3Server) whenQuiet() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.quiet == nil {
		h.quiet = make(chan struct{})
		h.closeQuiet()
	}
	return h.quiet
}

// closeQuiet is called with mu held.
func (h *http3Server) closeQuiet() {
	if h.quiet == nil || h.requests > 0 {
		return
	}
	select {
	case <-h.quiet:
	default:
		close(h.quiet)
	}
}

// An http3Conn closes a connection that has no request for too long. The library's own time
// runs only while there is no stream, and a stream whose headers never come is one.
type http3Conn struct {
	server *http3Server
	shaken func()     // the handshake is over
	conn   *quic.Conn // nil until then

	mu       sync.Mutex
	requests int
	timer    *time.Timer // nil where there is no bound
}

type http3ConnKey struct{}

// begin is called when a handshake begins, by anybody: the peer's address is not proved.
func (h *http3Server) begin(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
	h.addHandshakes(1)
	c := &http3Conn{server: h, shaken: sync.OnceFunc(func() { h.addHandshakes(-1) })}
	context.AfterFunc(ctx, c.shaken)
	return context.WithValue(ctx, http3ConnKey{}, c), nil
}

func (h *http3Server) addHandshakes(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handshakes += n
}

// track is called when it has ended well.
func (h *http3Server) track(ctx context.Context, conn *quic.Conn) context.Context {
	c := ctx.Value(http3ConnKey{}).(*http3Conn)
	c.conn = conn
	c.shaken()
	release, ok := h.admit(conn.RemoteAddr())
	if !ok {
		_ = conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad), "too many connections")
		return ctx
	}
	context.AfterFunc(conn.Context(), release)
	if h.header > 0 {
		c.timer = time.AfterFunc(h.header, c.expire)
		context.AfterFunc(conn.Context(), func() { c.timer.Stop() })
	}
	return ctx
}

func (c *http3Conn) expire() {
	c.mu.Lock()
	idle := c.requests == 0
	c.mu.Unlock()
	if idle {
		_ = c.conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "idle")
	}
}

// add counts requests under way.
func (c *http3Conn) add(n int) {
	c.mu.Lock()
	c.requests += n
	switch {
	case c.timer == nil:
	case c.requests > 0:
		c.timer.Stop()
	case c.server.idle > 0:
		c.timer.Reset(c.server.idle)
	}
	c.mu.Unlock()

	h := c.server
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests += n
	h.closeQuiet()
}

// count has connections know how many requests they have.
func (h *http3Server) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := r.Context().Value(http3ConnKey{}).(*http3Conn)
		c.add(1)
		defer c.add(-1)
		next.ServeHTTP(w, r)
	})
}
