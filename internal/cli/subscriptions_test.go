package cli_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/internal/cli"
	"github.com/tidewire/tidewire/server"
)

const adminSecret = "a secret of 32 bytes or more, for tests"

func adminToken(t testing.TB, c *auth.Claims) string {
	t.Helper()
	s, err := auth.NewSecretSigner("HS256", "", adminSecret)
	if err != nil {
		t.Fatal(err)
	}
	token, err := s.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// startAdmin runs a server that asks for tokens, on a directory.
func startAdmin(t *testing.T) (dir, url string) {
	t.Helper()
	key, err := auth.NewSecretKey("HS256", adminSecret)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	s, err := server.New(&server.Config{Listen: "127.0.0.1:0", Data: dir, Access: &server.Access{Options: auth.Options{Keys: []auth.Key{key}}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return dir, s.URL()
}

// openAs opens a stream of a subject, and returns its lines.
func openAs(t testing.TB, url, subject, query string) *bufio.Scanner {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/events?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken(t, &auth.Claims{Subject: subject, Permissions: auth.Permissions{Subscribe: []string{"**"}}}))
	c := &http.Client{Transport: new(http.Transport)}
	t.Cleanup(c.CloseIdleConnections)
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("subscribe: got %s", resp.Status)
	}
	return bufio.NewScanner(resp.Body)
}

func TestSubscriptions_ListsAndEnds(t *testing.T) {
	dir, url := startAdmin(t)
	token := adminToken(t, &auth.Claims{Permissions: auth.Permissions{Admin: true}})
	for _, way := range [][]string{{"--data", dir}, {"--url", url, "--token", token}} {
		ada := openAs(t, url, "ada", "topic=news&topic=%E2%80%AEevil&type=t")
		openAs(t, url, "", "pattern=news/*")
		subscriptions := func(args ...string) (out string) {
			t.Helper()
			code, out, errs := run(t, append(append([]string{"subscriptions"}, way...), args...))
			if code != cli.ExitOK || errs != "" {
				t.Fatalf("%v %v: got code %d, %s", way, args, code, errs)
			}
			return out
		}
		lines := strings.Split(strings.TrimSpace(subscriptions()), "\n")
		if len(lines) != 3 || !strings.HasPrefix(lines[0], "SINCE ") {
			t.Fatalf("got %q, want a head and two streams", lines)
		}
		for _, cells := range [][]string{ // in either order, if they have begun at once
			{"ada", "127.0.0.1", `news \u202eevil of type t`},
			{" - ", "127.0.0.1", "news/*"},
		} {
			if !slices.ContainsFunc(lines[1:], func(line string) bool {
				return !slices.ContainsFunc(cells, func(c string) bool { return !strings.Contains(line, c) })
			}) {
				t.Errorf("got %q, want a line that has %q", lines[1:], cells)
			}
		}
		var list struct {
			Count         int
			Subscriptions []struct{ Subject string }
		}
		if err := json.Unmarshal([]byte(subscriptions("--json", "--topic", "news/today")), &list); err != nil || list.Count != 1 || list.Subscriptions[0].Subject != "" {
			t.Errorf("got %+v, %v, want the stream with the pattern", list, err)
		}
		if out := subscriptions("--address", "192.0.2.1"); strings.Count(out, "\n") != 1 {
			t.Errorf("got %q, want the head only", out)
		}
		if code, out, errs := run(t, append([]string{"subscriptions", "--limit", "1"}, way...)); code != cli.ExitOK || strings.Count(out, "\n") != 2 || errs != "1 of 2: --limit 2 lists all\n" {
			t.Errorf("got code %d, %q, %q", code, out, errs)
		}
		if out := subscriptions("--end", "--subject", "ada"); out != "ended 1\n" {
			t.Errorf("got %q, want one to be ended", out)
		}
		var text strings.Builder
		for ada.Scan() {
			text.WriteString(ada.Text())
		}
		if !strings.Contains(text.String(), "an administrator has ended this stream") {
			t.Errorf("got %q, want what says why the stream has ended", &text)
		}
		if out := subscriptions("--end", "--all", "--json"); out != `{"ended":1}`+"\n" {
			t.Errorf("got %q, want the other one to be ended", out)
		}
	}
}

func TestSubscriptions_SaysWhatIsWrong(t *testing.T) {
	dir, url := startAdmin(t)
	none := adminToken(t, &auth.Claims{Permissions: auth.Permissions{Subscribe: []string{"**"}}})
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--data", dir, "--end"}, cli.ExitUsage, "by --subject, --topic or --address, or --all"},
		{[]string{"--data", dir, "--end", "--all", "--topic", "a"}, cli.ExitUsage, "--all ends all"},
		{[]string{"--data", dir, "--all"}, cli.ExitUsage, "--all goes with --end"},
		{[]string{"--data", dir, "--end", "--all", "--limit", "3"}, cli.ExitUsage, "--limit is about a list"},
		{[]string{"--data", dir, "--limit", "0"}, cli.ExitUsage, "--limit is 0"},
		{[]string{"--data", dir, "--timeout", "0s"}, cli.ExitUsage, "--timeout is 0s"},
		{[]string{"--data", dir, "--url", url}, cli.ExitUsage, "--url is about a server's URL"},
		{[]string{"--data", dir, "--token", none}, cli.ExitUsage, "--token is about a server's URL"},
		{[]string{"more"}, cli.ExitUsage, "takes no arguments"},
		{[]string{"--data", dir, "--address", "localhost"}, cli.ExitFailed, "192.0.2.7"},
		{[]string{"--data", filepath.Join(dir, "none")}, cli.ExitFailed, "name the directory that serve --data has"},
		{[]string{"--data", t.TempDir()}, cli.ExitFailed, "no server is running on"},
		{[]string{"--url", url}, cli.ExitFailed, "401"},
		{[]string{"--url", url, "--token", none}, cli.ExitFailed, "does not allow to administer"},
		{[]string{"--url", "http://127.0.0.1:1"}, cli.ExitFailed, "cannot reach"},
		{[]string{"--url", url + "/other"}, cli.ExitFailed, "404"},
	} {
		code, out, errs := run(t, append([]string{"subscriptions"}, tt.args...))
		if code != tt.code || out != "" || !strings.Contains(errs, tt.says) || strings.Contains(errs, none) {
			t.Errorf("%q: got code %d, %q, %q, want %d and %q", tt.args, code, out, errs, tt.code, tt.says)
		}
	}
}
