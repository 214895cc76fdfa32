package hub_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/tidewire/tidewire/hub"
)

// A way is one of having a stream, with a goroutine and without.
type way struct {
	name, path, accept string
	socket, overTLS    bool
}

var ways = []way{
	{name: "event stream", path: "/events/a", accept: "text/event-stream"},
	{name: "event stream over HTTP/2", path: "/events/a", accept: "text/event-stream", overTLS: true},
	{name: "JSON lines", path: "/events/a", accept: "application/x-ndjson"},
	{name: "long-poll", path: "/events/a?wait=60s", accept: "application/json"},
	{name: "long-poll over HTTP/2", path: "/events/a?wait=60s", accept: "application/json", overTLS: true},
	{name: "WebSocket", path: "/events/a", socket: true},
	{name: "WebSocket that publishes only", path: "/events/a?publish=only", socket: true},
}

// whole opens a stream, and returns all that comes until it ends.
func (w *way) whole(plain, overTLS *server, badge string) <-chan string {
	text := make(chan string, 1)
	s := plain
	if w.overTLS {
		s = overTLS
	}
	go func() {
		b, err := w.read(s, badge)
		if err != nil {
			b += fmt.Sprintf(" and then %v", err)
		}
		text <- b
	}()
	return text
}

func (w *way) read(s *server, badge string) (string, error) {
	if !w.socket {
		resp, err := s.Do(s.request("GET", w.path, nil, "Badge: "+badge, "Accept: "+w.accept))
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	conn, _, err := s.tryWebSocket(w.path, "Badge: "+badge)
	if err != nil {
		return "", err
	}
	var all strings.Builder
	for {
		_, b, err := conn.Read(conn.ctx)
		if closed := new(websocket.CloseError); errors.As(err, closed) {
			fmt.Fprint(&all, closed.Reason)
			return all.String(), nil
		}
		if err != nil {
			return all.String(), err
		}
		all.Write(append(b, '\n'))
	}
}

// newRevocable returns a hub whose streams are those of two credentials.
func newRevocable(t *testing.T) (*desk, *hub.Hub) {
	all := []string{"**"}
	d := newDesk(map[string]*hub.Grant{
		"lost": {Credential: "lost", Subscribe: all, Publish: all},
		"kept": {Credential: "kept", Subscribe: all, Publish: all},
	})
	return d, newSocketHub(t, hub.Options{Authority: d})
}

// revoked tells whether a stream was told that its credential is gone.
func revoked(text string) bool {
	return strings.Contains(text, "urn:tidewire:problem:token-expired") && strings.Contains(text, "was revoked")
}

func TestHub_RecheckEndsTheStreamsOfWhatIsRevoked(t *testing.T) {
	d, h := newRevocable(t)
	s, overTLS := serve(t, h), serveTLS(t, h)
	lost, kept := map[string]<-chan string{}, map[string]<-chan string{}
	for _, w := range ways {
		lost[w.name] = w.whole(s, overTLS, "lost")
		kept[w.name] = w.whole(s, overTLS, "kept")
	}
	eventually(t, "all have begun", func() bool { return len(h.Subscriptions(t.Context())) == 2*len(ways) })
	h.Recheck(t.Context())
	d.revoke("lost")
	h.Recheck(t.Context())
	for name, text := range lost {
		if got := <-text; !revoked(got) {
			t.Errorf("%s: got %q, want to be told that its credential was revoked", name, got)
		}
	}
	publish(t, h, event("a", "after that"))
	end(t, h, "a")
	for name, text := range kept {
		if strings.Contains(name, "publishes only") {
			continue
		}
		if got := <-text; revoked(got) || !strings.Contains(got, "after that") {
			t.Errorf("%s of another credential: got %q, want what came after", name, got)
		}
	}
	eventually(t, "the one is left that publishes only", func() bool { return len(h.Subscriptions(t.Context())) == 1 })
}

// A lateDesk has a credential revoked, and the streams checked, when it has granted something
// and the stream is not there yet.
type lateDesk struct {
	*desk
	hub *hub.Hub
}

func (d *lateDesk) Authorize(w http.ResponseWriter, r *http.Request, a *hub.Access) (*hub.Grant, error) {
	g, err := d.desk.Authorize(w, r, a)
	d.revoke(g.Credential)
	d.hub.Recheck(context.Background())
	return g, err
}

func TestHub_AStreamThatBeginsWhileItsCredentialIsRevokedEnds(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			d := &lateDesk{desk: newDesk(map[string]*hub.Grant{"lost": {Credential: "lost", Subscribe: []string{"**"}}})}
			d.hub = newSocketHub(t, hub.Options{Authority: d})
			text := w.whole(serve(t, d.hub), serveTLS(t, d.hub), "lost")
			if got := <-text; !revoked(got) {
				t.Errorf("got %q, want to be told that its credential was revoked", got)
			}
			d.allEnded(t)
		})
	}
}

func TestPOST_AStreamIsTakenUntilItsCredentialIsRevoked(t *testing.T) {
	for _, rest := range []string{"data: 2\n\n", ""} {
		d, h := newRevocable(t)
		s := serve(t, h)
		st := s.open("/events/a", "Badge: kept")
		body, w := io.Pipe()
		r := s.request("POST", "/events/a?end=true", body, "Badge: lost", "Content-Type: text/event-stream")
		done := make(chan string, 1)
		go func() {
			resp, err := s.Do(r)
			if err != nil {
				done <- err.Error()
				return
			}
			defer resp.Body.Close()
			b, _ := io.ReadAll(resp.Body)
			done <- string(b)
		}()
		if _, err := io.WriteString(w, "data: 1\n\n"); err != nil {
			t.Fatal(err)
		}
		if got := st.next().Data; got != "1" {
			t.Fatalf("got %q, want 1", got)
		}
		d.revoke("lost")
		_, _ = io.WriteString(w, rest) // which may not be read any more
		_ = w.Close()
		if got := <-done; !revoked(got) || !strings.Contains(got, `"count":1`) {
			t.Errorf("got %s, want to be told that one event was stored and then the credential revoked", got)
		}
		publish(t, h, event("a", "kept"))
		if got := st.next().Data; got != "kept" {
			t.Errorf("got %q after the first, want nothing of the one that was revoked", got)
		}
	}
}
