package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
)

// The defaults of [Config].
const (
	DefaultListen       = "127.0.0.1:7730"
	DefaultRetain       = "**=count:10000,age:24h"
	DefaultHistoryBytes = 256 << 20
	DefaultDrainTimeout = 10 * time.Second

	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
)

// Config is what a server can be told. The zero value serves on [DefaultListen].
type Config struct {
	// Listen is the TCP address. Default: [DefaultListen]; port 0 takes any free one.
	Listen string

	// Retention says how much is kept of which topics. Default: [DefaultRetain].
	Retention hub.RetentionRules

	// HistoryBytes bounds all topics' history together. Default:
	// [DefaultHistoryBytes]; negative: no bound.
	HistoryBytes int64

	// DrainTimeout bounds an orderly stop. Default: [DefaultDrainTimeout].
	DrainTimeout time.Duration

	// Hub has the options of the hub. Its Log is made by the server.
	Hub hub.Options

	// Handler, if not nil, makes the handler from the hub: for a page beside it.
	// Default: the hub, and a page at / that says how to use it.
	Handler func(*hub.Hub) http.Handler
}

// A Server is a daemon that listens.
type Server struct {
	drain    time.Duration
	listener net.Listener
	log      *memory.Log
	hub      *hub.Hub
	http     *http.Server
}

// New makes a server and has it listen. Run must be called then.
func New(c *Config) (*Server, error) {
	var cfg Config
	if c != nil {
		cfg = *c
	}
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	log, err := memory.New(&memory.Options{Retention: cfg.Retention, MaxBytes: max(cfg.HistoryBytes, 0)})
	if err != nil {
		return nil, err
	}
	cfg.Hub.Log = log
	h, err := hub.New(&cfg.Hub)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	s := &Server{drain: cfg.DrainTimeout, log: log, hub: h}
	if s.listener, err = net.Listen("tcp", cfg.Listen); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: choose another address with --listen", err), s.close(context.Background()))
	}
	limit := cfg.Hub.Limits.HeaderSize
	if limit == 0 {
		limit = hub.DefaultMaxHeaderSize
	}
	s.http = &http.Server{
		Handler:           cfg.Handler(h),
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		// The hub's own limit answers with a problem document; this one is behind it.
		MaxHeaderBytes: 4 * limit,
	}
	return s, nil
}

func (c *Config) defaults() error {
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if c.Retention == nil {
		rule, err := ParseRetain(DefaultRetain)
		if err != nil {
			return err
		}
		c.Retention = hub.RetentionRules{rule}
	}
	if c.HistoryBytes == 0 {
		c.HistoryBytes = DefaultHistoryBytes
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
	if c.Handler == nil {
		c.Handler = withPage
	}
	return nil
}

// URL returns the address of the server, such as "http://127.0.0.1:7730".
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Run serves until ctx ends, and then stops in an orderly way: subscribers are told to
// come back a little later, each at another time, and requests under way are finished.
// When cut ends, or DrainTimeout is over, what is left is cut off.
func (s *Server) Run(ctx, cut context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	var failed error
	select {
	case failed = <-served:
		failed = fmt.Errorf("serve: %w", failed)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(cut, s.drain)
	defer cancel()
	return errors.Join(failed, s.close(grace))
}

// close stops everything.
func (s *Server) close(grace context.Context) error {
	// The listener first, so that those who are sent away do not come back at once.
	var errs []error
	stopped := make(chan error, 1)
	if s.http != nil {
		go func() { stopped <- s.http.Shutdown(grace) }()
	} else {
		stopped <- nil
	}
	errs = append(errs, s.hub.Shutdown(grace), <-stopped)
	if s.http != nil && grace.Err() != nil {
		errs = append(errs, s.http.Close())
	}
	errs = append(errs, s.log.Close())
	for i, err := range errs {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			errs[i] = nil // what is cut was meant to be
		}
	}
	return errors.Join(errs...)
}
