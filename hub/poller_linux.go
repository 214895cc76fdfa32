//go:build linux && !portable && (amd64 || arm64)

package hub

import (
	"fmt"
	"os"
	"syscall"
)

// A poller is an epoll set of a shard's sockets. The runtime's own poller watches the set,
// so that nothing waits in a system call.
type poller struct {
	shard *shard
	fd    int
	file  *os.File
	raw   syscall.RawConn
}

// A ready is what epoll tells of a stream.
type ready struct {
	slot, gen, events uint32
}

const edgeTriggered = 1 << 31 // EPOLLET, which the syscall package has as negative

func newPoller(s *shard) (*poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("hub: epoll_create1: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // else NewFile does not watch it
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("hub: epoll set: %w", err)
	}
	p := &poller{shard: s, fd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		_ = p.file.Close()
		return nil, fmt.Errorf("hub: epoll set: %w", err)
	}
	return p, nil
}

// run passes on what epoll tells, until close.
func (p *poller) run() {
	events := make([]syscall.EpollEvent, 256)
	_ = p.raw.Read(func(fd uintptr) bool { // the only error is that of close
		for {
			n, err := syscall.EpollWait(int(fd), events, 0)
			if err == syscall.EINTR {
				continue
			}
			if n > 0 {
				p.shard.tellReady(events[:n])
			}
			if n < len(events) {
				return false
			}
		}
	})
}

func (p *poller) close() { _ = p.file.Close() }

// add has the poller tell when a stream's client goes.
func (p *poller) add(st *stream) error {
	return p.control(syscall.EPOLL_CTL_ADD, st, syscall.EPOLLIN|syscall.EPOLLRDHUP)
}

// arm has it tell when the socket takes more, too. That could be had from the beginning,
// for a wake-up more for each stream.
func (p *poller) arm(st *stream) error {
	return p.control(syscall.EPOLL_CTL_MOD, st, syscall.EPOLLIN|syscall.EPOLLRDHUP|syscall.EPOLLOUT)
}

func (p *poller) control(op int, st *stream, events uint32) error {
	return syscall.EpollCtl(p.fd, op, int(st.fd), &syscall.EpollEvent{Events: events | edgeTriggered, Fd: int32(st.slot), Pad: int32(st.gen)})
}

// tellReady passes on what epoll tells.
func (s *shard) tellReady(events []syscall.EpollEvent) {
	s.mu.Lock()
	for _, ev := range events {
		s.ready = append(s.ready, ready{uint32(ev.Fd), uint32(ev.Pad), ev.Events})
	}
	s.mu.Unlock()
	s.ring()
}
