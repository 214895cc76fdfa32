package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/tidewire/tidewire/sse"
)

const (
	// keepAlive is how often an idle body gets a comment, for proxies and servers
	// that give up one on which nothing comes.
	keepAlive = 15 * time.Second

	// confirmTimeout bounds the wait for the hub's answer after an interrupt.
	confirmTimeout = 10 * time.Second
)

// A publisher sends one request.
type publisher struct {
	target string
	header http.Header
	client *http.Client
}

// An answer is what a hub says to what it has taken.
type answer struct {
	body  []byte
	id    string // of the last event, "" if it is not known
	count *int   // of a stream's events, nil if it is not known
}

// once publishes one event.
func (p *publisher) once(ctx context.Context, data []byte) (answer, error) {
	req, err := p.newRequest(ctx, bytes.NewReader(data))
	if err != nil {
		return answer{}, err
	}
	if len(data) > expectAbove {
		req.Header.Set("Expect", "100-continue")
	}
	a, err := p.do(req)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		if errors.Is(cause, context.Canceled) {
			cause = errors.New("interrupted before the hub had answered")
		}
		return answer{}, fmt.Errorf("%w: the event may be published, or not", cause)
	}
	return a, err
}

func (p *publisher) newRequest(ctx context.Context, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.target, body)
	if err != nil {
		return nil, err
	}
	req.Header = p.header
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host // net/http takes it from there only
	}
	return req, nil
}

// do sends a request and reads the answer.
func (p *publisher) do(req *http.Request) (answer, error) {
	resp, err := p.client.Do(req)
	if err != nil {
		return answer{}, p.failure(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case resp.StatusCode/100 == 3:
		return answer{}, fmt.Errorf("%s: give the hub's own URL with --url", refusal("the hub", resp.StatusCode, resp.Header, nil))
	case resp.StatusCode/100 != 2:
		return answer{}, errors.New(refusal("the hub", resp.StatusCode, resp.Header, body))
	case err != nil:
		return answer{}, fmt.Errorf("the hub has taken it, but its answer broke off: %w", err)
	}
	return parseAnswer(body), nil
}

// failure says why there is no answer.
func (p *publisher) failure(err error) error {
	text := connectionReason(p.target, err)
	if unreachable(err) {
		text += startOne
	}
	return errors.New(text)
}

// startOne follows a message that no hub was found.
const startOne = `; start a hub with "tidewire serve", or name another with --url`

// parseAnswer reads an answer of a hub; of any other server it may say nothing.
func parseAnswer(body []byte) answer {
	var a struct {
		ID   string `json:"id"`
		Last struct {
			ID string `json:"id"`
		} `json:"last"`
		Count *int `json:"count"`
	}
	_ = json.Unmarshal(body, &a) // what it does not say stays empty
	if a.ID == "" {
		a.ID = a.Last.ID
	}
	return answer{body: body, id: a.ID, count: a.Count}
}

// An encoder makes a body of what has been read.
type encoder interface {
	// encode appends what is to be sent after a chunk of the input; end says that
	// there is no further one.
	encode(dst, chunk []byte, end bool) ([]byte, error)

	// idle appends what keeps an idle body open.
	idle(dst []byte) []byte
}

// stream publishes what arrives on in until it ends or ctx does, and returns what the
// hub says of it. inputErr is why the input could not be read to its end; what came
// before it is published.
func (p *publisher) stream(ctx context.Context, in io.Reader, enc encoder) (_ answer, inputErr, _ error) {
	reqCtx, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	stopWaiting := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(confirmTimeout, giveUp)
		context.AfterFunc(reqCtx, func() { timer.Stop() })
	})
	defer stopWaiting()

	r, w := io.Pipe()
	req, err := p.newRequest(reqCtx, r)
	if err != nil {
		return answer{}, nil, err
	}
	// The hub can say no at once and not only after the first line, and a bad
	// connection is noticed as soon.
	req.Header.Set("Expect", "100-continue")
	type result struct {
		answer
		err error
	}
	done := make(chan result, 1)
	answered := make(chan struct{})
	go func() {
		a, err := p.do(req)
		_ = r.Close() // ends a write that nobody reads; it never fails
		done <- result{a, err}
		close(answered)
	}()

	complete, inputErr := send(ctx, in, enc, w, answered)
	res := <-done
	switch {
	case res.err != nil && reqCtx.Err() != nil:
		return answer{}, nil, fmt.Errorf("interrupted, and the hub has not confirmed within %s what was sent", confirmTimeout)
	case res.err != nil:
		return answer{}, nil, res.err
	case !complete:
		return answer{}, nil, errors.New("the hub answered before the input had ended: what came after is not published")
	}
	return res.answer, inputErr, nil
}

// send writes the input to the body as it arrives, and reports whether it came to the
// body's end before an answer did.
func send(ctx context.Context, in io.Reader, enc encoder, w *io.PipeWriter, answered <-chan struct{}) (complete bool, inputErr error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer func() { _ = w.Close() }() // it never fails
	chunks := arriving(ctx, in)
	idle := time.NewTicker(keepAlive)
	defer idle.Stop()
	var buf []byte
	for {
		var c chunk
		buf = buf[:0]
		select {
		case <-answered:
			return false, nil
		case <-ctx.Done():
			return true, nil // without half a line
		case <-idle.C:
			buf = enc.idle(buf)
		case c = <-chunks:
			idle.Reset(keepAlive)
			buf, inputErr = enc.encode(buf, c.bytes, c.err == io.EOF)
			if inputErr == nil && c.err != nil && c.err != io.EOF {
				inputErr = fmt.Errorf("cannot read on, but what came before is published: %w", c.err)
			}
		}
		if len(buf) > 0 {
			if _, err := w.Write(buf); err != nil {
				return false, nil // there is an answer, which says why
			}
		}
		if c.err != nil || inputErr != nil {
			return true, inputErr
		}
	}
}

// relayed is a stream of events that goes through as it is, its own keep-alives too.
type relayed struct{}

func (relayed) encode(dst, chunk []byte, _ bool) ([]byte, error) { return append(dst, chunk...), nil }

func (relayed) idle(dst []byte) []byte { return dst }

// lineEvents makes an event of each line, and of a last one without a line break.
type lineEvents struct {
	event   sse.Event // with the type of all
	partial []byte
	lines   int
}

func (l *lineEvents) idle(dst []byte) []byte { return sse.AppendComment(dst, "") }

func (l *lineEvents) encode(dst, chunk []byte, end bool) ([]byte, error) {
	for {
		line, rest, found := bytes.Cut(chunk, []byte("\n"))
		if len(l.partial)+len(line) > maxInput {
			return dst, fmt.Errorf("line %d of the input is longer than %d MiB: the lines before it are published", l.lines+1, maxInput>>20)
		}
		if !found {
			l.partial = append(l.partial, line...)
			break
		}
		var err error
		if dst, err = l.add(dst, line); err != nil {
			return dst, err
		}
		chunk = rest
	}
	if end && len(l.partial) > 0 {
		return l.add(dst, nil)
	}
	return dst, nil
}

// add appends the event of a line whose beginning may be in partial.
func (l *lineEvents) add(dst, line []byte) ([]byte, error) {
	if len(l.partial) > 0 {
		l.partial = append(l.partial, line...)
		line = l.partial
	}
	l.lines++
	l.event.Data = string(bytes.TrimSuffix(line, []byte("\r")))
	l.partial = l.partial[:0]
	return sse.AppendEvent(dst, l.event)
}

// A chunk is what one Read has brought. Its bytes are valid until the next is received.
type chunk struct {
	bytes []byte
	err   error
}

// arriving reads r in a goroutine and hands on what comes as it comes, up to and with
// the first error. The goroutine ends with ctx; but a Read that is under way is left
// behind, as nothing ends one of a terminal or an inherited pipe.
func arriving(ctx context.Context, r io.Reader) <-chan chunk {
	chunks := make(chan chunk)
	go func() {
		var bufs [2][32 << 10]byte // one is read into while the other is looked at
		for i := 0; ; i = 1 - i {
			n, err := r.Read(bufs[i][:])
			select {
			case chunks <- chunk{bufs[i][:n], err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return chunks
}
