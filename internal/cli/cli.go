// Package cli is the command line: its commands, what they print and how they end.
// A command is a file with a function that makes it, and a line in the list in
// root.go. Main runs them without a process of its own, so that tests can.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// How a command ends.
const (
	ExitOK          = 0   // it did what it was asked for
	ExitFailed      = 1   // it could not
	ExitUsage       = 2   // it was asked for something that does not exist
	ExitTimeout     = 3   // subscribe: --timeout was reached before --count
	ExitInterrupted = 130 // a second interrupt; the program's, as no command waits for it
)

// IO is what a command has of the world. Zero fields mean the defaults.
type IO struct {
	In       io.Reader // default: empty
	Out, Err io.Writer // default: discarded

	// Getenv returns an environment variable. Default: [os.Getenv].
	Getenv func(key string) string

	// IsTerminal tells whether In, Out or Err is one. Default: by its descriptor.
	IsTerminal func(stream any) bool

	// Now is the time that stands beside an event, in its own location. Default:
	// [time.Now].
	Now func() time.Time
}

func (std IO) withDefaults() IO {
	if std.In == nil {
		std.In = strings.NewReader("")
	}
	if std.Out == nil {
		std.Out = io.Discard
	}
	if std.Err == nil {
		std.Err = io.Discard
	}
	if std.Getenv == nil {
		std.Getenv = os.Getenv
	}
	if std.IsTerminal == nil {
		std.IsTerminal = func(stream any) bool {
			f, ok := stream.(*os.File)
			return ok && term.IsTerminal(int(f.Fd()))
		}
	}
	if std.Now == nil {
		std.Now = time.Now
	}
	return std
}

// Main runs the command line args, the program's name not among them, and returns
// the code to exit with. The end of ctx is the user's first interrupt: a command
// then ends as soon as it can do so cleanly.
//
// A command that was reading In may leave a goroutine behind that still does, as
// nothing ends a read of a terminal or an inherited pipe.
func Main(ctx context.Context, args []string, std IO) int {
	std = std.withDefaults()
	root := newRootCommand(std)
	root.SetArgs(append([]string{}, args...)) // nil would mean those of the process
	cmd, err := root.ExecuteContextC(ctx)
	return report(std.Err, cmd, err)
}

// report says why a command has failed, and returns the code to exit with. Its line
// breaks are our own: those of others are written out where their words are taken in.
func report(w io.Writer, cmd *cobra.Command, err error) int {
	var (
		usage *usageError
		quiet exitCode
	)
	if err == nil {
		return ExitOK
	}
	text := appendVisible(nil, err.Error(), "\n")
	switch {
	case errors.As(err, &quiet):
		return int(quiet)
	case errors.As(err, &usage):
		fmt.Fprintf(w, "tidewire: %s\nTry: %s --help\n", text, cmd.CommandPath())
		return ExitUsage
	}
	fmt.Fprintf(w, "tidewire: %s\n", text)
	return ExitFailed
}

// A usageError says what is wrong with the command line and what would be right.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// An exitCode ends a command that has already told what there is to tell.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }
