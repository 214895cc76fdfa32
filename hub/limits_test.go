package hub_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/hub"
)

// TestHTTP_Limits has each limit exactly at its edge, which is allowed, and one beyond.
func TestHTTP_Limits(t *testing.T) {
	const (
		eventSize, batchEvents, batchSize = 200, 5, 1000
		topics, idSize, typeSize          = 4, 20, 15
		headerSize                        = 4000
	)
	limits := hub.RequestLimits{
		EventSize: eventSize, BatchEvents: batchEvents, BatchSize: batchSize,
		Topics: topics, IDSize: idSize, TypeSize: typeSize, HeaderSize: headerSize,
	}
	x := func(n int) string { return strings.Repeat("x", n) }
	// padded fills a JSON object up to a length.
	padded := func(object string, n int) string {
		return strings.Replace(object, "{", "{"+strings.Repeat(" ", n-len(object)), 1)
	}
	named := func(path, name string, n int) string {
		for i := range n {
			path += "&" + name + "=" + fmt.Sprint(name, i)
		}
		if strings.Contains(path, "?") {
			return path
		}
		return strings.Replace(path, "&", "?", 1)
	}
	type request struct {
		method, path, body string
		headers            []string
	}
	post := func(path, typ, body string, headers ...string) request {
		return request{"POST", path, body, append(headers, "Content-Type: "+typ)}
	}
	get := func(path string) request { return request{"GET", path, "", nil} }
	tests := []struct {
		name    string
		edge    int
		make    func(n int) request
		status  int
		problem hub.Problem
		field   string
	}{
		{"an event as text", eventSize, func(n int) request { return post("/events/a", "text/plain", x(n)) }, 413, hub.ProblemTooLarge, ""},
		{"an event as JSON", eventSize, func(n int) request { return post("/events/a", "application/json", `"`+x(n-2)+`"`) }, 413, hub.ProblemTooLarge, ""},
		{"an event from curl -d", eventSize, func(n int) request { return post("/events/a", "application/x-www-form-urlencoded", x(n)) }, 413, hub.ProblemTooLarge, ""},
		{"an event of several bytes a letter", eventSize, func(n int) request {
			return post("/events/a", "text/plain", strings.Repeat("é", n/2)+x(n%2))
		}, 413, hub.ProblemTooLarge, ""},
		{"a CloudEvent", eventSize, func(n int) request {
			return post("/events/a", "application/cloudevents+json", padded(`{"specversion":"1.0","id":"1","source":"s","type":"t"}`, n))
		}, 413, hub.ProblemTooLarge, ""},
		{"an event in a batch", eventSize, func(n int) request { return post("/events/a", "application/x-ndjson", `{"data":"`+x(n)+`"}`) }, 413, hub.ProblemTooLarge, "data"},
		{"an event in a stream", eventSize, func(n int) request { return post("/events/a", "text/event-stream", "data: "+x(n)+"\n\n") }, 413, hub.ProblemTooLarge, "*"},
		{"an event of two lines in a stream", eventSize, func(n int) request {
			return post("/events/a", "text/event-stream", "data: "+x(n/2)+"\ndata: "+x(n-n/2-1)+"\n\n")
		}, 413, hub.ProblemTooLarge, "*"},
		{"events in a batch", batchEvents, func(n int) request { return post("/events/a", "application/x-ndjson", strings.Repeat("{}\n", n)) }, 413, hub.ProblemTooLarge, ""},
		{"bytes of a batch", batchSize, func(n int) request { return post("/events/a", "application/x-ndjson", padded(`{}`, n)) }, 413, hub.ProblemTooLarge, ""},
		{"topics of an event", topics, func(n int) request { return post(named("/events", "topic", n), "text/plain", "") }, 400, hub.ProblemTooManyTopics, "topic"},
		{"topics of an event, one in the path", topics, func(n int) request { return post(named("/events/a", "topic", n-1), "text/plain", "") }, 400, hub.ProblemTooManyTopics, "topic"},
		{"topics of an event in a batch", topics, func(n int) request {
			return post("/events/a", "application/x-ndjson", `{"topics":["1"`+strings.Repeat(`,"x"`, 1)+numberedJSON(n-2)+`]}`)
		}, 400, hub.ProblemTooManyTopics, "topic"},
		{"topics to end", topics, func(n int) request { return post(named("/events", "topic", n)+"&end=true", "text/plain", "") }, 400, hub.ProblemTooManyTopics, "topic"},
		{"topics to subscribe to", topics, func(n int) request { return get(named("/events", "topic", n)) }, 400, hub.ProblemTooManyTopics, "topic"},
		{"patterns to subscribe to", topics, func(n int) request { return get(named("/events", "pattern", n)) }, 400, hub.ProblemTooManyTopics, "topic"},
		{"topics and patterns to subscribe to", topics, func(n int) request { return get(named("/events/a?topic=b", "pattern", n-2)) }, 400, hub.ProblemTooManyTopics, "topic"},
		{"a topic in the path", hub.MaxTopicSize, func(n int) request { return post("/events/"+x(n), "text/plain", "") }, 400, hub.ProblemTopic, "topic"},
		{"a topic in the query", hub.MaxTopicSize, func(n int) request { return get("/events?topic=" + x(n)) }, 400, hub.ProblemTopic, "topic"},
		{"a topic of several bytes a letter", hub.MaxTopicSize, func(n int) request {
			return get("/events/" + url.PathEscape(strings.Repeat("é", n/2)+x(n%2)))
		}, 400, hub.ProblemTopic, "topic"},
		{"a pattern", hub.MaxTopicSize, func(n int) request { return get("/events?pattern=" + x(n-2) + "/*") }, 400, hub.ProblemTopic, "pattern"},
		{"a topic to ask about", hub.MaxTopicSize, func(n int) request { return request{"DELETE", "/events/" + x(n), "", nil} }, 400, hub.ProblemTopic, "topic"},
		{"an id in the query", idSize, func(n int) request { return post("/events/a?id="+x(n), "text/plain", "") }, 400, hub.ProblemFieldTooLong, "id"},
		{"an id in a header", idSize, func(n int) request { return post("/events/a", "text/plain", "", "Tidewire-Id: "+x(n)) }, 400, hub.ProblemFieldTooLong, "id"},
		{"an id in a batch", idSize, func(n int) request { return post("/events/a", "application/x-ndjson", `{"id":"`+x(n)+`"}`) }, 400, hub.ProblemFieldTooLong, "id"},
		{"an id in a stream", idSize, func(n int) request { return post("/events/a", "text/event-stream", "data\nid:"+x(n)+"\n\n") }, 400, hub.ProblemFieldTooLong, "id"},
		{"a CloudEvent's id", idSize, func(n int) request {
			return post("/events/a", "application/cloudevents+json", `{"specversion":"1.0","id":"`+x(n)+`","source":"s","type":"t"}`)
		}, 400, hub.ProblemFieldTooLong, "id"},
		{"a key", idSize, func(n int) request { return post("/events/a", "text/plain", "", "Idempotency-Key: "+x(n)) }, 400, hub.ProblemFieldTooLong, "Idempotency-Key"},
		{"a type", typeSize, func(n int) request { return post("/events/a?type="+x(n), "text/plain", "") }, 400, hub.ProblemFieldTooLong, "type"},
		{"a type in a batch", typeSize, func(n int) request { return post("/events/a", "application/x-ndjson", `{"type":"`+x(n)+`"}`) }, 400, hub.ProblemFieldTooLong, "type"},
		{"URL and headers", headerSize, func(n int) request {
			const others = len("/events/a") + len("User-Agent: x\r\n") + len("X: \r\n")
			return request{"HEAD", "/events/a", "", []string{"User-Agent: x", "X: " + x(n-others)}}
		}, 431, hub.ProblemHeaders, ""},
		{"a URL", headerSize, func(n int) request {
			const others = len("/events/a?type=") + len("User-Agent: x\r\n")
			return request{"HEAD", "/events/a?type=" + x(n-others), "", []string{"User-Agent: x"}}
		}, 431, hub.ProblemHeaders, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // a server lingers for a while where it did not read the body
			log := newLog(t, nil)
			h := newHub(t, hub.Options{Log: log, Limits: limits})
			s := serve(t, h)

			r := tt.make(tt.edge)
			if r.method == "GET" {
				s.open(r.path, r.headers...)
			} else if got := s.call(r.method, r.path, r.body, r.headers...); got.StatusCode/100 != 2 {
				t.Errorf("at the edge: got %s %s, want success", got.Status, got.body)
			}

			before := log.Head()
			r = tt.make(tt.edge + 1)
			got := s.call(r.method, r.path, r.body, r.headers...)
			if r.method == "HEAD" {
				if got.StatusCode != tt.status {
					t.Errorf("beyond it: got %s, want %d", got.Status, tt.status)
				}
			} else {
				wantDocument(t, got, tt.status, tt.problem, tt.field)
			}
			if log.Head() != before {
				t.Error("beyond it: something was stored")
			}
		})
	}
}

// numberedJSON returns n more strings of a JSON array.
func numberedJSON(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"t%d"`, i)
	}
	return b.String()
}

// TestHTTP_DefaultLimits publishes as much as is allowed when nothing is configured.
func TestHTTP_DefaultLimits(t *testing.T) {
	s := serve(t, newHub(t, hub.Options{}))
	large := strings.Repeat("x", hub.DefaultMaxEventSize)
	if got := s.call("POST", "/events/a", large); got.StatusCode != 201 {
		t.Errorf("got %s %s, want an event of 1 MiB to be taken", got.Status, got.body)
	}
	wantDocument(t, s.call("POST", "/events/a", large+"x"), 413, hub.ProblemTooLarge, "")
	batch := strings.Repeat("{}\n", hub.DefaultMaxBatchEvents)
	if got := s.call("POST", "/events/a", batch, "Content-Type: application/x-ndjson"); got.StatusCode != 201 {
		t.Errorf("got %s %s, want a batch of 1,000 events to be taken", got.Status, got.body)
	}
	wantDocument(t, s.call("POST", "/events/a", batch+"{}", "Content-Type: application/x-ndjson"), 413, hub.ProblemTooLarge, "")
	long := strings.Repeat("x", 4000)
	if got := s.call("HEAD", "/events/a", "", "A: "+long, "B: "+long); got.StatusCode != 200 {
		t.Errorf("got %s, want headers of 8 kB to be taken", got.Status)
	}
}
