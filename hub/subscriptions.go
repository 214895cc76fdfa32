package hub

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A Subscription is a stream that is open, as it is now.
type Subscription struct {
	Subject  string     // whose it is, "" for nobody in particular
	Address  netip.Addr // of the client
	Topics   []string
	Patterns []string
	Types    []string
	Since    time.Time // when it began
	Expires  time.Time // when it will end, at the latest; zero: never
	Position string    // up to where events have been written to it
	Grant    *Grant    // that it has
}

// Subscriptions returns the streams that are open over HTTP, in no order. Calls of
// [Hub.Subscribe] are not among them. [Authority.Ended] must not call it.
func (h *Hub) Subscriptions(ctx context.Context) []Subscription {
	found := h.engine.subscriptions(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.served {
		found = append(found, s.describe())
	}
	return found
}

// End ends the streams for which match, which must not wait, returns true: each is told
// why, and ends after what was begun. It returns how many there were. [Authority.Ended]
// must not call it.
func (h *Hub) End(ctx context.Context, match func(*Subscription) bool, why *RequestError) int {
	n := h.engine.end(ctx, match, why)
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.served {
		if d := s.describe(); match(&d) {
			s.cut(why)
			n++
		}
	}
	return n
}

// Recheck ends the streams whose grants the [Authority] does not hold any more: each is told
// so, and ends after what was begun. It must be called when what an Authority holds has
// changed; streams that begin meanwhile are checked too. [Authority.Ended] must not call it.
func (h *Hub) Recheck(ctx context.Context) {
	if a := h.opt.Authority; a != nil {
		h.End(ctx, func(s *Subscription) bool { return !a.Holds(s.Grant) }, errRevoked)
	}
}

// A served subscription is one that a goroutine writes to.
type served struct {
	hub    *Hub
	filter Filter
	permit *permit
	timer  *time.Timer // of its expiry; nil if there is none

	mu    sync.Mutex
	after uint64 // what was handed out
	why   error  // it ends
	ended chan struct{}
}

// serve has a cursor's stream listed, and end when its permit does, until leave.
func (h *Hub) serve(c *cursor, p *permit) *served {
	s := &served{hub: h, filter: c.filter, permit: p, after: c.after, ended: make(chan struct{})}
	if !p.grant.Expires.IsZero() {
		s.timer = time.AfterFunc(time.Until(p.grant.Expires), func() { s.cut(p.expiry()) })
	}
	c.served = s
	h.mu.Lock()
	h.served[s] = struct{}{}
	h.mu.Unlock()
	if !p.holds() { // it was revoked before Recheck could find the stream
		s.cut(errRevoked)
	}
	return s
}

func (s *served) leave() {
	if s.timer != nil {
		s.timer.Stop()
	}
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	delete(s.hub.served, s)
}

// cut has the stream end with an error.
func (s *served) cut(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why == nil {
		s.why = why
		close(s.ended)
	}
}

// over returns a channel that is closed when the stream is to end; nil, that never is, of
// a cursor that serves no request.
func (s *served) over() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.ended
}

// reason returns why the stream is to end, nil if it is not.
func (s *served) reason() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// begun notes that the first bytes have gone out.
func (s *served) begun() { s.permit.begun() }

// moved notes how far the stream has come.
func (s *served) moved(after uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after = after
}

func (s *served) describe() Subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hub.describe(&s.filter, s.permit, s.after)
}

func (h *Hub) describe(f *Filter, p *permit, after uint64) Subscription {
	return Subscription{
		Subject: p.grant.Subject, Address: p.address, Expires: p.grant.Expires, Since: time.UnixMilli(p.since),
		Topics: slices.Clone(f.Topics), Patterns: slices.Clone(f.Patterns), Types: slices.Clone(f.Types),
		Position: Position(h.log.Head().Epoch, after), Grant: p.grant,
	}
}
