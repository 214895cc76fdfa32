package disk

import (
	"context"
	"errors"
)

// reclaimBytes is how much must have been removed, at least, for the store to be
// compacted for it.
const reclaimBytes = 32 << 20

// reclaim gives the disk back what was removed: Pebble drops it when it compacts, which it
// does for what is written. Where the oldest events of all go, as by age, what they leave
// is a range that is empty, and cheap to compact. Where others go, everything is
// compacted when half as much is removed as is kept, so that no event is
// rewritten more than about twice for that.
func (c *committer) reclaim() {
	if c.reclaiming.Load() {
		return
	}
	front, elsewhere, kept := c.store.tables.Freed()
	all := elsewhere >= max(reclaimBytes, kept/2)
	if front < reclaimBytes && !all {
		return
	}
	c.store.tables.Reclaimed(all)
	spans := c.store.tables.EmptySpans(all)
	db := c.store.db
	c.reclaiming.Store(true)
	c.background.Go(func() {
		defer c.reclaiming.Store(false)
		for _, s := range spans {
			if err := db.Compact(c.stopping, s.From, s.To, false); err != nil && !errors.Is(err, context.Canceled) {
				c.opt.Logger.Warn("disk log: room that was freed is not given back yet", "dir", c.dir, "error", err)
				return
			}
		}
	})
}
