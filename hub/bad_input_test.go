package hub_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/hub"
)

// TestHTTP_BadInput has every mistake that a request can make: each has its own clear
// answer, and stores nothing.
func TestHTTP_BadInput(t *testing.T) {
	const (
		lines = "Content-Type: application/x-ndjson"
		cloud = "Content-Type: application/cloudevents+json"
		text  = "Content-Type: text/plain"
		relay = "Content-Type: text/event-stream"
	)
	many := strings.Repeat("&topic=x", 0)
	for i := range 101 {
		many += fmt.Sprint("&topic=t", i)
	}
	tests := []struct {
		name, method, path string
		headers            []string
		body               string
		status             int
		problem            hub.Problem
		field              string
	}{
		// Where it goes to.
		{"elsewhere", "GET", "/", nil, "", 404, hub.ProblemNotFound, ""},
		{"almost there", "GET", "/event/a", nil, "", 404, hub.ProblemNotFound, ""},
		{"almost there too", "POST", "/eventsa", nil, "x", 404, hub.ProblemNotFound, ""},
		{"in upper case", "GET", "/Events/a", nil, "", 404, hub.ProblemNotFound, ""},
		{"its slash encoded", "GET", "/events%2Fa", nil, "", 404, hub.ProblemNotFound, ""},
		{"a method that there is not", "QUERY", "/events/a", []string{text}, "x", 405, hub.ProblemMethod, ""},
		{"another", "PATCH", "/events/a", nil, "x", 405, hub.ProblemMethod, ""},
		{"a method of no one", "BREW", "/events/a", nil, "", 405, hub.ProblemMethod, ""},
		{"another page", "POST", "/events/a", []string{"Origin: https://evil.example", text}, "x", 403, hub.ProblemOrigin, "Origin"},
		{"headers too large", "POST", "/events/a", []string{"X: " + strings.Repeat("x", 40_000)}, "x", 431, hub.ProblemHeaders, ""},

		// Topics and patterns.
		{"no topic to subscribe to", "GET", "/events", nil, "", 400, hub.ProblemTopic, "topic"},
		{"no topic behind the slash", "GET", "/events/", nil, "", 400, hub.ProblemTopic, "topic"},
		{"an empty topic", "GET", "/events?topic=", nil, "", 400, hub.ProblemTopic, "topic"},
		{"a topic that is not UTF-8", "GET", "/events/%FF", nil, "", 400, hub.ProblemTopic, "topic"},
		{"a topic with a line break", "GET", "/events/a%0Ab", nil, "", 400, hub.ProblemTopic, "topic"},
		{"a topic with a NUL", "GET", "/events?topic=a%00", nil, "", 400, hub.ProblemTopic, "topic"},
		{"a topic too long", "GET", "/events/" + strings.Repeat("x", 1025), nil, "", 400, hub.ProblemTopic, "topic"},
		{"too many topics", "GET", "/events?" + many[1:], nil, "", 400, hub.ProblemTooManyTopics, "topic"},
		{"a pattern with ** in the middle", "GET", "/events?pattern=**/a", nil, "", 400, hub.ProblemTopic, "pattern"},
		{"a pattern with * in a segment", "GET", "/events?pattern=a*", nil, "", 400, hub.ProblemTopic, "pattern"},
		{"an empty pattern", "GET", "/events/a?pattern=", nil, "", 400, hub.ProblemTopic, "pattern"},
		{"a query that cannot be parsed", "GET", "/events?topic=%zz", nil, "", 400, hub.ProblemQuery, ""},
		{"a query with a semicolon", "GET", "/events?topic=a;b", nil, "", 400, hub.ProblemQuery, ""},
		{"no topic to publish to", "POST", "/events", []string{text}, "x", 400, hub.ProblemTopic, "topic"},
		{"no topic to publish a batch to", "POST", "/events", []string{lines}, "{}", 400, hub.ProblemTopic, "topic"},
		{"no topic to publish a stream to", "POST", "/events", []string{relay}, "data\n\n", 400, hub.ProblemTopic, "topic"},
		{"an empty topic to publish to", "POST", "/events/a?topic=", []string{text}, "x", 400, hub.ProblemTopic, "topic"},
		{"a bad topic among good ones", "POST", "/events/a?topic=b&topic=%01", []string{text}, "x", 400, hub.ProblemTopic, "topic"},
		{"too many topics to publish to", "POST", "/events?" + many[1:], []string{text}, "x", 400, hub.ProblemTooManyTopics, "topic"},
		{"a pattern to publish to", "POST", "/events?pattern=a/*", []string{text}, "x", 400, hub.ProblemTopic, "pattern"},
		{"nothing to forget", "DELETE", "/events", nil, "", 400, hub.ProblemTopic, "topic"},
		{"two things to forget", "DELETE", "/events/a?topic=b", nil, "", 400, hub.ProblemTopic, "topic"},
		{"a pattern to forget", "DELETE", "/events/a?pattern=*", nil, "", 400, hub.ProblemTopic, "topic"},
		{"a bad topic to forget", "DELETE", "/events/%00", nil, "", 400, hub.ProblemTopic, "topic"},
		{"nothing to end", "POST", "/events?end=true", nil, "", 400, hub.ProblemTopic, "topic"},
		{"a bad topic to end", "POST", "/events/%00?end=true", nil, "", 400, hub.ProblemTopic, "topic"},

		// What a subscriber asks for.
		{"since nonsense", "GET", "/events/a?since=yesterday", nil, "", 400, hub.ProblemQuery, "since"},
		{"since a negative duration", "GET", "/events/a?since=-5s", nil, "", 400, hub.ProblemQuery, "since"},
		{"since a number", "GET", "/events/a?since=12345", nil, "", 400, hub.ProblemQuery, "since"},
		{"the last none", "GET", "/events/a?last=0", nil, "", 400, hub.ProblemQuery, "last"},
		{"the last fewer than none", "GET", "/events/a?last=-1", nil, "", 400, hub.ProblemQuery, "last"},
		{"the last many too many", "GET", "/events/a?last=99999999999999999999", nil, "", 400, hub.ProblemQuery, "last"},
		{"the last word", "GET", "/events/a?last=one", nil, "", 400, hub.ProblemQuery, "last"},
		{"a heartbeat of another kind", "GET", "/events/a?heartbeat=yes", nil, "", 400, hub.ProblemQuery, "heartbeat"},
		{"a representation that there is not", "GET", "/events/a", []string{"Accept: image/png"}, "", 406, hub.ProblemNotAcceptable, "Accept"},

		// Bodies.
		{"an image", "POST", "/events/a", []string{"Content-Type: image/png"}, "x", 415, hub.ProblemMediaType, "Content-Type"},
		{"a form with files", "POST", "/events/a", []string{"Content-Type: multipart/form-data; boundary=x"}, "x", 415, hub.ProblemMediaType, "Content-Type"},
		{"another JSON", "POST", "/events/a", []string{"Content-Type: application/problem+json"}, "{}", 415, hub.ProblemMediaType, "Content-Type"},
		{"a batch of CloudEvents", "POST", "/events/a", []string{"Content-Type: application/cloudevents-batch+json"}, "[]", 415, hub.ProblemMediaType, "Content-Type"},
		{"no type at all", "POST", "/events/a", []string{"Content-Type: /"}, "x", 415, hub.ProblemMediaType, "Content-Type"},
		{"half a type", "POST", "/events/a", []string{"Content-Type: text"}, "x", 415, hub.ProblemMediaType, "Content-Type"},
		{"text that is not UTF-8", "POST", "/events/a", []string{text}, "\xff", 400, hub.ProblemBody, "data"},
		{"JSON that is not UTF-8", "POST", "/events/a", []string{"Content-Type: application/json"}, "\"\xff\"", 400, hub.ProblemBody, "data"},
		{"a batch of nothing", "POST", "/events/a", []string{lines}, "\n \n", 400, hub.ProblemBody, ""},
		{"a line that is not JSON", "POST", "/events/a", []string{lines}, "{}\nhello\n", 400, hub.ProblemBody, ""},
		{"a line that is cut off", "POST", "/events/a", []string{lines}, "{}\n{\"data\":", 400, hub.ProblemBody, ""},
		{"a line with two events", "POST", "/events/a", []string{lines}, "{}{}", 400, hub.ProblemBody, ""},
		{"a line with an array", "POST", "/events/a", []string{lines}, "[{}]", 400, hub.ProblemBody, ""},
		{"a line with a number", "POST", "/events/a", []string{lines}, "1", 400, hub.ProblemBody, ""},
		{"a line with null", "POST", "/events/a", []string{lines}, "null", 400, hub.ProblemBody, ""},
		{"an event over several lines", "POST", "/events/a", []string{lines}, "{\n}", 400, hub.ProblemBody, ""},
		{"an id that is a number", "POST", "/events/a", []string{lines}, `{"id":1}`, 400, hub.ProblemBody, "id"},
		{"a type that is a number", "POST", "/events/a", []string{lines}, `{"type":1}`, 400, hub.ProblemBody, "type"},
		{"topics that are one", "POST", "/events/a", []string{lines}, `{"topics":"b"}`, 400, hub.ProblemBody, "topics"},
		{"private that is a word", "POST", "/events/a", []string{lines}, `{"private":"yes"}`, 400, hub.ProblemBody, "private"},
		{"retry that is a word", "POST", "/events/a", []string{lines}, `{"retry":"5"}`, 400, hub.ProblemBody, "retry"},
		{"retry before now", "POST", "/events/a", []string{lines}, `{"retry":-5}`, 400, hub.ProblemField, "retry"},
		{"no topics in a line", "POST", "/events/a", []string{lines}, `{"topics":[]}`, 400, hub.ProblemTopic, "topic"},
		{"a bad topic in the last line", "POST", "/events/a", []string{lines}, "{}\n{}\n" + `{"topics":["b","\n"]}`, 400, hub.ProblemTopic, "topic"},
		{"a bad id in the last line", "POST", "/events/a", []string{lines}, "{}\n" + `{"id":"\u0000"}`, 400, hub.ProblemField, "id"},
		{"data in a line that is not UTF-8", "POST", "/events/a", []string{lines}, "{\"data\":[\"\xff\"]}", 400, hub.ProblemBody, "data"},
		{"half a surrogate pair in data", "POST", "/events/a", []string{lines}, "{}\n" + `{"data":"a\ud800b"}`, 400, hub.ProblemBody, "data"},
		{"the other half", "POST", "/events/a", []string{lines}, `{"data":"\uDC00"}`, 400, hub.ProblemBody, "data"},
		{"two halves of other pairs", "POST", "/events/a", []string{lines}, `{"data":"\ud83d\ud83d\ude00"}`, 400, hub.ProblemBody, "data"},
		{"half a pair, and the other as text", "POST", "/events/a", []string{lines}, `{"data":"\ud83d\\ude00"}`, 400, hub.ProblemBody, "data"},
		{"half a pair in an id", "POST", "/events/a", []string{lines}, `{"id":"\ud800","data":["\ud800"]}`, 400, hub.ProblemBody, ""},
		{"half a pair in a topic", "POST", "/events/a", []string{lines}, `{"topics":["b","\udfff"],"data":{}}`, 400, hub.ProblemBody, ""},
		{"a string in a line that is not UTF-8", "POST", "/events/a", []string{lines}, "{\"data\":\"\xff\"}", 400, hub.ProblemBody, "data"},
		{"a CloudEvent that is not JSON", "POST", "/events/a", []string{cloud}, "hello", 400, hub.ProblemBody, ""},
		{"a CloudEvent that is nothing", "POST", "/events/a", []string{cloud}, "", 400, hub.ProblemBody, ""},
		{"a CloudEvent without a version", "POST", "/events/a", []string{cloud}, `{"id":"1","source":"s","type":"t"}`, 400, hub.ProblemBody, "specversion"},
		{"a CloudEvent of another version", "POST", "/events/a", []string{cloud}, `{"specversion":"0.3","id":"1","source":"s","type":"t"}`, 400, hub.ProblemBody, "specversion"},
		{"a CloudEvent without an id", "POST", "/events/a", []string{cloud}, `{"specversion":"1.0","source":"s","type":"t"}`, 400, hub.ProblemBody, "id"},
		{"a CloudEvent without a source", "POST", "/events/a", []string{cloud}, `{"specversion":"1.0","id":"1","type":"t"}`, 400, hub.ProblemBody, "source"},
		{"a CloudEvent without a type", "POST", "/events/a", []string{cloud}, `{"specversion":"1.0","id":"1","source":"s"}`, 400, hub.ProblemBody, "type"},
		{"a CloudEvent with a bad id", "POST", "/events/a", []string{cloud}, `{"specversion":"1.0","id":"1\n","source":"s","type":"t"}`, 400, hub.ProblemField, "id"},

		// Fields beside the data.
		{"an id with a line break", "POST", "/events/a?id=a%0Ab", []string{text}, "x", 400, hub.ProblemField, "id"},
		{"an id with a space before it", "POST", "/events/a?id=%20a", []string{text}, "x", 400, hub.ProblemField, "id"},
		{"an id that is not UTF-8", "POST", "/events/a?id=%FF", []string{text}, "x", 400, hub.ProblemField, "id"},
		{"an id too long", "POST", "/events/a?id=" + strings.Repeat("x", 513), []string{text}, "x", 400, hub.ProblemFieldTooLong, "id"},
		{"a type with a line break", "POST", "/events/a?type=a%0D", []string{text}, "x", 400, hub.ProblemField, "type"},
		{"a type of ours", "POST", "/events/a?type=tidewire.gap", []string{text}, "x", 400, hub.ProblemField, "type"},
		{"a type too long", "POST", "/events/a?type=" + strings.Repeat("x", 513), []string{text}, "x", 400, hub.ProblemFieldTooLong, "type"},
		{"a retry that is no time", "POST", "/events/a?retry=soon", []string{text}, "x", 400, hub.ProblemField, "retry"},
		{"a retry before now", "POST", "/events/a?retry=-1", []string{text}, "x", 400, hub.ProblemField, "retry"},
		{"a retry with a fraction", "POST", "/events/a", []string{text, "Tidewire-Retry: 1.5"}, "x", 400, hub.ProblemField, "retry"},
		{"private in another word", "POST", "/events/a?private=yes", []string{text}, "x", 400, hub.ProblemQuery, "private"},
		{"an end in another word", "POST", "/events/a?end=now", []string{text}, "x", 400, hub.ProblemQuery, "end"},
		{"a key too long", "POST", "/events/a", []string{text, "Idempotency-Key: " + strings.Repeat("x", 513)}, "x", 400, hub.ProblemFieldTooLong, "Idempotency-Key"},
		{"a condition without quotes", "POST", "/events/a", []string{text, "If-Match: x"}, "x", 400, hub.ProblemQuery, "If-Match"},
		{"a condition that is not known", "POST", "/events/a", []string{text, `If-None-Match: "x"`}, "x", 400, hub.ProblemQuery, "If-None-Match"},
		{"two conditions", "POST", "/events/a", []string{text, `If-Match: "x"`, "If-None-Match: *"}, "x", 400, hub.ProblemQuery, "If-None-Match"},
		{"a condition that does not hold", "POST", "/events/a", []string{text, `If-Match: "x"`}, "x", 412, hub.ProblemPrecondition, "If-Match"},
		{"a closed topic", "POST", "/events/closed", []string{text}, "x", 409, hub.ProblemClosed, "topic"},
		{"a closed topic among others", "POST", "/events/a?topic=closed", []string{lines}, "{}\n" + `{"topics":["b"]}`, 409, hub.ProblemClosed, "topic"},

		// Streams.
		{"a stream with a key", "POST", "/events/a", []string{relay, "Idempotency-Key: k"}, "data\n\n", 400, hub.ProblemQuery, "Idempotency-Key"},
		{"a stream with a condition", "POST", "/events/a", []string{relay, `If-Match: "x"`}, "data\n\n", 400, hub.ProblemQuery, "If-Match"},
		{"a stream with one id", "POST", "/events/a?id=x", []string{relay}, "data\n\n", 400, hub.ProblemField, "id"},
		{"a stream of nothing but half an event", "POST", "/events/a", []string{relay}, "data: 1\n", 400, hub.ProblemBody, ""},
		{"a stream to a closed topic", "POST", "/events/closed", []string{relay}, "data\n\n", 409, hub.ProblemClosed, "topic"},
	}
	log := newLog(t, nil)
	h := newHub(t, hub.Options{Log: log})
	end(t, h, "closed")
	s := serve(t, h)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := log.Head()
			got := s.call(tt.method, tt.path, tt.body, tt.headers...)
			wantDocument(t, got, tt.status, tt.problem, tt.field)
			if after := log.Head(); after != before {
				t.Errorf("something was stored: got head %+v, want %+v as before", after, before)
			}
			if allow := got.Header.Get("Allow"); (allow != "") != (tt.status == 405) {
				t.Errorf("got Allow %q", allow)
			}
			if accept := got.Header.Get("Accept-Post"); (accept != "") != (tt.status == 415) {
				t.Errorf("got Accept-Post %q", accept)
			}
		})
	}
}

// TestHTTP_ABodyThatBreaksOff stores nothing of it.
func TestHTTP_ABodyThatBreaksOff(t *testing.T) {
	for _, typ := range []string{"text/plain", "application/json", "application/x-ndjson", "application/cloudevents+json", "text/event-stream"} {
		t.Run(typ, func(t *testing.T) {
			log := newLog(t, nil)
			s := serve(t, newHub(t, hub.Options{Log: log}))
			conn := s.dial()
			conn.write("POST /events/a HTTP/1.1\r\nHost: x\r\nContent-Type: " + typ + "\r\nContent-Length: 100\r\n\r\n{}\n{}\n")
			conn.closeWrite()
			conn.drain()
			if got := stored(t, log); len(got) != 0 {
				t.Errorf("got %+v, want nothing stored", got)
			}
		})
	}
}
