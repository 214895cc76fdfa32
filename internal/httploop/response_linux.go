//go:build linux && !portable && (amd64 || arm64)

package httploop

import (
	"bytes"
	"net/http"
	"strconv"
	"time"
)

// A response keeps an answer until the handler returns, or flushes it.
type response struct {
	worker  *worker
	conn    *conn
	request *http.Request
	more    bool // bytes of the client's are still to be read
	header  http.Header
	status  int
	body    bytes.Buffer
	taken   bool
	flushed *flushed // nil: not yet
}

var _ http.ResponseWriter = (*response)(nil)

func (a *response) Header() http.Header { return a.header }

func (a *response) WriteHeader(status int) {
	if a.status == 0 && status >= 200 { // nobody here sends others before
		a.status = status
	}
}

func (a *response) Write(b []byte) (int, error) {
	switch {
	case a.taken:
		return 0, http.ErrHijacked
	case a.flushed != nil:
		return a.flushed.chunks.Write(b)
	}
	a.WriteHeader(http.StatusOK)
	if a.bodiless() {
		return 0, http.ErrBodyNotAllowed
	}
	return a.body.Write(b)
}

// bodiless tells whether the status has no body (RFC 9110, section 6.4.1).
func (a *response) bodiless() bool {
	return a.status == http.StatusNoContent || a.status == http.StatusNotModified
}

// TakeSocket gives the connection's socket to the handler, who must close it, before
// anything was written. more tells that bytes which were sent after the request are still
// to be read.
func (a *response) TakeSocket() (fd int, more bool, err error) {
	if a.taken || a.flushed != nil {
		return -1, false, http.ErrHijacked
	}
	a.taken = true
	a.conn.end(true)
	return a.conn.fd, a.more, nil
}

// FlushError begins to send the answer before the handler has returned.
func (a *response) FlushError() error {
	if a.taken {
		return http.ErrHijacked
	}
	if a.flushed == nil {
		if err := a.beginToFlush(); err != nil {
			return err
		}
	}
	return a.flushed.buffer.Flush()
}

// SetWriteDeadline bounds writes after the first flush.
func (a *response) SetWriteDeadline(t time.Time) error {
	if a.flushed == nil {
		return http.ErrNotSupported
	}
	return a.flushed.conn.SetWriteDeadline(t)
}

// finish sends the answer. It returns false if the connection has ended here.
func (a *response) finish() (goesOn bool) {
	switch {
	case a.taken:
		return false
	case a.flushed != nil:
		a.flushed.finish()
		a.conn.leave(false)
		return false
	}
	a.WriteHeader(http.StatusOK)
	if !a.bodiless() {
		a.header["Content-Length"] = []string{strconv.Itoa(a.body.Len())}
	}
	keeps := a.header.Get("Connection") != "close"
	out := append(a.head(a.worker.out[:0]), a.body.Bytes()...)
	if cap(out) <= mostBytes {
		a.worker.out = out
	}
	n, err := send(a.conn.fd, out)
	switch {
	case err != nil:
		a.conn.end(false)
		return false
	case n < len(out):
		a.sendRest(out[n:], keeps)
		return false
	case !keeps:
		a.conn.end(false)
		return false
	}
	return true
}

// head appends the head of the answer.
func (a *response) head(b []byte) []byte {
	if a.header["Date"] == nil {
		a.header["Date"] = []string{time.Now().UTC().Format(http.TimeFormat)}
	}
	buf := bytes.NewBuffer(b)
	buf.WriteString("HTTP/1.1 " + strconv.Itoa(a.status) + " " + http.StatusText(a.status) + "\r\n")
	_ = a.header.Write(buf) // a buffer takes everything
	buf.WriteString("\r\n")
	return buf.Bytes()
}

// sendRest waits for a client that takes its answer slowly; its next request is others'.
func (a *response) sendRest(rest []byte, keeps bool) {
	conn, err := a.conn.detach()
	if err != nil {
		a.conn.leave(false)
		return
	}
	if most := a.worker.loop.opt.WriteTimeout; most > 0 {
		_ = conn.SetWriteDeadline(time.Now().Add(most)) // it has one, as all of TCP
	}
	_, err = conn.Write(rest)
	_ = conn.SetWriteDeadline(time.Time{})
	if err != nil || !keeps {
		_ = conn.Close()
		a.conn.leave(false)
		return
	}
	a.conn.loop.forget(a.conn)
	a.worker.loop.opt.Pass(a.conn.ctx, conn)
}

// abort ends the connection of a handler that has panicked.
func (a *response) abort() {
	switch {
	case a.taken:
	case a.flushed != nil:
		_ = a.flushed.conn.Close()
		a.conn.leave(false)
	default:
		a.conn.end(false)
	}
}
