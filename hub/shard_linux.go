//go:build linux && !portable && (amd64 || arm64)

package hub

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// owedMost is how many bytes of one feed may wait for a shard before publishers do:
	// what comes meanwhile is written at once.
	owedMost = 32 << 10

	// dueMost is how many writes may wait in a shard, of several feeds, before publishers
	// do: a millisecond or so.
	dueMost = 128

	// turnSize is how many streams of a feed are written to before the next feed's turn,
	// and before other goroutines may run: fewer while publishers are at it, so that the
	// next event comes soon and shares the writes that are left. (1,000 subscribers and a
	// publisher who waits for his answers: 5.1 million deliveries a second, and not 2.2.)
	turnSize  = 64
	shortTurn = 8
)

// A shard writes to its streams in one goroutine.
type shard struct {
	engine  *engine
	hub     *Hub
	n       int
	poller  *poller
	yielder *yielder
	bell    chan struct{} // of one element: there is something to do
	news    atomic.Bool   // something was published

	mu    sync.Mutex
	feeds []*feed  // with something new since take
	waits int      // feeds whose turn has not begun,
	due   int      // their streams,
	heavy int      // and those that have more than owedMost
	over  bool     // publishers are to wait
	posts []func() // to be run by the goroutine,
	dead  bool     // which has ended
	ready []ready

	// The goroutine's own.
	slots      []*stream
	free       []uint32 // slots
	streams    int
	turns      []*feed
	again      []*stream // with more to write
	cached     cut
	cachedGzip cut
	vector     []syscall.Iovec
	scratch    []byte
	now        uint32 // ms
	flushes    int    // since others may have run
	swept      int    // the slot up to which streams have been looked at
	lastTick   time.Time
	expiries   expiries
	wheel      wheel
	gens       uint32
	stopped    bool
}

// A feedShard is a feed's part in a shard.
type feedShard struct {
	streams []*stream
	count   atomic.Int32 // of them
	next    int          // of them, in the turn under way
	turning bool         // it is among the shard's turns
	begun   bool         // its turn is under way
	news    bool         // another one is to follow

	// Under the shard's mu.
	offered bool // its turn, or the next one, has not begun
	due     int  // streams when it was offered
	owed    int  // bytes since then
}

// feedShares is what the engine has of a feed.
type feedShares struct {
	streams atomic.Int64 // in all shards
	home    int          // the shard of the first ones
	shards  []feedShard  // one each; its shard's
	passed  passed       // under hotLog.mu
}

func (s *feedShares) init(home, shards int) {
	s.home, s.shards = home, make([]feedShard, shards)
}

func newShard(e *engine, n int) (*shard, error) {
	s := &shard{engine: e, hub: e.hub, n: n, bell: make(chan struct{}, 1), scratch: make([]byte, 4<<10)}
	var err error
	if s.yielder, err = newYielder(); err != nil {
		return nil, err
	}
	if s.poller, err = newPoller(s); err != nil {
		s.yielder.close()
		return nil, err
	}
	return s, nil
}

// release lets go of the descriptors of its own.
func (s *shard) release() {
	s.poller.close()
	s.yielder.close()
}

func (s *shard) ring() {
	select {
	case s.bell <- struct{}{}:
	default:
	}
}

// post has the shard run a function. It returns false if the shard has stopped, and does
// not.
func (s *shard) post(f func()) bool {
	s.mu.Lock()
	dead := s.dead
	if !dead {
		s.posts = append(s.posts, f)
	}
	s.mu.Unlock()
	s.ring()
	return !dead
}

// offer tells of feeds with something new.
func (s *shard) offer(feeds []*feed) {
	s.news.Store(true)
	s.mu.Lock()
	rings := false
	for _, f := range feeds {
		if f.shared.streams.Load() == 0 {
			continue
		}
		fs := &f.shared.shards[s.n]
		owed := fs.owed
		if fs.owed += f.fresh; owed <= owedMost && fs.owed > owedMost {
			s.heavy++
		}
		if !fs.offered {
			fs.offered = true
			s.feeds = append(s.feeds, f)
			fs.due = int(fs.count.Load())
			s.due += fs.due
			s.waits++
			rings = true
		}
	}
	s.weigh()
	s.mu.Unlock()
	if rings {
		s.ring()
	}
}

// weigh has publishers wait, or no longer; mu is held.
func (s *shard) weigh() {
	most := dueMost
	if s.over {
		most /= 2 // not one publisher at a time
	}
	over := s.heavy > 0 || s.due > most && s.waits > 1
	switch {
	case over && !s.over:
		s.engine.gate.raise()
	case !over && s.over:
		s.engine.gate.lower()
	}
	s.over = over
}

// run is the shard's goroutine.
func (s *shard) run() {
	defer s.release()
	defer s.bury()
	period := s.hub.opt.shortest()
	// A second, at most: polls whose time is up, and grants that expire, wait for it too.
	tick := time.NewTicker(min(max(period/64, 5*time.Millisecond), time.Second))
	defer tick.Stop()
	for !s.stopped {
		s.take()
		if len(s.turns) == 0 && len(s.again) == 0 {
			ticks := tick.C
			if s.streams == 0 {
				ticks = nil
			}
			select {
			case <-s.bell:
			case <-ticks:
				s.sweep(period)
				s.endExpired()
				s.endWaits()
			case <-s.hub.ctx.Done():
				s.stop()
			}
			continue
		}
		select {
		case <-tick.C:
			s.sweep(period)
			s.endExpired()
			s.endWaits()
		default:
		}
		most := turnSize
		if s.news.Swap(false) {
			most = shortTurn
		}
		s.turn(most)
		s.repeat()
		if s.flushes >= most {
			s.flushes = 0
			s.yielder.yield()
		}
	}
}

// bury ends what was posted too late.
func (s *shard) bury() {
	s.mu.Lock()
	s.dead = true
	posts := s.posts
	s.mu.Unlock()
	for _, f := range posts {
		f()
	}
}

// shortest returns the shortest time after which something is to be done for an idle or a
// stuck stream.
func (o *Options) shortest() time.Duration {
	const never = time.Hour
	d := never
	for _, each := range []time.Duration{o.Heartbeat, o.WriteTimeout, o.PositionInterval} {
		if each > 0 {
			d = min(d, each)
		}
	}
	return d
}

// take takes over what others want of the shard.
func (s *shard) take() {
	s.now = uint32(time.Since(s.engine.epoch) / time.Millisecond)
	s.cached.feed, s.cachedGzip.feed = nil, nil // it may have been forgotten since
	s.mu.Lock()
	feeds, posts, ready := s.feeds, s.posts, s.ready
	s.feeds, s.posts, s.ready = nil, nil, nil
	for _, f := range feeds {
		fs := &f.shared.shards[s.n]
		if fs.turning {
			fs.news = true
			continue
		}
		fs.turning = true
		s.turns = append(s.turns, f)
	}
	s.mu.Unlock()
	for _, f := range posts {
		f()
	}
	for _, r := range ready {
		s.attend(r)
	}
}

// turn writes to some streams of the feeds whose turn it is.
func (s *shard) turn(left int) {
	for left > 0 && len(s.turns) > 0 {
		f := s.turns[0]
		fs := &f.shared.shards[s.n]
		if !fs.begun {
			s.begin(fs)
		}
		for ; left > 0 && fs.next < len(fs.streams); left-- {
			st := fs.streams[fs.next]
			fs.next++
			if st.full {
				s.judge(st)
			}
			s.flush(st)
		}
		left-- // for the feed
		s.turns = s.turns[1:]
		switch {
		case fs.next < len(fs.streams): // others first
			s.turns = append(s.turns, f)
		case fs.news:
			fs.begun, fs.news = false, false
			s.turns = append(s.turns, f)
		default:
			fs.begun, fs.turning = false, false
		}
	}
}

// begin begins a feed's turn.
func (s *shard) begin(fs *feedShard) {
	fs.begun, fs.next = true, 0
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits--
	s.due -= fs.due
	if fs.owed > owedMost {
		s.heavy--
	}
	fs.offered, fs.owed = false, 0
	s.weigh()
}

// repeat writes to streams that had more to write than one write should have.
func (s *shard) repeat() {
	n := min(len(s.again), turnSize)
	for _, st := range s.again[:n] {
		s.flush(st)
	}
	s.again = append(s.again[:0], s.again[n:]...)
}

// enter takes a stream. A poll is answered within wait.
func (s *shard) enter(st *stream, wait time.Duration) {
	taken := s.post(func() {
		st.slot = uint32(len(s.slots))
		if n := len(s.free); n > 0 {
			st.slot, s.free = s.free[n-1], s.free[:n-1]
			s.slots[st.slot] = st
		} else {
			s.slots = append(s.slots, st)
		}
		s.gens++
		st.gen, st.wrote, st.since, st.sent = s.gens, s.now, s.now, s.now
		s.streams++
		fs := &st.feed.shared.shards[s.n]
		st.at = int32(len(fs.streams))
		fs.streams = append(fs.streams, st)
		fs.count.Add(1)
		if s.stopped || s.poller.add(st) != nil {
			s.close(st)
			return
		}
		s.expire(st)
		if st.isPoll() {
			s.wheel.add(s, st, s.now+uint32(wait/time.Millisecond)+2) // both were rounded down
		}
		if !st.permit.holds() { // it was revoked before Recheck could find the stream
			s.turnOut(st, errRevoked)
			return
		}
		s.flush(st)
		select {
		case <-s.hub.draining: // perhaps before there were shards
			s.sendOff(st)
		default:
		}
	})
	if !taken {
		_ = syscall.Close(int(st.fd))
		s.hub.leave(st.feed)
		st.permit.end()
	}
}

// close closes a stream's connection, and forgets it.
func (s *shard) close(st *stream) {
	if st.state == gone {
		return
	}
	st.state = gone
	st.rest = nil
	s.wheel.remove(s, st)
	_ = syscall.Close(int(st.fd)) // which takes it off the poller too
	s.slots[st.slot] = nil
	s.free = append(s.free, st.slot)
	s.streams--
	fs := &st.feed.shared.shards[s.n]
	last := fs.streams[len(fs.streams)-1]
	fs.streams[st.at] = last
	if last.at = st.at; int(st.at) < fs.next {
		s.again = append(s.again, last) // the turn under way does not come to it
	}
	fs.streams[len(fs.streams)-1] = nil
	fs.streams = fs.streams[:len(fs.streams)-1]
	fs.count.Add(-1)
	st.feed.shared.streams.Add(-1)
	s.hub.leave(st.feed)
	st.permit.end()
}

// wait notes that a socket takes no more, and has epoll tell when it does.
func (s *shard) wait(st *stream) {
	st.full, st.since = true, s.now
	if !st.armed {
		st.armed = true
		if s.poller.arm(st) != nil {
			s.close(st)
		}
	}
}

// attend looks at a stream of which epoll has told something.
func (s *shard) attend(r ready) {
	if int(r.slot) >= len(s.slots) {
		return
	}
	st := s.slots[r.slot]
	if st == nil || st.gen != r.gen {
		return // one that had the slot before
	}
	if r.events&^syscall.EPOLLOUT != 0 && !s.isThere(st) {
		s.close(st)
		return
	}
	if r.events&syscall.EPOLLOUT != 0 && st.full {
		st.full = false
		s.skip(st)
		s.flush(st)
	}
}

// isThere tells whether a stream's client is.
func (s *shard) isThere(st *stream) bool {
	if st.isPoll() {
		return s.hearsNothing(st)
	}
	return s.hears(st)
}

// hears reads what a client sends after its request, of which nothing is wanted. It returns
// false if the client has gone, or will not stop.
func (s *shard) hears(st *stream) bool {
	for range 16 {
		n, err := syscall.Read(int(st.fd), s.scratch)
		switch {
		case err == syscall.EAGAIN:
			return true
		case err == syscall.EINTR:
		case err != nil || n <= 0:
			return false
		}
	}
	return false
}

// end has a stream end, after what was begun and this text.
func (s *shard) end(st *stream, last []byte) {
	if st.state == closing || st.state == gone {
		return
	}
	st.state = closing
	rest := append([]byte(nil), st.rest...) // which is shared
	if len(last) > 0 {
		rest = st.chunk(rest, last)
	}
	st.rest = st.finish(rest)
	s.flush(st)
}

// drain ends all streams; those that come later end at once.
func (s *shard) drain() {
	for _, st := range s.slots {
		if st != nil {
			s.sendOff(st)
		}
	}
}

// sendOff has a stream end whose client is to come back.
func (s *shard) sendOff(st *stream) {
	if st.isPoll() {
		s.refuseWaiter(st, ErrShutdown)
		return
	}
	s.end(st, s.hub.farewell())
}

// stop cuts all streams.
func (s *shard) stop() {
	s.stopped = true
	for _, st := range s.slots {
		if st != nil {
			s.close(st)
		}
	}
}
