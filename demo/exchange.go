package demo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// deliveryTimeout bounds each write to a client.
const deliveryTimeout = 5 * time.Second

// errCut is why a connection ends that the bad network has cut.
var errCut = errors.New("demo: the network has cut the connection")

// serveWay passes a request on to the hub, through the network of its page.
func (d *Demo) serveWay(w http.ResponseWriter, r *http.Request) {
	c := d.find(r.PathValue("page"))
	if c == nil {
		http.Error(w, "this comparison is not running: PUT its settings to /demo/compare/{page} first, and again within "+lease.String(), http.StatusNotFound)
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(c.ctx, func() { cancel(nil) })()
	e, status, err := c.enter(r.PathValue("way"), cancel)
	if err != nil {
		http.Error(w, err.Error(), status)
		return
	}
	defer c.leave(e)
	e.count(requestSize(r))

	n, _ := c.conditions()
	if sleep(ctx, milliseconds(n.Delay)) {
		inner := r.Clone(ctx)
		inner.Header.Del("Accept-Encoding") // what is cut or held back are events, and counted as they are
		inner.URL = &url.URL{Path: "/events/" + c.topic, RawQuery: r.URL.RawQuery}
		answer := newAnswer(ctx, w, c, e)
		if e.way == webSocket {
			d.hub.ServeHTTP(&upgrade{answer: answer}, inner)
		} else {
			d.hub.ServeHTTP(answer, inner)
		}
		answer.line.close()
		<-answer.line.done
	}
	if context.Cause(ctx) == errCut {
		panic(http.ErrAbortHandler) // as net/http has it: the connection breaks, without an end
	}
}

// requestSize returns the bytes of a request's head, as HTTP/1.1 writes it.
func requestSize(r *http.Request) int {
	return len(r.Method+" "+r.RequestURI+" HTTP/1.1\r\nHost: "+r.Host+"\r\n") + headerSize(r.Header)
}

func headerSize(h http.Header) int {
	n := len("\r\n")
	for name, values := range h {
		for _, v := range values {
			n += len(name) + len(": ") + len(v) + len("\r\n")
		}
	}
	return n
}

// An answer is a response that goes through a line. It has no Hijack and no Unwrap, so
// the hub stays with it until the stream ends.
type answer struct {
	w      http.ResponseWriter
	e      *exchange
	line   *line
	header http.Header // the hub's
	status int         // 0 before WriteHeader
	head   http.Header // as it was then
	sent   bool        // the head has been delivered
}

func newAnswer(ctx context.Context, w http.ResponseWriter, c *comparison, e *exchange) *answer {
	a := &answer{w: w, e: e, header: make(http.Header)}
	a.line = &line{ctx: ctx, network: c.conditions, deliver: a.deliver, fail: func() { e.cancel(nil) }}
	a.line.start()
	return a
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status != 0 {
		return
	}
	a.status, a.head = status, a.header.Clone()
	_ = a.line.write(nil) // what is written next says it too
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if err := a.line.write(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// FlushError has nothing to do: the line sends all as soon as its network lets it.
func (a *answer) FlushError() error { return context.Cause(a.line.ctx) }

// SetWriteDeadline ends the answer if the deadline is over, as the hub has it when it shuts
// down. Others are for the line, which has its own.
func (a *answer) SetWriteDeadline(t time.Time) error {
	if !t.IsZero() && time.Until(t) < 0 {
		a.e.cancel(nil)
	}
	return nil
}

// deliver is what the line calls, one at a time.
func (a *answer) deliver(b []byte) error {
	rc := http.NewResponseController(a.w)
	_ = rc.SetWriteDeadline(time.Now().Add(deliveryTimeout)) // where there are deadlines
	if !a.sent {
		a.sendHead()
	}
	if len(b) > 0 {
		if _, err := a.w.Write(b); err != nil {
			return err
		}
		a.e.count(a.framing(len(b)) + len(b))
	}
	return rc.Flush()
}

func (a *answer) sendHead() {
	a.sent = true
	header := a.w.Header()
	for name, values := range a.head {
		header[name] = values
	}
	a.e.count(len("HTTP/1.1 "+strconv.Itoa(a.status)+" "+http.StatusText(a.status)+"\r\nDate: "+http.TimeFormat+"\r\n") + headerSize(header))
	a.w.WriteHeader(a.status)
}

// framing returns the bytes around a chunk (RFC 9112, section 7.1).
func (a *answer) framing(n int) int {
	if a.head.Get("Content-Length") != "" {
		return 0
	}
	return len(strconv.FormatInt(int64(n), 16)) + len("\r\n\r\n")
}

// An upgrade is an answer that may become a WebSocket, to which the hub writes through
// the line from then on.
type upgrade struct{ *answer }

// WriteHeader keeps the head of a handshake, which Hijack sends.
func (u *upgrade) WriteHeader(status int) {
	if status != http.StatusSwitchingProtocols {
		u.answer.WriteHeader(status)
		return
	}
	u.status, u.head = status, u.header.Clone()
}

func (u *upgrade) Write(b []byte) (int, error) {
	u.WriteHeader(http.StatusOK)
	return u.answer.Write(b)
}

func (u *upgrade) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	n, _ := u.line.network()
	if !sleep(u.line.ctx, milliseconds(n.Delay)) {
		return nil, nil, context.Cause(u.line.ctx)
	}
	u.line.close() // nothing was written to it
	<-u.line.done
	u.sendHead()
	conn, rw, err := http.NewResponseController(u.w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	through := &lateConn{Conn: conn, e: u.e}
	// A proxy that lets a WebSocket pass does not look into it: there is no buffer.
	unbuffered := func() (network, <-chan struct{}) {
		n, changed := u.e.comparison.conditions()
		n.Buffer = 0
		return n, changed
	}
	u.answer.line = &line{ctx: u.line.ctx, network: unbuffered, deliver: through.deliver, fail: func() { u.e.cancel(nil) }}
	through.line = u.answer.line
	through.line.start()
	through.uncut = context.AfterFunc(u.line.ctx, func() { _ = conn.Close() })
	read, _ := rw.Reader.Peek(rw.Reader.Buffered()) // what is there is there
	in := bufio.NewReader(io.MultiReader(bytes.NewReader(read), through))
	return through, bufio.NewReadWriter(in, bufio.NewWriter(through)), nil
}

// A lateConn is a connection that writes through a line.
type lateConn struct {
	net.Conn
	e     *exchange
	line  *line
	uncut func() bool
	end   sync.Once
}

func (c *lateConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.e.count(n)
	return n, err
}

func (c *lateConn) Write(b []byte) (int, error) {
	if err := c.line.write(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (c *lateConn) deliver(b []byte) error {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(deliveryTimeout)); err != nil {
		return err
	}
	n, err := c.Conn.Write(b)
	c.e.count(n)
	return err
}

// Close ends the connection when what was written has arrived.
func (c *lateConn) Close() error {
	c.end.Do(func() {
		c.line.close()
		<-c.line.done
		c.uncut()
		_ = c.Conn.Close() // the other side may have done it
	})
	return nil
}
