package cli_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/internal/cli"
)

// helps compares the help of commands with golden files.
func helps(t *testing.T, commands map[string][]string) {
	t.Helper()
	for name, args := range commands {
		code, out, errs := run(t, args)
		if code != cli.ExitOK || errs != "" {
			t.Errorf("%q: got code %d and errors %q, want 0 and none", args, code, errs)
		}
		golden(t, "help/"+name+".txt", out)
	}
}

// usages are command lines that are wrong, and what is said of them.
func usages(t *testing.T, lines map[string]string) {
	t.Helper()
	for line, want := range lines {
		code, out, errs := run(t, strings.Fields(line))
		if code != cli.ExitUsage || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%s: got code %d, output %q and errors %q, want 2 and %q", line, code, out, errs, want)
		}
	}
}

func TestKey_Help(t *testing.T) {
	helps(t, map[string][]string{
		"key": {"key"}, "key-new": {"key", "new", "--help"}, "key-list": {"key", "list", "--help"}, "key-revoke": {"key", "revoke", "--help"},
	})
}

func TestKey_Usage(t *testing.T) {
	usages(t, map[string]string{
		"key nonsense":                               `there is no command "nonsense", but list, new, revoke`,
		"key new --name x":                           "say what may be done",
		"key new --publish a":                        "--name is needed",
		"key new --name x --publish a*":              `publish: "a*": pattern has *`,
		"key new --name x --publish a --expires 90":  `--expires is "90", and must be a time to live such as 90d`,
		"key new --name x --publish a --expires -1d": "must be a time to live",
		"key new --name x --publish a y":             "takes no arguments",
		"key list":                                   "--file is needed",
		"key revoke x":                               "--file is needed",
		"key revoke --file x":                        "the id or the name of one key",
	})
}

func TestKey_NewListRevoke(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.jsonl")
	first := newKey(t, "--name", "backend", "--publish", "orders/**", "--expires", "90d", "--file", file)
	second := newKey(t, "--name", "ci", "--publish", "builds", "--subscribe", "a", "--subscribe", "b/*", "--private", "b/*", "--delete", "c", "--admin", "--file", file)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v and %v, want a file for its owner alone", info.Mode(), err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), first[14:]) {
		t.Error("the file has the key itself")
	}
	if !allows(t, file, first) || !allows(t, file, second) {
		t.Errorf("the keys are refused:\n%s", text)
	}

	code, out, _ := run(t, []string{"key", "list", "--file", file})
	rows := strings.Split(strings.TrimSpace(out), "\n")
	if code != cli.ExitOK || len(rows) != 3 ||
		!strings.Contains(rows[1], "backend  2026-01-02  2026-04-02T12:00:00Z  publish orders/**") ||
		!strings.HasSuffix(rows[2], "ci       2026-01-02  never                 publish builds, subscribe a b/*, private b/*, delete c, admin") {
		t.Errorf("got code %d and %s", code, out)
	}

	// One more of the same name, on a last line that has no end.
	if err := os.WriteFile(file, []byte(strings.TrimSpace(string(text))), 0o640); err != nil {
		t.Fatal(err)
	}
	third := newKey(t, "--name", "ci", "--publish", "builds", "--file", file)
	if code, _, errs := run(t, []string{"key", "revoke", "--file", file, "ci"}); code != cli.ExitFailed || !strings.Contains(errs, "2 keys with the name \"ci\": say which by its id") {
		t.Errorf("got code %d and %q, want 1 and the ids", code, errs)
	}
	id, _, _ := strings.Cut(strings.TrimPrefix(second, "tw_"), "_")
	if code, out, errs := run(t, []string{"key", "revoke", "--file", file, id}); code != cli.ExitOK || !strings.Contains(out, "revoked "+id) {
		t.Errorf("got code %d, %q and %q, want 0", code, out, errs)
	}
	if !allows(t, file, first) || allows(t, file, second) || !allows(t, file, third) {
		t.Error("another key than the revoked one is gone, or it is not")
	}
	if code, _, errs := run(t, []string{"key", "revoke", "--file", file, id}); code != cli.ExitFailed || !strings.Contains(errs, "has no key with the id or the name") {
		t.Errorf("got code %d and %q, want 1", code, errs)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(file), "*")); err != nil || len(left) != 1 {
		t.Errorf("got files %v, want the one", left)
	}
}

// newKey makes a key and returns it.
func newKey(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := run(t, append([]string{"key", "new"}, args...))
	if code != cli.ExitOK || !strings.HasPrefix(out, "tw_") || strings.Count(out, "\n") != 1 || !strings.Contains(errs, "shown this once") {
		t.Fatalf("got code %d, output %q and errors %q, want the key alone", code, out, errs)
	}
	return strings.TrimSpace(out)
}

// allows tells whether a server with a file of keys takes one.
func allows(t *testing.T, file, key string) bool {
	t.Helper()
	keys, err := auth.LoadPublisherKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	return takes(t, &auth.Options{PublisherKeys: keys}, key) == nil
}

// takes asks a server about a credential, at noon.
func takes(t *testing.T, o *auth.Options, credential string) error {
	t.Helper()
	o.Now = noonIs
	a, err := auth.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	r := httptest.NewRequest(http.MethodGet, "/events/x", nil)
	r.Header.Set("Authorization", "Bearer "+credential)
	_, err = a.Authorize(httptest.NewRecorder(), r, &hub.Access{})
	return err
}

func TestKey_WithoutAFilePrintsTheLine(t *testing.T) {
	_, out, errs := run(t, []string{"key", "new", "--name", "backend", "--publish", "a"})
	_, line, _ := strings.Cut(errs, "\n")
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	if !allows(t, file, strings.TrimSpace(out)) {
		t.Errorf("got line %q, which does not go with the key", line)
	}
}

// Nothing is added to a file that is something else, and a bad line can still be lived with
// when a key must go.
func TestKey_FilesWithBadLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	newKey(t, "--name", "a", "--publish", "a", "--file", file)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append([]byte("listen = 1\n"), good...), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := run(t, []string{"key", "new", "--name", "b", "--publish", "a", "--file", file}); code != cli.ExitFailed || out != "" || !strings.Contains(errs, "keys:1: ") {
		t.Errorf("got code %d, %q and %q, want 1 and the line", code, out, errs)
	}
	if code, _, errs := run(t, []string{"key", "revoke", "--file", file, "a"}); code != cli.ExitOK {
		t.Errorf("got code %d and %q, want 0", code, errs)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "listen = 1\n" {
		t.Errorf("got %q and %v, want the other line as it was", got, err)
	}
}
