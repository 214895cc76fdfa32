package server_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/server"
)

func TestHostGuard_AnswersToNamesThatItWasTold(t *testing.T) {
	told := []string{"Events.example.com", "bücher.example"}
	for _, c := range []struct {
		host    string
		allowed []string
		refused bool
	}{
		{"localhost", told, false},
		{"localhost:7730", nil, false},
		{"LOCALHOST.:7730", nil, false},
		{"127.0.0.1:7730", nil, false},
		{"192.0.2.7", nil, false},
		{"[::1]:7730", nil, false},
		{"[::1]", nil, false},
		{"events.example.com", told, false},
		{"events.example.com:443", told, false},
		{"events.EXAMPLE.com.", told, false},
		{"evil.example", []string{"*"}, false},
		{"evil.example", told, true},
		{"evil.example:7730", nil, true},
		{"127.0.0.1.evil.example", nil, true},
		{"localhost.evil.example", nil, true},
		{"xlocalhost", nil, true},
		{"sub.events.example.com", told, true},
		{"events.example.com@evil.example", told, true},
		{"2130706433", nil, true}, // 127.0.0.1 to some
		{"127.1", nil, true},
		{"", nil, true},
	} {
		t.Run(c.host, func(t *testing.T) {
			served := false
			r := httptest.NewRequest(http.MethodGet, "/events/a", nil)
			r.Host = c.host
			w := httptest.NewRecorder()
			server.HostGuard(c.allowed, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served = true })).ServeHTTP(w, r)
			if served == c.refused {
				t.Errorf("got served %v, want %v", served, !c.refused)
			}
			if !c.refused {
				return
			}
			var doc struct {
				Type, Detail, Field string
				Status              int
			}
			if err := json.NewDecoder(w.Body).Decode(&doc); err != nil {
				t.Fatal(err)
			}
			if doc.Status != http.StatusMisdirectedRequest || !strings.HasSuffix(doc.Type, ":misdirected") || !strings.Contains(doc.Detail, "--allow-host NAME") || doc.Field != "Host" {
				t.Errorf("got %+v, want 421 with the flag that allows it", doc)
			}
		})
	}
}

func TestConfig_NamesOfItsOwnAreAllowed(t *testing.T) {
	for _, c := range []struct {
		cfg  server.Config
		want []string
	}{
		{server.Config{Listen: "intranet:80", Transport: server.Transport{AllowedHosts: []string{"a.example"}}}, []string{"a.example", "intranet"}},
		{server.Config{Listen: ":443", Transport: server.Transport{ACME: server.ACME{Domains: []string{"b.example"}}}}, []string{"b.example"}},
		{server.Config{Listen: "unix:/run/s"}, nil},
	} {
		if got := c.cfg.Hosts(); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.cfg.Listen, got, c.want)
		}
	}
}
