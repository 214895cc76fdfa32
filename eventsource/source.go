package eventsource

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// A Source is a stream in the browser's model: a connection that is kept up, a
// ready state, callbacks, and listeners by type. Its methods are safe for
// concurrent use, and in callbacks.
type Source struct {
	url    string
	stream *stream
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}

	mu          sync.Mutex
	state       State
	stopped     bool // by Close or the context: no callback starts from now on
	calling     bool // a callback is running
	lastEventID string
	err         error
	listeners   map[string][]*listener
}

type listener struct {
	fn      func(MessageEvent)
	removed bool
}

// Open connects to the stream at url, in a goroutine of its own, and returns at
// once. It fails only if the URL or an option is wrong. The source lives until
// Close, the end of ctx, or a failure that is final.
func Open(ctx context.Context, url string, opts *Options) (*Source, error) {
	s := &Source{url: url, done: make(chan struct{}), listeners: make(map[string][]*listener)}
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.OnMessage != nil {
		s.AddEventListener("message", o.OnMessage)
	}
	for typ, fn := range o.Listeners {
		s.AddEventListener(typ, fn)
	}
	s.guard(&o)
	var err error
	if s.stream, err = newStream(url, &o); err != nil {
		return nil, err
	}
	s.lastEventID = s.stream.lastEventID
	s.ctx, s.cancel = context.WithCancel(ctx)
	// A Reconnect may have come just before OnOpen, which then told of a connection
	// that was given up already.
	s.stream.dialing = func() { s.setState(StateConnecting) }
	s.stream.idIs = s.setLastEventID
	go s.run()
	return s, nil
}

// run reads the stream until it ends for good.
func (s *Source) run() {
	defer close(s.done)
	defer s.cancel()
	defer s.stream.close()
	for {
		ev, err := s.stream.next(s.ctx)
		if err != nil {
			s.finish(err)
			return
		}
		ev.Target = s
		s.dispatch(ev)
	}
}

// dispatch gives an event to its listeners. It counts as handed out when the first of
// them is called, or when it turns out that there is none.
func (s *Source) dispatch(ev MessageEvent) {
	s.mu.Lock()
	list := s.listeners[ev.Type]
	if len(list) == 0 && !s.over() {
		s.lastEventID = ev.ID
	}
	s.mu.Unlock()
	for _, l := range list {
		s.call(func() { l.fn(ev) }, func() bool {
			s.lastEventID = ev.ID
			return !l.removed
		})
	}
}

// setLastEventID notes an id that may have come without an event. Those before it have
// all been dealt with.
func (s *Source) setLastEventID(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over() {
		s.lastEventID = id
	}
}

// over tells whether no callback may start any more; mu is held.
func (s *Source) over() bool { return s.stopped || s.ctx.Err() != nil }

// finish records why the stream has ended.
func (s *Source) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = StateClosed
	if !s.stopped && s.ctx.Err() == nil {
		s.err = err
	}
}

// guard wraps the callbacks in opts, so that Close knows when one is running, and
// none starts after it, and adds what the source itself has to do.
func (s *Source) guard(o *Options) {
	onOpen, onError, onComment := o.OnOpen, o.OnError, o.OnComment
	newRequest, retry := o.NewRequest, o.Retry
	if c := o.HTTPClient; c != nil && c.CheckRedirect != nil {
		own := *c
		own.CheckRedirect = func(req *http.Request, via []*http.Request) (err error) {
			err = errStopped
			s.call(func() { err = c.CheckRedirect(req, via) }, nil)
			return err
		}
		o.HTTPClient = &own
	}
	o.OnOpen = func(ev OpenEvent) {
		s.setState(StateOpen)
		if onOpen != nil {
			ev.Target = s
			s.call(func() { onOpen(ev) }, nil)
		}
	}
	o.OnError = func(ev ErrorEvent) {
		s.setState(ev.State)
		if onError != nil {
			ev.Target = s
			s.call(func() { onError(ev) }, nil)
		}
	}
	if onComment != nil {
		o.OnComment = func(text string) { s.call(func() { onComment(text) }, nil) }
	}
	if newRequest != nil {
		o.NewRequest = func(ctx context.Context, a Attempt) (req *http.Request, err error) {
			err = errStopped
			s.call(func() { req, err = newRequest(ctx, a) }, nil)
			return req, err
		}
	}
	if retry != nil {
		o.Retry = func(a Attempt, delay time.Duration, again bool) (time.Duration, bool) {
			s.call(func() { delay, again = retry(a, delay, again) }, nil)
			return delay, again
		}
	}
}

// errStopped stands in for a request that is no longer asked for.
var errStopped = errors.New("eventsource: closed")

// call runs a callback, unless the source is over or ready, called with mu held, says
// no.
func (s *Source) call(fn func(), ready func() bool) {
	s.mu.Lock()
	if s.over() || ready != nil && !ready() {
		s.mu.Unlock()
		return
	}
	s.calling = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.calling = false
		s.mu.Unlock()
	}()
	fn()
}

func (s *Source) setState(state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.state = state
	}
}

// AddEventListener calls fn for every event of type typ from now on, after those
// listeners that came before it. The names "open" and "error" are types like any
// other here; for the connection's own news there are OnOpen and OnError. The
// function that it returns removes the listener.
func (s *Source) AddEventListener(typ string, fn func(MessageEvent)) (remove func()) {
	l := &listener{fn: fn}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Copied, because run walks over the list without the lock.
	s.listeners[typ] = append(s.listeners[typ][:len(s.listeners[typ]):len(s.listeners[typ])], l)
	return func() { s.removeListener(typ, l) }
}

func (s *Source) removeListener(typ string, l *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.removed = true
	var kept []*listener
	for _, other := range s.listeners[typ] {
		if other != l {
			kept = append(kept, other)
		}
	}
	s.listeners[typ] = kept
}

// URL returns the URL that Open was given.
func (s *Source) URL() string { return s.url }

// ReadyState returns whether the source is connecting, open or closed.
func (s *Source) ReadyState() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return StateClosed
	}
	return s.state
}

// LastEventID returns the id of the last event that was handed out, or one that the
// server has sent alone after it, as it does where nothing else comes: what to give to
// Options.LastEventID to go on from there another time.
func (s *Source) LastEventID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastEventID
}

// Reconnect drops the connection, if there is one, and connects anew at once, for
// example because the network has changed. It is not a failure: OnError is not
// called, and OnOpen tells when it has worked. A request other than GET is sent again too,
// as that is what was asked for. On a closed source it does nothing.
func (s *Source) Reconnect() {
	s.mu.Lock()
	closed := s.state == StateClosed
	if !closed {
		s.state = StateConnecting
	}
	s.mu.Unlock()
	if !closed {
		s.stream.reconnect()
	}
}

// Close ends the source: the request is given up, and no callback starts once
// Close was called. It returns when the source's goroutine has ended; if a callback
// is running, its own caller perhaps, it returns at once instead, and Done tells
// when all is over: an owner that must wait calls Close and then receives from Done. A
// second Close does nothing. It returns nil. The HTTPClient's Transport and Jar are no
// callbacks and must not call it.
func (s *Source) Close() error {
	s.mu.Lock()
	s.stopped = true
	s.state = StateClosed
	calling := s.calling
	s.mu.Unlock()
	s.cancel()
	if !calling {
		<-s.done
	}
	return nil
}

// Done returns a channel that is closed when the source has ended and its last
// callback has returned.
func (s *Source) Done() <-chan struct{} { return s.done }

// Err returns why the source has ended: the last ErrorEvent's error, or nil if it
// has not, or was closed by Close or the context.
func (s *Source) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
