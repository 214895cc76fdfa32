package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A rawClient has one reader a core, and publishes on the caller's goroutine.
type rawClient struct {
	run     *run
	readers []*rawReader
}

func newRawClient(r *run) (*rawClient, error) {
	c := &rawClient{run: r}
	for n, y := range r.tallies {
		reader, err := newRawReader(r, y, r.share(n), n*len(r.subs)/len(r.tallies))
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		c.readers = append(c.readers, reader)
	}
	return c, nil
}

// An order is one to a reader. It answers when it has been carried out.
type order struct {
	kind   orderKind
	resume bool
	most   int
	answer chan *opened
}

type orderKind int

const (
	orderConnect orderKind = iota
	orderCancel            // the connecting
	orderDrop
	orderStop
)

func (c *rawClient) connect(ctx context.Context, resume bool, most int) *opened {
	answers := make(chan *opened, len(c.readers))
	share := (most + len(c.readers) - 1) / len(c.readers)
	for _, r := range c.readers {
		r.order(order{kind: orderConnect, resume: resume, most: max(1, share), answer: answers})
	}
	cancelled := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cancelled)
		for _, r := range c.readers {
			r.order(order{kind: orderCancel})
		}
	})
	all := &opened{heads: new(histogram)}
	for range c.readers {
		all.merge(<-answers)
	}
	if !stop() {
		<-cancelled
	}
	return all
}

func (c *rawClient) all(kind orderKind) {
	answers := make(chan *opened, len(c.readers))
	for _, r := range c.readers {
		r.order(order{kind: kind, answer: answers})
	}
	for range c.readers {
		<-answers
	}
}

func (c *rawClient) drop() { c.all(orderDrop) }

func (c *rawClient) close() error {
	c.all(orderStop)
	var errs []error
	for _, r := range c.readers {
		<-r.done
		errs = append(errs, r.err, unix.Close(r.poll), unix.Close(r.wake))
	}
	return errors.Join(errs...)
}

// An endpoint is where connections go, and where from. Each thread needs its own, as a
// system call writes to it.
type endpoint struct {
	family  int
	to      unix.Sockaddr
	address netip.AddrPort
	sources int // addresses from 127.0.0.2 on; 0: what the system chooses
}

// perSource is how many connections one address of ours can have to a server: the system
// has 28,232 ports by default, of which some are used by others. After a storm's drop
// those of before can still be held for a while.
const perSource = 24_000

func newEndpoint(r *run) endpoint {
	address, connections := r.target.address, r.opts.Subscribers
	e := endpoint{address: address}
	ip := address.Addr()
	if !ip.Is4() {
		zone := 0
		if i, err := net.InterfaceByName(ip.Zone()); err == nil {
			zone = i.Index
		}
		e.family, e.to = unix.AF_INET6, &unix.SockaddrInet6{Port: int(address.Port()), Addr: ip.As16(), ZoneId: uint32(zone)}
		return e
	}
	e.family, e.to = unix.AF_INET, &unix.SockaddrInet4{Port: int(address.Port()), Addr: ip.As4()}
	if r.opts.Storm > 0 {
		connections *= 2
	}
	if ip.IsLoopback() && connections > perSource {
		e.sources = (connections + perSource - 1) / perSource
	}
	return e
}

// socket returns a new one for the nth connection.
func (e *endpoint) socket(n int) (fd int, err error) {
	fd, err = unix.Socket(e.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err == nil && e.sources > 0 {
		source := &unix.SockaddrInet4{Addr: [4]byte{127, 0, byte((2 + n%e.sources) >> 8), byte(2 + n%e.sources)}}
		// The port is chosen by connect, which knows what is free for this server.
		err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1), unix.Bind(fd, source))
	}
	if err != nil {
		return -1, errors.Join(os.NewSyscallError("socket options", err), unix.Close(fd))
	}
	return fd, nil
}

// dialError says why a connection failed, as package net does.
func (e *endpoint) dialError(err error) error {
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		err = fmt.Errorf("this machine has no more ports for connections to one server (net.ipv4.ip_local_port_range): %w", err)
	}
	return &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(e.address), Err: os.NewSyscallError("connect", err)}
}

// readiness is what is asked of every connection: each change is told once.
const readiness = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

func watchDescriptor(poll, fd int, key int32) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: readiness, Fd: key}))
}

// read reads without telling Go's scheduler, which a descriptor that never blocks needs
// not know of: 0.1 µs of 0.6.
func read(fd int, b []byte) (n int, errno unix.Errno) {
	for {
		r, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if e != unix.EINTR {
			return int(r), e
		}
	}
}

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

// publish sends the requests of a schedule, with all publishers on one thread.
func (c *rawClient) publish(s *schedule) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := newRawPublishing(c.run, s)
	if err != nil {
		return err
	}
	defer p.close()
	return p.loop()
}

// A rawPublisher is a publisher's connection.
type rawPublisher struct {
	*publisher
	fd      int
	busy    bool
	shot    shot
	out     []byte // not written yet
	in      []byte // of the answer's head
	head    head
	framing framing
	inBody  bool
	body    []byte // of a refusal
}

// A rawPublishing is a schedule that is carried out.
type rawPublishing struct {
	run     *run
	to      endpoint
	sched   *schedule
	poll    int
	timer   int
	pubs    []rawPublisher
	free    []*rawPublisher
	waiting *rawPublisher // has the next shot, which is not due yet
	armed   int64         // when the timer goes off
	busy    int
	buf     []byte
	last    int64 // when an answer came
}

const timerKey = -1

func newRawPublishing(r *run, s *schedule) (*rawPublishing, error) {
	p := &rawPublishing{run: r, to: newEndpoint(r), sched: s, pubs: make([]rawPublisher, len(r.pubs)), buf: make([]byte, 64<<10), last: r.now()}
	p.to.sources = 0
	var err error
	if p.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if p.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return nil, errors.Join(os.NewSyscallError("timerfd_create", err), unix.Close(p.poll))
	}
	for i := range p.pubs {
		p.pubs[i] = rawPublisher{publisher: r.pubs[i], fd: -1}
	}
	if err := watchDescriptor(p.poll, p.timer, timerKey); err != nil {
		p.close()
		return nil, err
	}
	for i := range p.pubs {
		if err := p.dial(i); err != nil {
			p.close()
			return nil, err
		}
		p.free = append(p.free, &p.pubs[i])
	}
	// The time that this took is not the server's.
	s.begin = r.now()
	s.end = s.begin + int64(r.opts.Duration)
	return p, nil
}

func (p *rawPublishing) close() {
	for i := range p.pubs {
		if p.pubs[i].fd >= 0 {
			_ = unix.Close(p.pubs[i].fd) // nothing is under way
		}
	}
	_ = unix.Close(p.timer)
	_ = unix.Close(p.poll)
}

// dial connects a publisher, and waits for it.
func (p *rawPublishing) dial(i int) error {
	q := &p.pubs[i]
	if q.fd >= 0 {
		_ = unix.Close(q.fd) // its server has
		q.fd = -1
	}
	fd, err := p.to.socket(i)
	if err != nil {
		return err
	}
	q.fd = fd
	if err = unix.Connect(fd, p.to.to); err == unix.EINPROGRESS {
		err = p.connected(fd)
	}
	if err != nil {
		return p.to.dialError(err)
	}
	return watchDescriptor(p.poll, fd, int32(i))
}

func (p *rawPublishing) connected(fd int) error {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for deadline := time.Now().Add(p.run.opts.Patience); ; {
		n, err := unix.Poll(fds[:], int(max(0, time.Until(deadline)).Milliseconds()))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return unix.ETIMEDOUT
		}
		code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		return err
	}
}

func (p *rawPublishing) loop() error {
	events := make([]unix.EpollEvent, 256)
	for {
		if err := p.send(); err != nil {
			return err
		}
		if p.busy == 0 && p.waiting == nil {
			return nil
		}
		n, err := unix.EpollWait(p.poll, events, 100)
		if err != nil && err != unix.EINTR {
			return os.NewSyscallError("epoll_wait", err)
		}
		for _, ev := range events[:max(0, n)] {
			p.ready(ev)
		}
		if p.busy > 0 && p.run.now()-p.last > int64(p.run.opts.Patience) {
			p.giveUp(fmt.Errorf("no answer within %v", p.run.opts.Patience))
			return nil
		}
	}
}

// send has all free publishers send what is due.
func (p *rawPublishing) send() error {
	for {
		q := p.waiting
		now := p.run.now()
		if q == nil {
			if len(p.free) == 0 {
				return nil
			}
			q = p.free[len(p.free)-1]
			p.free = p.free[:len(p.free)-1]
			var ok bool
			if q.shot, ok = q.aim(p.sched, now); !ok {
				continue // it is done
			}
		}
		p.waiting = nil
		switch {
		case p.sched.stopped.Load():
		case q.shot.due > now:
			p.waiting = q
			return p.wake(q.shot.due, q.shot.due-now)
		default:
			p.shoot(q, now)
		}
	}
}

func (p *rawPublishing) wake(due, after int64) error {
	if p.armed == due {
		return nil
	}
	p.armed = due
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(after)}
	return os.NewSyscallError("timerfd_settime", unix.TimerfdSettime(p.timer, 0, &spec, nil))
}

func (p *rawPublishing) shoot(q *rawPublisher, now int64) {
	if p.busy == 0 {
		p.last = now
	}
	q.shot.sent = now
	q.out = q.encoder.encode(q.shot)
	q.busy, q.inBody, q.in, q.body = true, false, q.in[:0], q.body[:0]
	p.busy++
	p.write(q)
}

// write sends as much as the socket takes.
func (p *rawPublishing) write(q *rawPublisher) {
	for len(q.out) > 0 {
		n, err := unix.Write(q.fd, q.out)
		switch err {
		case nil:
			q.out = q.out[n:]
			p.last = p.run.now()
		case unix.EINTR:
		case unix.EAGAIN:
			return
		default:
			p.broke(q, err)
			return
		}
	}
}

// broke ends the publishing. Whether the request has arrived is not known.
func (p *rawPublishing) broke(q *rawPublisher, err error) {
	p.busy--
	q.busy = false
	p.sched.broke(q.shot, fmt.Errorf("the connection broke before there was an answer: %w", err))
}

// giveUp leaves all that is not answered.
func (p *rawPublishing) giveUp(err error) {
	for i := range p.pubs {
		if q := &p.pubs[i]; q.busy {
			p.sched.broke(q.shot, err)
		}
	}
}

func (p *rawPublishing) ready(ev unix.EpollEvent) {
	if ev.Fd == timerKey {
		var b [8]byte
		_, _ = unix.Read(p.timer, b[:]) // send looks at the time
		return
	}
	q := &p.pubs[ev.Fd]
	if ev.Events&unix.EPOLLOUT != 0 && q.busy && len(q.out) > 0 {
		p.write(q)
	}
	if ev.Events&^unix.EPOLLOUT != 0 {
		p.read(int(ev.Fd), ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0)
	}
}

// read takes an answer.
func (p *rawPublishing) read(i int, hungUp bool) {
	q := &p.pubs[i]
	for {
		n, errno := read(q.fd, p.buf)
		switch {
		case errno == unix.EAGAIN:
			return
		case errno != 0 || n <= 0:
			p.hungUp(i, errno)
			return
		case !q.busy:
			continue // what comes without a request is nothing to us
		}
		if p.took(q, p.buf[:n]) && q.head.closes {
			p.redial(i)
			return
		}
		if n < len(p.buf) && !hungUp {
			return
		}
	}
}

func (p *rawPublishing) redial(i int) {
	if err := p.dial(i); err != nil {
		p.sched.explain(fmt.Errorf("publishing: %w", err), true)
	}
}

// hungUp handles a connection that the server has closed: between two requests it may.
func (p *rawPublishing) hungUp(i int, errno unix.Errno) {
	q := &p.pubs[i]
	if !q.busy {
		p.redial(i)
		return
	}
	if q.inBody && q.framing.state == frameOpen && errno == 0 {
		p.answered(q)
		p.redial(i)
		return
	}
	var err error = errno
	if errno == 0 {
		err = net.ErrClosed
	}
	p.broke(q, err)
	_ = unix.Close(q.fd) // it is of no use any more
	q.fd = -1
}

// took takes a part of an answer, and tells whether it is complete.
func (p *rawPublishing) took(q *rawPublisher, b []byte) bool {
	if !q.inBody {
		if len(q.in) > 0 {
			q.in = append(q.in, b...)
			b = q.in
		}
		h, n, err := parseHead(b)
		switch {
		case err != nil:
			p.broke(q, err)
			return false
		case n == 0:
			if len(q.in) == 0 {
				q.in = append(q.in, b...)
			}
			return false
		}
		q.inBody, q.head, q.framing = true, h, newFraming(h)
		b = b[n:]
	}
	n, err := q.framing.unframe(b)
	if err != nil {
		p.broke(q, err)
		return false
	}
	if q.head.status/100 != 2 {
		q.body = append(q.body, b[:min(n, maxRefusalBody-len(q.body))]...)
	}
	if !q.framing.ended() {
		return false
	}
	p.answered(q)
	return true
}

func (p *rawPublishing) answered(q *rawPublisher) {
	p.busy--
	q.busy = false
	p.last = p.run.now()
	var refusal *StatusError
	if q.head.status/100 != 2 {
		refusal = &StatusError{"publishing", q.head.status, q.head.media, append([]byte{}, q.body...)}
	}
	p.sched.answered(q.publisher, q.shot, p.last, refusal)
	p.free = append(p.free, q)
}
