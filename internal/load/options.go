package load

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// The defaults of [Options], and their bounds.
const (
	DefaultSubscribers = 1000
	DefaultTopics      = 1
	DefaultPublishers  = 1
	DefaultDuration    = 10 * time.Second
	DefaultSize        = 128
	DefaultBatch       = 1
	DefaultPatience    = 10 * time.Second

	MinSize     = messageSize
	MaxSize     = 1 << 20
	MaxBatch    = 100_000
	MaxDuration = 24 * time.Hour

	maxSubscribers = 10_000_000
	maxTopics      = 1_000_000 // as many as six digits can say
	maxPublishers  = 10_000
	maxStorm       = 1_000_000_000
	maxRate        = 100_000_000
)

// Options say what a run does. Only URL is needed.
type Options struct {
	// URL is the hub's, without "/events".
	URL *url.URL

	// Header goes with every request, such as a token. It must have none of those that
	// [OwnHeader] names.
	Header http.Header

	// Subscribers is how many there are; the nth is on topic n modulo Topics.
	// Default: [DefaultSubscribers]; negative: none, and only publishing is measured.
	Subscribers int

	// Topics is how many are published to, in turn. Default: [DefaultTopics].
	Topics int

	// Publishers is how many there are, each with one connection and one request under
	// way. Default: [DefaultPublishers].
	Publishers int

	// Rate is in events a second, of all publishers together. Zero: each publishes as
	// fast as it is answered.
	Rate float64

	// Duration is how long is published. Default: [DefaultDuration].
	Duration time.Duration

	// Size is in bytes of data of an event. Default: [DefaultSize]; at least [MinSize].
	Size int

	// Batch is how many events a request has; the events of one are due at once.
	// Default: [DefaultBatch].
	Batch int

	// Storm, if not 0, is how many events every subscriber misses: instead of
	// publishing for Duration, all subscribers drop, so many events are published to
	// each topic, and all come back at once, with the last id that they have.
	Storm int

	// StormRate is how many of these events are published a second at most, to all topics
	// together. Zero: as fast as they are answered.
	StormRate float64

	// Idle has nothing published: subscribers are opened and left alone for Duration,
	// and the server's memory is measured.
	Idle bool

	// PID is the server's process. Default: looked for if the URL is of this machine;
	// negative: none.
	PID int

	// TopicPrefix is what the topics begin with. Default: "bench/" and the run. The
	// history of topics with the default prefix is deleted from the hub at the end.
	TopicPrefix string

	// Patience is how long nothing at all may happen where something must: a
	// connection, a delivery, an answer. Default: [DefaultPatience].
	Patience time.Duration

	// Peer says how a server that is none of ours is spoken to. It needs Batch 1 and no
	// TopicPrefix. Nothing is deleted from it at the end, so that each run wants a new one.
	// Nil: the server is ours.
	Peer *Peer

	// Phase, if not nil, is called when a phase of the run begins, with what
	// [Progress.Phase] then is, and holds it up.
	Phase func(name string)

	// Portable uses net/http also where there is something cheaper.
	Portable bool

	// Progress, if not nil, is called a few times a second, from one goroutine.
	Progress func(Progress)
}

// Progress is what can be told of a run that is under way.
type Progress struct {
	Phase     string        // such as "connecting"
	Elapsed   time.Duration // of the phase
	Total     time.Duration // that the phase takes; 0 if it is not known
	Connected int
	Published int64
	Delivered int64
	PerSecond float64 // deliveries, of late
	P99       time.Duration
	Faults    int64
}

// A Mistake is one in [Options]: what is wrong with the option, named as the command line
// does, and what would be right.
type Mistake struct{ Option, Text string }

func (m Mistake) Error() string { return m.Option + ": " + m.Text }

// ownHeaders are those that the client sends by itself, or that would change how the
// connection is read.
var ownHeaders = []string{"Accept", "Accept-Encoding", "Connection", "Content-Length", "Content-Type", "Expect", "Host", "Last-Event-Id", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// OwnHeader tells whether a header is the client's own.
func OwnHeader(name string) bool {
	for _, own := range ownHeaders {
		if strings.EqualFold(name, own) {
			return true
		}
	}
	return false
}

// WithDefaults returns options with every default in its place.
func (o Options) WithDefaults() Options {
	def := func(n *int, def int) {
		if *n == 0 {
			*n = def
		}
	}
	def(&o.Subscribers, DefaultSubscribers)
	def(&o.Topics, DefaultTopics)
	def(&o.Publishers, DefaultPublishers)
	def(&o.Size, DefaultSize)
	def(&o.Batch, DefaultBatch)
	if o.Subscribers < 0 {
		o.Subscribers = 0
	}
	if o.Duration == 0 {
		o.Duration = DefaultDuration
	}
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	return o
}

var prefixForm = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,64}(/[A-Za-z0-9._~-]{1,64}){0,9}$`)

// Check returns all mistakes of options that have their defaults.
func (o Options) Check() (wrong []Mistake) {
	note := func(option, format string, args ...any) {
		wrong = append(wrong, Mistake{option, fmt.Sprintf(format, args...)})
	}
	within := func(option string, n, least, most int) {
		if n < least || n > most {
			note(option, "%d must be %d to %d", n, least, most)
		}
	}
	within("subscribers", o.Subscribers, 0, maxSubscribers)
	within("topics", o.Topics, 1, maxTopics)
	within("publishers", o.Publishers, 1, maxPublishers)
	within("size", o.Size, MinSize, MaxSize)
	within("batch", o.Batch, 1, MaxBatch)
	within("storm", o.Storm, 0, maxStorm)
	if !(o.Rate >= 0 && o.Rate <= maxRate) { // NaN too
		note("rate", "%g must be 0 (as fast as answered) to %d events a second", o.Rate, maxRate)
	}
	if !(o.StormRate >= 0 && o.StormRate <= maxRate) {
		note("storm-rate", "%g must be 0 (as fast as answered) to %d events a second", o.StormRate, maxRate)
	}
	if o.Duration < 0 || o.Duration > MaxDuration {
		note("duration", "%v must be more than 0 and at most %v", o.Duration, MaxDuration)
	}
	if o.Patience < 0 {
		note("patience", "%v must be more than 0", o.Patience)
	}
	if o.TopicPrefix != "" && !safePrefix(o.TopicPrefix) {
		note("topic-prefix", "%q must be letters, digits and . _ ~ - in segments separated by /, such as bench/mine", o.TopicPrefix)
	}
	switch {
	case o.Storm > 0 && o.Idle:
		note("storm", "does not go with --idle, which publishes nothing")
	case (o.Storm > 0 || o.Idle) && o.Subscribers == 0:
		note("subscribers", "must be 1 or more, as they are what --storm and --idle measure")
	}
	if o.URL == nil || o.URL.Host == "" || o.URL.Scheme != "http" && o.URL.Scheme != "https" {
		note("url", "must be an http or https URL")
	}
	if o.Peer != nil {
		o.Peer.check(note, &o)
	}
	for name := range o.Header {
		if OwnHeader(name) {
			note("header", "%s is sent by the load client itself", name)
		}
	}
	return wrong
}

// safePrefix tells whether a topic that begins so comes through what is done to paths.
func safePrefix(s string) bool {
	for segment := range strings.SplitSeq(s, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return prefixForm.MatchString(s)
}

// newRunID returns what tells this run's events from all others: eight characters.
func newRunID() string { return strings.ToLower(rand.Text()[:runSize]) }
