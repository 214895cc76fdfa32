package hub_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
)

// stored returns all events that a log has.
func stored(t testing.TB, log hub.Log) []hub.Event {
	t.Helper()
	var all []hub.Event
	for after := uint64(0); ; {
		page, err := log.Read(t.Context(), hub.Query{Patterns: []string{"**"}, After: after})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Records {
			all = append(all, *r.Event)
		}
		if len(page.Records) == 0 {
			return all
		}
		after = page.Through
	}
}

// wantStored checks what a log has.
func wantStored(t testing.TB, log hub.Log, want ...hub.Event) {
	t.Helper()
	got := stored(t, log)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got events %#v, want %#v", got, want)
	}
}

func TestPOST_Bodies(t *testing.T) {
	const lines = "application/x-ndjson"
	inA := func(ev hub.Event) hub.Event { ev.Topics = []string{"a"}; return ev }
	raw := "  {\"x\" : 1.0,\r\n \"é\":\"<\\u00e9>\"}\n"
	cloud := `{"specversion":"1.0","id":"ce-1","source":"/s","type":"com.example.t","data":{"x":1}}`
	tests := []struct {
		name, contentType, query, body string
		want                           []hub.Event
	}{
		{"text", "text/plain", "", "hello", []hub.Event{inA(hub.Event{Data: "hello"})}},
		{"text with a charset", "text/plain; charset=utf-8", "", "é\n", []hub.Event{inA(hub.Event{Data: "é\n"})}},
		{"text in upper case", "Text/Plain", "", "x", []hub.Event{inA(hub.Event{Data: "x"})}},
		{"HTML", "text/html", "", "<p>\r\n\tx\u2028\x00</p>\n\n", []hub.Event{inA(hub.Event{Data: "<p>\r\n\tx\u2028\x00</p>\n\n"})}},
		{"any other text", "text/x-whatever", "", "x", []hub.Event{inA(hub.Event{Data: "x"})}},
		{"no text", "text/plain", "", "", []hub.Event{inA(hub.Event{})}},
		{"JSON", "application/json", "", raw, []hub.Event{inA(hub.Event{Data: raw})}},
		{"what curl -d sends", "application/x-www-form-urlencoded", "", `{"a":"b c&d=%20+"}`, []hub.Event{inA(hub.Event{Data: `{"a":"b c&d=%20+"}`})}},
		{"no type", "", "", "x=1&y", []hub.Event{inA(hub.Event{Data: "x=1&y"})}},
		{"fields beside it", "text/plain", "type=t&id=i&retry=5000&private=true", "x", []hub.Event{inA(hub.Event{Data: "x", Type: "t", ID: "i", Retry: 5 * time.Second, Private: true})}},
		{"retry with a unit", "text/plain", "retry=1m30s", "x", []hub.Event{inA(hub.Event{Data: "x", Retry: 90 * time.Second})}},
		{"a large retry", "text/plain", "retry=9223372036854775807", "x", []hub.Event{inA(hub.Event{Data: "x", Retry: 24 * time.Hour})}},
		{"not private", "text/plain", "private=0", "x", []hub.Event{inA(hub.Event{Data: "x"})}},
		{"several topics", "text/plain", "topic=b&topic=a&topic=c", "x", []hub.Event{{Topics: []string{"a", "b", "c"}, Data: "x"}}},

		{"lines", lines, "", `{"data":"1"}` + "\n" + `{"data":"2"}` + "\n", []hub.Event{inA(hub.Event{Data: "1"}), inA(hub.Event{Data: "2"})}},
		{"lines with CRLF, empty ones, and no end", lines, "", "\r\n" + `{"data":"1"}` + "\r\n \n\n" + ` {"data":"2"} `, []hub.Event{inA(hub.Event{Data: "1"}), inA(hub.Event{Data: "2"})}},
		{"a line with all fields", lines, "", `{"id":"i","type":"t","data":"x","topics":["b","c"],"retry":2500,"private":true}`,
			[]hub.Event{{Topics: []string{"b", "c"}, ID: "i", Type: "t", Data: "x", Retry: 2500 * time.Millisecond, Private: true}}},
		{"a line with none", lines, "", `{}`, []hub.Event{inA(hub.Event{})}},
		{"a line as another hub tells it", lines, "", `{"id":"i","position":"zzzzzz-1","topics":["a"],"type":"message","data":"x","time":"2026-01-31T12:00:00Z"}`,
			[]hub.Event{inA(hub.Event{ID: "i", Type: "message", Data: "x"})}},
		{"data that is not a string", lines, "", `{"data":{"x": [1.0, null]}}` + "\n" + `{"data":12.50}` + "\n" + `{"data":true}` + "\n" + `{"data":null}` + "\n" + `{"data":[]}`,
			[]hub.Event{inA(hub.Event{Data: `{"x": [1.0, null]}`}), inA(hub.Event{Data: "12.50"}), inA(hub.Event{Data: "true"}), inA(hub.Event{Data: "null"}), inA(hub.Event{Data: "[]"})}},
		{"data with escapes", lines, "", `{"data":"a\nb\u00e9\"<"}`, []hub.Event{inA(hub.Event{Data: "a\nbé\"<"})}},
		{"data with surrogate pairs and what looks like them", lines, "", `{"id":"\uD83D\uDE00","data":"\ud83d\ude00 \\ud800 \\\\ud800 \\\ud83d\ude00"}`,
			[]hub.Event{inA(hub.Event{ID: "😀", Data: `😀 \ud800 \\ud800 \😀`})}},
		{"half a pair in data that is not a string", lines, "", `{"data":{"x":"\ud800","y":"\ud83d\ude00"},"type":"\u00e9"}`,
			[]hub.Event{inA(hub.Event{Type: "é", Data: `{"x":"\ud800","y":"\ud83d\ude00"}`})}},
		{"fields beside the lines are what a line leaves out", lines, "type=t&private=1&retry=1000", `{"data":"1"}` + "\n" + `{"data":"2","type":"u","private":false,"retry":0}`,
			[]hub.Event{inA(hub.Event{Type: "t", Data: "1", Retry: time.Second, Private: true}), inA(hub.Event{Type: "u", Data: "2"})}},

		{"a CloudEvent", "application/cloudevents+json", "", cloud, []hub.Event{inA(hub.Event{ID: "ce-1", Type: "com.example.t", Data: cloud})}},
		{"a CloudEvent with a charset and fields beside it", "application/cloudevents+json; charset=UTF-8", "id=i&type=t", cloud, []hub.Event{inA(hub.Event{ID: "i", Type: "t", Data: cloud})}},
	}
	for _, tt := range tests {
		for _, way := range []string{"query", "headers"} {
			t.Run(tt.name+"/"+way, func(t *testing.T) {
				log := newLog(t, nil)
				s := serve(t, newHub(t, hub.Options{Log: log}))
				path := "/events/a"
				var headers []string
				if tt.contentType != "" {
					headers = append(headers, "Content-Type: "+tt.contentType)
				}
				for field := range strings.SplitSeq(tt.query, "&") {
					name, value, _ := strings.Cut(field, "=")
					switch {
					case name == "":
					case way == "query" || name == "topic": // a topic has no header
						path += map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + field
					default:
						headers = append(headers, "Tidewire-"+name+": "+value)
					}
				}
				method := map[string]string{"query": "POST", "headers": "PUT"}[way]
				got := s.call(method, path, tt.body, headers...)
				if got.StatusCode != http.StatusCreated {
					t.Fatalf("got %s %s", got.Status, got.body)
				}
				wantStored(t, log, tt.want...)
			})
		}
	}
}

func TestPOST_AQueryCountsBeforeAHeader(t *testing.T) {
	log := newLog(t, nil)
	s := serve(t, newHub(t, hub.Options{Log: log}))
	s.call("POST", "/events/a?type=t&id=&private=false", "x", "Tidewire-Type: u", "Tidewire-Id: i", "Tidewire-Private: true")
	wantStored(t, log, hub.Event{Topics: []string{"a"}, Type: "t", Data: "x"})
}

func TestPOST_Answers(t *testing.T) {
	log := newLog(t, nil)
	h := newHub(t, hub.Options{Log: log})
	s := serve(t, h)
	at := func(seq uint64) string { return hub.Position(log.Head().Epoch, seq) }
	tests := []struct {
		name, path, contentType, body string
		status                        int
		want                          string
	}{
		{"one event", "/events/a?topic=b&topic=a", "text/plain", "x", 201, `{"id":"` + at(1) + `","position":"` + at(1) + `","topics":["a","b"]}`},
		{"one with an id", "/events/a?id=own", "text/plain", "x", 201, `{"id":"own","position":"` + at(2) + `","topics":["a"]}`},
		{"a batch", "/events/a", "application/x-ndjson", `{"id":"i"}` + "\n{}\n" + `{"topics":["b","c"]}`, 201,
			`{"count":3,"first":{"id":"i","position":"` + at(3) + `","topics":["a"]},"last":{"id":"` + at(5) + `","position":"` + at(5) + `","topics":["b","c"]}}`},
		{"a batch of one", "/events/a", "application/x-ndjson", "{}", 201,
			`{"count":1,"first":{"id":"` + at(6) + `","position":"` + at(6) + `","topics":["a"]},"last":{"id":"` + at(6) + `","position":"` + at(6) + `","topics":["a"]}}`},
		{"a stream", "/events/a", "text/event-stream", "data: 1\n\nid: x\ndata: 2\n\n", 201,
			`{"count":2,"first":{"id":"` + at(7) + `","position":"` + at(7) + `","topics":["a"]},"last":{"id":"x","position":"` + at(8) + `","topics":["a"]}}`},
		{"a stream without events", "/events/a", "text/event-stream", ": nothing\n\n", 201, `{"count":0}`},
		{"the last event", "/events/z?end=true", "text/plain", "x", 201, `{"id":"` + at(9) + `","position":"` + at(9) + `","topics":["z"]}`},
		{"an end alone", "/events/a?topic=b&end=true", "", "", 200, `{"closed":["a","b"]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := s.call("POST", tt.path, tt.body, "Content-Type: "+tt.contentType)
			if got.StatusCode != tt.status || strings.TrimSpace(got.body) != tt.want {
				t.Errorf("got %s %s, want %d %s", got.Status, got.body, tt.status, tt.want)
			}
			if ct, cc := got.Header.Get("Content-Type"), got.Header.Get("Cache-Control"); ct != "application/json" || cc != "no-store" {
				t.Errorf("got Content-Type %q and Cache-Control %q", ct, cc)
			}
		})
	}
}

// TestPOST_ByteForByte publishes bytes and reads them where the
// representation can carry them all.
func TestPOST_ByteForByte(t *testing.T) {
	h := newHub(t, hub.Options{})
	s := serve(t, h)
	lines := json.NewDecoder(s.open("/events/a", "Accept: application/x-ndjson").Body)
	stream := s.open("/events/a")
	for _, tt := range []struct{ contentType, body, inStream string }{
		{"text/html", "<p>\r\n\té\x00\u2028</p>\r", "<p>\n\té\x00\u2028</p>\n"}, // a stream knows one line break
		{"application/json", " {\"a\" : 1.0 , \"a\":\"\\u00e9\"}\n", " {\"a\" : 1.0 , \"a\":\"\\u00e9\"}\n"},
		{"text/plain", ":\n\nid: 7\ndata: x", ":\n\nid: 7\ndata: x"},
	} {
		if got := s.call("POST", "/events/a", tt.body, "Content-Type: "+tt.contentType); got.StatusCode != http.StatusCreated {
			t.Fatalf("got %s %s", got.Status, got.body)
		}
		var ev struct{ Data string }
		if err := lines.Decode(&ev); err != nil || ev.Data != tt.body {
			t.Errorf("NDJSON: got %q, %v, want %q", ev.Data, err, tt.body)
		}
		if got := stream.next().Data; got != tt.inStream {
			t.Errorf("SSE: got %q, want %q", got, tt.inStream)
		}
	}
}

// TestPOST_AStreamIsRelayedAsItArrives has a subscriber that gets each event while the
// publisher's request is still open.
func TestPOST_AStreamIsRelayedAsItArrives(t *testing.T) {
	for _, method := range []string{"POST", "PUT"} { // the second is curl -T's
		t.Run(method, func(t *testing.T) { relayAsItArrives(t, method) })
	}
}

func relayAsItArrives(t *testing.T, method string) {
	log := newLog(t, nil)
	h := newHub(t, hub.Options{Log: log})
	s := serve(t, h)
	st := s.open("/events/a")
	body, w := io.Pipe()
	type result struct {
		status int
		body   string
	}
	done := make(chan result)
	r := s.request(method, "/events/a?topic=b&type=default&private=false", body, "Content-Type: text/event-stream")
	go func() {
		resp, err := s.Do(r)
		if err != nil {
			done <- result{0, err.Error()}
			return
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		done <- result{resp.StatusCode, string(text)}
	}()
	for i, tt := range []struct{ send, typ, id, data string }{
		{"data: 1\n\n", "default", "", "1"},
		{"retry: 5000\nid: own\nevent: t\ndata: 2\ndata: 2\n\n", "t", "own", "2\n2"},
		{": comment\n\nretry: 10\n\nid: unused\n\ndata: 3\n\n", "default", "unused", "3"}, // the standard: the block's id counts
		{"data: 4\n\n", "default", "", "4"},                                               // not a second "unused"
		{"event: tidewire.gap\nid: gap\ndata: {}\n\ndata: 5\n\n", "default", "", "5"},     // another hub's control event
	} {
		if _, err := io.WriteString(w, tt.send); err != nil {
			t.Fatal(err)
		}
		got := st.next()
		if got.Type != tt.typ || got.Data != tt.data || tt.id != "" && got.ID != tt.id {
			t.Errorf("event %d: got %+v, want type %q, id %q, data %q", i+1, got, tt.typ, tt.id, tt.data)
		}
		if tt.id == "" && !strings.HasPrefix(got.ID, log.Head().Epoch) {
			t.Errorf("event %d: got id %q, want its position", i+1, got.ID)
		}
	}
	_ = w.Close()
	if got := <-done; got.status != http.StatusCreated || !strings.Contains(got.body, `"count":5`) {
		t.Errorf("got %+v, want 201 and 5 events", got)
	}
	for _, ev := range stored(t, log) {
		if !slices.Equal(ev.Topics, []string{"a", "b"}) {
			t.Errorf("got topics %q, want a and b", ev.Topics)
		}
	}
}

// TestPOST_TheRetryOfAStream says which of a relayed stream's retries are its events'.
func TestPOST_TheRetryOfAStream(t *testing.T) {
	const s = time.Second
	tests := []struct {
		name, query, body string
		want              []time.Duration
	}{
		{"none", "", "data\n\ndata\n\n", []time.Duration{0, 0}},
		{"a server's preamble", "", "retry: 3000\ndata\n\ndata\n\n", []time.Duration{0, 0}},
		{"a preamble with CRLF", "", "retry: 3000\r\ndata\r\n\r\n", []time.Duration{0}},
		{"a preamble with CR", "", "retry: 3000\rdata\r\r", []time.Duration{0}},
		{"a preamble without a number", "", "retry:\ndata\n\n", []time.Duration{0}},
		{"a preamble, and an event's own", "", "retry: 3000\nretry: 5000\ndata\n\n", []time.Duration{5 * s}},
		{"a preamble, an id, and an event's own", "", "retry: 3000\nid: 7\n\nretry: 5000\ndata\n\n", []time.Duration{5 * s}},
		{"the first event's, as its second field", "", "event: t\nretry: 5000\ndata\n\n", []time.Duration{5 * s}},
		{"a later event's", "", "data\n\nretry: 5000\ndata\n\ndata\n\n", []time.Duration{0, 5 * s, 0}},
		{"of a block without data", "", "data\n\nretry: 5000\n\ndata\n\n", []time.Duration{0, 0}},
		{"something like it", "", "retry-after: 5\nretry: 5000\ndata\n\n", []time.Duration{5 * s}},
		{"for all", "?retry=2s", "retry: 3000\ndata\n\nretry: 5000\ndata\n\n", []time.Duration{2 * s, 5 * s}},
		{"nothing but a preamble", "", "retry: 3000", nil},
		{"nothing but half of one", "", "ret", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log := newLog(t, nil)
			server := serve(t, newHub(t, hub.Options{Log: log}))
			server.call("POST", "/events/a"+tt.query, tt.body, "Content-Type: text/event-stream")
			var got []time.Duration
			for _, ev := range stored(t, log) {
				got = append(got, ev.Retry)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestPOST_AStreamOutlivesTheServersTimeouts has a publisher that sends an event an
// hour, under synctest.
func TestPOST_AStreamOutlivesTheServersTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog(t, nil)
		s := serveInBubble(t, newHub(t, hub.Options{Log: log}))
		body, w := io.Pipe()
		go func() {
			defer func() { _ = w.Close() }()
			for i := range 5 {
				time.Sleep(time.Hour) // synctest's
				if _, err := fmt.Fprintf(w, "data: %d\n\n", i); err != nil {
					t.Error(err)
				}
			}
		}()
		resp, err := s.Do(s.request("POST", "/events/a", body, "Content-Type: text/event-stream"))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := len(stored(t, log)); resp.StatusCode != http.StatusCreated || got != 5 {
			t.Errorf("got %s and %d events, want 201 and 5", resp.Status, got)
		}
	})
}

// TestPOST_AStreamThatGoesWrong tells how far it came.
func TestPOST_AStreamThatGoesWrong(t *testing.T) {
	tests := []struct {
		name, path, body string
		status           int
		problem          hub.Problem
		count            int
	}{
		{"it breaks off inside an event", "/events/a", "data: 1\n\ndata: 2\n", 400, hub.ProblemBody, 1},
		{"an event is too large", "/events/a", "data: 1\n\ndata: 2\n\ndata: " + strings.Repeat("x", 2000) + "\n\ndata: 4\n\n", 413, hub.ProblemTooLarge, 2},
		{"an id is too long", "/events/a", "data: 1\n\nid: " + strings.Repeat("x", 600) + "\ndata: 2\n\n", 400, hub.ProblemFieldTooLong, 1},
		{"its topic is closed", "/events/closed", "data: 1\n\n", 409, hub.ProblemClosed, 0},
		{"an id for all of them", "/events/a?id=x", "data: 1\n\n", 400, hub.ProblemField, 0},
		{"a key", "/events/a", "data: 1\n\n", 400, hub.ProblemQuery, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log := newLog(t, nil)
			h := newHub(t, hub.Options{Log: log, Limits: hub.RequestLimits{EventSize: 1000}})
			end(t, h, "closed")
			headers := []string{"Content-Type: text/event-stream"}
			if tt.name == "a key" {
				headers = append(headers, "Idempotency-Key: k")
			}
			got := serve(t, h).call("POST", tt.path, tt.body, headers...)
			doc := wantDocument(t, got, tt.status, tt.problem, "*")
			if doc.Count != tt.count || len(stored(t, log)) != tt.count {
				t.Errorf("got count %d and %d stored, want %d", doc.Count, len(stored(t, log)), tt.count)
			}
		})
	}
}

// TestPOST_AHubsOwnStreamCanBePipedIn copies a topic to another of the same hub, as
// curl does with a pipe between two of it.
func TestPOST_AHubsOwnStreamCanBePipedIn(t *testing.T) {
	log := newLog(t, nil)
	h := newHub(t, hub.Options{Log: log})
	s := serve(t, h)
	publish(t, h, event("a", "1"), hub.Event{Topics: []string{"a"}, ID: "own", Data: "2"})
	end(t, h, "a")
	stream := s.call("GET", "/events/a?since=earliest", "").body
	if got := s.call("POST", "/events/b", stream, "Content-Type: text/event-stream"); got.StatusCode != http.StatusCreated {
		t.Fatalf("got %s %s", got.Status, got.body)
	}
	wantStored(t, log, event("a", "1"), hub.Event{Topics: []string{"a"}, ID: "own", Data: "2"},
		event("b", "1"), hub.Event{Topics: []string{"b"}, ID: "own", Data: "2"})
}

func TestPOST_End(t *testing.T) {
	tests := []struct {
		name, path, contentType, body string
		header                        string
		events                        int
		closed                        []string
	}{
		{"with an event", "/events/a?topic=b&end=true", "text/plain", "last", "", 1, []string{"a", "b"}},
		{"in a header", "/events/a", "text/plain", "last", "Tidewire-End: true", 1, []string{"a"}},
		{"alone", "/events/a?end=1", "", "", "", 0, []string{"a"}},
		{"not", "/events/a?end=false", "", "last", "", 1, nil},
		{"with a batch", "/events/a?end=true", "application/x-ndjson", "{}\n" + `{"topics":["c"]}`, "", 2, []string{"a", "c"}},
		{"with an empty batch", "/events/a?end=true", "application/x-ndjson", "\n", "", 0, []string{"a"}},
		{"with a batch that names its topics itself", "/events?end=true", "application/x-ndjson", `{"topics":["c","d"]}`, "", 1, []string{"c", "d"}},
		{"with a CloudEvent", "/events/a?end=true", "application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"s","type":"t"}`, "", 1, []string{"a"}},
		{"with a stream", "/events/a?end=true", "text/event-stream", "data: 1\n\ndata: 2\n\n", "", 2, []string{"a"}},
		{"with an empty stream", "/events/a?end=true", "text/event-stream", "", "", 0, []string{"a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log := newLog(t, nil)
			h := newHub(t, hub.Options{Log: log})
			s := serve(t, h)
			headers := []string{"Content-Type: " + tt.contentType}
			if tt.header != "" {
				headers = append(headers, tt.header)
			}
			if got := s.call("POST", tt.path, tt.body, headers...); got.StatusCode/100 != 2 {
				t.Fatalf("got %s %s", got.Status, got.body)
			}
			if got := len(stored(t, log)); got != tt.events {
				t.Errorf("got %d events, want %d", got, tt.events)
			}
			for _, topic := range []string{"a", "b", "c", "d"} {
				info, err := h.Topic(t.Context(), topic)
				if want := slices.Contains(tt.closed, topic); err != nil || info.Closed != want {
					t.Errorf("topic %s: got closed %v, %v, want %v", topic, info.Closed, err, want)
				}
				if info.Closed {
					wantDocument(t, s.call("POST", "/events/"+topic, "more"), 409, hub.ProblemClosed, "topic")
				}
			}
		})
	}
}

func TestPOST_IdempotencyKey(t *testing.T) {
	log := newLog(t, nil)
	s := serve(t, newHub(t, hub.Options{Log: log}))
	tests := []struct {
		name, path, contentType, body string
		sameAs                        int // the step whose answer it repeats; -1: a new one, -2: 422
	}{
		{"first", "/events/a", "text/plain", "x", -1},
		{"a repeat", "/events/a", "text/plain", "x", 0},
		{"a repeat with another type of text", "/events/a", "text/html", "x", 0},
		{"another body", "/events/a", "text/plain", "y", -2},
		{"another field", "/events/a?type=t", "text/plain", "x", -2},
		{"another topic", "/events/b", "text/plain", "x", -1},
		{"a batch", "/events/c", "application/x-ndjson", "{}\n{}", -1},
		{"the batch again", "/events/c", "application/x-ndjson", "{}\n\n{}\n", 6},
		{"the batch and one more", "/events/c", "application/x-ndjson", "{}\n{}\n{}", -2},
		{"an end", "/events/d?end=true", "", "", -1},
		{"the end again", "/events/d?end=true", "", "", 9},
	}
	var answers []answer
	for _, tt := range tests {
		got := s.call("POST", tt.path, tt.body, "Content-Type: "+tt.contentType, "Idempotency-Key: k")
		answers = append(answers, got)
		replayed := got.Header.Get("Idempotency-Replayed")
		switch tt.sameAs {
		case -2:
			wantDocument(t, got, 422, hub.ProblemKeyReused, "Idempotency-Key")
		case -1:
			if got.StatusCode/100 != 2 || replayed != "" {
				t.Errorf("%s: got %s %s, replayed %q, want a new answer", tt.name, got.Status, got.body, replayed)
			}
		default:
			if first := answers[tt.sameAs]; got.StatusCode != first.StatusCode || got.body != first.body || replayed != "true" {
				t.Errorf("%s: got %s %s, replayed %q, want %s %s, replayed", tt.name, got.Status, got.body, replayed, first.Status, first.body)
			}
		}
	}
	if got := len(stored(t, log)); got != 4 {
		t.Errorf("got %d events, want 4", got)
	}
}

func TestPOST_Conditions(t *testing.T) {
	log := newLog(t, nil)
	s := serve(t, newHub(t, hub.Options{Log: log}))
	at := func(seq uint64) string { return `"` + hub.Position(log.Head().Epoch, seq) + `"` }
	steps := []struct {
		name, path, header string
		problem            hub.Problem // "" if it holds
		field              string
	}{
		{"one that is not there", "/events/a", `If-Match: "x"`, hub.ProblemPrecondition, "If-Match"},
		{"none yet", "/events/a", "If-None-Match: *", "", ""},
		{"none yet any more", "/events/a", "If-None-Match: *", hub.ProblemPrecondition, "If-None-Match"},
		{"the newest", "/events/a?id=own", "If-Match: " + at(1), "", ""},
		{"one before", "/events/a", "If-Match: " + at(1), hub.ProblemPrecondition, "If-Match"},
		{"the newest's own id", "/events/a", `If-Match: "own"`, "", ""},
		{"an empty one on a new topic", "/events/b", `If-Match: ""`, "", ""},
		{"without quotes", "/events/a", "If-Match: own", hub.ProblemQuery, "If-Match"},
		{"with half of them", "/events/a", `If-Match: "`, hub.ProblemQuery, "If-Match"},
		{"any", "/events/a", "If-Match: *", hub.ProblemQuery, "If-Match"},
		{"another If-None-Match", "/events/a", `If-None-Match: "x"`, hub.ProblemQuery, "If-None-Match"},
	}
	for _, tt := range steps {
		before := log.Head().Seq
		got := s.call("POST", tt.path, "x", tt.header)
		if tt.problem == "" {
			if got.StatusCode != http.StatusCreated {
				t.Errorf("%s: got %s %s, want 201", tt.name, got.Status, got.body)
			}
			continue
		}
		status := http.StatusPreconditionFailed
		if tt.problem == hub.ProblemQuery {
			status = http.StatusBadRequest
		}
		wantDocument(t, got, status, tt.problem, tt.field)
		if log.Head().Seq != before {
			t.Errorf("%s: something was stored", tt.name)
		}
	}
	wantDocument(t, s.call("POST", "/events/c", "x", `If-Match: "x"`, "If-None-Match: *"), 400, hub.ProblemQuery, "If-None-Match")
	wantDocument(t, s.call("POST", "/events/a?end=true", "", `If-Match: "x"`), 412, hub.ProblemPrecondition, "If-Match")
	if got := s.call("HEAD", "/events/a", "").Header.Get("Tidewire-Closed"); got != "false" {
		t.Error("a topic was closed on a condition that did not hold")
	}
}

// TestPOST_WhenTheLogCannot says what a publisher is told when nothing is wrong with
// its request.
func TestPOST_WhenTheLogCannot(t *testing.T) {
	t.Parallel() // the hub repeats for a second what the log is not sure of
	tests := []struct {
		err     error
		problem hub.Problem
		status  int
	}{
		{hub.ErrUnavailable, hub.ProblemUnavailable, 503},
		{hub.ErrIndeterminate, hub.ProblemIndeterminate, 503},
		{io.ErrShortWrite, hub.ProblemInternal, 500},
	}
	for _, tt := range tests {
		t.Run(string(tt.problem), func(t *testing.T) {
			log := &spyLog{Log: newLog(t, nil), append: func(*hub.Group) (bool, error) { return false, fmt.Errorf("no: %w", tt.err) }}
			h := newHub(t, hub.Options{Log: log})
			s := serve(t, h)
			got := s.call("POST", "/events/a", "x")
			wantDocument(t, got, tt.status, tt.problem, "")
			if retry := got.Header.Get("Retry-After"); (retry != "") != (tt.status == 503) {
				t.Errorf("got Retry-After %q", retry)
			}
			if strings.Contains(got.body, tt.err.Error()) {
				t.Errorf("got %s, which tells strangers about the inside", got.body)
			}
		})
	}
}

// A document is a problem document.
type document struct {
	Type, Title, Detail, Field string
	Status, Count              int
}

// wantDocument checks that an answer is a problem document. The field "*" is any.
func wantDocument(t testing.TB, got answer, status int, problem hub.Problem, field string) document {
	t.Helper()
	var doc document
	if err := json.Unmarshal([]byte(got.body), &doc); err != nil {
		t.Fatalf("got %s %q, want a problem document", got.Status, got.body)
	}
	if got.StatusCode != status || doc.Status != status || doc.Type != "urn:tidewire:problem:"+string(problem) || field != "*" && doc.Field != field {
		t.Errorf("got %s, want %d, %s and field %q: %s", got.Status, status, problem, field, got.body)
	}
	if ct, cc := got.Header.Get("Content-Type"), got.Header.Get("Cache-Control"); ct != "application/problem+json" || cc != "no-store" {
		t.Errorf("got Content-Type %q and Cache-Control %q", ct, cc)
	}
	if doc.Title == "" || doc.Detail == "" {
		t.Errorf("got %s, which says nothing", got.body)
	}
	return doc
}

// TestPOST_TheKeysLifeIsConfigurable repeats a request when the key is forgotten.
func TestPOST_TheKeysLifeIsConfigurable(t *testing.T) {
	c := &clock{noon}
	log := newLog(t, &memory.Options{Now: c.time, KeyLife: time.Minute})
	s := serve(t, newHub(t, hub.Options{Log: log}))
	for i, after := range []time.Duration{0, time.Minute, 1} {
		c.now = c.now.Add(after)
		if got := s.call("POST", "/events/a", "x", "Idempotency-Key: k"); got.StatusCode != http.StatusCreated {
			t.Fatalf("got %s %s", got.Status, got.body)
		}
		if got, want := len(stored(t, log)), []int{1, 1, 2}[i]; got != want {
			t.Errorf("after %v: got %d events, want %d", after, got, want)
		}
	}
}
