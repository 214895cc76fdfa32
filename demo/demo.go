package demo

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// The topics of the page.
const (
	topicCounter  = "demo/counter"
	topicArticles = "demo/articles"
	topicTypes    = "demo/types"
	topicPanel    = "demo/panel"
	topicCompare  = "demo/compare/" // and the name of a page
)

// A Demo serves the page and what the page needs. Its methods are safe for
// concurrent use.
type Demo struct {
	hub    *hub.Hub
	routes http.Handler

	begun chan struct{} // closed when Run begins
	over  chan struct{} // closed when Run ends: streams that the hub does not drain end then
	begin sync.Once
	end   sync.Once

	comparing sync.WaitGroup

	mu          sync.Mutex
	streams     map[string]map[*stream]struct{} // the panel's, by the token of their page
	comparisons map[string]*comparison          // by the name of their page
	running     context.Context                 // Run's, nil outside of it
}

// New returns a demo over a hub, whose events it serves as well. [Demo.Run] brings the
// page to life.
func New(h *hub.Hub) *Demo {
	d := &Demo{
		hub:         h,
		begun:       make(chan struct{}),
		over:        make(chan struct{}),
		streams:     make(map[string]map[*stream]struct{}),
		comparisons: make(map[string]*comparison),
	}
	d.routes = d.newRoutes()
	return d
}

// Retention is how much of the demo's topics a hub's Log should keep, so that a demo
// that runs for months stays small, and a page that is loaded gets a short history.
func Retention() hub.RetentionRules {
	keep := func(topic string, count int64) hub.RetentionRule {
		return hub.RetentionRule{Pattern: topic, Retention: hub.Retention{Count: count}}
	}
	return hub.RetentionRules{
		keep(topicCounter, 3600), // an hour
		keep(topicPanel, 7200),   // an hour
		keep(topicArticles, 100),
		keep(topicTypes, 1000),
		{Pattern: topicCompare + "*", Retention: hub.Retention{Count: 3000, Age: 10 * time.Minute}}, // a minute of the fastest
	}
}

// ServeHTTP serves the pages at / and /compare, their own endpoints under /demo/, and the hub's HTTP
// interface at /events.
func (d *Demo) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.routes.ServeHTTP(w, r) }

func (d *Demo) newRoutes() http.Handler {
	mux := http.NewServeMux()
	servePages(mux)
	mux.HandleFunc("GET /demo/clock", d.serveClock)
	mux.HandleFunc("GET /demo/stream", d.serveStream)
	mux.HandleFunc("POST /demo/cut", d.serveCut)
	mux.HandleFunc("PUT /demo/compare/{page}", d.serveSettings)
	mux.HandleFunc("GET /demo/compare/{page}/{way}", d.serveWay)
	own := http.NewCrossOriginProtection().Handler(mux)

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Not through the mux, which redirects topics with two slashes in a row.
		if path := r.URL.Path; path == "/events" || strings.HasPrefix(path, "/events/") {
			d.hub.ServeHTTP(w, r)
			return
		}
		own.ServeHTTP(w, r)
	})
}
