package cli_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/internal/cli"
	"github.com/tidewire/tidewire/internal/doctor"
)

// quickly leaves out what takes long.
var quickly = []string{"doctor", "--idle", "0", "--timeout", "3s"}

func TestDoctor_OfAHub(t *testing.T) {
	_, url := startAdmin(t)
	everything := []string{"**"}
	token := env(map[string]string{
		"TIDEWIRE_URL":   url,
		"TIDEWIRE_TOKEN": adminToken(t, &auth.Claims{Permissions: auth.Permissions{Subscribe: everything, Publish: everything}}),
	})

	code, out, errs := run(t, append(quickly, "--publish-topic", "a/probe", "clock"), token)
	if code != cli.ExitOK || errs != "" {
		t.Errorf("got code %d and errors %q, want none", code, errs)
	}
	for _, want := range []string{"ok       delivery: ", "ok       resume: ", "note     protocol: HTTP/1.1: ", "docs/proxies.md#http2\n", url + "/events/clock: 0 problems, "} {
		if !strings.Contains(out, want) {
			t.Errorf("got %s, want it to have %q", out, want)
		}
	}

	code, out, _ = run(t, append(quickly, "--origin", "https://app.example", url+"/events?topic=clock"), token)
	if code != cli.ExitFailed {
		t.Errorf("got code %d for a problem, want %d", code, cli.ExitFailed)
	}
	for _, want := range []string{"problem  cors: ", "tidewire           serve --allow-origin", "docs/proxies.md#cors", ": 1 problem, "} {
		if !strings.Contains(out, want) {
			t.Errorf("got %s, want it to have %q", out, want)
		}
	}
}

func TestDoctor_JSON(t *testing.T) {
	s := serve(t, answer(http.StatusForbidden, "text/plain", "no entry\u202e"))
	code, out, _ := run(t, append(quickly, "--json", s.URL))
	if code != cli.ExitFailed {
		t.Errorf("got code %d, want %d", code, cli.ExitFailed)
	}
	var r doctor.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(r.Findings, func(f doctor.Finding) bool { return f.Check == "status" })
	if i < 0 || r.URL != s.URL || r.Problems() != 1 {
		t.Fatalf("got %s, want one problem, of the status", out)
	}
	if f := r.Findings[i]; f.Measured["status"] != 403.0 || !strings.Contains(f.Says, "no entry\u202e") {
		t.Errorf("got %+v, want status 403 and its text", f)
	}
	if strings.Contains(out, "\u202e") {
		t.Errorf("got %q, with a rune that turns text around", out)
	}
}

func TestDoctor_ShowsNoControlCharacters(t *testing.T) {
	s := serve(t, answer(http.StatusForbidden, "text/plain", "no \x1b[2Jentry"))
	_, out, _ := run(t, append(quickly, s.URL))
	if strings.Contains(out, "\x1b") || !strings.Contains(out, `no \x1b[2Jentry`) {
		t.Errorf("got %q, want the escape written out", out)
	}
}

func TestDoctor_KeepsTheHubsTokenFromOthers(t *testing.T) {
	s := serve(t, stop)
	vars := map[string]string{"TIDEWIRE_TOKEN": "secret"}
	for _, test := range []struct {
		name, hub, want string
		args            []string
	}{
		{name: "another server", hub: "http://127.0.0.1:1", want: ""},
		{name: "the hub's", hub: s.URL, want: "Bearer secret"},
		{name: "given for it", hub: "http://127.0.0.1:1", want: "Bearer mine", args: []string{"--token", "mine"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			vars["TIDEWIRE_URL"] = test.hub
			run(t, append(append(slices.Clone(quickly), test.args...), s.URL+"/events/a"), env(vars))
			for range 2 { // HEAD, GET
				if got := receive(t, s.requests, "a request").Header.Get("Authorization"); got != test.want {
					t.Errorf("got Authorization %q, want %q", got, test.want)
				}
			}
		})
	}
}

func TestDoctor_PublishesBesideTheStream(t *testing.T) {
	s := serve(t, stop)
	for path, want := range map[string]string{
		"/events/a":               "/events/p",
		"/events?topic=a":         "/events/p",
		"/events-of-a/events/a":   "/events-of-a/events/p",
		"/events/a/events/b":      "/events/p",
		"/a%20hub/events/a%2Fb/c": "/a%20hub/events/p",
	} {
		run(t, append(quickly, "--publish-topic", "p", s.URL+path))
		if got := receive(t, s.requests, "HEAD of the topic to publish to").URL.EscapedPath(); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
		receive(t, s.requests, "GET of the stream")
	}
}

func TestDoctor_TellsATerminalWhatItLooksAt(t *testing.T) {
	s := serve(t, stop)
	if _, _, errs := run(t, append(quickly, s.URL), terminal(false, true)); !strings.Contains(errs, "tidewire: looking at the connection") {
		t.Errorf("got %q, want progress", errs)
	}
	if _, _, errs := run(t, append(quickly, s.URL)); errs != "" {
		t.Errorf("got %q, want nothing where nobody watches", errs)
	}
}

func TestDoctor_Interrupted(t *testing.T) {
	s := serve(t, hold(t))
	c := start(t, []string{"doctor", s.URL})
	for range 3 { // HEAD, two streams
		receive(t, s.requests, "a request")
	}
	c.interrupt()
	c.ends(cli.ExitFailed)
	if !strings.Contains(c.out.String(), "ok       first-bytes: ") || !strings.Contains(c.err.String(), "interrupted") {
		t.Errorf("got %s and %s, want what was found till then", c.out, c.err)
	}
}

func TestDoctor_Usage(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "one URL or topic"},
		{[]string{"a", "b"}, "one URL or topic"},
		{[]string{""}, "one URL or topic"},
		{[]string{"--timeout", "0", "a"}, "--timeout"},
		{[]string{"--idle", "-1s", "a"}, "--idle"},
		{[]string{"--origin", "example.com", "a"}, "--origin"},
		{[]string{"--origin", "https://example.com/", "a"}, "--origin"},
		{[]string{"--origin", "https://example.com:443", "a"}, "without the port"},
		{[]string{"--publish-topic", "a", "https://example.com/stream"}, "/events/TOPIC"},
		{[]string{"--publish-topic", "a", "https://example.com/eventsource"}, "/events/TOPIC"},
		{[]string{"--header", "x", "a"}, "--header"},
		{[]string{"--url", "x", "a"}, "--url"},
		{[]string{"http://"}, "not a URL"},
	} {
		code, _, errs := run(t, append([]string{"doctor"}, test.args...))
		if code != cli.ExitUsage || !strings.Contains(errs, test.want) {
			t.Errorf("%q: got code %d and %q, want 2 and %q", test.args, code, errs, test.want)
		}
	}
}
