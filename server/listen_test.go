package server_test

import (
	"context"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/server"
)

func TestListen_UnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	// One that is left over, because its process was killed, is replaced.
	left, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = left.Close()

	from := make(chan string, 10)
	s := startServer(t, server.Config{Listen: "unix:" + path, Handler: seen(func(r *http.Request) { from <- r.RemoteAddr })})
	if got, want := s.URL(), "unix:"+path; got != want {
		t.Errorf("got URL %s, want %s", got, want)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("got mode %v, %v, want a socket for owner and group", info.Mode(), err)
	}
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr}
	_, lines := subscribe(t, t.Context(), c, "http://localhost/events/a", "")
	publish(t, c, "http://localhost/events/a", "x")
	next(t, lines, "data: x")
	if got := <-from; got != "127.0.0.1:0" {
		t.Errorf("got a request from %s, want this machine", got)
	}

	_, err = server.New(&server.Config{Listen: "unix:" + path})
	if err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("got %v, want an error where somebody listens already", err)
	}
}

func TestListen_KeepsFilesThatAreNoSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	write(t, path, []byte("text"))
	if _, err := server.New(&server.Config{Listen: "unix:" + path}); err == nil {
		t.Error("got no error")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "text" {
		t.Errorf("got %q, %v, want the file as it was", b, err)
	}
}
