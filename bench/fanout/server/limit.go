//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// A raw server is the limit where there is no C compiler: what limit.c does, with one
// thread.
type raw struct {
	poll, listener int
	topics         [][]int // descriptors of subscribers
	topic          []int32 // of a descriptor that is a subscriber's, else -1
	part           map[int][]byte
	buf            [1 << 20]byte
	frame          []byte
	id             uint64
}

const (
	rawTopics      = 1_000_000
	rawDescriptors = 1 << 20
)

func limit(ctx context.Context) error {
	// The first descriptors are not the loop's to wait for.
	context.AfterFunc(ctx, func() { os.Exit(0) })
	r := &raw{topics: make([][]int, rawTopics), topic: make([]int32, rawDescriptors), part: map[int][]byte{}}
	var err error
	if r.poll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if err := r.listen(); err != nil {
		return err
	}
	events := make([]syscall.EpollEvent, 256)
	for {
		n, err := syscall.EpollWait(r.poll, events, -1)
		if err != nil && err != syscall.EINTR {
			return os.NewSyscallError("epoll_wait", err)
		}
		for _, ev := range events[:max(0, n)] {
			fd := int(ev.Fd)
			if fd == r.listener {
				err = r.accept()
			} else {
				err = r.read(fd)
			}
			if err != nil {
				return err
			}
		}
	}
}

func (r *raw) listen() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	r.listener = fd
	err = errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 1<<16), r.watch(fd))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	address, err := syscall.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	fmt.Printf("Open       http://127.0.0.1:%d/\n", address.(*syscall.SockaddrInet4).Port)
	return nil
}

func (r *raw) watch(fd int) error {
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(r.poll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}))
}

func (r *raw) accept() error {
	for {
		fd, _, err := syscall.Accept4(r.listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		if err != nil {
			return nil // there is none any more
		}
		if fd >= rawDescriptors {
			_ = syscall.Close(fd)
			continue
		}
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		r.topic[fd] = -1
		if err := r.watch(fd); err != nil {
			return err
		}
	}
}

func (r *raw) read(fd int) error {
	n, err := syscall.Read(fd, r.buf[:])
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return nil
	case err != nil || n <= 0:
		r.drop(fd)
		return nil
	case r.topic[fd] >= 0:
		return nil // a subscriber has no more to say
	}
	b := append(r.part[fd], r.buf[:n]...)
	head, body, ok := bytes.Cut(b, []byte("\r\n\r\n"))
	if !ok || len(body) < contentLength(head) {
		r.part[fd] = b
		return nil
	}
	delete(r.part, fd)
	_, path, _ := bytes.Cut(head, []byte(" "))
	path, _, _ = bytes.Cut(path, []byte(" "))
	topic, _ := strconv.ParseUint(string(path[max(0, len(path)-6):]), 10, 31) // else it is 0
	if head[0] == 'P' {
		sendAll(fd, []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
		r.publish(int(topic), body)
		return nil
	}
	sendAll(fd, []byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n"))
	r.topic[fd] = int32(topic)
	r.topics[topic] = append(r.topics[topic], fd)
	return nil
}

func contentLength(head []byte) int {
	_, rest, _ := bytes.Cut(bytes.ToLower(head), []byte("\r\ncontent-length:"))
	line, _, _ := bytes.Cut(rest, []byte("\r"))
	n, _ := strconv.Atoi(string(bytes.TrimSpace(line))) // else there is no body
	return n
}

func (r *raw) publish(topic int, data []byte) {
	r.id++
	r.frame = fmt.Appendf(r.frame[:0], "id: %d\ndata: %s\n\n", r.id, data)
	for _, fd := range r.topics[topic] {
		sendAll(fd, r.frame)
	}
}

func (r *raw) drop(fd int) {
	if topic := r.topic[fd]; topic >= 0 {
		fds := r.topics[topic]
		for i := range fds {
			if fds[i] == fd {
				fds[i] = fds[len(fds)-1]
				r.topics[topic] = fds[:len(fds)-1]
				break
			}
		}
	}
	delete(r.part, fd)
	_ = syscall.Close(fd)
}
