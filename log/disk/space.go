package disk

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidewire/tidewire/hub"
)

// space returns an error if there is too little room on the disk.
func (l *Log) space() error {
	if l.opt.MinFree < 0 {
		return nil
	}
	usage, err := l.files.GetDiskUsage(l.dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", hub.ErrUnavailable, err)
	}
	least := uint64(l.opt.MinFree)
	if least == 0 {
		least = min(DefaultMinFree, usage.TotalBytes/20)
	}
	if usage.AvailBytes < least {
		return fmt.Errorf("%w: %d MiB are free on the disk of %s, and %d must be", hub.ErrNoSpace, usage.AvailBytes>>20, l.dir, least>>20)
	}
	return nil
}

// fills refuses what comes while the disk is full, and what waits. The one that is being
// written waits, as part of it may be on the disk.
func (l *Log) fills(cause error) {
	err := fmt.Errorf("%w: %w", hub.ErrNoSpace, cause)
	l.full.Store(&err)
	l.opt.Logger.Error("disk log: the disk is full: publishing is refused until there is room", "dir", l.dir, "error", cause)
	l.queue.refuse(err)
}

// empties takes events again.
func (l *Log) empties() {
	l.full.Store(nil)
	l.opt.Logger.Info("disk log: there is room on the disk again", "dir", l.dir)
}
