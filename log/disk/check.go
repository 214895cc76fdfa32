package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/tables"
)

// ErrDamaged says that what is in a directory cannot be what was written: run
// "tidewire check", and put a backup in its place.
var ErrDamaged = tables.ErrDamaged

// A Report is what [Check] found in a directory.
type Report struct {
	tables.Report
	Orderly bool // it was closed in an orderly way
	Copied  bool // it is a copy or a backup, and begins another epoch when it is opened
}

// Check reads all that is in a directory, which no process may have open, and compares
// it with itself. It changes nothing. If something is wrong, the report's Problems tell; the error
// is for what could not be read at all.
func Check(ctx context.Context, dir string) (*Report, error) { return check(ctx, dir, vfs.Default) }

func check(ctx context.Context, dir string, fs vfs.FS) (report *Report, err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("disk: check: %w", err)
	}
	found, err := pebble.Peek(dir, fs)
	if err != nil {
		return nil, fmt.Errorf("disk: check: %w", err)
	}
	if !found.Exists {
		return nil, fmt.Errorf("disk: %s is no directory of a log: name the one that serve --data has", dir)
	}
	o, err := withDefaults(&Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	s := &store{dir: dir, fs: fs}
	s.log = o.Logger
	s.guard = newGuard(dir, fs)
	if err := s.guard.check(); err != nil {
		return nil, openError(dir, err)
	}
	engine := engineOptions(checkedFS{fs}, &o, &s.trouble, func() {})
	engine.ReadOnly = true
	if s.db, err = pebble.Open(dir, engine); err != nil {
		return nil, openError(dir, err)
	}
	defer func() { err = errors.Join(err, s.db.Close()) }()
	of, err := tables.Check(s.db)
	if err != nil {
		return nil, fmt.Errorf("disk: check: %w", err)
	}
	report = &Report{Report: *of}
	ended, err := readClean(dir, fs)
	if err != nil {
		return nil, err
	}
	report.Orderly = ended == hub.Position(of.Epoch, of.Seq)
	known, err := s.get(rowIdentity)
	if err != nil {
		return nil, err
	}
	if vfs.Root(fs) == vfs.Default {
		report.Copied, err = isCopy(filepath.Join(dir, identityFile), known)
	}
	return report, err
}

// A checkedFS is a file system that may be read-only, where there is no lock, and nobody
// who writes.
type checkedFS struct{ vfs.FS }

// Unwrap implements [vfs.FS].
func (f checkedFS) Unwrap() vfs.FS { return f.FS }

// Lock implements [vfs.FS].
func (f checkedFS) Lock(name string) (io.Closer, error) {
	lock, err := f.FS.Lock(name)
	if errors.Is(err, syscall.EROFS) {
		return io.NopCloser(nil), nil
	}
	return lock, err
}

// Backup writes a copy of the log as it is at a moment, while it is in use, to a
// directory that does not exist yet. On the same file system most of it is links, and
// takes neither time nor room.
func (l *Log) Backup(to string) error {
	l.gate.RLock()
	defer l.gate.RUnlock()
	if l.store == nil {
		return errors.New("disk: backup: the log is closed")
	}
	if err := l.store.db.Checkpoint(to, pebble.WithFlushedWAL()); err != nil {
		return fmt.Errorf("disk: backup: %w", err)
	}
	return nil
}
