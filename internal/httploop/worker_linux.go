//go:build linux && !portable && (amd64 || arm64)

package httploop

import (
	"bufio"
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"syscall"
	"time"
	"unsafe"
)

// A worker serves one connection at a time. Its goroutine is used again, with the stack that
// it has by then.
type worker struct {
	loop  *Loop
	jobs  chan *conn // of one element; nil ends it
	in    []byte     // what is peeked at; grows to mostBytes
	bytes bytes.Reader
	head  *bufio.Reader
	out   []byte
}

const firstBytes = 4 << 10

// work has a worker serve a connection: the one that has worked last, as its memory is at
// hand, or a new one.
func (p *Loop) work(c *conn) {
	p.mu.Lock()
	closed, n := p.closed, len(p.idle)
	var w *worker
	switch {
	case closed:
	case n > 0:
		w, p.idle = p.idle[n-1], p.idle[:n-1]
		p.spared = min(p.spared, n-1)
	default:
		p.working.Add(1)
	}
	p.mu.Unlock()
	switch {
	case closed:
		c.end(false)
	case w != nil:
		w.jobs <- c
	default:
		go p.worker(c)
	}
}

// worker serves connections until it is dismissed.
func (p *Loop) worker(c *conn) {
	defer p.working.Done()
	w := &worker{loop: p, jobs: make(chan *conn, 1), in: make([]byte, firstBytes), head: bufio.NewReaderSize(nil, firstBytes)}
	for c != nil {
		w.serve(c)
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return
		}
		p.idle = append(p.idle, w)
		p.mu.Unlock()
		c = <-w.jobs
	}
}

// dismiss ends the workers that were not needed since it was called last.
func (p *Loop) dismiss() {
	p.mu.Lock()
	some := slices.Clone(p.idle[:p.spared]) // those that have rested longest
	p.idle = slices.Delete(p.idle, 0, p.spared)
	p.spared = len(p.idle)
	p.mu.Unlock()
	for _, w := range some {
		w.jobs <- nil
	}
}

// serve answers a connection's requests until there is none, or one that is not plain.
func (w *worker) serve(c *conn) {
	for {
		n, errno := peek(c.fd, w.in)
		switch {
		case c.doomed.Load():
			c.end(false)
			return
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			if c.rest() {
				return
			}
			continue
		case errno != 0 || n == 0:
			c.end(false)
			return
		case n == len(w.in) && n < mostBytes:
			w.in = make([]byte, mostBytes)
			continue
		}
		if blank := emptyLines(w.in[:n]); c.served && blank > 0 {
			discard(c.fd, blank)
			continue
		}
		length, ok := plain(w.in[:n])
		if !ok {
			c.pass()
			return
		}
		r, err := w.read(c, w.in[:length])
		if err != nil {
			c.pass() // net/http will say what is wrong
			return
		}
		discard(c.fd, length)
		if !w.answer(c, r, n > length) {
			return
		}
		c.served, c.since = true, time.Now()
		if n == length && !c.ended.Load() && c.rest() { // epoll tells of what has come since
			return
		}
	}
}

// read makes a request of its bytes.
func (w *worker) read(c *conn, b []byte) (*http.Request, error) {
	w.bytes.Reset(b)
	w.head.Reset(&w.bytes)
	r, err := http.ReadRequest(w.head)
	if err != nil {
		return nil, err
	}
	r = r.WithContext(c.ctx)
	r.RemoteAddr = c.remote
	if r.ContentLength > 0 {
		body := &WholeBody{}
		body.Reset(b[len(b)-int(r.ContentLength):])
		r.Body = body
	}
	return r, nil
}

// answer has the handler answer a request. It returns false if the connection is the
// caller's no more.
func (w *worker) answer(c *conn, r *http.Request, more bool) (goesOn bool) {
	a := &response{worker: w, conn: c, request: r, more: more, header: make(http.Header)}
	if w.handle(a, r) {
		return a.finish()
	}
	a.abort()
	return false
}

// handle runs the handler. It returns false if that panics.
func (w *worker) handle(a *response, r *http.Request) (done bool) {
	defer func() {
		if done {
			return
		}
		if v := recover(); v != any(http.ErrAbortHandler) {
			slog.Error("a handler panicked", "peer", r.RemoteAddr, "panic", v, "stack", string(debug.Stack()))
		}
	}()
	w.loop.opt.Handler.ServeHTTP(a, r)
	return true
}

// peek reads what has come, and leaves it there.
func peek(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// discard drops bytes that were peeked at: TCP does that without copying them (tcp(7), on
// MSG_TRUNC).
func discard(fd, n int) {
	for n > 0 {
		dropped, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), 0, uintptr(n), syscall.MSG_TRUNC|syscall.MSG_DONTWAIT, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 || dropped == 0 {
			return // a reset, of which the answer will hear
		}
		n -= int(dropped)
	}
}

// send writes as much of b as the socket takes.
func send(fd int, b []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, nil
		default:
			return 0, errors.New("send: " + errno.Error())
		}
	}
}
