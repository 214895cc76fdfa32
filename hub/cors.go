package hub

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const (
	allowedHeaders = "Content-Type, Authorization, Last-Event-ID, Idempotency-Key, If-Match, If-None-Match, Cache-Control, Prefer, " +
		"Tidewire-Type, Tidewire-Id, Tidewire-Retry, Tidewire-Private, Tidewire-End"
	exposedHeaders = "Idempotency-Replayed, Retry-After, Tidewire-Newest-Id, Tidewire-Oldest-Id, Tidewire-Count, Tidewire-Closed"
)

// CheckOrigin deals with the page that a browser's request comes from, as [Hub.ServeHTTP]
// does: it sets the headers by which a page of an allowed origin may see the answer, and
// returns an error to be answered where the origin is not allowed. That is so with every
// method: a form of another page can post without asking first.
func (h *Hub) CheckOrigin(w http.ResponseWriter, r *http.Request) error {
	if len(h.origins) > 0 {
		w.Header().Add("Vary", "Origin")
	}
	origin := r.Header.Get("Origin")
	switch {
	case origin == "":
		return nil
	case h.origins[origin]:
		w.Header().Set("Access-Control-Allow-Origin", origin)
		if h.opt.AllowCredentials {
			w.Header().Set("Access-Control-Allow-Credentials", "true")
		}
	case h.origins["*"]:
		w.Header().Set("Access-Control-Allow-Origin", "*")
	case sameOrigin(origin, r):
		return nil
	default:
		return &RequestError{Problem: ProblemOrigin, Field: "Origin", Detail: "pages of " + quote(origin) + " may not use this hub: allow that origin in its configuration"}
	}
	w.Header().Set("Access-Control-Expose-Headers", exposedHeaders)
	return nil
}

// sameOrigin tells whether a page is the hub's own. Behind a proxy that changes the
// Host the browser's own word counts, which no page can forge.
func sameOrigin(origin string, r *http.Request) bool {
	if r.Header.Get("Sec-Fetch-Site") == "same-origin" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// CheckOrigins says what is wrong with AllowedOrigins and AllowCredentials.
func (o *Options) CheckOrigins() error {
	for _, origin := range o.AllowedOrigins {
		if err := checkOrigin(origin); err != nil {
			return err
		}
		if origin == "*" && o.AllowCredentials {
			return errors.New("allowed origin \"*\" and credentials exclude each other: name the origins")
		}
	}
	return nil
}

// checkOrigin says what is wrong with an allowed origin.
func checkOrigin(origin string) error {
	if origin == "*" {
		return nil
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Host == "" || origin != u.Scheme+"://"+u.Host || origin != strings.ToLower(origin) {
		return fmt.Errorf("allowed origin %q is not one: write it as browsers do, as in https://example.com, in lower case and without a path", origin)
	}
	return nil
}

func quote(s string) string { return strconv.QuoteToGraphic(s) }
