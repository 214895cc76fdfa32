package server

import (
	_ "embed"
	"net/http"

	"github.com/tidewire/tidewire/hub"
)

//go:embed page.html
var page []byte

// withPage serves the hub, and a page at / for whoever opens the server's address. It
// is no ServeMux, which would redirect topics that have // in them.
func withPage(h *hub.Hub) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" || r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(page) // who has gone needs no page
	})
}
