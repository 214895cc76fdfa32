package hub

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Bounds of one poll.
const (
	defaultPoll = 1000             // events, without limit=
	pollBytes   = 1 << 20          // about, of events' data
	maxWait     = 60 * time.Second // what proxies let pass
	pollGzip    = 1 << 10          // bytes from which on it is compressed
)

// A poll is what is asked of one answer.
type poll struct {
	limit int
	wait  time.Duration // 0: an answer at once
}

// parsePoll reads limit= and wait=, which the Prefer header can say too (RFC 7240, section
// 4.3).
func parsePoll(r *request) (p poll, err error) {
	p.limit = defaultPoll
	if v := r.query.Get("limit"); v != "" {
		if p.limit, err = strconv.Atoi(v); err != nil || p.limit < 1 {
			return p, &RequestError{Problem: ProblemQuery, Field: "limit", Detail: "limit is " + quote(v) + ": it is a number of events, from 1"}
		}
		p.limit = min(p.limit, defaultPoll)
	}
	v, field := r.query.Get("wait"), "wait"
	if v == "" {
		v, _ = preference(r.header, "wait")
		field = "Prefer"
	}
	if v == "" {
		return p, nil
	}
	if p.wait, err = time.ParseDuration(v); err != nil {
		var seconds float64
		seconds, err = strconv.ParseFloat(v, 64)
		p.wait = time.Duration(min(max(seconds, -1), 1e6) * float64(time.Second))
	}
	if err != nil || p.wait < 0 {
		return p, &RequestError{Problem: ProblemQuery, Field: field, Detail: "wait is " + quote(v) + ": it is a duration such as 30s, or a number of seconds"}
	}
	p.wait = min(p.wait, maxWait)
	return p, nil
}

// servePoll answers with the events that there are, at once, or when there are some. It
// returns true if the answer is still to come, and the cursor and the permit are others'.
func (h *Hub) servePoll(w http.ResponseWriter, r *http.Request, c *cursor, p *permit, q poll) (held bool, err error) {
	defer func() {
		if !held {
			c.close()
		}
	}()
	ctx := r.Context()
	// What was answered to a publisher before must be there.
	if err := h.hot.reach(ctx, h.log.Head().Seq); err != nil {
		return false, nil // the client has gone
	}
	b := newPollBody(h, c, q.limit)
	more, err := b.fill(func() ([]*item, error) { return c.poll(ctx) })
	if err != nil {
		return false, err
	}
	waits := q.wait > 0 && !more && b.empty()
	if waits && h.engine.hold(w, r, c, p, q) {
		return true, nil
	}
	defer h.serve(c, p).leave()
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Time{}) // the answer may come late,
	defer h.cutOff(w)()
	if waits {
		err = h.await(ctx, b, q.wait)
	}
	if h.opt.WriteTimeout > 0 {
		_ = rc.SetWriteDeadline(time.Now().Add(h.opt.WriteTimeout)) // but not slowly
	}
	if err != nil {
		return false, err
	}
	answerPoll(w, r, b, q.wait > 0)
	c.served.begun()
	return false, nil
}

// await has a body take what comes within a time.
func (h *Hub) await(ctx context.Context, b *pollBody, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		batch, err := b.cursor.next(ctx, timer.C)
		if err != nil {
			return b.note(err)
		}
		if len(batch) > 0 {
			b.add(batch)
			return nil
		}
	}
}

// A pollBody is the answer to a poll as it grows.
type pollBody struct {
	hub    *Hub
	cursor *cursor
	epoch  string
	limit  int
	n      int
	events []byte // JSON, separated by commas
	last   uint64 // the last one's sequence, 0 if there is none
	cut    bool   // there are more than the limit
	gap    *GapError
	closed bool
}

func newPollBody(h *Hub, c *cursor, limit int) *pollBody {
	return &pollBody{hub: h, cursor: c, epoch: h.log.Head().Epoch, limit: limit}
}

func (b *pollBody) empty() bool { return b.n == 0 && b.gap == nil && !b.closed }

// fill takes what poll returns until there is no more, or enough.
func (b *pollBody) fill(poll func() ([]*item, error)) (enough bool, err error) {
	for b.n < b.limit && len(b.events) < pollBytes {
		batch, err := poll()
		if err != nil {
			return true, b.note(err)
		}
		if len(batch) == 0 {
			return false, nil
		}
		b.add(batch)
	}
	return true, nil
}

// note takes an error that is an answer, and returns any other.
func (b *pollBody) note(err error) error {
	var gap *GapError
	switch {
	case errors.As(err, &gap) && b.n > 0:
		b.cut = true // it is found again by the next poll
	case errors.As(err, &gap):
		b.gap = gap
		batch, err := b.cursor.poll(context.Background()) // what follows was found already
		if err == nil {
			b.add(batch)
		}
	case err == errEnded:
		b.closed = true
	case err == errIdle, err == errSlow:
	default:
		return err
	}
	return nil
}

func (b *pollBody) add(batch []*item) {
	for _, it := range batch {
		if b.n == b.limit {
			b.cut = true
			return
		}
		if b.n++; b.n > 1 {
			b.events = append(b.events, ',')
		}
		b.events = append(b.events, it.json(b.epoch)...)
		b.last = it.Seq
	}
}

// lastID returns what to go on from: the position up to which everything was looked at,
// which unlike a publisher's id stands for one place only.
func (b *pollBody) lastID() string {
	switch {
	case b.cut && b.last > 0:
		return Position(b.epoch, b.last)
	case b.gap != nil && b.n == 0:
		return Position(b.epoch, max(b.gap.resumed, b.cursor.after))
	}
	return Position(b.epoch, b.cursor.after)
}

// bytes returns the answer, and what tells it from others of the same URL: that is not
// lastID where nothing is new. With gzip it may have to be compressed, which makes another
// representation (RFC 9110, section 8.8.3.3).
func (b *pollBody) bytes(gzip bool) (body []byte, tag string, zips bool) {
	gap := "null"
	if b.gap != nil {
		gap = gapJSON(b.gap)
	}
	var s strings.Builder
	s.WriteString(`{"events":[`)
	s.Write(b.events)
	s.WriteString(`],"gap":` + gap)
	if b.closed && !b.cut {
		s.WriteString(`,"closed":true`)
	}
	sum := sha256.Sum256([]byte(b.epoch + s.String()))
	s.WriteString(`,"last_id":` + jsonText(b.lastID()) + "}\n")
	tag = base64.RawURLEncoding.EncodeToString(sum[:12])
	if zips = gzip && s.Len() >= pollGzip; zips {
		tag += "-gzip"
	}
	return []byte(s.String()), `"` + tag + `"`, zips
}

// answerPoll answers 304 where the client has the same already (RFC 9110, section 13.1.2).
func answerPoll(w http.ResponseWriter, r *http.Request, b *pollBody, waited bool) {
	body, tag, zips := b.bytes(b.hub.gzips(r))
	header := w.Header()
	header.Set("Cache-Control", "private, no-cache")
	header.Set("ETag", tag)
	if !waited && hasTag(r.Header, tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if zips {
		body = b.hub.gzipWhole(body)
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // who has gone needs no answer
}

// hasTag tells whether If-None-Match has a tag, by weak comparison.
func hasTag(h http.Header, tag string) bool {
	for v := range strings.SplitSeq(strings.Join(h.Values("If-None-Match"), ","), ",") {
		if v = strings.TrimPrefix(strings.TrimSpace(v), "W/"); v == tag || v == "*" {
			return true
		}
	}
	return false
}
