package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/tidewire/tidewire/sse"
)

const (
	// pipeTimeout bounds the wait for those who still hold a command's standard
	// streams when it has ended itself: what it started in the background.
	pipeTimeout = 5 * time.Second

	// interruptTimeout bounds the wait for our own interrupt when a command was
	// ended by one: a terminal sends it to both.
	interruptTimeout = 100 * time.Millisecond
)

// A runner runs a command for each event.
type runner struct {
	std      IO
	command  string
	quiet    bool
	failStop bool
}

// run runs the command for ev and waits for it, also if ctx ends meanwhile: what deals
// with an event is not cut off half-way.
func (r *runner) run(ctx context.Context, ev sse.Event) error {
	shell := []string{"sh", "-c"}
	if runtime.GOOS == "windows" {
		shell = []string{"cmd", "/C"}
	}
	cmd := exec.Command(shell[0], shell[1], r.command)
	cmd.Env = append(os.Environ(), "TIDEWIRE_TYPE="+withoutNUL(ev.Type), "TIDEWIRE_ID="+withoutNUL(ev.ID))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(ev.Data), r.std.Out, r.std.Err
	cmd.WaitDelay = pipeTimeout
	err := cmd.Run()
	if err == nil || byInterrupt(err) && interrupted(ctx) {
		return nil
	}
	of := "an event of type " + fmt.Sprintf("%q", ev.Type)
	if ev.ID != "" {
		of = fmt.Sprintf("the event %q", ev.ID)
	}
	failure := fmt.Errorf("the command failed for %s: %w", of, err)
	if r.failStop {
		return failure
	}
	if !r.quiet {
		fmt.Fprintf(r.std.Err, "tidewire: %s\n", visible(failure.Error()))
	}
	return nil
}

// withoutNUL makes s fit for an environment.
func withoutNUL(s string) string { return strings.ReplaceAll(s, "\x00", "\uFFFD") }

// byInterrupt tells whether a command was ended by a signal, or says that what it ran
// was ended by SIGINT.
func byInterrupt(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && (exit.ExitCode() == -1 || exit.ExitCode() == ExitInterrupted)
}

// interrupted tells whether ctx has ended, or does in a moment.
func interrupted(ctx context.Context) bool {
	timer := time.NewTimer(interruptTimeout)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return true
	case <-timer.C:
		return false
	}
}
