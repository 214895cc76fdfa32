package eventsource

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/tidewire/tidewire/sse"
)

// A connection is one answer that is being read.
type connection struct {
	resp   *http.Response
	body   *watchedReader
	dec    *sse.Decoder
	origin string
	opened time.Time
	cancel context.CancelCauseFunc
	ctx    context.Context
}

// dial sends a request and waits for the headers of a stream. The request must be
// made with ctx, which cancel ends.
func dial(ctx context.Context, cancel context.CancelCauseFunc, c *http.Client, req *http.Request, idle time.Duration, opts *sse.DecoderOptions) (*connection, *http.Response, error) {
	watch := newWatchdog(idle, cancel)
	watch.start()
	resp, err := c.Do(req)
	watch.stop()
	if err == nil {
		err = refusal(resp, func() { cancel(nil) })
		if err != nil {
			_ = resp.Body.Close() // the refusal matters more
		}
	}
	if err != nil {
		err = cause(ctx, err)
		cancel(nil)
		return nil, resp, err
	}
	body := &watchedReader{r: resp.Body, watch: watch}
	return &connection{
		resp:   resp,
		body:   body,
		dec:    sse.NewDecoder(body, opts),
		origin: origin(resp.Request.URL),
		opened: time.Now(),
		cancel: cancel,
		ctx:    ctx,
	}, resp, nil
}

// next returns the next event, or why the stream has ended.
func (c *connection) next() (sse.Event, error) {
	ev, err := c.dec.Next()
	if err != nil {
		return ev, cause(c.ctx, err)
	}
	return ev, nil
}

// close gives the connection up. The context first: closing a body can otherwise
// wait for the rest of it.
func (c *connection) close() {
	c.cancel(nil)
	_ = c.resp.Body.Close() // there is nobody left to tell
}

// cause returns why ctx was ended if that is one of our own reasons, else err.
func cause(ctx context.Context, err error) error {
	switch c := context.Cause(ctx); c {
	case ErrIdleTimeout, errReconnect:
		return c
	}
	return err
}

// A watchdog ends a connection that is silent for too long while someone waits.
type watchdog struct {
	timer *time.Timer // nil: no limit
	limit time.Duration
}

func newWatchdog(limit time.Duration, cancel context.CancelCauseFunc) *watchdog {
	w := &watchdog{limit: limit}
	if limit > 0 {
		w.timer = time.AfterFunc(limit, func() { cancel(ErrIdleTimeout) })
	}
	return w
}

func (w *watchdog) start() {
	if w.timer != nil {
		w.timer.Reset(w.limit)
	}
}

func (w *watchdog) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// A watchedReader runs the watchdog while it reads, and not while the application
// deals with what was read.
type watchedReader struct {
	r      io.Reader
	watch  *watchdog
	before func() // called before each Read; may be nil
}

func (r *watchedReader) Read(p []byte) (int, error) {
	if r.before != nil {
		r.before()
	}
	r.watch.start()
	defer r.watch.stop()
	return r.r.Read(p)
}
