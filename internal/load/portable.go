package load

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A portableClient goes through net/http, with a goroutine for each subscriber and
// publisher.
type portableClient struct {
	run       *run
	http      *http.Client
	transport *http.Transport
	dropping  atomic.Bool
	cut       context.CancelFunc
	readers   sync.WaitGroup
}

func newPortableClient(r *run) *portableClient {
	c := &portableClient{run: r, transport: newTransport(r.opts.Publishers), cut: func() {}}
	c.http = newHTTPClient(c.transport)
	return c
}

const portableRead = 8 << 10 // bytes; there is one for each subscriber

func (c *portableClient) connect(ctx context.Context, resume bool, most int) *opened {
	streams, cut := context.WithCancel(context.Background())
	c.cut = cut
	c.dropping.Store(false)
	turns := make(chan struct{}, max(1, most))
	// A limit for the whole would be too short for many, and one for each too long.
	progress := time.AfterFunc(c.run.opts.Patience, cut)
	defer progress.Stop()
	stop := context.AfterFunc(ctx, cut)
	defer stop()
	var (
		mu    sync.Mutex
		all   = &opened{heads: new(histogram)}
		heads sync.WaitGroup
	)
	for n, y := range c.run.tallies {
		share := c.run.share(n)
		for i := range share {
			s := &share[i]
			turns <- struct{}{}
			heads.Add(1)
			c.readers.Go(func() {
				begin := c.run.now()
				body, err := c.subscribe(streams, s, resume)
				<-turns
				if err != nil && streams.Err() != nil {
					err = fmt.Errorf("no answer within %v", c.run.opts.Patience)
				}
				mu.Lock()
				if err != nil {
					all.failed++
					all.err = cmp.Or(all.err, err)
				} else {
					all.n++
					all.heads.add(c.run.now() - begin)
					progress.Reset(c.run.opts.Patience)
				}
				mu.Unlock()
				if err != nil {
					if resume && ctx.Err() == nil {
						y.couldNotReturn(err)
					}
					heads.Done()
					return
				}
				c.run.connected.Add(1)
				heads.Done()
				c.read(y, s, body)
			})
		}
	}
	heads.Wait()
	return all
}

// subscribe returns the body of a stream.
func (c *portableClient) subscribe(ctx context.Context, s *subscriber, resume bool) (io.ReadCloser, error) {
	req, err := c.run.target.request(ctx, http.MethodGet, topicNumber(s.topic), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	if resume && len(s.id) > 0 {
		req.Header.Set("Last-Event-ID", string(s.id))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	media := resp.Header.Get("Content-Type")
	h, err := parseHeadLines([]byte("HTTP/1.1 200\r\nContent-Type: " + media + "\r\n"))
	if resp.StatusCode == http.StatusOK && err == nil && h.eventStream {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil, ErrNotHub
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusalBody)) // what there is of it
	return nil, &StatusError{"subscribing", resp.StatusCode, media, body}
}

// read takes a stream to its end.
func (c *portableClient) read(y *tally, s *subscriber, body io.ReadCloser) {
	defer c.run.connected.Add(-1)
	defer body.Close()
	s.parser, s.carry = eventParser{}, s.carry[:0]
	buf := make([]byte, portableRead)
	for {
		// In front there must be room for what is left over.
		room := len(s.carry)
		if len(buf) < room+portableRead {
			buf = make([]byte, room+portableRead)
		}
		n, err := body.Read(buf[room:])
		if n > 0 {
			if err := y.feed(s, buf[:room+n], room, c.run.now()); err != nil {
				y.closedBy(err)
				return
			}
		}
		if c.dropping.Load() {
			return
		}
		if err != nil {
			y.closedBy(nil)
			return
		}
	}
}

func (c *portableClient) drop() {
	c.dropping.Store(true)
	c.cut()
	c.readers.Wait()
}

func (c *portableClient) close() error {
	c.drop()
	c.transport.CloseIdleConnections()
	return nil
}

func (c *portableClient) publish(s *schedule) error {
	var publishing sync.WaitGroup
	for _, p := range c.run.pubs {
		publishing.Go(func() {
			for !s.stopped.Load() {
				sh, ok := p.aim(s, c.run.now())
				if !ok {
					return
				}
				if s.wait(sh.due); s.stopped.Load() {
					return
				}
				c.shoot(s, p, sh)
			}
		})
	}
	publishing.Wait()
	return nil
}

// shoot sends one request.
func (c *portableClient) shoot(s *schedule, p *publisher, sh shot) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), c.run.opts.Patience, fmt.Errorf("no answer within %v", c.run.opts.Patience))
	defer cancel()
	request := p.encoder.encode(sh)
	// What is written for the last request may still be read by the transport.
	req, err := c.run.target.request(ctx, http.MethodPost, topicNumber(sh.stream.topic), bytes.NewReader(bytes.Clone(request[p.encoder.body:])))
	if err != nil {
		s.broke(sh, err)
		return
	}
	req.Header.Set("Content-Type", p.encoder.media)
	sh.sent = c.run.now()
	resp, err := c.http.Do(req)
	if err != nil {
		s.broke(sh, timedOut(ctx, err))
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		s.broke(sh, errors.Join(context.Cause(ctx), err))
	case resp.StatusCode/100 != 2:
		s.answered(p, sh, c.run.now(), &StatusError{"publishing", resp.StatusCode, resp.Header.Get("Content-Type"), body[:min(len(body), maxRefusalBody)]})
	default:
		s.answered(p, sh, c.run.now(), nil)
	}
}
