package hub

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/tidewire/tidewire/sse"
)

// A WebSocketConn is a connection of the WebSocket protocol (RFC 6455) after its opening
// handshake. The hub calls Read from one goroutine at a time, the other methods from
// several. An error of any method is final.
type WebSocketConn interface {
	// Read waits for the next message, of text or binary, and until then answers pings,
	// and a close frame. What breaks the protocol, or is longer than was allowed, it
	// refuses with a close frame of its own (RFC 6455, section 7.4.1).
	Read(ctx context.Context) (text bool, message []byte, err error)

	// Write sends a message of text in one frame. If ctx ends before, the connection is cut.
	Write(ctx context.Context, message []byte) error

	// Ping sends a ping, and waits until the pong or anything else comes, which Read must
	// be there to take.
	Ping(ctx context.Context) error

	// Close sends a close frame with a code and a reason of 123 bytes at most, unless one
	// was sent or has come, waits for the other side's as long as ctx lets it, and frees
	// the connection.
	Close(ctx context.Context, code int, reason string)
}

// Codes of close frames (RFC 6455, section 7.4.1, and IANA's registry).
const (
	closeNormal   = 1000
	closeProtocol = 1002
	closeBinary   = 1003
	closeText     = 1007
	closePolicy   = 1008
	closeInternal = 1011
	closeRestart  = 1012
	closeLater    = 1013
)

// closeTimeout bounds the wait for the answer to a close frame.
const closeTimeout = 5 * time.Second

// A closeError is why the hub ends a socket, where the close frame alone tells it.
type closeError struct {
	code   int
	reason string
}

func (e *closeError) Error() string { return "hub: web socket: " + e.reason }

// errBroken says that the other side has gone, or broke the protocol.
var errBroken = &closeError{closeProtocol, "protocol-error"}

// asksWebSocket tells whether a request asks for the protocol. One of HTTP/1.0 cannot (RFC
// 9110, section 7.8).
func asksWebSocket(r *http.Request) bool {
	return r.ProtoMajor == 1 && r.ProtoMinor >= 1 && hasToken(r.Header, "Upgrade", "websocket")
}

// hasToken tells whether a header that is a list has a token, in any case.
func hasToken(h http.Header, name, token string) bool {
	for v := range strings.SplitSeq(strings.Join(h.Values(name), ","), ",") {
		if strings.EqualFold(strings.TrimSpace(v), token) {
			return true
		}
	}
	return false
}

// checkHandshake says what is wrong with an opening handshake (RFC 6455, section 4.2.1).
func (h *Hub) checkHandshake(w http.ResponseWriter, r *http.Request) error {
	key, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(r.Header.Get("Sec-WebSocket-Key")))
	switch {
	case h.opt.WebSocket == nil:
		return &RequestError{Problem: ProblemNotAcceptable, Field: "Upgrade", Detail: "this hub speaks no WebSocket: subscribe without the Upgrade header, to text/event-stream or application/x-ndjson, and publish with POST"}
	case !hasToken(r.Header, "Connection", "upgrade"):
		return &RequestError{Problem: ProblemQuery, Field: "Connection", Detail: "\"Upgrade: websocket\" came without \"Connection: Upgrade\": a proxy in front must send both on"}
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		w.Header().Set("Sec-WebSocket-Version", "13")
		return &RequestError{Problem: ProblemQuery, Field: "Sec-WebSocket-Version", Detail: "the one version of the protocol known here is 13"}
	case len(key) != 16 || len(r.Header.Values("Sec-WebSocket-Key")) != 1:
		return &RequestError{Problem: ProblemQuery, Field: "Sec-WebSocket-Key", Detail: "Sec-WebSocket-Key is 16 random bytes in base64, once"}
	case r.ContentLength != 0:
		return &RequestError{Problem: ProblemBody, Detail: "a WebSocket's handshake has no body: what follows it are frames"}
	}
	return nil
}

// A socketRequest is what a WebSocket is asked for.
type socketRequest struct {
	*request
	filter      Filter
	publishOnly bool
	tell        bool // its position, where no event does
}

func (h *Hub) parseSocket(r *http.Request) (*socketRequest, error) {
	req, err := parseRequest(r)
	if err != nil {
		return nil, err
	}
	q := &socketRequest{request: req}
	switch v := req.query.Get("publish"); v {
	case "":
	case "only":
		q.publishOnly = true
	default:
		return nil, &RequestError{Problem: ProblemQuery, Field: "publish", Detail: "publish is " + quote(v) + ": it can be only, to publish and not subscribe"}
	}
	if q.filter, err = req.filter(time.Now()); err != nil {
		return nil, err
	}
	beat, err := heartbeatOf(req)
	if err != nil {
		return nil, err
	}
	q.tell = beat != beatComment && h.opt.PositionInterval > 0
	if q.publishOnly && len(req.topics)+len(req.patterns) == 0 {
		return q, nil // each event names its own
	}
	if q.publishOnly && len(req.patterns) > 0 {
		return nil, &RequestError{Problem: ProblemTopic, Field: "pattern", Detail: "events are published to topics, not to patterns"}
	}
	return q, h.checkFilter(&q.filter)
}

// serveWebSocket answers GET with an upgrade to WebSocket: a subscription whose events are
// messages, and on which the client may publish. Until the handshake is answered, whatever
// is wrong is answered as to any request.
func (h *Hub) serveWebSocket(w http.ResponseWriter, r *http.Request) error {
	if err := h.checkHandshake(w, r); err != nil {
		return err
	}
	q, err := h.parseSocket(r)
	if err != nil {
		return err
	}
	// Shutdown waits for the handler: nobody else does, once the connection is taken over.
	if err := h.open(); err != nil {
		return err
	}
	defer h.closed()
	asked := q.request
	if q.publishOnly {
		asked = &request{} // it is a stream to those who count them, which needs no grant
	}
	p, err := h.authorize(w, r, ActionSubscribe, asked, false)
	if err != nil {
		return err
	}
	defer p.end()
	c, err := h.socketCursor(r.Context(), q, p)
	if err != nil {
		return err
	}
	var batch []*item
	if !q.publishOnly {
		defer c.close()
		var gap *GapError
		if batch, err = c.poll(r.Context()); err != nil && err != errEnded && !errors.As(err, &gap) {
			return err
		}
	}
	defer h.serve(c, p).leave()
	header := w.Header().Clone()
	conn, refused := h.opt.WebSocket(w, r, h.maxMessage())
	if refused != nil {
		return refused
	}
	c.served.begun()
	s := &socket{hub: h, conn: conn, header: header, topics: q.topics, turn: make(chan struct{}, 1)}
	s.run(r, func(ctx context.Context) error {
		if q.publishOnly {
			return s.wait(ctx, c)
		}
		return s.stream(ctx, c, batch, err)
	})
	return nil
}

// maxMessage returns the bytes that a message may have: JSON writes some characters with six,
// and the fields beside the data are bounded by themselves.
func (h *Hub) maxMessage() int { return 6*h.limits.Load().EventSize + 64<<10 }

// socketCursor returns where a socket begins. For one that publishes only it is a place that
// does not move, and needs no close.
func (h *Hub) socketCursor(ctx context.Context, q *socketRequest, p *permit) (*cursor, error) {
	if q.publishOnly {
		return &cursor{hub: h, after: h.log.Head().Seq}, nil
	}
	f := q.filter
	if err := p.maySubscribe(&f); err != nil {
		return nil, err
	}
	f.tidyPrivate()
	c, err := h.newCursor(ctx, f)
	if err != nil {
		return nil, err
	}
	if len(f.Patterns) == 0 { // with them a gap may be told between pages that is none
		c.page = firstPage / 4
	}
	c.slow = c.feed.slow
	if q.tell {
		c.place = newPlace(c.after, f.From.LastEventID != "")
	}
	return c, nil
}

// A socket is a WebSocket that is open. One goroutine writes events, one reads messages and
// answers them, one after the other, and one pings.
type socket struct {
	hub     *Hub
	conn    WebSocketConn
	request *http.Request // that asked for it, with io as its context
	header  http.Header   // of its answer
	topics  []string      // of events that name none
	io      context.Context
	turn    chan struct{} // taken while a message is answered, and for good when it closes
	turns   atomic.Int64  // of messages, both begun and ended
}

// run has a socket send until it is to end, and ends it.
func (s *socket) run(r *http.Request, send func(context.Context) error) {
	ctx, cut := context.WithCancelCause(r.Context())
	defer cut(nil)
	defer context.AfterFunc(s.hub.ctx, func() { cut(ErrShutdown) })()
	s.io, s.request = ctx, r.WithContext(ctx)
	sending, stop := context.WithCancelCause(ctx)
	var tasks sync.WaitGroup
	tasks.Go(func() { stop(s.listen()) })
	if s.hub.opt.Heartbeat > 0 {
		tasks.Go(func() {
			if !s.keepAlive(sending) {
				cut(errBroken)
			}
		})
	}
	err := send(sending)
	stop(nil) // no more pings
	s.close(err)
	cut(nil)
	tasks.Wait()
}

// stream sends a subscription, beginning with what poll has returned.
func (s *socket) stream(ctx context.Context, c *cursor, batch []*item, err error) error {
	epoch := s.hub.log.Head().Epoch
	idle := newIdleTimer(s.hub.opt.PositionInterval)
	defer idle.stop()
	for {
		var gap *GapError
		switch {
		case errors.As(err, &gap):
			err = s.write(controlMessage(gapEvent(gap)))
			c.place.told(gap.resumed)
		case err != nil && err != errIdle && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && err != errIdle:
			return err
		case len(batch) > 0:
			err = s.writeAll(batch, epoch)
			c.place.told(batch[len(batch)-1].Seq)
		case c.place.behind(c.after):
			err = s.write(controlMessage(sse.Event{ID: c.position(), Type: "tidewire.hb"}))
			c.place.told(c.after)
		default:
			err = nil
		}
		if err != nil {
			return errBroken
		}
		c.served.moved(c.after)
		batch, err = c.next(ctx, idle.start())
	}
}

func (s *socket) writeAll(batch []*item, epoch string) error {
	for _, it := range batch {
		if err := s.write(it.json(epoch)); err != nil {
			return err
		}
	}
	return nil
}

// wait is stream for who publishes only.
func (s *socket) wait(ctx context.Context, c *cursor) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.served.over():
		return c.served.reason()
	case <-s.hub.draining:
		return ErrShutdown
	}
}

// controlMessage is a control event as a message.
func controlMessage(ev sse.Event) []byte { return bytes.TrimSuffix(controlJSON(ev), []byte("\n")) }

func (s *socket) write(message []byte) error {
	ctx := s.io
	if t := s.hub.opt.WriteTimeout; t > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t)
		defer cancel()
	}
	return s.conn.Write(ctx, message)
}

// listen answers messages until there are no more, and returns why.
func (s *socket) listen() error {
	for {
		text, message, err := s.conn.Read(s.io)
		switch {
		case err != nil:
			return errBroken
		case !text:
			return &closeError{closeBinary, "text-only"}
		case !utf8.Valid(message):
			return &closeError{closeText, "not-utf-8"} // RFC 6455, section 8.1
		}
		select {
		case s.turn <- struct{}{}:
		case <-s.io.Done():
			return errBroken
		}
		s.turns.Add(1)
		err = s.write(s.answer(message))
		s.turns.Add(1)
		<-s.turn
		if err != nil {
			return errBroken
		}
	}
}

// keepAlive pings, and returns false when nothing has come for two heartbeats since. While
// a message is answered nothing can.
func (s *socket) keepAlive(ctx context.Context) bool {
	every := s.hub.opt.Heartbeat
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return true
		}
		before := s.turns.Load()
		ponged, cancel := context.WithTimeout(s.io, 2*every)
		err := s.conn.Ping(ponged)
		cancel()
		answered := before%2 != 0 || s.turns.Load() != before
		if err != nil && !answered && ctx.Err() == nil {
			return false
		}
	}
}

// close ends a socket after the message that is being answered, and says why.
func (s *socket) close(why error) {
	select {
	case s.turn <- struct{}{}:
	case <-s.io.Done():
	}
	code, reason, tell := closeOf(why)
	if tell {
		_ = s.write(controlMessage(s.hub.errorEvent(why))) // so that the page can learn more
	}
	ctx, cancel := context.WithTimeout(s.io, closeTimeout)
	defer cancel()
	s.conn.Close(ctx, code, reason)
}

// closeOf returns what the close frame says, and whether an event is to tell more before.
func closeOf(why error) (code int, reason string, tell bool) {
	var c *closeError
	switch {
	case errors.As(why, &c):
		return c.code, c.reason, false
	case why == errEnded:
		return closeNormal, string(ProblemClosed), false
	case why == errSlow:
		return closeLater, "too-slow", false
	case errors.Is(why, ErrShutdown), errors.Is(why, context.Canceled): // by who serves the hub
		return closeRestart, string(ProblemShutdown), false
	}
	e := problemOf(why)
	switch status := problems[e.Problem].status; {
	case status == http.StatusInternalServerError:
		code = closeInternal
	case status > http.StatusInternalServerError || status == http.StatusTooManyRequests:
		code = closeLater
	default:
		code = closePolicy
	}
	return code, string(e.Problem), true
}
