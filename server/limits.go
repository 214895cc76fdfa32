package server

import (
	"math"
	"net/netip"
	"time"
)

// The defaults of [Limits].
const (
	DefaultConnectionsPerAddress = 1000
	DefaultStreamsPerAddress     = 1000
	DefaultStreamsPerSubject     = 1000
	DefaultConnectRate           = 100
	DefaultPublishRate           = 0
	DefaultHeaderTimeout         = 10 * time.Second
	DefaultBodyTimeout           = 10 * time.Second
	DefaultIdleTimeout           = 2 * time.Minute

	maxWaiting = 4096 // by default
)

// Limits bound what clients may take together, and each of them. Zero fields mean the
// defaults, and negative ones no bound.
//
// An address is a client's, as a trusted proxy tells it, and of IPv6 the first 64 bits: so
// much of it is one customer's. Trusted proxies themselves have no bounds for each address,
// and the defaults of those that say so are not for addresses of this machine: a proxy's that
// nobody has named, or of one's own programs.
//
// Who asks for more than it may have is told so, and when to come back (429 or 503, RFC
// 6585 and 9110, with Retry-After; an EventSource gets a stream that says it and ends).
// What is far above the bounds is closed without a word.
type Limits struct {
	// Connections is how many there may be, streams included. Default: nine tenths of
	// the file descriptors that the process may have.
	Connections int

	// Waiting is how many connections there may be whose first request's headers have
	// not all come. One more closes the one that has waited longest, of the addresses that
	// have many such. Default: a quarter of Connections, and 4,096 at most.
	Waiting int

	ConnectionsPerAddress int // streams included; DefaultConnectionsPerAddress, not of this machine
	Streams               int // nine tenths of Connections
	StreamsPerAddress     int // DefaultStreamsPerAddress, not of this machine
	StreamsPerSubject     int // DefaultStreamsPerSubject

	// Streams that an address may begin, and requests to publish that a subject (or an
	// address, where there is none) may send, a second: so many on average, and twice as many at once.
	ConnectRate float64 // DefaultConnectRate, not of this machine
	PublishRate float64 // DefaultPublishRate, which is no bound

	// Time for all of a request's headers, each next 4 KiB of a body or its end (an event
	// stream that is relayed has any time), and between the requests of a connection. The
	// first and the last stay as they are until the server ends.
	HeaderTimeout time.Duration // DefaultHeaderTimeout
	BodyTimeout   time.Duration // DefaultBodyTimeout
	IdleTimeout   time.Duration // DefaultIdleTimeout

	byDefault struct{ connectionsPerAddress, streamsPerAddress, connectRate bool }
}

// connectionsOf returns how many connections an address may have.
func (l *Limits) connectionsOf(a netip.Addr) int {
	if l.byDefault.connectionsPerAddress && isHere(a) {
		return math.MaxInt
	}
	return l.ConnectionsPerAddress
}

// streamsOf returns how many streams an address may have.
func (l *Limits) streamsOf(a netip.Addr) int {
	if l.byDefault.streamsPerAddress && isHere(a) {
		return math.MaxInt
	}
	return l.StreamsPerAddress
}

// isHere tells whether an address, or the first 64 bits of one, is this machine's own.
func isHere(a netip.Addr) bool { return a.IsLoopback() || a == netip.IPv6Unspecified() }

// filled returns limits that say what they mean: no field has a default left, and what has
// no bound has the highest number, a rate and a time-out 0.
func (l Limits) filled() Limits {
	l.byDefault.connectionsPerAddress = l.ConnectionsPerAddress == 0
	l.byDefault.streamsPerAddress = l.StreamsPerAddress == 0
	l.byDefault.connectRate = l.ConnectRate == 0
	files := descriptors()
	number := func(n *int, def int) {
		switch {
		case *n == 0:
			*n = def
		case *n < 0:
			*n = math.MaxInt
		}
	}
	number(&l.Connections, max(1, files/10*9))
	number(&l.Waiting, max(1, min(l.Connections/4, maxWaiting)))
	number(&l.ConnectionsPerAddress, DefaultConnectionsPerAddress)
	number(&l.Streams, max(1, l.Connections/10*9))
	number(&l.StreamsPerAddress, DefaultStreamsPerAddress)
	number(&l.StreamsPerSubject, DefaultStreamsPerSubject)
	l.ConnectRate = orDefault(l.ConnectRate, DefaultConnectRate)
	l.PublishRate = orDefault(l.PublishRate, DefaultPublishRate)
	l.HeaderTimeout = orDefault(l.HeaderTimeout, DefaultHeaderTimeout)
	l.BodyTimeout = orDefault(l.BodyTimeout, DefaultBodyTimeout)
	l.IdleTimeout = orDefault(l.IdleTimeout, DefaultIdleTimeout)
	return l
}

// orDefault returns 0 for what has no bound.
func orDefault[T float64 | time.Duration](v, def T) T {
	if v == 0 {
		v = def
	}
	return max(v, 0)
}
