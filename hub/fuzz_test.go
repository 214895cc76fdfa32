package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
	"github.com/tidewire/tidewire/sse"
)

// The fuzz targets call the handler without a socket, for speed.

// callHandler serves a request of which nothing but the parts given matters.
func callHandler(t testing.TB, h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatal(err)
	}
	r := (&http.Request{
		Method: method, URL: u, RequestURI: target, Host: "x", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header), Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}).WithContext(t.Context())
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// wantNoFault checks that an answer is not the server's own mistake, and that an error
// is explained.
func wantNoFault(t testing.TB, w *httptest.ResponseRecorder, allowed ...int) {
	t.Helper()
	if !slices.Contains(allowed, w.Code) {
		t.Fatalf("got %d %s, want one of %d", w.Code, w.Body, allowed)
	}
	if w.Code < 400 {
		return
	}
	var doc document
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || doc.Status != w.Code || doc.Detail == "" || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Fatalf("got %d %q, %v, want a problem document", w.Code, w.Body, err)
	}
}

// FuzzPublishBody publishes any body of any type: what is accepted is delivered, and
// decodes to what was stored, in both representations.
func FuzzPublishBody(f *testing.F) {
	for _, seed := range []struct{ contentType, body string }{
		{"text/plain", "hello"},
		{"text/html; charset=utf-8", "<p>\r\n\x00\u2028</p>\r"},
		{"", "a=b&c"},
		{"application/x-www-form-urlencoded", "{}"},
		{"application/json", `{"a":[1,null,"\ud83d\ude00"]}`},
		{"application/x-ndjson", `{"id":"i","type":"t","data":"x","topics":["b","c"],"retry":2500,"private":true}` + "\n{}\n" + `{"data":{"x":1}}`},
		{"application/x-ndjson", `{"topics":["a","b"],"data":"\r\n\r"}` + "\r\n\n" + `{"id":"é 1","data":null}`},
		{"application/x-ndjson", `{"retry":1e300}`},
		{"application/x-ndjson", `{"data":"\ud800"}`},
		{"application/x-ndjson", `{"data":{"x":"\ud800"},"id":"\ud83d\ude00\\ud800","type":"\\\ud83d\ude00"}`},
		{"application/x-ndjson", `{"\udead":"x","data":"\\\\ud800","topics":["\ud83d"]}`},
		{"text/event-stream", "retry: 3000\r\nid: 1\r\n\r\nretry: 5\rdata\r\r"},
		{"text/event-stream", "retry: 10\nid: 1\nevent: t\ndata: a\ndata: b\n\nid\ndata\n\n:x\r\rdata: \ufeff\r\n\r\n"},
		{"text/event-stream", "\ufeffevent: tidewire.gap\nid: x\ndata: {}\n\ndata: 1\n\ndata: 2"},
		{"text/event-stream", "id: zzzzzz-1\ndata: \xff\n\n"},
		{"application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":"\u0000"}`},
		{"multipart/form-data; boundary=x", "--x--"},
		{"text/;", ""},
	} {
		f.Add(seed.contentType, seed.body)
	}
	f.Fuzz(func(t *testing.T, contentType, body string) {
		log, err := memory.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = log.Close() }()
		h, err := hub.New(&hub.Options{Log: log, Limits: hub.RequestLimits{EventSize: 10_000, BatchEvents: 50, BatchSize: 20_000, HeaderSize: 1 << 20}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = h.Shutdown(context.Background()) }()

		w := callHandler(t, h, "POST", "/events/a", body, "Content-Type: "+contentType)
		wantNoFault(t, w, 201, 400, 413, 415)
		kept := stored(t, log)
		typ, _, _ := mime.ParseMediaType(contentType)
		if w.Code != 201 && len(kept) > 0 && typ != "text/event-stream" {
			t.Fatalf("got %d %s, and %d events stored", w.Code, w.Body, len(kept))
		}

		const replacement = "\ufffd"
		if typ == "application/x-ndjson" && !strings.Contains(body, replacement) && !strings.Contains(strings.ToLower(body), `\ufffd`) {
			for _, ev := range kept {
				if text := ev.ID + ev.Type + ev.Data + strings.Join(ev.Topics, ""); strings.Contains(text, replacement) {
					t.Fatalf("got %+v, where something was replaced", ev)
				}
			}
		}

		// Everything of each topic, to its end.
		for _, topic := range topicsOf(kept) {
			end(t, h, topic)
			target := "/events?since=earliest&topic=" + url.QueryEscape(topic)
			frames := callHandler(t, h, "GET", target, "")
			lines := callHandler(t, h, "GET", target, "", "Accept: application/x-ndjson")
			public := slices.DeleteFunc(slices.Clone(kept), func(ev hub.Event) bool { return ev.Private || !slices.Contains(ev.Topics, topic) })
			if len(public) == 0 {
				wantNoFault(t, frames, 204)
				wantNoFault(t, lines, 204)
				continue
			}
			text, begun := strings.CutPrefix(frames.Body.String(), "retry: 3000\n")
			if !begun {
				t.Fatalf("got %d %q, want a stream", frames.Code, text)
			}
			decoder, objects := sse.NewDecoder(strings.NewReader(text), nil), json.NewDecoder(lines.Body)
			for _, ev := range public {
				want := sse.Event{ID: ev.ID, Type: ev.Type, Data: strings.ReplaceAll(strings.ReplaceAll(ev.Data, "\r\n", "\n"), "\r", "\n"), Retry: ev.Retry}
				if want.Type == "" {
					want.Type = "message"
				}
				got, err := decoder.Next()
				if want.ID == "" {
					want.ID = got.ID // its position
				}
				if err != nil || got != want {
					t.Fatalf("got %+v, %v, want %+v", got, err, want)
				}
				var object struct {
					ID, Type, Data string
					Topics         []string
				}
				if err := objects.Decode(&object); err != nil {
					t.Fatal(err)
				}
				if object.ID != want.ID || object.Type != want.Type || object.Data != ev.Data || !slices.Equal(object.Topics, ev.Topics) {
					t.Fatalf("got %+v, want %+v", object, ev)
				}
			}
			if got, err := decoder.Next(); err != io.EOF {
				t.Fatalf("got %+v, %v after the last event", got, err)
			}
		}
	})
}

func topicsOf(events []hub.Event) []string {
	var all []string
	for _, ev := range events {
		all = append(all, ev.Topics...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// FuzzTopic uses any text as a topic, in the path and in the query: it is one everywhere,
// and the same, or nowhere.
func FuzzTopic(f *testing.F) {
	for _, seed := range []string{
		"a", "a/b", "//", "/", ".", "../a", "a%2Fb", "a b+c", "é😀", "https://example.com/x?y=1#z", "*", "a/**", "\x00", "a\n", "\x7f", "\u0085", "\xff", "",
		strings.Repeat("x", 1024), strings.Repeat("x", 1025), "\u2028", "\ufffd", "a;b", "a&topic=b", " ", "%",
	} {
		f.Add(seed)
	}
	log := newLog(f, &memory.Options{Retention: hub.RetentionRules{{Pattern: "**", Retention: hub.Retention{Count: 1}}}})
	h := newHub(f, hub.Options{Log: log})
	f.Fuzz(func(t *testing.T, topic string) {
		ok := topic != "" && len(topic) <= 1024 && utf8.ValidString(topic) && strings.IndexFunc(topic, unicode.IsControl) < 0
		if err := hub.CheckTopic(topic); (err == nil) != ok {
			t.Fatalf("got %v, want ok %v", err, ok)
		}
		for _, target := range []string{
			"/events/" + url.PathEscape(topic),
			"/events/" + strings.ReplaceAll(url.PathEscape(topic), "%2F", "/"),
			"/events?topic=" + url.QueryEscape(topic),
		} {
			w := callHandler(t, h, "POST", target, "x")
			if !ok {
				wantNoFault(t, w, 400)
				wantNoFault(t, callHandler(t, h, "GET", target, ""), 400)
				continue
			}
			wantNoFault(t, w, 201)
			var receipt struct {
				ID     string
				Topics []string
			}
			if err := json.Unmarshal(w.Body.Bytes(), &receipt); err != nil || !slices.Equal(receipt.Topics, []string{topic}) {
				t.Fatalf("got %s, %v, want topic %q", w.Body, err, topic)
			}
			head := callHandler(t, h, "HEAD", target, "")
			if got := head.Header().Get("Tidewire-Newest-Id"); got != receipt.ID {
				t.Fatalf("got newest %q, want %q", got, receipt.ID)
			}
		}
	})
}

// FuzzPattern compares the match of any pattern with what a pattern means, and with what
// a log and a subscriber get by it.
func FuzzPattern(f *testing.F) {
	for _, seed := range []struct{ pattern, topic string }{
		{"a", "a"}, {"*", "a"}, {"*", "a/b"}, {"**", "a/b"}, {"a/**", "a"}, {"a/*/b", "a//b"}, {"*/**", "a"}, {"a/*/**", "a/b/c"},
		{"a*", "a*"}, {"**/a", "a"}, {"/", "/"}, {"//*", "//"}, {"a/b/**", "a"}, {"*/*/*", "//"}, {"", ""}, {"a/***", "a/***"},
	} {
		f.Add(seed.pattern, seed.topic)
	}
	f.Fuzz(func(t *testing.T, pattern, topic string) {
		segments := strings.Split(pattern, "/")
		ok := hub.CheckTopic(pattern) == nil
		for i, s := range segments {
			if strings.Contains(s, "*") && s != "*" && (s != "**" || i < len(segments)-1) {
				ok = false
			}
		}
		if err := hub.CheckPattern(pattern); (err == nil) != ok {
			t.Fatalf("got %v, want ok %v", err, ok)
		}
		if !ok || hub.CheckTopic(topic) != nil {
			return
		}
		want := matches(segments, strings.Split(topic, "/"))
		if got := hub.Match(pattern, topic); got != want {
			t.Fatalf("Match(%q, %q): got %v, want %v", pattern, topic, got, want)
		}
		log, err := memory.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = log.Close() }()
		if _, err := log.Append(t.Context(), &hub.Group{Events: []hub.Event{event("z z z", "")}}); err != nil {
			t.Fatal(err)
		}
		if _, err := log.Append(t.Context(), &hub.Group{Events: []hub.Event{{Topics: []string{topic}}}}); err != nil {
			t.Fatal(err)
		}
		page, err := log.Read(t.Context(), hub.Query{Patterns: []string{pattern}, After: 1})
		if err != nil || (len(page.Records) == 1) != want {
			t.Fatalf("the log: got %d events, %v, want it there: %v", len(page.Records), err, want)
		}
	})
}

// FuzzLastEventID resumes from any id: it is found, or there is a gap whose id is found.
func FuzzLastEventID(f *testing.F) {
	for _, seed := range []string{
		"", "own", "é", "nobody's", "zzzzzz-1", "EPOCH-0", "EPOCH-1", "EPOCH-3", "EPOCH-4", "EPOCH-99", "EPOCH-01", "EPOCH-", "-1", "EPOCH-1-1",
		"EPOCH-18446744073709551615", "EPOCH-18446744073709551616", "EPOCH-+1", " EPOCH-1", "\xff\x00\n", "a\"b\\", strings.Repeat("x", 5000),
	} {
		f.Add(seed)
	}
	log := newLog(f, &memory.Options{Retention: hub.RetentionRules{{Pattern: "**", Retention: hub.Retention{Count: 2}}}})
	h := newHub(f, hub.Options{Log: log, HotBytes: 1})
	for i, id := range []string{"own", "", "é", ""} {
		publish(f, h, hub.Event{Topics: []string{"a"}, ID: id, Data: fmt.Sprint(i + 1)})
	}
	end(f, h, "a")
	epoch := log.Head().Epoch
	f.Fuzz(func(t *testing.T, id string) {
		id = strings.ReplaceAll(id, "EPOCH", epoch)
		for _, headers := range [][]string{{"Last-Event-ID: " + id}, nil} {
			target := "/events/a"
			if headers == nil {
				target += "?last_event_id=" + url.QueryEscape(id)
			}
			w := callHandler(t, h, "GET", target, "", headers...)
			wantNoFault(t, w, 200, 204)
			if w.Code == 204 {
				if id != "" && id != hub.Position(epoch, 4) && id != hub.Position(epoch, 5) {
					t.Fatalf("got 204 for %q, which has not got everything", id)
				}
				continue
			}
			decoder := sse.NewDecoder(w.Body, nil)
			first, err := decoder.Next()
			if err != nil {
				t.Fatal(err)
			}
			if first.Type != "tidewire.gap" {
				continue
			}
			var gap struct{ Reason, Requested, Resumed string }
			if err := json.Unmarshal([]byte(first.Data), &gap); err != nil || gap.Resumed != first.ID {
				t.Fatalf("got %+v, %v, want a gap", first, err)
			}
			if want := strings.ToValidUTF8(id, "\ufffd"); utf8.ValidString(id) && gap.Requested != want {
				t.Fatalf("got %q, want requested %q", gap.Requested, want)
			}
			again := callHandler(t, h, "GET", target, "", "Last-Event-ID: "+first.ID)
			if strings.Contains(again.Body.String(), "tidewire.gap") || !strings.Contains(again.Body.String(), "data: 4\n") {
				t.Fatalf("from the gap's id: got %q, want the rest", again.Body)
			}
		}
		// The same through Go.
		for _, err := range h.Subscribe(t.Context(), from(topics("a"), hub.Start{LastEventID: id})) {
			var gap *hub.GapError
			if err != nil && !errors.As(err, &gap) {
				t.Fatal(err)
			}
		}
	})
}
