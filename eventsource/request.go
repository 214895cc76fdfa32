package eventsource

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// maxRedirects is the Fetch standard's bound on one request.
const maxRedirects = 20

// request makes the request of one attempt.
func (s *stream) request(ctx context.Context) (*http.Request, error) {
	if err := validID(s.lastEventID); err != nil {
		return nil, err
	}
	req, err := s.newRequest(ctx)
	if err != nil {
		return nil, err
	}
	if req.Header == nil {
		req.Header = make(http.Header)
	}
	setMissing(req.Header, "Accept", "text/event-stream")
	setMissing(req.Header, "Cache-Control", "no-cache")
	if s.lastEventID != "" {
		setMissing(req.Header, "Last-Event-ID", s.lastEventID)
	}
	return req, nil
}

var errNoRequest = errors.New("eventsource: Options.NewRequest returned neither a request nor an error")

func (s *stream) newRequest(ctx context.Context) (*http.Request, error) {
	if s.opt.NewRequest != nil {
		req, err := s.opt.NewRequest(ctx, s.attempt)
		switch {
		case err != nil:
			return nil, err
		case req == nil:
			return nil, errNoRequest
		case req.Context() == context.Background():
			return req.WithContext(ctx), nil
		}
		return req, nil
	}
	req, err := http.NewRequestWithContext(ctx, s.opt.Method, s.url, bytes.NewReader(s.opt.Body))
	if err != nil {
		return nil, err
	}
	if s.opt.Header != nil {
		req.Header = s.opt.Header.Clone()
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host // net/http takes it from there only
	}
	return req, nil
}

func setMissing(h http.Header, key, value string) {
	if _, ok := h[http.CanonicalHeaderKey(key)]; !ok {
		h.Set(key, value)
	}
}

// streamClient returns a copy of c for endless answers.
func streamClient(c *http.Client) *http.Client {
	own := *c
	own.Timeout = 0
	own.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if err := checkRedirect(req, via); err != nil {
			return err
		}
		if c.CheckRedirect == nil {
			return nil
		}
		err := c.CheckRedirect(req, via)
		if err == nil || err == http.ErrUseLastResponse {
			return err
		}
		return &RedirectError{"refused by HTTPClient: " + err.Error(), err}
	}
	return &own
}

// checkRedirect bounds redirects and keeps what belongs to one origin from another.
// net/http itself looks at host names only, and lets Authorization through to
// other ports and subdomains, and every other header to anyone.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return &RedirectError{Reason: "more than 20 in a row"}
	}
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return &RedirectError{Reason: "to a URL of scheme " + req.URL.Scheme}
	}
	// It would carry the first URL's query, and so perhaps a token.
	req.Header.Del("Referer")

	home := origin(via[0].URL)
	away := origin(req.URL) != home
	for _, r := range via {
		away = away || origin(r.URL) != home
	}
	if !away {
		return nil
	}
	for key := range req.Header {
		if !public(key) {
			delete(req.Header, key)
		}
	}
	return nil
}

// public tells whether a header says nothing that only its first origin may know.
func public(key string) bool {
	switch key {
	case "Accept", "Cache-Control", "Last-Event-Id", "User-Agent":
		return true
	}
	return strings.HasPrefix(key, "Accept-") || strings.HasPrefix(key, "Content-")
}

// origin serialises a URL's origin (URL standard): no default port, lower case.
func origin(u *url.URL) string {
	scheme, host, port := strings.ToLower(u.Scheme), strings.ToLower(u.Hostname()), u.Port()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == "" || scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		return scheme + "://" + host
	}
	return scheme + "://" + host + ":" + port
}
