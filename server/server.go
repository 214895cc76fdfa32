package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
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

	readHeaderTimeout = 10 * time.Second // of the control socket
)

// Config is what a server can be told. The zero value serves on [DefaultListen].
type Config struct {
	// Listen is the TCP address, or "unix:" and the path of a socket, which its owner and
	// group can connect to. Default: [DefaultListen]; port 0 takes any free one.
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

	// Access says who may come in. Default: anyone may do everything, but for private
	// events. Who has it listen where others can reach it should say more.
	Access *Access

	// Hub has the options of the hub. Its Log is made by the server.
	Hub hub.Options

	// Handler, if not nil, makes the handler from the hub: for a page beside it.
	// Default: the hub, and a page at / that says how to use it.
	Handler func(*hub.Hub) http.Handler
}

// A Server is a daemon that listens.
type Server struct {
	drain     time.Duration
	front     *front
	limiter   *limiter
	gate      *gate
	ending    sync.WaitGroup // of streams, by what must not wait for that
	stop      func()         // ends endRevoked
	listener  net.Listener
	givenBack *givenBack
	log       hub.Log
	control   *control // nil without a data directory
	hub       *hub.Hub
	http      *http.Server
	loop      loop // nil: all connections are http's
}

// A loop serves connections beside net/http.
type loop interface {
	Run()
	Shutdown(context.Context) error
	Close() error
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
	s := &Server{drain: cfg.DrainTimeout, limiter: newLimiter(cfg.Limits, cfg.Transport.TrustedProxies)}
	var err error
	if s.front, s.listener, err = newFront(&cfg); err != nil {
		return nil, err
	}
	s.givenBack = newGivenBack(s.listener.Addr())
	cfg.Hub.KeepAlive = s.givenBack.give
	if err := s.open(&cfg); err != nil {
		return nil, errors.Join(err, s.listener.Close(), s.front.close())
	}
	limit := cfg.Hub.Limits.HeaderSize
	if limit == 0 {
		limit = hub.DefaultMaxHeaderSize
	}
	s.http = &http.Server{
		Handler: s.guarded(cfg.hosts(), s.routes(cfg.Handler(s.hub))),
		// The hub's own limit answers with a problem document; this one is behind it.
		MaxHeaderBytes: 4 * limit,
	}
	s.limiter.prepare(s.http)
	s.front.prepare(s.http, s.limiter.admit)
	s.loop = s.newLoop()
	return s, nil
}

// open opens the log, and the hub over it.
func (s *Server) open(c *Config) (err error) {
	if s.log, err = c.openLog(); err != nil {
		return err
	}
	if s.gate, err = s.newGate(c); err != nil {
		return errors.Join(err, s.log.Close())
	}
	c.Hub.Log, c.Hub.Authority = s.log, s.limiter.authority(s.gate)
	if c.Hub.WebSocket == nil {
		c.Hub.WebSocket = WebSocket(s.limiter.webSocket())
	}
	if c.Hub.NewDeflater == nil {
		c.Hub.NewDeflater = newDeflater
	}
	if s.hub, err = hub.New(&c.Hub); err != nil {
		return errors.Join(err, s.gate.close(), s.log.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.ending.Go(func() { s.endRevoked(ctx) })
	if d, ok := s.log.(*disk.Log); ok {
		if s.control, err = newControl(d); err != nil {
			// Such as where the path is longer than a socket's can be.
			slog.Warn("no backup can be taken while the server runs", "error", err)
		} else {
			s.control.administer(s.hub)
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

// URL returns the address of the server, such as "http://127.0.0.1:7730", and for a Unix
// socket "unix:" and its path.
func (s *Server) URL() string { return s.front.url }

// TLSNotice returns what who starts the server should know of its certificate, "" if that
// is nothing: of one that it has made itself, how long it is good and its fingerprint.
func (s *Server) TLSNotice() string { return s.front.notice() }

// Run serves until ctx ends, and then stops in an orderly way: subscribers are told to
// come back a little later, each at another time, and requests under way are finished.
// When cut ends, or DrainTimeout is over, what is left is cut off.
func (s *Server) Run(ctx, cut context.Context) error {
	var served <-chan error
	if s.loop != nil {
		s.front.serving.Go(s.loop.Run)
	} else {
		served = s.front.serve(s.http, s.limiter.listen(s.listener))
	}
	s.serveGivenBack(s.http)
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
	stops := []func(context.Context) error{s.http.Shutdown, s.front.shutdown}
	if s.loop != nil {
		stops = append(stops, s.loop.Shutdown)
	}
	stopped := make(chan error, len(stops))
	for _, stop := range stops {
		go func() { stopped <- stop(grace) }()
	}
	errs = append(errs, s.hub.Shutdown(grace))
	for range stops {
		errs = append(errs, <-stopped)
	}
	if grace.Err() != nil {
		errs = append(errs, s.http.Close())
	}
	if s.loop != nil {
		errs = append(errs, s.loop.Close())
	}
	s.front.serving.Wait()
	if s.control != nil {
		errs = append(errs, s.control.close())
	}
	s.stop()
	s.ending.Wait()
	errs = append(errs, s.gate.close(), s.log.Close())
	for i, err := range errs {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			errs[i] = nil // what is cut was meant to be
		}
	}
	return errors.Join(errs...)
}
