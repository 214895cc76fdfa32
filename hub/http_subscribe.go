package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tidewire/tidewire/sse"
)

// serveSubscribe answers GET: a stream in the representation that is asked for.
func (h *Hub) serveSubscribe(w http.ResponseWriter, r *http.Request) error {
	req, err := parseRequest(r)
	if err != nil {
		return err
	}
	media, err := negotiate(r.Header.Values("Accept"))
	if err != nil {
		return err
	}
	f, err := req.filter(time.Now())
	if err != nil {
		return err
	}
	beat, err := heartbeatOf(req)
	if err != nil {
		return err
	}
	q, err := parsePoll(req)
	if err != nil {
		return err
	}
	if err := h.checkFilter(&f); err != nil {
		return err
	}
	if h.opt.Compression == CompressionOff {
		w.Header().Add("Vary", "Accept")
	} else {
		w.Header().Add("Vary", "Accept, Accept-Encoding")
	}
	p, err := h.authorize(w, r, ActionSubscribe, req, media == mediaSSE && mayBeEventSource(r.Header))
	if err != nil {
		h.turnAway(w, r, err)
		return nil
	}
	taken := false
	defer func() {
		if !taken {
			p.end()
		}
	}()
	if err = p.maySubscribe(&f); err != nil {
		return err
	}
	f.tidyPrivate()
	c, err := h.newCursor(r.Context(), f)
	if err != nil {
		h.turnAway(w, r, err)
		return nil
	}
	if media == mediaJSON {
		taken, err = h.servePoll(w, r, c, p, q)
		return err
	}
	if len(f.Patterns) == 0 { // with them a gap may be told between pages that is none
		c.page = firstPage / 4
	}
	if media == mediaSSE && !c.closed {
		if taken = h.engine.takeOver(w, r, c, beat, p); taken {
			return nil
		}
	}
	defer c.close()
	c.slow = c.feed.slow
	if media == mediaSSE && beat != beatComment && h.opt.PositionInterval > 0 {
		c.place = newPlace(c.after, f.From.LastEventID != "")
	}
	first, err := c.poll(r.Context())
	if err == errEnded {
		// Nothing more will come, and by the standard this stops an EventSource.
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Del("Set-Cookie")
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	var gap *GapError
	if err != nil && !errors.As(err, &gap) {
		return err
	}
	defer h.serve(c, p).leave()
	if media == mediaNDJSON {
		h.streamJSON(w, r, c, first, gap)
	} else {
		h.streamSSE(w, r, c, beat, first, gap)
	}
	return nil
}

// cutOff has a write to a subscriber fail when the hub gives up on it. stop must be
// called before the handler returns.
func (h *Hub) cutOff(w http.ResponseWriter) (stop func()) {
	done := make(chan struct{})
	unhook := context.AfterFunc(h.ctx, func() {
		defer close(done)
		_ = http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0))
	})
	return func() {
		if !unhook() {
			<-done
		}
	}
}

// filter reads what a subscriber wants.
func (r *request) filter(now time.Time) (Filter, error) {
	f := Filter{Topics: r.topics, Patterns: r.patterns, Types: r.query["type"]}
	last := r.header.Get("Last-Event-ID")
	if last == "" {
		last = r.query.Get("last_event_id")
	}
	since, newest := r.query.Get("since"), r.query.Get("last")
	switch {
	case last != "":
		f.From.LastEventID = last
	case since == "earliest":
		f.From.Earliest = true
	case since != "":
		t, err := parseSince(since, now)
		if err != nil {
			return f, err
		}
		f.From.Since = t
	case newest != "":
		n, err := strconv.Atoi(newest)
		if err != nil || n < 1 {
			return f, &RequestError{Problem: ProblemQuery, Field: "last", Detail: "last is " + quote(newest) + ": it is a number of events, from 1"}
		}
		f.From.Last = n
	}
	return f, nil
}

// parseSince reads a time, or a duration back from now.
func parseSince(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	// A plus sign that was not percent-encoded arrives as a space.
	if t, err := time.Parse(time.RFC3339Nano, strings.Replace(s, " ", "+", 1)); err == nil {
		return t, nil
	}
	return time.Time{}, &RequestError{Problem: ProblemQuery, Field: "since", Detail: "since is " + quote(s) + ": it is a time such as 2026-01-31T12:00:00Z, a duration back such as 90s or 1h30m, or earliest"}
}

type heartbeat uint8

const (
	beatComment heartbeat = iota
	beatID
	beatEvent
)

var heartbeats = map[string]heartbeat{"comment": beatComment, "id": beatID, "event": beatEvent}

// heartbeatOf tells in what form a subscriber is told its position where no event does.
// A block with an id alone is right for browsers, and an empty event for most other
// clients' parsers. The query says it, or else the Prefer header, by which a program can
// ask any server: who does not know it ignores it (RFC 7240, section 2).
func heartbeatOf(r *request) (heartbeat, error) {
	if v := r.query.Get("heartbeat"); v != "" {
		beat, ok := heartbeats[v]
		if !ok {
			return 0, &RequestError{Problem: ProblemQuery, Field: "heartbeat", Detail: "heartbeat is " + quote(v) + ": it can be comment, id or event"}
		}
		return beat, nil
	}
	v, _ := preference(r.header, "heartbeat")
	if beat, ok := heartbeats[v]; ok {
		return beat, nil
	}
	native := strings.HasPrefix(r.header.Get("User-Agent"), "Mozilla/") &&
		r.header.Get("Cache-Control") == "no-cache" && r.header.Get("Accept") == "text/event-stream"
	if native {
		return beatID, nil
	}
	return beatComment, nil
}

// preference returns a preference's value, and whether there is one (RFC 7240, section
// 2): the first of that name counts.
func preference(h http.Header, name string) (value string, ok bool) {
	for p := range strings.SplitSeq(strings.Join(h.Values("Prefer"), ","), ",") {
		p, _, _ = strings.Cut(p, ";")
		key, value, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(key), name) {
			return strings.Trim(strings.TrimSpace(value), `"`), true
		}
	}
	return "", false
}

// streamSSE sends a subscription as Server-Sent Events until one side ends it.
func (h *Hub) streamSSE(w http.ResponseWriter, r *http.Request, c *cursor, beat heartbeat, batch []*item, gap *GapError) {
	var zw *gzipWriter
	if h.gzips(r) {
		zw = h.newGzipWriter(w, formSSE)
	}
	s, err := sse.Accept(zw.over(w), r, &sse.SessionOptions{Retry: h.opt.Retry, Heartbeat: h.opt.Heartbeat, WriteTimeout: h.opt.WriteTimeout})
	if err != nil {
		if errors.Is(err, http.ErrNotSupported) {
			w.Header().Del("Content-Encoding")
			Fail(w, err)
		}
		return
	}
	defer zw.finish()
	defer s.Close()
	c.served.begun()
	defer h.cutOff(w)()
	idle := newIdleTimer(h.opt.PositionInterval)
	defer idle.stop()
	for {
		switch err = nil; {
		case gap != nil:
			err = s.Send(gapEvent(gap))
			c.place.told(gap.resumed)
		case len(batch) > 0:
			all, size := frames(batch)
			zw.expect(batch, size)
			err = s.SendFrame(all...)
			c.place.told(batch[len(batch)-1].Seq)
		case c.place.behind(c.after):
			// Also first of all: a stream that breaks before its first event would
			// otherwise begin anew, without those that come meanwhile.
			err = tellPosition(s, beat, c.position())
			c.place.told(c.after)
		}
		if err != nil {
			return
		}
		gap = nil
		c.served.moved(c.after)
		batch, err = c.next(s.Context(), idle.start())
		switch {
		case err == errIdle: // there may be a position to tell
		case errors.Is(err, ErrShutdown):
			// Not all at the same moment; to a client that has gone it is no matter.
			_ = s.SendRetry(h.jitteredRetry())
			return
		case err != nil && !errors.As(err, &gap):
			if err != errEnded && err != errSlow && s.Context().Err() == nil {
				_ = s.Send(h.errorEvent(err)) // so that the page can learn why
			}
			return
		}
	}
}

// An idleTimer bounds waits, one after the other.
type idleTimer struct {
	after time.Duration // not positive: never
	timer *time.Timer
}

func newIdleTimer(after time.Duration) *idleTimer { return &idleTimer{after: after} }

// start returns a channel that fires when the time is over.
func (t *idleTimer) start() <-chan time.Time {
	switch {
	case t.after <= 0:
		return nil
	case t.timer == nil:
		t.timer = time.NewTimer(t.after)
	default:
		t.timer.Reset(t.after)
	}
	return t.timer.C
}

func (t *idleTimer) stop() {
	if t.timer != nil {
		t.timer.Stop()
	}
}

func tellPosition(s *sse.Session, beat heartbeat, position string) error {
	if beat == beatEvent {
		return s.Send(sse.Event{ID: position, Type: "tidewire.hb"})
	}
	return s.SendID(position)
}

func frames(batch []*item) (all []sse.Frame, size int) {
	all = make([]sse.Frame, len(batch))
	for i, it := range batch {
		all[i] = it.frame()
		size += all[i].Len()
	}
	return all, size
}

// describe tells of a topic in headers.
func describe(h http.Header, info TopicInfo) {
	h.Set("Tidewire-Count", strconv.FormatInt(info.Count, 10))
	h.Set("Tidewire-Closed", strconv.FormatBool(info.Closed))
	if info.NewestID != "" {
		h.Set("Tidewire-Newest-Id", info.NewestID)
	}
	if info.OldestID != "" {
		h.Set("Tidewire-Oldest-Id", info.OldestID)
	}
}

// A media is a representation of a subscription.
type media int

const (
	mediaSSE media = iota
	mediaNDJSON
	mediaJSON // a poll
)

// negotiate chooses a representation (RFC 9110, section 12.5.1): the one that is asked
// for most, and of equals an event stream.
func negotiate(accept []string) (media, error) {
	if len(accept) == 0 {
		return mediaSSE, nil
	}
	best, most := mediaSSE, 0.0
	for m, typ := range [...]string{mediaSSE: "text/event-stream", mediaNDJSON: "application/x-ndjson", mediaJSON: "application/json"} {
		major, minor, _ := strings.Cut(typ, "/")
		if q := quality(accept, major, minor); q > most {
			best, most = media(m), q
		}
	}
	if most == 0 {
		return 0, &RequestError{Problem: ProblemNotAcceptable, Field: "Accept", Detail: "a subscription can be text/event-stream, application/x-ndjson, or for a poll application/json"}
	}
	return best, nil
}

// quality returns how much a type is asked for: what the range says that fits it best.
func quality(accept []string, typ, subtype string) float64 {
	best, fit := 0.0, 0
	for _, v := range strings.Split(strings.Join(accept, ","), ",") {
		name, q := parseAccept(v)
		f := 0
		switch name {
		case typ + "/" + subtype:
			f = 3
		case typ + "/*":
			f = 2
		case "*/*":
			f = 1
		}
		if f > fit {
			best, fit = q, f
		}
	}
	return best
}

// parseAccept returns a media range and its quality.
func parseAccept(v string) (name string, q float64) {
	name, params, _ := strings.Cut(v, ";")
	q = 1
	for p := range strings.SplitSeq(params, ";") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(p), "q="); ok {
			if f, err := strconv.ParseFloat(value, 64); err == nil && f >= 0 && f <= 1 {
				q = f
			}
		}
	}
	return strings.ToLower(strings.TrimSpace(name)), q
}

// gapEvent tells of a gap in the stream, where a browser's EventSource can read it. Its
// id is where the stream goes on, so that it is told once.
func gapEvent(gap *GapError) sse.Event {
	return sse.Event{ID: gap.Resumed, Type: "tidewire.gap", Data: gapJSON(gap)}
}

func gapJSON(gap *GapError) string {
	return fmt.Sprintf(`{"reason":%s,"requested":%s,"resumed":%s}`, jsonText(string(gap.Reason)), jsonText(gap.Requested), jsonText(gap.Resumed))
}

// errorEvent tells why a stream ends, and when to come back if that is not as usual.
func (h *Hub) errorEvent(err error) sse.Event {
	e := problemOf(err)
	ev := sse.Event{Type: "tidewire.error", Data: string(jsonBytes(e.document()))}
	if e.RetryAfter > 0 {
		ev.Retry = h.retryAfter(e)
	}
	return ev
}
