package hub

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/tidewire/tidewire/sse"
)

// relay publishes a stream of events, each as it arrives.
func (h *Hub) relay(w http.ResponseWriter, r *http.Request, proto Event, end bool, permit *permit) error {
	for _, name := range []string{"Idempotency-Key", "If-Match", "If-None-Match"} {
		if r.Header.Get(name) != "" {
			return &RequestError{Problem: ProblemQuery, Field: name, Detail: "a stream is stored event by event as it arrives: " + name + " is for single events and batches"}
		}
	}
	if proto.ID != "" {
		return &RequestError{Problem: ProblemField, Field: "id", Detail: "the events of a stream have their own ids"}
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{})  // a stream takes as long as it takes,
	_ = rc.SetWriteDeadline(time.Time{}) // and is answered after it
	ctx := r.Context()
	var a batchAnswer
	id := ""
	body := bufio.NewReader(r.Body)
	skipPreamble(body)
	d := sse.NewDecoder(body, &sse.DecoderOptions{MaxEventSize: h.limits.Load().EventSize})
	for {
		in, err := d.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return h.relayError(err, a.Count)
		}
		ev := proto
		ev.Data = in.Data
		if in.Retry > 0 {
			ev.Retry = in.Retry
		}
		if in.ID != id { // an event without an id has the one before, which is not its own
			id, ev.ID = in.ID, in.ID
		}
		if epoch, _, ok := parsePosition(ev.ID); ok && epoch == h.log.Head().Epoch {
			ev.ID = "" // our own stream, piped back into us: it gets a new place
		}
		if in.Type != "message" {
			ev.Type = in.Type
		}
		if strings.HasPrefix(ev.Type, "tidewire.") {
			continue // another hub's control events are not ours to repeat
		}
		if err := permit.over(); err != nil {
			return h.relayError(err, a.Count)
		}
		receipt, err := h.Publish(ctx, Publication{Events: []Event{ev}})
		if err != nil {
			return h.relayError(err, a.Count)
		}
		a.Count++
		a.Last = receiptOf(receipt, 0, &ev)
		if a.First == nil {
			a.First = a.Last
		}
	}
	if end {
		if err := permit.over(); err != nil {
			return h.relayError(err, a.Count)
		}
		if _, err := h.Publish(ctx, Publication{End: proto.Topics}); err != nil {
			return h.relayError(err, a.Count)
		}
	}
	answer(w, a)
	return nil
}

// skipPreamble takes a retry off the very beginning of a stream. With it a server, and
// this one too, tells its own subscribers when to come back; it stands directly before
// the first event, and is none of its fields.
func skipPreamble(r *bufio.Reader) {
	const retry = "retry:"
	if begin, _ := r.Peek(len(retry)); string(begin) != retry {
		return
	}
	for {
		// An LF that is left behind a CR ends an empty block.
		if b, err := r.ReadByte(); err != nil || b == '\n' || b == '\r' {
			return
		}
	}
}

// relayError says how far a stream came.
func (h *Hub) relayError(err error, count int) error {
	var tooLarge *sse.SizeError
	var e RequestError
	switch {
	case errors.As(err, &tooLarge):
		e = RequestError{Problem: ProblemTooLarge, Detail: fmt.Sprintf("an event is larger than %d bytes", tooLarge.Limit)}
	case err == io.ErrUnexpectedEOF:
		e = RequestError{Problem: ProblemBody, Detail: "the stream broke off inside an event, which was not stored"}
	default:
		e = *problemOf(err)
		if e.Problem == ProblemInternal {
			e = RequestError{Problem: ProblemBody, Detail: "the stream broke off"}
		}
	}
	e.Count = count
	e.Detail = fmt.Sprintf("after %d events that were stored: %s", count, e.Detail)
	return &e
}
