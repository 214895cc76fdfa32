package demo

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"fmt"
	"mime"
	"net/http"
	"path"
	"time"
)

//go:embed page
var files embed.FS

// policy keeps the page to what this server sends: a script that someone publishes as an
// article would not run even if the page took it for HTML.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// servePages adds the files of the pages: index.html at /, compare.html at /compare, the
// others under /demo/.
func servePages(mux *http.ServeMux) {
	entries, err := files.ReadDir("page")
	if err != nil {
		panic(err) // they are part of the program
	}
	for _, e := range entries {
		content, err := files.ReadFile("page/" + e.Name())
		if err != nil {
			panic(err)
		}
		pattern := "GET /demo/" + e.Name()
		switch e.Name() {
		case "index.html":
			pattern = "GET /{$}"
		case "compare.html":
			pattern = "GET /compare"
		}
		mux.Handle(pattern, serveFile(e.Name(), content))
	}
}

func serveFile(name string, content []byte) http.Handler {
	typ := mediaTypes[path.Ext(name)]
	if typ == "" {
		typ = mime.TypeByExtension(path.Ext(name))
	}
	etag := fmt.Sprintf(`"%x"`, sha256.Sum256(content))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", typ)
		h.Set("Cache-Control", "no-cache") // ask each time, so that page and server fit
		h.Set("ETag", etag)
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
	})
}

// mediaTypes are not left to the machine's own tables, which can be wrong.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}
