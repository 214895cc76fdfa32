package server_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
	"github.com/tidewire/tidewire/server"
)

// webSocket opens one. Headers are "Name: value".
func webSocket(t testing.TB, client *http.Client, url string, headers ...string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	o := &websocket.DialOptions{HTTPClient: client, HTTPHeader: make(http.Header)}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		o.HTTPHeader.Add(name, value)
	}
	conn, resp, err := websocket.Dial(ctx, url, o)
	if err == nil {
		t.Cleanup(func() { _ = conn.CloseNow() })
	}
	return conn, resp, err
}

func mustWebSocket(t testing.TB, url string, headers ...string) *websocket.Conn {
	t.Helper()
	conn, _, err := webSocket(t, nil, url, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// exchange sends a message, and returns the next one.
func exchange(t testing.TB, conn *websocket.Conn, message string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := conn.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
		t.Fatal(err)
	}
	_, b, err := conn.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWebSocket_CountsAsAStream(t *testing.T) {
	s := startServer(t, server.Config{Limits: server.Limits{StreamsPerAddress: 2}})
	one := mustWebSocket(t, s.URL()+"/events/a")
	mustWebSocket(t, s.URL()+"/events?publish=only")
	_, resp, err := webSocket(t, nil, s.URL()+"/events/a")
	if err == nil || resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Fatalf("a third: got %v, %+v, want 429", err, resp)
	}
	if err := one.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there is room again", func() bool {
		_, _, err := webSocket(t, nil, s.URL()+"/events/a")
		return err == nil
	})
}

func TestWebSocket_KeepsToThePublishRate(t *testing.T) {
	s := startServer(t, server.Config{Limits: server.Limits{PublishRate: 0.01}})
	ws := mustWebSocket(t, s.URL()+"/events/a?publish=only")
	if got := exchange(t, ws, `{"ref":1}`); !strings.Contains(got, "tidewire.ack") {
		t.Errorf("got %s, want an ack", got)
	}
	var nack struct {
		Type       string
		Ref        int
		Problem    struct{ Type string }
		RetryAfter int `json:"retry_after"`
	}
	got := exchange(t, ws, `{"ref":2}`)
	if err := json.Unmarshal([]byte(got), &nack); err != nil || nack.Type != "tidewire.nack" || nack.Ref != 2 ||
		nack.Problem.Type != "urn:tidewire:problem:too-many-requests" || nack.RetryAfter < 50 || nack.RetryAfter > 100 {
		t.Errorf("got %s, want a nack for more than one at once", got)
	}
}

func TestWebSocket_CredentialsAreThoseOfTheHandshake(t *testing.T) {
	access := tokensOnly(t)
	s := startServer(t, server.Config{Access: access, Hub: hub.Options{AllowedOrigins: []string{"https://a.example"}}})
	token := tokenOf(t, "alice")
	host := "Origin: " + s.URL()
	for _, c := range []struct {
		name    string
		headers []string
		status  int // of the handshake; 101 if it is to publish as well
	}{
		{"a header", []string{"Authorization: Bearer " + token}, 101},
		{"a cookie, and a page of the server's own", []string{"Cookie: tidewire=" + token, host}, 101},
		{"a cookie, and no page", []string{"Cookie: tidewire=" + token}, 403},
		{"a cookie, and a page that may not have it", []string{"Cookie: tidewire=" + token, "Origin: https://a.example"}, 403},
		{"a cookie, and a page of another origin", []string{"Cookie: tidewire=" + token, "Origin: https://b.example"}, 403},
		{"nothing", nil, 401},
	} {
		ws, resp, err := webSocket(t, nil, s.URL()+"/events/a?publish=only", c.headers...)
		if resp == nil || resp.StatusCode != c.status || (err == nil) != (c.status == 101) {
			t.Errorf("%s: got %v, want %d", c.name, err, c.status)
			continue
		}
		if err != nil {
			if b, _ := io.ReadAll(resp.Body); resp.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(string(b), "detail") {
				t.Errorf("%s: got %s, want a problem document", c.name, b)
			}
			continue
		}
		if got := exchange(t, ws, `{"data":"x"}`); !strings.Contains(got, "tidewire.ack") {
			t.Errorf("%s: got %s, want an ack", c.name, got)
		}
	}
}

// A ticket is for subscribing, and its use on a socket is its one use.
func TestWebSocket_ATicketSubscribes(t *testing.T) {
	s := startServer(t, server.Config{Access: tokensOnly(t)})
	token := tokenOf(t, "alice")
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL()+"/tickets", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	issued, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = issued.Body.Close() }()
	var ticket struct{ Query string }
	if err := json.NewDecoder(issued.Body).Decode(&ticket); err != nil || ticket.Query == "" {
		t.Fatalf("got %s, %v, want a ticket", issued.Status, err)
	}
	ws, resp, err := webSocket(t, nil, s.URL()+"/events/a?"+ticket.Query)
	if err != nil || len(resp.Cookies()) != 1 {
		t.Fatalf("got %v and %v, want a socket and a cookie", err, resp)
	}
	if got := exchange(t, ws, `{"data":"x"}`); !strings.Contains(got, "tidewire.nack") || !strings.Contains(got, "a ticket is for subscribing") {
		t.Errorf("got %s, want to be told that a ticket is for subscribing", got)
	}
	if _, resp, err := webSocket(t, nil, s.URL()+"/events/a?"+ticket.Query); err == nil || resp.StatusCode != 401 {
		t.Errorf("again: got %v, want 401", err)
	}
	cookie := resp.Cookies()[0]
	if _, _, err := webSocket(t, nil, s.URL()+"/events/a?"+ticket.Query, "Cookie: "+cookie.Name+"="+cookie.Value); err != nil {
		t.Errorf("again with its cookie: got %v", err)
	}
}

func TestWebSocket_OverTLS(t *testing.T) {
	p := newCertPair(t, t.TempDir())
	s := startServer(t, server.Config{Transport: server.Transport{TLS: server.TLSFiles, CertFile: p.cert, KeyFile: p.key}})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots}}}
	defer client.CloseIdleConnections()
	ws, _, err := webSocket(t, client, s.URL()+"/events/a?publish=only")
	if err != nil {
		t.Fatal(err)
	}
	if got := exchange(t, ws, `{"data":"x"}`); !strings.Contains(got, "tidewire.ack") {
		t.Errorf("got %s, want an ack", got)
	}
}

func TestWebSocket_AStopOfTheServerClosesIt(t *testing.T) {
	url, stop, _, ended := start(t, server.Config{})
	sockets := []*websocket.Conn{mustWebSocket(t, url+"/events/a"), mustWebSocket(t, url+"/events?publish=only")}
	stop()
	for _, ws := range sockets {
		_, _, err := ws.Read(t.Context())
		if code := websocket.CloseStatus(err); code != websocket.StatusServiceRestart {
			t.Errorf("got %v, want 1012", err)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// newSocketHub serves a hub by hand, behind what wrap makes of it.
func newSocketHub(t *testing.T, o *server.WebSocketOptions, wrap func(http.Handler) http.Handler) (url string) {
	t.Helper()
	log, err := memory.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := hub.New(&hub.Options{Log: log, WebSocket: server.WebSocket(o)})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(wrap(h))
	t.Cleanup(func() {
		if err := errors.Join(h.Shutdown(context.Background()), log.Close()); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	return srv.URL
}

func asItIs(h http.Handler) http.Handler { return h }

func TestWebSocket_CompressesWhereThatIsAskedForOnBothSides(t *testing.T) {
	for _, compress := range []bool{false, true} {
		url := newSocketHub(t, &server.WebSocketOptions{Compression: compress}, asItIs)
		conn, resp, err := websocket.Dial(t.Context(), url+"/events/a", &websocket.DialOptions{CompressionMode: websocket.CompressionNoContextTakeover})
		if err != nil {
			t.Fatal(err)
		}
		conn.SetReadLimit(-1)
		if got := resp.Header.Get("Sec-WebSocket-Extensions"); strings.Contains(got, "permessage-deflate") != compress {
			t.Errorf("compression %v: got the extensions %q", compress, got)
		}
		data := strings.Repeat("again and ", 5000)
		got := exchange(t, conn, fmt.Sprintf(`{"data":%q}`, data))
		_, second, err := conn.Read(t.Context())
		if got += string(second); err != nil || !strings.Contains(got, data) || !strings.Contains(got, "tidewire.ack") {
			t.Errorf("compression %v: got %.200s, %v, want what was sent, and an ack", compress, got, err)
		}
		// What unpacks to more than a message may have is refused.
		bomb := strings.Repeat(" ", 8<<20)
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(bomb)); err == nil {
			for err == nil {
				_, _, err = conn.Read(t.Context())
			}
			if code := websocket.CloseStatus(err); code != websocket.StatusMessageTooBig {
				t.Errorf("compression %v: got %v, want 1009", compress, err)
			}
		}
		_ = conn.CloseNow()
	}
}

func TestWebSocket_NeedsAConnectionToTakeOver(t *testing.T) {
	wrapped := newSocketHub(t, nil, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(unwrapper{w}, r) })
	})
	mustWebSocket(t, wrapped+"/events/a")
	without := newSocketHub(t, nil, func(h http.Handler) http.Handler { return http.TimeoutHandler(h, patience, "") })
	_, resp, err := webSocket(t, nil, without+"/events/a")
	if err == nil || resp.StatusCode != http.StatusNotAcceptable || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("got %v, %v, want 406 and why", err, resp)
	}
}

// An unwrapper is a response whose capabilities are found by Unwrap alone.
type unwrapper struct{ http.ResponseWriter }

func (u unwrapper) Unwrap() http.ResponseWriter { return u.ResponseWriter }

func TestWebSocket_SpeaksTheSubprotocolThatIsAskedFor(t *testing.T) {
	url := newSocketHub(t, nil, asItIs)
	for asked, want := range map[string]string{"": "", "other": "", "tidewire": "tidewire"} {
		o := new(websocket.DialOptions)
		if asked != "" {
			o.Subprotocols = []string{asked}
		}
		conn, _, err := websocket.Dial(t.Context(), url+"/events/a", o)
		if err != nil {
			t.Fatalf("%q: %v", asked, err)
		}
		if got := conn.Subprotocol(); got != want {
			t.Errorf("%q: got %q, want %q", asked, got, want)
		}
		_ = conn.CloseNow()
	}
}
