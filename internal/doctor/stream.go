package doctor

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tidewire/tidewire/sse"
)

// maxRedirects is as many as browsers follow (Fetch, section 4.4).
const maxRedirects = 20

// errSilent says that no answer has come in time.
var errSilent = errors.New("no answer has come in time")

// An answer is what came to one request, on a connection of its own.
type answer struct {
	*http.Response
	via     []string      // URLs that redirected
	peer    string        // address of the server, or of a proxy
	connect time.Duration // to have a connection, TLS included
	sent    time.Time     // when the request had been sent
	came    time.Time     // when the headers had come
	reached atomic.Bool   // there was a connection, TLS left aside

	end func() // ends the request and its connection
}

// ask sends a request and waits for the headers of the answer, for timeout at most. end
// must be called then.
func (x *examination) ask(ctx context.Context, method, url, body string, header http.Header) (*answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	a := &answer{}
	begun := time.Now()
	var sent atomic.Pointer[time.Time] // set by another goroutine
	trace := &httptrace.ClientTrace{
		ConnectDone: func(_, _ string, err error) {
			if err == nil {
				a.reached.Store(true)
			}
		},
		GotConn: func(i httptrace.GotConnInfo) {
			a.peer, a.connect = i.Conn.RemoteAddr().String(), time.Since(begun)
		},
		WroteRequest: func(httptrace.WroteRequestInfo) {
			now := time.Now()
			sent.Store(&now)
		},
	}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), method, url, strings.NewReader(body))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	req.Header = x.header.Clone()
	if req.Header == nil {
		req.Header = make(http.Header)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	client := x.client()
	a.end = func() {
		cancel(nil)
		if a.Response != nil {
			_ = a.Body.Close()
		}
		client.CloseIdleConnections()
	}
	client.CheckRedirect = func(_ *http.Request, via []*http.Request) error {
		a.via = nil
		for _, r := range via {
			a.via = append(a.via, redacted(r.URL.String()))
		}
		if len(via) > maxRedirects {
			return errors.New("it redirects without an end")
		}
		return nil
	}
	timer := time.AfterFunc(x.timeout, func() { cancel(errSilent) })
	a.Response, err = client.Do(req)
	if !timer.Stop() && err == nil {
		err = errSilent
	}
	a.came = time.Now()
	a.sent = a.came
	if at := sent.Load(); at != nil {
		a.sent = *at
	}
	if err != nil {
		if context.Cause(ctx) == errSilent {
			err = errSilent
		}
		a.end()
		return a, err
	}
	return a, nil
}

// client returns one that connects anew, and changes no coding.
func (x *examination) client() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression = true
	t.TLSClientConfig = x.tlsConfig()
	t.TLSHandshakeTimeout = x.timeout
	return &http.Client{Transport: t}
}

func (x *examination) tlsConfig() *tls.Config {
	if x.tls == nil {
		return new(tls.Config)
	}
	return x.tls.Clone()
}

// subscription returns the headers of an EventSource's request, with a coding that it can
// take and the last id that it has seen.
func subscription(coding, lastEventID string) http.Header {
	h := http.Header{"Accept": {"text/event-stream"}, "Cache-Control": {"no-cache"}, "Accept-Encoding": {coding}}
	if lastEventID != "" {
		h.Set("Last-Event-ID", lastEventID)
	}
	return h
}

// A stream is an answer whose body is read as it comes, by a goroutine that close ends.
type stream struct {
	*answer
	coding string // of the body, "" if it is plain
	news   chan news
	done   chan struct{} // closed by close
	ended  error         // why it has, once await has come to that
}

// A news is one thing that came, when it came.
type news struct {
	at    time.Time
	bytes int        // of the body, after decompression if that is possible
	event *sse.Event // nil: only bytes, or the end
	own   bool       // the event's id is its own, and not left by one before
	retry time.Duration
	end   error // nil: it goes on; [io.EOF]: it was ended in an orderly way
}

// subscribe opens a stream. It returns the answer too where that is none.
func (x *examination) subscribe(ctx context.Context, url, coding, lastEventID string) (*stream, error) {
	a, err := x.ask(ctx, http.MethodGet, url, "", subscription(coding, lastEventID))
	if err != nil {
		return nil, err
	}
	if a.StatusCode != http.StatusOK {
		a.end()
		return nil, errors.New("it was answered " + a.Status)
	}
	return a.read(), nil
}

// read has the body be read from now on.
func (a *answer) read() *stream {
	s := &stream{answer: a, coding: strings.ToLower(a.Header.Get("Content-Encoding")), news: make(chan news, 64), done: make(chan struct{})}
	if s.coding == "identity" {
		s.coding = ""
	}
	go s.run()
	return s
}

// opaque tells whether the coding is one whose events cannot be read here: of what comes
// then there is only the time.
func (s *stream) opaque() bool { return s.coding != "" && s.coding != "gzip" }

func (s *stream) run() {
	defer close(s.news)
	in := &timedReader{r: s.Body, tell: s.tell}
	switch {
	case s.opaque():
		_, _ = io.Copy(io.Discard, in) // in knows the error
	case s.coding == "gzip":
		in.r = &lazyGzip{r: s.Body}
		fallthrough
	default:
		s.decode(in)
	}
	s.tell(news{end: in.err})
}

func (s *stream) decode(in *timedReader) {
	var numbered sse.Event // the newest with an id of its own
	dec := sse.NewDecoder(in, &sse.DecoderOptions{OnRetry: func(d time.Duration) { s.tell(news{retry: d}) }})
	for {
		ev, err := dec.Next()
		if err != nil {
			if in.err == nil {
				in.err = err // an event that is too large
			}
			return
		}
		// What has the id of the one before and is another has none.
		own := ev.ID != "" && (ev.ID != numbered.ID || ev.Type == numbered.Type && ev.Data == numbered.Data)
		if own {
			numbered = ev
		}
		s.tell(news{event: &ev, own: own})
	}
}

func (s *stream) tell(n news) {
	n.at = time.Now()
	select {
	case s.news <- n:
	case <-s.done:
	}
}

// close ends the stream, and returns when nothing reads it any more.
func (s *stream) close() {
	close(s.done)
	s.end()
	for range s.news {
	}
}

// await returns the first news that is wanted, or false when timeout is over, the stream
// or ctx has ended. each, if not nil, gets all that come.
func (s *stream) await(ctx context.Context, timeout time.Duration, each func(news), wanted func(news) bool) (news, bool) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		select {
		case n, ok := <-s.news:
			if !ok {
				return news{}, false
			}
			if n.end != nil {
				s.ended = n.end
			}
			if each != nil {
				each(n)
			}
			if wanted(n) {
				return n, true
			}
		case <-timer.C:
			return news{}, false
		case <-ctx.Done():
			return news{}, false
		}
	}
}

// ending says how a stream has ended.
func ending(err error) string {
	var large *sse.SizeError
	switch {
	case err == io.EOF:
		return "was ended"
	case errors.As(err, &large):
		return fmt.Sprintf("has an event of more than %d MiB, or a line without an end", large.Limit>>20)
	}
	return "was cut (" + err.Error() + ")"
}

func someBytes(n news) bool { return n.bytes > 0 }

// A timedReader tells of each read that brought something.
type timedReader struct {
	r    io.Reader
	tell func(news)
	err  error // the first one
}

func (t *timedReader) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if n > 0 {
		t.tell(news{bytes: n})
	}
	if err != nil && t.err == nil {
		t.err = err
	}
	return n, err
}

// A lazyGzip reads the header of a gzip stream when it is first read.
type lazyGzip struct {
	r io.Reader
	z *gzip.Reader
}

func (l *lazyGzip) Read(p []byte) (n int, err error) {
	if l.z == nil {
		if l.z, err = gzip.NewReader(l.r); err != nil {
			return 0, err
		}
	}
	return l.z.Read(p)
}
