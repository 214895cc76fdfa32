//go:build linux

package main

import (
	"fmt"
	"os"
	"sync"
	"syscall"
)

// A rawFile is the limit: it appends to a file, and syncs it, and that is all. Those who
// come while it syncs share the next sync.
type rawFile struct {
	f *os.File

	mu      sync.Mutex
	waiting []rawRequest
	closed  bool
	wake    chan struct{} // of one element
	done    chan struct{}
}

type rawRequest struct {
	data   []byte
	answer chan error
}

func newRawFile(name string) (*rawFile, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	r := &rawFile{f: f, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go r.run()
	return r, nil
}

func (r *rawFile) run() {
	defer close(r.done)
	var round []rawRequest
	var buf []byte
	for range r.wake {
		r.mu.Lock()
		round, r.waiting = r.waiting, round[:0]
		closed := r.closed
		r.mu.Unlock()
		buf = buf[:0]
		for _, req := range round {
			buf = append(buf, req.data...)
		}
		if len(buf) > 0 {
			err := r.store(buf)
			for _, req := range round {
				req.answer <- err
			}
		}
		if closed {
			return
		}
	}
}

func (r *rawFile) store(b []byte) error {
	if _, err := r.f.Write(b); err != nil {
		return err
	}
	if err := syscall.Fdatasync(int(r.f.Fd())); err != nil {
		return fmt.Errorf("fdatasync: %w", err)
	}
	return nil
}

// alone is the loop of one writer, in its own goroutine.
func (r *rawFile) alone() func([]byte) error { return r.store }

// shared is what several writers call.
func (r *rawFile) shared() func([]byte) error {
	answer := make(chan error, 1)
	return func(b []byte) error {
		r.mu.Lock()
		r.waiting = append(r.waiting, rawRequest{b, answer})
		r.mu.Unlock()
		r.signal()
		return <-answer
	}
}

func (r *rawFile) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *rawFile) close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.signal()
	<-r.done
	return r.f.Close()
}
