package load

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// A rawConn is a subscriber's connection.
type rawConn struct {
	fd      int
	state   connState
	hungUp  bool // the server will send no more, so that the end is to be read for
	framing framing
	head    []byte // what has come of a head that is not complete
	begin   int64
}

type connState uint8

const (
	connNone connState = iota
	connDialing
	connHead
	connOpen
)

// A rawReader owns some subscribers, and does everything that is done to them.
type rawReader struct {
	run    *run
	to     endpoint
	tally  *tally
	subs   []subscriber
	conns  []rawConn
	first  int // the number of the first of them in the run
	poll   int
	wake   int
	orders chan order
	done   chan struct{}
	err    error // read when done

	buf     []byte // room for what is left over of an event, and for what is read
	room    int
	request []byte
	again   []int32 // have more to read

	// While connecting.
	connecting bool
	cancelled  bool
	resume     bool
	most       int
	next       int // to open
	underway   int
	progress   int64
	round      *opened
	answer     chan *opened
}

const (
	readSize  = 256 << 10 // bytes
	wakeKey   = -1
	maxEvents = 1024 // of one look
	maxReads  = 8    // full ones of a connection, before it is the others' turn
	maxDials  = 64   // before the readers look what has come
)

func newRawReader(r *run, y *tally, subs []subscriber, first int) (*rawReader, error) {
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("eventfd", err), unix.Close(poll))
	}
	if err := watchDescriptor(poll, wake, wakeKey); err != nil {
		return nil, errors.Join(err, unix.Close(wake), unix.Close(poll))
	}
	reader := &rawReader{
		run:    r,
		to:     newEndpoint(r),
		tally:  y,
		subs:   subs,
		conns:  make([]rawConn, len(subs)),
		first:  first,
		poll:   poll,
		wake:   wake,
		orders: make(chan order, 4),
		done:   make(chan struct{}),
		room:   y.most,
		buf:    make([]byte, y.most+readSize),
	}
	go reader.loop()
	return reader, nil
}

// order hands one over. None may come after the one to stop.
func (r *rawReader) order(o order) {
	r.orders <- o
	one := [8]byte{1}
	_, _ = unix.Write(r.wake, one[:]) // it can only be full, and then it wakes as well
}

// loop runs until it is told to stop.
func (r *rawReader) loop() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(r.done)
	events := make([]unix.EpollEvent, maxEvents)
	for {
		if r.obey() {
			return
		}
		timeout := -1
		if r.connecting {
			if r.dial(); !r.connecting {
				continue // it is over, and an order may have come
			}
			timeout = 100
			if r.next < len(r.subs) && r.underway < r.most {
				timeout = 0
			}
		}
		if len(r.again) > 0 {
			timeout = 0
		}
		n, err := unix.EpollWait(r.poll, events, timeout)
		if err != nil && err != unix.EINTR {
			r.fail(os.NewSyscallError("epoll_wait", err))
			return
		}
		again := r.again
		r.again = nil
		for _, ev := range events[:max(0, n)] {
			r.ready(ev)
		}
		for _, i := range again {
			r.read(i)
		}
	}
}

// fail has a reader that cannot go on refuse everything until it is told to stop.
func (r *rawReader) fail(err error) {
	r.err = err
	r.dropAll()
	for stop := false; !stop; stop = r.carryOut(<-r.orders) {
		if r.connecting {
			r.round.err, r.round.failed = err, len(r.subs)
			r.answerRound()
		}
	}
}

// obey carries out what has been ordered, and tells whether it is to stop.
func (r *rawReader) obey() (stop bool) {
	for {
		select {
		case o := <-r.orders:
			if r.carryOut(o) {
				return true
			}
		default:
			return false
		}
	}
}

func (r *rawReader) carryOut(o order) (stop bool) {
	switch o.kind {
	case orderConnect:
		r.connecting, r.cancelled, r.resume, r.most, r.answer = true, false, o.resume, o.most, o.answer
		r.next, r.underway, r.progress = 0, 0, r.run.now()
		r.round = &opened{heads: new(histogram)}
	case orderCancel:
		r.cancelled = true
	case orderDrop:
		r.dropAll()
		o.answer <- nil
	case orderStop:
		r.dropAll()
		o.answer <- nil
		return true
	}
	return false
}

func (r *rawReader) dropAll() {
	for i := range r.conns {
		if r.conns[i].state != connNone {
			r.close(i)
		}
	}
	r.again = nil
}

// close resets the connection, so that its port is free again at once.
func (r *rawReader) close(i int) {
	c := &r.conns[i]
	if c.state == connOpen {
		r.run.connected.Add(-1)
	}
	c.state = connNone
	_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // then it is held a while
	_ = unix.Close(c.fd)                                                                     // there is nothing to be lost
}

// dial opens connections, and ends the round when there is nothing to wait for any more.
func (r *rawReader) dial() {
	for n := 0; n < maxDials && r.next < len(r.subs) && r.underway < r.most && !r.cancelled; n++ {
		r.next++
		r.underway++
		r.open(r.next - 1)
	}
	late := r.underway > 0 && r.run.now()-r.progress > int64(r.run.opts.Patience)
	if late || r.cancelled {
		for i := range r.conns {
			if s := r.conns[i].state; s == connDialing || s == connHead {
				r.refused(i, fmt.Errorf("no answer within %v", r.run.opts.Patience))
			}
		}
		r.cancelled = true // those that have not begun would fare no better
	}
	if r.underway == 0 && (r.cancelled || r.next == len(r.subs)) {
		r.round.failed += len(r.subs) - r.next
		r.answerRound()
	}
}

func (r *rawReader) answerRound() {
	r.connecting = false
	r.answer <- r.round
}

func (r *rawReader) open(i int) {
	c := &r.conns[i]
	*c = rawConn{fd: -1, state: connNone, head: c.head[:0], begin: r.run.now()}
	fd, err := r.to.socket(r.first + i)
	if err == nil {
		c.fd, c.state = fd, connDialing
		if err = unix.Connect(fd, r.to.to); err == nil || err == unix.EINPROGRESS {
			err = watchDescriptor(r.poll, fd, int32(i)) // it tells when it is connected
		} else {
			err = r.to.dialError(err)
		}
	}
	if err != nil {
		r.refused(i, err)
	}
}

// refused notes a connection that has come to nothing.
func (r *rawReader) refused(i int, err error) {
	if r.conns[i].state != connNone {
		r.close(i)
	}
	r.underway--
	r.progress = r.run.now()
	r.round.failed++
	if r.round.err == nil {
		r.round.err = err
	}
	if r.resume && !r.cancelled {
		r.tally.couldNotReturn(err)
	}
}

// ready does what a connection is ready for.
func (r *rawReader) ready(ev unix.EpollEvent) {
	if ev.Fd == wakeKey {
		var b [8]byte
		_, _ = unix.Read(r.wake, b[:]) // it counts, and the orders are in their channel
		return
	}
	c := &r.conns[ev.Fd]
	if c.state == connDialing {
		r.connected(int(ev.Fd))
	}
	if ev.Events&^unix.EPOLLOUT != 0 && c.state > connDialing {
		c.hungUp = ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
		r.read(ev.Fd)
	}
}

// connected sends the request.
func (r *rawReader) connected(i int) {
	c := &r.conns[i]
	code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	if err != nil {
		r.refused(i, r.to.dialError(err))
		return
	}
	r.request = r.run.target.appendSubscribe(r.request[:0], &r.subs[i], r.resume)
	if n, err := unix.Write(c.fd, r.request); err != nil || n < len(r.request) {
		r.refused(i, fmt.Errorf("sending the request: %w", cmp.Or[error](err, unix.EAGAIN)))
		return
	}
	c.state = connHead
}

// read takes what has come, until there is nothing more or it is the others' turn.
func (r *rawReader) read(key int32) {
	i := int(key)
	c := &r.conns[i]
	for range maxReads {
		if c.state < connHead {
			return
		}
		n, errno := read(c.fd, r.buf[r.room:])
		switch {
		case errno == unix.EAGAIN:
			return
		case errno != 0 || n <= 0:
			r.ended(i, errno)
			return
		}
		r.took(i, r.buf[:r.room+n])
		if n < readSize && !c.hungUp {
			return // the socket is empty (epoll(7)), and more of it is told again
		}
	}
	r.again = append(r.again, key)
}

// ended notes that the server has closed the connection.
func (r *rawReader) ended(i int, errno unix.Errno) {
	var err error = errno
	if errno == 0 {
		err = net.ErrClosed
	}
	if r.conns[i].state == connHead {
		r.refused(i, fmt.Errorf("closed before there was an answer: %w", err))
		return
	}
	r.close(i)
	if errno == 0 {
		err = nil
	}
	r.tally.closedBy(err)
}

// took takes b[r.room:], which has been read.
func (r *rawReader) took(i int, b []byte) {
	c := &r.conns[i]
	now := r.run.now()
	if c.state == connHead {
		if b = r.tookHead(i, b, now); len(b) == r.room {
			return
		}
	}
	n, err := c.framing.unframe(b[r.room:])
	if err == nil && n > 0 {
		err = r.tally.feed(&r.subs[i], b[:r.room+n], r.room, now)
	}
	if err != nil || c.framing.ended() {
		r.close(i)
		r.tally.closedBy(err)
	}
}

// tookHead reads an answer's head, and returns what comes after it, behind the room.
func (r *rawReader) tookHead(i int, b []byte, now int64) []byte {
	c := &r.conns[i]
	raw := b[r.room:]
	if len(c.head) > 0 {
		c.head = append(c.head, raw...)
		raw = c.head
	}
	h, n, err := parseHead(raw)
	switch {
	case err != nil:
		r.refused(i, err)
		return b[:r.room]
	case n == 0:
		if len(c.head) == 0 {
			c.head = append(c.head, raw...)
		}
		return b[:r.room]
	case h.status != 200:
		// A refusal comes in one piece, or what it says is not told.
		f := newFraming(h)
		m, _ := f.unframe(raw[n:])
		r.refused(i, &StatusError{"subscribing", h.status, h.media, append([]byte{}, raw[n:n+min(m, maxRefusalBody)]...)})
		return b[:r.room]
	case !h.eventStream:
		r.refused(i, ErrNotHub)
		return b[:r.room]
	}
	s := &r.subs[i]
	s.parser, s.carry = eventParser{}, s.carry[:0]
	c.state, c.framing = connOpen, newFraming(h)
	r.underway--
	r.progress = now
	r.round.n++
	r.round.heads.add(now - c.begin)
	r.run.connected.Add(1)
	rest := copy(b[r.room:], raw[n:])
	c.head = nil
	return b[:r.room+rest]
}
