package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
)

// start runs the program on a free port and returns its URL and what run returns.
func start(t *testing.T, ctx context.Context) (url string, result <-chan error) {
	t.Helper()
	out, in := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- run(ctx, "127.0.0.1:0", in, log.New(io.Discard, "", 0)) }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if !ok {
		t.Fatalf("got %q, want the address", line)
	}
	return url, done
}

func TestRun_DeleteEndsIt(t *testing.T) {
	h := newHarness(t) // for a stream that hangs
	url, done := start(t, t.Context())
	h.url = url
	h.create(nil)
	conn := h.connect()
	conn.send(": hello\n")
	h.want(http.StatusOK, "GET", "/", nil)
	h.want(http.StatusNoContent, "DELETE", "/", nil)
	if err := receive(t, done, "the end of run"); err != nil {
		t.Error(err)
	}
	receive(t, conn.gone, "the end of the connection")
	if _, err := h.http.Get(url); err == nil {
		t.Error("still answers after its end")
	}
}

func TestRun_ContextEndsIt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, done := start(t, ctx)
	cancel()
	if err := receive(t, done, "the end of run"); err != nil {
		t.Error(err)
	}
}

// A client that connects in advance looks like one whose request is on its way.
func TestRun_UnusedConnectionHoldsNothingUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	url, done := start(t, ctx)
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	cancel()
	if err := receive(t, done, "the end of run"); err != nil {
		t.Error(err)
	}
}

func TestRun_SaysWhatIsWrong(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	err = run(t.Context(), taken.Addr().String(), io.Discard, log.New(io.Discard, "", 0))
	if err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("got %v, want the address that is in use", err)
	}
	closed, in := io.Pipe()
	_ = closed.Close()
	err = run(t.Context(), "127.0.0.1:0", in, log.New(io.Discard, "", 0))
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want that of the output", err)
	}
}
