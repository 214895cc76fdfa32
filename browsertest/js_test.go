package browsertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestChromium_OurClient has pages with the browser client, at a name that is a secure
// context, and at one over plain HTTP that is none.
func TestChromium_OurClient(t *testing.T) {
	t.Parallel()
	node, chromium := needNode(t), needChromium(t)
	runChecks(t, nil, node, "js.mjs", newClientWorld(t, needBundle(t)), chromium)
}

// TestNode_OurClient has the browser client in Node, and between it and the hub what proxies
// do to streams.
func TestNode_OurClient(t *testing.T) {
	t.Parallel()
	node := needNode(t)
	bundle := needBundle(t)
	runChecks(t, nil, node, "js_node.mjs", newClientWorld(t, bundle), filepath.Join(bundle, "index.js"))
}

// needBundle returns the folder of the browser client's modules, which it builds.
func needBundle(t *testing.T) (dir string) {
	t.Helper()
	// go test takes a result from its cache unless a file has changed that it saw read.
	sources, err := filepath.Glob("../js/src/*.ts")
	if err != nil || len(sources) == 0 {
		t.Fatalf("got %d sources of the client, %v", len(sources), err)
	}
	for _, name := range append(sources, "../js/package-lock.json", "../js/scripts/build.mjs") {
		if _, err := os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := bundled(); err != nil {
		missing(t, "the browser client cannot be built: "+err.Error())
	}
	return "../js/dist"
}

var bundled = sync.OnceValue(func() error {
	if _, err := exec.LookPath("npm"); err != nil {
		return errors.New("npm is missing: it comes with Node.js")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, args := range [][]string{{"ci", "--ignore-scripts"}, {"run", "build"}} {
		if args[0] == "ci" && sameFile("../js/package-lock.json", "../js/node_modules/.installed-lock.json") {
			continue
		}
		cmd := exec.CommandContext(ctx, "npm", args...)
		cmd.Dir = "../js"
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("npm %s: %w: %s", strings.Join(args, " "), err, out)
		}
		if args[0] == "ci" {
			lock, err := os.ReadFile("../js/package-lock.json")
			if err != nil {
				return err
			}
			if err := os.WriteFile("../js/node_modules/.installed-lock.json", lock, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
})

func sameFile(a, b string) bool {
	x, errX := os.ReadFile(a)
	y, errY := os.ReadFile(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// newClientWorld starts a hub, and one origin over HTTP/1.1 in front of it:
//
//	/                  a page
//	/client/           the client's modules
//	/client/mute.js    a worker that says nothing
//	/tokens            the tokens that came with subscriptions, as JSON
//	/buffered/events/  streams come when they have ended
//	/cut/events/       nothing lasts longer than 300 ms
//	/...               the hub
func newClientWorld(t *testing.T, bundle string) (origin string) {
	t.Helper()
	hub, err := url.Parse(runCommand(t, nil, t.Output(), "serve", "--memory", "--listen", "127.0.0.1:0", "--retry", "200ms", "--heartbeat", "500ms"))
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(hub) },
		ErrorLog:     log.New(io.Discard, "", 0), // streams are cut
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	var mu sync.Mutex
	tokens := []string{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!doctype html><title>client</title>")
	})
	mux.HandleFunc("GET /favicon.ico", http.NotFound)
	modules := http.StripPrefix("/client/", http.FileServer(http.Dir(bundle)))
	mux.HandleFunc("GET /client/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*") // for a frame that has no origin
		modules.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /client/mute.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
	})
	mux.HandleFunc("GET /tokens", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(w).Encode(tokens)
	})
	mux.Handle("/buffered/", http.StripPrefix("/buffered", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != "text/event-stream" {
			proxy.ServeHTTP(w, r)
			return
		}
		held := httptest.NewRecorder()
		proxy.ServeHTTP(held, r)
		w.WriteHeader(held.Code)
		_, _ = held.Body.WriteTo(w)
	})))
	mux.Handle("/cut/", http.StripPrefix("/cut", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 300*time.Millisecond)
		defer cancel()
		proxy.ServeHTTP(w, r.WithContext(ctx))
	})))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if token := r.Header.Get("Authorization"); token != "" {
			mu.Lock()
			tokens = append(tokens, token)
			mu.Unlock()
		}
		proxy.ServeHTTP(w, r)
	})
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL + "/"
}
