package server

import (
	"net/http"
	"net/netip"

	"github.com/tidewire/tidewire/hub"
)

// limited is an authority that grants what another one does, as long as there are not too
// many streams, and not too many requests.
type limited struct {
	*limiter
	inner hub.Authority // nil: anyone may do everything
}

var _ hub.Authority = (*limited)(nil)

// authority puts the limits in front of an authority, or of none.
func (l *limiter) authority(inner hub.Authority) *limited { return &limited{l, inner} }

// everything is granted where there is no authority inside, but private events, as by the
// hub.
var everything = &hub.Grant{Subscribe: everyTopic, Publish: everyTopic, Delete: everyTopic, Admin: true}

var everyTopic = []string{"**"}

// Authorize refuses what is above the bounds that are known before it asks who sends the
// request, as that may take long.
func (l *limited) Authorize(w http.ResponseWriter, r *http.Request, a *hub.Access) (*hub.Grant, error) {
	if c := connectionOf(r.Context()); c != nil && c.over != noBound && a.Action != hub.ActionAdminister {
		return nil, l.refuseConnection(c.over)
	}
	switch a.Action {
	case hub.ActionSubscribe:
		return l.subscribe(w, r, a)
	case hub.ActionPublish:
		return l.publish(w, r, a)
	}
	return l.ask(w, r, a)
}

func (l *limited) ask(w http.ResponseWriter, r *http.Request, a *hub.Access) (*hub.Grant, error) {
	if l.inner == nil {
		return everything, nil
	}
	return l.inner.Authorize(w, r, a)
}

func (l *limited) subscribe(w http.ResponseWriter, r *http.Request, a *hub.Access) (*hub.Grant, error) {
	address := l.addressOf(a.Address)
	if err := l.begin(address); err != nil {
		return nil, err
	}
	g, err := l.ask(w, r, a)
	if err != nil {
		l.end(address, "")
		return nil, err
	}
	if err := l.beginFor(g.Subject); err != nil {
		l.end(address, "")
		l.ended(g, a)
		return nil, err
	}
	return g, nil
}

func (l *limited) publish(w http.ResponseWriter, r *http.Request, a *hub.Access) (*hub.Grant, error) {
	g, err := l.ask(w, r, a)
	if err != nil {
		return nil, err
	}
	who := client{subject: g.Subject}
	if who.subject == "" {
		who.address = l.addressOf(a.Address)
	}
	if wait, ok := l.limiter.publish.allow(who); !ok {
		l.ended(g, a)
		return nil, l.refuse(publishRate, l.limits.Load().PublishRate, hub.ProblemTooOften, wait,
			"you publish more often than is allowed a second (%s): wait as long as Retry-After says, or send several events as a batch of application/x-ndjson")
	}
	return g, nil
}

// ended tells the authority inside of a grant that was not used.
func (l *limited) ended(g *hub.Grant, a *hub.Access) {
	if l.inner != nil {
		l.inner.Ended(g, a.Action, a.Address)
	}
}

// Ended makes room for another stream.
func (l *limited) Ended(g *hub.Grant, action hub.Action, address netip.Addr) {
	if l.inner != nil {
		l.inner.Ended(g, action, address)
	}
	if action == hub.ActionSubscribe {
		l.end(l.addressOf(address), g.Subject)
	}
}

// Holds asks the authority inside.
func (l *limited) Holds(g *hub.Grant) bool { return l.inner == nil || l.inner.Holds(g) }

// begin counts a stream, if there may be another one.
func (l *limiter) begin(address netip.Addr) error {
	limits := l.limits.Load()
	if limits.byDefault.connectRate && isHere(address) {
		return l.beginAt(address, limits)
	}
	if wait, ok := l.connect.allow(client{address: address}); !ok {
		return l.refuse(connectRate, limits.ConnectRate, hub.ProblemTooOften, wait,
			"your address begins more streams a second than is allowed (%s): wait as long as Retry-After says, and keep streams open; the server's operator must name a proxy in front with --trusted-proxy")
	}
	return l.beginAt(address, limits)
}

// beginAt is begin when it is not too soon.
func (l *limiter) beginAt(address netip.Addr, limits *Limits) error {
	switch l.count(address, limits) {
	case maxStreams:
		return l.refuse(maxStreams, limits.Streams, hub.ProblemOverloaded, refusedRetry,
			"the server has as many streams as it may have (%s): try again later; its operator can allow more")
	case maxStreamsPerAddress:
		return l.refuse(maxStreamsPerAddress, limits.StreamsPerAddress, hub.ProblemTooManyStreams, refusedRetry,
			"your address has as many streams as one may have (%s): end some of them, or subscribe to several topics with one; the server's operator can allow more, and must name a proxy in front with --trusted-proxy")
	}
	return nil
}

// count counts a stream, or returns the bound that it would be above.
func (l *limiter) count(address netip.Addr, limits *Limits) bound {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case int(l.all.streams) >= limits.Streams:
		return maxStreams
	case address.IsValid() && int(l.addresses[address].streams) >= limits.streamsOf(address):
		return maxStreamsPerAddress
	}
	l.add(address, use{streams: 1})
	return noBound
}

// beginFor counts a stream for its subject, if that may have another one.
func (l *limiter) beginFor(subject string) error {
	if subject == "" {
		return nil
	}
	most := l.limits.Load().StreamsPerSubject
	l.mu.Lock()
	ok := int(l.subjects[subject]) < most
	if ok {
		l.subjects[subject]++
	}
	l.mu.Unlock()
	if ok {
		return nil
	}
	return l.refuse(maxStreamsPerSubject, most, hub.ProblemTooManyStreams, refusedRetry,
		"the subject of your credentials has as many streams as one may have (%s): end some of them, or subscribe to several topics with one; the server's operator can allow more")
}

// end ends the counting of a stream, for its subject too if that was counted.
func (l *limiter) end(address netip.Addr, subject string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(address, use{streams: -1})
	if subject == "" {
		return
	}
	if l.subjects[subject]--; l.subjects[subject] == 0 {
		delete(l.subjects, subject)
	}
}
