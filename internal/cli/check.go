package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidewire/tidewire/log/disk"
)

// newCheckCommand makes the command that looks whether a data directory is whole.
func newCheckCommand(IO) *cobra.Command {
	return &cobra.Command{
		Use:   "check DIRECTORY",
		Short: "Look whether a data directory is whole",
		Long: `Read all that is in the directory of a server that is not running, compare it with
itself, and say what is there and what is wrong. Nothing is changed.

Exit codes: 0 it is whole; 1 something is wrong, or it cannot be read; 2 wrong usage.`,
		Example: `  tidewire check ./tidewire-data`,
		Args:    oneDirectory,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := disk.Check(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printReport(cmd.OutOrStdout(), cmd.ErrOrStderr(), r)
		},
	}
}

// oneDirectory refuses all but one argument.
func oneDirectory(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return usagef("%s takes one directory, such as %s", cmd.Name(), defaultData)
	}
	return nil
}

func printReport(out, errs io.Writer, r *disk.Report) error {
	var said strings.Builder
	fmt.Fprintf(&said, "epoch    %s, up to %d\nevents   %d of %d bytes, under %d topics\n", r.Epoch, r.Seq, r.Events, r.Bytes, r.Topics)
	if r.Events > 0 {
		fmt.Fprintf(&said, "from     %s\nto       %s\n", r.Oldest.Format(time.RFC3339), r.Newest.Format(time.RFC3339))
	}
	if r.Skipped > 0 {
		fmt.Fprintf(&said, "crashes  %d\n", r.Skipped)
	}
	if !r.Orderly {
		said.WriteString("It was not closed in an orderly way, which is no harm.\n")
	}
	if r.Copied {
		said.WriteString("It is a copy: when it is opened it begins another epoch, and subscribers are told of a gap.\n")
	}
	if len(r.Problems) == 0 {
		said.WriteString("It is whole.\n")
	}
	if _, err := io.WriteString(out, said.String()); err != nil || len(r.Problems) == 0 {
		return err
	}
	for _, p := range r.Problems {
		if _, err := fmt.Fprintln(errs, "wrong: "+p); err != nil {
			return err
		}
	}
	return errors.New("the directory is damaged: put a backup in its place, or move it away and begin anew")
}
