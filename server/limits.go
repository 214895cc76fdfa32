package server

import "time"

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
)

// Limits bound what clients may take together, and each of them. Zero fields mean the
// defaults, and negative ones no bound.
type Limits struct {
	// Connections is how many there may be, streams included. Default: nine tenths of
	// the file descriptors that the process may have.
	Connections int

	// Waiting is how many connections there may be whose request's headers have not all
	// come. One more closes the one that has waited longest. Default: a quarter of
	// Connections, and 4,096 at most.
	Waiting int

	ConnectionsPerAddress int // DefaultConnectionsPerAddress; a trusted proxy has no bound
	Streams               int // nine tenths of Connections
	StreamsPerAddress     int // DefaultStreamsPerAddress
	StreamsPerSubject     int // DefaultStreamsPerSubject

	// Streams that an address may begin, and requests to publish that a subject (or an
	// address, where there is none) may send, a second: so many on average, and twice as many at once.
	ConnectRate float64 // DefaultConnectRate
	PublishRate float64 // DefaultPublishRate, which is no bound

	HeaderTimeout time.Duration // of all of a request's headers; DefaultHeaderTimeout
	BodyTimeout   time.Duration // of each next 4 KiB of a body, or its end; DefaultBodyTimeout
	IdleTimeout   time.Duration // of a connection between requests; DefaultIdleTimeout
}
