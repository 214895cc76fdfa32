package main

import (
	"context"
	"log"
	"net/http"
	"net/url"
	"sync"

	"github.com/tidewire/tidewire/eventsource"
)

// typeMessage is the type that every client listens to.
const typeMessage = "message"

// A client is one source whose news goes to a callback URL.
type client struct {
	source    *eventsource.Source
	callbacks *callbacks
	ctx       context.Context
	cancel    context.CancelFunc
	done      chan struct{}

	mu    sync.Mutex
	types map[string]bool // listened to
}

// newClient opens a source; run must be called then. An error is the parameters'
// fault.
func newClient(ctx context.Context, p *clientParams, hc *http.Client, logger *log.Logger) (*client, error) {
	base, err := url.Parse(p.CallbackURL)
	if err != nil {
		return nil, err
	}
	c := &client{
		callbacks: newCallbacks(base, p.Tag, hc, logger),
		done:      make(chan struct{}),
		types:     map[string]bool{typeMessage: true},
	}
	opts := p.options()
	opts.HTTPClient = hc
	opts.OnMessage = c.callbacks.event
	opts.OnComment = c.callbacks.comment
	opts.OnError = c.callbacks.error
	c.ctx, c.cancel = context.WithCancel(ctx)
	if c.source, err = eventsource.Open(c.ctx, p.StreamURL, opts); err != nil {
		c.cancel()
		return nil, err
	}
	return c, nil
}

// run delivers callbacks until stop or the end of the context. When it returns,
// the source has ended too.
func (c *client) run() {
	defer close(c.done)
	c.callbacks.deliver(c.ctx)
	_ = c.source.Close() // always nil
	<-c.source.Done()    // Close does not wait for a callback that is running
}

// stop ends the client and returns when run has. Callbacks that were not yet
// delivered are dropped.
func (c *client) stop() {
	c.cancel()
	<-c.done
}

// restart drops the connection and connects anew.
func (c *client) restart() { c.source.Reconnect() }

// listen makes the client tell of events of that type, once each however often
// it is asked to.
func (c *client) listen(typ string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.types[typ] {
		c.types[typ] = true
		c.source.AddEventListener(typ, c.callbacks.event)
	}
}
