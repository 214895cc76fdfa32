package browsertest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// minNode is the oldest major version of Node that the npm packages run on.
const minNode = 20

// missing skips a test, or fails it where nothing may be missing.
func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("TIDEWIRE_REQUIRE_BROWSER") == "1" {
		t.Fatal(why + " (TIDEWIRE_REQUIRE_BROWSER=1 makes that an error)")
	}
	t.Skip(why)
}

// needNode returns node, with the npm packages in place.
func needNode(t *testing.T) (node string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, "node is missing: install Node.js 20 or later, from nodejs.org or your system's packages")
	}
	out, err := exec.Command(node, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	version := strings.TrimSpace(string(out))
	major, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < minNode {
		missing(t, "node is "+version+": version 20 or later is needed")
	}
	if err := npmPackages(); err != nil {
		missing(t, "the npm packages cannot be installed: "+err.Error())
	}
	return node
}

// npmPackages installs what package-lock.json names, unless it is there.
var npmPackages = sync.OnceValue(func() error {
	const mark = "node_modules/.installed-lock.json"
	want, err := os.ReadFile("package-lock.json")
	if err != nil {
		return err
	}
	if got, err := os.ReadFile(mark); err == nil && bytes.Equal(got, want) {
		return nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return errors.New("npm is missing: it comes with Node.js")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts").CombinedOutput(); err != nil {
		return errors.New("npm ci: " + err.Error() + ": " + string(out))
	}
	return os.WriteFile(mark, want, 0o644)
})

// needChromium returns a browser that playwright-core can drive.
func needChromium(t *testing.T) (path string) {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	missing(t, "Chromium is missing: apt-get install chromium, or Google Chrome")
	return ""
}

// runChecks runs a script, with more in its environment, and turns each of its checks into a
// subtest.
func runChecks(t *testing.T, env []string, node, script string, args ...string) {
	t.Helper()
	for _, name := range []string{script, "checks.mjs", "browser.mjs", "streams.mjs"} {
		// go test takes a result from its cache unless a file has changed that it saw read.
		if _, err := os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, append([]string{script}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it ends its browser then
	cmd.WaitDelay = 10 * time.Second
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	checks := 0
	for lines := bufio.NewScanner(out); lines.Scan(); checks++ {
		var c struct {
			Name  string
			Ms    int
			Error string
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Errorf("%s printed %q", script, lines.Text())
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Logf("took %d ms", c.Ms)
			if c.Error != "" {
				t.Error(c.Error)
			}
		})
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%s: %v", script, err)
	}
	if checks == 0 {
		t.Errorf("%s checked nothing", script)
	}
}
