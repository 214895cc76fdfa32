package disk

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// cleanFile is in a directory that was closed in an orderly way, and says where the
// order ended. It stands beside the store, so that damage to the end of the store is not
// damage to it.
const cleanFile = "CLEAN"

// makeDir makes a directory and all those above it, so that they outlive a power loss.
func makeDir(dir string, fs vfs.FS) error {
	var above []string // of those that are made
	for d := dir; ; d = fs.PathDir(d) {
		if _, err := fs.Stat(d); err == nil || !errors.Is(err, os.ErrNotExist) || fs.PathDir(d) == d {
			break
		}
		above = append(above, fs.PathDir(d))
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	for _, d := range above {
		if err := syncDir(d, fs); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(dir string, fs vfs.FS) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

// readClean returns what the file of an orderly end says, "" if there is none.
func readClean(dir string, fs vfs.FS) (string, error) {
	f, err := fs.Open(fs.PathJoin(dir, cleanFile))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", cleanFile, err)
	}
	text, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("read %s: %w", cleanFile, err)
	}
	return string(text), nil
}

// writeClean notes an orderly end.
func writeClean(dir string, fs vfs.FS, text string) error {
	f, err := fs.Create(fs.PathJoin(dir, cleanFile), vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("write %s: %w", cleanFile, err)
	}
	_, err = f.Write([]byte(text))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", cleanFile, err)
	}
	return syncDir(dir, fs)
}

// removeClean notes that the directory is in use.
func removeClean(dir string, fs vfs.FS) error {
	err := fs.Remove(fs.PathJoin(dir, cleanFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", cleanFile, err)
	}
	return syncDir(dir, fs)
}
