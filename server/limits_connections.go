package server

import (
	"container/list"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tidewire/tidewire/hub"
)

// A limiter counts what clients take together and each of them, and says when it is too
// much. The connections are net/http's until they end or a stream takes them over; such a
// stream is known by its grant alone.
type limiter struct {
	refusals
	limits  atomic.Pointer[Limits] // filled
	proxies trustedProxies
	connect rates // by address
	publish rates // by subject or address

	mu        sync.Mutex
	open      map[net.Conn]*connection // net/http's
	waiting   list.List                // of *connection: no request of theirs has come, the oldest first
	waitingOf map[netip.Addr]int       // of these, those of an address
	all       use
	addresses map[netip.Addr]use
	subjects  map[string]int32 // streams
}

// A use is what all take, or an address does.
type use struct {
	connections int32 // net/http's and QUIC's
	streams     int32
	reads       int32 // GET requests under way on those connections
}

// total returns how many connections there are: a stream that is no request any more has
// taken one over.
func (u use) total() int { return int(u.connections + max(0, u.streams-u.reads)) }

// A connection is one that net/http has.
type connection struct {
	socket  io.Closer
	address netip.Addr  // not valid: none that has bounds
	over    bound       // that it is above: it is served only to be told so
	asked   atomic.Bool // a request has come

	// The limiter's mu guards these.
	waits   *list.Element // nil if it does not
	reader  netip.Addr    // of the latest GET request,
	reads   int32         // of so many
	taken   bool          // by a stream, from net/http
	dropped bool          // closed, as it had waited too long
}

func newLimiter(l Limits, trusted []netip.Prefix) *limiter {
	lim := &limiter{
		proxies:   trustedProxies{prefixes: slices.Clone(trusted)},
		open:      make(map[net.Conn]*connection),
		waitingOf: make(map[netip.Addr]int),
		addresses: make(map[netip.Addr]use),
		subjects:  make(map[string]int32),
	}
	lim.set(l)
	return lim
}

// set changes the limits, for what begins from now on. HeaderTimeout and IdleTimeout stay
// as they were at the start, as net/http's do.
func (l *limiter) set(limits Limits) {
	limits = limits.filled()
	l.limits.Store(&limits)
	l.connect.set(limits.ConnectRate)
	l.publish.set(limits.PublishRate)
}

// A usage is how much there is of what has limits.
type usage struct {
	Connections int `json:"connections"` // streams included
	Waiting     int `json:"waiting"`     // of these: no request of theirs has come
	Streams     int `json:"streams"`
	Addresses   int `json:"addresses"` // that have any of these
	Subjects    int `json:"subjects"`  // that have streams
}

func (l *limiter) usage() usage {
	l.mu.Lock()
	defer l.mu.Unlock()
	return usage{l.all.total(), l.waiting.Len(), int(l.all.streams), len(l.addresses), len(l.subjects)}
}

// prepare has a server keep to the limits. Its Handler is set before.
func (l *limiter) prepare(s *http.Server) {
	limits := l.limits.Load()
	s.ReadHeaderTimeout, s.IdleTimeout = limits.HeaderTimeout, limits.IdleTimeout
	s.Handler = l.handler(s.Handler)
	s.ConnContext, s.ConnState = l.connContext, l.connState
}

// addressOf returns what the bounds for each address are about: an IPv4 address, or the
// first 64 bits of an IPv6 one. It is not valid for who has no such bounds.
func (l *limiter) addressOf(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if l.proxies.trusts(a) {
		return netip.Addr{}
	}
	if a.Is6() {
		p, _ := a.Prefix(64) // which it has
		return p.Addr()
	}
	return a
}

// peer returns the address at the other end of a connection.
func (l *limiter) peer(a net.Addr) netip.Addr {
	if at, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return l.addressOf(at.AddrPort().Addr())
	}
	return l.addressOf(local.Addr())
}

// add changes what all take, and an address does. mu is held.
func (l *limiter) add(a netip.Addr, change use) {
	l.all.add(change)
	if !a.IsValid() {
		return
	}
	u := l.addresses[a]
	if u.add(change); u == (use{}) {
		delete(l.addresses, a)
		return
	}
	l.addresses[a] = u
}

func (u *use) add(change use) {
	u.connections += change.connections
	u.streams += change.streams
	u.reads += change.reads
}

// spare is how many more than so many connections are served, only to be told that they are
// too many: an EventSource must get an answer that does not stop it for good.
func spare(most int) int { return max(16, most/40) }

func noSpare(int) int { return 0 }

// above returns the bound that another connection would be above, if it may have so many
// spare ones.
func (l *limiter) above(a netip.Addr, spare func(int) int) bound {
	limits := l.limits.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all.total()-spare(limits.Connections) >= limits.Connections {
		return maxConnections
	}
	if n := limits.connectionsOf(a); a.IsValid() && l.addresses[a].total()-spare(n) >= n {
		return maxConnectionsPerAddress
	}
	return noBound
}

// mayEnter tells whether a connection from an address may come in, if only to be told that
// it is one too many.
func (l *limiter) mayEnter(from netip.Addr) bool {
	b := l.above(from, spare)
	if b != noBound {
		l.note(b, l.mostConnections(b))
	}
	return b == noBound
}

func (l *limiter) mostConnections(b bound) int {
	if b == maxConnectionsPerAddress {
		return l.limits.Load().ConnectionsPerAddress
	}
	return l.limits.Load().Connections
}

// listen has a listener close what is far above the bounds. Its connections are those of
// the listener inside: the hub takes none over that is wrapped.
func (l *limiter) listen(inner net.Listener) net.Listener { return &limitedListener{inner, l} }

type limitedListener struct {
	net.Listener
	limiter *limiter
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || l.limiter.mayEnter(l.limiter.peer(c.RemoteAddr())) {
			return c, err
		}
		_ = c.Close() // without a word, after which an EventSource comes again
	}
}

// connectionKey is of the context of a connection's requests.
type connectionKey struct{}

func connectionOf(ctx context.Context) *connection {
	c, _ := ctx.Value(connectionKey{}).(*connection)
	return c
}

// connContext is for [http.Server]: a connection begins.
func (l *limiter) connContext(ctx context.Context, conn net.Conn) context.Context {
	l.mu.Lock()
	c := l.open[conn] // one that was counted before
	l.mu.Unlock()
	if c == nil {
		raw := socket(conn)
		c = l.enter(raw, l.peer(raw.RemoteAddr()))
		l.mu.Lock()
		l.open[conn] = c
		l.mu.Unlock()
	}
	return context.WithValue(ctx, connectionKey{}, c)
}

// moves notes that a connection goes on as one of net/http's. If it waits it goes on waiting,
// in its place.
func (l *limiter) moves(c *connection, conn net.Conn) {
	l.mu.Lock()
	l.open[conn] = c
	c.socket = conn
	dropped := c.dropped
	l.mu.Unlock()
	if dropped {
		_ = conn.Close() // which net/http will find
	}
}

// connState is for [http.Server]: a connection ends there.
func (l *limiter) connState(conn net.Conn, s http.ConnState) {
	if s != http.StateClosed && s != http.StateHijacked {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.open[conn]; c != nil {
		delete(l.open, conn)
		l.leave(c, s == http.StateHijacked)
	}
}

// leave ends a connection there, which a stream may have taken over. mu is held.
func (l *limiter) leave(c *connection, taken bool) {
	l.stopsWaiting(c)
	l.add(c.address, use{connections: -1})
	if taken {
		c.taken = true
		l.add(c.reader, use{reads: -c.reads})
	}
}

// admit counts a connection of QUIC's until release is called, or refuses it.
func (l *limiter) admit(peer net.Addr) (release func(), ok bool) {
	a := l.peer(peer)
	if b := l.above(a, noSpare); b != noBound {
		l.note(b, l.mostConnections(b))
		return nil, false
	}
	count := func(n int32) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.add(a, use{connections: n})
	}
	count(1)
	return func() { count(-1) }, true
}

// socket returns what is under a connection of TLS or the PROXY protocol. Their own
// RemoteAddr may wait for the client.
func socket(conn net.Conn) net.Conn {
	for {
		switch c := conn.(type) {
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		case interface{ Raw() net.Conn }:
			conn = c.Raw()
		default:
			return conn
		}
	}
}

// enter counts a connection. If too many wait, one of them is closed.
func (l *limiter) enter(socket io.Closer, a netip.Addr) *connection {
	c := &connection{socket: socket, address: a, over: l.above(a, noSpare)}
	most := l.limits.Load().Waiting
	var closed []io.Closer
	l.mu.Lock()
	l.add(a, use{connections: 1})
	c.waits = l.waiting.PushBack(c)
	l.waitingOf[a]++
	for l.waiting.Len() > most {
		o := l.waitsTooLong()
		l.stopsWaiting(o)
		o.dropped = true
		closed = append(closed, o.socket)
	}
	l.mu.Unlock()
	for _, socket := range closed {
		l.note(maxWaitingConnections, most)
		_ = socket.Close() // who serves it ends it
	}
	return c
}

// waitsTooLong returns the connection that has waited longest, of the addresses that have
// no fewer of them than others have on average: so none that has few is pushed out by one
// that has many, however fast that connects. mu is held.
func (l *limiter) waitsTooLong() *connection {
	const most = 256 // are looked at
	e := l.waiting.Front()
	for range most {
		c := e.Value.(*connection)
		if l.waitingOf[c.address]*len(l.waitingOf) >= l.waiting.Len() {
			return c
		}
		if e = e.Next(); e == nil {
			break
		}
	}
	return l.waiting.Front().Value.(*connection)
}

// stopsWaiting takes a connection off the list, if it is there. mu is held.
func (l *limiter) stopsWaiting(c *connection) {
	if c.waits != nil {
		l.waiting.Remove(c.waits)
		c.waits = nil
		if l.waitingOf[c.address]--; l.waitingOf[c.address] == 0 {
			delete(l.waitingOf, c.address)
		}
	}
}

// handler bounds the requests of all connections. It must get those that have their
// client's address.
func (l *limiter) handler(next http.Handler) http.Handler {
	next = l.bodies(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := connectionOf(r.Context())
		if c != nil && !c.asked.Load() {
			l.arrived(c)
		}
		if c != nil && c.over != noBound {
			w.Header().Set("Connection", "close")
		}
		if r.Method == http.MethodGet {
			at, _ := netip.ParseAddrPort(r.RemoteAddr)
			a := l.addressOf(at.Addr())
			l.read(c, a, 1)
			defer l.read(c, a, -1)
		}
		next.ServeHTTP(w, r)
	})
}

// arrived notes that a connection has a request.
func (l *limiter) arrived(c *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.asked.Store(true)
	l.stopsWaiting(c)
}

// read counts GET requests under way. They may be streams, which are then not counted as
// connections too, unless one has taken its connection over.
func (l *limiter) read(c *connection, a netip.Addr, n int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c != nil {
		if c.taken {
			return
		}
		c.reader = a
		c.reads += n
	}
	l.add(a, use{reads: n})
}

// refuseConnection says which bound a connection is above.
func (l *limiter) refuseConnection(b bound) *hub.RequestError {
	if b == maxConnectionsPerAddress {
		return l.refuse(b, l.mostConnections(b), hub.ProblemTooManyStreams, refusedRetry,
			"your address has as many connections as one may have (%s): close some of them; the server's operator can allow more, and must name a proxy in front with --trusted-proxy")
	}
	return l.refuse(b, l.mostConnections(b), hub.ProblemOverloaded, refusedRetry,
		"the server has as many connections as it may have (%s): try again later; its operator can allow more")
}
