package eventsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"

	"github.com/tidewire/tidewire/sse"
)

// ResponseOptions configure [Do]; nil and zero fields mean the defaults.
type ResponseOptions struct {
	// Terminal tells the event that completes the answer, such as one whose data
	// is "[DONE]". It is yielded, and nothing after it is read; an answer that
	// ends without it was cut off. Default: nil, and any end between two events
	// completes the answer.
	Terminal func(sse.Event) bool

	// IdleTimeout ends the answer with [ErrIdleTimeout] if no byte has come
	// for so long, headers included. Default: none.
	IdleTimeout time.Duration

	// MaxEventSize bounds one event in bytes; see [sse.DecoderOptions].
	MaxEventSize int
}

// Do sends a request with c ([http.DefaultClient] if nil) and reads its answer,
// which is a finite stream of events: what a language model writes, or the
// progress of a job. It never repeats the request.
//
// It returns when the headers are in. Without an error the caller must range over
// the events, once, or close the body. They end when the answer is whole, and
// otherwise with an error as the last pair, which wraps [ErrTruncated] if the
// answer was cut off. An answer that is no stream is a *[StatusError], a
// *[ContentTypeError], or [ErrNoContent]; the response is then returned too, its
// body closed.
//
// Accept: text/event-stream is added unless the request has another. Redirects,
// cookies and Timeout are as c has them.
func Do(c *http.Client, req *http.Request, opts *ResponseOptions) (*http.Response, iter.Seq2[sse.Event, error], error) {
	if c == nil {
		c = http.DefaultClient
	}
	var o ResponseOptions
	if opts != nil {
		o = *opts
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	own := req.Clone(ctx)
	if own.Header == nil {
		own.Header = make(http.Header)
	}
	setMissing(own.Header, "Accept", "text/event-stream")
	conn, resp, err := dial(ctx, cancel, c, own, o.IdleTimeout, &sse.DecoderOptions{MaxEventSize: o.MaxEventSize})
	if err != nil {
		return resp, nil, err
	}
	resp.Body = closer{resp.Body, cancel}
	return resp, conn.answer(req.Context(), o.Terminal), nil
}

// A closer is the body of an answer that nobody ranged over.
type closer struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (c closer) Close() error {
	c.cancel(nil)
	return c.ReadCloser.Close()
}

// answer returns the events of a finite stream.
func (c *connection) answer(ctx context.Context, terminal func(sse.Event) bool) iter.Seq2[sse.Event, error] {
	return func(yield func(sse.Event, error) bool) {
		defer c.close()
		for {
			ev, err := c.next()
			if err == io.EOF && terminal == nil {
				return
			}
			if err != nil {
				yield(ev, truncated(ctx, err))
				return
			}
			if !yield(ev, nil) || terminal != nil && terminal(ev) {
				return
			}
		}
	}
}

// truncated says why an answer is not whole.
func truncated(ctx context.Context, err error) error {
	var tooLarge *sse.SizeError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("eventsource: %w", context.Cause(ctx))
	case errors.As(err, &tooLarge):
		return err
	case err == io.EOF:
		return fmt.Errorf("%w: it ended before its terminal event: %w", ErrTruncated, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("%w: %w", ErrTruncated, err)
}
