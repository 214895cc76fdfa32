//go:build linux && !portable && (amd64 || arm64)

package httploop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Options say what a [Loop] does. Handler is needed.
type Options struct {
	// Handler answers the requests. Its ResponseWriter keeps the answer until it returns, and
	// has a TakeSocket method by which it can take the connection.
	Handler http.Handler

	// HeaderTimeout and IdleTimeout bound how long a connection sends nothing, before its
	// first request and between two. Default: no bound.
	HeaderTimeout, IdleTimeout time.Duration

	// WriteTimeout bounds how long a client takes no more of an answer. Default: no bound.
	WriteTimeout time.Duration

	// Admit tells whether a connection from an address may come in; else it is closed.
	// Default: all may.
	Admit func(netip.AddrPort) bool

	// Enter is called when a connection begins: it returns the context of its requests.
	// socket.Close ends the connection soon. Default: nothing is added to the context.
	Enter func(ctx context.Context, socket io.Closer, peer netip.AddrPort) context.Context

	// Leave is called when it ends: taken tells that a handler has taken it. Default: nothing.
	Leave func(ctx context.Context, taken bool)

	// Pass gets a connection whose next request is not plain, in place of Leave. Nothing of
	// that request was read. It is needed.
	Pass func(ctx context.Context, conn net.Conn)
}

// A Loop serves what is plain of what comes to a listener. Run must be called, and then Close.
type Loop struct {
	opt      Options
	listener *net.TCPListener
	socket   *os.File // the listener's
	accepts  syscall.RawConn
	set      *os.File // of epoll
	ready    syscall.RawConn
	setFD    int
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup // accept, watch, sweep
	working  sync.WaitGroup // workers
	stopping atomic.Bool    // no connection comes in any more
	ending   sync.Once

	mu      sync.Mutex
	slots   []*conn
	free    []uint32
	gens    uint32
	open    int           // connections
	idle    []*worker     // the last one has worked last
	spared  int           // of them, that were not needed since the last sweep
	closed  bool          // no worker comes in any more
	changed chan struct{} // one element: a connection has gone
}

// New makes a loop over a listener, which is the loop's then.
func New(l *net.TCPListener, o *Options) (*Loop, error) {
	p := &Loop{opt: *o, listener: l, changed: make(chan struct{}, 1)}
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("http loop: epoll_create1: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // else NewFile does not watch it
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("http loop: epoll set: %w", err)
	}
	p.set, p.setFD = os.NewFile(uintptr(fd), "epoll"), fd
	if p.socket, err = l.File(); err != nil { // what the listener has itself cannot be waited for
		_ = p.set.Close()
		return nil, fmt.Errorf("http loop: %w", err)
	}
	if p.ready, err = p.set.SyscallConn(); err == nil {
		p.accepts, err = p.socket.SyscallConn()
	}
	if err == nil {
		err = p.inherit()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("http loop: %w", err), p.set.Close(), p.socket.Close())
	}
	p.ctx, p.cancel = context.WithCancel(context.WithValue(context.Background(), http.LocalAddrContextKey, l.Addr()))
	return p, nil
}

// inherit has connections come with the options that package net sets on each, which they
// get from the listener's socket.
func (p *Loop) inherit() error {
	var failed error
	err := p.accepts.Control(func(fd uintptr) {
		for _, o := range []struct{ level, name, value int }{
			{syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1},
			{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
			{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 15},
			{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 15},
			{syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 9},
		} {
			if err := syscall.SetsockoptInt(int(fd), o.level, o.name, o.value); err != nil {
				failed = errors.Join(failed, os.NewSyscallError("setsockopt", err))
			}
		}
	})
	return errors.Join(err, failed)
}

// Run serves until Shutdown or Close.
func (p *Loop) Run() {
	p.running.Go(p.accept)
	p.running.Go(p.watch)
	p.running.Go(p.sweep)
	p.running.Wait()
}

// accept takes connections in.
func (p *Loop) accept() {
	wait := time.Duration(0)
	_ = p.accepts.Read(func(fd uintptr) bool { // the only error is that of the listener's end
		for {
			c, from, err := syscall.Accept4(int(fd), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
			switch err {
			case nil:
				wait = 0
				p.enter(c, from)
			case syscall.EAGAIN:
				return false
			case syscall.EINTR, syscall.ECONNABORTED:
			default: // such as that there are no more descriptors
				wait = min(max(2*wait, 5*time.Millisecond), time.Second)
				slog.Error("accept", "error", err, "again_in", wait)
				select {
				case <-time.After(wait):
				case <-p.ctx.Done():
					return true
				}
			}
		}
	})
}

func addressOf(from syscall.Sockaddr) netip.AddrPort {
	switch a := from.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *syscall.SockaddrInet6:
		ip := netip.AddrFrom16(a.Addr)
		if a.ZoneId != 0 && !ip.Is4In6() {
			if i, err := net.InterfaceByIndex(int(a.ZoneId)); err == nil {
				ip = ip.WithZone(i.Name)
			}
		}
		return netip.AddrPortFrom(ip.Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// enter makes a connection of a socket.
func (p *Loop) enter(fd int, from syscall.Sockaddr) {
	peer := addressOf(from)
	if p.opt.Admit != nil && !p.opt.Admit(peer) {
		_ = syscall.Close(fd)
		return
	}
	c := &conn{loop: p, fd: fd, ctx: p.ctx, remote: peer.String(), since: time.Now()}
	c.state.Store(busy)
	p.mu.Lock()
	p.open++
	p.gens++
	c.gen, c.slot = p.gens, uint32(len(p.slots))
	if n := len(p.free); n > 0 {
		c.slot, p.free = p.free[n-1], p.free[:n-1]
		p.slots[c.slot] = c
	} else {
		p.slots = append(p.slots, c)
	}
	p.mu.Unlock()
	if p.opt.Enter != nil {
		c.ctx = p.opt.Enter(p.ctx, c, peer)
	}
	err := syscall.EpollCtl(p.setFD, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | edgeTriggered, Fd: int32(c.slot), Pad: int32(c.gen)})
	switch {
	case err != nil:
		c.end(false)
	case !c.rest():
		p.work(c)
	}
}

const edgeTriggered = 1 << 31 // EPOLLET, which the syscall package has as negative

// watch has workers look at connections with something to read, until the set is closed.
func (p *Loop) watch() {
	events := make([]syscall.EpollEvent, 256)
	var found []*conn
	_ = p.ready.Read(func(fd uintptr) bool {
		for {
			n, err := syscall.EpollWait(int(fd), events, 0)
			if err == syscall.EINTR {
				continue
			}
			found = found[:0]
			p.mu.Lock()
			for _, ev := range events[:max(n, 0)] {
				c := p.slots[ev.Fd]
				if c == nil || c.gen != uint32(ev.Pad) {
					continue // one that had the slot before
				}
				if ev.Events&^syscall.EPOLLIN != 0 {
					c.ended.Store(true)
				}
				found = append(found, c)
			}
			p.mu.Unlock()
			for _, c := range found {
				if c.wake() {
					p.work(c)
				}
			}
			if n < len(events) {
				return false
			}
		}
	})
}

// sweep closes connections that have sent nothing for too long.
func (p *Loop) sweep() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			p.closeIdle(func(c *conn) bool {
				most := p.opt.HeaderTimeout
				if c.served {
					most = p.opt.IdleTimeout
				}
				return most > 0 && now.Sub(c.since) >= most
			})
			p.dismiss()
		case <-p.ctx.Done():
			return
		}
	}
}

// closeIdle closes the connections that wait, and for which match is true.
func (p *Loop) closeIdle(match func(*conn) bool) {
	p.mu.Lock()
	all := make([]*conn, 0, p.open)
	for _, c := range p.slots {
		if c != nil {
			all = append(all, c)
		}
	}
	p.mu.Unlock()
	for _, c := range all {
		if !c.state.CompareAndSwap(waits, busy) { // so that nobody changes what match looks at
			continue
		}
		if match(c) {
			c.end(false)
			continue
		}
		if !c.rest() {
			p.work(c)
		}
	}
}

// forget drops a connection that has ended here.
func (p *Loop) forget(c *conn) {
	p.mu.Lock()
	p.slots[c.slot] = nil
	p.free = append(p.free, c.slot)
	p.open--
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// Shutdown has the loop accept no more, close the connections that wait, and finish the requests
// under way. When ctx ends before that, it returns its error. Close must follow.
func (p *Loop) Shutdown(ctx context.Context) error {
	p.stopListening()
	for {
		p.closeIdle(func(*conn) bool { return true })
		p.mu.Lock()
		open := p.open
		p.mu.Unlock()
		if open == 0 {
			return nil
		}
		select {
		case <-p.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *Loop) stopListening() { // for the second time it does nothing
	p.stopping.Store(true)
	_ = p.listener.Close()
	_ = p.socket.Close()
}

// Close ends everything. Handlers that go on have their requests' contexts ended, and are
// waited for.
func (p *Loop) Close() (err error) {
	p.ending.Do(func() { err = p.end() })
	return err
}

func (p *Loop) end() error {
	p.stopListening()
	p.cancel()
	p.mu.Lock()
	p.closed = true
	idle := p.idle
	p.idle, p.spared = nil, 0
	p.mu.Unlock()
	for _, w := range idle {
		w.jobs <- nil
	}
	p.working.Wait()
	p.closeIdle(func(*conn) bool { return true })
	err := p.set.Close()
	p.running.Wait()
	return err
}
