//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// A subscriber reads a stream of events with as little work as it takes to know that
// every event has come once and in order.
type subscriber struct {
	fd       int
	state    streamState
	left     int                 // bytes of the chunk
	carry    []byte              // of a line of the framing that is not whole yet
	block    []byte              // of an event that is not whole yet
	each     func(number uint64) // called for each event; may be nil
	count    int
	sum      uint64 // of the numbers
	sequence uint64 // of the last event, if its id is a position
	first    time.Time
	last     uint64 // the number of the last event
	stop     []byte // what a block begins with after which nothing is wanted; nil: none
	stopped  bool
}

type streamState int

const (
	inHead streamState = iota
	inSize
	inChunk
	inEnd // of a chunk
)

// subscribe connects, and asks. after, if not "", is the Last-Event-ID.
func subscribe(to netip.AddrPort, query, after string) (*subscriber, error) {
	fd, err := dial(to)
	if err != nil {
		return nil, err
	}
	s := &subscriber{fd: fd}
	if err := s.ask(query, after); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *subscriber) ask(query, after string) error {
	b := fmt.Appendf(nil, "GET /events%s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n", query)
	if after != "" {
		b = fmt.Appendf(b, "Last-Event-ID: %s\r\n", after)
	}
	return write(s.fd, append(b, "\r\n"...))
}

func (s *subscriber) close() { _ = syscall.Close(s.fd) }

// feed takes what was read.
func (s *subscriber) feed(b []byte) error {
	for len(b) > 0 {
		switch s.state {
		case inHead:
			s.carry = append(s.carry, b...)
			end := bytes.Index(s.carry, headEnd)
			if end < 0 {
				return nil
			}
			head := s.carry[:end]
			if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) || !bytes.Contains(head, []byte("Transfer-Encoding: chunked")) {
				return fmt.Errorf("the answer is %.300q", s.carry)
			}
			b = bytes.Clone(s.carry[end+len(headEnd):])
			s.state, s.carry = inSize, s.carry[:0]
		case inSize:
			line, rest, whole := s.line(b)
			if b = rest; !whole {
				return nil
			}
			n, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
			if err != nil {
				return fmt.Errorf("the size of a chunk: %w", err)
			}
			if n == 0 {
				return errors.New("the stream has ended")
			}
			s.left, s.state, s.carry = int(n), inChunk, s.carry[:0]
		case inChunk:
			n := min(s.left, len(b))
			if err := s.blocks(b[:n]); err != nil {
				return err
			}
			b = b[n:]
			if s.left -= n; s.left == 0 {
				s.state = inEnd
			}
		case inEnd:
			_, rest, whole := s.line(b)
			if b = rest; !whole {
				return nil
			}
			s.state, s.carry = inSize, s.carry[:0]
		}
	}
	return nil
}

// line returns a line of the framing.
func (s *subscriber) line(b []byte) (line, rest []byte, whole bool) {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		s.carry = append(s.carry, b...)
		return nil, nil, false
	}
	if len(s.carry) == 0 {
		return b[:end], b[end+1:], true
	}
	s.carry = append(s.carry, b[:end]...)
	return s.carry, b[end+1:], true
}

var blockEnd = []byte("\n\n")

// blocks takes the content of the stream.
func (s *subscriber) blocks(b []byte) error {
	if len(s.block) > 0 {
		s.block = append(s.block, b...)
		b = s.block
	}
	for {
		end := bytes.Index(b, blockEnd)
		if end < 0 {
			break
		}
		if err := s.take(b[:end]); err != nil {
			return err
		}
		b = b[end+len(blockEnd):]
	}
	s.block = append(s.block[:0], b...)
	return nil
}

var (
	dataField = []byte("data: " + dataPrefix)
	idField   = []byte("id: ")
	ourEvent  = []byte("event: tidewire.")
)

// take takes a block.
func (s *subscriber) take(b []byte) error {
	at := bytes.Index(b, dataField)
	if at < 0 {
		if bytes.Contains(b, ourEvent) {
			return fmt.Errorf("the server says %.300q", b)
		}
		s.stopped = s.stopped || s.stop != nil && bytes.HasPrefix(b, s.stop)
		return nil // a comment, a retry, or a marker
	}
	if s.count == 0 {
		s.first = time.Now()
	}
	s.last = readNumber(b[at+len(dataField):])
	s.count++
	s.sum += s.last
	if bytes.HasPrefix(b, idField) {
		id, _, _ := bytes.Cut(b[len(idField):], newline)
		if _, digits, ok := bytes.Cut(id, []byte("-")); ok {
			sequence := readNumber(digits)
			if sequence <= s.sequence {
				return fmt.Errorf("event %d comes after %d", sequence, s.sequence)
			}
			s.sequence = sequence
		}
	}
	if s.each != nil {
		s.each(s.last)
	}
	return nil
}

var newline = []byte("\n")

// expect is what a subscriber gets in the end.
type expect struct {
	count int
	sum   uint64
}

// check compares what has come with what should have: sequences rise, so the count and
// the sum leave no room for an event that is lost or comes twice.
func (s *subscriber) check(want expect) error {
	if s.count != want.count || s.sum != want.sum {
		return fmt.Errorf("got %d events with the sum %d, want %d and %d", s.count, s.sum, want.count, want.sum)
	}
	return nil
}

// A crowd is subscribers whom one thread reads.
type crowd struct {
	poll *poller
	all  []*subscriber
	buf  []byte
}

func newCrowd() (*crowd, error) {
	p, err := newPoller()
	return &crowd{poll: p, buf: make([]byte, 256<<10)}, err
}

func (c *crowd) add(s *subscriber) error {
	c.all = append(c.all, s)
	return c.poll.add(s.fd, len(c.all)-1)
}

func (c *crowd) close() {
	for _, s := range c.all {
		s.close()
	}
	c.poll.close()
}

// quiet is how long nothing may come while something is expected.
const quiet = 30 * time.Second

// read reads until done, which is asked after each of a subscriber's reads, says so.
func (c *crowd) read(ctx context.Context, done func(*subscriber) bool) error {
	heard := time.Now()
	for {
		ready, err := c.poll.wait(50 * time.Millisecond)
		if err != nil {
			return err
		}
		for _, i := range ready {
			s := c.all[i]
			n, err := read(s.fd, c.buf)
			if err == nil {
				err = s.feed(c.buf[:n])
			}
			if err != nil {
				return fmt.Errorf("after %d events: %w", s.count, err)
			}
			heard = time.Now()
			if done(s) {
				return nil
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if len(ready) == 0 && time.Since(heard) > quiet {
			return fmt.Errorf("nothing has come for %v", quiet)
		}
	}
}

// readOne reads one subscription until enough events have come.
func readOne(ctx context.Context, s *subscriber, enough func(*subscriber) bool) error {
	c, err := newCrowd()
	if err != nil {
		return err
	}
	defer c.poll.close()
	if err := c.add(s); err != nil {
		return err
	}
	return c.read(ctx, enough)
}
