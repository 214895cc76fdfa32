package doctor

import (
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of the difference between two clocks. A Date header has whole seconds.
const (
	clockNote    = 5 * time.Second
	clockProblem = time.Minute // what tokens' times are usually allowed to be off by
)

// lookAtHeaders looks at those by which browsers and proxies know a stream, and tells
// whether it is one.
func (x *examination) lookAtHeaders(a *answer) bool {
	if !x.lookAtContentType(a.Header) {
		return false
	}
	x.lookAtCaching(a.Header)
	x.lookAtXAccel(a.Header)
	if a.ContentLength >= 0 {
		x.problem("content-length", caching, measured{"content_length": a.ContentLength}, "the answer has a Content-Length, %d bytes: a stream has none, so this is a stored answer or no stream", a.ContentLength)
	}
	if coding := a.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		x.problem("content-encoding", compression, nil, "the answer is compressed (%s), though the request asked for none: some clients cannot read it", coding)
	}
	return true
}

func (x *examination) lookAtContentType(h http.Header) bool {
	const want = "text/event-stream"
	text := h.Get("Content-Type")
	media, params, err := mime.ParseMediaType(text)
	charset := params["charset"]
	switch {
	case text == "":
		x.problem("content-type", headers, nil, "the answer has no Content-Type: a browser takes it for no stream; send Content-Type: %s", want)
		return false
	case err != nil || media != want:
		x.problem("content-type", headers, nil, "the Content-Type is %q: a browser takes it for no stream; send %s. Is this the URL of a stream, and not a page of a proxy's?", text, want)
		return false
	case charset != "" && !strings.EqualFold(charset, "utf-8"):
		x.note("content-type", headers, nil, "the Content-Type is %q: a stream is UTF-8 whatever that says", text)
	default:
		x.ok("content-type", nil, "%s", text)
	}
	return true
}

// lookAtCaching looks whether somebody may store the stream, or has (RFC 9111).
func (x *examination) lookAtCaching(h http.Header) {
	if age, err := strconv.Atoi(h.Get("Age")); err == nil && age > 0 || strings.Contains(strings.ToUpper(h.Get("X-Cache")), "HIT") {
		x.problem("cache-control", caching, measured{"age_s": age}, "the answer comes from a cache (Age: %q, X-Cache: %q)", h.Get("Age"), h.Get("X-Cache"))
		return
	}
	text := strings.Join(h.Values("Cache-Control"), ", ")
	var rules []string
	for rule := range strings.SplitSeq(strings.ToLower(text), ",") {
		rules = append(rules, strings.TrimSpace(rule))
	}
	switch {
	case slices.Contains(rules, "no-store"), slices.Contains(rules, "no-cache"), slices.Contains(rules, "private"):
		x.ok("cache-control", nil, "%s", text)
	case text == "no-transform":
		x.note("cache-control", caching, nil, "Cache-Control is %q, and lets a cache on the way keep the answer; send no-store, no-transform", text)
	case text == "":
		x.note("cache-control", caching, nil, "the answer has no Cache-Control: a cache on the way may keep it; send Cache-Control: no-store")
	default:
		x.problem("cache-control", caching, nil, "Cache-Control is %q: a cache on the way may keep the stream; send no-store", text)
	}
}

func (x *examination) lookAtXAccel(h http.Header) {
	switch text := h.Get("X-Accel-Buffering"); {
	case strings.EqualFold(text, "no"):
		x.ok("x-accel-buffering", nil, "no: an nginx in front does not buffer the stream")
	case text != "":
		x.problem("x-accel-buffering", buffering, nil, "X-Accel-Buffering is %q: an nginx in front buffers the stream; send no", text)
	case x.report.shows(forNginx):
		x.note("x-accel-buffering", buffering, nil, "it does not come through nginx, which acts on it and takes it away: another nginx in front would buffer the stream, so write proxy_buffering off there")
	default:
		x.note("x-accel-buffering", buffering, nil, "it is missing: an nginx in front would buffer the stream; send X-Accel-Buffering: no")
	}
}

// marks are headers by which proxies show themselves. Those without a name are told with
// their value.
var marks = []struct{ header, name string }{
	{"Cf-Ray", forCloudflare},
	{"X-Amz-Cf-Id", forCloudFront},
	{"X-Azure-Ref", "Azure Front Door"},
	{"X-Varnish", "Varnish"},
	{"X-Served-By", ""},
	{"Via", ""},
	{"Server", ""},
}

// lookAtProxies finds those that show themselves. Others, such as HAProxy, do not.
func (x *examination) lookAtProxies(h http.Header) {
	x.report.Proxies = x.report.Proxies[:0]
	for _, m := range marks {
		value := strings.Join(h.Values(m.header), ", ")
		switch {
		case value == "":
		case m.name != "":
			x.report.Proxies = append(x.report.Proxies, m.name)
		default:
			x.report.Proxies = append(x.report.Proxies, m.header+": "+value)
		}
	}
}

func (x *examination) tellProxies() {
	if len(x.report.Proxies) == 0 {
		x.ok("proxies", nil, "none shows itself in Server, Via or other headers, which need not mean that there is none")
		return
	}
	x.ok("proxies", nil, "%s", strings.Join(x.report.Proxies, "; "))
}

// shows tells whether a program or service, which the first word of name tells, shows
// itself as a proxy.
func (r *Report) shows(name string) bool {
	word, _, _ := strings.Cut(strings.ToLower(name), " ")
	return slices.ContainsFunc(r.Proxies, func(p string) bool {
		if _, value, ok := strings.Cut(p, ": "); ok {
			p = value
		}
		return strings.Contains(strings.ToLower(p), word)
	})
}

// lookAtClock compares the server's clock with ours.
func (x *examination) lookAtClock(a *answer) {
	date, err := http.ParseTime(a.Header.Get("Date"))
	if err != nil {
		return // there is no saying
	}
	// The header has been cut to a second.
	off := date.Add(time.Second / 2).Sub(a.sent.Add(a.came.Sub(a.sent) / 2))
	m := measured{"off_s": off.Round(100 * time.Millisecond).Seconds()}
	word := "ahead of"
	if off < 0 {
		word, off = "behind", -off
	}
	text := "the server's clock is " + brief(off.Round(100*time.Millisecond)) + " " + word + " this machine's"
	switch {
	case off > clockProblem:
		x.problem("clock", clock, m, "%s: tokens and tickets are refused as not yet good or expired, and times in events are wrong; have both follow NTP", text)
	case off > clockNote:
		x.note("clock", clock, m, "%s: have both follow NTP", text)
	default:
		x.ok("clock", m, "it is within %s of this machine's", brief(max(off.Round(time.Second), time.Second)))
	}
}
