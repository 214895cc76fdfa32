package auth_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
)

const ticketPage = "https://page.example"

// A ticketServer is a hub with tickets and a publisher key, over HTTP.
type ticketServer struct {
	*httptest.Server
	tickets *auth.Tickets
	key     string
}

func newTicketServer(t testing.TB, secure bool) *ticketServer {
	t.Helper()
	s := &ticketServer{tickets: newTickets(t, auth.TicketOptions{})}
	key, record, err := auth.NewPublisherKey("shop", auth.Permissions{Subscribe: []string{"news/**"}, Publish: []string{"news/**"}}, time.Now(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	s.key = key
	authority := newAuthority(t, &auth.Options{PublisherKeys: []auth.PublisherKey{record}, Tickets: s.tickets, Now: time.Now})
	log, err := memory.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := hub.New(&hub.Options{Log: log, Authority: authority, AllowedOrigins: []string{ticketPage}, AllowCredentials: true})
	if err != nil {
		t.Fatal(err)
	}
	tickets := s.tickets.Handler(authority, h)
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/tickets" {
			tickets.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	}))
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		s.Close()
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// browser returns a client with cookies of its own.
func (s *ticketServer) browser(t testing.TB) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := *s.Client()
	c.Jar = jar
	return &c
}

// send sends a request, whose answer's body must be closed.
func (s *ticketServer) send(t testing.TB, c *http.Client, method, target, body string, header ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// ticket fetches one, and returns its part of a query.
func (s *ticketServer) ticket(t testing.TB, body string) string {
	t.Helper()
	resp := s.send(t, s.Client(), "POST", "/tickets", body, "Content-Type: application/json", "Authorization: Bearer "+s.key)
	var answer struct {
		Ticket  string    `json:"ticket"`
		Query   string    `json:"query"`
		FirstBy time.Time `json:"first_use_by"`
		Expires time.Time `json:"expires"`
		Reuse   bool      `json:"reuse"`
	}
	d := json.NewDecoder(resp.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&answer); err != nil {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	if resp.StatusCode != 201 || resp.Header.Get("Cache-Control") != "no-store" || answer.Query != "ticket="+answer.Ticket || answer.FirstBy.After(answer.Expires) {
		t.Fatalf("got %s with %v and %+v, want 201, no-store and a ticket", resp.Status, resp.Header, answer)
	}
	return answer.Query
}

// subscribe opens a stream, as an EventSource would.
func (s *ticketServer) subscribe(t testing.TB, c *http.Client, query string, header ...string) *http.Response {
	t.Helper()
	return s.send(t, c, "GET", "/events/news/a?"+query, "", append(header, "Accept: text/event-stream")...)
}

// wantLine reads a stream up to a line.
func wantLine(t testing.TB, resp *http.Response, prefix string) {
	t.Helper()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), prefix) {
			return
		}
	}
	t.Fatalf("%s: the stream ended (%v) before a line with %q", resp.Status, lines.Err(), prefix)
}

func TestTickets_EventSourceReconnects(t *testing.T) {
	for _, secure := range []bool{true, false} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			s := newTicketServer(t, secure)
			query := s.ticket(t, `{"subscribe":["news/a"]}`)
			page := s.browser(t)
			for i := range 3 {
				stream := s.subscribe(t, page, query, "Last-Event-ID: x")
				wantLine(t, stream, "retry: ")
				stream.Body.Close()
				if got := len(stream.Cookies()); i == 0 && got != 1 || i > 0 && got != 0 {
					t.Errorf("stream %d: got %d cookies, want one of the first", i+1, got)
				}
			}
			thief := s.browser(t)
			refused := s.subscribe(t, thief, query)
			wantLine(t, refused, "event: tidewire.error")
			if got := refused.StatusCode; got != 200 || len(refused.Cookies()) > 0 {
				t.Errorf("without the proof: got %d with cookies %v, want 200 with an error, and none", got, refused.Cookies())
			}
			if got := s.subscribe(t, thief, query).StatusCode; got != 204 {
				t.Errorf("once more without the proof: got %d, want 204, which stops an EventSource", got)
			}
			if got := s.send(t, thief, "GET", "/events/news/a?"+query, "", "Prefer: status").StatusCode; got != 401 {
				t.Errorf("a program without the proof: got %d, want 401", got)
			}
			stream := s.subscribe(t, page, query)
			wantLine(t, stream, "retry: ")
		})
	}
}

// TestTickets_EveryAnswerWithTheProofUsesThem looks at answers that are no event streams too.
func TestTickets_EveryAnswerWithTheProofUsesThem(t *testing.T) {
	for _, accept := range []string{"text/event-stream", "application/x-ndjson", "*/*"} {
		for _, secure := range []bool{true, false} {
			s := newTicketServer(t, secure)
			query := s.ticket(t, "")
			first := s.send(t, s.browser(t), "GET", "/events/news/a?"+query, "", "Accept: "+accept)
			if first.StatusCode != 200 || len(first.Cookies()) != 1 {
				t.Fatalf("%s: got %s with cookies %v, want a stream with the proof", accept, first.Status, first.Cookies())
			}
			got := 503 // until the server has noted that its answer went out
			for end := time.Now().Add(10 * time.Second); got == 503 && time.Now().Before(end); {
				got = s.send(t, s.browser(t), "GET", "/events/news/a?"+query, "", "Prefer: status").StatusCode
			}
			if got != 401 {
				t.Errorf("%s: got %d without the proof after that, want 401", accept, got)
			}
			if got := s.send(t, s.browser(t), "GET", "/events/news/a?since=nonsense&"+s.ticket(t, ""), ""); got.StatusCode != 400 || len(got.Cookies()) > 0 {
				t.Errorf("%s: got %s with cookies %v, want a refusal without", accept, got.Status, got.Cookies())
			}
		}
	}
}

func TestTickets_HubGrantsWhatTheTicketSays(t *testing.T) {
	s := newTicketServer(t, true)
	const asked = `{"subscribe":["news/a"]}`
	for _, tt := range []struct {
		method, target string
		want           int
	}{
		{"GET", "/events/news/a?", 200},
		{"HEAD", "/events/news/a?", 200},
		{"GET", "/events/news/b?", 403},
		{"GET", "/events/news%2Fb?", 403},
		{"GET", "/events/news/a/?", 403},
		{"GET", "/events//news/a?", 403},
		{"GET", "/events?pattern=news/*&", 403},
		{"GET", "/events/news/a?topic=news/b&", 403},
		{"POST", "/events/news/a?", 401},
		{"DELETE", "/events/news/a?", 401},
	} {
		resp := s.send(t, s.browser(t), tt.method, tt.target+s.ticket(t, asked), "")
		if resp.StatusCode != tt.want {
			t.Errorf("%s %s: got %s, want %d", tt.method, tt.target, resp.Status, tt.want)
		}
		if got := len(resp.Cookies()); got > 0 && (tt.method != "GET" || tt.want != 200) {
			t.Errorf("%s %s: got %d cookies, want none", tt.method, tt.target, got)
		}
	}
}

func TestTickets_CookieFitsWhereItComesFrom(t *testing.T) {
	tests := []struct {
		name    string
		secure  bool // the connection
		host    string
		header  []string
		want    []string
		wantNot []string
	}{
		{"TLS", true, "", nil, []string{"HttpOnly", "Secure", "SameSite=Strict", "Path=/events"}, []string{"Partitioned", "Domain"}},
		{"clear text", false, "", nil, []string{"HttpOnly", "SameSite=Strict"}, []string{"Secure", "Partitioned"}},
		{"a proxy with TLS in front", false, "hub.example", []string{"X-Forwarded-Proto: https"}, []string{"Secure", "SameSite=Strict"}, []string{"Partitioned"}},
		{"a browser that has TLS", false, "hub.example", []string{"Sec-Fetch-Site: same-origin"}, []string{"Secure", "SameSite=Strict"}, []string{"Partitioned"}},
		{"a browser on this machine", false, "localhost:7730", []string{"Sec-Fetch-Site: same-origin"}, []string{"SameSite=Strict"}, []string{"Secure", "Partitioned"}},
		{"a page of the same site", true, "", []string{"Sec-Fetch-Site: same-site", "Origin: " + ticketPage}, []string{"Secure", "SameSite=Strict"}, []string{"Partitioned"}},
		{"a page of another site", true, "", []string{"Sec-Fetch-Site: cross-site", "Origin: " + ticketPage}, []string{"HttpOnly", "Secure", "SameSite=None", "Partitioned"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newTicketServer(t, tt.secure)
			r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/events/news/a?"+s.ticket(t, ""), nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = tt.host
			for _, h := range tt.header {
				name, value, _ := strings.Cut(h, ": ")
				r.Header.Set(name, value)
			}
			resp, err := s.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			line := resp.Header.Get("Set-Cookie")
			attributes := strings.Split(line, "; ")
			if !strings.HasPrefix(line, "tw-") || !strings.Contains(line, "Max-Age=86400") {
				t.Errorf("got cookie %q, want a proof for a day", line)
			}
			for _, want := range tt.want {
				if !slices.Contains(attributes, want) {
					t.Errorf("got cookie %q, want %s", line, want)
				}
			}
			for _, not := range tt.wantNot {
				if strings.Contains(line, not) {
					t.Errorf("got cookie %q, want no %s", line, not)
				}
			}
		})
	}
}

// TestTickets_CookiesStayFew has a page be loaded again and again.
func TestTickets_CookiesStayFew(t *testing.T) {
	s := newTicketServer(t, true)
	page := s.browser(t)
	at, err := url.Parse(s.URL + "/events/news/a")
	if err != nil {
		t.Fatal(err)
	}
	page.Jar.SetCookies(at, []*http.Cookie{{Name: "tw-theme", Value: "dark", Path: "/events"}})
	var queries []string
	for range 40 {
		query := s.ticket(t, "")
		stream := s.subscribe(t, page, query)
		wantLine(t, stream, "retry: ")
		stream.Body.Close()
		queries = append(queries, query)
	}
	cookies := page.Jar.Cookies(at)
	if got := len(cookies); got != 33 {
		t.Errorf("got %d cookies, want 32 proofs and another one", got)
	}
	for i, want := range map[int]string{0: "event: tidewire.error", 7: "event: tidewire.error", 8: "retry: ", 39: "retry: "} {
		stream := s.subscribe(t, page, queries[i])
		wantLine(t, stream, want)
		stream.Body.Close()
	}
}

func TestTickets_Handler(t *testing.T) {
	s := newTicketServer(t, true)
	key := "Authorization: Bearer " + s.key
	const json = "Content-Type: application/json"
	tests := []struct {
		name   string
		method string
		target string
		header []string
		body   string
		status int
		says   string
	}{
		{"no body", "POST", "/tickets", []string{key}, "", 201, `"reuse":false`},
		{"no body, and a type for it", "POST", "/tickets", []string{key, json}, "", 201, ""},
		{"an empty object", "POST", "/tickets", []string{key, json}, " {} \n", 201, ""},
		{"a type with a parameter", "POST", "/tickets", []string{key, "Content-Type: Application/JSON; charset=utf-8"}, "{}", 201, ""},
		{"all fields", "POST", "/tickets", []string{key, json}, `{"subscribe":["news/*"],"private":[],"subject":"bob","reuse":true,"expires_in":60}`, 201, `"reuse":true`},

		{"no credentials", "POST", "/tickets", nil, "", 401, "unauthorized"},
		{"another key", "POST", "/tickets", []string{key + "x"}, "", 401, "unauthorized"},
		{"more than is granted", "POST", "/tickets", []string{key, json}, `{"subscribe":["**"]}`, 403, "the key"},
		{"a form", "POST", "/tickets", []string{key, "Content-Type: application/x-www-form-urlencoded"}, "a=b", 415, "application/json"},
		{"text", "POST", "/tickets", []string{key, "Content-Type: text/plain"}, "{}", 415, ""},
		{"no type", "POST", "/tickets", []string{key}, "{}", 415, ""},
		{"not JSON", "POST", "/tickets", []string{key, json}, "{", 400, "bad-body"},
		{"a list", "POST", "/tickets", []string{key, json}, "[]", 400, "bad-body"},
		{"two objects", "POST", "/tickets", []string{key, json}, "{}{}", 400, "more after"},
		{"something after it", "POST", "/tickets", []string{key, json}, "{} x", 400, "more after"},
		{"an unknown field", "POST", "/tickets", []string{key, json}, `{"topics":["a"]}`, 400, "topics"},
		{"a text for a list", "POST", "/tickets", []string{key, json}, `{"subscribe":"news/a"}`, 400, `"field":"subscribe"`},
		{"a number out of range", "POST", "/tickets", []string{key, json}, `{"expires_in":1e99}`, 400, `"field":"expires_in"`},
		{"too large", "POST", "/tickets", []string{key, json}, `{"subject":"` + strings.Repeat("a", 65<<10) + `"}`, 413, "too-large"},
		{"another method", "GET", "/tickets", []string{key}, "", 405, "POST"},
		{"another page", "POST", "/tickets", []string{key, "Origin: https://evil.example"}, "", 403, "origin-not-allowed"},
		{"an allowed page", "POST", "/tickets", []string{key, "Origin: " + ticketPage}, "", 201, ""},
		{"a ticket for a ticket", "POST", "/tickets?" + s.ticket(t, ""), nil, "", 403, "Authorization"},
		{"a ticket beside a key", "POST", "/tickets?" + s.ticket(t, ""), []string{key}, "", 403, "Authorization"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp := s.send(t, s.Client(), tt.method, tt.target, tt.body, tt.header...)
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tt.status || !strings.Contains(string(body), tt.says) {
				t.Errorf("got %d %s, want %d with %q", resp.StatusCode, body, tt.status, tt.says)
			}
			if got := resp.Header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("got Cache-Control %q, want no-store", got)
			}
			if tt.status >= 400 && resp.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("got type %q, want a problem document", resp.Header.Get("Content-Type"))
			}
		})
	}
}

func TestTickets_Preflight(t *testing.T) {
	s := newTicketServer(t, true)
	resp := s.send(t, s.Client(), "OPTIONS", "/tickets", "", "Origin: "+ticketPage, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,content-type")
	h := resp.Header
	if resp.StatusCode != 204 || h.Get("Access-Control-Allow-Origin") != ticketPage || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") ||
		!strings.Contains(h.Get("Access-Control-Allow-Headers"), "Authorization") || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "Content-Type") {
		t.Errorf("got %s with %v, want that the page may send both headers", resp.Status, h)
	}
	resp = s.send(t, s.Client(), "OPTIONS", "/tickets", "", "Origin: https://evil.example", "Access-Control-Request-Method: POST")
	if resp.StatusCode != 403 || resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("of another page: got %s with %v, want 403", resp.Status, resp.Header)
	}
}
