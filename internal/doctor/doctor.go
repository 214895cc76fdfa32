// Package doctor tries an event stream from outside, as a browser would, and says what
// stands in its way, with numbers and remedies. It works with any URL that serves
// Server-Sent Events; where it may publish to a topic of a hub it finds out more.
package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"time"
)

// The defaults of [Options].
const (
	DefaultIdle    = 90 * time.Second // more than the minute after which most proxies cut
	DefaultTimeout = 10 * time.Second
)

// Options configure [Run]; zero fields mean the defaults.
type Options struct {
	// Header is sent with each request. Default: none but what an EventSource sends.
	Header http.Header

	// Origin is that of a page which is to read the stream, such as https://example.com.
	// Default: none, and CORS is not looked at.
	Origin string

	// Idle is how long a stream is held open without a word of ours. Default:
	// [DefaultIdle]; negative: that is left out.
	Idle time.Duration

	// Timeout bounds the wait for each thing that should come at once. Default:
	// [DefaultTimeout].
	Timeout time.Duration

	// Probe is the URL of a hub's topic where events may be published, and subscribed to:
	// about ten short ones, which stay in its history. Default: none, and delivery is
	// not measured.
	Probe string

	// TLS says which certificates are good. Default: what the system trusts.
	TLS *tls.Config

	// Progress, if not nil, is told what is looked at next.
	Progress func(step string)
}

// An examination is one run.
type examination struct {
	url   string
	probe string // "": none

	header   http.Header
	origin   string
	idle     time.Duration
	timeout  time.Duration
	tls      *tls.Config
	progress func(string)

	report  *Report
	plain   *answer       // to a request for no compression
	head    time.Duration // in which a HEAD was answered; 0: it was not
	live    delivery      // of events, without compression
	started bool          // the stream's first bytes came
}

// errOver ends an examination after a finding that leaves nothing to look at.
var errOver = errors.New("nothing more can be looked at")

// Run examines the stream at url, which takes as long as Idle and some seconds. What was
// found is in the report, also when ctx has ended, which is the only error.
func Run(ctx context.Context, url string, opts *Options) (*Report, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Idle == 0 {
		o.Idle = DefaultIdle
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	x := &examination{
		url: url, probe: o.Probe, header: o.Header, origin: o.Origin, idle: o.Idle, timeout: o.Timeout, tls: o.TLS, progress: o.Progress,
		report: &Report{URL: redacted(url), Proxies: []string{}, Findings: []Finding{}},
	}
	for _, look := range []func(context.Context) error{
		x.lookAtAnswer, x.lookAtHTTP3, x.lookAtDelivery, x.lookAtCompression, x.lookAtResume, x.lookAtCORS, x.lookAtIdle,
	} {
		found := len(x.report.Findings)
		err := look(ctx)
		if ctx.Err() != nil {
			x.report.Findings = x.report.Findings[:found] // the step's own would tell of the interruption
			return x.report, context.Cause(ctx)
		}
		if err == errOver {
			break
		}
	}
	return x.report, nil
}
