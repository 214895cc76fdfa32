package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/internal/httploop"
)

const (
	bodyStep      = 4 << 10   // bytes that must come within BodyTimeout
	mostUnwanted  = 256 << 10 // bytes of a body that no method asks for; net/http's own bound
	relayBodyType = "text/event-stream"
)

// bodies has the bodies of requests come at some pace, also what net/http reads of them
// after an answer. A handler that gets the error of a late one should answer it, which
// [hub.Fail] does.
//
// An event stream that is relayed has no pace: who reads it clears the deadline that it
// has until then.
func (l *limiter) bodies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		timeout := l.limits.Load().BodyTimeout
		_, whole := r.Body.(*httploop.WholeBody)
		if timeout == 0 || r.Body == nil || r.Body == http.NoBody || whole {
			next.ServeHTTP(w, r)
			return
		}
		// A copy, as net/http looks at the body of its own.
		p := &pacedRequest{Request: *r, body: pacedBody{ReadCloser: r.Body, limiter: l, timeout: timeout, controller: *http.NewResponseController(w)}}
		switch r.Method {
		case http.MethodPost, http.MethodPut, http.MethodPatch:
		default:
			// Now, so that nothing is left of it or its deadline when a stream begins.
			if err := p.body.discard(); err != nil {
				w.Header().Set("Connection", "close")
				hub.Fail(w, err)
				return
			}
			p.Request.Body = http.NoBody
			next.ServeHTTP(w, &p.Request)
			return
		}
		relayed, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
		switch relayed = strings.TrimSpace(relayed); {
		case strings.EqualFold(relayed, relayBodyType):
			p.body.extend()
		case r.ProtoMajor == 1:
			p.body.extend() // as what is never read by the handler is by net/http
			fallthrough
		default:
			p.Request.Body = &p.body
		}
		next.ServeHTTP(w, &p.Request)
		if r.ProtoMajor == 1 && !p.body.ended {
			p.body.extend()
		}
	})
}

type pacedRequest struct {
	http.Request
	body pacedBody
}

// A pacedBody must bring each next 4 KiB, or its end, in time.
type pacedBody struct {
	io.ReadCloser
	limiter    *limiter
	timeout    time.Duration
	controller http.ResponseController
	left       int  // bytes until the deadline is moved
	ended      bool // and the deadline is cleared
}

func (b *pacedBody) Read(p []byte) (int, error) {
	if b.left <= 0 && !b.ended {
		b.extend()
		b.left = bodyStep
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= n
	switch {
	case err == nil || b.ended:
	case err == io.EOF:
		b.ended = true
		_ = b.controller.SetReadDeadline(time.Time{}) // a connection that is gone needs none
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = b.limiter.refuse(bodyTimeout, b.timeout, hub.ProblemTimeout, 0,
			fmt.Sprintf("the body came too slowly: each next %d bytes, or its end, must come in time (%%s); nothing was stored, send it again", bodyStep))
	}
	return n, err
}

// extend gives the body more time. Where a connection has no deadlines it has no pace.
func (b *pacedBody) extend() { _ = b.controller.SetReadDeadline(time.Now().Add(b.timeout)) }

// discard reads a body that nobody asked for.
func (b *pacedBody) discard() error {
	switch _, err := io.CopyN(io.Discard, b, mostUnwanted+1); err {
	case nil:
		return &hub.RequestError{Problem: hub.ProblemTooLarge, Detail: fmt.Sprintf("this method needs no body, and this one has more than %d bytes: send none", mostUnwanted)}
	case io.EOF:
		return nil
	default:
		return err
	}
}
