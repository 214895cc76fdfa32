//go:build linux && !portable && (amd64 || arm64)

package httploop

import (
	"context"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// What a connection is doing.
const (
	waits     = int32(iota) // for a request
	busy                    // somebody has it, who alone may use it
	busyAgain               // the same, and there is something new to read
)

// A conn is a connection while it is the loop's.
type conn struct {
	loop   *Loop
	ctx    context.Context // of its requests
	remote string
	fd     int
	slot   uint32
	gen    uint32 // tells it from others that had its slot
	state  atomic.Int32
	doomed atomic.Bool // it is to end soon
	ended  atomic.Bool // the client sends no more than what can be read

	// Of who has it.
	since  time.Time // when it began, or its last request ended
	served bool      // a request
}

// wake notes that there is something to read. It returns true if the connection is the
// caller's now.
func (c *conn) wake() bool {
	for {
		if c.state.CompareAndSwap(waits, busy) {
			return true
		}
		if c.state.CompareAndSwap(busy, busyAgain) || c.state.Load() == busyAgain {
			return false
		}
	}
}

// rest has a connection wait. It returns false if there was something to read meanwhile, and
// the connection is still the caller's.
func (c *conn) rest() bool {
	if c.state.CompareAndSwap(busy, waits) {
		if c.doomed.Load() || c.loop.stopping.Load() { // who set it may have seen it busy
			_ = c.Close()
		}
		return true
	}
	c.state.Store(busy)
	return false
}

// Close ends the connection soon: after the request that is under way.
func (c *conn) Close() error {
	c.doomed.Store(true)
	if c.state.CompareAndSwap(waits, busy) {
		c.end(false)
	}
	return nil
}

// end ends a connection here, of who has it. If it is taken its descriptor goes on.
func (c *conn) end(taken bool) {
	if taken {
		c.unwatch()
	} else {
		_ = syscall.Close(c.fd) // which takes it out of the set too
	}
	c.leave(taken)
}

func (c *conn) unwatch() {
	_ = syscall.EpollCtl(c.loop.setFD, syscall.EPOLL_CTL_DEL, c.fd, nil) // it is there
}

// detach makes the connection one of package net, which the loop has no part in any more.
func (c *conn) detach() (net.Conn, error) {
	c.unwatch()
	file := os.NewFile(uintptr(c.fd), "")
	defer func() { _ = file.Close() }()
	return net.FileConn(file) // with a descriptor of its own
}

// pass has others serve the connection from its next request on.
func (c *conn) pass() {
	conn, err := c.detach()
	if err != nil {
		c.leave(false)
		return
	}
	c.loop.forget(c)
	c.loop.opt.Pass(c.ctx, conn)
}

// leave notes that the connection has ended.
func (c *conn) leave(taken bool) {
	c.loop.forget(c)
	if c.loop.opt.Leave != nil {
		c.loop.opt.Leave(c.ctx, taken)
	}
}
