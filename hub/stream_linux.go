//go:build linux && !portable && (amd64 || arm64)

package hub

import (
	"sort"
	"syscall"
	"unsafe"
)

// What a stream is doing.
type streamState uint8

const (
	catching streamState = iota // pages are read for it
	live                        // it writes from its feed's lane
	closing                     // what is left goes out, and then it ends
	gone                        // its connection is closed
)

// A stream is a subscriber whose connection was taken over: a place in a lane. Only its
// shard uses it; its cursor, while pages are read, only the reader.
type stream struct {
	feed   *feed
	permit *permit
	cursor *cursor // while it catches up
	waiter waiter  // of a poll
	rest   []byte  // to be written before anything else; may be shared
	next   uint64  // the ordinal in the lane of the next event
	pure   uint64  // from that ordinal on it was sent nothing but the lane's events
	after  uint64  // the sequence of the last event that was begun
	told   uint64  // the sequence that stands for the last id that was sent; of a poll, the wheel's
	slot   uint32  // in its shard
	fd     int32
	at     int32  // in its feed's streams
	wrote  uint32 // when something was last written, ms of the shard's clock
	sent   uint32 // when an id was last sent; of a poll, when it is over
	since  uint32 // when it was last not stuck
	gen    uint32 // tells it from others that had its slot
	state  streamState
	sum    gzipSum // of what was begun, with gzip
	beat   heartbeat
	gzip   bool // it gets gzip
	mute   bool // nothing has gone out yet
	known  bool // the client has an id
	even   bool // it has once had everything: what it asked for of history, too
	full   bool // the socket takes no more
	armed  bool // epoll tells when it does
	asked  bool // a reader has its cursor
}

// place has a stream go on at an ordinal in its lane, whatever it was sent before.
func (st *stream) place(next uint64) { st.next, st.pure = next, next }

// behind tells whether there is a position to tell.
func (st *stream) behind(seq uint64) bool {
	return st.beat != beatComment && (!st.known || st.told < seq)
}

// Bounds of one write.
const (
	writeBytes  = 256 << 10
	writeSlices = 512 // half of what the kernel takes
)

// A cut is what a lane has from an ordinal on, as far as one write should go.
type cut struct {
	feed   *feed
	next   uint64
	slices [][]byte // events that stand one after another in memory are one
	ends   []cutEnd
	first  uint64 // the sequence of the first event
	all    bool   // there is no more in the lane,
	to     uint64 // which has everything up to here,
	ended  bool   // and nothing more will come

	// With gzip.
	pieces []piece // one for each of ends
	sum    gzipSum
	shift  uint32 // of sum.size
	since  uint64 // where the context begins
	joined bool   // it is for a stream that is in it
	least  uint64 // the first ordinal that what is in a context refers to
}

// fits tells whether a cut is also for a stream at the same place.
func (c *cut) fits(st *stream) bool {
	return !st.gzip || st.pure <= c.least && (st.pure <= c.since) == c.joined
}

// A cutEnd is the end of an event in a cut, or of several that cannot be had apart.
type cutEnd struct {
	bytes int // up to it
	seq   uint64
}

func (c *cut) bytes() int {
	if len(c.ends) == 0 {
		return 0
	}
	return c.ends[len(c.ends)-1].bytes
}

// join returns the ordinal in a feed's lane of the first event above a sequence, and how
// many there are from it on.
func (h *hotLog) join(f *feed, after uint64) (next uint64, left int, ok bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	next, ok = f.lane.join(after)
	return next, int(f.lane.end() - next), ok
}

// cut sets c to what a feed's lane has from an ordinal on. It returns false if the lane
// does not reach back so far.
func (h *hotLog) cut(c *cut, f *feed, next uint64) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	l := f.lane
	clear(c.slices)
	*c = cut{feed: f, next: next, slices: c.slices[:0], ends: c.ends[:0]}
	if next < l.base {
		c.feed = nil
		return false
	}
	var block *block // of the last event, and where that ends
	end, bytes := 0, 0
	i := int(next - l.base)
	if i < len(l.items) {
		c.first = l.items[i].Seq
	}
	for ; i < len(l.items) && bytes < writeBytes; i++ {
		it := l.items[i]
		n := len(c.slices)
		switch {
		case it.block == block && it.begin == end:
			last := c.slices[n-1]
			c.slices[n-1] = last[:len(last)+len(it.wire)]
		case n < writeSlices:
			c.slices = append(c.slices, it.block.b[it.begin:it.begin+len(it.wire)])
		default:
			return true
		}
		block, end = it.block, it.begin+len(it.wire)
		bytes += len(it.wire)
		c.ends = append(c.ends, cutEnd{bytes, it.Seq})
	}
	c.all = i == len(l.items)
	c.to, c.ended = h.to, c.all && f.ended()
	return true
}

// write writes slices to a socket as far as it takes them: how many bytes, if errno is 0.
func (s *shard) write(fd int32, rest []byte, slices [][]byte) (int, syscall.Errno) {
	if len(rest) == 0 && len(slices) == 1 {
		rest, slices = slices[0], nil
	}
	for {
		var n uintptr
		var errno syscall.Errno
		// Not write and writev, which are slower by the file system's part. These calls
		// never wait, so that the scheduler need not know of them.
		if len(slices) == 0 {
			n, _, errno = syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(rest))), uintptr(len(rest)), sendFlags, 0, 0)
		} else {
			n, errno = s.writeAll(fd, rest, slices)
		}
		if errno != syscall.EINTR {
			return int(n), errno
		}
	}
}

const sendFlags = syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL

func (s *shard) writeAll(fd int32, rest []byte, slices [][]byte) (uintptr, syscall.Errno) {
	v := s.vector[:0]
	if len(rest) > 0 {
		v = append(v, vectorOf(rest))
	}
	for _, b := range slices {
		v = append(v, vectorOf(b))
	}
	msg := syscall.Msghdr{Iov: unsafe.SliceData(v), Iovlen: uint64(len(v))}
	n, _, errno := syscall.RawSyscall(syscall.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), sendFlags)
	clear(v)
	s.vector = v
	return n, errno
}

func vectorOf(b []byte) syscall.Iovec {
	v := syscall.Iovec{Base: unsafe.SliceData(b)}
	v.SetLen(len(b))
	return v
}

// nothing is what there is in no lane.
var nothing = cut{all: true}

// cutOf returns what a stream has to get, nil if its lane does not reach back so far.
// Streams at the same place share it.
func (s *shard) cutOf(st *stream) *cut {
	c := &s.cached
	if st.gzip {
		c = &s.cachedGzip
	}
	if c.feed != st.feed || c.next != st.next || !c.fits(st) {
		if !s.cut(c, st) {
			return nil
		}
	}
	if len(c.ends) > 0 && c.first <= st.after {
		// It has read from the Log what comes to the hot log only now.
		next, _, ok := s.hub.hot.join(st.feed, st.after)
		st.place(next)
		if !ok || !s.cut(c, st) {
			return nil
		}
	}
	return c
}

func (s *shard) cut(c *cut, st *stream) bool {
	if st.gzip {
		return s.hub.cutGzip(c, st.feed, st.next, st.pure)
	}
	return s.hub.hot.cut(c, st.feed, st.next)
}

// flush writes what a stream has to get, as much as one write should have.
func (s *shard) flush(st *stream) {
	if st.full || st.state == gone {
		return
	}
	s.flushes++
	if st.isPoll() {
		s.answerWaiter(st)
		return
	}
	c := &nothing
	if st.state == live {
		c = s.cutOf(st)
		if c == nil && s.skip(st) {
			c = s.cutOf(st)
		}
		if c == nil {
			s.fallBehind(st)
			c = &nothing
		}
	}
	total := len(st.rest) + c.bytes()
	if total > 0 {
		n, errno := s.write(st.fd, st.rest, c.slices)
		switch {
		case errno == syscall.EAGAIN:
			s.wait(st)
			return
		case errno != 0:
			s.close(st)
			return
		}
		s.sent(st)
		if n < total {
			s.wroteSome(st, c, n)
			s.wait(st)
			return
		}
		st.rest = nil
		s.took(st, c, len(c.ends))
	}
	if st.state == live && c.all {
		st.after, st.even = max(st.after, c.to), true
	}
	switch {
	case st.state == closing:
		s.hears(st) // what is unread would make a reset of the end
		s.close(st)
	case st.state == catching:
		s.ask(st)
	case c.ended:
		s.end(st, nil)
	case !c.all:
		s.again = append(s.again, st)
	}
}

// sent notes that bytes of a stream went out.
func (s *shard) sent(st *stream) {
	st.wrote, st.since = s.now, s.now
	if st.mute {
		st.mute = false
		st.permit.begun()
	}
}

// wroteSome notes that a socket took n bytes only: what is left of an event that was begun
// must come before anything else.
func (s *shard) wroteSome(st *stream, c *cut, n int) {
	if n < len(st.rest) {
		st.rest = st.rest[n:]
		return
	}
	n -= len(st.rest)
	st.rest = nil
	begun := sort.Search(len(c.ends), func(i int) bool { return c.ends[i].bytes > n }) // the first that is not whole
	begin := 0
	if begun > 0 {
		begin = c.ends[begun-1].bytes
	}
	if n > begin {
		st.rest = c.part(n, c.ends[begun].bytes)
		begun++
	}
	s.took(st, c, begun)
}

// took notes that the first n parts of a cut were begun.
func (s *shard) took(st *stream, c *cut, n int) {
	if n == 0 {
		return
	}
	st.after = c.ends[n-1].seq
	st.told, st.known, st.sent = st.after, true, s.now
	if st.gzip {
		n = st.tookGzip(c, n)
	}
	st.next += uint64(n)
}

// part returns the bytes of a cut between two places in one event.
func (c *cut) part(from, to int) []byte {
	for _, b := range c.slices {
		if from < len(b) {
			return b[from:to:to]
		}
		from -= len(b)
		to -= len(b)
	}
	return nil // not reached: from is inside
}
