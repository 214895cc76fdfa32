package cli_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidewire/tidewire/internal/cli"
	"github.com/tidewire/tidewire/sse"
)

// patience is how long a test waits for what must happen, on a busy machine too.
const patience = 30 * time.Second

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test -update writes it", err)
	}
	if got != string(want) {
		t.Errorf("%s, which -update rewrites: got\n%s\nwant\n%s", name, got, want)
	}
}

// receive waits for what must come.
func receive[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v := <-ch:
		return v
	case <-timer.C:
		t.Fatalf("waited %v for %s", patience, what)
		panic("unreachable")
	}
}

// An output takes down what a command prints, and hands out its lines as they come.
type output struct {
	lines chan string

	mu      sync.Mutex
	all     bytes.Buffer
	partial []byte
}

func newOutput() *output { return &output{lines: make(chan string, 10_000)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all.Write(p)
	o.partial = append(o.partial, p...)
	for {
		line, rest, found := bytes.Cut(o.partial, []byte("\n"))
		if !found {
			return len(p), nil
		}
		o.lines <- string(line)
		o.partial = rest
	}
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.String()
}

// A command is one that runs.
type command struct {
	t         *testing.T
	out, err  *output
	code      chan int
	interrupt context.CancelFunc
}

// A setting changes what a command has of the world.
type setting func(*cli.IO)

func stdin(r io.Reader) setting { return func(std *cli.IO) { std.In = r } }

// An inlet is the other end of a standard input that stays open until the test ends.
type inlet struct {
	t *testing.T
	w *io.PipeWriter
}

func openStdin(t *testing.T) (setting, inlet) {
	r, w := io.Pipe()
	in := inlet{t, w}
	t.Cleanup(in.end)
	return stdin(r), in
}

func (in inlet) write(s string) {
	in.t.Helper()
	if _, err := io.WriteString(in.w, s); err != nil {
		in.t.Fatal(err)
	}
}

func (in inlet) end() { _ = in.w.Close() } // it never fails

func stdout(w io.Writer) setting { return func(std *cli.IO) { std.Out = w } }

func env(vars map[string]string) setting {
	return func(std *cli.IO) { std.Getenv = func(key string) string { return vars[key] } }
}

// terminal makes one of the output, the error output, or both.
func terminal(out, err bool) setting {
	return func(std *cli.IO) {
		std.IsTerminal = func(stream any) bool { return out && stream == std.Out || err && stream == std.Err }
	}
}

// noon is the time in tests.
var noon = time.Date(2026, 1, 2, 12, 0, 0, 345_000_000, time.UTC)

// start runs a command until its end or that of the test.
func start(t *testing.T, args []string, settings ...setting) *command {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &command{t: t, out: newOutput(), err: newOutput(), code: make(chan int, 1), interrupt: cancel}
	std := &cli.IO{
		Out:        c.out,
		Err:        c.err,
		Getenv:     func(string) string { return "" },
		IsTerminal: func(any) bool { return false },
		Now:        func() time.Time { return noon },
	}
	for _, set := range settings {
		set(std)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.code <- cli.Main(ctx, args, *std)
	}()
	t.Cleanup(func() {
		cancel()
		receive(t, done, "the end of the command")
	})
	return c
}

// run runs a command to its end.
func run(t *testing.T, args []string, settings ...setting) (code int, out, err string) {
	t.Helper()
	c := start(t, args, settings...)
	code = receive(t, c.code, "the end of the command")
	return code, c.out.String(), c.err.String()
}

// ends waits for the end of a command and checks its code.
func (c *command) ends(want int) {
	c.t.Helper()
	if got := receive(c.t, c.code, "the end of the command"); got != want {
		c.t.Errorf("got exit code %d, want %d; standard error: %s", got, want, c.err)
	}
}

// prints waits for lines on standard output.
func (c *command) prints(lines ...string) {
	c.t.Helper()
	for _, want := range lines {
		if got := receive(c.t, c.out.lines, want); got != want {
			c.t.Errorf("got line %q, want %q", got, want)
		}
	}
}

// notes waits for a line on standard error that has all of these.
func (c *command) notes(parts ...string) {
	c.t.Helper()
	got := receive(c.t, c.err.lines, strings.Join(parts, "…"))
	for _, want := range parts {
		if !strings.Contains(got, want) {
			c.t.Errorf("got note %q, want one with %q", got, want)
		}
	}
}

// A script is a server that answers the nth request with its nth step, and any further
// one with the last.
type script struct {
	*httptest.Server
	requests chan *http.Request // as they come

	mu    sync.Mutex
	steps []http.HandlerFunc
}

func serve(t *testing.T, steps ...http.HandlerFunc) *script {
	t.Helper()
	s := &script{requests: make(chan *http.Request, 1000), steps: steps}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	step := s.steps[0]
	if len(s.steps) > 1 {
		s.steps = s.steps[1:]
	}
	s.mu.Unlock()
	s.requests <- r
	step(w, r)
}

// soon makes clients come back at once.
var soon = &sse.SessionOptions{Retry: time.Millisecond}

// events answers with a stream that ends after these.
func events(t *testing.T, evs ...sse.Event) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		send(t, w, r, evs).Close()
	}
}

// hold answers with a stream that stays open after these.
func hold(t *testing.T, evs ...sse.Event) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := send(t, w, r, evs)
		<-s.Context().Done()
		s.Close()
	}
}

func send(t *testing.T, w http.ResponseWriter, r *http.Request, evs []sse.Event) *sse.Session {
	s, err := sse.Accept(w, r, soon)
	if err != nil {
		t.Error(err)
		panic(http.ErrAbortHandler)
	}
	_ = s.Send(evs...) // a client that has what it wants is gone
	return s
}

// answer answers with a status and a body.
func answer(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// stop is the server's way to say that there is no more.
func stop(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

// silence never answers.
func silence(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // only then does a server notice that its client has gone
	<-r.Context().Done()
}

// closed closes what a test is done with.
func closed(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

// nobody is the URL of a server that is not there.
func nobody(t *testing.T) string {
	s := httptest.NewServer(nil)
	s.Close()
	return s.URL
}
