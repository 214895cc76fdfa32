package hub_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/hub"
)

// TestCORS has pages of several origins at hubs that allow some of them.
func TestCORS(t *testing.T) {
	const page = "https://page.example"
	none := hub.Options{}
	list := hub.Options{AllowedOrigins: []string{"http://other.example:8080", page}}
	credentials := hub.Options{AllowedOrigins: []string{page}, AllowCredentials: true}
	every := hub.Options{AllowedOrigins: []string{"*"}}
	tests := []struct {
		name    string
		opts    hub.Options
		headers []string
		allowed bool
		origin  string // Access-Control-Allow-Origin
		with    string // Access-Control-Allow-Credentials
		vary    bool
	}{
		{"no page at all", none, nil, true, "", "", false},
		{"the hub's own page", none, []string{"Origin: http://hub.example:80", "Host: hub.example:80"}, true, "", "", false},
		{"the hub's own page behind a proxy that changes the host", none, []string{"Origin: " + page, "Sec-Fetch-Site: same-origin"}, true, "", "", false},
		{"another page", none, []string{"Origin: " + page}, false, "", "", false},
		{"another page of the same site", none, []string{"Origin: " + page, "Sec-Fetch-Site: same-site"}, false, "", "", false},
		{"another port", none, []string{"Origin: http://hub.example:81", "Host: hub.example:80"}, false, "", "", false},
		{"a page in a sandbox", none, []string{"Origin: null"}, false, "", "", false},
		{"nonsense", none, []string{"Origin: ://"}, false, "", "", false},
		{"an empty origin's host", none, []string{"Origin: http://"}, false, "", "", false},

		{"list: one that is allowed", list, []string{"Origin: " + page}, true, page, "", true},
		{"list: the other one", list, []string{"Origin: http://other.example:8080"}, true, "http://other.example:8080", "", true},
		{"list: another scheme", list, []string{"Origin: http://page.example"}, false, "", "", true},
		{"list: another port", list, []string{"Origin: " + page + ":8443"}, false, "", "", true},
		{"list: a longer name", list, []string{"Origin: " + page + ".evil.example"}, false, "", "", true},
		{"list: a name within", list, []string{"Origin: https://sub.page.example"}, false, "", "", true},
		{"list: a sandbox", list, []string{"Origin: null"}, false, "", "", true},
		{"list: no page", list, nil, true, "", "", true},
		{"list: the hub's own", list, []string{"Origin: http://hub.example", "Host: hub.example"}, true, "", "", true},

		{"credentials: one that is allowed", credentials, []string{"Origin: " + page}, true, page, "true", true},
		{"credentials: another", credentials, []string{"Origin: http://page.example"}, false, "", "", true},

		{"every: any page", every, []string{"Origin: " + page}, true, "*", "", true},
		{"every: a sandbox", every, []string{"Origin: null"}, true, "*", "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.opts.Log = newLog(t, nil)
			h := newHub(t, tt.opts)
			s := serve(t, h)
			publish(t, h, event("a", "1"))
			end(t, h, "closed")
			preflight := []string{"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: idempotency-key"}
			for _, r := range []struct {
				method, path, body string
				status             int
				headers            []string
			}{
				{"GET", "/events/a?since=earliest", "", 200, nil},
				{"GET", "/events/a?since=earliest", "", 200, []string{"Accept: application/x-ndjson"}},
				{"GET", "/events/closed", "", 204, nil},
				{"GET", "/events/a?since=x", "", 400, nil},
				{"POST", "/events/b", "x", 201, nil},
				{"HEAD", "/events/a", "", 200, nil},
				{"DELETE", "/events/b", "", 204, nil},
				{"OPTIONS", "/events/a", "", 204, nil},
				{"OPTIONS", "/events/a", "", 204, preflight},
				{"PUT", "/events/b", "x", 201, nil},
				{"PATCH", "/events/a", "", 405, nil},
			} {
				before := tt.opts.Log.Head()
				got := s.head(r.method, r.path, r.body, slices.Concat(r.headers, tt.headers)...)
				name := r.method + " " + r.path
				header := got.Header
				if !tt.allowed {
					if got.StatusCode != http.StatusForbidden {
						t.Errorf("%s: got %s, want 403", name, got.Status)
					}
					if r.method != "HEAD" {
						wantDocument(t, got, http.StatusForbidden, hub.ProblemOrigin, "Origin")
					}
					if tt.opts.Log.Head() != before {
						t.Errorf("%s: something was done all the same", name)
					}
				} else if got.StatusCode != r.status {
					t.Errorf("%s: got %s, want %d", name, got.Status, r.status)
				}
				if got := header.Get("Access-Control-Allow-Origin"); got != tt.origin {
					t.Errorf("%s: got Access-Control-Allow-Origin %q, want %q", name, got, tt.origin)
				}
				if got := header.Get("Access-Control-Allow-Credentials"); got != tt.with {
					t.Errorf("%s: got Access-Control-Allow-Credentials %q, want %q", name, got, tt.with)
				}
				if got := slices.Contains(header.Values("Vary"), "Origin"); got != tt.vary {
					t.Errorf("%s: got Vary %q, want Origin in it: %v", name, header.Values("Vary"), tt.vary)
				}
				isPreflight := len(r.headers) == 2 && tt.origin != ""
				if got := header.Get("Access-Control-Allow-Methods"); strings.Contains(got, "POST") != isPreflight {
					t.Errorf("%s: got Access-Control-Allow-Methods %q", name, got)
				}
				if got := header.Get("Access-Control-Allow-Headers"); strings.Contains(got, "Idempotency-Key") != isPreflight {
					t.Errorf("%s: got Access-Control-Allow-Headers %q", name, got)
				}
				if got := header.Get("Access-Control-Expose-Headers"); strings.Contains(got, "Tidewire-Newest-Id") != (tt.origin != "") {
					t.Errorf("%s: got Access-Control-Expose-Headers %q", name, got)
				}
			}
		})
	}
}

// head sends a request and reads the whole answer, unless it is a stream.
func (s *server) head(method, path, body string, headers ...string) answer {
	s.t.Helper()
	resp, err := s.Do(s.request(method, path, strings.NewReader(body), headers...))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if method == "GET" && resp.StatusCode == http.StatusOK {
		return answer{resp, ""}
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{resp, string(text)}
}

// TestCORS_APreflightAllowsWhatTheInterfaceHas asks for every header that a page may
// want to send.
func TestCORS_APreflightAllowsWhatTheInterfaceHas(t *testing.T) {
	s := serve(t, newHub(t, hub.Options{AllowedOrigins: []string{"https://page.example"}}))
	got := s.call("OPTIONS", "/events/a", "", "Origin: https://page.example", "Access-Control-Request-Method: DELETE")
	split := func(name string) []string { return strings.Split(strings.ToLower(got.Header.Get(name)), ", ") }
	for _, name := range []string{"content-type", "last-event-id", "cache-control", "prefer", "authorization", "idempotency-key", "if-match", "if-none-match",
		"tidewire-type", "tidewire-id", "tidewire-retry", "tidewire-private", "tidewire-end"} {
		if !slices.Contains(split("Access-Control-Allow-Headers"), name) {
			t.Errorf("%s is not allowed", name)
		}
	}
	for _, method := range []string{"get", "head", "post", "put", "delete"} {
		if !slices.Contains(split("Access-Control-Allow-Methods"), method) {
			t.Errorf("%s is not allowed", method)
		}
	}
	if got.Header.Get("Access-Control-Max-Age") == "" {
		t.Error("the answer to the preflight is not kept")
	}
}
