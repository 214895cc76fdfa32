package server_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-jose/go-jose/v4"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/server"
	"github.com/tidewire/tidewire/sse"
)

// revocableWays are those of having a stream: a path with its Accept header, "" for a
// WebSocket.
var revocableWays = map[string]string{
	"/events/a?last=1":   "text/event-stream",
	"/events/a?last=2":   "application/x-ndjson",
	"/events/a?wait=60s": "application/json",
	"/events/a?last=3":   "",
}

// openRevocable opens a stream in each way with a header, and with a ticket that was had with
// it. It returns what comes until each ends.
func openRevocable(t *testing.T, s *server.Server, header string) map[string]<-chan string {
	t.Helper()
	all := map[string]<-chan string{}
	for path, accept := range revocableWays {
		name, value, _ := strings.Cut(header, ": ")
		with := revocableRequest(t, s.URL()+path, accept)
		with.Header.Set(name, value)
		ticketed := revocableRequest(t, s.URL()+path+"&"+ticketFor(t, s, header, `{"reuse":true}`), accept)
		for kind, r := range map[string]*http.Request{"a header": with, "a ticket": ticketed} {
			text := make(chan string, 1)
			all[path+" with "+kind] = text
			go func() { text <- readRevocable(r) }()
		}
	}
	return all
}

func revocableRequest(t *testing.T, url, accept string) *http.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience) // it outlives several steps
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	return r
}

func readRevocable(r *http.Request) string {
	if r.Header.Get("Accept") == "" {
		return readRevocableSocket(r)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Sprintf("%s and then %v", b, err)
	}
	return string(b)
}

func readRevocableSocket(r *http.Request) string {
	conn, _, err := websocket.Dial(r.Context(), r.URL.String(), &websocket.DialOptions{HTTPHeader: r.Header})
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.CloseNow() }()
	var all strings.Builder
	for {
		_, b, err := conn.Read(r.Context())
		if closed := new(websocket.CloseError); errors.As(err, closed) {
			return all.String()
		}
		if err != nil {
			return fmt.Sprintf("%s and then %v", all.String(), err)
		}
		all.Write(append(b, '\n'))
	}
}

// wantRevoked waits for the ends of streams that must say why.
func wantRevoked(t *testing.T, streams map[string]<-chan string) {
	t.Helper()
	for path, text := range streams {
		if got := <-text; !strings.Contains(got, "urn:tidewire:problem:token-expired") || !strings.Contains(got, "was revoked") {
			t.Errorf("%s: got %q, want to be told that the key was revoked", path, got)
		}
	}
}

// wantLast publishes an event after which nothing comes: the streams get it, and end.
func wantLast(t *testing.T, s *server.Server, header string, streams map[string]<-chan string) {
	t.Helper()
	ask(t, 201, "POST", s.URL()+"/events/a?end=true", "the last one", header)
	for path, text := range streams {
		if got := <-text; !strings.Contains(got, "the last one") || strings.Contains(got, "problem") {
			t.Errorf("%s of another key: got %q, want what came after", path, got)
		}
	}
}

// ask sends a request, and returns the whole answer.
func ask(t *testing.T, status int, method, url, body string, headers ...string) string {
	t.Helper()
	resp := answerTo(t, method, url, body, headers...)
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		t.Fatalf("%s %s: got %s %s, %v, want %d", method, url, resp.Status, b, err, status)
	}
	return string(b)
}

// answerTo sends a request, and returns the answer, which lives as long as the test.
func answerTo(t *testing.T, method, url, body string, headers ...string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// ticketFor returns the query of a ticket.
func ticketFor(t *testing.T, s *server.Server, header, body string) string {
	t.Helper()
	var ticket struct{ Query string }
	text := ask(t, 201, "POST", s.URL()+"/tickets", body, header, "Content-Type: application/json")
	if err := json.Unmarshal([]byte(text), &ticket); err != nil {
		t.Fatal(err)
	}
	return ticket.Query
}

// streamsOf waits until there are so many streams.
func streamsOf(t *testing.T, s *server.Server, admin string, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("there are %d streams", want), func() bool {
		var list struct{ Count int }
		if err := json.Unmarshal([]byte(ask(t, 200, "GET", s.URL()+"/admin/subscriptions", "", admin)), &list); err != nil {
			t.Fatal(err)
		}
		return list.Count == want
	})
}

// newPublisher returns a publisher key, as the header and as it is kept.
func newPublisher(t *testing.T) (header string, kept auth.PublisherKey) {
	t.Helper()
	all := []string{"**"}
	secret, kept, err := auth.NewPublisherKey("backend", auth.Permissions{Subscribe: all, Publish: all, Admin: true}, time.Now(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return "Authorization: Bearer " + secret, kept
}

// accessOf lets in who has these publisher keys, and with tokens those of tokenOf too.
func accessOf(t *testing.T, tokens bool, keys ...auth.PublisherKey) *server.Access {
	t.Helper()
	a := new(server.Access)
	if tokens {
		a = tokensOnly(t)
	}
	a.Options.PublisherKeys = keys
	return a
}

func reload(t *testing.T, s *server.Server, a *server.Access) {
	t.Helper()
	if err := s.Reload(&server.Config{Access: a}); err != nil {
		t.Fatal(err)
	}
}

// TestReload_EndsTheStreamsOfKeysThatAreGone takes away a publisher key, and then the key of
// tokens.
func TestReload_EndsTheStreamsOfKeysThatAreGone(t *testing.T) {
	lost, lostKey := newPublisher(t)
	kept, keptKey := newPublisher(t)
	s := startServer(t, server.Config{Access: accessOf(t, true, lostKey, keptKey)})
	byLost, byKept := openRevocable(t, s, lost), openRevocable(t, s, kept)
	byToken := openRevocable(t, s, "Authorization: Bearer "+tokenOf(t, "alice"))
	n := len(byKept)
	streamsOf(t, s, kept, 3*n)
	reload(t, s, accessOf(t, true, keptKey, lostKey))
	streamsOf(t, s, kept, 3*n)
	reload(t, s, accessOf(t, true, keptKey))
	wantRevoked(t, byLost)
	streamsOf(t, s, kept, 2*n)
	reload(t, s, accessOf(t, false, keptKey))
	wantRevoked(t, byToken)
	streamsOf(t, s, kept, n)
	wantLast(t, s, kept, byKept)
}

// TestReload_ATicketEndsWithItsKey has tickets come that were issued to a key which is gone by
// now: programs get a status, and an EventSource the reason in a stream, and then a 204.
func TestReload_ATicketEndsWithItsKey(t *testing.T) {
	lost, lostKey := newPublisher(t)
	kept, keptKey := newPublisher(t)
	s := startServer(t, server.Config{Access: accessOf(t, false, lostKey, keptKey)})
	const eventSource = "Accept: text/event-stream"
	fresh, used := ticketFor(t, s, lost, ""), ticketFor(t, s, lost, "")
	first := answerTo(t, "GET", s.URL()+"/events/a?"+used, "", eventSource)
	if first.StatusCode != 200 || len(first.Cookies()) != 1 {
		t.Fatalf("got %s with the cookies %v, want a stream and one", first.Status, first.Cookies())
	}
	cookie := "Cookie: " + first.Cookies()[0].Name + "=" + first.Cookies()[0].Value
	reload(t, s, accessOf(t, false, keptKey))
	for _, ticket := range []string{fresh, used} {
		url := s.URL() + "/events/a?" + ticket
		for _, got := range []string{ask(t, 401, "GET", url, "", cookie), ask(t, 200, "GET", url, "", eventSource, cookie)} {
			if !strings.Contains(got, "urn:tidewire:problem:ticket-spent") || !strings.Contains(got, "was revoked: fetch another with POST /tickets, with other credentials") {
				t.Errorf("got %s, want to be told what to do", got)
			}
		}
		ask(t, 204, "GET", url, "", eventSource, cookie)
	}
	if resp := answerTo(t, "GET", s.URL()+"/events/a?"+ticketFor(t, s, kept, ""), "", eventSource); resp.StatusCode != 200 {
		t.Errorf("a ticket of another key: got %s, want a stream", resp.Status)
	}
}

// TestReload_AnotherCredentialGoesOnWithTheLastID has a page open another EventSource when it
// is told that its key was revoked, from where it was.
func TestReload_AnotherCredentialGoesOnWithTheLastID(t *testing.T) {
	lost, lostKey := newPublisher(t)
	kept, keptKey := newPublisher(t)
	s := startServer(t, server.Config{Access: accessOf(t, false, lostKey, keptKey)})
	tell := func(data string) { ask(t, 201, "POST", s.URL()+"/events/a", data, kept) }
	open := func(header, more string) *sse.Decoder {
		t.Helper()
		resp := answerTo(t, "GET", s.URL()+"/events/a?"+ticketFor(t, s, header, "")+more, "", "Accept: text/event-stream")
		if resp.StatusCode != 200 {
			t.Fatalf("got %s, want a stream", resp.Status)
		}
		return sse.NewDecoder(resp.Body, nil)
	}
	next := func(d *sse.Decoder) sse.Event {
		t.Helper()
		ev, err := d.Next()
		if err != nil {
			t.Fatal(err)
		}
		return ev
	}
	first := open(lost, "")
	tell("1")
	last := next(first)
	tell("2")
	reload(t, s, accessOf(t, false, keptKey))
	tell("3")
	got := []string{last.Data}
	for {
		ev, err := first.Next()
		if err != nil {
			t.Fatalf("got %v, want to be told why the stream ends", err)
		}
		if ev.Type == "tidewire.error" {
			break
		}
		got, last = append(got, ev.Data), ev
	}
	tell("4")
	second := open(kept, "&last_event_id="+last.ID)
	tell("5")
	for len(got) < 5 {
		got = append(got, next(second).Data)
	}
	if all := strings.Join(got, " "); all != "1 2 3 4 5" {
		t.Errorf("got %s, want all from 1 to 5", all)
	}
}

// TestServer_EndsTheStreamsOfKeysThatAKeySetHasNoMore takes a key out of a key set.
func TestServer_EndsTheStreamsOfKeysThatAKeySetHasNoMore(t *testing.T) {
	kept, keptKey := newPublisher(t)
	lost, stays, unknown := newSetKey(t, "1"), newSetKey(t, "2"), newSetKey(t, "3")
	var answer atomic.Pointer[jose.JSONWebKeySet]
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if set := answer.Load(); set != nil {
			_ = json.NewEncoder(w).Encode(set)
			return
		}
		http.Error(w, "broken", 500)
	}))
	defer keys.Close()
	answer.Store(&jose.JSONWebKeySet{Keys: []jose.JSONWebKey{lost.public, stays.public}})
	a := accessOf(t, false, keptKey)
	a.Options.JWKS = []string{keys.URL}
	var now atomic.Int64
	a.Options.Now = func() time.Time { return time.Now().Add(time.Duration(now.Load())) }
	s := startServer(t, server.Config{Access: a})
	byLost, byKept := openRevocable(t, s, lost.header), openRevocable(t, s, stays.header)
	streamsOf(t, s, kept, 2*len(byKept))

	// A key that the set does not have causes a fetch, not too soon after the one before.
	fetch := func() {
		t.Helper()
		now.Add(int64(time.Minute))
		_ = answerTo(t, "GET", s.URL()+"/events/a", "", unknown.header)
	}
	answer.Store(nil)
	fetch()
	streamsOf(t, s, kept, 2*len(byKept))
	answer.Store(&jose.JSONWebKeySet{Keys: []jose.JSONWebKey{stays.public}})
	fetch()
	wantRevoked(t, byLost)
	streamsOf(t, s, kept, len(byKept))
	wantLast(t, s, kept, byKept)
}

// A setKey is one of a key set, with a token that it has signed.
type setKey struct {
	public jose.JSONWebKey
	header string
}

func newSetKey(t *testing.T, id string) setKey {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := json.Marshal(jose.JSONWebKey{Key: private, KeyID: id, Algorithm: "EdDSA"})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(file, jwk, 0o600); err != nil {
		t.Fatal(err)
	}
	signer, err := auth.ParseSigner("EdDSA:" + file)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"**"}
	token, err := signer.Sign(&auth.Claims{Subject: id, Permissions: auth.Permissions{Subscribe: all, Publish: all}})
	if err != nil {
		t.Fatal(err)
	}
	return setKey{jose.JSONWebKey{Key: public, KeyID: id, Algorithm: "EdDSA"}, "Authorization: Bearer " + token}
}
