//go:build unix

package cli_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/internal/cli"
)

// A daemon is the real server, and the file that it reads.
type daemon struct {
	t    *testing.T
	cmd  *exec.Cmd
	file string
	url  string
	logs chan string
	done chan struct{}
}

// startDaemon starts one, whose configuration is the text.
func startDaemon(t *testing.T, program, text string, how ...func(*exec.Cmd)) *daemon {
	t.Helper()
	dir := t.TempDir()
	d := &daemon{t: t, file: filepath.Join(dir, "tidewire.toml"), logs: make(chan string, 1000), done: make(chan struct{})}
	d.write(text)
	d.cmd = exec.Command(program, "serve", "--config", d.file)
	d.cmd.Dir, d.cmd.Env = dir, []string{"HOME=" + dir}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	logs, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Stderr = w
	for _, change := range how {
		change(d.cmd)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	closed(t, w)
	go func() {
		defer close(d.done)
		for lines := bufio.NewScanner(logs); lines.Scan(); {
			d.logs <- lines.Text()
		}
		_ = d.cmd.Wait() // ends looks at the code
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		<-d.done
		closed(t, logs)
	})
	first, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("got no line: %v", err)
	}
	d.url = strings.TrimSuffix(strings.TrimSpace(strings.TrimPrefix(first, "Open")), "/")
	return d
}

func (d *daemon) write(text string) {
	d.t.Helper()
	if err := os.WriteFile(d.file, []byte("memory = true\n"+text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// reload changes the file, and returns what is logged up to a line that has the words.
func (d *daemon) reload(text, until string) string {
	d.t.Helper()
	d.write(text)
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		d.t.Fatal(err)
	}
	var all strings.Builder
	for {
		line := receive(d.t, d.logs, until)
		all.WriteString(line + "\n")
		if strings.Contains(line, until) {
			return all.String()
		}
	}
}

// publish returns the status.
func (d *daemon) publish(data, key string) int {
	d.t.Helper()
	req, err := http.NewRequest(http.MethodPost, d.url+"/events/a", strings.NewReader(data))
	if err != nil {
		d.t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	closed(d.t, resp.Body)
	return resp.StatusCode
}

// subscribe returns the data of the events that come, until the stream ends.
func (d *daemon) subscribe(headers ...string) <-chan string {
	d.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+"/events/a", nil)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		cancel()
		d.t.Fatalf("got %v, %v, want a stream", resp, err)
	}
	data := make(chan string, 100)
	go func() {
		defer close(data)
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				data <- text
			} else if text, ok := strings.CutPrefix(lines.Text(), "data:"); ok {
				data <- text
			}
		}
	}()
	d.t.Cleanup(func() {
		cancel()
		_ = resp.Body.Close()
		for range data {
			// until its end
		}
	})
	return data
}

func TestServe_SIGHUP(t *testing.T) {
	program := filepath.Join(t.TempDir(), "tidewire")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/tidewire").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	t.Run("has the configuration read again", func(t *testing.T) { testReload(t, program) })
	t.Run("ends the streams of a key that was revoked", func(t *testing.T) { testReloadRevokes(t, program) })
	t.Run("does not open what others reach", func(t *testing.T) { testReloadStaysShut(t, program) })
}

// testReload changes what can be changed, and what cannot, while a stream stays open.
func testReload(t *testing.T, program string) {
	const open = "listen = \"127.0.0.1:0\"\n"
	d := startDaemon(t, program, open)
	stream := d.subscribe()
	published := func(what, key string, want int) {
		t.Helper()
		if got := d.publish(what, key); got != want {
			t.Errorf("%s: got %d, want %d", what, got, want)
		}
		if want == http.StatusCreated {
			if got := receive(t, stream, what); got != what {
				t.Errorf("got %q in the stream, want %q", got, what)
			}
		}
	}
	published("all may", "", http.StatusCreated)

	// A key, and no leave for anyone else.
	keys := filepath.Join(filepath.Dir(d.file), "keys.jsonl")
	key, kept, err := auth.NewPublisherKey("backend", auth.Permissions{Publish: []string{"**"}}, time.Now(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(kept)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keys, line, 0o600); err != nil {
		t.Fatal(err)
	}
	keyed := open + "keys = \"" + keys + "\"\n"
	if got := d.reload(keyed, "read again"); !strings.Contains(got, "changed=keys") || !strings.Contains(got, `allowed="only with a publisher's key"`) {
		t.Errorf("got %q, want what has changed", got)
	}
	published("no key", "", http.StatusUnauthorized)
	published("the key", key, http.StatusCreated)

	// Mistakes: all are told, and nothing changes.
	got := d.reload("listen = \"127.0.0.1:0\"\nretry = \"x\"\nlistne = 1\n", "there is no key")
	if !strings.Contains(got, d.file+":3: retry: ") || !strings.Contains(got, d.file+":4: there is no key") {
		t.Errorf("got %q, want both mistakes", got)
	}
	published("still no key", "", http.StatusUnauthorized)
	published("still the key", key, http.StatusCreated)

	// Some count at once, and others after a restart.
	got = d.reload(keyed+"max-event = 5\nheartbeat = \"7s\"\nanonymous = \"publish\"\n", "read again")
	if !strings.Contains(got, "settings=heartbeat") || !strings.Contains(got, `changed="anonymous max-event"`) {
		t.Errorf("got %q, want what has changed and what has not", got)
	}
	published("short", "", http.StatusCreated)
	published("longer", "", http.StatusRequestEntityTooLarge)
	if got := d.reload(keyed, "read again"); !strings.Contains(got, `changed="anonymous max-event"`) || strings.Contains(got, "heartbeat") {
		t.Errorf("got %q, want what has changed back", got)
	}
	published("the key yet", key, http.StatusCreated)

	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	receive(t, d.done, "the end")
	if got := d.cmd.ProcessState.ExitCode(); got != cli.ExitOK {
		t.Errorf("got exit code %d, want 0", got)
	}
}

// testReloadRevokes revokes a key as an operator does.
func testReloadRevokes(t *testing.T, program string) {
	keys := filepath.Join(t.TempDir(), "keys.jsonl")
	key := func(command string, args ...string) string {
		t.Helper()
		out, err := exec.Command(program, append([]string{"key", command, "--file", keys}, args...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	const bearer = "Authorization: Bearer "
	lost := key("new", "--name", "lost", "--subscribe", "**")
	kept := key("new", "--name", "kept", "--subscribe", "**", "--publish", "**")
	config := "listen = \"127.0.0.1:0\"\nkeys = \"" + keys + "\"\n"
	d := startDaemon(t, program, config)
	ends, goesOn := d.subscribe(bearer+lost), d.subscribe(bearer+kept)
	if got := key("revoke", "lost"); !strings.Contains(got, "a server that runs refuses it after a SIGHUP, and ends its streams") {
		t.Errorf("got %q, want what a server does then", got)
	}
	d.reload(config, "read again")
	if got := receive(t, ends, "why it ends"); !strings.Contains(got, "urn:tidewire:problem:token-expired") || !strings.Contains(got, "was revoked") {
		t.Errorf("got %q, want to be told that the key was revoked", got)
	}
	if got, more := <-ends; more {
		t.Errorf("got %q after that, want the end", got)
	}
	if got := d.publish("after that", kept); got != http.StatusCreated {
		t.Errorf("got %d, want 201", got)
	}
	if got := receive(t, goesOn, "an event"); got != "after that" {
		t.Errorf("got %q, want what came after", got)
	}
}

// testReloadStaysShut takes the keys of a server away that listens where others can reach it;
// the file says that it listens elsewhere now, which only a restart makes true.
func testReloadStaysShut(t *testing.T, program string) {
	d := startDaemon(t, program, "listen = \"0.0.0.0:0\"\ntoken-secret = \""+secret+"\"\n")
	d.url = strings.Replace(strings.Replace(d.url, "[::]", "127.0.0.1", 1), "0.0.0.0", "127.0.0.1", 1)
	if got := d.publish("x", ""); got != http.StatusUnauthorized {
		t.Errorf("got %d, want %d", got, http.StatusUnauthorized)
	}
	got := d.reload("listen = \"127.0.0.1:0\"\n", "still listens on 0.0.0.0:0")
	if !strings.Contains(got, d.file+":2: listen: ") || strings.Contains(got, secret) {
		t.Errorf("got %q, want the line", got)
	}
	if got := d.publish("x", ""); got != http.StatusUnauthorized {
		t.Errorf("after that: got %d, want %d", got, http.StatusUnauthorized)
	}
}
