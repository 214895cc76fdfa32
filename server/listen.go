package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
)

// socketMode lets the owner and the group of a Unix socket connect.
const socketMode = 0o660

const unixPrefix = "unix:"

func isUnix(address string) bool { return strings.HasPrefix(address, unixPrefix) }

// listen listens at a TCP address, or on a Unix socket, "unix:/run/tidewire.sock". A socket
// that is left over is replaced; one that somebody listens on is not.
func listen(address string) (net.Listener, error) {
	path, ok := strings.CutPrefix(address, unixPrefix)
	if !ok {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("%w: choose another address with --listen", err)
		}
		return l, nil
	}
	l, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) && leftOver(path) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listen on a socket that is left over: %w", err)
		}
		l, err = net.Listen("unix", path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: choose another path with --listen", err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("listen: %w", err), l.Close())
	}
	return l, nil
}

// leftOver tells whether a path is a socket that nobody listens on.
func leftOver(path string) bool {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		return false
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		_ = c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// listenPackets listens on UDP at the address of a TCP listener.
func listenPackets(l net.Listener) (net.PacketConn, error) {
	p, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		return nil, fmt.Errorf("%w: HTTP/3 needs the same port of UDP: choose another one with --listen", err)
	}
	return p, nil
}

// listenBoth listens on TCP, and on UDP at the same port if packets are wanted. A port that
// the system chooses may be taken on UDP: then it has to choose again.
func listenBoth(address string, packets bool) (net.Listener, net.PacketConn, error) {
	const attempts = 10
	for n := 1; ; n++ {
		l, err := listen(address)
		if err != nil || !packets {
			return l, nil, err
		}
		p, err := listenPackets(l)
		if err == nil {
			return l, p, nil
		}
		err = errors.Join(err, l.Close())
		if !strings.HasSuffix(address, ":0") || n == attempts {
			return nil, nil, err
		}
	}
}
