package torture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/tidewire/tidewire/internal/cli" // so that a change there runs these tests again
)

// A server is the real binary, which runs once after the other in one directory and on
// one port.
type server struct {
	t       *testing.T
	binary  string
	dir     string
	address string
	flags   []string
	running *process // nil if none is
}

// binaryDir is where the binary was built, "" if it was not.
var binaryDir string

// built is the binary, for all tests.
var built = sync.OnceValues(func() (path string, err error) {
	if binaryDir, err = os.MkdirTemp("", "tidewire-*"); err != nil {
		return "", err
	}
	path = filepath.Join(binaryDir, "tidewire")
	if out, err := exec.Command("go", "build", "-o", path, "../cmd/tidewire").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ../cmd/tidewire: %w\n%s", err, out)
	}
	return path, nil
})

// newServer returns a server that does not run yet. What still runs at the end of the
// test is killed.
func newServer(t *testing.T, rng *rand.Rand) *server {
	t.Helper()
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{
		t: t, binary: binary, dir: filepath.Join(t.TempDir(), "data"), address: freeAddress(t, rng),
		flags: strings.Fields(os.Getenv("TIDEWIRE_TORTURE_FLAGS")),
	}
	t.Cleanup(func() {
		if s.running != nil {
			_ = s.running.cmd.Process.Kill()
			<-s.running.ended
		}
	})
	return s
}

// freeAddress returns an address that nobody listens on. Its port is below those that
// systems give to outgoing connections: a client that dials such a port while nobody
// listens on it can be given the same one, and so be connected with itself.
func freeAddress(t *testing.T, rng *rand.Rand) string {
	t.Helper()
	var err error
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 15000+rng.IntN(15000))
		var l net.Listener
		if l, err = net.Listen("tcp", address); err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return address
		}
	}
	t.Fatal(err)
	return ""
}

func (s *server) url() string { return "http://" + s.address }

// A process is one run of the server.
type process struct {
	cmd       *exec.Cmd
	started   time.Time
	listening chan struct{} // closed when it has said so
	ended     chan struct{}
	err       error // of Wait, when it has ended
}

// start starts the server, and does not wait until it listens.
func (s *server) start() *process {
	s.t.Helper()
	args := append([]string{"serve", "--listen", s.address, "--data", s.dir, "--retain", "**=all", "--history", "0",
		"--retry", reconnectionTime.String(), "--heartbeat", "1s"}, s.flags...)
	p := &process{cmd: exec.Command(s.binary, args...), listening: make(chan struct{}), ended: make(chan struct{})}
	p.cmd.Stdout = &firstWrite{done: p.listening}
	p.cmd.Stderr = s.t.Output()
	p.started = time.Now()
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	s.running = p
	return p
}

// firstWrite tells when something is printed, which a server does when it listens.
type firstWrite struct {
	once sync.Once
	done chan struct{}
}

func (w *firstWrite) Write(b []byte) (int, error) {
	w.once.Do(func() { close(w.done) })
	return len(b), nil
}

// startTime bounds how long a server may take to answer, and to stop.
const startTime = 60 * time.Second

// up starts the server, and waits for its first answer. It returns how long that took.
func (s *server) up(ctx context.Context) time.Duration {
	s.t.Helper()
	p := s.start()
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	select {
	case <-p.listening:
	case <-p.ended:
		s.t.Fatalf("the server ended before it was listening: %v", p.err)
	case <-ctx.Done():
		s.t.Fatal("the server does not listen")
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if _, err := head(ctx, c, s.url(), topics[0]); err != nil {
		s.t.Fatalf("the server does not answer: %v", err)
	}
	return time.Since(p.started)
}

// kill ends the server without any warning. It must not have ended by itself before.
func (s *server) kill() {
	s.t.Helper()
	p := s.running
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Fatalf("kill the server: %v", err)
	}
	<-p.ended
	s.running = nil
	if p.cmd.ProcessState.Exited() { // else it was ended by a signal
		s.t.Fatalf("the server ended by itself: %v", p.err)
	}
}

// stop interrupts the server, which must then end in an orderly way.
func (s *server) stop() {
	s.t.Helper()
	p := s.running
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		s.t.Fatalf("interrupt the server: %v", err)
	}
	select {
	case <-p.ended:
	case <-time.After(startTime):
		s.t.Fatal("the server did not end after an interrupt")
	}
	s.running = nil
	if p.err != nil {
		s.t.Errorf("the server ended after an interrupt: %v", p.err)
	}
}

// check has "tidewire check" look whether the directory is whole; no server may be
// running.
func (s *server) check(ctx context.Context) {
	s.t.Helper()
	if out, err := exec.CommandContext(ctx, s.binary, "check", s.dir).CombinedOutput(); err != nil {
		s.t.Errorf("tidewire check: %v\n%s", err, out)
	}
}

// head asks for what the server knows of a topic.
func head(ctx context.Context, c *http.Client, base, topic string) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, base+"/events/"+topic, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return nil, err
	}
	if err := resp.Body.Close(); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HEAD /events/%s: %s", topic, resp.Status)
	}
	return resp.Header, nil
}

// firstLine shortens what a server answers with.
func firstLine(b []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(b), []byte("\n"))
	return string(line[:min(len(line), 300)])
}
