//go:build unix

package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tidewire/tidewire/internal/cli"
	"github.com/tidewire/tidewire/sse"
)

func TestExec_RunsForEachEventInOrder(t *testing.T) {
	srv := serve(t, hold(t,
		sse.Event{Data: "no id, two\nlines"},
		sse.Event{ID: "k7-2", Type: "price", Data: ""},
		sse.Event{ID: "a'b;$(x)", Type: "ty\x00pe", Data: "\x1b"}))
	code, out, errs := run(t, []string{"subscribe", "--count", "3", "--exec", `echo "<$TIDEWIRE_TYPE|$TIDEWIRE_ID|$(cat)>"`, srv.URL})
	if want := "<message||no id, two\nlines>\n<price|k7-2|>\n<ty\uFFFDpe|a'b;$(x)|\x1b>\n"; code != cli.ExitOK || out != want || errs != "" {
		t.Errorf("got code %d, output %q and errors %q, want 0 and %q", code, out, errs, want)
	}
}

func TestExec_CommandNeedNotRead(t *testing.T) {
	srv := serve(t, hold(t, sse.Event{Data: strings.Repeat("x", 1<<20)}))
	code, _, errs := run(t, []string{"subscribe", "--count", "1", "--exec", "true", srv.URL})
	if code != cli.ExitOK || errs != "" {
		t.Errorf("got code %d and %q, want 0 and nothing", code, errs)
	}
}

func TestExec_Failure(t *testing.T) {
	evs := []sse.Event{{Type: "a", Data: "1"}, {ID: "k7-2", Data: "2"}, {ID: "k7-3", Data: "3"}}
	const fails = `read x; echo "$x"; echo oops >&2; [ "$x" = 3 ]`
	first := "oops\ntidewire: the command failed for an event of type \"a\": exit status 1\n"
	for _, test := range []struct {
		name string
		args []string
		code int
		out  string
		errs string
	}{
		{"is told", nil, cli.ExitOK, "1\n2\n3\n", first + "oops\ntidewire: the command failed for the event \"k7-2\": exit status 1\noops\n"},
		{"is not told", []string{"-q"}, cli.ExitOK, "1\n2\n3\n", "oops\noops\noops\n"},
		{"stops", []string{"--exec-fail-stop"}, cli.ExitFailed, "1\n", first},
		{"stops and is told", []string{"--exec-fail-stop", "-q"}, cli.ExitFailed, "1\n", first},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := serve(t, hold(t, evs...))
			code, out, errs := run(t, append([]string{"subscribe", "--count", "3", "--exec", fails, srv.URL}, test.args...))
			if code != test.code || out != test.out || errs != test.errs {
				t.Errorf("got code %d, output %q and errors %q, want %d, %q and %q", code, out, errs, test.code, test.out, test.errs)
			}
		})
	}
}

// fifo makes a named pipe, on which a command can be made to wait.
func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// release lets a command go on that waits to read from a fifo.
func release(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestExec_InterruptWaitsForTheCommand(t *testing.T) {
	srv := serve(t, hold(t, sse.Event{Data: "1"}, sse.Event{Data: "2"}))
	path := fifo(t)
	c := start(t, []string{"subscribe", "--exec", `echo begun; cat "` + path + `"; echo done`, srv.URL})
	c.prints("begun")
	c.interrupt()
	release(t, path)
	c.prints("done")
	c.ends(cli.ExitOK)
	if got := c.out.String(); got != "begun\ndone\n" {
		t.Errorf("got %q, want nothing of the second event", got)
	}
}

// A terminal sends an interrupt to the command too.
func TestExec_CommandThatIsInterruptedWithUsHasNotFailed(t *testing.T) {
	srv := serve(t, hold(t, sse.Event{Data: "1"}))
	path := fifo(t)
	c := start(t, []string{"subscribe", "--exec", `echo begun; cat "` + path + `"; kill -INT $$`, srv.URL})
	c.prints("begun")
	c.interrupt()
	release(t, path)
	c.ends(cli.ExitOK)
	if errs := c.err.String(); errs != "" {
		t.Errorf("got %q, want nothing", errs)
	}
}
