package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strconv"
	"sync"
)

// maxRequest bounds the body of a request to the service, in bytes.
const maxRequest = 64 << 20

// capabilities are the optional features that a harness may test.
var capabilities = []string{
	"bom",
	"comments",
	"event-type-listeners",
	"headers",
	"last-event-id",
	"post",
	"read-timeout",
	"report",
	"restart",
	"server-directed-shutdown-request",
}

// errClosed answers a client that comes too late.
var errClosed = errors.New("the service is shutting down")

// A service is the HTTP interface of the contract tests and owns the clients
// that were created through it.
type service struct {
	mux      *http.ServeMux
	log      *log.Logger
	http     *http.Client // for streams and callbacks; its connections are the service's own
	quit     chan struct{}
	quitOnce sync.Once

	ctx     context.Context // ends every client
	cancel  context.CancelFunc
	running sync.WaitGroup // the clients

	mu      sync.Mutex
	created int // clients, ever
	clients map[string]*client
}

func newService(logger *log.Logger) *service {
	s := &service{
		mux:     http.NewServeMux(),
		log:     logger,
		http:    &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()},
		quit:    make(chan struct{}),
		clients: make(map[string]*client),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.mux.HandleFunc("GET /{$}", s.status)
	s.mux.HandleFunc("POST /{$}", s.create)
	s.mux.HandleFunc("DELETE /{$}", s.end)
	s.mux.HandleFunc("POST /clients/{id}", s.command)
	s.mux.HandleFunc("DELETE /clients/{id}", s.remove)
	return s
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Quit returns a channel that is closed when DELETE / has come. Its answer is not
// yet written then.
func (s *service) Quit() <-chan struct{} { return s.quit }

// Close stops all clients and returns when the last one has ended. No client can
// be created from then on.
func (s *service) Close() {
	s.mu.Lock()
	s.cancel()
	clear(s.clients)
	s.mu.Unlock()
	s.running.Wait()
	s.http.CloseIdleConnections()
}

func (s *service) status(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(struct { // who has gone does not mind
		Name         string   `json:"name"`
		Capabilities []string `json:"capabilities"`
	}{"tidewire", capabilities})
}

func (s *service) create(w http.ResponseWriter, r *http.Request) {
	var p clientParams
	err := readJSON(w, r, &p)
	if err == nil {
		err = p.validate()
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	id, err := s.start(&p)
	switch {
	case err == errClosed:
		fail(w, http.StatusServiceUnavailable, err)
	case err != nil:
		fail(w, http.StatusBadRequest, err)
	default:
		w.Header().Set("Location", "/clients/"+id)
		w.WriteHeader(http.StatusCreated)
	}
}

// start creates a client. Any error but errClosed is the parameters' fault.
func (s *service) start(p *clientParams) (id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return "", errClosed
	}
	c, err := newClient(s.ctx, p, s.http, s.log)
	if err != nil {
		return "", err
	}
	s.running.Go(c.run)
	s.created++
	id = strconv.Itoa(s.created)
	s.clients[id] = c
	return id, nil
}

func (s *service) command(w http.ResponseWriter, r *http.Request) {
	c := s.client(r.PathValue("id"))
	if c == nil {
		http.NotFound(w, r)
		return
	}
	var p commandParams
	err := readJSON(w, r, &p)
	if err == nil {
		err = p.validate()
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	switch p.Command {
	case commandRestart:
		c.restart()
	case commandListen:
		c.listen(p.Listen.Type)
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *service) remove(w http.ResponseWriter, r *http.Request) {
	c := s.forget(r.PathValue("id"))
	if c == nil {
		http.NotFound(w, r)
		return
	}
	c.stop()
	w.WriteHeader(http.StatusNoContent)
}

func (s *service) end(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNoContent)
	s.quitOnce.Do(func() { close(s.quit) })
}

// client returns the client of that id, nil if there is none.
func (s *service) client(id string) *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clients[id]
}

// forget is client, and from then on there is none of that id.
func (s *service) forget(id string) *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[id]
	delete(s.clients, id)
	return c
}

func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("parse request: %w", err)
	}
	return nil
}

func fail(w http.ResponseWriter, status int, err error) {
	http.Error(w, err.Error(), status)
}
