//go:build linux && !portable && (amd64 || arm64)

package hub

import (
	"net"
	"net/http"
	"syscall"
)

// A socketTaker is a [http.ResponseWriter] that lets go of the socket under it, which is the
// taker's then. more tells that bytes which came after the request are still to be read.
type socketTaker interface {
	TakeSocket() (fd int, more bool, err error)
}

// A seized connection is one that was taken from who served it.
type seized struct {
	fd   int32    // the engine's own; negative if the connection is gone
	conn net.Conn // instead, if it is none of the kernel's sockets itself
	more bool     // bytes that came after the request are to be read
}

// seize takes the connection of a request over. It returns false, and has done nothing, if
// that cannot be.
func (e *engine) seize(w http.ResponseWriter, r *http.Request) (s seized, ok bool) {
	if t, ok := w.(socketTaker); ok {
		if e.run() != nil || e.all() == nil {
			return s, false
		}
		fd, more, err := t.TakeSocket()
		return seized{fd: int32(fd), more: more}, err == nil
	}
	hijacker := e.hijackable(w, r)
	if hijacker == nil {
		return s, false
	}
	conn, buffered, err := hijacker.Hijack()
	if err != nil {
		return s, false
	}
	s.more = buffered.Reader.Buffered() > 0
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		s.conn = conn
		return s, true
	}
	s.fd = adopt(tcp)
	return s, true
}

// hijackable returns what takes the connection of a request over, nil if that cannot be.
func (e *engine) hijackable(w http.ResponseWriter, r *http.Request) http.Hijacker {
	if r.ProtoMajor != 1 || r.ProtoMinor < 1 || r.TLS != nil {
		return nil
	}
	if _, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); !ok {
		return nil
	}
	hijacker, ok := w.(http.Hijacker)
	if !ok || e.run() != nil || e.all() == nil {
		return nil
	}
	return hijacker
}

// adopt returns a descriptor of a connection's own, and closes what net keeps of it. It is
// negative if the connection is gone.
func adopt(conn *net.TCPConn) int32 {
	defer func() { _ = conn.Close() }() // the descriptor stays open
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1
	}
	var fd uintptr
	var errno syscall.Errno
	err = raw.Control(func(old uintptr) {
		fd, _, errno = syscall.Syscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 0)
	})
	if err != nil || errno != 0 {
		return -1
	}
	return int32(fd)
}
