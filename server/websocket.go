package server

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/tidewire/tidewire/hub"
)

// WebSocketOptions configure [WebSocket]; nil and zero fields mean the defaults.
type WebSocketOptions struct {
	// MessageTimeout is the time for each next 4 KiB of a message, or its end. Then the
	// connection is cut. Default: [DefaultBodyTimeout]; negative: any time.
	MessageTimeout time.Duration

	// Compression lets clients that offer permessage-deflate (RFC 7692) have messages of
	// 512 bytes and more compressed, each by itself, without a dictionary that is kept. It
	// costs the time of a compression for each message and each connection. Default: none.
	Compression bool
}

// webSocketProtocol is a subprotocol that a client may ask for, and need not.
const webSocketProtocol = "tidewire"

// WebSocket returns what [hub.Options] need for WebSocket. [New] uses it where they have
// nothing.
func WebSocket(o *WebSocketOptions) func(w http.ResponseWriter, r *http.Request, maxMessage int) (hub.WebSocketConn, error) {
	var opt WebSocketOptions
	if o != nil {
		opt = *o
	}
	if opt.MessageTimeout == 0 {
		opt.MessageTimeout = DefaultBodyTimeout
	}
	accept := websocket.AcceptOptions{
		Subprotocols:       []string{webSocketProtocol},
		InsecureSkipVerify: true, // the hub has looked at the Origin
	}
	if opt.Compression {
		accept.CompressionMode = websocket.CompressionNoContextTakeover
	}
	return func(w http.ResponseWriter, r *http.Request, maxMessage int) (hub.WebSocketConn, error) {
		u := &upgrade{ResponseWriter: w}
		if !u.possible() {
			return nil, errNoUpgrade
		}
		conn, err := websocket.Accept(u, r, &accept)
		if err != nil {
			return nil, errNoUpgrade
		}
		conn.SetReadLimit(int64(maxMessage))
		return &webSocket{conn: conn, socket: u.socket, timeout: opt.MessageTimeout}, nil
	}
}

var errNoUpgrade = &hub.RequestError{Problem: hub.ProblemNotAcceptable, Field: "Upgrade", Detail: "this connection cannot become a WebSocket: subscribe to text/event-stream, and publish with POST"}

// webSocket returns options by which messages have the pace of bodies.
func (l *limiter) webSocket() *WebSocketOptions {
	timeout := l.limits.Load().BodyTimeout
	if timeout == 0 {
		timeout = -1 // none
	}
	return &WebSocketOptions{MessageTimeout: timeout}
}

// An upgrade is a response that is that of a handshake, or none.
type upgrade struct {
	http.ResponseWriter
	socket *heardConn // once it is taken over
}

// possible tells whether the connection can be taken over, as [http.ResponseController]
// would find out by doing it.
func (u *upgrade) possible() bool {
	for w := u.ResponseWriter; ; {
		switch t := w.(type) {
		case http.Hijacker:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return false
		}
	}
}

func (u *upgrade) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols {
		u.ResponseWriter.WriteHeader(status)
	}
}

// Write drops the text of an error.
func (u *upgrade) Write(b []byte) (int, error) { return len(b), nil }

func (u *upgrade) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(u.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	u.socket = &heardConn{Conn: conn}
	return u.socket, rw, nil
}

// A heardConn counts how often something came.
type heardConn struct {
	net.Conn
	heard atomic.Int64
}

func (c *heardConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.heard.Add(1)
	}
	return n, err
}

// A webSocket is a connection as the hub wants it.
type webSocket struct {
	conn    *websocket.Conn
	socket  *heardConn
	timeout time.Duration
}

var _ hub.WebSocketConn = (*webSocket)(nil)

func (s *webSocket) Read(ctx context.Context) (text bool, message []byte, err error) {
	typ, r, err := s.conn.Reader(ctx)
	if err != nil {
		return false, nil, err
	}
	if s.timeout > 0 {
		late := time.AfterFunc(s.timeout, s.cut)
		defer late.Stop()
		r = &pacedMessage{Reader: r, late: late, timeout: s.timeout}
	}
	message, err = io.ReadAll(r)
	return typ == websocket.MessageText, message, err
}

// A pacedMessage has its timer moved by each next bodyStep.
type pacedMessage struct {
	io.Reader
	late    *time.Timer
	timeout time.Duration
	read    int // since then
}

func (m *pacedMessage) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	if m.read += n; m.read >= bodyStep {
		m.read = 0
		m.late.Reset(m.timeout)
	}
	return n, err
}

func (s *webSocket) Write(ctx context.Context, message []byte) error {
	return s.conn.Write(ctx, websocket.MessageText, message)
}

// Ping counts anything that comes: a pong may wait behind a long message.
func (s *webSocket) Ping(ctx context.Context) error {
	before := s.socket.heard.Load()
	err := s.conn.Ping(ctx)
	if err != nil && s.socket.heard.Load() != before {
		return nil
	}
	return err
}

// Close cuts the connection itself when ctx ends: while the library drops the rest of a
// message, which may never come, it looks at no other time.
func (s *webSocket) Close(ctx context.Context, code int, reason string) {
	defer context.AfterFunc(ctx, s.cut)()
	_ = s.conn.Close(websocket.StatusCode(code), reason) // who has gone needs no answer
}

func (s *webSocket) cut() { _ = s.socket.Close() }
