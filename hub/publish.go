package hub

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of a published retry: Chromium makes a hot loop of 0, and nobody means years.
const (
	minRetry = 100 * time.Millisecond
	maxRetry = 24 * time.Hour
)

// A Publication is what is published at once: all of it is stored, or none.
type Publication struct {
	// Events are stored in their order. None is allowed together with End.
	Events []Event

	// IdempotencyKey makes a repeat of the same publication answer what the first one
	// answered; "" is none. It is scoped to the topics of the first event. The same
	// key with other contents is [ErrKeyReused].
	IdempotencyKey string

	// IfNewest, if not nil, is the id that the canonical topic (of the first event, or
	// the first of End) must have as its newest, "" for none yet; else a
	// *[ConflictError].
	IfNewest *string

	// End closes these topics after the events: nothing more can come, subscribers
	// get the rest, and their streams end.
	End []string
}

// Publish checks a publication and stores it. It returns when the Log has it, which is
// when it is durable, if the Log is. The errors are those of [Log.Append], a
// *[RequestError] where something in the publication is wrong, and [ErrShutdown].
//
// A Retry is clamped to between 100 ms and a day.
func (h *Hub) Publish(ctx context.Context, p Publication) (Receipt, error) {
	select {
	case <-h.draining:
		return Receipt{}, ErrShutdown
	default:
	}
	g, err := h.group(ctx, p)
	if err != nil {
		return Receipt{}, err
	}
	h.engine.admit(ctx)
	return h.append(ctx, g)
}

// append repeats what the Log is not sure of, which is safe as the group has an id.
func (h *Hub) append(ctx context.Context, g *Group) (Receipt, error) {
	for wait := 50 * time.Millisecond; ; wait *= 2 {
		receipt, err := h.log.Append(ctx, g)
		if !errors.Is(err, ErrIndeterminate) || wait > time.Second {
			return receipt, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return receipt, err
		case <-h.draining:
			return receipt, err
		}
	}
}

// group checks a publication and makes it a group.
func (h *Hub) group(ctx context.Context, p Publication) (*Group, error) {
	if len(p.Events) == 0 && len(p.End) == 0 {
		return nil, &RequestError{Problem: ProblemBody, Detail: "there is no event in it"}
	}
	if n := h.limits.Load().BatchEvents; len(p.Events) > n {
		return nil, &RequestError{Problem: ProblemTooLarge, Detail: fmt.Sprintf("%d events at once are more than %d: send several batches", len(p.Events), n)}
	}
	if n := h.log.Limits().Group; n > 0 && len(p.Events) > n {
		return nil, &RequestError{Problem: ProblemTooLarge, Detail: fmt.Sprintf("%d events at once are more than the log takes, %d: send several batches", len(p.Events), n)}
	}
	if err := h.checkLength("Idempotency-Key", p.IdempotencyKey, h.limits.Load().IDSize); err != nil {
		return nil, err
	}
	if strings.ContainsRune(p.IdempotencyKey, 0) {
		return nil, &RequestError{Problem: ProblemField, Field: "Idempotency-Key", Detail: "an idempotency key cannot have a NUL"}
	}
	g := &Group{ID: rand.Text(), Key: p.IdempotencyKey, Close: unique(p.End)}
	if n := h.limits.Load().Topics; len(g.Close) > n {
		return nil, &RequestError{Problem: ProblemTooManyTopics, Field: "topic", Detail: fmt.Sprintf("%d topics are more than %d", len(g.Close), n)}
	}
	for _, topic := range g.Close {
		if err := CheckTopic(topic); err != nil {
			return nil, &RequestError{Problem: ProblemTopic, Field: "topic", Detail: err.Error()}
		}
	}
	for i := range p.Events {
		ev := p.Events[i]
		if err := h.checkEvent(&ev); err != nil {
			return nil, err
		}
		g.Events = append(g.Events, ev)
	}
	if g.Key != "" {
		g.Sum = sum(g)
	}
	if p.IfNewest == nil {
		return g, nil
	}
	info, err := h.log.Topic(ctx, g.Canonical())
	if err != nil {
		return nil, fmt.Errorf("hub: topic: %w", err)
	}
	g.IfLast = &info.Newest
	if info.NewestID != *p.IfNewest && Position(h.log.Head().Epoch, info.Newest) != *p.IfNewest {
		// The Log must refuse it, as it first looks whether the key was used before.
		g.IfLast = new(uint64(math.MaxUint64))
	}
	return g, nil
}

// sum tells one publication from another under the same key.
func sum(g *Group) [32]byte {
	b, _ := json.Marshal([]any{g.Events, g.Close}) // strings and numbers only
	return sha256.Sum256(b)
}

// checkEvent says what is wrong with an event, and clamps its retry.
func (h *Hub) checkEvent(ev *Event) error {
	ev.Topics = unique(ev.Topics)
	l := h.limits.Load()
	switch n := len(ev.Topics); {
	case n == 0:
		return &RequestError{Problem: ProblemTopic, Field: "topic", Detail: "the event has no topic: name one, as in /events/news or /events?topic=news"}
	case n > l.Topics:
		return &RequestError{Problem: ProblemTooManyTopics, Field: "topic", Detail: fmt.Sprintf("%d topics are more than %d", n, l.Topics)}
	}
	for _, t := range ev.Topics {
		if err := CheckTopic(t); err != nil {
			return &RequestError{Problem: ProblemTopic, Field: "topic", Detail: err.Error()}
		}
	}
	if len(ev.Data) > l.EventSize {
		return &RequestError{Problem: ProblemTooLarge, Field: "data", Detail: fmt.Sprintf("data of %d bytes is more than %d: split it, or publish a link to it", len(ev.Data), l.EventSize)}
	}
	if n := h.log.Limits().Bytes; n > 0 && ev.Size() > n {
		return &RequestError{Problem: ProblemTooLarge, Field: "data", Detail: fmt.Sprintf("an event of %d bytes is more than the log takes, %d: split it, or publish a link to it", ev.Size(), n)}
	}
	if !utf8.ValidString(ev.Data) {
		return &RequestError{Problem: ProblemBody, Field: "data", Detail: "data is not UTF-8: an event stream carries text only; encode other data, as in base64"}
	}
	if err := h.checkName("id", ev.ID, l.IDSize); err != nil {
		return err
	}
	if epoch, _, ok := parsePosition(ev.ID); ok && epoch == h.log.Head().Epoch {
		return &RequestError{Problem: ProblemField, Field: "id", Detail: "the id has the form of this server's own: leave it out, or choose another"}
	}
	if err := h.checkName("type", ev.Type, l.TypeSize); err != nil {
		return err
	}
	if strings.HasPrefix(ev.Type, "tidewire.") {
		return &RequestError{Problem: ProblemField, Field: "type", Detail: "types that begin with \"tidewire.\" are the server's own: choose another"}
	}
	if ev.Retry < 0 {
		return &RequestError{Problem: ProblemField, Field: "retry", Detail: "retry is negative"}
	}
	if ev.Retry > 0 {
		ev.Retry = min(max(ev.Retry, minRetry), maxRetry)
	}
	return nil
}

// checkName says what is wrong with an id or a type. Both go into headers or lines.
func (h *Hub) checkName(field, value string, limit int) error {
	if err := h.checkLength(field, value, limit); err != nil {
		return err
	}
	if !utf8.ValidString(value) {
		return &RequestError{Problem: ProblemField, Field: field, Detail: field + " is not UTF-8"}
	}
	i := strings.IndexFunc(value, func(r rune) bool { return r < ' ' || r == 0x7F })
	if i >= 0 {
		return &RequestError{Problem: ProblemField, Field: field, Detail: fmt.Sprintf("%s has a control character at byte %d, which neither a stream nor a header can carry", field, i)}
	}
	if field == "id" && value != strings.TrimSpace(value) {
		return &RequestError{Problem: ProblemField, Field: field, Detail: "the id begins or ends with a space, which HTTP takes off when a subscriber sends it back"}
	}
	return nil
}

func (h *Hub) checkLength(field, value string, limit int) error {
	if len(value) <= limit {
		return nil
	}
	return &RequestError{Problem: ProblemFieldTooLong, Field: field, Detail: fmt.Sprintf("%s of %d bytes is longer than %d", field, len(value), limit)}
}

// Forget removes a topic's history. Subscribers who had not got all of it are told of
// a gap; the topic lives on. It returns when this hub gives none of it to anyone any more;
// if ctx or the hub ends before that, the history is removed all the same.
func (h *Hub) Forget(ctx context.Context, topic string) error {
	if err := CheckTopic(topic); err != nil {
		return &RequestError{Problem: ProblemTopic, Field: "topic", Detail: err.Error()}
	}
	if _, err := h.append(ctx, &Group{ID: rand.Text(), Forget: topic}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(h.ctx, func() { cancel(ErrShutdown) })()
	if err := h.hot.reach(ctx, h.log.Head().Seq); err != nil {
		return fmt.Errorf("hub: forget: %w", err)
	}
	h.engine.settle(ctx)
	return nil
}

// Topic returns what is known of a topic. One that nobody has named has the zero
// TopicInfo.
func (h *Hub) Topic(ctx context.Context, name string) (TopicInfo, error) {
	if err := CheckTopic(name); err != nil {
		return TopicInfo{}, &RequestError{Problem: ProblemTopic, Field: "topic", Detail: err.Error()}
	}
	return h.log.Topic(ctx, name)
}
