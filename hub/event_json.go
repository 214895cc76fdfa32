package hub

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// parseLines reads a batch: one JSON event a line. What a line leaves out comes from
// the request.
func parseLines(body []byte, proto Event) ([]Event, error) {
	var events []Event
	n := 0
	for line := range bytes.Lines(body) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		ev, err := parseEvent(line, proto)
		if err != nil {
			var e *RequestError
			if errors.As(err, &e) {
				e.Detail = fmt.Sprintf("line %d: %s; nothing was stored", n, e.Detail)
			}
			return nil, err
		}
		events = append(events, ev)
	}
	return events, nil
}

// parseEvent reads an event as JSON.
func parseEvent(b []byte, proto Event) (Event, error) {
	if !utf8.Valid(b) { // which the JSON package would replace
		return Event{}, &RequestError{Problem: ProblemBody, Field: "data", Detail: "this is not UTF-8"}
	}
	if ev, ok := parsePlain(b, proto); ok {
		return ev, nil
	}
	return parseJSON(b, proto)
}

// parseJSON is parseEvent for what is not written plainly.
func parseJSON(b []byte, proto Event) (Event, error) {
	var in struct {
		ID      *string         `json:"id"`
		Type    *string         `json:"type"`
		Data    json.RawMessage `json:"data"`
		Topics  []string        `json:"topics"`
		Retry   *float64        `json:"retry"` // in milliseconds
		Private *bool           `json:"private"`
	}
	if b[0] != '{' {
		return Event{}, &RequestError{Problem: ProblemBody, Detail: "this is not an event as JSON: an object such as {\"data\":\"hello\"}"}
	}
	if err := json.Unmarshal(b, &in); err != nil {
		var typ *json.UnmarshalTypeError
		if errors.As(err, &typ) && typ.Field != "" {
			return Event{}, &RequestError{Problem: ProblemBody, Field: typ.Field, Detail: typ.Field + " cannot be a JSON " + typ.Value}
		}
		return Event{}, &RequestError{Problem: ProblemBody, Detail: "this is not an event as JSON: " + err.Error()}
	}
	if field, ok := loneSurrogate(b, in.Data); ok {
		return Event{}, &RequestError{Problem: ProblemBody, Field: field, Detail: "a \\u escape stands for half of a UTF-16 surrogate pair, which no text has: write both, or the character itself"}
	}
	ev := proto
	if in.ID != nil {
		ev.ID = *in.ID
	}
	if in.Type != nil {
		ev.Type = *in.Type
	}
	if in.Topics != nil {
		ev.Topics = in.Topics
	}
	if in.Private != nil {
		ev.Private = *in.Private
	}
	if in.Retry != nil {
		var err error
		if ev.Retry, err = parseRetry(strconv.FormatFloat(*in.Retry, 'f', 0, 64)); err != nil {
			return Event{}, err
		}
	}
	ev.Data = textOf(in.Data)
	return ev, nil
}

// textOf returns the text of a JSON string, and any other value as its JSON text.
func textOf(value json.RawMessage) string {
	if len(value) == 0 || value[0] != '"' {
		return string(value)
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : len(value)-1])
	}
	var text string
	if json.Unmarshal(value, &text) != nil {
		return string(value) // not reached: it was parsed before
	}
	return text
}

// loneSurrogate tells whether a text in an event as JSON has half of a UTF-16 pair, where
// the JSON package would put U+FFFD, and in which field, if that is data. Data that is not
// a string is kept as it is written, with all that is in it.
func loneSurrogate(object, data []byte) (field string, ok bool) {
	inData := loneSurrogates(data)
	if inData > 0 && data[0] == '"' {
		return "data", true
	}
	return "", loneSurrogates(object) > inData
}

// loneSurrogates counts the \u escapes in valid JSON that are half of a pair.
func loneSurrogates(b []byte) (n int) {
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 {
			return n
		}
		const escape = len(`\ud800`)
		b = b[i:]
		switch r := escaped(b); {
		case !utf16.IsSurrogate(r):
			b = b[len(`\\`):] // or more, which has no backslash
		case utf16.DecodeRune(r, escaped(b[escape:])) != utf8.RuneError:
			b = b[2*escape:]
		default:
			b = b[escape:]
			n++
		}
	}
}

// escaped returns the rune of a \u escape at the beginning of b, -1 if there is none.
func escaped(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}

// parseCloudEvent takes a CloudEvent in the JSON format, whole, as the data. Its id and
// type are the event's unless the request names others.
func parseCloudEvent(body []byte, proto Event) ([]Event, error) {
	var in struct {
		SpecVersion string `json:"specversion"`
		ID          string `json:"id"`
		Source      string `json:"source"`
		Type        string `json:"type"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, &RequestError{Problem: ProblemBody, Detail: "this is not a CloudEvent in the JSON format: " + err.Error()}
	}
	for _, f := range []struct{ name, value string }{{"specversion", in.SpecVersion}, {"id", in.ID}, {"source", in.Source}, {"type", in.Type}} {
		if f.value == "" {
			return nil, &RequestError{Problem: ProblemBody, Field: f.name, Detail: "a CloudEvent must have " + f.name}
		}
	}
	if in.SpecVersion != "1.0" {
		return nil, &RequestError{Problem: ProblemBody, Field: "specversion", Detail: "the version of CloudEvents known here is 1.0, not " + quote(in.SpecVersion)}
	}
	if proto.ID == "" {
		proto.ID = in.ID
	}
	if proto.Type == "" {
		proto.Type = in.Type
	}
	proto.Data = string(body)
	return []Event{proto}, nil
}
