package eventsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"sync"
	"time"

	"github.com/tidewire/tidewire/sse"
)

// Stream returns the events of the stream at url, of all types, as an iterator
// that reconnects and resumes by itself. It runs in the caller's goroutine and
// starts none; breaking out of the loop ends the request. Each range over it is
// a stream of its own.
//
// Faults after which it goes on are told to OnError only. An error that is
// yielded is final and comes last: a bad URL or option, an answer that is not a
// stream, an event that is too large, or the end of ctx. After a 204, and after
// a clean end of a request that must not be repeated, the iterator ends without.
func Stream(ctx context.Context, url string, opts *Options) iter.Seq2[MessageEvent, error] {
	return func(yield func(MessageEvent, error) bool) {
		s, err := newStream(url, opts)
		if err != nil {
			yield(MessageEvent{}, err)
			return
		}
		defer s.close()
		for {
			ev, err := s.next(ctx)
			if errors.Is(err, ErrNoContent) || errors.Is(err, errFinished) {
				return
			}
			if !yield(ev, err) || err != nil {
				return
			}
		}
	}
}

// errFinished is the clean end of a stream that must not be asked for again.
var errFinished = fmt.Errorf("eventsource: the stream has ended, and a request other than GET is not repeated unless RepeatNonGET is set: %w", io.EOF)

// A stream is the client without any goroutine: each call of next does what is to
// be done until there is an event. Open stands on it.
type stream struct {
	url     string
	opt     Options
	client  *http.Client
	attempt Attempt
	method  string // of the last request

	lastEventID string
	retry       time.Duration // set by the server
	hasRetry    bool

	conn    *connection
	wake    chan struct{}   // Reconnect was called: do not wait
	dialing func()          // an attempt begins; nil in Stream
	idIs    func(id string) // what the last event id is after all that has come; nil in Stream

	mu     sync.Mutex
	cancel context.CancelCauseFunc // of the request that is under way
}

func newStream(url string, opts *Options) (*stream, error) {
	o := withDefaults(opts)
	if err := validate(url, &o); err != nil {
		return nil, err
	}
	return &stream{
		url:         url,
		opt:         o,
		client:      streamClient(o.HTTPClient),
		lastEventID: o.LastEventID,
		wake:        make(chan struct{}, 1),
	}, nil
}

// next returns the next event. An error is final.
func (s *stream) next(ctx context.Context) (MessageEvent, error) {
	for {
		if ctx.Err() != nil { // also where events are there already
			return MessageEvent{}, fmt.Errorf("eventsource: %w", context.Cause(ctx))
		}
		ev, err := s.try(ctx)
		if err == nil {
			return ev, nil
		}
		if ctx.Err() != nil {
			continue
		}
		if err := s.fault(ctx, err); err != nil {
			return ev, err
		}
	}
}

// try connects if need be and returns the next event, or why this attempt ended.
func (s *stream) try(ctx context.Context) (MessageEvent, error) {
	if s.conn == nil {
		if err := s.connect(ctx); err != nil {
			return MessageEvent{}, err
		}
		if s.opt.OnOpen != nil {
			s.opt.OnOpen(OpenEvent{Response: s.conn.resp})
		}
	}
	ev, err := s.conn.next()
	s.lastEventID = s.conn.dec.LastEventID()
	if err != nil {
		s.tellID()
		if time.Since(s.conn.opened) >= s.opt.MaxDelay {
			s.attempt.Failures = 0
		}
		s.close()
		var tooLarge *sse.SizeError
		if err != errReconnect && err != ErrIdleTimeout && !errors.As(err, &tooLarge) {
			err = ended(err)
		}
		return MessageEvent{}, err
	}
	s.attempt.Failures = 0
	return MessageEvent{Event: ev, Origin: s.conn.origin}, nil
}

// connect makes one attempt.
func (s *stream) connect(ctx context.Context) error {
	actx, cancel := context.WithCancelCause(ctx)
	s.setCancel(cancel)
	if s.dialing != nil {
		s.dialing()
	}
	s.attempt.Number++
	s.attempt.LastEventID = s.lastEventID
	s.attempt.ReconnectionTime = s.reconnectionTime()
	req, err := s.request(actx)
	if err != nil {
		err = cause(actx, err)
		cancel(nil)
		return err
	}
	s.method = req.Method
	s.conn, _, err = dial(actx, cancel, s.client, req, s.opt.IdleTimeout, &sse.DecoderOptions{
		LastEventID:  s.lastEventID,
		MaxEventSize: s.opt.MaxEventSize,
		OnComment:    s.opt.OnComment,
		OnRetry:      func(t time.Duration) { s.retry, s.hasRetry = t, true },
	})
	if err != nil {
		return err
	}
	// The decoder asks for more when it has taken all that is there: an id that came
	// alone (standard section 9.2.6) counts now.
	s.conn.body.before = s.tellID
	return nil
}

func (s *stream) tellID() {
	if s.idIs != nil {
		s.idIs(s.conn.dec.LastEventID())
	}
}

// setCancel makes Reconnect end the request that is about to start. A Reconnect
// from before is fulfilled by it.
func (s *stream) setCancel(cancel context.CancelCauseFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel = cancel
	select {
	case <-s.wake:
	default:
	}
}

// reconnect ends the request that is under way, if there is one, and the wait
// before the next. It may be called from any goroutine.
func (s *stream) reconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	if s.cancel != nil {
		s.cancel(errReconnect)
	}
}

// close gives up the connection, if there is one.
func (s *stream) close() {
	if s.conn != nil {
		s.conn.close()
		s.conn = nil
	}
}
