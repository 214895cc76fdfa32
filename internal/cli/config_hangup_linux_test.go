package cli_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tidewire/tidewire/internal/cli"
)

// A server that was started from a terminal ends with it, and not only forgets it.
func TestServe_EndsWithItsTerminal(t *testing.T) {
	program := filepath.Join(t.TempDir(), "tidewire")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/tidewire").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err) // such as in a container without one
	}
	defer screen.Close()
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, program, "listen = \"127.0.0.1:0\"\n", func(cmd *exec.Cmd) {
		cmd.Stdin = terminal
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	})
	closed(t, terminal)
	if got := d.reload("listen = \"127.0.0.1:0\"\nmax-id = 9\n", "read again"); !strings.Contains(got, "changed=max-id") {
		t.Errorf("got %q while there is a terminal, want what has changed", got)
	}
	closed(t, screen)
	receive(t, d.done, "the end")
	if got := d.cmd.ProcessState.ExitCode(); got != cli.ExitOK {
		t.Errorf("got exit code %d, want 0", got)
	}
}
