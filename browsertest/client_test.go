package browsertest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/eventsource"
)

func TestNpmEventSource(t *testing.T) {
	t.Parallel()
	node := needNode(t)
	runChecks(t, nil, node, "client.mjs", startServer(t))
}

// post sends a body, and decodes the answer.
func post(t *testing.T, url, body string, answer any) {
	t.Helper()
	resp, err := http.Post(url, "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		t.Fatalf("POST %s: got %s %s, %v", url, resp.Status, text, err)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		t.Fatalf("POST %s: got %s: %v", url, text, err)
	}
}

// A receipt is the hub's answer to one event.
type receipt struct{ ID string }

func TestCurl(t *testing.T) {
	t.Parallel()
	curl, err := exec.LookPath("curl")
	if err != nil {
		missing(t, "curl is missing: apt-get install curl")
	}
	url := startServer(t) + "events/test/curl"

	// The lines of a stream, until the test has seen enough.
	stream := func(args ...string) (lines *bufio.Reader, stop func()) {
		cmd := exec.CommandContext(t.Context(), curl, append([]string{"-sS", "-N", url}, args...)...)
		cmd.Stderr = t.Output()
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return bufio.NewReader(out), func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // it was killed
		}
	}
	want := func(lines *bufio.Reader, want string) {
		t.Helper()
		got := ""
		for len(got) < len(want) {
			line, err := lines.ReadString('\n')
			got += line
			if err != nil {
				t.Fatalf("got %q, %v, want %q", got, err, want)
			}
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}

	lines, stop := stream()
	want(lines, "retry: 3000\n") // it listens
	var first, second, third receipt
	post(t, url, "one\ntwo", &first)
	want(lines, fmt.Sprintf("id: %s\ndata: one\ndata: two\n\n", first.ID))
	stop()

	post(t, url+"?type=price", "9.80", &second)
	lines, stop = stream("-H", "Last-Event-ID: "+first.ID)
	want(lines, fmt.Sprintf("retry: 3000\nevent: price\nid: %s\ndata: 9.80\n\n", second.ID))
	post(t, url+"?end=true", "last", &third)
	want(lines, fmt.Sprintf("id: %s\ndata: last\n\n", third.ID))
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Errorf("got %q, %v after the last event, want the end", rest, err)
	}
	stop()

	out, err := exec.CommandContext(t.Context(), curl, "-sS", "-o", "-", "-w", "%{http_code}", "-H", "Last-Event-ID: "+third.ID, url).CombinedOutput()
	if err != nil || string(out) != "204" {
		t.Errorf("got %q, %v for a closed topic of which all is known, want 204", out, err)
	}
}

// numberOf returns the number in an event of the panel.
func numberOf(t *testing.T, ev eventsource.MessageEvent) int {
	t.Helper()
	var n struct{ Count int }
	if err := json.Unmarshal([]byte(ev.Data), &n); err != nil {
		t.Fatalf("got data %q: %v", ev.Data, err)
	}
	return n.Count
}

func TestOurClient_CutStreamComesBackWithNothingMissed(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	var ends []error
	opts := &eventsource.Options{OnError: func(e eventsource.ErrorEvent) { ends = append(ends, e.Err) }}
	var got []int
	for ev, err := range eventsource.Stream(t.Context(), server+"demo/stream?token=ours", opts) {
		if err != nil {
			t.Fatal(err)
		}
		n := numberOf(t, ev)
		if len(got) > 0 && n != got[len(got)-1]+1 {
			t.Fatalf("got number %d after %v", n, got)
		}
		if got = append(got, n); len(got) == 2 {
			var answer struct{ Cut int }
			if post(t, server+"demo/cut?token=ours", "", &answer); answer.Cut != 1 {
				t.Errorf("got %d streams cut, want 1", answer.Cut)
			}
		}
		if len(got) == 10 { // five or more come in the three seconds in between
			break
		}
	}
	if len(ends) != 1 || !errors.Is(ends[0], io.EOF) {
		t.Errorf("got ends %v, want one io.EOF", ends)
	}
}

func TestOurClient_ClosedTopicEndsTheStream(t *testing.T) {
	t.Parallel()
	url := startServer(t) + "events/test/ours"
	var r receipt
	post(t, url, "first", &r)
	post(t, url+"?end=true", "last", &r)
	var got []string
	for ev, err := range eventsource.Stream(t.Context(), url+"?since=earliest", nil) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ev.Data)
	}
	if want := []string{"first", "last"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
