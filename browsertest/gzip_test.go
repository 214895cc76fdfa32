package browsertest

import (
	"os/exec"
	"strings"
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
