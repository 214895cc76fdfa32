// Package tailwindow keeps a Log's newest records for Tail, whatever retention does to
// the events: who follows live gets everything.
package tailwindow

import (
	"sort"

	"github.com/tidewire/tidewire/hub"
)

// page is about how many records are handed out at once.
const page = 512

// A Window has the newest groups of records, bounded in bytes. It is not safe for
// concurrent use.
type Window struct {
	limit  int // of bytes
	bytes  int
	groups [][]hub.Record
	gone   uint64 // the highest sequence that is no longer there
}

// New returns a window that begins above a sequence.
func New(limit int, after uint64) *Window { return &Window{limit: limit, gone: after} }

// Add puts a group at the end, and drops the oldest ones where that is too much.
func (w *Window) Add(group []hub.Record) {
	w.groups = append(w.groups, group)
	w.bytes += size(group)
	n := 0
	for ; w.bytes > w.limit && n < len(w.groups)-1; n++ {
		old := w.groups[n]
		w.bytes -= size(old)
		w.gone = old[len(old)-1].Seq
	}
	clear(w.groups[:n]) // what follows shares their array until it is full
	w.groups = w.groups[n:]
}

func size(group []hub.Record) int {
	const perRecord = 128
	n := 0
	for i := range group {
		n += perRecord
		if ev := group[i].Event; ev != nil {
			n += ev.Size()
		}
	}
	return n
}

// Above returns the next whole groups after a sequence, none if there are none yet, and
// false if the window does not reach back so far.
func (w *Window) Above(after uint64) ([]hub.Record, bool) {
	if after < w.gone {
		return nil, false
	}
	i := sort.Search(len(w.groups), func(i int) bool {
		g := w.groups[i]
		return g[len(g)-1].Seq > after
	})
	var records []hub.Record
	for ; i < len(w.groups) && len(records) < page; i++ {
		for _, r := range w.groups[i] {
			if r.Seq > after {
				records = append(records, r)
			}
		}
	}
	return records, true
}

// Oldest returns the sequence of the first record in the window, or of the next one.
func (w *Window) Oldest() uint64 {
	if len(w.groups) == 0 {
		return w.gone + 1
	}
	return w.groups[0][0].Seq
}
