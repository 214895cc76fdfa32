//go:build linux && !portable && (amd64 || arm64)

package hub

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// A waiter is a poll that is held until there is something: a stream that has one answer.
// While it waits it costs what an idle stream does. The zero waiter is of a stream of events.
type waiter struct {
	head  *answerHead // may be shared
	limit int16
	gzip  bool // the answer may be in gzip
	keep  bool // the connection can have more requests
	over  bool // its time is,
	timed bool // it is in the shard's wheel
}

// An answerHead is what is known of an answer's header while it is waited for.
type answerHead struct {
	always  []byte // whatever the answer is
	cookies []byte // if it is no refusal
}

// headOf takes the header of an answer. Waiters with the same one share it: most have what
// those before them had.
func (e *engine) headOf(h http.Header) *answerHead {
	cookies := headerBytes(http.Header{"Set-Cookie": h["Set-Cookie"]})
	h.Del("Set-Cookie")
	head := &answerHead{headerBytes(h), cookies}
	if last := e.lastHead.Load(); last != nil && bytes.Equal(last.always, head.always) && bytes.Equal(last.cookies, head.cookies) {
		return last
	}
	e.lastHead.Store(head)
	return head
}

func (st *stream) isPoll() bool { return st.waiter.head != nil }

// hold makes a waiter of a poll, if it can, and of the cursor and the permit, which are the
// waiter's then.
func (e *engine) hold(w http.ResponseWriter, r *http.Request, c *cursor, p *permit, q poll) bool {
	got, ok := e.seize(w, r)
	if !ok {
		return false
	}
	wt := waiter{head: e.headOf(w.Header()), limit: int16(q.limit), gzip: e.hub.gzips(r)}
	switch {
	case got.conn != nil:
		e.holdHere(got.conn, c, p, q, &wt)
		return true
	case got.fd < 0:
		c.close()
		p.end()
		return true
	}
	wt.keep = e.hub.opt.KeepAlive != nil && !got.more && r.ContentLength == 0 && !r.Close
	st := &stream{feed: c.feed, cursor: c, permit: p, fd: got.fd, mute: true, beat: beatComment, waiter: wt}
	e.join(st)
	e.all()[e.choose(c.feed)].enter(st, q.wait)
	return true
}

func headerBytes(h http.Header) []byte {
	var b bytes.Buffer
	_ = h.Write(&b) // a buffer takes everything
	return b.Bytes()
}

// holdHere waits in the handler, on a connection that is none of the kernel's sockets itself.
func (e *engine) holdHere(conn net.Conn, c *cursor, p *permit, q poll, wt *waiter) {
	defer p.end()
	defer c.close()
	defer e.hub.serve(c, p).leave()
	defer conn.Close()
	b := newPollBody(e.hub, c, q.limit)
	var answer []byte
	if err := e.hub.await(e.hub.ctx, b, q.wait); err != nil {
		answer = refusal(wt, err)
	} else {
		answer = wt.answer(b)
	}
	if e.hub.opt.WriteTimeout > 0 {
		_ = conn.SetWriteDeadline(time.Now().Add(e.hub.opt.WriteTimeout))
	}
	if _, err := conn.Write(answer); err == nil {
		c.served.begun()
	}
}

// answerWaiter looks whether there is something for a waiter.
func (s *shard) answerWaiter(st *stream) {
	switch st.state {
	case live:
		c := s.cutOf(st)
		switch {
		case c == nil:
			s.fallBehind(st)
		case len(c.ends) > 0 || c.ended || st.waiter.over:
			st.state, st.cursor = catching, s.hub.cursorOf(st.feed, st.feed.filter)
			st.cursor.after = st.after
		case c.all:
			st.after = max(st.after, c.to)
			return
		}
		s.ask(st)
	case catching:
		s.ask(st)
	case closing:
		s.writeAnswer(st)
	}
}

// answerPage makes a waiter's answer. live tells that there is nothing in it yet.
func (e *engine) answerPage(st *stream) (p page) {
	b := newPollBody(e.hub, st.cursor, int(st.waiter.limit))
	for {
		_, err := b.fill(func() ([]*item, error) { return st.cursor.poll(e.hub.ctx) })
		p.after = st.cursor.after
		if err != nil {
			p.body = refusal(&st.waiter, err)
			return p
		}
		if b.empty() {
			if p.next, _, p.live = e.hub.hot.join(st.feed, p.after); !p.live {
				continue // there is more
			}
		}
		p.body = st.waiter.answer(b)
		return p
	}
}

// takeAnswer takes what answerPage has made.
func (s *shard) takeAnswer(st *stream, p *page) {
	if st.state != catching {
		return // it was refused meanwhile
	}
	st.after = p.after
	if p.live && !st.waiter.over {
		st.state, st.cursor = live, nil
		st.place(p.next)
		s.answerWaiter(st)
		return
	}
	s.sendAnswer(st, p.body)
}

func (s *shard) sendAnswer(st *stream, answer []byte) {
	if st.state == closing || st.state == gone {
		return
	}
	st.state, st.rest = closing, answer
	s.writeAnswer(st)
}

// refuseWaiter answers with an error.
func (s *shard) refuseWaiter(st *stream, why error) { s.sendAnswer(st, refusal(&st.waiter, why)) }

// writeAnswer writes what is left of a waiter's answer, and then gives the connection back.
func (s *shard) writeAnswer(st *stream) {
	if st.full {
		return
	}
	n, errno := s.write(st.fd, st.rest, nil)
	switch {
	case errno == syscall.EAGAIN:
		s.wait(st)
		return
	case errno != 0:
		s.close(st)
		return
	}
	s.sent(st)
	if st.rest = st.rest[n:]; len(st.rest) > 0 {
		s.wait(st)
		return
	}
	if st.waiter.keep {
		s.giveBack(st)
	}
	s.close(st)
}

// giveBack hands the connection of a waiter that was answered to who serves it further: a
// copy of the descriptor, before the waiter's own is closed.
func (s *shard) giveBack(st *stream) {
	// The copy is of the same socket, which the set would go on to watch.
	if s.poller.control(syscall.EPOLL_CTL_DEL, st, 0) != nil {
		return
	}
	fd, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(st.fd), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return
	}
	file := os.NewFile(fd, "")
	conn, err := net.FileConn(file)
	_ = file.Close()
	if err == nil {
		s.hub.opt.KeepAlive(conn)
	}
}

// timeIsUp answers a waiter for whom nothing came.
func (s *shard) timeIsUp(st *stream) {
	st.waiter.over = true
	s.answerWaiter(st)
}

// hearsNothing tells whether a waiter's client is still there. What it sends is its next
// request, and not to be read here.
func (s *shard) hearsNothing(st *stream) bool {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(st.fd), uintptr(unsafe.Pointer(unsafe.SliceData(s.scratch))), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == syscall.EINTR:
		case errno == syscall.EAGAIN:
			return true
		default:
			return errno == 0 && n > 0
		}
	}
}

// answer writes the whole response for a body.
func (w *waiter) answer(b *pollBody) []byte {
	body, tag, zips := b.bytes(w.gzip)
	header := string(w.head.cookies) + "Cache-Control: private, no-cache\r\nEtag: " + tag + lineEnd
	if zips {
		body = b.hub.gzipWhole(body)
		header += "Content-Encoding: gzip\r\n"
	}
	return w.response(http.StatusOK, "application/json", header, body)
}

// refusal writes the whole response for an error, as [Fail] does.
func refusal(w *waiter, err error) []byte {
	rec := &recorded{header: make(http.Header)}
	Fail(rec, err)
	typ := rec.header.Get("Content-Type")
	rec.header.Del("Content-Type")
	return w.response(rec.status, typ, string(headerBytes(rec.header)), rec.body.Bytes())
}

func (w *waiter) response(status int, typ, header string, body []byte) []byte {
	var b bytes.Buffer
	b.Grow(len(w.head.always) + len(body) + 256)
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	b.Write(w.head.always)
	b.WriteString(header)
	b.WriteString("Content-Type: " + typ + lineEnd)
	b.WriteString("Content-Length: " + strconv.Itoa(len(body)) + lineEnd)
	b.WriteString("Date: " + time.Now().UTC().Format(http.TimeFormat) + lineEnd)
	if !w.keep {
		b.WriteString("Connection: close\r\n")
	}
	b.WriteString(lineEnd)
	b.Write(body)
	return b.Bytes()
}

// A recorded response is one that is sent later.
type recorded struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorded) Header() http.Header         { return r.header }
func (r *recorded) WriteHeader(status int)      { r.status = status }
func (r *recorded) Write(b []byte) (int, error) { return r.body.Write(b) }
