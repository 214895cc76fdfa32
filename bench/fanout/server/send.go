//go:build linux

package main

import (
	"syscall"
	"unsafe"
)

// sendAll gives b to the kernel, and waits where the socket is full. A connection that has
// broken is found by its reader.
func sendAll(fd int, b []byte) {
	for len(b) > 0 {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), syscall.MSG_NOSIGNAL|syscall.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			b = b[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			waitWritable(fd)
		default:
			return
		}
	}
}

// waitWritable waits a second at most.
func waitWritable(fd int) {
	type pollFd struct {
		fd              int32
		events, revents int16
	}
	const pollOut = 4
	p := pollFd{fd: int32(fd), events: pollOut}
	second := syscall.Timespec{Sec: 1}
	_, _, _ = syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&second)), 0, 0, 0)
}
