package auth_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/hub"
)

var ticketSecret = bytes.Repeat([]byte("s"), 32)

// ticketClock is a clock that tests turn.
type ticketClock struct {
	mu  sync.Mutex
	now time.Time
}

func newTicketClock() *ticketClock {
	return &ticketClock{now: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)}
}

func (c *ticketClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *ticketClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newTickets(t testing.TB, o auth.TicketOptions) *auth.Tickets {
	t.Helper()
	if o.Secret == nil {
		o.Secret = ticketSecret
	}
	tickets, err := auth.NewTickets(&o)
	if err != nil {
		t.Fatal(err)
	}
	return tickets
}

func issue(t testing.TB, tickets *auth.Tickets, g *hub.Grant, q *auth.TicketRequest) *auth.Ticket {
	t.Helper()
	ticket, err := tickets.Issue(g, q)
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

// newsGrant is that of a bearer who may subscribe to some topics.
func newsGrant() *hub.Grant {
	return &hub.Grant{Subject: "alice", Subscribe: []string{"news/**", "users/alice"}, Private: []string{"users/alice"}, Publish: []string{"news/**"}, Delete: []string{"**"}, Admin: true, By: "the token"}
}

var eventSource = &hub.Access{Action: hub.ActionSubscribe, EventSource: true}

// redeem has a ticket come with the cookies that came before, and returns those that come
// with the answer.
func redeem(tickets *auth.Tickets, text string, a *hub.Access, cookies ...*http.Cookie) (*hub.Grant, []*http.Cookie, error) {
	r := httptest.NewRequest("GET", "https://hub.example/events/news?ticket=x", nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	g, err := tickets.Redeem(w, r, text, a)
	return g, w.Result().Cookies(), err
}

// wantProblem checks what is wrong with a request.
func wantProblem(t testing.TB, err error, want hub.Problem) *hub.RequestError {
	t.Helper()
	var e *hub.RequestError
	if !errors.As(err, &e) {
		t.Fatalf("got error %v, want the problem %s", err, want)
	}
	if e.Problem != want {
		t.Fatalf("got problem %s (%s), want %s", e.Problem, e.Detail, want)
	}
	return e
}
