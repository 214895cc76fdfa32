package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/tidewire/tidewire/log/disk"
	"github.com/tidewire/tidewire/server"
)

// newBackupCommand makes the command that copies a data directory.
func newBackupCommand(IO) *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "backup [flags] DIRECTORY",
		Short: "Copy a server's data, also while it runs",
		Long: `Write a copy of a server's data as it is at this moment to a directory that does not
exist yet. A server that runs goes on meanwhile. On the same file system most of the
copy is links to files that never change.

To restore, stop the server and start it with the copy as its --data. It then begins
another epoch, so that subscribers who have seen more are told of the gap.

Exit codes: 0 copied; 1 it could not be; 2 wrong usage.`,
		Example: `  tidewire backup /var/backups/tidewire-2026-05-04
  tidewire backup --data /var/lib/tidewire /var/backups/tidewire`,
		Args: oneDirectory,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := backup(cmd.Context(), data, args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "copied to %s\n", args[0])
			return err
		},
	}
	cmd.Flags().StringVar(&data, "data", defaultData, "`directory` of the server")
	return cmd
}

func backup(ctx context.Context, data, to string) error {
	if _, err := os.Stat(data); err != nil {
		return fmt.Errorf("%w: name the directory that serve --data has", err)
	}
	if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%s is there already: name a directory that is not", to), err)
	}
	err := server.Backup(ctx, data, to)
	if !errors.Is(err, server.ErrNotRunning) {
		return err
	}
	if _, err := disk.Check(ctx, data); err != nil {
		return err // so that no directory is made a log's by mistake
	}
	l, err := disk.Open(data, nil)
	if err != nil {
		return err
	}
	return errors.Join(l.Backup(to), l.Close())
}
