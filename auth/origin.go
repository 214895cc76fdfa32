package auth

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/tidewire/tidewire/hub"
)

// checkOrigin refuses what a page of somebody else may have had a browser send with the
// user's cookie: to publish, to delete, and to open a WebSocket, whose answers browsers let
// every page read. The page must be the server's own, or of an origin that the hub has let
// cookies come from, which it has by now put into the answer's headers.
func checkOrigin(w http.ResponseWriter, r *http.Request) error {
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead
	if safe && r.Header.Get("Upgrade") == "" {
		return nil
	}
	origin := r.Header.Get("Origin")
	switch {
	case sameOrigin(origin, r), w.Header().Get("Access-Control-Allow-Credentials") == "true":
		return nil
	case origin == "":
		return forbidden("with a cookie, %s needs an Origin header, which browsers send: in programs use the Authorization header instead", r.Method)
	}
	return forbidden("pages of %s may not use %s with a cookie: allow that origin, and credentials from it, in the server's configuration, or use the Authorization header", quote(origin), r.Method)
}

func forbidden(format string, args ...any) error {
	return &hub.RequestError{Problem: hub.ProblemForbidden, Field: "Origin", Detail: fmt.Sprintf(format, args...)}
}

// sameOrigin tells whether the page is the server's own. Sec-Fetch-Site is the browser's word,
// which no page can change.
func sameOrigin(origin string, r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}
