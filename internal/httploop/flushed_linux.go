//go:build linux && !portable && (amd64 || arm64)

package httploop

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
)

// A flushed response is one that is sent while the handler goes on: in chunks, as its length
// is not known. Its connection ends with it.
type flushed struct {
	conn   net.Conn
	buffer *bufio.Writer
	chunks io.WriteCloser
}

// beginToFlush sends the head.
func (a *response) beginToFlush() error {
	a.WriteHeader(http.StatusOK)
	conn, err := a.conn.detach()
	if err != nil {
		a.taken = true // by nobody
		a.conn.leave(false)
		return err
	}
	a.header.Set("Transfer-Encoding", "chunked")
	a.header.Set("Connection", "close")
	a.header.Del("Content-Length")
	f := &flushed{conn: conn, buffer: bufio.NewWriter(conn)}
	f.chunks = httputil.NewChunkedWriter(f.buffer)
	a.flushed = f
	_, _ = f.buffer.Write(a.head(nil)) // the flush tells of an error
	_, err = f.chunks.Write(a.body.Bytes())
	return err
}

func (f *flushed) finish() {
	_ = f.chunks.Close()
	_, _ = f.buffer.WriteString("\r\n") // after no trailer
	_ = f.buffer.Flush()                // to a client that has gone it is no matter
	_ = f.conn.Close()
}
