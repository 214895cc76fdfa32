package main

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestClient_SendsWhatItIsTold(t *testing.T) {
	tests := []struct {
		name         string
		params       object
		method, body string
		header       map[string]string // "" for a header that must not be there
	}{
		{"nothing", nil, "GET", "",
			map[string]string{"Accept": "text/event-stream", "Cache-Control": "no-cache", "Last-Event-Id": ""}},
		{"null is nothing", object{"initialDelayMs": nil, "readTimeoutMs": nil, "lastEventId": nil, "headers": nil, "method": nil, "body": nil},
			"GET", "", nil},
		{"headers", object{"headers": object{"header-name-1": "value-1", "header-name-2": "value-2"}},
			"GET", "", map[string]string{"Header-Name-1": "value-1", "Header-Name-2": "value-2"}},
		{"last event id", object{"lastEventId": "abc"},
			"GET", "", map[string]string{"Last-Event-Id": "abc"}},
		{"POST", object{"method": "POST", "body": `{"hello": "wörld"}`, "headers": object{"content-type": "application/json; charset=utf-8"}},
			"POST", `{"hello": "wörld"}`, map[string]string{"Content-Type": "application/json; charset=utf-8"}},
		{"REPORT", object{"method": "REPORT", "body": "which?"}, "REPORT", "which?", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t)
			h.create(object{"tag": "told", "initialDelayMs": 0})
			h.connect() // its neighbour changes nothing
			h.create(tt.params)
			for range 2 { // the second request is like the first
				conn := h.connect()
				if conn.method != tt.method || conn.body != tt.body {
					t.Errorf("got %s %q, want %s %q", conn.method, conn.body, tt.method, tt.body)
				}
				for name, want := range tt.header {
					if got := strings.Join(conn.header[name], "|"); got != want {
						t.Errorf("got %s %q, want %q", name, got, want)
					}
				}
				conn.send("retry: 0\n")
				conn.end()
			}
		})
	}
}

func TestClient_IsCreatedBeforeItConnects(t *testing.T) {
	h := newHarness(t)
	first := h.create(nil) // returns, and nobody has looked at the request
	second := h.create(nil)
	if first == second {
		t.Errorf("two clients at %s", first)
	}
}

func TestClient_TimesInMilliseconds(t *testing.T) {
	ms := func(n int64) *int64 { return &n }
	tests := []struct {
		name                      string
		p                         clientParams
		reconnectionTime, timeout time.Duration
	}{
		{"nothing means the defaults", clientParams{}, 0, 0},
		{"zero is a value", clientParams{InitialDelayMS: ms(0), ReadTimeoutMS: ms(0)}, -1, 0},
		{"values", clientParams{InitialDelayMS: ms(250), ReadTimeoutMS: ms(500)}, 250 * time.Millisecond, 500 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := tt.p.options()
			if o.ReconnectionTime != tt.reconnectionTime || o.IdleTimeout != tt.timeout {
				t.Errorf("got %v and %v, want %v and %v", o.ReconnectionTime, o.IdleTimeout, tt.reconnectionTime, tt.timeout)
			}
		})
	}
}

func TestClient_TellsEverythingInOrder(t *testing.T) {
	h := newHarness(t)
	h.create(nil)
	conn := h.connect()
	conn.send(":\n:two words \n: \"\n\ndata: first\n\nid: 7\ndata:  <a>\ndata: b\n\ndata\n\n")
	h.wantRaw(1, `{"kind":"comment","comment":""}`)
	h.wantRaw(2, `{"kind":"comment","comment":"two words "}`)
	h.wantRaw(3, `{"kind":"comment","comment":" \""}`)
	h.wantRaw(4, `{"kind":"event","event":{"type":"message","data":"first","id":""}}`)
	h.wantRaw(5, `{"kind":"event","event":{"type":"message","data":" \u003ca\u003e\nb","id":"7"}}`)
	c := h.next(6)
	if want := `{"kind":"event","event":{"type":"message","data":"","id":"7"}}`; c.raw != want {
		t.Errorf("got %s, want %s", c.raw, want)
	}
	if typ := c.header.Get("Content-Type"); c.method != "POST" || typ != "application/json" {
		t.Errorf("got %s %s, want POST application/json", c.method, typ)
	}
	conn.end()
	h.wantError(7, "ended")
	h.connect().send("data: second\n\n")
	h.wantRaw(8, `{"kind":"event","event":{"type":"message","data":"second","id":"7"}}`)
}

func TestClient_CountsOnItsOwn(t *testing.T) {
	h := newHarness(t)
	for range 3 {
		location := h.create(nil)
		conn := h.connect()
		conn.send("data: one\n\ndata: two\n\n")
		h.wantData(1, "one")
		h.wantData(2, "two")
		h.want(http.StatusNoContent, "DELETE", location, nil)
	}
}

// The stream goes on while the harness takes its time, and nothing gets lost.
func TestClient_SlowHarnessGetsAll(t *testing.T) {
	const events = 2000
	h := newHarness(t)
	h.create(nil)
	conn := h.connect()
	for range events / 10 {
		conn.send(strings.Repeat("data: many\n\n", 10))
	}
	conn.send("data: last\n\n")
	conn.end()
	second := h.connect() // the client is done with the first: all of it is in the queue
	second.send("data: next\n\n")
	for n := range events {
		h.wantData(n+1, "many")
	}
	h.wantData(events+1, "last")
	h.wantError(events+2, "ended")
	h.wantData(events+3, "next")
}

func TestClient_TellsLargeEvents(t *testing.T) {
	const size = 14_000_000
	h := newHarness(t)
	h.create(nil)
	conn := h.connect()
	data := strings.Repeat("0123456789abcde", size/15+1)[:size]
	conn.send("data: " + data[:size/2])
	conn.send(data[size/2:] + "\n\ndata: small\n\n")
	c := h.next(1)
	if c.msg.Event == nil || c.msg.Event.Data != data {
		t.Fatalf("got a body of %d bytes, %.100s, want the event as it was sent", len(c.raw), c.raw)
	}
	h.wantData(2, "small")
}

func TestClient_GoesOnAfterARefusedCallback(t *testing.T) {
	h := newHarness(t)
	h.create(object{"tag": "refused"})
	conn := h.connect()
	conn.send("data: one\n\ndata: two\n\n")
	h.nextAnswer(1, http.StatusInternalServerError)
	h.wantData(2, "two")
	line := receive(t, h.logged, "a line in the log")
	for _, want := range []string{`"refused"`, "callback 1", h.callbackURL + "/1", "500"} {
		if !strings.Contains(line, want) {
			t.Errorf("got log line %q, want %q in it", line, want)
		}
	}
}

func TestClient_SaysThatTheHarnessIsGone(t *testing.T) {
	h := newHarness(t)
	h.create(object{"callbackUrl": "http://127.0.0.1:1/nobody"})
	h.connect().send("data: one\n\n")
	line := receive(t, h.logged, "a line in the log")
	if want := "http://127.0.0.1:1/nobody/1"; !strings.Contains(line, want) {
		t.Errorf("got log line %q, want %q in it", line, want)
	}
}

func TestClient_CallbackURLMayHaveASlashAndAQuery(t *testing.T) {
	h := newHarness(t)
	h.create(object{"callbackUrl": h.callbackURL + "/?token=1"})
	h.connect().send("data: one\n\n")
	h.wantData(1, "one")
}

func TestClient_ListensToTypes(t *testing.T) {
	h := newHarness(t)
	location := h.create(nil)
	conn := h.connect()
	conn.send("event: greeting\ndata: unheard\n\ndata: plain\n\n")
	h.wantData(1, "plain")
	for _, typ := range []string{"greeting", "greeting", "message", " spaced"} {
		h.want(http.StatusNoContent, "POST", location, object{"command": "listen", "listen": object{"type": typ}})
	}
	conn.send("event: greeting\ndata: heard\n\nevent: other\ndata: unheard\n\ndata: plain\n\nevent:  spaced\ndata: too\n\n")
	h.wantRaw(2, `{"kind":"event","event":{"type":"greeting","data":"heard","id":""}}`)
	h.wantRaw(3, `{"kind":"event","event":{"type":"message","data":"plain","id":""}}`)
	h.wantRaw(4, `{"kind":"event","event":{"type":" spaced","data":"too","id":""}}`)
	conn.end()
	h.wantError(5, "ended")
	h.connect().send("event: greeting\ndata: again\n\n")
	h.wantData(6, "again")
}

func TestClient_RestartReconnects(t *testing.T) {
	restart := object{"command": "restart"}
	h := newHarness(t)
	location := h.create(object{"initialDelayMs": 3_600_000})
	first := h.connect() // without an answer yet
	h.want(http.StatusNoContent, "POST", location, restart)
	receive(t, first.gone, "the end of the connection")

	second := h.connect()
	second.send("id: abc\ndata: hello\n\n")
	h.wantData(1, "hello")
	h.want(http.StatusNoContent, "POST", location, restart)
	receive(t, second.gone, "the end of the connection")

	third := h.connect()
	if got := third.header.Get("Last-Event-Id"); got != "abc" {
		t.Errorf("got Last-Event-ID %q, want abc", got)
	}
	third.send("retry: 3600000\n")
	third.end()
	h.wantError(2, "ended") // a restart is none
	h.want(http.StatusNoContent, "POST", location, restart)
	h.connect().send("data: thanks\n\n") // an hour early
	h.wantData(3, "thanks")
}

func TestClient_RestartAfterTheEndDoesNothing(t *testing.T) {
	h := newHarness(t)
	location := h.create(nil)
	h.connect().refuse(http.StatusNoContent, nil)
	h.wantError(1, "204")
	receive(t, h.svc.client(strings.TrimPrefix(location, "/clients/")).source.Done(), "the end of the source")
	h.want(http.StatusNoContent, "POST", location, object{"command": "restart"})
	h.want(http.StatusNoContent, "DELETE", location, nil)
}

func TestClient_ReconnectsAfterFaults(t *testing.T) {
	tests := []struct {
		name  string
		fault func(*connection)
	}{
		{"end", (*connection).end},
		{"end inside an event", func(c *connection) { c.send("id: def\ndata: half"); c.end() }},
		{"truncated chunk", (*connection).cut},
		{"reset", (*connection).reset},
		{"silence", func(*connection) {}},
		{"silence inside an event", func(c *connection) { c.send("id: def\ndata: half") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t)
			h.create(object{"readTimeoutMs": 500})
			first := h.connect()
			first.send("id: abc\ndata: hello\n\n")
			h.wantData(1, "hello")
			tt.fault(first)
			h.wantError(2, "")
			second := h.connect()
			if got := second.header.Get("Last-Event-Id"); got != "abc" {
				t.Errorf("got Last-Event-ID %q, want abc", got)
			}
			second.send("data: again\n\n")
			h.wantRaw(3, `{"kind":"event","event":{"type":"message","data":"again","id":"abc"}}`)
		})
	}
}

func TestClient_ReadTimeoutBeforeTheHeaders(t *testing.T) {
	h := newHarness(t)
	h.create(object{"readTimeoutMs": 50})
	receive(t, h.connect().gone, "the end of the connection")
	h.wantError(1, "IdleTimeout")
	h.connect()
}

func TestClient_FinalAnswers(t *testing.T) {
	tests := []struct {
		name   string
		status int
		header http.Header
		want   string
	}{
		{"204", http.StatusNoContent, nil, "204"},
		{"404", http.StatusNotFound, nil, "404"},
		{"503", http.StatusServiceUnavailable, nil, "503"},
		{"no stream", http.StatusOK, http.Header{"Content-Type": {"text/plain"}}, "text/plain"},
		{"301 without Location", http.StatusMovedPermanently, nil, "301"},
		{"301 with an empty one", http.StatusMovedPermanently, http.Header{"Location": {""}}, "301"},
		{"307 without Location", http.StatusTemporaryRedirect, nil, "307"},
		{"307 with an empty one", http.StatusTemporaryRedirect, http.Header{"Location": {""}}, "307"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t)
			location := h.create(nil)
			h.connect().refuse(tt.status, tt.header)
			h.wantError(1, tt.want)
			receive(t, h.svc.client(strings.TrimPrefix(location, "/clients/")).source.Done(), "the end of the source")
			h.want(http.StatusNoContent, "DELETE", location, nil)
		})
	}
}

func TestClient_FollowsRedirects(t *testing.T) {
	h := newHarness(t)
	h.create(nil)
	h.connect().refuse(http.StatusTemporaryRedirect, http.Header{"Location": {h.streamURL + "/elsewhere"}})
	h.connect().send("data: hello\n\n")
	h.wantData(1, "hello")
}
