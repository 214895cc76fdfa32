package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tidewire/tidewire/hub"
)

const (
	maxRefusalDetail = 500 // bytes
	maxGrantLife     = 100 * 365 * 24 * time.Hour
)

// A verdict is an application's answer that counts.
type verdict struct {
	subject     string
	permissions Permissions
	expires     time.Time         // zero: never
	refusal     *hub.RequestError // nil: granted
	size        int               // bytes of the answer
}

// grant returns what is granted, and no more than inner has.
func (v *verdict) grant(inner *hub.Grant) *hub.Grant {
	g := v.permissions.grant(v.subject, "the application", v.expires, nil)
	g.Narrow = true
	if inner == nil {
		return g
	}
	g.Credential = inner.Credential
	g.Subscribe = intersect(inner.Subscribe, g.Subscribe)
	g.Publish = intersect(inner.Publish, g.Publish)
	g.Private = intersect(inner.Private, g.Private)
	g.Delete = intersect(inner.Delete, g.Delete)
	g.Admin = g.Admin && inner.Admin
	if inner.Subject != "" {
		g.Subject = inner.Subject
	}
	if g.Expires.IsZero() || !inner.Expires.IsZero() && inner.Expires.Before(g.Expires) {
		g.Expires = inner.Expires
	}
	return g
}

// readAnswer reads an answer; errors are *askError.
func readAnswer(resp *http.Response, body []byte, q *question, now time.Time) (*verdict, error) {
	switch resp.StatusCode {
	case http.StatusOK, http.StatusNoContent:
		v, err := readGrant(body, q, now)
		if err != nil {
			return nil, &askError{reason: "its answer cannot be read: " + err.Error()}
		}
		return v, nil
	case http.StatusUnauthorized:
		return refusedBy(resp, body, hub.RequestError{
			Problem:   hub.ProblemUnauthorized,
			Detail:    "the application does not accept the credentials, or misses them: log in there, and send what it gives out",
			Challenge: challenge,
		}), nil
	case http.StatusForbidden:
		return refusedBy(resp, body, hub.RequestError{Problem: hub.ProblemForbidden, Detail: "the application does not allow this: ask it for permission, or for something else"}), nil
	}
	return nil, &askError{
		reason: fmt.Sprintf("it answers with status %d, which is none of 200, 204, 401 and 403", resp.StatusCode),
		retry:  retryAfter(resp.Header, now),
	}
}

func readGrant(body []byte, q *question, now time.Time) (*verdict, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return &verdict{permissions: q.permissions()}, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return nil, errors.New("it is not a JSON object")
	}
	if len(members) == 0 {
		return &verdict{permissions: q.permissions()}, nil
	}
	var answer struct {
		Permissions
		Subject   string     `json:"subject"`
		Expires   *time.Time `json:"expires"`
		ExpiresIn *int64     `json:"expires_in"`
	}
	if err := decodeStrict(body, &answer); err != nil {
		return nil, err
	}
	if err := errors.Join(answer.Check(), checkSubject(answer.Subject)); err != nil {
		return nil, err
	}
	v := &verdict{subject: answer.Subject, permissions: answer.Permissions, size: len(body)}
	if answer.Expires != nil {
		v.expires = *answer.Expires
	}
	if in := answer.ExpiresIn; in != nil {
		if *in <= 0 || *in > int64(maxGrantLife/time.Second) {
			return nil, fmt.Errorf("expires_in is %d, which must be a number of seconds from 1", *in)
		}
		if at := now.Add(time.Duration(*in) * time.Second); answer.Expires == nil || at.Before(v.expires) {
			v.expires = at
		}
	}
	if (answer.Expires != nil || answer.ExpiresIn != nil) && !v.expires.After(now) {
		return nil, errors.New("it has expired: compare the clocks of both machines")
	}
	return v, nil
}

// permissions are those that a question is about. A topic that is a pattern too, such as *,
// cannot be granted without what it matches, and is left out.
func (q *question) permissions() Permissions {
	var asked []string
	for _, topic := range q.Topics {
		if hub.CheckTopic(topic) == nil && !strings.Contains(topic, "*") {
			asked = append(asked, topic)
		}
	}
	for _, pattern := range q.Patterns {
		if hub.CheckPattern(pattern) == nil {
			asked = append(asked, pattern)
		}
	}
	switch q.action {
	case hub.ActionSubscribe, hub.ActionDescribe:
		return Permissions{Subscribe: asked}
	case hub.ActionPublish:
		return Permissions{Publish: asked}
	case hub.ActionDelete:
		return Permissions{Delete: asked}
	}
	return Permissions{}
}

// refusedBy returns a refusal, in the application's words if it has some.
func refusedBy(resp *http.Response, body []byte, e hub.RequestError) *verdict {
	if detail := refusalDetail(resp.Header.Get("Content-Type"), body); detail != "" {
		e.Detail = "the application refuses: " + detail
	}
	return &verdict{refusal: &e, size: len(body)}
}

// refusalDetail returns what an application has to say, in one line.
func refusalDetail(contentType string, body []byte) string {
	var text string
	switch typ, _, _ := mime.ParseMediaType(contentType); typ {
	case "application/problem+json":
		var document struct {
			Detail string `json:"detail"`
		}
		if json.Unmarshal(body, &document) != nil {
			return ""
		}
		text = document.Detail
	case "text/plain":
		text = string(body[:min(len(body), 2*maxRefusalDetail)])
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= maxRefusalDetail {
		return text
	}
	end := maxRefusalDetail - len("…")
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// retryAfter returns when to ask again (RFC 9110, section 10.2.3), 0 if the answer does not
// say.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	after := time.Duration(0)
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		after = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		after = at.Sub(now)
	} else {
		return 0
	}
	return min(max(after, time.Second), maxRetryAfter)
}

// decodeStrict reads the one JSON value that a text has, without fields that are not known.
func decodeStrict(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is more after the object")
	}
	return nil
}
