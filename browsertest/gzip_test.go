package browsertest

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

func TestChromium_Gzip(t *testing.T) {
	t.Parallel()
	node, browser := needNode(t), needChromium(t)
	runChecks(t, nil, node, "gzip.mjs", startServer(t), browser)
}

func TestCurl_Gzip(t *testing.T) {
	t.Parallel()
	curl, err := exec.LookPath("curl")
	if err != nil {
		missing(t, "curl is missing: apt-get install curl")
	}
	url := startServer(t) + "events/test/curl-gzip"
	text := strings.Repeat("all work and no play ", 1000)
	var one receipt
	post(t, url, text, &one)
	post(t, url+"?end=true", "short", &one)
	get := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), curl, append([]string{"-sS", "-N", url + "?since=earliest"}, args...)...).Output()
		if err != nil {
			t.Fatal(err) // also where the end is not as it should be
		}
		return string(out)
	}
	plain := get()
	if got := get("--compressed"); got != plain || !strings.Contains(got, text) {
		t.Errorf("got %d bytes, want %d", len(got), len(plain))
	}
	if got := get("-H", "Accept-Encoding: gzip"); len(got) > len(plain)/10 {
		t.Errorf("got %d bytes for %d", len(got), len(plain))
	}
}

// TestCurl_GzipLive has curl there from the beginning, and come later, while events that are
// alike refer to those before them.
func TestCurl_GzipLive(t *testing.T) {
	t.Parallel()
	curl, err := exec.LookPath("curl")
	if err != nil {
		missing(t, "curl is missing: apt-get install curl")
	}
	const events = 150
	url := startServer(t) + "events/test/curl-gzip-live"
	type run struct {
		begin int
		cmd   *exec.Cmd
		out   *bytes.Buffer
	}
	var runs []run
	var all sync.WaitGroup
	come := func(begin int) {
		cmd := exec.CommandContext(t.Context(), curl, "-sS", "-N", "--compressed", url)
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		first := make([]byte, len("retry: 3000\n")) // it is there
		if _, err := io.ReadFull(pipe, first); err != nil {
			t.Fatal(err)
		}
		r := run{begin, cmd, new(bytes.Buffer)}
		all.Go(func() { _, _ = r.out.ReadFrom(pipe) })
		runs = append(runs, r)
	}
	var one receipt
	for i := range events {
		if i == 0 || i == 20 || i == 64 || i == 65 {
			come(i)
		}
		to := url
		if i == events-1 {
			to += "?end=true"
		}
		post(t, to, fmt.Sprintf(`{"number":%d,"state":"waiting","note":"alike but for its number"}`, i), &one)
	}
	all.Wait()
	for _, r := range runs {
		if err := r.cmd.Wait(); err != nil {
			t.Errorf("from %d: %v", r.begin, err) // also where the end is not as it should be
		}
		next := r.begin
		for line := range strings.Lines(r.out.String()) {
			if data, ok := strings.CutPrefix(line, `data: {"number":`); ok {
				if !strings.HasPrefix(data, fmt.Sprintf("%d,", next)) {
					t.Fatalf("from %d: got %q, want %d", r.begin, line, next)
				}
				next++
			}
		}
		if next != events {
			t.Errorf("from %d: got the events up to %d, want %d", r.begin, next, events)
		}
	}
}
