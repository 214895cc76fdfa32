package server

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/hub"
)

// Access says who may come in.
type Access struct {
	// Options say what is asked for. Their Tickets and Application are made from the
	// fields below, and OnChange is the server's.
	Options auth.Options

	// Tickets are for an EventSource's URL. Without a Secret it is the one that is kept in
	// the data directory, or a random one where there is none.
	Tickets auth.TicketOptions

	// Application is asked where it has a URL.
	Application auth.ApplicationOptions
}

// A gate is the server's authority: that of its Access, or anyone may do everything.
type gate struct {
	tickets *auth.Tickets
	changed chan struct{} // room for one: a key set has

	asking atomic.Pointer[auth.Authority] // nil: nobody is asked who they are

	mu          sync.Mutex // of changes
	application *auth.Application
	asked       auth.ApplicationOptions // that application was made from
}

var _ hub.Authority = (*gate)(nil)

func (g *gate) Authorize(w http.ResponseWriter, r *http.Request, a *hub.Access) (*hub.Grant, error) {
	if asking := g.asking.Load(); asking != nil {
		return asking.Authorize(w, r, a)
	}
	return everything, nil
}

func (g *gate) Ended(grant *hub.Grant, _ hub.Action, _ netip.Addr) { g.tickets.Ended(grant) }

// Holds is true of everything while nobody is asked.
func (g *gate) Holds(grant *hub.Grant) bool {
	asking := g.asking.Load()
	return asking == nil || asking.Holds(grant)
}

// open tells whether nobody is asked.
func (g *gate) open() bool { return g.asking.Load() == nil }

// change has others be let in from now on: those of another Access, or everyone. After an
// error all is as before.
func (g *gate) change(a *Access) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.asking.Load()
	if a == nil {
		g.asking.Store(nil)
		g.application = nil // which its authority closes
		if old == nil {
			return nil
		}
		return old.Close()
	}
	o := a.Options
	o.Tickets = g.tickets
	o.OnChange = func() {
		select {
		case g.changed <- struct{}{}:
		default: // it is there
		}
	}
	application, err := g.applicationOf(a)
	if err != nil {
		return err
	}
	o.Application = application
	if old != nil {
		err = old.Replace(&o)
	} else if old, err = auth.New(&o); err == nil {
		g.asking.Store(old)
	}
	if err != nil {
		if application != nil && application != g.application {
			_ = application.Close() // it was never asked
		}
		return err
	}
	g.application, g.asked = application, a.Application
	return nil
}

// applicationOf returns the application to ask: the same as before where nothing has
// changed, with all that it has said.
func (g *gate) applicationOf(a *Access) (*auth.Application, error) {
	switch {
	case a.Application.URL == "":
		return nil, nil
	case g.application != nil && g.asked.URL == a.Application.URL && g.asked.Timeout == a.Application.Timeout:
		return g.application, nil
	}
	return auth.NewApplication(&a.Application)
}

// close ends what runs in the background.
func (g *gate) close() error {
	if asking := g.asking.Load(); asking != nil {
		return asking.Close()
	}
	return nil
}

// newGate makes the authority, and what issues tickets.
func (s *Server) newGate(c *Config) (*gate, error) {
	var o auth.TicketOptions
	if c.Access != nil {
		o = c.Access.Tickets
	}
	var err error
	switch {
	case len(o.Secret) > 0:
	case c.Data != "":
		o.Secret, err = auth.LoadTicketSecret(c.Data)
	default:
		o.Secret = []byte(rand.Text() + rand.Text())
	}
	if err != nil {
		return nil, err
	}
	o.OnReplace = s.endReplaced
	g := &gate{changed: make(chan struct{}, 1)}
	if g.tickets, err = auth.NewTickets(&o); err != nil {
		return nil, err
	}
	return g, g.change(c.Access)
}

// endRevoked ends the streams of keys that are in a key set no more, until ctx ends.
func (s *Server) endRevoked(ctx context.Context) {
	for {
		select {
		case <-s.gate.changed:
			s.hub.Recheck(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// endReplaced ends the stream of a ticket that is used for another one.
func (s *Server) endReplaced(old *hub.Grant) {
	s.ending.Go(func() {
		s.hub.End(context.Background(), func(sub *hub.Subscription) bool { return sub.Grant == old },
			&hub.RequestError{Problem: hub.ProblemTicketSpent, RetryAfter: time.Minute, Detail: "another stream began with the same ticket: one at a time may have it"})
	})
}

// routes has the paths beside the hub's.
func (s *Server) routes(events http.Handler) http.Handler {
	tickets := s.gate.tickets.Handler(s.gate, s.hub)
	admin := newAdmin(s.hub, s.gate)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case path == "/tickets":
			tickets.ServeHTTP(w, r)
		case strings.HasPrefix(path, "/admin/"):
			admin.ServeHTTP(w, r)
		default:
			events.ServeHTTP(w, r)
		}
	})
}

// guarded keeps pages of other names away while nobody is asked who they are.
func (s *Server) guarded(allowed []string, next http.Handler) http.Handler {
	guard := hostGuard(allowed, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.gate.open() {
			guard.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Reload takes what can be changed while the server runs: Access but for the tickets, Limits,
// the hub's Limits, Retention, HistoryBytes and the certificate. It ends the streams of keys
// that are in Access no more, with a tidewire.error, and cuts no other one.
// After an error at most the certificate is another one, unless the disk has failed.
func (s *Server) Reload(c *Config) error {
	cfg := *c
	if err := cfg.defaults(); err != nil {
		return err
	}
	if err := s.front.reload(&cfg.Transport); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	if err := s.gate.change(cfg.Access); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	s.hub.Recheck(context.Background())
	s.limiter.set(cfg.Limits)
	s.hub.SetLimits(cfg.Hub.Limits)
	log, ok := s.log.(interface {
		SetRetention(hub.RetentionRules, int64) error
	})
	if !ok {
		return nil
	}
	if err := log.SetRetention(cfg.Retention, max(cfg.HistoryBytes, 0)); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	return nil
}
