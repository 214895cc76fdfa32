package cli_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/internal/cli"
	"github.com/tidewire/tidewire/server"
)

// hubServer returns the URL of a hub that runs as long as the test.
func hubServer(t *testing.T) string {
	t.Helper()
	s, err := server.New(&server.Config{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, ctx) }()
	t.Cleanup(func() {
		stop()
		if err := receive(t, done, "the end of the server"); err != nil {
			t.Error(err)
		}
	})
	return s.URL()
}

// small is a load that costs next to nothing.
func small(args ...string) []string {
	return append([]string{"bench", "--subscribers", "5", "--rate", "200", "--duration", "200ms"}, args...)
}

func TestBench_Table(t *testing.T) {
	url := hubServer(t)
	for name, how := range map[string]struct {
		args []string
		env  map[string]string
	}{
		"argument":    {args: small(url)},
		"flag":        {args: small("--url", url)},
		"environment": {args: small(), env: map[string]string{"TIDEWIRE_URL": url}},
		"storm":       {args: []string{"bench", "--subscribers", "5", "--storm", "10", url}},
		"idle":        {args: []string{"bench", "--subscribers", "5", "--idle", "--duration", "10ms", url}},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := run(t, how.args, env(how.env))
			if code != cli.ExitOK || errs != "" || !strings.HasPrefix(out, url+"\n5 subscribers on 1 topic") || !strings.Contains(out, "\nchecked ") {
				t.Errorf("got code %d, errors %q and\n%s", code, errs, out)
			}
		})
	}
}

func TestBench_JSON(t *testing.T) {
	code, out, errs := run(t, small("--json", "--header", "X-Token: secret", hubServer(t)))
	var res struct {
		Conditions struct {
			Command []string
			Version string
		}
		Delivery struct{ Expected, Delivered int }
	}
	if err := json.Unmarshal([]byte(out), &res); err != nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("got code %d, %v, errors %q and %q, want one object", code, err, errs, out)
	}
	if d := res.Delivery; code != cli.ExitOK || d.Delivered == 0 || d.Delivered != d.Expected {
		t.Errorf("got code %d and %+v", code, d)
	}
	command := strings.Join(res.Conditions.Command, " ")
	if !strings.HasPrefix(command, "tidewire bench --subscribers 5 ") || strings.Contains(command, "secret") || res.Conditions.Version == "" {
		t.Errorf("got %+v, want the command line without secrets, and a version", res.Conditions)
	}
}

func TestBench_Report(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(file, []byte(strings.Repeat("old ", 1e5)), 0o644); err != nil {
		t.Fatal(err)
	}
	code, out, errs := run(t, small("--report", file, hubServer(t)))
	b, err := os.ReadFile(file)
	if page := string(b); code != cli.ExitOK || err != nil || !strings.HasPrefix(page, "<!doctype html>") || !strings.HasSuffix(page, "</html>\n") || !strings.Contains(page, "--report") {
		t.Errorf("got code %d, errors %q, %v and a report of %d bytes", code, errs, err, len(b))
	}
	if !strings.Contains(out, "checked ") {
		t.Errorf("got %q, want the table too", out)
	}
	code, _, errs = run(t, small("--report", filepath.Join(file, "x"), hubServer(t)))
	if code != cli.ExitFailed || !strings.Contains(errs, "cannot write the report") {
		t.Errorf("got code %d and %q where there can be no report", code, errs)
	}
	absent := filepath.Join(t.TempDir(), "absent.html")
	if code, _, _ = run(t, small("--report", absent, nobody(t))); code != cli.ExitFailed {
		t.Errorf("got code %d", code)
	}
	if _, err := os.Stat(absent); err == nil {
		t.Error("there is an empty report of a run that was none")
	}
}

func TestBench_Progress(t *testing.T) {
	_, _, errs := run(t, small(hubServer(t)), terminal(true, true))
	if !strings.HasPrefix(errs, "\r") || !strings.HasSuffix(errs, " \r") || strings.Contains(errs, "\n") {
		t.Errorf("got %q, want one line that is rewritten, and taken away", errs)
	}
}

func TestBench_Fails(t *testing.T) {
	repeats := func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			answer(201, "application/json", `{"position":"a-1"}`)(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: hello\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	fails := func(args []string, want string) {
		t.Helper()
		code, _, errs := run(t, args)
		if code != cli.ExitFailed || !strings.HasPrefix(errs, "tidewire: ") || !strings.Contains(errs, want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("got code %d and %q, want 1 and %q", code, errs, want)
		}
	}
	fails(small(nobody(t)), `start a hub with "tidewire serve"`)
	fails(small(hubServer(t)+"/nope"), "publishing: the server answered 404 Not Found: ")
	fails(small(serve(t, answer(405, "", "")).URL), "answered 405 Method Not Allowed; is this the URL of a hub?")
	fails(small(serve(t, answer(200, "text/html", "<p>")).URL), "is this the URL of a hub?")
	fails(small(serve(t, answer(401, "application/problem+json", `{"detail":"who are you?"}`)).URL), "who are you?; give a token with --token")

	s := serve(t, repeats)
	defer s.CloseClientConnections()
	c := start(t, []string{"bench", "--subscribers", "3", "--idle", "--duration", "100ms", s.URL})
	c.ends(cli.ExitFailed)
	if out, errs := c.out.String(), c.err.String(); !strings.Contains(out, "NOT A MEASUREMENT: 3 foreign") || errs != "tidewire: the run is no measurement: 3 foreign\n" {
		t.Errorf("got %q and errors %q, want that events were foreign", out, errs)
	}
}

func TestBench_Interrupt(t *testing.T) {
	url := hubServer(t)
	c := start(t, []string{"bench", "--subscribers", "3", "--rate", "1000", "--duration", "1h", url}, terminal(false, true))
	deadline := time.Now().Add(patience)
	for !strings.Contains(c.err.String(), " delivered") {
		if time.Now().After(deadline) {
			t.Fatalf("got no progress but %q", c.err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.interrupt()
	c.ends(cli.ExitInterrupted)
	if out := c.out.String(); !strings.Contains(out, "\ndelivered ") || !strings.Contains(out, "interrupted; what came, came once and in order") {
		t.Errorf("got %q, want what was measured so far", out)
	}

	// Before there is anything to tell.
	c = start(t, []string{"bench", serve(t, silence).URL})
	c.interrupt()
	c.ends(cli.ExitInterrupted)
	if out := c.out.String(); out != "" {
		t.Errorf("got %q", out)
	}
}
