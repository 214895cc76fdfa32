package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tidewire/tidewire/eventsource"
)

// Where a subscriber begins.
type start int

const (
	fromEarliest start = iota
	fromNow
	fromID       // of an event that was acknowledged
	fromPosition // of one
)

// How a subscriber is connected.
type client int

const (
	byStream client = iota // eventsource.Stream
	bySource               // eventsource.Open
	byLines                // JSON lines, and resumes from positions
)

// A subscriber is connected, and connected again, until it has seen the end in each
// topic that it has selected, and writes down all that it got.
type subscriber struct {
	no        int
	ledger    *ledger
	base      string
	http      *http.Client
	rng       *rand.Rand
	selection selection
	client    client
	start     start
	drop      int // it drops its connection after so many events, on average; 0: never

	from   receipt  // for fromID and fromPosition
	joined int64    // fromNow: the ledger's clock when it was connected
	open   topicSet // whose end it has not seen
	seen   []sighting
	got    atomic.Int64 // len(seen), for others
	opened int          // connections
}

// A sighting is an event that a subscriber got.
type sighting struct {
	name name
	seq  uint64 // 0 if it was not told
}

const (
	reconnectionTime = 20 * time.Millisecond
	maxDelay         = 200 * time.Millisecond
)

func (s *subscriber) String() string {
	return fmt.Sprintf("subscriber %d of %s (%s, %s)", s.no, s.selection,
		[]string{"stream", "source", "lines"}[s.client], []string{"from the earliest", "from now", "from an id", "from a position"}[s.start])
}

// run returns when the subscriber has seen the end.
func (s *subscriber) run(ctx context.Context) {
	s.open = s.selection.set()
	if s.start == fromID || s.start == fromPosition {
		var ok bool
		if s.from, ok = s.ledger.someReceipt(s.rng); !ok {
			s.start = fromEarliest
		}
	}
	query := s.selection.query()
	if s.start == fromEarliest {
		query.Set("since", "earliest")
	}
	url := s.base + "/events?" + query.Encode()
	switch s.client {
	case byStream:
		s.runStream(ctx, url)
	case bySource:
		s.runSource(ctx, url)
	case byLines:
		s.runLines(ctx, url)
	}
}

// first returns the id to begin after, "" if there is none.
func (s *subscriber) first() string {
	switch s.start {
	case fromID:
		return s.from.id
	case fromPosition:
		return s.from.position
	}
	return ""
}

// connected notes a connection, and where it begins if it is asked for without an id.
func (s *subscriber) connected(lastEventID string) {
	s.opened++
	if lastEventID == "" {
		s.joined = s.ledger.clock.Load()
	}
}

func (s *subscriber) options() *eventsource.Options {
	return &eventsource.Options{
		Header:           http.Header{"Prefer": {"heartbeat=id"}},
		HTTPClient:       s.http,
		LastEventID:      s.first(),
		ReconnectionTime: reconnectionTime,
		MaxDelay:         maxDelay,
		OnOpen: func(ev eventsource.OpenEvent) {
			s.connected(ev.Response.Request.Header.Get("Last-Event-ID"))
		},
	}
}

// runStream drops its connection by ranging over a new Stream, from the last id.
func (s *subscriber) runStream(ctx context.Context, url string) {
	for opts := s.options(); s.open != 0 && ctx.Err() == nil; {
		for ev, err := range eventsource.Stream(ctx, url, opts) {
			if err != nil {
				if ctx.Err() == nil {
					s.ledger.add("a subscription has ended", "%s: %v", s, err)
				}
				return
			}
			s.event(ev.Type, ev.ID, "", ev.Data)
			opts.LastEventID = ev.ID
			if s.open == 0 || s.drops() {
				break
			}
		}
	}
}

// runSource drops its connection with Reconnect.
func (s *subscriber) runSource(ctx context.Context, url string) {
	opts := s.options()
	handle := func(ev eventsource.MessageEvent) {
		if s.open == 0 {
			return
		}
		s.event(ev.Type, ev.ID, "", ev.Data)
		switch {
		case s.open == 0:
			_ = ev.Target.Close() // it returns nil
		case s.drops():
			ev.Target.Reconnect()
		}
	}
	opts.OnMessage = handle
	opts.Listeners = map[string]func(eventsource.MessageEvent){"tidewire.gap": handle, "tidewire.error": handle}
	source, err := eventsource.Open(ctx, url, opts)
	if err != nil {
		s.ledger.add("a subscription has ended", "%s: %v", s, err)
		return
	}
	<-source.Done()
	if err := source.Err(); err != nil {
		s.ledger.add("a subscription has ended", "%s: %v", s, err)
	}
}

// runLines reads JSON lines, and resumes from the last position.
func (s *subscriber) runLines(ctx context.Context, url string) {
	for last := s.first(); s.open != 0 && ctx.Err() == nil; {
		err := s.readLines(ctx, url, &last)
		switch {
		case err == nil: // it has dropped its connection, or is at the end
		case errors.Is(err, errStatus):
			s.ledger.add("a subscription has ended", "%s: %v", s, err)
			return
		default:
			pause(ctx, reconnectionTime/2+time.Duration(s.rng.Int64N(int64(reconnectionTime))))
		}
	}
}

// pause waits, but not longer than ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

var errStatus = errors.New("no stream")

// A line is an event as a JSON line.
type line struct {
	ID, Position, Type, Data string
	Topics                   []string
}

func (s *subscriber) readLines(ctx context.Context, url string, last *string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return eachLine(ctx, s.http, url, *last, func() { s.connected(*last) }, func(l line) bool {
		s.event(l.Type, l.ID, l.Position, l.Data)
		*last = l.Position
		return s.open != 0 && !s.drops()
	})
}

// eachLine reads JSON lines after an id, until more says that it is enough. A line that
// was cut off is none.
func eachLine(ctx context.Context, c *http.Client, url, after string, opened func(), more func(line) bool) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/x-ndjson")
	if after != "" {
		req.Header.Set("Last-Event-ID", after)
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s", errStatus, resp.Status)
	}
	opened()
	r := bufio.NewReader(resp.Body)
	for {
		b, err := r.ReadBytes('\n')
		if err != nil {
			return err
		}
		if len(b) == 1 {
			continue // to keep an idle connection open
		}
		var l line
		if err := json.Unmarshal(b, &l); err != nil {
			return fmt.Errorf("%w: %w: %s", errStatus, err, firstLine(b))
		}
		if !more(l) {
			return nil
		}
	}
}

// event writes down an event. The position is "" where only the id is told.
func (s *subscriber) event(typ, id, position, data string) {
	if strings.HasPrefix(typ, "tidewire.") {
		s.ledger.add("a subscriber was told "+typ, "%s after %d events: %s", s, len(s.seen), data)
		return
	}
	k, own, ok := parseData(data)
	if !ok {
		s.ledger.add("an event was damaged", "%s: id %q: %s", s, id, firstLine([]byte(data)))
		return
	}
	if !own && position == "" {
		position = id
	}
	want := position
	if own {
		want = k.id()
	}
	if id != want {
		s.ledger.add("an event came with another id", "%s: %s: %q, not %q", s, k, id, want)
	}
	seen := sighting{name: k}
	if position != "" {
		seen.seq = s.ledger.sequence(position)
	}
	s.seen = append(s.seen, seen)
	s.got.Store(int64(len(s.seen)))
	if k.publisher == theEnd {
		s.open &^= 1 << (k.n - 1)
	}
}

func (s *subscriber) drops() bool { return s.drop > 0 && s.rng.IntN(s.drop) == 0 }
