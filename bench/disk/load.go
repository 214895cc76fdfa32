//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"
	"unsafe"
)

// A requester makes requests.
type requester interface {
	// next returns a request with events from a number on, valid until the next call.
	next(number uint64) []byte
	// events is how many a request has.
	events() int
}

// A single publishes one event a request. The request is made once, and then patched.
type single struct {
	notes *notes
	buf   []byte
	topic int // where its digits are
	data  int
}

func newSingle(n *notes) *single {
	s := &single{notes: n}
	s.buf = fmt.Appendf(nil, "POST /events/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", topicNames[0], len(n.append(nil, 0)))
	s.topic = bytes.Index(s.buf, []byte(topicNames[0])) + 1
	s.data = len(s.buf)
	return s
}

func (s *single) events() int { return 1 }

func (s *single) next(number uint64) []byte {
	putNumber(s.buf[s.topic:s.topic+2], number%topics)
	s.buf = s.notes.append(s.buf[:s.data], number)
	return s.buf
}

// A batch publishes several, as JSON lines.
type batch struct {
	notes   *notes
	n       int
	minimal bool // lines have data only, and the URL the topic
	buf     []byte
	body    []byte
}

func (b *batch) events() int { return b.n }

func (b *batch) next(number uint64) []byte {
	b.body = b.body[:0]
	for i := range uint64(b.n) {
		b.body = append(b.body, '{')
		if !b.minimal {
			b.body = append(append(append(b.body, `"topics":["`...), topicNames[topicOf(number+i)]...), `"],"type":"reading",`...)
		}
		b.body = append(b.notes.append(append(b.body, `"data":"`...), number+i), "\"}\n"...)
	}
	path := ""
	if b.minimal {
		path = "/" + topicNames[topicOf(number/uint64(b.n))]
	}
	b.buf = fmt.Appendf(b.buf[:0], "POST /events%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n", path, len(b.body))
	b.buf = append(b.buf, b.body...)
	return b.buf
}

// A load is publishers, each of which waits for its answer before it goes on. One thread
// does it all, with as few system calls as there can be, so that the machine is left to
// the server.
type load struct {
	address netip.AddrPort
	conns   int
	make    requester
	first   uint64        // the number of the first event
	warm    time.Duration // before measuring
	time    time.Duration // of measuring
	count   uint64        // events after which it ends before the time is over; 0: any
	rate    float64       // events/s; 0: as fast as they are answered
	begin   func()        // called when measuring begins,
	end     func()        // and ends
	keep    bool          // note what was answered
	broken  bool          // the server may go away meanwhile: that is the end
}

// An outcome is what a load has done.
type outcome struct {
	events    int             // answered while it was measured
	elapsed   time.Duration   // of measuring
	latencies []time.Duration // of requests while it was measured: from when each was due
	due       []time.Time     // of those, with a rate
	next      uint64          // after the number of the last event
	stored    int             // events that were answered, ever
	open      int             // requests that had no answer when the server went
	acked     []uint64        // the numbers of requests that were answered
}

// A publisher is a connection of a load.
type publisher struct {
	fd     int
	due    time.Time
	number uint64
	busy   bool
	answer []byte
}

// run publishes until the time is over or ctx ends, and waits for what is under way.
func (l *load) run(ctx context.Context) (out outcome, err error) {
	poll, err := newPoller()
	if err != nil {
		return out, err
	}
	defer poll.close()
	r := &loadRun{load: l, poll: poll, out: &out}
	out.next = l.first
	defer r.hangUp()
	if err := r.dial(); err != nil {
		return out, err
	}
	err = r.publish(ctx)
	return out, err
}

// A loadRun is a load under way.
type loadRun struct {
	*load
	poll  *poller
	out   *outcome
	all   []*publisher
	free  []*publisher
	buf   [4096]byte
	start time.Time // of measuring
	state loadState
	due   time.Time // of the next request, with a rate
}

type loadState int

const (
	warming loadState = iota
	measuring
	draining
)

func (r *loadRun) dial() error {
	for i := range r.conns {
		fd, err := dial(r.address)
		if err != nil {
			return err
		}
		p := &publisher{fd: fd}
		r.all = append(r.all, p)
		r.free = append(r.free, p)
		if err := r.poll.add(fd, i); err != nil {
			return err
		}
	}
	return nil
}

func (r *loadRun) hangUp() {
	for _, p := range r.all {
		_ = syscall.Close(p.fd)
	}
}

func (r *loadRun) publish(ctx context.Context) error {
	begun := time.Now()
	r.due = begun
	for {
		now := time.Now()
		switch {
		case r.state == warming && now.Sub(begun) >= r.warm:
			r.state, r.start = measuring, now
			call(r.begin)
		case r.state == measuring && (now.Sub(r.start) >= r.time || r.enough() || ctx.Err() != nil):
			r.state = draining
			r.out.elapsed = now.Sub(r.start)
			call(r.end)
		case r.state == warming && ctx.Err() != nil:
			return ctx.Err()
		}
		wait, err := r.send(now)
		if err != nil {
			return r.gone(err)
		}
		switch {
		case r.state == draining && len(r.free) == len(r.all):
			return nil
		case now.Sub(r.start) > r.time+time.Minute && r.state == draining:
			return fmt.Errorf("%d requests have no answer after a minute", len(r.all)-len(r.free))
		}
		ready, err := r.poll.wait(wait)
		if err != nil {
			return err
		}
		for _, i := range ready {
			if err := r.receive(r.all[i]); err != nil {
				return r.gone(err)
			}
		}
	}
}

func (r *loadRun) enough() bool { return r.count > 0 && r.out.next-r.first >= r.count }

func call(f func()) {
	if f != nil {
		f()
	}
}

// gone has the end of a server that is to be killed be no error.
func (r *loadRun) gone(err error) error {
	if !r.broken {
		return err
	}
	r.out.open = len(r.all) - len(r.free)
	return nil
}

// send has all who are free publish, and returns how long to wait until the next one is
// due.
func (r *loadRun) send(now time.Time) (time.Duration, error) {
	const tell = 50 * time.Millisecond // to look at ctx
	if r.state == draining {
		return tell, nil
	}
	for len(r.free) > 0 && !r.enough() {
		due := now
		if r.rate > 0 {
			if r.due.After(now) {
				return min(tell, r.due.Sub(now)), nil
			}
			due = r.due
			r.due = r.due.Add(time.Duration(float64(r.make.events()) / r.rate * float64(time.Second)))
		}
		p := r.free[len(r.free)-1]
		r.free = r.free[:len(r.free)-1]
		p.due, p.busy, p.number = due, true, r.out.next
		r.out.next += uint64(r.make.events())
		if err := write(p.fd, r.make.next(p.number)); err != nil {
			return 0, err
		}
		if r.rate == 0 {
			now = time.Now()
		}
	}
	return tell, nil
}

// receive reads from who has something.
func (r *loadRun) receive(p *publisher) error {
	n, err := read(p.fd, r.buf[:])
	if err != nil {
		return err
	}
	got := r.buf[:n]
	if len(p.answer) > 0 {
		p.answer = append(p.answer, got...)
		got = p.answer
	}
	whole, err := answered(got)
	if err != nil {
		return err
	}
	if !whole {
		if len(p.answer) == 0 {
			p.answer = append(p.answer, got...)
		}
		return nil
	}
	if !p.busy {
		return fmt.Errorf("an answer to nothing: %.200q", got)
	}
	p.answer, p.busy = p.answer[:0], false
	r.free = append(r.free, p)
	r.out.stored += r.make.events()
	if r.keep {
		r.out.acked = append(r.out.acked, p.number)
	}
	if r.state == measuring {
		r.out.events += r.make.events()
		r.out.latencies = append(r.out.latencies, time.Since(p.due))
		if r.rate > 0 {
			r.out.due = append(r.out.due, p.due)
		}
	}
	return nil
}

var (
	headEnd       = []byte("\r\n\r\n")
	created       = []byte("HTTP/1.1 201 ")
	contentLength = []byte("\r\nContent-Length: ")
)

// answered tells whether b is a whole answer, and makes any but 201 an error.
func answered(b []byte) (bool, error) {
	end := bytes.Index(b, headEnd)
	if end < 0 {
		return false, nil
	}
	at := bytes.Index(b[:end], contentLength)
	if at < 0 {
		return false, fmt.Errorf("an answer without a length: %.200q", b)
	}
	size := end + len(headEnd) + int(readNumber(b[at+len(contentLength):]))
	switch {
	case len(b) < size:
		return false, nil
	case !bytes.HasPrefix(b, created) || len(b) > size:
		return false, fmt.Errorf("the answer is %.300q", b)
	}
	return true, nil
}

// quantile returns the latency that a share of all does not exceed; 0 if there is none.
func quantile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

func sorted(d []time.Duration) []time.Duration {
	slices.Sort(d)
	return d
}

// A poller tells which connections have something to read.
type poller struct {
	fd     int
	events [256]syscall.EpollEvent
	ready  []int
}

func newPoller() (*poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return &poller{fd: fd}, nil
}

func (p *poller) close() { _ = syscall.Close(p.fd) }

func (p *poller) add(fd, index int) error {
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(index)}
	if err := syscall.EpollCtl(p.fd, syscall.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// wait returns the indexes of connections that have something, none when the time is
// over.
func (p *poller) wait(d time.Duration) ([]int, error) {
	const epollPwait2 = 441 // takes nanoseconds; the number is the same everywhere
	ts := syscall.NsecToTimespec(max(0, d).Nanoseconds())
	n, _, errno := syscall.Syscall6(epollPwait2, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), uintptr(unsafe.Pointer(&ts)), 0, 0)
	if errno == syscall.EINTR {
		return nil, nil
	}
	if errno != 0 {
		return nil, fmt.Errorf("epoll: %w", errno)
	}
	p.ready = p.ready[:0]
	for _, ev := range p.events[:n] {
		p.ready = append(p.ready, int(ev.Fd))
	}
	return p.ready, nil
}

// dial connects. The connection blocks: it is read from only when there is something.
func dial(to netip.AddrPort) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	err = syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	if err == nil {
		err = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	}
	if err != nil {
		_ = syscall.Close(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

func write(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := syscall.Write(fd, b)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return fmt.Errorf("write: %w", err)
		default:
			b = b[n:]
		}
	}
	return nil
}

// read reads what is there; the end is an error.
func read(fd int, b []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, b)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 0, fmt.Errorf("read: %w", err)
		case n == 0:
			return 0, fmt.Errorf("read: the server has closed the connection")
		default:
			return n, nil
		}
	}
}
