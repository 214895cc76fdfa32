package server

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// DefaultListed is how many subscriptions a list has at most, if it does not ask for
// another number.
const DefaultListed = 1000

const adminMethods = "GET, DELETE"

// errEnded is what a stream is told that an administrator ends.
var errEnded = &hub.RequestError{
	Problem: hub.ProblemForbidden,
	Detail:  "an administrator has ended this stream: go on with the last id, if you still may",
}

// newAdmin serves GET and DELETE on /admin/subscriptions to whom the authority grants to
// administer, and to pages of the server itself only.
func newAdmin(h *hub.Hub, authority hub.Authority) http.Handler {
	subscriptions := http.StripPrefix("/admin", newSubscriptions(h))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := h.CheckOrigin(w, r)
		// No page of another origin is to see the answer, allowed or not.
		w.Header().Del("Access-Control-Allow-Origin")
		if err == nil {
			var end func()
			if end, err = administers(w, r, authority); err == nil {
				defer end()
			}
		}
		if err != nil {
			hub.Fail(w, err)
			return
		}
		subscriptions.ServeHTTP(w, r)
	})
}

// administers asks whether the sender of a request may administer. end must follow.
func administers(w http.ResponseWriter, r *http.Request, authority hub.Authority) (end func(), err error) {
	a := &hub.Access{Action: hub.ActionAdminister}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		a.Address = at.Addr().Unmap()
	}
	g, err := authority.Authorize(w, r, a)
	if err != nil {
		return nil, err
	}
	end = func() { authority.Ended(g, a.Action, a.Address) }
	switch {
	case g.Admin:
		return end, nil
	case g.Anonymous:
		err = &hub.RequestError{
			Problem: hub.ProblemUnauthorized, Challenge: `Bearer realm="tidewire"`,
			Detail: "without credentials nobody may administer: send a token that grants admin as \"Authorization: Bearer …\"",
		}
	default:
		err = &hub.RequestError{
			Problem: hub.ProblemForbidden,
			Detail:  cmp.Or(g.By, "the grant") + " does not allow to administer: get one that grants admin",
		}
	}
	end()
	return nil, err
}

// newSubscriptions serves GET and DELETE on /subscriptions, to anyone.
func newSubscriptions(h *hub.Hub) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, err := serveSubscriptions(h, w.Header(), r)
		if err != nil {
			hub.Fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(answer) // who has gone needs no answer
	})
}

func serveSubscriptions(h *hub.Hub, header http.Header, r *http.Request) (answer any, err error) {
	if r.URL.Path != "/subscriptions" {
		return nil, &hub.RequestError{Problem: hub.ProblemNotFound, Detail: "there is nothing here: streams that are open are at /admin/subscriptions"}
	}
	switch r.Method {
	case http.MethodGet:
		c, err := parseConditions(r.URL, "limit")
		if err != nil {
			return nil, err
		}
		return listSubscriptions(r, h, c), nil
	case http.MethodDelete:
		c, err := parseConditions(r.URL, "all")
		if err != nil {
			return nil, err
		}
		if c.none() == !c.all {
			return nil, &hub.RequestError{Problem: hub.ProblemQuery, Detail: "say which streams are to end: subject=, topic= or address=, or all=true alone for all of them"}
		}
		return map[string]int{"ended": h.End(r.Context(), c.match, errEnded)}, nil
	}
	header.Set("Allow", adminMethods)
	return nil, &hub.RequestError{Problem: hub.ProblemMethod, Detail: "the method " + r.Method + " is not one of " + adminMethods}
}

// conditions say which subscriptions are meant: all that meet each.
type conditions struct {
	subject *string
	topic   *string
	address *netip.Prefix
	limit   int
	all     bool
}

// parseConditions reads a query, which may have one more parameter.
func parseConditions(u *url.URL, more string) (*conditions, error) {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, &hub.RequestError{Problem: hub.ProblemQuery, Detail: "the query cannot be parsed: " + err.Error()}
	}
	c := &conditions{limit: DefaultListed}
	for name, values := range q {
		err := fmt.Errorf("it can be there once, and is %d times", len(values))
		if len(values) == 1 {
			err = c.set(name, values[0], more)
		}
		if err != nil {
			return nil, &hub.RequestError{Problem: hub.ProblemQuery, Field: name, Detail: fmt.Sprintf("%.40q: %v", name, err)}
		}
	}
	return c, nil
}

// set reads one parameter.
func (c *conditions) set(name, value, more string) (err error) {
	switch {
	case name == "subject":
		c.subject = &value
	case name == "topic":
		c.topic = &value
		err = hub.CheckTopic(value)
	case name == "address":
		c.address, err = parseAddress(value)
	case name != more:
		err = fmt.Errorf("there is no such parameter, but subject, topic, address and %s", more)
	case name == "limit":
		if c.limit, err = strconv.Atoi(value); err != nil || c.limit < 1 {
			err = fmt.Errorf("%.40q is not a number of 1 or more", value)
		}
	case name == "all":
		if c.all = value == "true"; !c.all {
			err = fmt.Errorf("%.40q can be true only", value)
		}
	}
	return err
}

// parseAddress reads an address, or a range of them.
func parseAddress(s string) (*netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap().WithZone("")
		p := netip.PrefixFrom(a, a.BitLen())
		return &p, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return nil, fmt.Errorf("%.60q is no address such as 192.0.2.7 or 2001:db8::7, and no range such as 192.0.2.0/24", s)
	}
	return &p, nil
}

func (c *conditions) none() bool { return c.subject == nil && c.topic == nil && c.address == nil }

func (c *conditions) match(s *hub.Subscription) bool {
	return (c.subject == nil || s.Subject == *c.subject) &&
		(c.address == nil || c.address.Contains(s.Address.WithZone(""))) &&
		(c.topic == nil || slices.Contains(s.Topics, *c.topic) ||
			slices.ContainsFunc(s.Patterns, func(p string) bool { return hub.Match(p, *c.topic) }))
}

// A subscription is one as it is told.
type subscription struct {
	Subject  string     `json:"subject,omitempty"`
	Address  netip.Addr `json:"address"`
	Topics   []string   `json:"topics,omitempty"`
	Patterns []string   `json:"patterns,omitempty"`
	Types    []string   `json:"types,omitempty"`
	Since    time.Time  `json:"since"`
	Expires  time.Time  `json:"expires,omitzero"`
	Position string     `json:"position"`
}

// A subscriptionList has those that are asked for, the oldest first.
type subscriptionList struct {
	Count         int            `json:"count"`          // of all that meet the conditions
	More          bool           `json:"more,omitempty"` // some of them are left out
	Subscriptions []subscription `json:"subscriptions"`
}

func listSubscriptions(r *http.Request, h *hub.Hub, c *conditions) *subscriptionList {
	found := slices.DeleteFunc(h.Subscriptions(r.Context()), func(s hub.Subscription) bool { return !c.match(&s) })
	slices.SortFunc(found, func(a, b hub.Subscription) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Subject, b.Subject), a.Address.Compare(b.Address), slices.Compare(a.Topics, b.Topics), slices.Compare(a.Patterns, b.Patterns))
	})
	list := &subscriptionList{Count: len(found), More: len(found) > c.limit, Subscriptions: []subscription{}}
	for _, s := range found[:min(len(found), c.limit)] {
		list.Subscriptions = append(list.Subscriptions, subscription{
			s.Subject, s.Address, s.Topics, s.Patterns, s.Types, s.Since.UTC(), s.Expires.UTC(), s.Position,
		})
	}
	return list
}
