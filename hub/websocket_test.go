package hub_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
	daemon "github.com/tidewire/tidewire/server"
)

// newSocketHub returns a hub that speaks WebSocket.
func newSocketHub(t testing.TB, opts hub.Options) *hub.Hub {
	t.Helper()
	opts.WebSocket = daemon.WebSocket(nil)
	return newHub(t, opts)
}

// A message is one that a socket gets.
type message struct {
	ID, Position, Type, Data string
	Topics                   []string
	Ref                      json.RawMessage
	Replayed                 bool
	Problem                  *document
	RetryAfter               int `json:"retry_after"`
}

// String tells what it is: an event's data, or the type and what belongs to it.
func (m message) String() string {
	switch m.Type {
	case "tidewire.ack":
		return fmt.Sprintf("ack %s", m.Ref)
	case "tidewire.nack":
		return fmt.Sprintf("nack %s %s", m.Ref, strings.TrimPrefix(m.Problem.Type, "urn:tidewire:problem:"))
	case "tidewire.gap", "tidewire.error":
		return m.Type + " " + m.Data
	}
	return m.Data
}

// A socket is a client's WebSocket.
type socket struct {
	t   testing.TB
	ctx context.Context
	*websocket.Conn
}

// socket opens a WebSocket. Headers are "Name: value".
func (s *server) socket(path string, headers ...string) *socket {
	s.t.Helper()
	conn, resp, err := s.tryWebSocket(path, headers...)
	if err != nil {
		s.t.Fatalf("GET %s: %v, %v", path, err, resp)
	}
	return conn
}

func (s *server) tryWebSocket(path string, headers ...string) (*socket, *http.Response, error) {
	r := s.request("GET", path, nil, headers...)
	conn, resp, err := websocket.Dial(r.Context(), s.url+path, &websocket.DialOptions{HTTPClient: s.Client, HTTPHeader: r.Header})
	if err != nil {
		return nil, resp, err
	}
	s.t.Cleanup(func() { _ = conn.CloseNow() })
	conn.SetReadLimit(-1)
	return &socket{s.t, r.Context(), conn}, resp, nil
}

// get returns the next message.
func (s *socket) get() message {
	s.t.Helper()
	typ, b, err := s.Read(s.ctx)
	if err != nil {
		s.t.Fatalf("no message: %v", err)
	}
	var m message
	if err := json.Unmarshal(b, &m); err != nil || typ != websocket.MessageText {
		s.t.Fatalf("got %q of type %v, %v, want JSON", b, typ, err)
	}
	return m
}

// texts returns the next n messages in words.
func (s *socket) texts(n int) string {
	s.t.Helper()
	var all []string
	for range n {
		all = append(all, s.get().String())
	}
	return strings.Join(all, ", ")
}

func (s *socket) send(text string) {
	s.t.Helper()
	if err := s.Write(s.ctx, websocket.MessageText, []byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

// end returns all messages up to the close frame, in words, and the frame's code and reason.
func (s *socket) end() (texts []string, code websocket.StatusCode, reason string) {
	s.t.Helper()
	for {
		_, b, err := s.Read(s.ctx)
		var closed websocket.CloseError
		if errors.As(err, &closed) {
			return texts, closed.Code, closed.Reason
		}
		var m message
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err != nil {
			s.t.Fatalf("got %q and %v, want a close frame", texts, err)
		}
		texts = append(texts, m.String())
	}
}

func (s *socket) wantEnd(code websocket.StatusCode, reason string, texts ...string) {
	s.t.Helper()
	if got, c, r := s.end(); c != code || r != reason || !slices.Equal(got, texts) {
		s.t.Errorf("got %q and the end %d %q, want %q and %d %q", got, c, r, texts, code, reason)
	}
}

func TestWebSocket_GetsTheObjectsOfNDJSON(t *testing.T) {
	h := newSocketHub(t, hub.Options{})
	s := serve(t, h)
	publish(t, h, hub.Event{Topics: []string{"a", "b"}, ID: "i", Type: "t", Data: "one\n<&>\u2028"}, event("c/1", "two"))
	path := "/events/a?pattern=c/*&since=earliest"
	lines := s.open(path, "Accept: application/x-ndjson")
	want, _ := lines.line()
	lines.close()
	ws := s.socket(path)
	_, got, err := ws.Read(ws.ctx)
	if err != nil || string(got) != strings.TrimSuffix(want, "\n") {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if got := ws.texts(1); got != "two" {
		t.Errorf("got %q, want two", got)
	}
	publish(t, h, event("c/2", "three"))
	if m := ws.get(); m.Data != "three" || m.ID != m.Position || m.Type != "message" || !slices.Equal(m.Topics, []string{"c/2"}) {
		t.Errorf("got %+v, want three", m)
	}
	if err := ws.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Errorf("close: %v", err)
	}
	eventually(t, "the subscription ends", func() bool { return h.Streams() == 0 })
}

func TestWebSocket_ResumesFromAnyWayOfWaiting(t *testing.T) {
	h := newSocketHub(t, hub.Options{})
	s := serve(t, h)
	for i := 1; i <= 5; i++ {
		publish(t, h, hub.Event{Topics: []string{"a"}, Type: []string{"x", "y"}[i%2], Data: fmt.Sprint(i)})
	}
	third := s.socket("/events/a?since=earliest")
	third.texts(2)
	id := third.get().ID
	for _, c := range []struct {
		query  string
		header []string
		want   string
	}{
		{"?last_event_id=" + id, nil, "4"},
		{"", []string{"Last-Event-ID: " + id}, "4"},
		{"?since=1h", nil, "1"},
		{"?last=2", nil, "4"},
		{"?since=earliest&type=x", nil, "2"},
	} {
		if got := s.socket("/events/a"+c.query, c.header...).texts(1); got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.query, c.header, got, c.want)
		}
	}
	if got := s.open("/events/a", "Last-Event-ID: "+id).next().Data; got != "4" {
		t.Errorf("a socket's id in an event stream: got %s, want 4", got)
	}
	gap := s.socket("/events/a?last_event_id=zzzzzz-3").get()
	if gap.Type != "tidewire.gap" || !strings.Contains(gap.Data, `"reason":"epoch"`) || gap.ID == "" {
		t.Errorf("got %v, want a gap", gap)
	}
	if got := s.socket("/events/a", "Last-Event-ID: "+gap.ID).texts(5); got != "1, 2, 3, 4, 5" {
		t.Errorf("from the gap's id: got %s, want everything", got)
	}
}

func TestWebSocket_IsToldItsPositionIfItAsks(t *testing.T) {
	h := newSocketHub(t, hub.Options{PositionInterval: 20 * time.Millisecond})
	s := serve(t, h)
	publish(t, h, event("a", "before"))
	ws := s.socket("/events/a?type=x&heartbeat=event")
	first := ws.get()
	publish(t, h, event("a", "not wanted"))
	second := ws.get()
	for _, m := range []message{first, second} {
		if m.Type != "tidewire.hb" || m.ID == "" || m.Data != "" {
			t.Errorf("got %+v, want a position", m)
		}
	}
	if first.ID == second.ID {
		t.Errorf("got %s twice, want it moved", first.ID)
	}
	publish(t, h, hub.Event{Topics: []string{"a"}, Type: "x", Data: "wanted"})
	if got := s.socket("/events/a?last_event_id="+first.ID).texts(2) + ", " + ws.texts(1); got != "not wanted, wanted, wanted" {
		t.Errorf("got %s, want what came after the first position", got)
	}
}

func TestWebSocket_Publishes(t *testing.T) {
	log := newLog(t, nil)
	h := newSocketHub(t, hub.Options{Log: log, Limits: hub.RequestLimits{EventSize: 1000}})
	s := serve(t, h)
	ws := s.socket("/events/a?topic=b&publish=only")
	for _, c := range []struct{ send, want, field string }{
		{`{"data":"1"}`, "ack ", ""},
		{` {"data":{"x":[1]},"ref":7,"topics":["c","d"],"type":"t","id":"i","private":true,"retry":500} `, "ack 7", ""},
		{`{"ref":{"a":["\u00e9"]},"data":"k","key":"K"}`, `ack {"a":["\u00e9"]}`, ""},
		{`{"ref":2,"data":"k","key":"K"}`, "ack 2", ""},
		{`{"ref":3,"data":"other","key":"K"}`, "nack 3 key-reused", "Idempotency-Key"},
		{`{"ref":4,"data":"x","type":"tidewire.ack"}`, "nack 4 bad-field", "type"},
		{`{"ref":5,"data":"x","topics":[]}`, "nack 5 bad-topic", "topic"},
		{`{"ref":6,"data":"x","topics":"a"}`, "nack 6 bad-body", "topics"},
		{`{"ref":"x","data":"x","key":1}`, `nack "x" bad-body`, "key"},
		{`{"ref":"` + strings.Repeat("x", 600) + `"}`, "nack  field-too-long", "ref"},
		{`{"ref":8,"data":"` + strings.Repeat("x", 1001) + `"}`, "nack 8 too-large", "data"},
		{`{"ref":9,"data":"` + strings.Repeat(`\u0041`, 1000) + `"}`, "ack 9", ""},
		{`{"ref":10,"data":"\ud800"}`, "nack 10 bad-body", "data"},
		{`{"ref":11,`, "nack  bad-body", ""},
		{`[]`, "nack  bad-body", ""},
		{``, "nack  bad-body", ""},
		{` `, "nack  bad-body", ""},
		{`null`, "nack  bad-body", ""},
		{`{}`, "ack ", ""},
	} {
		ws.send(c.send)
		m := ws.get()
		if m.String() != c.want || (m.Problem != nil && (m.Problem.Field != c.field || m.Problem.Detail == "" || m.Problem.Status < 400)) {
			t.Errorf("%.80s: got %v, %+v, want %s", c.send, m, m.Problem, c.want)
		}
		if m.Problem == nil && (m.ID == "" || m.Position == "" || m.Replayed != (string(m.Ref) == "2")) {
			t.Errorf("%.80s: got %+v, want the id of what was stored", c.send, m)
		}
	}
	var got []string
	for _, ev := range stored(t, log) {
		got = append(got, fmt.Sprintf("%.8s@%s", ev.Data, strings.Join(ev.Topics, "+")))
	}
	if want := []string{"1@a+b", `{"x":[1]@c+d`, "k@a+b", "AAAAAAAA@a+b", "@a+b"}; !slices.Equal(got, want) {
		t.Errorf("stored %q, want %q", got, want)
	}
}

func TestWebSocket_PublishesAndSubscribes(t *testing.T) {
	h := newSocketHub(t, hub.Options{})
	s := serve(t, h)
	ws, other := s.socket("/events/a?pattern=b/*"), s.socket("/events?pattern=**")
	ws.send(`{"data":"x","ref":1}`)
	ack, ev := ws.get(), ws.get()
	if ack.Type != "tidewire.ack" {
		ack, ev = ev, ack // they come in any order
	}
	if ev.Data != "x" || ack.ID != ev.ID || ack.Position != ev.Position || !slices.Equal(ack.Topics, []string{"a"}) {
		t.Errorf("got %+v and %+v, want the event and its ack", ack, ev)
	}
	other.texts(1)
	other.send(`{"data":"y"}`)
	if m := other.get(); m.String() != "nack  bad-topic" {
		t.Errorf("without a topic: got %v, want bad-topic", m)
	}
	s.socket("/events?publish=only").send(`{"data":"z","topics":["b/1"]}`)
	if got := ws.texts(1) + other.texts(1); got != "zz" {
		t.Errorf("got %s, want z", got)
	}
}

func TestWebSocket_WhatIsWrongBeforeTheUpgradeIsAnsweredAsToAnyRequest(t *testing.T) {
	d := newDesk(map[string]*hub.Grant{"b": {Subscribe: []string{"a", "closed"}, Publish: []string{"**"}}})
	h := newSocketHub(t, hub.Options{Authority: d, AllowedOrigins: []string{"https://a.example"}})
	s := serve(t, h)
	none := serve(t, newHub(t, hub.Options{}))
	const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
	whole := []string{"Badge: b", "Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Version: 13", key}
	without := func(name string) []string {
		return slices.DeleteFunc(slices.Clone(whole), func(h string) bool { return strings.HasPrefix(h, name) })
	}
	for name, c := range map[string]struct {
		s       *server
		path    string
		headers []string
		body    string
		status  int
		problem hub.Problem
		field   string
	}{
		"not spoken":          {none, "/events/a", whole, "", 406, hub.ProblemNotAcceptable, "Upgrade"},
		"no Connection":       {s, "/events/a", append(without("Connection"), "Connection: keep-alive"), "", 400, hub.ProblemQuery, "Connection"},
		"another version":     {s, "/events/a", append(without("Sec-WebSocket-Version"), "Sec-WebSocket-Version: 8"), "", 400, hub.ProblemQuery, "Sec-WebSocket-Version"},
		"no key":              {s, "/events/a", without("Sec-WebSocket-Key"), "", 400, hub.ProblemQuery, "Sec-WebSocket-Key"},
		"two keys":            {s, "/events/a", append(whole, key), "", 400, hub.ProblemQuery, "Sec-WebSocket-Key"},
		"a short key":         {s, "/events/a", append(without("Sec-WebSocket-Key"), "Sec-WebSocket-Key: YQ=="), "", 400, hub.ProblemQuery, "Sec-WebSocket-Key"},
		"a body":              {s, "/events/a", whole, "x", 400, hub.ProblemBody, ""},
		"no topic":            {s, "/events", whole, "", 400, hub.ProblemTopic, "topic"},
		"a bad topic":         {s, "/events/a%00?publish=only", whole, "", 400, hub.ProblemTopic, "topic"},
		"publish to patterns": {s, "/events?publish=only&pattern=*", whole, "", 400, hub.ProblemTopic, "pattern"},
		"publish what":        {s, "/events/a?publish=yes", whole, "", 400, hub.ProblemQuery, "publish"},
		"a bad heartbeat":     {s, "/events/a?heartbeat=x", whole, "", 400, hub.ProblemQuery, "heartbeat"},
		"a bad since":         {s, "/events/a?since=x", whole, "", 400, hub.ProblemQuery, "since"},
		"not granted":         {s, "/events/b", whole, "", 403, hub.ProblemForbidden, "topic"},
		"no credentials":      {s, "/events/a", without("Badge"), "", 401, hub.ProblemUnauthorized, "topic"},
		"another origin":      {s, "/events/a", append(whole, "Origin: https://b.example"), "", 403, hub.ProblemOrigin, "Origin"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := c.s.dial()
			conn.t = t
			request := "GET " + c.path + " HTTP/1.1\r\nHost: x\r\n" + strings.Join(c.headers, "\r\n") + "\r\n"
			if c.body != "" {
				request += fmt.Sprintf("Content-Length: %d\r\n", len(c.body))
			}
			conn.write(request + "\r\n" + c.body)
			wantDocument(t, conn.answer(), c.status, c.problem, c.field)
		})
	}
	d.allEnded(t)
	if ws, resp, err := s.tryWebSocket("/events/a", "Badge: b", "Origin: https://a.example"); err != nil || resp.Header.Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("an allowed origin: got %v, %v", ws, err)
	}
	// HTTP/1.0 has no upgrades, and other protocols are not ours: both get a stream.
	for _, request := range []string{
		"GET /events/a HTTP/1.0\r\nHost: x\r\n" + strings.Join(whole, "\r\n") + "\r\n\r\n",
		"GET /events/a HTTP/1.1\r\nHost: x\r\nBadge: b\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
	} {
		conn := s.dial()
		conn.write(request)
		if a := conn.response(); a.StatusCode != 200 || a.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("got %s, want a stream", a.Status)
		}
	}
}

// response reads the head of an answer, and its body with answer.
func (c *rawConn) response() *http.Response {
	c.t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c.TCPConn), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp
}

func (c *rawConn) answer() answer {
	c.t.Helper()
	resp := c.response()
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer{resp, string(body)}
}

func TestWebSocket_EachPublishIsAskedFor(t *testing.T) {
	d := newDesk(map[string]*hub.Grant{
		"b":     {Subject: "s", Subscribe: []string{"a"}, Publish: []string{"a", "c/*"}, Private: []string{"a"}},
		"short": {Subscribe: []string{"a"}, Publish: []string{"a"}, Expires: time.Now().Add(time.Hour)},
	})
	h := newSocketHub(t, hub.Options{Authority: d})
	s := serve(t, h)
	ws := s.socket("/events/a?publish=only", "Badge: b")
	for send, want := range map[string]string{
		`{"data":"1"}`:                      "ack ",
		`{"data":"2","topics":["c/1"]}`:     "ack ",
		`{"data":"3","topics":["b"]}`:       "nack  forbidden",
		`{"data":"4","topics":["a","b"]}`:   "nack  forbidden",
		`{"data":"5","Topics":["b"]}`:       "nack  forbidden",
		`{"data":"6","topics":["\u0062"]}`:  "nack  forbidden",
		`{"data":"7","topics":["c/1/2"]}`:   "nack  forbidden",
		`{"data":"8","to` + `pics":["c/"]}`: "ack ",
	} {
		ws.send(send)
		if got := ws.texts(1); got != want {
			t.Errorf("%s: got %s, want %s", send, got, want)
		}
	}
	d.mu.Lock()
	d.errs["b"] = &hub.RequestError{Problem: hub.ProblemTooOften, Detail: "slower", RetryAfter: 1500 * time.Millisecond}
	open := d.open
	d.mu.Unlock()
	if open != 1 {
		t.Errorf("got %d grants in use, want that of the socket", open)
	}
	ws.send(`{"ref":1}`)
	if m := ws.get(); m.String() != "nack 1 too-many-requests" || m.RetryAfter != 2 {
		t.Errorf("got %v after %d s, want 2", m, m.RetryAfter)
	}
	_ = ws.Close(websocket.StatusNormalClosure, "")
	d.allEnded(t)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.asked[1:] {
		if a.Action != hub.ActionPublish || len(a.Topics) == 0 || !a.Address.IsLoopback() {
			t.Errorf("got %+v asked, want to publish", a)
		}
	}
}

func TestWebSocket_PrivateEventsNeedAGrant(t *testing.T) {
	d := newDesk(map[string]*hub.Grant{
		"all": {Subscribe: []string{"**"}, Publish: []string{"**"}, Private: []string{"**"}},
		"one": {Subscribe: []string{"a", "b"}, Private: []string{"a"}, Narrow: true},
	})
	s := serve(t, newSocketHub(t, hub.Options{Authority: d}))
	all := s.socket("/events?pattern=**", "Badge: all")
	one := s.socket("/events?pattern=**", "Badge: one")
	pub := s.socket("/events?publish=only", "Badge: all")
	for _, topic := range []string{"a", "b", "c", "a"} {
		pub.send(`{"data":"` + topic + ` private","private":true,"topics":["` + topic + `"]}`)
		pub.send(`{"data":"` + topic + `","topics":["` + topic + `"]}`)
		pub.texts(2)
	}
	if got, want := all.texts(8), "a private, a, b private, b, c private, c, a private, a"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := one.texts(5), "a private, a, b, a private, a"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWebSocket_EndsWithACode(t *testing.T) {
	d := newDesk(map[string]*hub.Grant{
		"b":     {Subject: "s", Subscribe: []string{"**"}, Publish: []string{"**"}},
		"short": {By: "the badge", Subscribe: []string{"**"}, Expires: time.Now().Add(300 * time.Millisecond)},
	})
	h := newSocketHub(t, hub.Options{Authority: d, Limits: hub.RequestLimits{EventSize: 1000}})
	s := serve(t, h)
	publish(t, h, event("done", "1"))
	end(t, h, "done")
	only := s.socket("/events?publish=only", "Badge: short")
	short := s.socket("/events/a", "Badge: short")

	s.socket("/events/done?since=earliest", "Badge: b").wantEnd(1000, "topic-closed", "1")
	s.socket("/events/done", "Badge: b").wantEnd(1000, "topic-closed")
	live := s.socket("/events/live", "Badge: b")
	publish(t, h, event("live", "1"))
	end(t, h, "live")
	live.wantEnd(1000, "topic-closed", "1")

	binary := s.socket("/events/a", "Badge: b")
	if err := binary.Write(binary.ctx, websocket.MessageBinary, []byte(`{"data":"x"}`)); err != nil {
		t.Fatal(err)
	}
	binary.wantEnd(1003, "text-only")
	text := s.socket("/events/a", "Badge: b")
	text.send("{\"data\":\"\xff\"}")
	text.wantEnd(1007, "not-utf-8")
	long := s.socket("/events/a", "Badge: b")
	long.send(strings.Repeat(" ", 6*1000+64<<10+1))
	if _, code, _ := long.end(); code != 1009 {
		t.Errorf("a message too long: got %d, want 1009", code)
	}

	for _, ws := range []*socket{short, only} {
		got, code, reason := ws.end()
		if code != 1008 || reason != "token-expired" || len(got) != 1 || !strings.Contains(got[0], "the badge") {
			t.Errorf("an expired grant: got %q, %d %q, want 1008 and why", got, code, reason)
		}
	}

	ended := []*socket{s.socket("/events/a", "Badge: b"), s.socket("/events/a?publish=only", "Badge: b")}
	n := h.End(t.Context(), func(sub *hub.Subscription) bool { return sub.Subject == "s" && sub.Address.IsLoopback() },
		&hub.RequestError{Problem: hub.ProblemForbidden, Detail: "that will do"})
	if n != 2 {
		t.Errorf("got %d sockets ended, want 2", n)
	}
	for _, ws := range ended {
		got, code, reason := ws.end()
		if code != 1008 || reason != "forbidden" || len(got) != 1 || !strings.Contains(got[0], "that will do") {
			t.Errorf("ended: got %q, %d %q, want 1008 and why", got, code, reason)
		}
	}
	for problem, want := range map[hub.Problem]websocket.StatusCode{hub.ProblemOverloaded: 1013, hub.ProblemTooManyStreams: 1013, hub.ProblemInternal: 1011} {
		ws := s.socket("/events/a", "Badge: b")
		h.End(t.Context(), func(*hub.Subscription) bool { return true }, &hub.RequestError{Problem: problem})
		if _, code, reason := ws.end(); code != want || reason != string(problem) {
			t.Errorf("%s: got %d %q, want %d", problem, code, reason, want)
		}
	}
	d.allEnded(t)
	eventually(t, "no subscriptions", func() bool { return h.Streams() == 0 && len(h.Subscriptions(t.Context())) == 0 })
}

func TestWebSocket_ShutdownAnswersWhatWasBegunAndClosesWith1012(t *testing.T) {
	h := newSocketHub(t, hub.Options{})
	s := serve(t, h)
	publish(t, h, event("a", "1"))
	idle, only, stuck := s.socket("/events/a?since=earliest"), s.socket("/events?publish=only"), s.socket("/events/a")
	idle.texts(1)
	_ = stuck // reads nothing, and so answers no close frame
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { ended <- h.Shutdown(ctx) }()
	idle.wantEnd(1012, "shutting-down")
	only.wantEnd(1012, "shutting-down")
	cancel() // which cuts the one that is stuck
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	eventually(t, "all are cut", func() bool { return h.Streams() == 0 })
	if _, _, err := s.tryWebSocket("/events/a"); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("afterwards: got %v, want 503", err)
	}
}

func TestWebSocket_ASlowReaderDelaysNobodyAndLosesNothing(t *testing.T) {
	const events = 200
	h := newSocketHub(t, hub.Options{})
	slow, fast := serveSmall(t, h).socket("/events/a"), serve(t, h).socket("/events/a")
	padding := strings.Repeat("x", 32<<10)
	for i := 1; i <= events; i++ {
		publish(t, h, event("a", fmt.Sprint(i, " ", padding)))
		if got := fast.get().Data; got != fmt.Sprint(i, " ", padding) {
			t.Fatalf("got %.10s, want %d", got, i)
		}
	}
	for i := 1; i <= events; i++ {
		if got := slow.get().Data; got != fmt.Sprint(i, " ", padding) {
			t.Fatalf("the slow one: got %.10s, want %d", got, i)
		}
	}
}

func TestWebSocket_SlowRules(t *testing.T) {
	padding := strings.Repeat("x", 32<<10)
	flood := func(t *testing.T, h *hub.Hub, n int) {
		for i := 1; i <= n; i++ {
			publish(t, h, event("a", fmt.Sprint(i, " ", padding)))
		}
	}
	t.Run("latest", func(t *testing.T) {
		h := newSocketHub(t, hub.Options{Slow: hub.SlowRules{{Pattern: "a", Policy: hub.SlowLatest, Lag: 20}}})
		ws := serveSlow(t, h).socket("/events/a")
		const n = 400
		flood(t, h, n)
		got, gaps := 0, 0
		for m := ws.get(); ; m = ws.get() {
			if m.Type == "tidewire.gap" {
				if gaps++; !strings.Contains(m.Data, `"reason":"slow"`) {
					t.Errorf("got %s, want the reason slow", m.Data)
				}
				continue
			}
			if got++; strings.HasPrefix(m.Data, fmt.Sprint(n, " ")) {
				break
			}
		}
		if gaps == 0 || got > n/2 {
			t.Errorf("got %d events and %d gaps of %d, want it skipped", got, gaps, n)
		}
	})
	t.Run("disconnect", func(t *testing.T) {
		h := newSocketHub(t, hub.Options{Slow: hub.SlowRules{{Pattern: "a", Policy: hub.SlowDisconnect, Lag: 20}}})
		ws := serveSlow(t, h).socket("/events/a")
		const n = 400
		flood(t, h, n)
		got, code, reason := ws.end()
		if code != 1013 || reason != "too-slow" || len(got) > n/2 {
			t.Fatalf("got %d events of %d and the end %d %q, want 1013 long before", len(got), n, code, reason)
		}
		for i, data := range got {
			if !strings.HasPrefix(data, fmt.Sprint(i+1, " ")) {
				t.Fatalf("got %.10s, want %d", data, i+1)
			}
		}
	})
	t.Run("stuck", func(t *testing.T) {
		h := newSocketHub(t, hub.Options{WriteTimeout: 200 * time.Millisecond})
		serveSlow(t, h).socket("/events/a")
		flood(t, h, 400)
		eventually(t, "it is cut", func() bool { return h.Streams() == 0 })
	})
}

// serveSlow has clients whose sockets take little that they do not read.
func serveSlow(t *testing.T, h *hub.Hub) *server {
	s := serveSmall(t, h)
	s.Client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(16 << 10)
		}
		return conn, err
	}
	return s
}

// In a bubble of synctest a socket takes nothing that is not read.
func TestWebSocket_PingsAndCutsWhoDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newSocketHub(t, hub.Options{Heartbeat: 10 * time.Second})
		s := serveInBubble(t, h)
		alive := s.socket("/events/alive")
		alive.CloseRead(t.Context())
		stuck := s.socket("/events/stuck")
		silent := s.dialInBubble("/events/silent")
		read := make(chan string, 1)
		go func() {
			b, _ := io.ReadAll(silent) // and answers nothing
			read <- string(b)
		}()
		time.Sleep(time.Hour)
		synctest.Wait()
		all := h.Subscriptions(t.Context())
		if len(all) != 1 || all[0].Topics[0] != "alive" {
			t.Errorf("got %d sockets after an hour, want the one that answers pings", len(all))
		}
		if got := <-read; strings.Count(got, "\x89\x01") != 1 {
			t.Errorf("the silent one got %q, want one ping and the end", got)
		}
		_ = alive.CloseNow()
		_ = stuck.CloseNow()
		_ = silent.Close()
	})
}

// dialInBubble opens a WebSocket to write and read frames as they are.
func (s *server) dialInBubble(path string) net.Conn {
	s.t.Helper()
	conn, err := s.Client.Transport.(*http.Transport).DialContext(s.t.Context(), "", "")
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, handshake(path)); err != nil {
		s.t.Fatal(err)
	}
	b := make([]byte, 1)
	for text := ""; !strings.HasSuffix(text, "\r\n\r\n"); text += string(b) {
		if _, err := conn.Read(b); err != nil {
			s.t.Fatal(err)
		}
	}
	return conn
}

func handshake(path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
}

// A slowAuthority grants a publish when it is told to.
type slowAuthority struct{ grants chan struct{} }

func (s slowAuthority) Authorize(_ http.ResponseWriter, _ *http.Request, a *hub.Access) (*hub.Grant, error) {
	if a.Action == hub.ActionPublish {
		<-s.grants
	}
	return &hub.Grant{Subscribe: []string{"**"}, Publish: []string{"**"}}, nil
}

func (slowAuthority) Ended(*hub.Grant, hub.Action, netip.Addr) {}

func (slowAuthority) Holds(*hub.Grant) bool { return true }

func TestWebSocket_IsNotCutWhileItsMessageIsAnswered(t *testing.T) {
	slow := slowAuthority{make(chan struct{})}
	h := newSocketHub(t, hub.Options{Heartbeat: 10 * time.Millisecond, Authority: slow})
	s := serve(t, h)
	pings := make(chan struct{}, 1000)
	r := s.request("GET", "/events/a?publish=only", nil)
	conn, _, err := websocket.Dial(r.Context(), r.URL.String(), &websocket.DialOptions{
		OnPingReceived: func(context.Context, []byte) bool { pings <- struct{}{}; return true },
	})
	if err != nil {
		t.Fatal(err)
	}
	ws := &socket{t, r.Context(), conn}
	ws.send(`{"data":"x"}`)
	go func() {
		for range 10 {
			<-pings
		}
		slow.grants <- struct{}{}
	}()
	if got := ws.texts(1); got != "ack " {
		t.Errorf("got %q, want an ack after ten pings", got)
	}
	// So does the end wait for the answer.
	ws.send(`{"data":"y"}`)
	go func() {
		defer close(slow.grants)
		for range h.Subscribe(t.Context(), topics("b")) { // up to the shutdown
		}
	}()
	eventually(t, "who waits for the shutdown does", func() bool { return h.Streams() == 2 })
	go func() { _ = h.Shutdown(context.Background()) }()
	ws.wantEnd(1012, "shutting-down", "nack  shutting-down")
}

// frame returns a frame as a client sends it, masked with zeros.
func frame(head byte, payload string) string {
	if len(payload) > 125 {
		return string([]byte{head, 0x80 | 126, byte(len(payload) >> 8), byte(len(payload)), 0, 0, 0, 0}) + payload
	}
	return string([]byte{head, 0x80 | byte(len(payload)), 0, 0, 0, 0}) + payload
}

func TestWebSocket_BadFramesEndIt(t *testing.T) {
	const fin, text, continuation, ping, closes = 0x80, 1, 0, 9, 8
	h := newHub(t, hub.Options{WebSocket: daemon.WebSocket(&daemon.WebSocketOptions{MessageTimeout: 200 * time.Millisecond})})
	s := serve(t, h)
	for name, c := range map[string]struct {
		frames string
		want   string // in what comes then
	}{
		"whole":                   {frame(fin|text, `{"ref":1}`) + frame(fin|closes, "\x03\xe8"), `"ref":1` + "|\x88\x02\x03\xe8"},
		"fragments and a ping":    {frame(text, `{"re`) + frame(fin|ping, "hi") + frame(continuation, "") + frame(fin|continuation, `f":2}`) + frame(fin|closes, ""), "\x8a\x02hi" + `|"ref":2`},
		"unmasked":                {"\x81\x02{}", ""},
		"reserved bit":            {frame(fin|0x40|text, "{}"), "\x03\xea"},
		"unknown opcode":          {frame(fin|3, ""), "\x03\xea"},
		"fragmented ping":         {frame(ping, ""), "\x03\xea"},
		"long ping":               {frame(fin|ping, strings.Repeat("x", 126)), "\x03\xea"},
		"continuation of nothing": {frame(fin|continuation, "{}"), "\x03\xea"},
		"text within text":        {frame(text, "{") + frame(fin|text, "}"), "\x03\xea"},
		"bad close":               {frame(fin|closes, "\x00\x01"), "\x03\xea"},
		"length below zero":       {"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00xx", ""},
		"promises too much":       {"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00xx", ""},
		"breaks off":              {"\x81\x80\x00", ""},
		"comes too slowly":        {frame(text, "{"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			conn := s.dial()
			conn.t = t
			conn.write(handshake("/events?publish=only&topic=a") + c.frames)
			if name == "breaks off" {
				conn.closeWrite()
			}
			got, last := "", c.want[strings.LastIndex(c.want, "|")+1:]
			for b := make([]byte, 1); last == "" || !strings.Contains(got, last); got += string(b) {
				if _, err := conn.Read(b); err != nil {
					break
				}
			}
			_ = conn.Close()
			for want := range strings.SplitSeq(c.want, "|") {
				if !strings.Contains(got, want) {
					t.Errorf("got %q, want %q in it", got, want)
				}
			}
		})
	}
	eventually(t, "all are over", func() bool { return h.Streams() == 0 })
	if n := len(h.Subscriptions(t.Context())); n != 0 {
		t.Errorf("got %d subscriptions, want none", n)
	}
}

func TestWebSocket_AThousand(t *testing.T) {
	const sockets = 1000
	d := newDesk(map[string]*hub.Grant{"": {Subscribe: []string{"**"}, Publish: []string{"**"}}})
	h := newSocketHub(t, hub.Options{Authority: d})
	s := serve(t, h)
	before := heap()
	all := make([]*socket, sockets)
	for i := range all {
		all[i] = s.socket("/events/a")
	}
	t.Logf("%d KiB of heap for each, client and server", (heap()-before)/sockets>>10)
	var group sync.WaitGroup
	for i, ws := range all {
		group.Go(func() {
			if i%100 == 0 {
				if err := ws.Write(ws.ctx, websocket.MessageText, []byte(`{"data":"x"}`)); err != nil {
					t.Error(err)
				}
			}
			events := 0
			for events < sockets/100 {
				_, b, err := ws.Read(ws.ctx)
				if err != nil {
					t.Error(err)
					return
				}
				if !strings.Contains(string(b), "tidewire.ack") {
					events++
				}
			}
			_ = ws.CloseNow()
		})
	}
	group.Wait()
	eventually(t, "no subscriptions", func() bool { return h.Streams() == 0 })
	d.allEnded(t)
}

// FuzzWebSocketMessage sends any message: it is answered once, as a batch of that one event
// would be.
func FuzzWebSocketMessage(f *testing.F) {
	for _, seed := range []string{
		`{"data":"x","ref":1,"key":"k"}`, `{"data":{"x":1},"topics":["b","c"],"type":"t","id":"i","private":true,"retry":2500}`,
		`{"ref":{"a":[1,"\u00e9"]},"data":null}`, `{"key":1,"ref":"r"}`, `{"REF":1,"Key":null}`, `{"ref":1,"ref":2}`, `{"ref":"\ud800"}`,
		"", " ", "{", "[]", "null", `{"data":"\ud83d\ude00"}`, `{}{}`, "{\"data\":\n\"x\"}", `{"ref":`, `{"id":"zzzzzz-1"}`,
	} {
		f.Add(seed)
	}
	log, err := memory.New(nil)
	if err != nil {
		f.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	h, err := hub.New(&hub.Options{Log: log, WebSocket: daemon.WebSocket(nil), Limits: hub.RequestLimits{EventSize: 10_000}})
	if err != nil {
		f.Fatal(err)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	defer func() { _ = h.Shutdown(context.Background()) }()
	f.Fuzz(func(t *testing.T, text string) {
		s := &server{t: t, url: srv.URL, patience: patience, Client: http.DefaultClient}
		ws := s.socket("/events/a?publish=only")
		ws.send(text)
		ws.send(`{"ref":"the next"}`)
		if !strings.Contains(text, "\ufffd") && strings.ToValidUTF8(text, "") != text {
			ws.wantEnd(1007, "not-utf-8")
			return
		}
		m := ws.get()
		if next := ws.texts(1); next != `ack "the next"` {
			t.Fatalf("got %s, want the next one answered", next)
		}
		w := callHandler(t, h, "POST", "/events/a", text, "Content-Type: application/x-ndjson")
		var in struct{ Key, Ref any }
		_ = json.Unmarshal([]byte(text), &in)
		switch {
		case m.Type == "tidewire.ack" && m.Problem == nil && m.ID != "" && m.Position != "":
		case m.Type == "tidewire.nack" && m.Problem != nil && m.Problem.Detail != "" && m.Problem.Status >= 400:
		default:
			t.Fatalf("got %+v, want an answer", m)
		}
		if in.Key == nil && in.Ref == nil && !strings.Contains(strings.TrimSpace(text), "\n") && (w.Code == 201) != (m.Problem == nil) {
			t.Fatalf("got %+v %+v on the socket, and %d %s for a batch", m, m.Problem, w.Code, w.Body)
		}
	})
}
