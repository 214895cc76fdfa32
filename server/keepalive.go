package server

import (
	"net"
	"net/http"
	"sync"
)

// A givenBack is a listener of connections that the hub had taken from the server, for
// long-polls, and gives back when they are answered.
type givenBack struct {
	addr net.Addr

	mu     sync.Mutex
	conns  []net.Conn
	closed bool
	bell   chan struct{} // of one element: there are some, or it is closed
}

func newGivenBack(addr net.Addr) *givenBack {
	return &givenBack{addr: addr, bell: make(chan struct{}, 1)}
}

// give is the hub's KeepAlive.
func (g *givenBack) give(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		_ = c.Close()
		return
	}
	g.conns = append(g.conns, c)
	g.ring()
}

func (g *givenBack) ring() {
	select {
	case g.bell <- struct{}{}:
	default:
	}
}

func (g *givenBack) Accept() (net.Conn, error) {
	for {
		g.mu.Lock()
		if g.closed {
			g.mu.Unlock()
			return nil, net.ErrClosed
		}
		if len(g.conns) > 0 {
			c := g.conns[0]
			if g.conns = g.conns[1:]; len(g.conns) == 0 {
				g.conns = nil
			}
			g.mu.Unlock()
			return c, nil
		}
		g.mu.Unlock()
		<-g.bell
	}
}

func (g *givenBack) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, c := range g.conns {
		_ = c.Close()
	}
	g.conns = nil
	g.ring()
	return nil
}

func (g *givenBack) Addr() net.Addr { return g.addr }

// serveGivenBack serves what the hub gives back, until the server is shut down or closed.
func (s *Server) serveGivenBack(srv *http.Server) {
	s.front.serving.Go(func() { _ = srv.Serve(s.givenBack) }) // its end is the server's
}
