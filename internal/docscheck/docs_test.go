// Package docscheck keeps the READMEs true: it runs their commands, and finds their
// code in tests and examples.
package docscheck

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const root = "../.."

// A block is a fenced piece of a document.
type block struct{ lang, text string }

var fence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

func blocks(t *testing.T, file string) []block {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	var all []block
	for _, m := range fence.FindAllSubmatch(b, -1) {
		all = append(all, block{string(m[1]), string(m[2])})
	}
	if len(all) == 0 {
		t.Fatalf("%s has no blocks", file)
	}
	return all
}

func TestREADME_TheChineseOneHasTheSameBlocks(t *testing.T) {
	if en, zh := blocks(t, "README.md"), blocks(t, "README.zh.md"); !slices.Equal(en, zh) {
		t.Errorf("got %q, want %q", zh, en)
	}
}

// TestREADME_CodeComesFromTests looks for each block of code in files that are run.
func TestREADME_CodeComesFromTests(t *testing.T) {
	sources := map[string]string{}
	for lang, patterns := range map[string][]string{
		"go": {"sse/example_test.go", "eventsource/example_test.go"},
		"js": {"server/page.html"},
	} {
		for _, p := range patterns {
			files, err := filepath.Glob(filepath.Join(root, p))
			if err != nil || len(files) == 0 {
				t.Fatalf("%s: %v, %v", p, files, err)
			}
			for _, f := range files {
				b, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				sources[lang] += flatten(string(b))
			}
		}
	}
	for _, b := range blocks(t, "README.md") {
		if b.lang == "sh" {
			continue
		}
		if !strings.Contains(sources[b.lang], flatten(b.text)) {
			t.Errorf("no example has this code of README.md:\n%s", b.text)
		}
	}
}

// flatten takes the indentation off every line.
func flatten(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(strings.TrimSpace(line) + "\n")
	}
	return b.String()
}

// TestDocs_CommandsRun runs every command of every document: programs stay running
// in the background for the commands after them.
func TestDocs_CommandsRun(t *testing.T) {
	for _, file := range []string{"README.md", "CONTRIBUTING.md"} {
		t.Run(file, func(t *testing.T) {
			for _, b := range blocks(t, file) {
				if b.lang != "sh" {
					continue
				}
				if strings.Contains(b.text, "tidewire key new") {
					runScript(t, b.text)
					continue
				}
				for line := range strings.Lines(b.text) {
					runCommand(t, strings.TrimSpace(line))
				}
			}
		})
	}
}

// runScript runs a block as a whole, with the program installed, in a directory of its own,
// and ends what it leaves in the background. What it prints last must be a hub's answer.
func runScript(t *testing.T, text string) {
	t.Helper()
	bin, dir := t.TempDir(), t.TempDir()
	if out, err := command(t, "go", "build", "-o", bin, "./cmd/tidewire").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-e", "-c", text+"kill $!; wait $!")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(`"position":`)) {
		t.Errorf("%s: got %v\n%s", text, err, out)
	}
}

func runCommand(t *testing.T, line string) {
	t.Helper()
	words := strings.Fields(line)
	switch {
	case words[0] == "go" && words[1] == "run" && slices.Contains([]string{"demo", "serve"}, words[3]):
		startProgram(t, words[2], words[3:]...)
	case strings.HasPrefix(line, "curl -N"):
		// What it prints comes with what is published next; the demo publishes too.
		if out := firstLines(t, line); !bytes.Contains(out, []byte("retry: ")) {
			t.Errorf("%s: got %q, want an event stream", line, out)
		}
	case words[0] == "curl", words[0] == "go" && words[1] == "run":
		if out, err := command(t, "sh", "-c", line).CombinedOutput(); err != nil || len(out) == 0 {
			t.Errorf("%s: got %v, %s", line, err, out)
		}
	case words[0] == "make":
		// This test is a part of it: that the target exists has to do.
		if out, err := command(t, "make", "-n", words[1]).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	case words[0] == "go" && words[1] == "get":
		mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
		if err != nil || !bytes.HasPrefix(mod, []byte("module "+words[2]+"\n")) {
			t.Errorf("%s: that is not this module: %.60q, %v", line, mod, err)
		}
	default:
		t.Errorf("%s: this test does not know how to run that", line)
	}
}

// startProgram runs a main package until the test ends, as Ctrl-C ends it, and waits
// until it says where to look.
func startProgram(t *testing.T, pkg string, args ...string) {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "program")
	if out, err := command(t, "go", "build", "-o", bin, pkg).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	cmd := exec.Command(bin, args...) // not bound to the test's context, which would kill it
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || !strings.Contains(line, "http://127.0.0.1:7730/") {
		t.Fatalf("%s: got %q, %v, %s", pkg, line, err, stderr.String())
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s after an interrupt: %v, %s", pkg, err, stderr.String())
		}
	})
}

// firstLines runs a curl on an endless stream until a line has come.
func firstLines(t *testing.T, line string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", "exec "+line)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Errorf("%s: %v (curl is installed by .ci/run)", line, err)
	}
	cancel()
	_ = cmd.Wait() // killed, as it would go on for ever
	return out
}

func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = root
	return cmd
}
