package load

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

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
