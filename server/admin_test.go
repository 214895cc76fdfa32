package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/server"
)

// An adminList is what a server says of its subscriptions.
type adminList struct {
	Count         int
	More          bool
	Subscriptions []struct {
		Subject, Address, Position string
		Topics, Patterns, Types    []string
		Since, Expires             time.Time
	}
}

// An adminWay is how an administrator speaks to a server.
type adminWay struct {
	name  string
	url   string // of the subscriptions
	token string
	c     *http.Client
}

// adminServer runs a server that asks for tokens, and returns the ways to administer it.
func adminServer(t *testing.T) (*server.Server, []adminWay) {
	t.Helper()
	dir := t.TempDir()
	s := startServer(t, server.Config{Data: dir, Access: tokensOnly(t)})
	c := &http.Client{Transport: new(http.Transport)}
	t.Cleanup(c.CloseIdleConnections)
	return s, []adminWay{
		{"HTTP", s.URL() + "/admin/subscriptions", adminToken(t), c},
		{"the control socket", "http://control/subscriptions", "", &http.Client{Transport: server.ControlTransport(dir)}},
	}
}

// adminToken returns a token that grants to administer, and nothing else.
func adminToken(t testing.TB) string {
	t.Helper()
	s, err := auth.NewSecretSigner("HS256", "", secret)
	if err != nil {
		t.Fatal(err)
	}
	token, err := s.Sign(&auth.Claims{Subject: "root", Permissions: auth.Permissions{Admin: true}})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// ask sends a request and returns the answer's body.
func (w *adminWay) ask(t testing.TB, method, query string) (status int, header http.Header, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.url+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	if w.token != "" {
		req.Header.Set("Authorization", "Bearer "+w.token)
	}
	resp, err := w.c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, body
}

func (w *adminWay) list(t testing.TB, query string) (l adminList) {
	t.Helper()
	status, header, body := w.ask(t, http.MethodGet, query)
	if status != http.StatusOK || header.Get("Content-Type") != "application/json" || header.Get("Cache-Control") != "no-store" {
		t.Fatalf("list %s: got %d %v %s", query, status, header, body)
	}
	if err := json.Unmarshal(body, &l); err != nil {
		t.Fatal(err)
	}
	return l
}

func (w *adminWay) end(t testing.TB, query string) int {
	t.Helper()
	status, _, body := w.ask(t, http.MethodDelete, query)
	var answer struct{ Ended *int }
	if err := json.Unmarshal(body, &answer); err != nil || status != http.StatusOK || answer.Ended == nil {
		t.Fatalf("end %s: got %d %s, %v", query, status, body, err)
	}
	return *answer.Ended
}

// becomes waits until so many subscriptions meet a query.
func (w *adminWay) becomes(t testing.TB, query string, want int) (l adminList) {
	t.Helper()
	for began := time.Now(); ; {
		if l = w.list(t, query); l.Count == want {
			return l
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("list %s: got %d, want %d in the end", query, l.Count, want)
		}
	}
}

// An adminStream is one that a subject has opened.
type adminStream struct {
	lines *bufio.Scanner
}

// openAs opens a stream from an address, and returns when it is open.
func openAs(t testing.TB, s *server.Server, subject, from, query, accept string) *adminStream {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DialContext: func(_ context.Context, _, to string) (net.Conn, error) {
		return dialFrom(from, to)
	}}}
	t.Cleanup(c.CloseIdleConnections)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+"/events?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+tokenOf(t, subject))
	req.Header.Set("Accept", accept)
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("subscribe: got %s %s", resp.Status, b)
	}
	return &adminStream{bufio.NewScanner(resp.Body)}
}

// rest returns what comes until the stream ends.
func (s *adminStream) rest(t testing.TB) string {
	t.Helper()
	var text strings.Builder
	for s.lines.Scan() {
		text.WriteString(s.lines.Text() + "\n")
	}
	if err := s.lines.Err(); err != nil {
		t.Errorf("got %v, want an end of the stream", err)
	}
	return text.String()
}

// openSome opens streams of all kinds.
func openSome(t testing.TB, s *server.Server) map[string]*adminStream {
	t.Helper()
	const es, lines = "text/event-stream", "application/x-ndjson"
	return map[string]*adminStream{
		"ada a":     openAs(t, s, "ada", "127.0.0.1", "topic=a", es),
		"ada b":     openAs(t, s, "ada", "127.0.0.2", "topic=b&topic=c&type=t", es),
		"bob a":     openAs(t, s, "bob", "127.0.0.2", "topic=a", lines),
		"bob a/*":   openAs(t, s, "bob", "127.0.0.3", "pattern=a/*", es),
		"eve **":    openAs(t, s, "eve", "127.0.0.3", "pattern=**", lines),
		"eve x/y z": openAs(t, s, "eve", "127.0.0.1", "topic=x/y&topic="+url.QueryEscape("z & ü"), es),
	}
}

func TestAdmin_ListsWhoSubscribesToWhat(t *testing.T) {
	s, ways := adminServer(t)
	began := time.Now().Add(-time.Second)
	openSome(t, s)
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			for _, tt := range []struct {
				query string
				want  string // subjects, and what they subscribe to
			}{
				{"", "ada a; ada b c of t; bob a; bob a/*; eve **; eve x/y z & ü"},
				{"?subject=ada", "ada a; ada b c of t"},
				{"?subject=", ""},
				{"?subject=nobody", ""},
				{"?topic=a", "ada a; bob a; eve **"},
				{"?topic=a/b", "bob a/*; eve **"},
				{"?topic=" + url.QueryEscape("z & ü"), "eve **; eve x/y z & ü"},
				{"?address=127.0.0.2", "ada b c of t; bob a"},
				{"?address=127.0.0.2/31", "ada b c of t; bob a; bob a/*; eve **"},
				{"?address=::ffff:127.0.0.2", "ada b c of t; bob a"},
				{"?address=::1", ""},
				{"?address=127.0.0.3&subject=eve", "eve **"},
				{"?address=127.0.0.3&subject=eve&topic=b&limit=5", "eve **"},
			} {
				l := w.list(t, tt.query)
				var got []string
				for _, one := range l.Subscriptions {
					text := one.Subject + " " + strings.Join(append(one.Topics, one.Patterns...), " ")
					if len(one.Types) > 0 {
						text += " of " + strings.Join(one.Types, " ")
					}
					got = append(got, text)
					if one.Since.Before(began) || one.Since.After(time.Now()) || !one.Expires.IsZero() || !strings.Contains(one.Position, "-") {
						t.Errorf("%s: got %+v, want a time since %v, no expiry and a position", tt.query, one, began)
					}
				}
				// They have begun in that order, but for those of one millisecond.
				if !sameSet(got, tt.want) || l.Count != len(got) || l.More {
					t.Errorf("%s: got %q of %d, more %v, want %q", tt.query, got, l.Count, l.More, tt.want)
				}
			}
		})
	}
}

// sameSet compares with a text in which ";" stands between the elements.
func sameSet(got []string, want string) bool {
	left := make(map[string]int)
	for _, s := range got {
		left[s]++
	}
	n := 0
	for s := range strings.SplitSeq(want, "; ") {
		if s != "" {
			n++
			left[s]--
		}
	}
	for _, n := range left {
		if n != 0 {
			return false
		}
	}
	return len(got) == n
}

func TestAdmin_ListIsBounded(t *testing.T) {
	s, ways := adminServer(t)
	openSome(t, s)
	for _, w := range ways {
		if l := w.list(t, "?limit=2"); l.Count != 6 || !l.More || len(l.Subscriptions) != 2 {
			t.Errorf("%s: got %+v, want 2 of 6, and more", w.name, l)
		}
		if l := w.list(t, "?limit=6"); l.More || len(l.Subscriptions) != 6 {
			t.Errorf("%s: got %+v, want all 6", w.name, l)
		}
	}
}

// TestAdmin_EndsStreams ends some of the streams: those are told why, and the others go on.
func TestAdmin_EndsStreams(t *testing.T) {
	for _, tt := range []struct {
		query string
		ended []string
	}{
		{"?subject=ada", []string{"ada a", "ada b"}},
		{"?topic=a", []string{"ada a", "bob a", "eve **"}},
		{"?topic=a/b", []string{"bob a/*", "eve **"}},
		{"?address=127.0.0.3", []string{"bob a/*", "eve **"}},
		{"?address=127.0.0.0/8&subject=bob", []string{"bob a", "bob a/*"}},
		{"?all=true", []string{"ada a", "ada b", "bob a", "bob a/*", "eve **", "eve x/y z"}},
		{"?subject=nobody", nil},
	} {
		t.Run(tt.query, func(t *testing.T) {
			s, ways := adminServer(t)
			for _, w := range ways {
				streams := openSome(t, s)
				if n := w.end(t, tt.query); n != len(tt.ended) {
					t.Fatalf("%s: got %d ended, want %d", w.name, n, len(tt.ended))
				}
				for _, name := range tt.ended {
					text := streams[name].rest(t)
					if !strings.Contains(text, "tidewire.error") || !strings.Contains(text, "urn:tidewire:problem:forbidden") || !strings.Contains(text, "an administrator has ended this stream") {
						t.Errorf("%s: stream %s: got %q, want an error that says why", w.name, name, text)
					}
					delete(streams, name)
				}
				w.becomes(t, "", len(streams))
				tellAll(t, s)
				for name, stream := range streams {
					for stream.lines.Scan() && !strings.Contains(stream.lines.Text(), "after that") {
					}
					if !strings.Contains(stream.lines.Text(), "after that") {
						t.Errorf("%s: stream %s has ended (%v), and was not meant", w.name, name, stream.lines.Err())
					}
				}
				w.end(t, "?all=true")
				w.becomes(t, "", 0)
			}
		})
	}
}

// tellAll publishes an event for each stream of openSome.
func tellAll(t testing.TB, s *server.Server) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/events?type=t&topic=a&topic=b&topic=a/b&topic=x/y", strings.NewReader("after that"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+tokenOf(t, "publisher"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("publish: got %s", resp.Status)
	}
}

// TestAdmin_RefusesAndExplains asks for what is not granted, or makes no sense: no stream
// ends.
func TestAdmin_RefusesAndExplains(t *testing.T) {
	s, ways := adminServer(t)
	openSome(t, s)
	none, other := ways[0], ways[0]
	none.token, other.token = "", tokenOf(t, "ada")
	for _, tt := range []struct {
		who           adminWay
		method, query string
		status        int
		says          []string
	}{
		{none, "GET", "", 401, []string{"problem:unauthorized", "Authorization"}},
		{none, "DELETE", "?all=true", 401, []string{"problem:unauthorized"}},
		{other, "GET", "", 403, []string{"problem:forbidden", "the token", "admin"}},
		{other, "DELETE", "?all=true", 403, []string{"problem:forbidden", "admin"}},
		{other, "DELETE", "?all=true&admin=true", 403, []string{"problem:forbidden"}},
		{ways[0], "GET", "s", 404, []string{"/admin/subscriptions"}},
		{ways[0], "GET", "/", 404, nil},
		{ways[1], "GET", "s", 404, nil},
		{ways[0], "POST", "", 405, []string{"GET, DELETE"}},
		{ways[0], "OPTIONS", "", 405, nil},
		{ways[1], "PUT", "", 405, []string{"GET, DELETE"}},
		{ways[0], "DELETE", "", 400, []string{"subject=, topic= or address=", "all=true"}},
		{ways[1], "DELETE", "", 400, []string{"all=true"}},
		{ways[0], "DELETE", "?all=true&subject=ada", 400, []string{"alone"}},
		{ways[0], "DELETE", "?all=yes", 400, []string{`"all"`, "true only"}},
		{ways[0], "DELETE", "?subject=ada&adress=127.0.0.1", 400, []string{`"adress"`, "no such parameter", "address"}},
		{ways[0], "DELETE", "?subject=ada&limit=1", 400, []string{`"limit"`, "no such parameter"}},
		{ways[0], "DELETE", "?subject=ada&subject=bob", 400, []string{`"subject"`, "once"}},
		{ways[0], "GET", "?all=true", 400, []string{`"all"`, "no such parameter"}},
		{ways[0], "GET", "?limit=0", 400, []string{`"limit"`, "1 or more"}},
		{ways[0], "GET", "?limit=x", 400, []string{`"limit"`}},
		{ways[0], "GET", "?topic=", 400, []string{`"topic"`}},
		{ways[0], "GET", "?topic=%00", 400, []string{`"topic"`}},
		{ways[0], "GET", "?address=localhost", 400, []string{`"address"`, "192.0.2.7"}},
		{ways[0], "DELETE", "?address=127.0.0.1/64", 400, []string{`"address"`}},
		{ways[0], "DELETE", "?subject=%zz", 400, []string{"cannot be parsed"}},
	} {
		status, header, body := tt.who.ask(t, tt.method, tt.query)
		var doc struct{ Type, Detail, Field string }
		if err := json.Unmarshal(body, &doc); err != nil || status != tt.status || header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: got %d %s %s, %v, want %d", tt.method, tt.query, status, header.Get("Content-Type"), body, err, tt.status)
		}
		for _, says := range tt.says {
			if !strings.Contains(fmt.Sprintf("%s %q %s", doc.Type, doc.Field, doc.Detail), says) {
				t.Errorf("%s %s: got %+v, want what has %s", tt.method, tt.query, doc, says)
			}
		}
		if challenge := header.Get("WWW-Authenticate"); (challenge != "") != (status == 401) {
			t.Errorf("%s %s: got %d with challenge %q", tt.method, tt.query, status, challenge)
		}
	}
	ways[1].becomes(t, "", 6)
}

// TestAdmin_IsNotForOtherPages asks as the browser does for a page of another origin, which
// may use the hub.
func TestAdmin_IsNotForOtherPages(t *testing.T) {
	c := server.Config{}
	c.Hub.AllowedOrigins = []string{"https://allowed.example"}
	s := startServer(t, c) // that lets anyone do everything
	for origin, want := range map[string]int{"https://allowed.example": 200, "https://other.example": 403, s.URL(): 200} {
		for _, method := range []string{http.MethodGet, http.MethodOptions} {
			req, err := http.NewRequestWithContext(t.Context(), method, s.URL()+"/admin/subscriptions", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Origin", origin)
			if method == http.MethodOptions {
				req.Header.Set("Access-Control-Request-Method", http.MethodDelete)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if allowed := resp.Header.Get("Access-Control-Allow-Origin"); allowed != "" {
				t.Errorf("%s of %s: got a page of %s that may see the answer", method, origin, allowed)
			}
			if method == http.MethodGet && resp.StatusCode != want {
				t.Errorf("%s of %s: got %s, want %d", method, origin, resp.Status, want)
			}
			if method == http.MethodOptions && resp.StatusCode < 400 {
				t.Errorf("%s of %s: got %s, want a refusal", method, origin, resp.Status)
			}
		}
	}
}

// TestAdmin_WhoIsEndedMissesNothing has a client that comes back again and again.
func TestAdmin_WhoIsEndedMissesNothing(t *testing.T) {
	const events = 20
	s, ways := adminServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n := 0
	tellAll(t, s)
	for ev, err := range eventsource.Stream(ctx, s.URL()+"/events/a?since=earliest", &eventsource.Options{
		Header: http.Header{"Authorization": {"Bearer " + tokenOf(t, "ada")}},
		Retry: func(eventsource.Attempt, time.Duration, bool) (time.Duration, bool) {
			tellAll(t, s) // while it is away
			return time.Millisecond, true
		},
	}) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Type == "tidewire.error" {
			continue
		}
		if n++; n == events {
			return
		}
		if got := ways[n%2].end(t, "?subject=ada"); got != 1 {
			t.Fatalf("got %d ended, want 1", got)
		}
	}
	t.Fatalf("got %d events, want %d", n, events)
}

// TestAdmin_WhileStreamsComeAndGo lists and ends streams that begin and end meanwhile.
func TestAdmin_WhileStreamsComeAndGo(t *testing.T) {
	s, ways := adminServer(t)
	var coming sync.WaitGroup
	for i := range 4 {
		coming.Go(func() {
			for range 25 {
				subject := fmt.Sprint("s", i)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+"/events?pattern=*", nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer "+tokenOf(t, subject))
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				if i%2 == 0 {
					_, _ = io.Copy(io.Discard, resp.Body) // until it is ended
				}
				_ = resp.Body.Close()
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		coming.Wait()
	}()
	for n := 0; ; n++ {
		w := ways[n%2]
		w.list(t, "?topic=a")
		w.end(t, []string{"?subject=s0", "?subject=s2", "?topic=a", "?address=127.0.0.1"}[n%4])
		select {
		case <-done:
			ways[0].becomes(t, "", 0)
			return
		default:
		}
	}
}

func TestControlTransport_SaysThatNoServerRuns(t *testing.T) {
	c := &http.Client{Transport: server.ControlTransport(t.TempDir())}
	_, err := c.Get("http://control/subscriptions")
	if !errors.Is(err, server.ErrNotRunning) {
		t.Errorf("got %v, want ErrNotRunning", err)
	}
}
