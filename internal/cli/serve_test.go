package cli_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/internal/cli"
)

func TestServe(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	data := filepath.Join(t.TempDir(), "data")
	out, w := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- cli.Main(ctx, []string{"serve", "--listen", "127.0.0.1:0", "--max-event", "5", "--data", data}, cli.IO{Out: w})
		_ = w.Close()
	}()
	lines := bufio.NewScanner(out)
	var url string
	for lines.Scan() {
		if _, rest, ok := strings.Cut(lines.Text(), "curl -d 'hello' "); ok {
			url = rest
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // so that nothing it says blocks it
	for body, want := range map[string]int{"12345": http.StatusCreated, "123456": http.StatusRequestEntityTooLarge} {
		resp, err := http.Post(url, "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%d bytes: got %s, want %d", len(body), resp.Status, want)
		}
	}
	backup := filepath.Join(t.TempDir(), "backup")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"check", data}, cli.ExitFailed, "in use by another process"},
		{[]string{"backup", "--data", data, backup}, cli.ExitOK, "copied to"},
		{[]string{"backup", "--data", data, backup}, cli.ExitFailed, "is there already"},
		{[]string{"check", backup}, cli.ExitOK, "It is a copy"},
		{[]string{"serve", "--listen", "127.0.0.1:0", "--data", data}, cli.ExitFailed, "in use by another process"},
	} {
		said(t, c.code, c.says, c.args...)
	}
	interrupt()
	if c := <-code; c != cli.ExitOK {
		t.Errorf("got exit code %d, want 0", c)
	}
	said(t, cli.ExitOK, "events   1 of", "check", data)
	said(t, cli.ExitOK, "copied to", "backup", "--data", data, backup+"2")
	said(t, cli.ExitOK, "It is whole.", "check", backup+"2")
}

// said runs a command to its end and looks for what it says.
func said(t *testing.T, code int, says string, args ...string) {
	t.Helper()
	var said strings.Builder
	if got := cli.Main(t.Context(), args, cli.IO{Out: &said, Err: &said}); got != code || !strings.Contains(said.String(), says) {
		t.Errorf("%q: got exit code %d, %q, want %d and %q", args, got, said.String(), code, says)
	}
}

func TestCheckAndBackup_SayWhatIsWrong(t *testing.T) {
	empty := t.TempDir()
	said(t, cli.ExitUsage, "takes one directory", "check")
	said(t, cli.ExitUsage, "takes one directory", "backup", "a", "b")
	said(t, cli.ExitFailed, "no such file", "check", filepath.Join(empty, "none"))
	said(t, cli.ExitFailed, "is no directory of a log", "check", empty)
	said(t, cli.ExitFailed, "no such file", "backup", "--data", filepath.Join(empty, "none"), filepath.Join(empty, "copy"))
	said(t, cli.ExitFailed, "is no directory of a log", "backup", "--data", empty, filepath.Join(empty, "copy"))
}

// TestServe_ReadsAFile sets what it can be told in a file.
func TestServe_ReadsAFile(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) string {
		name := filepath.Join(dir, "tidewire.toml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for text, says := range map[string]string{
		`listen = "127.0.0.1:0"` + "\nmemory = true\nretain = [\"a=count:1\", \"b\"]": `tidewire.toml:3: retain: retention "b" has no`,
		`max-topics = 0`: "tidewire.toml:1: max-topics: must be more than 0",
		`data = ""`:      "tidewire.toml:1: data: name a directory",
	} {
		said(t, cli.ExitUsage, says, "serve", "--config", write(text))
	}
	said(t, cli.ExitUsage, "no such file", "serve", "--config", filepath.Join(dir, "none"))
	// What the command line says counts, and the rest is from the file.
	said(t, cli.ExitFailed, "listen tcp", "serve", "--listen", "127.0.0.1:1x", "--config", write("listen = \"127.0.0.1:0\"\nmemory = true"))
}

func TestServe_SaysAllThatIsWrongAtOnce(t *testing.T) {
	code, _, errs := run(t, []string{"serve",
		"--listen", "0.0.0.0:80", "--retain", "a", "--slow", "a=fast", "--history", "x", "--retry", "0s", "--max-batch-events", "0", "--allow-origin", "example.com",
	})
	if code != cli.ExitUsage {
		t.Errorf("got exit code %d, want %d", code, cli.ExitUsage)
	}
	for _, says := range []string{"--listen: ", "nothing says who may come in", "--retain: ", "--slow: ", "--history: ", "--retry: ", "--max-batch-events: ", "--allow-origin: "} {
		if !strings.Contains(errs, says) {
			t.Errorf("got %q, want it to say %q", errs, says)
		}
	}
}

// TestServe_SaysHowToUseIt starts a server in each way, and looks at what it says.
func TestServe_SaysHowToUseIt(t *testing.T) {
	dir, err := os.MkdirTemp("", "t") // short enough for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	const bearer = `-H "Authorization: Bearer $TIDEWIRE_TOKEN" http`
	for _, test := range []struct {
		name string
		args []string
		want []string
	}{
		{"open", nil, []string{"Open       http://127.0.0.1:", "curl -N http://127.0.0.1:", "curl -d 'hello' http://127.0.0.1:", "Allowed    anyone on this machine"}},
		{"keys", []string{"--token-secret", secret}, []string{"Open  ", "curl -N " + bearer, "curl -d 'hello' " + bearer, "Allowed    only with a token"}},
		{"free to read", []string{"--token-secret", secret, "--anonymous", "subscribe"}, []string{"Open  ", "curl -N http://127.0.0.1:", "curl -d 'hello' " + bearer, "Allowed    anyone may subscribe to **; more with a token"}},
		{"free in part", []string{"--anonymous", "subscribe:news/*"}, []string{"Open  ", "curl -N " + bearer, "curl -d 'hello' " + bearer, "Allowed    anyone may subscribe to news/*, and nobody more"}},
		{"own certificate", []string{"--tls", "dev"}, []string{"Open       https://127.0.0.1:", "curl -N --insecure https://", "curl -d 'hello' --insecure https://", "Allowed  ", "TLS  "}},
		{"socket", []string{"--listen", "unix:" + filepath.Join(dir, "s")}, []string{"curl -N --unix-socket " + filepath.Join(dir, "s") + " http://localhost/events/hello", "curl -d 'hello' --unix-socket", "Allowed  "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := start(t, append([]string{"serve", "--memory", "--listen", "127.0.0.1:0"}, test.args...))
			for _, want := range test.want {
				if got := receive(t, c.out.lines, want); !strings.Contains(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
			}
			c.interrupt()
			c.ends(cli.ExitOK)
		})
	}
}

func TestServe_AnAddressThatIsTaken(t *testing.T) {
	var errs strings.Builder
	if code := cli.Main(t.Context(), []string{"serve", "--memory", "--listen", "127.0.0.1:1x"}, cli.IO{Err: &errs}); code != cli.ExitFailed {
		t.Errorf("got exit code %d, %s, want %d", code, errs.String(), cli.ExitFailed)
	}
}
