package doctor

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// fetchHeaders are those of a client that is no EventSource, for which a browser asks
// first (Fetch, section 4.8): an EventSource's own Last-Event-ID needs no such question.
const fetchHeaders = "authorization,last-event-id"

// lookAtCORS looks whether a page of another origin can read the stream (Fetch, section 3.3).
func (x *examination) lookAtCORS(ctx context.Context) error {
	if x.origin == "" {
		return nil
	}
	if u, err := url.Parse(x.url); err == nil && strings.EqualFold(u.Scheme+"://"+u.Host, x.origin) {
		x.ok("cors", nil, "pages of %s are of the stream's own origin", x.origin)
		return nil
	}
	x.progress("CORS")
	h := subscription(x.browserCodings(), "")
	h.Set("Origin", x.origin)
	a, err := x.ask(ctx, http.MethodGet, x.url, "", h)
	if err != nil {
		x.problem("cors", cors, nil, "a request of a page of %s has no answer: %v", x.origin, err)
		return nil
	}
	defer a.end()
	if a.StatusCode != http.StatusOK {
		text := a.Status
		if why := x.explanation(a); why != "" {
			text += ": " + why
		}
		x.problem("cors", cors, measured{"status": a.StatusCode}, "a request of a page of %s is answered %s", x.origin, text)
		return nil
	}
	if !x.lookAtAllowed(a.Header) {
		return nil
	}
	x.lookAtPreflight(ctx)
	return nil
}

// lookAtAllowed looks at the headers of the stream.
func (x *examination) lookAtAllowed(h http.Header) bool {
	allowed := h.Values("Access-Control-Allow-Origin")
	switch {
	case len(allowed) == 0:
		x.problem("cors", cors, nil, "the answer has no Access-Control-Allow-Origin: browsers keep it from pages of %s", x.origin)
		return false
	case len(allowed) > 1 || strings.Contains(allowed[0], ","):
		x.problem("cors", cors, nil, "Access-Control-Allow-Origin stands there twice (%s), which browsers take for none: let either the server or the proxy set it", strings.Join(allowed, "; "))
		return false
	case allowed[0] != x.origin && allowed[0] != "*":
		x.problem("cors", cors, nil, "Access-Control-Allow-Origin is %q, not %q: browsers keep the stream from pages of %s", allowed[0], x.origin, x.origin)
		return false
	}
	x.ok("cors", nil, "pages of %s can read the stream", x.origin)
	cookie := x.header.Get("Cookie") != ""
	switch with := allowed[0] == x.origin && h.Get("Access-Control-Allow-Credentials") == "true"; {
	case with:
		x.ok("credentials", nil, "with cookies too (withCredentials)")
	case cookie:
		x.problem("credentials", cors, nil, "the request has a cookie, which pages of %s cannot send: that takes Access-Control-Allow-Credentials: true, and the origin by name", x.origin)
	default:
		x.note("credentials", cors, nil, "without cookies only: withCredentials would take Access-Control-Allow-Credentials: true, and the origin by name")
	}
	return true
}

// lookAtPreflight asks as browsers do before a request with headers of its own.
func (x *examination) lookAtPreflight(ctx context.Context) {
	a, err := x.askWithout(ctx, "Authorization", http.MethodOptions, http.Header{
		"Origin":                         {x.origin},
		"Access-Control-Request-Method":  {http.MethodGet},
		"Access-Control-Request-Headers": {fetchHeaders},
	})
	if err != nil {
		x.note("preflight", cors, nil, "an OPTIONS request has no answer: %v; an EventSource sends none, but clients that set headers do", err)
		return
	}
	defer a.end()
	allowed := strings.Split(strings.ToLower(strings.Join(a.Header.Values("Access-Control-Allow-Headers"), ",")), ",")
	for i := range allowed {
		allowed[i] = strings.TrimSpace(allowed[i])
	}
	var missing []string
	for name := range strings.SplitSeq(fetchHeaders, ",") {
		// A star does not stand for Authorization (Fetch, section 4.8, step 6).
		if !slices.Contains(allowed, name) && (name == "authorization" || !slices.Contains(allowed, "*")) {
			missing = append(missing, name)
		}
	}
	switch {
	case a.StatusCode/100 != 2 && x.header.Get("Authorization") != "":
		x.problem("preflight", cors, measured{"status": a.StatusCode}, "an OPTIONS request is answered %s: pages cannot send the token in a header; a browser sends no token with that request, so it must be let in without", a.Status)
	case a.StatusCode/100 != 2:
		x.note("preflight", cors, measured{"status": a.StatusCode}, "an OPTIONS request is answered %s: an EventSource sends none, but clients that set headers do", a.Status)
	case len(missing) > 0 && x.header.Get("Authorization") != "":
		x.problem("preflight", cors, nil, "Access-Control-Allow-Headers lacks %s: pages cannot send the token in a header", strings.Join(missing, ", "))
	case len(missing) > 0:
		x.note("preflight", cors, nil, "Access-Control-Allow-Headers lacks %s: an EventSource does not need that, but clients that set headers do", strings.Join(missing, ", "))
	default:
		x.ok("preflight", nil, "clients that set headers (%s) are let in", fetchHeaders)
	}
}

// askWithout asks without one of the headers that are sent otherwise.
func (x *examination) askWithout(ctx context.Context, name, method string, header http.Header) (*answer, error) {
	bare := *x
	bare.header = x.header.Clone()
	bare.header.Del(name)
	return bare.ask(ctx, method, x.url, "", header)
}
