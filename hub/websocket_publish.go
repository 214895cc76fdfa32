package hub

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// An ackJSON says that the event of a message is stored, as a POST's answer does.
type ackJSON struct {
	Type string          `json:"type"` // tidewire.ack
	Ref  json.RawMessage `json:"ref,omitempty"`
	*receiptJSON
	Replayed bool `json:"replayed,omitempty"`
}

// A nackJSON says why it is not.
type nackJSON struct {
	Type       string          `json:"type"` // tidewire.nack
	Ref        json.RawMessage `json:"ref,omitempty"`
	Problem    document        `json:"problem"`
	RetryAfter int             `json:"retry_after,omitempty"` // seconds
}

// answer publishes a message, and returns the one that answers it.
func (s *socket) answer(message []byte) []byte {
	message = bytes.TrimSpace(message)
	key, ref, err := s.hub.parseMessage(message)
	if err != nil {
		return nack(ref, err)
	}
	ack, err := s.publish(message, key)
	if err != nil {
		return nack(ref, err)
	}
	ack.Ref = ref
	return jsonBytes(ack)
}

func nack(ref json.RawMessage, err error) []byte {
	e := problemOf(err)
	return jsonBytes(nackJSON{"tidewire.nack", ref, e.document(), e.retrySeconds()})
}

// parseMessage reads what a message has beside its event: an idempotency key, and what the
// answer is to repeat. What is wrong with the JSON itself is left to parseEvent.
func (h *Hub) parseMessage(message []byte) (key string, ref json.RawMessage, err error) {
	var in struct {
		Key *string         `json:"key"`
		Ref json.RawMessage `json:"ref"`
	}
	if len(message) == 0 {
		return "", nil, &RequestError{Problem: ProblemBody, Detail: "the message is empty: send an event as JSON, such as {\"data\":\"hello\"}"}
	}
	wrong := json.Unmarshal(message, &in)
	if limit := h.limits.Load().IDSize; len(in.Ref) > limit {
		return "", nil, &RequestError{Problem: ProblemFieldTooLong, Field: "ref", Detail: fmt.Sprintf("ref of %d bytes is longer than %d", len(in.Ref), limit)}
	}
	var typ *json.UnmarshalTypeError
	if errors.As(wrong, &typ) && typ.Field == "key" {
		return "", in.Ref, &RequestError{Problem: ProblemBody, Field: "key", Detail: "key cannot be a JSON " + typ.Value}
	}
	if in.Key != nil {
		key = *in.Key
	}
	return key, in.Ref, nil
}

// publish stores the event of a message. It is asked for leave each time, as at each POST: so
// what counts and bounds those counts these.
func (s *socket) publish(message []byte, key string) (*ackJSON, error) {
	ev, err := parseEvent(message, Event{Topics: s.topics})
	if err != nil {
		return nil, err
	}
	permit, err := s.hub.authorize(headersOnly(s.header.Clone()), s.request, ActionPublish, &request{topics: ev.Topics}, false)
	if err != nil {
		return nil, err
	}
	defer permit.end()
	p := Publication{Events: []Event{ev}, IdempotencyKey: key}
	if err := permit.mayPublish(&p); err != nil {
		return nil, err
	}
	receipt, err := s.hub.Publish(s.io, p)
	if err != nil {
		return nil, err
	}
	return &ackJSON{Type: "tidewire.ack", receiptJSON: receiptOf(receipt, 0, &ev), Replayed: receipt.Replayed}, nil
}

// headersOnly is what an Authority gets where the answer has been sent: its headers as they
// were, and what is set now comes to nothing.
type headersOnly http.Header

func (h headersOnly) Header() http.Header       { return http.Header(h) }
func (h headersOnly) Write([]byte) (int, error) { return 0, http.ErrHijacked }
func (h headersOnly) WriteHeader(int)           {}
