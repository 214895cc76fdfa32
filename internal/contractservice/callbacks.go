package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"github.com/tidewire/tidewire/eventsource"
)

// A message is the body of one callback. Just one of the pointers is set, so that
// an empty comment is told too.
type message struct {
	Kind    string        `json:"kind"`
	Event   *eventMessage `json:"event,omitempty"`
	Comment *string       `json:"comment,omitempty"`
	Error   *string       `json:"error,omitempty"`
}

type eventMessage struct {
	Type string `json:"type"`
	Data string `json:"data"`
	ID   string `json:"id"`
}

// callbacks deliver a client's news one at a time and in order. The queue has no
// bound: a source that waited for the harness would be another than the one to be
// tested.
type callbacks struct {
	base  *url.URL
	tag   string
	http  *http.Client
	log   *log.Logger
	ready chan struct{} // has one element if there may be something in queue

	mu    sync.Mutex
	queue []message
}

func newCallbacks(base *url.URL, tag string, hc *http.Client, logger *log.Logger) *callbacks {
	return &callbacks{base: base, tag: tag, http: hc, log: logger, ready: make(chan struct{}, 1)}
}

func (c *callbacks) event(ev eventsource.MessageEvent) {
	c.put(message{Kind: "event", Event: &eventMessage{Type: ev.Type, Data: ev.Data, ID: ev.ID}})
}

func (c *callbacks) comment(text string) {
	c.put(message{Kind: "comment", Comment: &text})
}

func (c *callbacks) error(ev eventsource.ErrorEvent) {
	c.put(message{Kind: "error", Error: new(ev.Err.Error())})
}

func (c *callbacks) put(m message) {
	c.mu.Lock()
	c.queue = append(c.queue, m)
	c.mu.Unlock()
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// take waits for the next message. It returns false once ctx has ended.
func (c *callbacks) take(ctx context.Context) (message, bool) {
	for ctx.Err() == nil {
		if m, ok := c.pop(); ok {
			return m, true
		}
		select {
		case <-c.ready:
		case <-ctx.Done():
		}
	}
	return message{}, false
}

func (c *callbacks) pop() (message, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return message{}, false
	}
	m := c.queue[0]
	c.queue[0] = message{} // megabytes, perhaps
	c.queue = c.queue[1:]
	return m, true
}

// deliver posts the messages until ctx ends. One that the harness refuses has had
// its number and is not sent again.
func (c *callbacks) deliver(ctx context.Context) {
	for n := 1; ; n++ {
		m, ok := c.take(ctx)
		if !ok {
			return
		}
		if err := c.post(ctx, n, m); err != nil && ctx.Err() == nil {
			c.log.Printf("test %q: callback %d: %v", c.tag, n, err)
		}
	}
}

func (c *callbacks) post(ctx context.Context, n int, m message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	u := c.base.JoinPath(strconv.Itoa(n)).String()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err // names method and URL
	}
	// Read to its end, or the connection cannot be used for the next one.
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close() // after its end there is nothing to fail
	if err != nil {
		return fmt.Errorf("post %s: read answer: %w", u, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("post %s: answered %s", u, resp.Status)
	}
	return nil
}
