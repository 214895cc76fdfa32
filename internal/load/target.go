package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A target is the hub that a run is aimed at.
type target struct {
	peer      bool   // it is none of ours
	origin    string // the URL's scheme and host
	subscribe place  // the paths
	publish   place
	host      string
	header    http.Header // of every request
	headers   []byte      // the same, on the wire, with Host
	address   netip.AddrPort
	local     bool // it is on this machine
}

func newTarget(o *Options, prefix string) *target {
	t := &target{
		peer:   o.Peer != nil,
		origin: o.URL.Scheme + "://" + o.URL.Host,
		host:   o.URL.Host,
		header: o.Header.Clone(),
	}
	if t.header == nil {
		t.header = http.Header{}
	}
	t.subscribe, t.publish = o.places(prefix)
	if user := o.URL.User; user != nil && t.header.Get("Authorization") == "" {
		password, _ := user.Password()
		r := http.Request{Header: t.header}
		r.SetBasicAuth(user.Username(), password)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Host: %s\r\n", t.host)
	for name, values := range t.header {
		for _, v := range values {
			fmt.Fprintf(&b, "%s: %s\r\n", name, v)
		}
	}
	t.headers = []byte(b.String())
	return t
}

// A StatusError is an answer that is no success.
type StatusError struct {
	Doing  string // such as "publishing"
	Status int
	Media  string // the Content-Type
	Body   []byte // the beginning
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: the server answered %d", e.Doing, e.Status)
}

// Header returns what counts of the answer's.
func (e *StatusError) Header() http.Header { return http.Header{"Content-Type": {e.Media}} }

// ErrNotHub says that a server is none of ours.
var ErrNotHub = errors.New("the server has answered like no hub: a publish is answered 201, with a position, and a subscription with text/event-stream")

// maxRefusalBody is how much of a refusal is kept, in bytes.
const maxRefusalBody = 4 << 10

// newTransport returns what net/http speaks with, as the raw client does: a connection
// each for what is under way at once, and no proxy.
func newTransport(most int) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{Protocols: protocols, DisableCompression: true, MaxIdleConnsPerHost: most}
}

func newHTTPClient(transport *http.Transport) *http.Client {
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// request makes one to a topic.
func (t *target) request(ctx context.Context, method, topic string, body io.Reader) (*http.Request, error) {
	path := t.publish
	if method == http.MethodGet {
		path = t.subscribe
	}
	req, err := http.NewRequestWithContext(ctx, method, t.origin+path.of(topic), body)
	if err == nil {
		req.Header = t.header.Clone()
	}
	return req, err
}

// probe publishes one event, to a topic that is none of the run's, so that all that is
// wrong in general is told at once. It learns the server's address.
func (t *target) probe(ctx context.Context, client *http.Client, patience time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer within %v", patience))
	defer cancel()
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		remote, ok1 := c.Conn.RemoteAddr().(*net.TCPAddr)
		local, ok2 := c.Conn.LocalAddr().(*net.TCPAddr)
		if ok1 && ok2 {
			t.address = remote.AddrPort()
			t.address = netip.AddrPortFrom(t.address.Addr().Unmap(), t.address.Port())
			t.local = remote.IP.IsLoopback() || remote.IP.Equal(local.IP)
		}
	}})
	req, err := t.request(traced, http.MethodPost, "probe", strings.NewReader("probe"))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "text/plain")
	resp, err := client.Do(req)
	if err != nil {
		return timedOut(ctx, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusalBody))
	if err != nil {
		return timedOut(ctx, err)
	}
	var said struct{ Position string }
	switch {
	case resp.StatusCode/100 != 2:
		return &StatusError{"publishing", resp.StatusCode, resp.Header.Get("Content-Type"), body}
	case t.peer:
	case resp.StatusCode != http.StatusCreated, json.Unmarshal(body, &said) != nil, said.Position == "":
		return ErrNotHub
	}
	return nil
}

// timedOut puts in words what a context's end has done.
func timedOut(ctx context.Context, err error) error {
	var u *url.Error
	if errors.Is(err, context.DeadlineExceeded) && errors.As(err, &u) {
		u.Err = context.Cause(ctx)
	}
	return err
}

// forget deletes the run's topics, and returns how many it could not.
func (t *target) forget(ctx context.Context, client *http.Client, topics int) (left int) {
	const workers = 8
	names := make(chan string)
	var failed atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for name := range names {
				if t.delete(ctx, client, name) != nil {
					failed.Add(1)
				}
			}
		})
	}
	names <- "probe"
	for n := range topics {
		names <- topicNumber(n)
	}
	close(names)
	wg.Wait()
	return int(failed.Load())
}

func (t *target) delete(ctx context.Context, client *http.Client, topic string) error {
	req, err := t.request(ctx, http.MethodDelete, topic, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return &StatusError{Doing: "deleting", Status: resp.StatusCode}
	}
	return nil
}

func topicNumber(n int) string {
	b := make([]byte, topicSize)
	putNumber(b, int64(n))
	return string(b)
}

// appendSubscribe appends the request of a subscriber.
func (t *target) appendSubscribe(b []byte, s *subscriber, resume bool) []byte {
	b = append(b, "GET "...)
	b = append(b, t.subscribe.before...)
	b = append(b, topicNumber(s.topic)...)
	b = append(b, t.subscribe.after...)
	b = append(b, " HTTP/1.1\r\n"...)
	b = append(b, t.headers...)
	b = append(b, "Accept: text/event-stream\r\n"...)
	if resume && len(s.id) > 0 {
		b = append(b, "Last-Event-ID: "...)
		b = append(b, s.id...)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// A DescriptorError says that the process may not open so many connections.
type DescriptorError struct{ Need, Limit, Fits int }

func (e *DescriptorError) Error() string {
	return fmt.Sprintf("so many connections need %s descriptors, and this process may have %s: --subscribers %d would fit, or raise the limit (ulimit -Hn, or LimitNOFILE= of systemd)", Count(int64(e.Need)), Count(int64(e.Limit)), e.Fits)
}
