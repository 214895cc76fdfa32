package disk

import (
	"context"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// CheckFS checks a Log on another file system.
func CheckFS(ctx context.Context, dir string, fs vfs.FS) (*Report, error) { return check(ctx, dir, fs) }

// OpenFS opens a Log on another file system.
func OpenFS(dir string, opts *Options, fs vfs.FS) (*Log, error) { return open(dir, opts, fs) }

// Looked returns how many rows reading has looked at.
func (l *Log) Looked() int64 { return l.store.tables.Looked() }

// SkippedAfterCrash is how many sequences are left unused after a crash.
const SkippedAfterCrash = skippedAfterCrash
