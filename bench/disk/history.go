//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/disk"
)

// groupSize is that of the groups in which a history is loaded.
const groupSize = 1000

// A history is a directory with numbered events, from 0 on.
type history struct {
	dir    string
	loaded int // events
	count  int // events that are there now
	notes  *notes
	groups []groupPlace
	took   time.Duration // to load

	crashed *crashed // what the last crash has not to have lost; nil: there was none
}

// A groupPlace is where a group of events stands.
type groupPlace struct {
	epoch string
	first uint64
	time  time.Time
}

// loadHistory makes one. It is not synced before the end.
func (b *bench) loadHistory(name string, count int, m *maker) (h *history, err error) {
	b.say("loading %s events", thousands(float64(count)))
	h = &history{dir: filepath.Join(b.dir, name), loaded: count, count: count, notes: m.notes}
	o, err := logOptions(disk.SyncNever)
	if err != nil {
		return nil, err
	}
	l, err := disk.Open(h.dir, o)
	if err != nil {
		return nil, err
	}
	stop, err := b.profileHere("load " + name)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	begun := time.Now()
	err = h.append(b, l, m)
	stop()
	if err := errors.Join(err, l.Close()); err != nil {
		return nil, err
	}
	h.took = time.Since(begun)
	return h, nil
}

func (h *history) append(b *bench, l *disk.Log, m *maker) error {
	for left := h.loaded; left > 0; {
		n := min(left, groupSize)
		left -= n
		r, err := l.Append(b.ctx, m.group(n))
		if err != nil {
			return err
		}
		if got := r.Sequences[n-1] - r.Sequences[0]; got != uint64(n-1) {
			return fmt.Errorf("a group of %d events takes %d sequences", n, got+1)
		}
		h.groups = append(h.groups, groupPlace{r.Epoch, r.Sequences[0], r.Time})
	}
	return nil
}

// rate is how fast it was loaded.
func (h *history) rate() string { return thousands(float64(h.loaded) / h.took.Seconds()) }

func (h *history) remove() error { return os.RemoveAll(h.dir) }

// sequence returns that of an event.
func (h *history) sequence(number uint64) uint64 {
	return h.groups[number/groupSize].first + number%groupSize
}

// position returns the id of an event that has none of its publisher's.
func (h *history) position(number uint64) string {
	return hub.Position(h.groups[number/groupSize].epoch, h.sequence(number))
}

// largeHistory returns the one in which is looked up, and with which is started.
func (b *bench) largeHistory() (*history, error) {
	if b.history != nil {
		return b.history, nil
	}
	h, err := b.loadHistory("large", b.large, &maker{notes: newNotes(largeSize), ids: true})
	if err != nil {
		return nil, err
	}
	b.say("loaded in %v: %s events/s", h.took.Round(time.Second/10), h.rate())
	if err := b.compact(h); err != nil {
		return nil, err
	}
	b.history = h
	return h, nil
}

// compact opens a history, and waits until its files stay as they are.
func (b *bench) compact(h *history) error {
	o, err := logOptions(disk.SyncAlways)
	if err != nil {
		return err
	}
	l, err := disk.Open(h.dir, o)
	if err != nil {
		return err
	}
	return errors.Join(b.settle(h.dir), l.Close())
}
