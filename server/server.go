package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/disk"
	"github.com/tidewire/tidewire/log/memory"
)

// The defaults of [Config].
const (
	DefaultListen       = "127.0.0.1:7730"
	DefaultDrainTimeout = 10 * time.Second

	// On disk, and in memory.
	DefaultRetain             = "**=age:7d"
	DefaultHistoryBytes       = 10 << 30
	DefaultMemoryRetain       = "**=count:10000,age:24h"
	DefaultMemoryHistoryBytes = 256 << 20

	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
)

// Config is what a server can be told. The zero value serves on [DefaultListen].
type Config struct {
	// Listen is the TCP address. Default: [DefaultListen]; port 0 takes any free one.
	Listen string

	// Data is the directory that keeps the history. Default: none, it is in memory.
	Data string

	// Sync says when what is published is put on the disk. Default:
	// [disk.SyncAlways].
	Sync disk.Sync

	// MinFree is how many bytes must be free on the disk. Default: that of
	// [disk.Options]; negative: none.
	MinFree int64

	// Retention says how much is kept of which topics. Default: [DefaultRetain], and
	// [DefaultMemoryRetain] in memory.
	Retention hub.RetentionRules

	// HistoryBytes bounds all topics' history together. Default:
	// [DefaultHistoryBytes], and [DefaultMemoryHistoryBytes] in memory; negative: no
	// bound.
	HistoryBytes int64

	// DrainTimeout bounds an orderly stop. Default: [DefaultDrainTimeout].
	DrainTimeout time.Duration

	// Transport says how connections come in.
	Transport Transport

	// Limits bound what clients may take.
	Limits Limits

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
	log      hub.Log
	control  *control // nil without a data directory
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
	s := &Server{drain: cfg.DrainTimeout}
	var err error
	if s.listener, err = net.Listen("tcp", cfg.Listen); err != nil {
		return nil, fmt.Errorf("%w: choose another address with --listen", err)
	}
	if err := s.open(&cfg); err != nil {
		return nil, errors.Join(err, s.listener.Close())
	}
	limit := cfg.Hub.Limits.HeaderSize
	if limit == 0 {
		limit = hub.DefaultMaxHeaderSize
	}
	s.http = &http.Server{
		Handler:           cfg.Handler(s.hub),
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		// The hub's own limit answers with a problem document; this one is behind it.
		MaxHeaderBytes: 4 * limit,
	}
	return s, nil
}

// open opens the log, and the hub over it.
func (s *Server) open(c *Config) (err error) {
	if s.log, err = c.openLog(); err != nil {
		return err
	}
	c.Hub.Log = s.log
	if s.hub, err = hub.New(&c.Hub); err != nil {
		return errors.Join(err, s.log.Close())
	}
	if d, ok := s.log.(*disk.Log); ok {
		if s.control, err = newControl(d); err != nil {
			// Such as where the path is longer than a socket's can be.
			slog.Warn("no backup can be taken while the server runs", "error", err)
		}
	}
	return nil
}

func (c *Config) defaults() error {
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	retain, history := DefaultRetain, int64(DefaultHistoryBytes)
	if c.Data == "" {
		retain, history = DefaultMemoryRetain, DefaultMemoryHistoryBytes
	}
	if c.Retention == nil {
		rule, err := ParseRetain(retain)
		if err != nil {
			return err
		}
		c.Retention = hub.RetentionRules{rule}
	}
	if c.HistoryBytes == 0 {
		c.HistoryBytes = history
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
	if c.Handler == nil {
		c.Handler = withPage
	}
	return nil
}

func (c *Config) openLog() (hub.Log, error) {
	most := max(c.HistoryBytes, 0)
	if c.Data == "" {
		return memory.New(&memory.Options{Retention: c.Retention, MaxBytes: most})
	}
	return disk.Open(c.Data, &disk.Options{Retention: c.Retention, MaxBytes: most, Sync: c.Sync, MinFree: c.MinFree})
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
	go func() { stopped <- s.http.Shutdown(grace) }()
	errs = append(errs, s.hub.Shutdown(grace), <-stopped)
	if grace.Err() != nil {
		errs = append(errs, s.http.Close())
	}
	if s.control != nil {
		errs = append(errs, s.control.close())
	}
	errs = append(errs, s.log.Close())
	for i, err := range errs {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			errs[i] = nil // what is cut was meant to be
		}
	}
	return errors.Join(errs...)
}
