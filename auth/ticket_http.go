package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"time"

	"github.com/tidewire/tidewire/hub"
)

const (
	maxTicketBody  = 64 << 10 // bytes
	ticketMethods  = "POST, OPTIONS"
	ticketBodyForm = `{"subscribe":["news/*"],"private":[],"subject":"…","reuse":false,"expires_in":3600}, of which all may be left out`
)

// Handler answers POST /tickets, with a [TicketRequest] or no body, and OPTIONS. The bearer
// needs a grant to subscribe, and no ticket; origins says which pages may ask, as a
// [hub.Hub] does. The answer is 201 with
//
//	{"ticket":"tk1.…","query":"ticket=tk1.…","first_use_by":"2026-01-31T12:01:00Z","expires":"2026-02-01T12:00:00Z","reuse":false}
//
// and each error a problem document.
func (t *Tickets) Handler(authority hub.Authority, origins interface {
	CheckOrigin(http.ResponseWriter, *http.Request) error
}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := origins.CheckOrigin(w, r)
		switch {
		case err != nil:
		case r.Method == http.MethodOptions:
			ticketPreflight(w, r)
		case r.Method != http.MethodPost:
			w.Header().Set("Allow", ticketMethods)
			err = &hub.RequestError{Problem: hub.ProblemMethod, Detail: "the method " + r.Method + " is not one of " + ticketMethods}
		default:
			err = t.serveIssue(w, r, authority)
		}
		if err != nil {
			hub.Fail(w, err)
		}
	})
}

func ticketPreflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Allow", ticketMethods)
	h.Set("Accept-Post", "application/json")
	if r.Header.Get("Access-Control-Request-Method") != "" && h.Get("Access-Control-Allow-Origin") != "" {
		h.Set("Access-Control-Allow-Methods", ticketMethods)
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
		h.Set("Access-Control-Max-Age", "7200")
	}
	w.WriteHeader(http.StatusNoContent)
}

func (t *Tickets) serveIssue(w http.ResponseWriter, r *http.Request, authority hub.Authority) error {
	if r.URL.Query().Has("ticket") {
		return &hub.RequestError{Problem: hub.ProblemForbidden, Field: "ticket", Detail: "a ticket cannot be had for a ticket: send the Authorization header"}
	}
	q, err := readTicketRequest(w, r)
	if err != nil {
		return err
	}
	a := &hub.Access{Action: hub.ActionSubscribe, Patterns: q.Subscribe, Address: addressOf(r)}
	g, err := authority.Authorize(w, r, a)
	if err != nil {
		return err
	}
	defer authority.Ended(g, a.Action, a.Address)
	ticket, err := t.Issue(g, q)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(struct { // who has gone needs no answer
		Ticket     string `json:"ticket"`
		Query      string `json:"query"`
		FirstUseBy string `json:"first_use_by"`
		Expires    string `json:"expires"`
		Reuse      bool   `json:"reuse"`
	}{ticket.Text, ticket.Query(), ticket.FirstUseBy.UTC().Format(time.RFC3339), ticket.Expires.UTC().Format(time.RFC3339), ticket.Reuse})
	return nil
}

// addressOf returns the sender's address, as the server has it: with a port, or without.
func addressOf(r *http.Request) netip.Addr {
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return at.Addr().Unmap()
	}
	a, _ := netip.ParseAddr(r.RemoteAddr)
	return a.Unmap()
}

// readTicketRequest reads the body of a request, which may be empty.
func readTicketRequest(w http.ResponseWriter, r *http.Request) (*TicketRequest, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTicketBody))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, err
	}
	if err != nil {
		return nil, &hub.RequestError{Problem: hub.ProblemBody, Detail: "the body did not come as a whole: send it again"}
	}
	var q TicketRequest
	if len(body) == 0 {
		return &q, nil
	}
	// A form of another page can send other types without a preflight.
	if typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || typ != "application/json" {
		return nil, &hub.RequestError{Problem: hub.ProblemMediaType, Field: "Content-Type", Detail: "the body must be application/json: " + ticketBodyForm}
	}
	err = decodeStrict(body, &q)
	if wrong := new(json.UnmarshalTypeError); errors.As(err, &wrong) {
		return nil, &hub.RequestError{Problem: hub.ProblemBody, Field: wrong.Field, Detail: wrong.Field + " is a JSON " + wrong.Value + ": the body must be as " + ticketBodyForm}
	}
	if err != nil {
		return nil, &hub.RequestError{Problem: hub.ProblemBody, Detail: fmt.Sprintf("the body cannot be read (%v): it must be as %s", err, ticketBodyForm)}
	}
	return &q, nil
}
