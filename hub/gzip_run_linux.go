//go:build linux && !portable && (amd64 || arm64)

package hub

import (
	"slices"
	"sort"
)

// A run is several events of a lane, one after another, that are compressed together:
// each is too small to be worth it, and they have waited for one write. Who is at its first
// one gets it; who comes in the middle gets the rest one by one. hotLog.mu guards the list,
// and nothing of a run changes but for what is made once.
type run struct {
	zipped
	from  uint64 // the ordinal of the first
	items []*item
	size  int // bytes

	since uint64 // the ordinal that its context begins at, if it is in one
}

// runMost is how many events a run has at most.
const runMost = 64

func (r *run) end() uint64 { return r.from + uint64(len(r.items)) }

// laneGzip is what there is of a lane in gzip, of several events in one. hotLog.mu guards it.
type laneGzip struct {
	runs      laneRuns     // that can be had by all
	context   *gzipContext // nil until somebody asks
	inContext laneRuns     // that can be had by those in one
}

// drop lets go of what ends at an ordinal, or before.
func (g *laneGzip) drop(base uint64) {
	g.runs.drop(base)
	g.inContext.drop(base)
}

// laneRuns are runs of a lane, in order.
type laneRuns []*run

// drop lets go of those that end at an ordinal, or before.
func (rs *laneRuns) drop(base uint64) {
	all := *rs
	for len(all) > 0 && all[0].end() <= base {
		all[0] = nil
		all = all[1:]
	}
	if *rs = all; len(all) == 0 {
		*rs = nil
	}
}

// at returns the run that begins at an ordinal, or whether one goes on there.
func (rs laneRuns) at(ordinal uint64) (r *run, inside bool) {
	i := sort.Search(len(rs), func(i int) bool { return rs[i].end() > ordinal })
	switch {
	case i == len(rs) || rs[i].from > ordinal:
		return nil, false
	case rs[i].from == ordinal:
		return rs[i], false
	}
	return nil, true
}

func (rs *laneRuns) insert(r *run) {
	i := sort.Search(len(*rs), func(i int) bool { return (*rs)[i].from > r.from })
	*rs = slices.Insert(*rs, i, r)
}

// group makes runs of small events in a feed's lane, from an ordinal on as far as one write
// goes.
func (h *hotLog) group(f *feed, next uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := f.lane
	begin := int(max(next, l.base) - l.base)
	i, size := begin, 0
	group := func(end int) {
		if size >= gzipLeast {
			l.gzip.runs.insert(&run{from: l.base + uint64(begin), items: slices.Clone(l.items[begin:end]), size: size})
		}
		size = 0
	}
	for left := writeBytes; i < len(l.items) && left > 0; i++ {
		n := len(l.items[i].wire)
		left -= n
		r, inside := l.gzip.runs.at(l.base + uint64(i))
		if n >= gzipLeast || r != nil || inside {
			group(i)
			begin = i + 1
			continue
		}
		if size += n; i+1-begin == runMost {
			group(i + 1)
			begin = i + 1
		}
	}
	group(i)
}

// zipRun returns a run in gzip, and whether it was made now.
func (h *Hub) zipRun(r *run) (f *zipped, made bool) {
	r.once.Do(func() {
		made = true
		z := h.zippers.take()
		defer h.zippers.give(z)
		z.scratch = z.scratch[:0]
		for _, it := range r.items {
			z.scratch = append(z.scratch, it.payload()...)
		}
		z.set(&r.zipped, z.scratch)
		h.hot.weigh(r.items[len(r.items)-1], len(r.wire))
	})
	return &r.zipped, made
}
