package hub

import (
	"net"
	"net/http"
	"time"
)

// The defaults of [Options].
const (
	DefaultHeartbeat        = 15 * time.Second
	DefaultRetry            = 3 * time.Second
	DefaultWriteTimeout     = 10 * time.Second
	DefaultHotBytes         = 64 << 20
	DefaultPositionInterval = 2 * time.Minute
	DefaultMaxEventSize     = 1 << 20
	DefaultMaxBatchEvents   = 1000
	DefaultMaxBatchSize     = 16 << 20
	DefaultMaxTopics        = 100
	DefaultMaxIDSize        = 512
	DefaultMaxHeaderSize    = 32 << 10
	DefaultMaxTypeSize      = 512
)

// MaxTopicSize is the longest name of a topic in bytes.
const MaxTopicSize = 1024

// Options configure a [Hub]; zero fields mean the defaults.
type Options struct {
	// Log keeps the events. It is needed; the hub does not close it.
	Log Log

	// Heartbeat is how long a stream may be idle before a comment keeps it open
	// through proxies. Default: [DefaultHeartbeat]; negative: never.
	Heartbeat time.Duration

	// PositionInterval is how often at least a subscriber who gets no events, but whose
	// place in the order has moved, is told of that, so that it can resume from there.
	// It is told sooner where it has no id yet, and before retention comes to the last
	// one. Only a browser's EventSource is told by default. Default:
	// [DefaultPositionInterval]; negative: never, neither then nor sooner.
	PositionInterval time.Duration

	// Retry is the reconnection time that subscribers are told. Default:
	// [DefaultRetry].
	Retry time.Duration

	// WriteTimeout bounds each write to a subscriber. Default: [DefaultWriteTimeout].
	WriteTimeout time.Duration

	// HotBytes bounds the newest events that are kept encoded in memory for
	// delivery. Slower subscribers read from the Log. Default: [DefaultHotBytes].
	HotBytes int

	// Slow says what becomes of streams that have been live and fall behind. Default:
	// they get everything, later.
	Slow SlowRules

	// KeepAlive, if not nil, is given the connections of long-polls that were taken from
	// the server, as [Hub.ServeHTTP] says, and have been answered: it should have the
	// server serve them further, and must not wait. Default: they are closed.
	KeepAlive func(net.Conn)

	// Compression says how what subscribers get may be coded. Default: [CompressionGzip],
	// for those who ask for it.
	Compression Compression

	// NewDeflater makes what compresses, of which there are about five for each processor.
	// Default: compress/flate's, which takes two or three times as long as the fastest.
	NewDeflater func() Deflater

	// Authority says who may do what over HTTP. Default: anyone may do everything.
	Authority Authority

	// WebSocket answers the opening handshake of a WebSocket (RFC 6455, section 4.2.2),
	// which the hub has found to be in order, and takes the connection over. A message
	// of more than maxMessage bytes is to be refused with the code 1009. After an error
	// nothing was answered, and the hub does it. Default: upgrades are refused.
	WebSocket func(w http.ResponseWriter, r *http.Request, maxMessage int) (WebSocketConn, error)

	// Limits bound what one request may bring. [Hub.SetLimits] changes them.
	Limits RequestLimits

	// AllowedOrigins are the origins of pages, such as "https://example.com", that may
	// subscribe and publish from a browser; "*" allows every origin, without
	// credentials. Default: none but the hub's own.
	AllowedOrigins []string

	// AllowCredentials lets cookies come with requests from AllowedOrigins.
	AllowCredentials bool
}

// RequestLimits bound what one request may bring; zero fields mean the defaults.
type RequestLimits struct {
	EventSize   int // bytes of one event's data; DefaultMaxEventSize
	BatchEvents int // events in a batch; DefaultMaxBatchEvents
	BatchSize   int // bytes of a batch's body; DefaultMaxBatchSize
	Topics      int // topics and patterns of a request or an event; DefaultMaxTopics
	IDSize      int // bytes of an id or an idempotency key; DefaultMaxIDSize
	TypeSize    int // bytes of a type; DefaultMaxTypeSize
	HeaderSize  int // bytes of a request's URL and headers; DefaultMaxHeaderSize
}

// withDefaults returns options whose zero fields have their defaults.
func withDefaults(o Options) Options {
	set(&o.Heartbeat, DefaultHeartbeat)
	set(&o.PositionInterval, DefaultPositionInterval)
	set(&o.Retry, DefaultRetry)
	set(&o.WriteTimeout, DefaultWriteTimeout)
	set(&o.HotBytes, DefaultHotBytes)
	if o.NewDeflater == nil {
		o.NewDeflater = newDeflater
	}
	return o
}

// SetLimits changes what one request may bring, for those that come from now on.
func (h *Hub) SetLimits(l RequestLimits) {
	set(&l.EventSize, DefaultMaxEventSize)
	set(&l.BatchEvents, DefaultMaxBatchEvents)
	set(&l.BatchSize, DefaultMaxBatchSize)
	set(&l.Topics, DefaultMaxTopics)
	set(&l.IDSize, DefaultMaxIDSize)
	set(&l.TypeSize, DefaultMaxTypeSize)
	set(&l.HeaderSize, DefaultMaxHeaderSize)
	h.limits.Store(&l)
}

func set[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}
