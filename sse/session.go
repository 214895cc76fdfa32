package sse

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// The defaults of [SessionOptions].
const (
	DefaultRetry        = 3 * time.Second
	DefaultHeartbeat    = 15 * time.Second
	DefaultWriteTimeout = 10 * time.Second
)

// SessionOptions configure a [Session]; nil and zero fields mean the defaults.
type SessionOptions struct {
	// Retry is the reconnection time that the client is told first of all, so
	// that a longer one from an overloaded server does not stick. Default:
	// [DefaultRetry]; negative: none, and an empty comment comes first.
	Retry time.Duration

	// Heartbeat is how long a stream may be idle before an empty comment keeps
	// it open through proxies, less up to a tenth so that many streams do not
	// beat at once. Default: [DefaultHeartbeat]; negative: never.
	Heartbeat time.Duration

	// WriteTimeout bounds each write: a peer that takes nothing for so long is
	// given up. Default: [DefaultWriteTimeout]; negative: none, so that one
	// stuck peer can hold its handler until TCP gives up.
	WriteTimeout time.Duration

	// MaxAge is how long a stream may live, less up to a tenth. It then tells
	// the client to come back after between half and one and a half times Retry,
	// and Context ends with [ErrMaxAge]. Default: for ever.
	MaxAge time.Duration
}

// ErrMaxAge is the cause with which a session's context ends, and what Send
// returns from then on, when the session has reached its MaxAge. The client has
// been told when to come back, so a handler only has to return.
var ErrMaxAge = errors.New("sse: session has reached its maximum age")

// ErrClosed is the same for a session that its handler has closed, and for the
// answer to a HEAD request, which has no body.
var ErrClosed = errors.New("sse: session is closed")

// A Session is the server's side of one stream. Its methods are safe for
// concurrent use, and each write has a deadline of its own.
type Session struct {
	w            http.ResponseWriter
	rc           *http.ResponseController
	lastEventID  string
	retry        time.Duration
	heartbeat    time.Duration
	writeTimeout time.Duration
	disarm       bool // an expired deadline ends the stream even if nothing is written

	request context.Context
	ctx     context.Context // ends with the session, the request's end included
	cancel  context.CancelCauseFunc

	pending sync.WaitGroup // what may still run by itself: the timer, and the request's end

	// mu is held while writing: what is written by two goroutines must not mix,
	// and the write deadline bounds it.
	mu     sync.Mutex
	buf    scratch
	wrote  time.Time // when something was last written
	dies   time.Time // when MaxAge is reached; zero: never
	timer  *time.Timer
	unhook func() bool // stops waiting for the request's end
	closed error       // why nothing can be sent any more
}

// Accept begins a stream: it sets Content-Type, Cache-Control: no-store (unless
// the handler has set another) and X-Accel-Buffering: no, and sends the headers
// with status 200 and the first bytes at once, so that a browser's open event
// fires behind buffering proxies.
//
// The handler must call Close before it returns. w, or what its Unwrap methods
// lead to, must have Flush; if it has no SetWriteDeadline either, the session
// works without WriteTimeout. On an error nothing was written if it wraps
// [http.ErrNotSupported]; any other is that of the first write. After Accept,
// write to w through the session only.
func Accept(w http.ResponseWriter, r *http.Request, opts *SessionOptions) (*Session, error) {
	if !canFlush(w) {
		return nil, fmt.Errorf("sse: accept: %T has neither Flush nor an Unwrap method that leads to it: %w", w, http.ErrNotSupported)
	}
	s := newSession(w, r, opts)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	h.Del("Content-Length")

	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline()
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		_ = s.end(ErrClosed)
		return s, nil
	}
	first := AppendComment(nil, "")
	if s.retry > 0 {
		first = appendRetry(nil, s.retry)
	}
	if err := s.write(first); err != nil {
		return nil, err
	}
	s.arm()
	s.pending.Add(1)
	s.unhook = context.AfterFunc(s.request, s.requestEnded)
	return s, nil
}

func newSession(w http.ResponseWriter, r *http.Request, opts *SessionOptions) *Session {
	var o SessionOptions
	if opts != nil {
		o = *opts
	}
	s := &Session{
		w:            w,
		rc:           http.NewResponseController(w),
		lastEventID:  strings.ToValidUTF8(r.Header.Get("Last-Event-ID"), "\uFFFD"),
		retry:        orDefault(o.Retry, DefaultRetry),
		heartbeat:    orDefault(o.Heartbeat, DefaultHeartbeat),
		writeTimeout: orDefault(o.WriteTimeout, DefaultWriteTimeout),
		disarm:       r.ProtoMajor != 1,
	}
	if o.MaxAge > 0 {
		s.dies = time.Now().Add(jitter(o.MaxAge))
	}
	s.request = r.Context()
	s.ctx, s.cancel = context.WithCancelCause(context.WithoutCancel(s.request))
	return s
}

// LastEventID returns the id after which the client wants to go on: its
// Last-Event-ID header, "" if it sent none.
func (s *Session) LastEventID() string { return s.lastEventID }

// Context returns a context that ends when the stream does: when the client has
// gone, a write has failed, MaxAge is reached or Close was called.
// [context.Cause] tells which.
func (s *Session) Context() context.Context { return s.ctx }

// Send writes events in one write and one flush. If one of them cannot be
// encoded it returns a *[FieldError], nothing is written and the stream goes on.
// Any other error is final, ends Context, and is what each later call returns.
func (s *Session) Send(evs ...Event) error {
	return s.append(func(b []byte) (_ []byte, err error) {
		for _, ev := range evs {
			if b, err = AppendEvent(b, ev); err != nil {
				return b, err
			}
		}
		return b, nil
	})
}

// SendFrame is Send for events that are encoded already.
func (s *Session) SendFrame(frames ...Frame) error {
	return s.append(func(b []byte) ([]byte, error) {
		for _, f := range frames {
			b = f.AppendTo(b)
		}
		return b, nil
	})
}

// Comment writes text as comment lines, which clients drop.
func (s *Session) Comment(text string) error {
	return s.append(func(b []byte) ([]byte, error) { return AppendComment(b, text), nil })
}

// SendID moves the client's last event id without an event; see [AppendID].
func (s *Session) SendID(id string) error {
	return s.append(func(b []byte) ([]byte, error) { return AppendID(b, id) })
}

// SendRetry tells the client another reconnection time, without an event. It must
// be positive.
func (s *Session) SendRetry(d time.Duration) error {
	return s.append(func(b []byte) ([]byte, error) {
		if d <= 0 {
			return b, &FieldError{"retry", 0, "is not positive"}
		}
		return appendRetry(b, d), nil
	})
}

// Close ends the session and waits for a write that is under way. The response
// itself ends when the handler returns. A second call does nothing.
func (s *Session) Close() {
	s.mu.Lock()
	_ = s.end(ErrClosed)
	// The server still has the end of the body to write.
	s.deadline()
	s.mu.Unlock()
	s.pending.Wait()
}

// append encodes into the session's buffer and writes that.
func (s *Session) append(encode func([]byte) ([]byte, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != nil {
		return s.closed
	}
	if s.request.Err() != nil {
		return s.endWithRequest()
	}
	b, err := encode(s.buf.b)
	if err != nil {
		return err
	}
	s.deadline()
	err = s.write(b)
	s.buf.keep(b)
	return err
}

// write writes and flushes b; mu is held and the deadline set.
func (s *Session) write(b []byte) error {
	var err error
	if len(b) > 0 {
		_, err = s.w.Write(b)
	}
	if err == nil {
		err = s.rc.Flush()
	}
	if err != nil {
		return s.end(fmt.Errorf("sse: send: %w", err))
	}
	if s.disarm {
		_ = s.rc.SetWriteDeadline(time.Time{}) // unsupported here means that none was set
	}
	s.wrote = time.Now()
	return nil
}

// deadline bounds the next write. Over HTTP/1.1 it may pass while the stream is
// idle: the next write sets it anew, which is also what makes the session immune
// to the server's WriteTimeout.
func (s *Session) deadline() {
	var t time.Time
	if s.writeTimeout > 0 {
		t = time.Now().Add(s.writeTimeout)
	}
	_ = s.rc.SetWriteDeadline(t) // a writer without deadlines is documented in Accept
}

// end makes the session unusable, for the first reason given, and returns that.
func (s *Session) end(cause error) error {
	if s.closed == nil {
		s.closed = cause
		s.cancel(cause)
		if s.timer != nil && s.timer.Stop() {
			s.pending.Done()
		}
		if s.unhook != nil && s.unhook() {
			s.pending.Done()
		}
	}
	return s.closed
}

// requestEnded runs when the request's context has ended. net/http ends it too when
// a write has failed: mu has us wait until that write has told its own reason.
func (s *Session) requestEnded() {
	defer s.pending.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.endWithRequest()
}

func (s *Session) endWithRequest() error {
	return s.end(fmt.Errorf("sse: the client has gone or the server is closing: %w", context.Cause(s.request)))
}

// arm sets the timer to the next heartbeat or the end of life.
func (s *Session) arm() {
	next := s.dies
	if s.heartbeat > 0 {
		if beat := s.wrote.Add(jitter(s.heartbeat)); next.IsZero() || beat.Before(next) {
			next = beat
		}
	}
	if next.IsZero() {
		return
	}
	s.pending.Add(1)
	s.timer = time.AfterFunc(time.Until(next), s.tick)
}

// tick runs when the timer fires.
func (s *Session) tick() {
	defer s.pending.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != nil {
		return
	}
	switch {
	case !s.dies.IsZero() && !time.Now().Before(s.dies):
		retry := s.retry
		if retry < 0 {
			retry = DefaultRetry
		}
		s.deadline()
		if s.write(appendRetry(s.buf.b, retry/2+rand.N(retry))) == nil {
			_ = s.end(ErrMaxAge)
		}
		return
	case s.heartbeat > 0 && time.Since(s.wrote) >= s.heartbeat-s.heartbeat/10:
		s.deadline()
		if s.write(AppendComment(s.buf.b, "")) != nil {
			return
		}
	}
	s.arm()
}

// jitter takes up to a tenth off d.
func jitter(d time.Duration) time.Duration {
	return d - rand.N(d/10+1)
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// canFlush tells whether an [http.ResponseController] of w can flush, without
// doing it.
func canFlush(w http.ResponseWriter) bool {
	for {
		switch t := w.(type) {
		case http.Flusher, interface{ FlushError() error }:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return false
		}
	}
}
