//go:build unix

package cli_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tidewire/tidewire/internal/cli"
	"github.com/tidewire/tidewire/sse"
)

// A process is the real program that runs.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    *bufio.Reader
	outEnd io.Closer
	in     io.WriteCloser
	errs   bytes.Buffer
	exited chan struct{}
}

func launch(t *testing.T, program string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(program, args...), exited: make(chan struct{})}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	p.out, p.outEnd = bufio.NewReader(out), out
	p.cmd.Stdout, p.cmd.Stderr = w, &p.errs
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	closed(t, w)
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // ends looks at the code
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		closed(t, out)
		<-p.exited
	})
	return p
}

// prints waits for a line.
func (p *process) prints(want string) {
	p.t.Helper()
	if got, err := p.out.ReadString('\n'); err != nil || got != want+"\n" {
		p.t.Fatalf("got %q, %v, want %q", got, err, want)
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// ends waits for the end of the process by itself.
func (p *process) ends(want int, errs string) {
	p.t.Helper()
	receive(p.t, p.exited, "the end of the process")
	if got := p.cmd.ProcessState.ExitCode(); got != want || !strings.Contains(p.errs.String(), errs) {
		p.t.Errorf("got %v and errors %q, want exit code %d and %q", p.cmd.ProcessState, p.errs.String(), want, errs)
	}
}

func TestBinary(t *testing.T) {
	program := filepath.Join(t.TempDir(), "tidewire")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/tidewire").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}

	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run("subscribe ends cleanly with "+signal.String(), func(t *testing.T) {
			srv := serve(t, hold(t, sse.Event{Data: "a"}))
			p := launch(t, program, "subscribe", "--data-only", srv.URL)
			p.prints("a")
			p.signal(signal)
			p.ends(cli.ExitOK, "")
			if p.errs.Len() > 0 {
				t.Errorf("got %q, want nothing", p.errs.String())
			}
		})
	}
	t.Run("a second interrupt does not wait", func(t *testing.T) {
		srv := serve(t, hold(t, sse.Event{Data: "a"}))
		path := fifo(t)
		// The command waits, and holds nothing that the test waits for.
		p := launch(t, program, "subscribe", "--exec", `echo begun; exec >/dev/null 2>&1 cat "`+path+`"`, srv.URL)
		p.prints("begun")
		p.signal(os.Interrupt)
		p.signal(syscall.SIGTERM) // two of the same that come at once may be taken as one
		p.ends(cli.ExitInterrupted, "")
		release(t, path)
	})
	t.Run("publish confirms what it has sent", func(t *testing.T) {
		arrived := make(chan sse.Event, 1)
		hub := serve(t, relay(t, arrived))
		p := launch(t, program, "publish", "--url", hub.URL, "--lines", "logs")
		if _, err := io.WriteString(p.in, "a\n"); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, arrived, "the line"); got.Data != "a" {
			t.Errorf("got %q, want the line", got.Data)
		}
		p.signal(os.Interrupt)
		p.prints("k7-1")
		p.ends(cli.ExitOK, "published 1 event")
	})
	t.Run("a second interrupt does not wait for the hub", func(t *testing.T) {
		ended := make(chan struct{})
		hub := serve(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			close(ended)
			<-r.Context().Done()
		})
		p := launch(t, program, "publish", "--url", hub.URL, "--lines", "logs")
		if _, err := io.WriteString(p.in, "a\n"); err != nil {
			t.Fatal(err)
		}
		receive(t, hub.requests, "the request")
		p.signal(os.Interrupt)
		receive(t, ended, "the end of the body")
		p.signal(os.Interrupt)
		p.ends(cli.ExitInterrupted, "")
	})
	t.Run("a reader that has gone is no error", func(t *testing.T) {
		more := make(chan struct{})
		srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
			s := send(t, w, r, []sse.Event{{Data: "a"}})
			defer s.Close()
			<-more
			for s.Send(sse.Event{Data: "b"}) == nil {
				// until the client has gone
			}
		})
		p := launch(t, program, "subscribe", "--data-only", srv.URL)
		p.prints("a")
		closed(t, p.outEnd)
		close(more)
		p.ends(cli.ExitOK, "")
		if p.errs.Len() > 0 {
			t.Errorf("got %q, want nothing", p.errs.String())
		}
	})
	t.Run("a reader that has gone is noticed though nothing comes", func(t *testing.T) {
		srv := serve(t, hold(t, sse.Event{Data: "a"}))
		p := launch(t, program, "subscribe", "--data-only", srv.URL)
		p.prints("a")
		closed(t, p.outEnd)
		p.ends(cli.ExitOK, "")
	})
	t.Run("wrong usage", func(t *testing.T) {
		launch(t, program, "nonsense").ends(cli.ExitUsage, "there is no command")
	})
}
