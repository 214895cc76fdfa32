package eventsource

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tidewire/tidewire/sse"
)

// The defaults of [Options].
const (
	DefaultReconnectionTime = 3 * time.Second
	DefaultMaxDelay         = 30 * time.Second
)

// Bounds of every wait between two attempts but one that Options.Retry asks for.
const (
	minDelay = 10 * time.Millisecond // a server's retry: 0 must not become a hot loop
	maxDelay = 24 * time.Hour
)

// Options configure [Open] and [Stream]; nil and zero fields mean the defaults.
// Callbacks are called one at a time, in the goroutine that reads the stream.
type Options struct {
	// Method, Header and Body are the request's. The headers Accept and
	// Cache-Control are added where they are not set. Redirects with status 301, 302
	// and 303 make a GET of other methods. Default: GET, none, none.
	Method string
	Header http.Header
	Body   []byte

	// NewRequest makes the request of each attempt instead, for what must be
	// fresh: a token, a query, a body. It must use ctx. Accept, Cache-Control
	// and Last-Event-ID are added where they are not set. An error counts
	// like a failed connection. Default: made from the URL and the fields above.
	NewRequest func(ctx context.Context, a Attempt) (*http.Request, error)

	// HTTPClient sends the requests. Its Timeout is not used, as a stream has
	// no end; IdleTimeout bounds the silence in one. Its CheckRedirect is asked
	// after our own rules. Default: [http.DefaultClient].
	HTTPClient *http.Client

	// LastEventID is the id to resume after, as an earlier stream's event had
	// it. Default: "", which sends none.
	LastEventID string

	// ReconnectionTime is the wait before reconnecting until the server's
	// retry field sets another. Default: [DefaultReconnectionTime]; negative:
	// the shortest there is, 10 ms.
	ReconnectionTime time.Duration

	// MaxDelay bounds what is added to the wait that the server asked for, if it
	// did: a random time ("full jitter") of up to the reconnection time, doubled
	// with each further attempt in a row that brings no event, but never more than
	// this. An event, or a stream that stays open for MaxDelay, starts afresh.
	// Default: [DefaultMaxDelay].
	MaxDelay time.Duration

	// Retry may overrule what happens after an attempt has ended: it gets the
	// default decision, the wait and whether there is another attempt at all, and
	// returns its own. It is not asked after 204, an end of the context, or where
	// a request other than GET must not be repeated; with StrictSpec not where
	// the standard says that the failure is final. Default: nil.
	Retry func(a Attempt, delay time.Duration, again bool) (time.Duration, bool)

	// IdleTimeout ends a connection on which no byte has come for so long, headers
	// included, and reconnects. Set it to about three times the server's
	// heartbeat. Default: none; TCP's own keep-alive still finds a dead peer.
	IdleTimeout time.Duration

	// MaxEventSize bounds one event in bytes; see [sse.DecoderOptions]. A larger
	// one is final, as it would come again. Default:
	// [sse.DefaultMaxEventSize]; negative: no bound.
	MaxEventSize int

	// StrictSpec keeps to the HTML standard: any status but 200 is final,
	// the wait is the reconnection time and nothing else. Default: off.
	StrictSpec bool

	// RepeatNonGET allows a request with another method than GET to be sent
	// again when its stream has ended. Default: off: that end is the end.
	RepeatNonGET bool

	// OnOpen is called when the headers of a stream are in, before any event.
	OnOpen func(OpenEvent)

	// OnError is called each time that a connection fails or ends, also where
	// the client goes on by itself, and not after Close.
	OnError func(ErrorEvent)

	// OnComment gets the text of each comment line, all after the colon.
	OnComment func(text string)

	// OnMessage gets the events of type "message". Only [Open] uses it.
	OnMessage func(MessageEvent)

	// Listeners get the events of the type that is their key, like those of
	// AddEventListener, but miss none that comes early. Only [Open] uses them.
	Listeners map[string]func(MessageEvent)
}

// An Attempt tells where a source stands when a request is made or has failed.
type Attempt struct {
	Number           int           // of the request, from 1
	Failures         int           // attempts in a row, up to now, that brought no event
	Err              error         // why the one before ended; nil before the first
	LastEventID      string        // to resume after
	ReconnectionTime time.Duration // in force: the server's, or the option's
}

// A MessageEvent is an event of a stream. Its ID is what the standard calls
// lastEventId: the last id that the stream has set, also on another event.
type MessageEvent struct {
	sse.Event

	// Origin is the scheme, host and port of the stream's URL after redirects,
	// such as "https://example.com".
	Origin string

	// Target is the source, for closing it from a callback; nil in [Stream].
	Target *Source
}

// An OpenEvent tells of a connection that is open.
type OpenEvent struct {
	Response *http.Response // for its headers; the body belongs to the stream
	Target   *Source        // nil in [Stream]
}

// An ErrorEvent tells of a connection that has failed or ended.
type ErrorEvent struct {
	Err    error
	State  State         // StateConnecting: another attempt follows; StateClosed: none does
	Delay  time.Duration // before that attempt
	Target *Source       // nil in [Stream]
}

// State is a source's readiness, with the numbers of EventSource.readyState.
type State int

const (
	StateConnecting State = 0 // or waiting to
	StateOpen       State = 1
	StateClosed     State = 2 // for good
)

func (s State) String() string {
	switch s {
	case StateConnecting:
		return "connecting"
	case StateOpen:
		return "open"
	case StateClosed:
		return "closed"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// withDefaults returns a copy of opts that is safe to keep.
func withDefaults(opts *Options) Options {
	var o Options
	if opts != nil {
		o = *opts
	}
	o.Header = o.Header.Clone()
	if id := o.Header.Get("Last-Event-ID"); id != "" && o.LastEventID == "" {
		o.LastEventID = id
	}
	o.Header.Del("Last-Event-ID") // it would outlive its id
	switch m := strings.ToUpper(o.Method); m {
	case "":
		o.Method = http.MethodGet
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS":
		o.Method = m // as in the Fetch standard; others are taken as written
	}
	if o.HTTPClient == nil {
		o.HTTPClient = http.DefaultClient
	}
	switch {
	case o.ReconnectionTime == 0:
		o.ReconnectionTime = DefaultReconnectionTime
	case o.ReconnectionTime < 0:
		o.ReconnectionTime = minDelay
	}
	if o.MaxDelay <= 0 {
		o.MaxDelay = DefaultMaxDelay
	}
	o.MaxDelay = min(o.MaxDelay, maxDelay)
	return o
}

// validate refuses what no attempt could ever mend.
func validate(rawURL string, o *Options) error {
	if err := validID(o.LastEventID); err != nil {
		return err
	}
	for name, values := range o.Header {
		if !isToken(name) {
			return fmt.Errorf("eventsource: open: Options.Header: %q is no header name", name)
		}
		for _, v := range values {
			if i := control(v); i >= 0 {
				return fmt.Errorf("eventsource: open: Options.Header: %s has byte 0x%02X, which cannot stand in an HTTP header", name, v[i])
			}
		}
	}
	if !isToken(o.Method) {
		return fmt.Errorf("eventsource: open: Options.Method: %q is no method", o.Method)
	}
	if rawURL == "" && o.NewRequest != nil {
		return nil
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return fmt.Errorf("eventsource: open: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("eventsource: open %q: not an absolute http or https URL", rawURL)
	}
	return nil
}

// isToken tells whether s can be a header's name or a method (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	const others = "!#$%&'*+-.^_`|~"
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (c < '0' || c > '9') && !strings.Contains(others, string(rune(c))) {
			return false
		}
	}
	return s != ""
}

// control returns the offset of the first byte that no header can carry (RFC 9110,
// section 5.5), or -1.
func control(s string) int {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7F {
			return i
		}
	}
	return -1
}

// validID refuses an id that no header can carry. Dropping it would resume from
// somewhere else without a word.
func validID(id string) error {
	if i := control(id); i >= 0 {
		return fmt.Errorf("%w %q: byte 0x%02X cannot stand in an HTTP header", errBadID, id, id[i])
	}
	return nil
}

var errBadID = errors.New("eventsource: cannot resume after id")
