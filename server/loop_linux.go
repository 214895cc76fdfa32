//go:build linux && !portable && (amd64 || arm64)

package server

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"

	"github.com/tidewire/tidewire/internal/httploop"
)

// newLoop makes the loop that serves most connections of a listener in clear text. It is nil
// where there is none, and all are net/http's.
func (s *Server) newLoop() loop {
	l, ok := s.listener.(*net.TCPListener)
	if !ok || s.front.certificates != nil || s.front.transport.ProxyProtocol {
		return nil
	}
	limits := s.limiter.limits.Load()
	p, err := httploop.New(l, &httploop.Options{
		Handler:       s.http.Handler,
		HeaderTimeout: limits.HeaderTimeout,
		IdleTimeout:   limits.IdleTimeout,
		WriteTimeout:  s.front.writeTimeout,
		Admit:         func(peer netip.AddrPort) bool { return s.limiter.mayEnter(s.limiter.addressOf(peer.Addr())) },
		Enter: func(ctx context.Context, socket io.Closer, peer netip.AddrPort) context.Context {
			return context.WithValue(ctx, connectionKey{}, s.limiter.enter(socket, s.limiter.addressOf(peer.Addr())))
		},
		Leave: func(ctx context.Context, taken bool) {
			s.limiter.mu.Lock()
			defer s.limiter.mu.Unlock()
			s.limiter.leave(connectionOf(ctx), taken)
		},
		Pass: func(ctx context.Context, conn net.Conn) {
			s.limiter.moves(connectionOf(ctx), conn)
			s.givenBack.give(conn)
		},
	})
	if err != nil {
		slog.Warn("all connections are served by net/http, which takes more of the machine", "error", err)
		return nil
	}
	return p
}
