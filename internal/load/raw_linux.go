package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
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
