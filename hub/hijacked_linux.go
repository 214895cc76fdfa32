//go:build linux && !portable && (amd64 || arm64)

package hub

import (
	"bufio"
	"net"
	"net/http"
	"time"
)

// A hijackedWriter answers on a connection that was taken over and is none of the kernel's
// sockets itself, such as one of a listener that counts its connections. The handler stays,
// as elsewhere.
type hijackedWriter struct {
	conn   net.Conn
	w      *bufio.Writer
	header http.Header
	chunk  []byte
}

func newHijackedWriter(conn net.Conn, header http.Header) *hijackedWriter {
	return &hijackedWriter{conn: conn, w: bufio.NewWriter(conn), header: header}
}

func (w *hijackedWriter) Header() http.Header { return w.header }

// WriteHeader writes the head of a stream's response, which is always the same status.
func (w *hijackedWriter) WriteHeader(int) { _, _ = w.w.Write(appendHead(nil, w.header)) }

func (w *hijackedWriter) Write(b []byte) (int, error) {
	w.chunk, _ = appendChunk(w.chunk[:0], b)
	if _, err := w.w.Write(w.chunk); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (w *hijackedWriter) FlushError() error                  { return w.w.Flush() }
func (w *hijackedWriter) SetWriteDeadline(t time.Time) error { return w.conn.SetWriteDeadline(t) }

// finish ends the response. The session has set a deadline for it.
func (w *hijackedWriter) finish() {
	_, _ = w.w.WriteString(lastChunk) // to a client that has gone it is no matter
	_ = w.w.Flush()
	_ = w.conn.Close()
}
