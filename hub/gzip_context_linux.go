//go:build linux && !portable && (amd64 || arm64)

package hub

import (
	"math"
	"runtime"
	"sync"
	"time"
)

const (
	// contextMost is how many events a context has at most, but for those that come with
	// the last: so many may have to come until a subscriber who has come is in one.
	contextMost = 64

	// contextRest is how long a context must have had nothing until another lane may have
	// its compressor, and those who were left out of it may begin another.
	contextRest = time.Second
)

// A gzipContext is what the newest events of a lane are compressed in: each can refer to the
// text of those before it, back to the first, to which what was before is nothing. A stream
// that was sent all of them and nothing between them can be sent the next one; a heartbeat,
// or an event compressed apart, takes it out until the next context begins.
type gzipContext struct {
	mu     sync.Mutex
	zipper *zipper // nil: there is none now
	since  uint64  // the ordinal of the first event,
	next   uint64  // and of the one after the last
	over   bool    // it takes no more
	used   time.Time
}

func (x *gzipContext) full() bool { return x.over || x.next-x.since >= contextMost }

func (x *gzipContext) begin(next uint64) {
	x.since, x.next, x.over = next, next, false
	x.zipper.deflater.Reset(&x.zipper.out)
}

// gzipContexts are those that have a compressor, of about a mebibyte each.
type gzipContexts struct {
	mu  sync.Mutex
	all []*gzipContext
}

// equip gives a context a compressor, if need be that of one that has had nothing for a
// while. x.mu is held.
func (cs *gzipContexts) equip(x *gzipContext, zs *zippers) bool {
	if x.zipper != nil {
		return true
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if len(cs.all) < 4*runtime.GOMAXPROCS(0) {
		cs.all = append(cs.all, x)
		x.zipper = zs.take()
		return true
	}
	for i, other := range cs.all {
		if other.mu.TryLock() { // else it is in use
			if time.Since(other.used) >= contextRest {
				x.zipper, other.zipper = other.zipper, nil
				cs.all[i] = x
			}
			other.mu.Unlock()
		}
		if x.zipper != nil {
			return true
		}
	}
	return false
}

// context returns that of a feed's lane.
func (h *hotLog) context(f *feed) *gzipContext {
	h.mu.RLock()
	x := f.lane.gzip.context
	h.mu.RUnlock()
	if x != nil {
		return x
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.lane.gzip.context == nil {
		f.lane.gzip.context = new(gzipContext)
	}
	return f.lane.gzip.context
}

// goOn compresses into its context what a feed's lane has from an ordinal on, about as much
// as one write should have, for a stream that was sent nothing between its events from pure
// on. It returns where the context begins and up to where it goes: one that is in it is to be
// sent no more than that now, to stay in it.
func (h *Hub) goOn(f *feed, next, pure uint64) (since, until uint64) {
	x := h.hot.context(f)
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case next < x.next:
		// What there is from there on is there.
	case next == x.next && x.zipper != nil && !x.full():
		if pure <= x.since {
			h.extend(f, x)
		}
	case next == x.next || time.Since(x.used) >= contextRest:
		if !h.engine.contexts.equip(x, &h.zippers) {
			return 0, math.MaxUint64
		}
		x.begin(next)
		h.extend(f, x)
	}
	if x.zipper == nil || x.over || next > x.next {
		return x.since, math.MaxUint64
	}
	return x.since, x.next
}

// extend compresses what waits in a lane. x.mu is held.
func (h *Hub) extend(f *feed, x *gzipContext) {
	x.used = time.Now()
	runs := h.hot.waiting(f, x)
	for i, r := range runs {
		r.since = x.since
		if !x.zipper.add(r) {
			x.over = true // it is not known what the compressor knows
			runs = runs[:i]
			break
		}
		x.next = r.end()
	}
	h.hot.keep(f, runs)
}

// waiting returns the events that come next into a lane's context, about as many as one
// write should have: small ones together.
func (h *hotLog) waiting(f *feed, x *gzipContext) (runs []*run) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	l := f.lane
	if x.next < l.base || x.next >= l.end() {
		return nil
	}
	var r *run
	ordinal, bytes, large := x.next, 0, false
	for _, it := range l.items[x.next-l.base:] {
		if bytes >= gzipFresh {
			break
		}
		size := len(it.payload())
		if r == nil || size >= gzipLeast || large {
			r = &run{from: ordinal}
			runs = append(runs, r)
		}
		r.items, r.size = append(r.items, it), r.size+size
		bytes, large = bytes+size, size >= gzipLeast
		ordinal++
	}
	return runs
}

// keep has the runs of a context found as long as their events are here.
func (h *hotLog) keep(f *feed, runs []*run) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range runs {
		if r.from < f.lane.base {
			continue // it was let go of meanwhile
		}
		f.lane.gzip.inContext = append(f.lane.gzip.inContext, r)
		r.items[len(r.items)-1].more += len(r.wire)
		h.bytes += len(r.wire)
	}
	h.shrink()
}

// add compresses a run after all that was added before. It returns false if it cannot.
func (z *zipper) add(r *run) bool {
	z.out.Reset()
	z.scratch = z.scratch[:0]
	for _, it := range r.items {
		z.scratch = append(z.scratch, it.payload()...)
	}
	if _, err := z.deflater.Write(z.scratch); err != nil {
		return false
	}
	if err := z.deflater.Flush(); err != nil {
		return false
	}
	blocks := z.out.Bytes()
	if len(blocks) > storedSize(len(z.scratch)) {
		blocks = appendStored(nil, z.scratch) // which those who come after can refer to as well
	}
	r.once.Do(func() { z.put(&r.zipped, blocks, z.scratch) })
	return true
}

// contextAt returns the run of the lane's contexts that begins at an ordinal, if a stream
// can be sent it that was sent nothing between its events from pure on.
func (l *lane) contextAt(ordinal, pure uint64) *run {
	if r, _ := l.gzip.inContext.at(ordinal); r != nil && pure <= r.since {
		return r
	}
	return nil
}
