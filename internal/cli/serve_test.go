package cli_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/internal/cli"
)

func TestServe(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out, w := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- cli.Main(ctx, []string{"serve", "--listen", "127.0.0.1:0", "--max-event", "5"}, cli.IO{Out: w})
		_ = w.Close()
	}()
	said := bufio.NewScanner(out)
	var url string
	for said.Scan() {
		if _, rest, ok := strings.Cut(said.Text(), "curl -d 'hello' "); ok {
			url = rest
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // so that nothing it says blocks it
	for data, want := range map[string]int{"12345": http.StatusCreated, "123456": http.StatusRequestEntityTooLarge} {
		resp, err := http.Post(url, "text/plain", strings.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%d bytes: got %s, want %d", len(data), resp.Status, want)
		}
	}
	interrupt()
	if c := <-code; c != cli.ExitOK {
		t.Errorf("got exit code %d, want 0", c)
	}
}

func TestServe_SaysAllThatIsWrongAtOnce(t *testing.T) {
	var errs strings.Builder
	code := cli.Main(t.Context(), []string{"serve",
		"--listen", "0.0.0.0:80", "--retain", "a", "--history", "x", "--retry", "0s", "--max-batch-events", "0", "--allow-origin", "example.com",
	}, cli.IO{Err: &errs})
	if code != cli.ExitUsage {
		t.Errorf("got exit code %d, want %d", code, cli.ExitUsage)
	}
	for _, says := range []string{"--listen: ", "no authorisation yet", "--retain: ", "--history: ", "--retry: ", "--max-batch-events: ", "--allow-origin: "} {
		if !strings.Contains(errs.String(), says) {
			t.Errorf("got %q, want it to say %q", errs.String(), says)
		}
	}
}

func TestServe_AnAddressThatIsTaken(t *testing.T) {
	var errs strings.Builder
	if code := cli.Main(t.Context(), []string{"serve", "--listen", "127.0.0.1:1x"}, cli.IO{Err: &errs}); code != cli.ExitFailed {
		t.Errorf("got exit code %d, %s, want %d", code, errs.String(), cli.ExitFailed)
	}
}
