package hub_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
	"github.com/tidewire/tidewire/sse"
)

// TestHTTP_Requests goes through the rows of the interface's first table.
func TestHTTP_Requests(t *testing.T) {
	h := newHub(t, hub.Options{})
	s := serve(t, h)

	one := s.open("/events/news/de")
	many := s.open("/events?topic=a&topic=b&pattern=news/*")
	if got := s.call("POST", "/events/news/de", "1"); got.StatusCode != http.StatusCreated {
		t.Fatalf("publish to one topic: got %s %s", got.Status, got.body)
	}
	if got := s.call("POST", "/events?topic=b&topic=a&topic=news/de", "2"); got.StatusCode != http.StatusCreated {
		t.Fatalf("publish to several: got %s %s", got.Status, got.body)
	}
	if got := s.call("POST", "/events/c?topic=b", "3"); got.StatusCode != http.StatusCreated {
		t.Fatalf("publish to a path and a query: got %s %s", got.Status, got.body)
	}
	if got, want := one.datas(2), "1, 2"; got != want {
		t.Errorf("one topic: got %q, want %q", got, want)
	}
	if got, want := many.datas(3), "1, 2, 3"; got != want {
		t.Errorf("several: got %q, want %q", got, want)
	}
	head := s.call("HEAD", "/events/news/de", "")
	if got := head.Header.Get("Tidewire-Count"); head.StatusCode != http.StatusOK || got != "2" {
		t.Errorf("HEAD: got %s and count %q, want 2", head.Status, got)
	}
	if got := s.call("DELETE", "/events/news/de", ""); got.StatusCode != http.StatusNoContent || got.body != "" {
		t.Errorf("DELETE: got %s %q, want 204", got.Status, got.body)
	}
	if got := s.call("HEAD", "/events/news/de", "").Header.Get("Tidewire-Count"); got != "0" {
		t.Errorf("HEAD after DELETE: got count %q, want 0", got)
	}
}

func TestSSE_Bytes(t *testing.T) {
	log := newLog(t, nil)
	h := newHub(t, hub.Options{Log: log})
	s := serve(t, h)
	publish(t, h,
		hub.Event{Topics: []string{"news"}, ID: "a", Data: "first"},
		hub.Event{Topics: []string{"news"}, ID: "b é", Type: "t", Retry: 5 * time.Second, Data: "{\"x\":\n 1}\n"},
		hub.Event{Topics: []string{"other"}, ID: "c", Data: "foreign"},
		hub.Event{Topics: []string{"news", "other"}, Data: ""},
	)
	st := s.open("/events/news?last=9")
	history := "retry: 3000\n" +
		"id: a\ndata: first\n\n" +
		"event: t\nid: b é\nretry: 5000\ndata: {\"x\":\ndata:  1}\ndata:\n\n" +
		"id: " + hub.Position(log.Head().Epoch, 4) + "\ndata:\n\n"
	if got := st.read(len(history)); got != history {
		t.Errorf("got %q, want %q", got, history)
	}
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no",
		"Content-Length": "", "Vary": "Accept, Accept-Encoding",
	} {
		if got := st.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	publish(t, h, hub.Event{Topics: []string{"news"}, ID: "d", Data: "live"})
	live := "id: d\ndata: live\n\n"
	if got := st.read(len(live)); got != live {
		t.Errorf("got %q, want %q", got, live)
	}
}

// TestSSE_FirstBytesComeAtOnce has a stream on which nothing happens: the browser's
// open event waits for these bytes behind a proxy that buffers.
func TestSSE_FirstBytesComeAtOnce(t *testing.T) {
	for _, tt := range []struct {
		retry time.Duration
		want  string
	}{{0, "retry: 3000\n"}, {1500 * time.Millisecond, "retry: 1500\n"}} {
		s := serve(t, newHub(t, hub.Options{Retry: tt.retry}))
		if got := s.open("/events/quiet").read(len(tt.want)); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestNDJSON_Lines(t *testing.T) {
	east := time.FixedZone("", 2*60*60)
	log := newLog(t, &memory.Options{Now: (&clock{noon.Add(123456789).In(east)}).time})
	h := newHub(t, hub.Options{Log: log})
	s := serve(t, h)
	epoch := log.Head().Epoch
	publish(t, h,
		hub.Event{Topics: []string{"news", "a/b"}, ID: "own", Type: "t", Data: "<b>\"é\"\n</b>"},
		hub.Event{Topics: []string{"news"}},
	)
	st := s.open("/events/news?since=earliest", "Accept: application/x-ndjson")
	want := `{"id":"own","position":"` + epoch + `-1","topics":["news","a/b"],"type":"t","data":"<b>\"é\"\n</b>","time":"2026-01-31T12:00:00.123456789Z"}` + "\n" +
		`{"id":"` + epoch + `-2","position":"` + epoch + `-2","topics":["news"],"type":"message","data":"","time":"2026-01-31T12:00:00.123456789Z"}` + "\n"
	if got := st.read(len(want)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for name, want := range map[string]string{"Content-Type": "application/x-ndjson", "Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept, Accept-Encoding"} {
		if got := st.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	end(t, h, "news")
	if got := st.rest(); got != "" {
		t.Errorf("got %q at the end, want nothing", got)
	}
}

// TestStream_Gap reconnects with ids that cannot be found, in both representations.
func TestStream_Gap(t *testing.T) {
	log := newLog(t, &memory.Options{Retention: hub.RetentionRules{{Pattern: "**", Retention: hub.Retention{Count: 2}}}})
	h := newHub(t, hub.Options{Log: log, HotBytes: 1})
	s := serve(t, h)
	epoch := log.Head().Epoch
	for i := 1; i <= 4; i++ {
		publish(t, h, hub.Event{Topics: []string{"a"}, ID: fmt.Sprint("id", i), Data: fmt.Sprint(i)})
	}
	publish(t, h, event("other", ""))
	// One who gets the newest by its own way knows that the hub has all.
	s.open("/events/other?since=earliest").next()
	tests := []struct{ name, id, reason string }{
		{"unknown", "nobody's é \"quoted\"", "unknown"},
		{"expired position", epoch + "-1", "expired"},
		{"expired id", "id1", "expired"},
		{"another epoch", "zzzzzz-3", "epoch"},
		{"beyond the end", epoch + "-99", "epoch"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resumed := epoch + "-2"
			quoted, _ := json.Marshal(tt.id)
			data := `{"reason":"` + tt.reason + `","requested":` + string(quoted) + `,"resumed":"` + resumed + `"}`

			st := s.open("/events/a", "Last-Event-ID: "+tt.id)
			want := "retry: 3000\nevent: tidewire.gap\nid: " + resumed + "\ndata: " + data + "\n\nid: id3\ndata: 3\n\nid: id4\ndata: 4\n\n"
			if got := st.read(len(want)); got != want {
				t.Errorf("SSE: got %q, want %q", got, want)
			}

			lines := json.NewDecoder(s.open("/events/a", "Last-Event-ID: "+tt.id, "Accept: application/x-ndjson").Body)
			var gap, first struct{ ID, Type, Data string }
			if err := lines.Decode(&gap); err != nil {
				t.Fatal(err)
			}
			if err := lines.Decode(&first); err != nil {
				t.Fatal(err)
			}
			if gap.Type != "tidewire.gap" || gap.Data != data || gap.ID != resumed || first.Data != "3" {
				t.Errorf("NDJSON: got %+v and then %+v, want a gap of %s and then 3", gap, first, data)
			}

			// Its id is where the stream goes on: who comes back with it is told nothing.
			again := s.open("/events/a", "Last-Event-ID: "+resumed)
			if got, want := again.datas(2), "3, 4"; got != want {
				t.Errorf("with the gap's id: got %q, want %q", got, want)
			}
		})
	}
}

func TestStream_ClosedTopic(t *testing.T) {
	for _, accept := range []string{"text/event-stream", "application/x-ndjson"} {
		t.Run(accept, func(t *testing.T) {
			h := newHub(t, hub.Options{})
			s := serve(t, h)
			live := s.open("/events/a", "Accept: "+accept)
			publish(t, h, hub.Event{Topics: []string{"a"}, ID: "1", Data: "first"})
			if got := s.call("POST", "/events/a?end=true&id=2", "last"); got.StatusCode != http.StatusCreated {
				t.Fatalf("got %s %s", got.Status, got.body)
			}
			if got := live.rest(); !strings.Contains(got, "first") || !strings.Contains(got, "last") {
				t.Errorf("live: got %q, want both events and a clean end", got)
			}
			tests := []struct {
				name, path, id string
				want           int
			}{
				{"with everything", "/events/a", "2", http.StatusNoContent},
				{"now", "/events/a", "", http.StatusNoContent},
				{"two closed topics", "/events/a?topic=a&topic=closed", "", http.StatusNoContent},
				{"with one to come", "/events/a", "1", http.StatusOK},
				{"all that is kept", "/events/a?since=earliest", "", http.StatusOK},
				{"an id that nobody knows", "/events/a", "nobody's", http.StatusOK},
			}
			end(t, h, "closed")
			for _, tt := range tests {
				got := s.call("GET", tt.path, "", "Accept: "+accept, "Last-Event-ID: "+tt.id)
				if got.StatusCode != tt.want {
					t.Errorf("%s: got %s, want %d", tt.name, got.Status, tt.want)
				}
				if got.StatusCode == http.StatusOK && !strings.Contains(got.body, "last") {
					t.Errorf("%s: got %q, want the rest", tt.name, got.body)
				}
				if got.Header.Get("Cache-Control") != "no-store" || got.StatusCode == http.StatusNoContent && got.body != "" {
					t.Errorf("%s: got headers %v and %q", tt.name, got.Header, got.body)
				}
			}
		})
	}
}

// TestStream_LostPlaceOfAClosedTopicIsNotTheEnd comes back with an unknown id to a
// closed topic whose history is gone: it has not got everything.
func TestStream_LostPlaceOfAClosedTopicIsNotTheEnd(t *testing.T) {
	h := newHub(t, hub.Options{})
	s := serve(t, h)
	publish(t, h, event("a", "1"))
	end(t, h, "a")
	forget(t, h, "a")
	got := s.call("GET", "/events/a", "", "Last-Event-ID: nobody's")
	if got.StatusCode != http.StatusOK || !strings.Contains(got.body, "tidewire.gap") {
		t.Fatalf("got %s %q, want a gap", got.Status, got.body)
	}
	ev, err := sse.NewDecoder(strings.NewReader(got.body), nil).Next()
	if err != nil {
		t.Fatal(err)
	}
	if got := s.call("GET", "/events/a", "", "Last-Event-ID: "+ev.ID); got.StatusCode != http.StatusNoContent {
		t.Errorf("with the gap's id: got %s, want 204", got.Status)
	}
}

func TestHEAD(t *testing.T) {
	log := newLog(t, nil)
	h := newHub(t, hub.Options{Log: log})
	s := serve(t, h)
	publish(t, h, event("a", "1"), hub.Event{Topics: []string{"a"}, ID: "é 2"}, event("closed", "3"))
	end(t, h, "closed")
	first := hub.Position(log.Head().Epoch, 1)
	third := hub.Position(log.Head().Epoch, 3)
	tests := []struct {
		name, path string
		status     int
		want       map[string]string // headers
	}{
		{"events", "/events/a", 200, map[string]string{
			"Tidewire-Count": "2", "Tidewire-Closed": "false", "Tidewire-Oldest-Id": first, "Tidewire-Newest-Id": "é 2",
			"Content-Type": "text/event-stream", "Cache-Control": "no-store",
		}},
		{"a topic in the query", "/events?topic=a", 200, map[string]string{"Tidewire-Count": "2"}},
		{"a closed topic", "/events/closed", 200, map[string]string{"Tidewire-Count": "1", "Tidewire-Closed": "true", "Tidewire-Newest-Id": third}},
		{"a topic that nobody has named", "/events/nothing", 200, map[string]string{"Tidewire-Count": "0", "Tidewire-Closed": "false", "Tidewire-Oldest-Id": "", "Tidewire-Newest-Id": ""}},
		{"no topic", "/events", 400, map[string]string{"Content-Type": "application/problem+json", "Tidewire-Count": ""}},
		{"two topics", "/events/a?topic=closed", 400, nil},
		{"a pattern", "/events?pattern=*", 400, nil},
		{"elsewhere", "/other", 404, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := s.call("HEAD", tt.path, "")
			if got.StatusCode != tt.status || got.body != "" {
				t.Fatalf("got %s %q, want %d", got.Status, got.body, tt.status)
			}
			for name, want := range tt.want {
				if got := got.Header.Get(name); got != want {
					t.Errorf("%s: got %q, want %q", name, got, want)
				}
			}
		})
	}
}

// TestHTTP_OnlyAStreamStaysOpen has every other method come to its end, whatever a
// subscription would have done with the same URL and headers.
func TestHTTP_OnlyAStreamStaysOpen(t *testing.T) {
	s := serve(t, newHub(t, hub.Options{}))
	for _, method := range []string{"HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "TRACE", "BREW"} {
		for _, path := range []string{"/events/a", "/events?topic=a", "/events?pattern=*", "/events", "/"} {
			for _, accept := range []string{"text/event-stream", "application/x-ndjson"} {
				s.call(method, path, "", "Accept: "+accept, "Last-Event-ID: x")
			}
		}
	}
}

func TestHTTP_OtherMethods(t *testing.T) {
	s := serve(t, newHub(t, hub.Options{}))
	allow := "GET, HEAD, POST, PUT, DELETE, OPTIONS"
	got := s.call("OPTIONS", "/events/a", "")
	if got.StatusCode != http.StatusNoContent || got.Header.Get("Allow") != allow {
		t.Errorf("OPTIONS: got %s and Allow %q, want 204 and %q", got.Status, got.Header.Get("Allow"), allow)
	}
	for _, typ := range []string{"text/*", "application/json", "application/x-ndjson", "text/event-stream", "application/cloudevents+json"} {
		if accept := got.Header.Get("Accept-Post"); !slices.Contains(strings.Split(accept, ", "), typ) {
			t.Errorf("OPTIONS: got Accept-Post %q, want %s in it", accept, typ)
		}
	}
	if got := s.call("PATCH", "/events/a", "x"); got.StatusCode != http.StatusMethodNotAllowed || got.Header.Get("Allow") != allow {
		t.Errorf("PATCH: got %s and Allow %q, want 405 and %q", got.Status, got.Header.Get("Allow"), allow)
	}
}

// TestStream_WhereToBegin has everything that can say it, each beating what follows.
func TestStream_WhereToBegin(t *testing.T) {
	now := time.Now()
	// Five events an hour apart, the last one half an hour ago.
	when := func(i int) time.Time { return now.Add(time.Duration(i-5)*time.Hour - 30*time.Minute) }
	at := func(i int) string { return when(i).UTC().Format(time.RFC3339Nano) }
	plus := strings.Replace(now.Add(-90*time.Minute).In(time.FixedZone("", 7200)).Format(time.RFC3339Nano), "+", "%2B", 1)
	tests := []struct {
		name, query, header string
		want                string // the first event; "" is the next one that comes
	}{
		{"nothing", "", "", ""},
		{"the header", "", "id 3", "4"},
		{"the header before the query", "last_event_id=id+1&since=earliest&last=1", "id 3", "4"},
		{"the query's id", "last_event_id=id+1", "", "2"},
		{"the query's id, percent-encoded", "last_event_id=id%201", "", "2"},
		{"the query's id before since", "last_event_id=id+3&since=earliest&last=5", "", "4"},
		{"an empty query's id is none", "last_event_id=&last=1", "", "5"},
		{"earliest", "since=earliest", "", "1"},
		{"earliest before last", "since=earliest&last=1", "", "1"},
		{"a time", "since=" + at(4), "", "4"},
		{"a time before last", "since=" + at(2) + "&last=1", "", "2"},
		{"a time with an offset", "since=" + plus, "", "4"},
		{"a time with a plus sign", "since=" + strings.Replace(plus, "%2B", "+", 1), "", "4"},
		{"a duration back", "since=2h", "", "4"},
		{"a longer one", "since=200m30s", "", "3"},
		{"no duration", "since=0s", "", ""},
		{"the newest", "last=1", "", "5"},
		{"the newest two", "last=2", "", "4"},
		{"more than there are", "last=1000", "", "1"},
	}
	for _, tt := range tests {
		for _, accept := range []string{"text/event-stream", "application/x-ndjson"} {
			t.Run(tt.name+"/"+accept, func(t *testing.T) {
				c := &clock{}
				h := newHub(t, hub.Options{Log: newLog(t, &memory.Options{Now: c.time})})
				for i := 1; i <= 5; i++ {
					c.now = when(i)
					publish(t, h, hub.Event{Topics: []string{"a"}, ID: fmt.Sprint("id ", i), Data: fmt.Sprint(i)})
				}
				s := serve(t, h)
				headers := []string{"Accept: " + accept}
				if tt.header != "" {
					headers = append(headers, "Last-Event-ID: "+tt.header)
				}
				st := s.open("/events/a?"+tt.query, headers...)
				publish(t, h, event("a", "next"))
				want := tt.want
				if want == "" {
					want = "next"
				}
				if got := firstData(t, st); got != want {
					t.Errorf("got %q first, want %q", got, want)
				}
			})
		}
	}
}

// firstData returns the data of a stream's first event, in either representation.
func firstData(t testing.TB, st *stream) string {
	t.Helper()
	if st.Header.Get("Content-Type") == "text/event-stream" {
		return st.next().Data
	}
	var ev struct{ Data string }
	if err := json.NewDecoder(st.Body).Decode(&ev); err != nil {
		t.Fatal(err)
	}
	return ev.Data
}

// TestHTTP_TopicsArePercentDecodedOnce has topics as they stand in a URL.
func TestHTTP_TopicsArePercentDecodedOnce(t *testing.T) {
	tests := []struct{ url, want string }{
		{"/events/a", "a"},
		{"/events/a/b", "a/b"},
		{"/events/a%2Fb", "a/b"},
		{"/events/a%2fb", "a/b"},
		{"/events/a%252Fb", "a%2Fb"},
		{"/events/a%20b", "a b"},
		{"/events/a+b", "a+b"},
		{"/events/%C3%A9%F0%9F%98%80", "é😀"},
		{"/events/新聞", "新聞"},
		{"/events//a//b/", "/a//b/"},
		{"/events/%2F", "/"},
		{"/events/a/", "a/"},
		{"/events/./../a", "./../a"},
		{"/events/a;b=c&d,e", "a;b=c&d,e"},
		{"/events/a%3Fb%23c", "a?b#c"},
		{"/events/https://example.com/x", "https://example.com/x"},
		{"/events/https%3A%2F%2Fexample.com%2Fx%3Fy=1%23z", "https://example.com/x?y=1#z"},
		{"/events/*", "*"},
		{"/events/events/events", "events/events"},
		{"/events?topic=a", "a"},
		{"/events/?topic=a", "a"},
		{"/events?topic=a/b", "a/b"},
		{"/events?topic=a%2Fb", "a/b"},
		{"/events?topic=a%252Fb", "a%2Fb"},
		{"/events?topic=a%20b+c%2Bd", "a b c+d"},
		{"/events?topic=%C3%A9", "é"},
		{"/events?topic=//a//", "//a//"},
		{"/events?topic=https://example.com/x?y", "https://example.com/x?y"},
		{"/events?topic=https%3A%2F%2Fexample.com%2Fx%3Fy%3D1%26z%23f", "https://example.com/x?y=1&z#f"},
	}
	h := newHub(t, hub.Options{})
	servers := map[string]*server{"": serve(t, h), "/a/hub": serve(t, http.StripPrefix("/a/hub", h))}
	for prefix, s := range servers {
		for _, tt := range tests {
			t.Run(prefix+tt.url, func(t *testing.T) {
				st := s.open(prefix + tt.url)
				got := s.call("POST", prefix+tt.url, "published")
				var receipt struct{ Topics []string }
				if err := json.Unmarshal([]byte(got.body), &receipt); err != nil || !slices.Equal(receipt.Topics, []string{tt.want}) {
					t.Errorf("published to %s, want %q", got.body, tt.want)
				}
				if got := st.next().Data; got != "published" {
					t.Errorf("got %q, want what was published", got)
				}
				if info, err := h.Topic(t.Context(), tt.want); err != nil || info.Count == 0 {
					t.Errorf("topic %q: got %+v, %v", tt.want, info, err)
				}
			})
		}
	}
}

func TestHTTP_Accept(t *testing.T) {
	const (
		stream = "text/event-stream"
		lines  = "application/x-ndjson"
		poll   = "application/json"
		none   = "application/problem+json"
	)
	tests := []struct {
		name   string
		accept []string
		want   string
	}{
		{"nothing", nil, stream},
		{"anything", []string{"*/*"}, stream},
		{"an event stream", []string{"text/event-stream"}, stream},
		{"any text", []string{"text/*"}, stream},
		{"lines", []string{"application/x-ndjson"}, lines},
		{"any application", []string{"application/*"}, lines},
		{"both", []string{"application/x-ndjson, text/event-stream"}, stream},
		{"both in two headers", []string{"application/x-ndjson", "text/event-stream"}, stream},
		{"lines rather", []string{"text/event-stream;q=0.5, application/x-ndjson"}, lines},
		{"lines rather, by a little", []string{"text/event-stream; q=0.998 , application/x-ndjson ;q=0.999"}, lines},
		{"lines rather than anything", []string{"application/x-ndjson, */*;q=0.1"}, lines},
		{"a stream rather", []string{"application/x-ndjson;q=0.1, text/event-stream;q=0.2"}, stream},
		{"in upper case", []string{"APPLICATION/X-NDJSON"}, lines},
		{"with parameters", []string{"application/x-ndjson;charset=utf-8;q=1"}, lines},
		{"a browser's page", []string{"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}, stream},
		{"anything but a stream", []string{"text/event-stream;q=0, */*"}, lines},
		{"anything but lines", []string{"*/*, application/x-ndjson;q=0"}, stream},
		{"a stream as the last resort", []string{"text/event-stream;q=0.1, */*;q=0.2"}, lines},
		{"nothing that there is", []string{"image/png, text/html"}, none},
		{"a stream not at all", []string{"text/event-stream;q=0"}, none},
		{"nothing at all", []string{"*/*;q=0"}, none},
		{"a poll", []string{"application/json"}, poll},
		{"any but a stream and lines", []string{"text/event-stream;q=0, application/x-ndjson;q=0.0, */*"}, poll},
		{"a stream or a poll", []string{"application/json, text/event-stream"}, stream},
		{"none", []string{"text/event-stream;q=0, application/x-ndjson;q=0.0, application/json;q=0, */*"}, none},
	}
	s := serve(t, newHub(t, hub.Options{}))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := s.request("GET", "/events/a", nil)
			r.Header["Accept"] = tt.accept
			resp, err := s.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			if got := resp.Header.Get("Content-Type"); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if tt.want == none && resp.StatusCode != http.StatusNotAcceptable {
				t.Errorf("got %s, want 406", resp.Status)
			}
		})
	}
}

// TestStream_TypesAndPrivacy says what a stream over HTTP leaves out.
func TestStream_TypesAndPrivacy(t *testing.T) {
	h := newHub(t, hub.Options{})
	s := serve(t, h)
	typed := s.open("/events/a?type=t&type=message")
	publish(t, h,
		hub.Event{Topics: []string{"a"}, Type: "u", Data: "1"},
		hub.Event{Topics: []string{"a"}, Type: "t", Data: "2"},
		hub.Event{Topics: []string{"a"}, Type: "t", Data: "private", Private: true},
		event("a", "3"),
	)
	if got, want := typed.datas(2), "2, 3"; got != want {
		t.Errorf("live: got %q, want %q", got, want)
	}
	if got, want := s.open("/events/a?since=earliest").datas(3), "1, 2, 3"; got != want {
		t.Errorf("history: got %q, want %q", got, want)
	}
}

// TestStream_OverHTTP2 has the same over the other protocol.
func TestStream_OverHTTP2(t *testing.T) {
	h := newHub(t, hub.Options{})
	s := serveTLS(t, h)
	st := s.open("/events/a")
	if st.Proto != "HTTP/2.0" {
		t.Fatalf("got %s", st.Proto)
	}
	if got := s.call("POST", "/events/a", "1"); got.StatusCode != http.StatusCreated {
		t.Fatalf("got %s %s", got.Status, got.body)
	}
	if got := st.next().Data; got != "1" {
		t.Errorf("got %q, want 1", got)
	}
	end(t, h, "a")
	if got := st.rest(); got != "" {
		t.Errorf("got %q, want a clean end", got)
	}
}
