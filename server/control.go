package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/disk"
)

// controlSocket is in the data directory of a server that runs: who may write there may
// use it.
const controlSocket = "control.sock"

// ErrNotRunning says that no server has a data directory open.
var ErrNotRunning = errors.New("server: no server is running on that directory")

// A control answers commands about a server that runs, on a socket in its directory.
type control struct {
	listener net.Listener
	mux      *http.ServeMux
	http     *http.Server
	served   chan struct{}
}

// newControl listens; the directory is locked, so that a socket which is there is left
// over.
func newControl(log *disk.Log) (*control, error) {
	name := filepath.Join(log.Dir(), controlSocket)
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("server: control socket: %w", err)
	}
	l, err := net.Listen("unix", name)
	if err != nil {
		return nil, fmt.Errorf("server: control socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /backup", func(w http.ResponseWriter, r *http.Request) {
		to, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<16))
		if err == nil {
			err = log.Backup(string(to))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		_ = json.NewEncoder(w).Encode(log.Head()) // who has gone can look at the directory
	})
	c := &control{listener: l, mux: mux, http: &http.Server{Handler: mux, ReadHeaderTimeout: readHeaderTimeout}, served: make(chan struct{})}
	go func() {
		defer close(c.served)
		_ = c.http.Serve(l) // ends with close
	}()
	return c, nil
}

// administer has the hub's subscriptions be listed and ended at /subscriptions, as with
// newAdmin.
func (c *control) administer(h *hub.Hub) { c.mux.Handle("/", newSubscriptions(h)) }

// close waits for what is under way.
func (c *control) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := c.http.Shutdown(ctx)
	<-c.served
	if err != nil {
		return fmt.Errorf("server: control socket: %w", errors.Join(err, c.http.Close()))
	}
	return nil
}

// ControlTransport speaks to the server that runs on a data directory, whatever the host in
// a URL is; requests to one that does not run fail with [ErrNotRunning]. At /subscriptions the
// server lists and ends streams, as at /admin/subscriptions elsewhere. It keeps no connection
// open.
func ControlTransport(data string) *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(data, controlSocket))
			if err != nil && ctx.Err() == nil && !errors.Is(err, fs.ErrPermission) {
				err = fmt.Errorf("%w: %w", ErrNotRunning, err)
			}
			return c, err
		},
	}
}

// Backup has the server that runs on a data directory write a copy of it to another
// one, which must not exist yet; else it is [ErrNotRunning].
func Backup(ctx context.Context, data, to string) error {
	to, err := filepath.Abs(to)
	if err != nil {
		return fmt.Errorf("server: backup: %w", err)
	}
	client := &http.Client{Transport: ControlTransport(data)}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://control/backup", strings.NewReader(to))
	if err != nil {
		return fmt.Errorf("server: backup: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("server: backup: %w", err)
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil || resp.StatusCode != http.StatusOK {
		return errors.Join(errors.New(strings.TrimSpace(string(said))), err)
	}
	return nil
}
