package browsertest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/tidewire/tidewire/demo"
	"github.com/tidewire/tidewire/hub"
	_ "github.com/tidewire/tidewire/internal/cli" // so that a change there runs these tests again
	"github.com/tidewire/tidewire/log/memory"
)

// realBinary has the tests run "tidewire demo", and not the same in this process, where
// the race detector sees it.
const realBinary = true

// startServer starts the demo for a test, and returns its address.
func startServer(t *testing.T) (url string) {
	t.Helper()
	if realBinary {
		return runBinary(t)
	}
	return runInProcess(t)
}

func runInProcess(t *testing.T) (url string) {
	t.Helper()
	log, err := memory.New(&memory.Options{Retention: demo.Retention()})
	if err != nil {
		t.Fatal(err)
	}
	h, err := hub.New(&hub.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	d := demo.New(h)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	server := &http.Server{Handler: d, BaseContext: func(net.Listener) context.Context { return ctx }}
	var running sync.WaitGroup
	running.Go(func() { d.Run(ctx) })
	running.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		stop()
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(grace); err != nil {
			t.Error(err)
		}
		running.Wait()
		if err := h.Shutdown(grace); err != nil {
			t.Error(err)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String() + "/"
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

var address = regexp.MustCompile(`https?://[^/\s]+`)

func runBinary(t *testing.T) (url string) {
	t.Helper()
	return runCommand(t, nil, t.Output(), "demo", "--listen", "127.0.0.1:0") + "/"
}

// runCommand runs a server until the test ends, with more in its environment, and returns
// the origin that it prints.
func runCommand(t *testing.T, env []string, logs io.Writer, args ...string) (origin string) {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = logs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		late := time.AfterFunc(15*time.Second, func() {
			t.Errorf("tidewire %s did not end within 15 s of an interrupt", args[0])
			_ = cmd.Process.Kill()
		})
		defer late.Stop()
		_, _ = io.Copy(logs, out)
		_ = cmd.Wait() // whatever code an interrupt ends with
	})
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if found := address.FindString(line); found != "" {
			return found
		}
		if err != nil {
			t.Fatalf("tidewire %s printed no address: %v", args[0], err)
		}
	}
}
