package hub

import (
	"net/http"
	"sync/atomic"
)

// A gzipWriter codes a stream that has a goroutine. Events that come with [gzipWriter.expect]
// are compressed once for all who get them.
type gzipWriter struct {
	http.ResponseWriter
	hub      *Hub
	form     form
	begun    bool
	sum      gzipSum
	out      []byte
	expected atomic.Pointer[expected]
}

// What is to be written next, unless something of another size comes before it.
type expected struct {
	events []*item
	size   int
}

func (h *Hub) newGzipWriter(w http.ResponseWriter, form form) *gzipWriter {
	w.Header().Set("Content-Encoding", "gzip")
	return &gzipWriter{ResponseWriter: w, hub: h, form: form}
}

// over returns the writer, or where there is none what it would write to.
func (w *gzipWriter) over(plain http.ResponseWriter) http.ResponseWriter {
	if w == nil {
		return plain
	}
	return w
}

// Unwrap has what else there is of the writer found.
func (w *gzipWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// expect says that the next text of that size is these events and nothing else. A session
// writes comments, too, when it likes; none is as short as an event.
func (w *gzipWriter) expect(events []*item, size int) {
	if w == nil || len(events) == 0 {
		return
	}
	for _, it := range events {
		if it.wire == nil {
			return // a page of history
		}
	}
	w.expected.Store(&expected{events, size})
}

// Write writes a text so that it can be read without what comes next.
func (w *gzipWriter) Write(text []byte) (int, error) {
	out := w.out[:0]
	if !w.begun {
		w.begun = true
		out = append(out, gzipHead...)
	}
	if e := w.expected.Load(); e != nil && e.size == len(text) {
		w.expected.Store(nil)
		for _, it := range e.events {
			f := w.hub.zip(it, w.form)
			out = append(out, f.payload()...)
			w.sum = w.sum.join(f.sum)
		}
	} else if len(text) > 0 {
		z := w.hub.zippers.take()
		out = append(out, z.deflate(text)...)
		w.hub.zippers.give(z)
		w.sum = w.sum.join(sumOf(text))
	}
	if w.out = out; cap(out) > blockSize {
		w.out = nil
	}
	if _, err := w.ResponseWriter.Write(out); err != nil {
		return 0, err
	}
	return len(text), nil
}

// finish ends the stream. Nothing else may be writing.
func (w *gzipWriter) finish() {
	if w == nil || !w.begun {
		return
	}
	_, _ = w.ResponseWriter.Write(w.sum.appendEnd(nil)) // to a client that has gone it is no matter
}
