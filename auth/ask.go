package auth

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// The defaults of [ApplicationOptions].
const (
	DefaultApplicationTimeout     = 5 * time.Second
	DefaultApplicationCache       = 10_000
	DefaultApplicationConcurrency = 64
)

const (
	maxAnswerSize    = 1 << 20 // bytes
	logInterval      = 10 * time.Second
	retryApplication = 2 * time.Second // unless the application says another time
	maxRetryAfter    = time.Hour
)

// ApplicationOptions configure an [Application]; zero fields mean the defaults, but URL is
// needed.
type ApplicationOptions struct {
	// URL is what is asked, with http or https. Credentials for it can stand in its query, and
	// are not logged.
	URL string

	// Timeout bounds each question, with the wait for its turn. Default:
	// [DefaultApplicationTimeout].
	Timeout time.Duration

	// Concurrency is how many questions are asked at a time; others wait. Default:
	// [DefaultApplicationConcurrency].
	Concurrency int

	// CacheEntries is how many answers are kept. Default: [DefaultApplicationCache];
	// negative: none.
	CacheEntries int

	// Client asks. It follows no redirects and keeps no cookies, whatever it is told.
	// Default: one of its own.
	Client *http.Client

	// Logger is told when there is no answer that counts, at most each 10 seconds. Default:
	// [slog.Default].
	Logger *slog.Logger

	// Now tells the time. Default: [time.Now].
	Now func() time.Time
}

// An Application is asked who may do what, at a URL of its own. Its methods are safe for
// concurrent use.
//
// It gets a POST with the headers of the original request, but for those that are about the
// connection, the body, conditions and ranges, another address or URL than those that came
// (Forwarded, X-Forwarded-For and the like), another method, or an idempotency key. The body
// is JSON; url has no parameters that look like credentials, and address and subject can be
// missing:
//
//	{"action":"subscribe","topics":["news/sport"],"patterns":[],"method":"GET","url":"/events/news/sport","address":"203.0.113.7","subject":"alice"}
//
// The action is subscribe, publish, describe, delete or administer. The subject is that of a
// token that was verified before. The answer is one of these; any other one, or none in time,
// is a 503 to who waits for it:
//
//   - 200 with a JSON object, whose fields may be left out: subject; subscribe, publish,
//     private and delete, lists of the patterns that are granted; admin, true or false; and
//     expires, a time, or expires_in, seconds.
//   - 204, or 200 with no body or an empty object: what the URL names is granted, for that
//     action alone, without private events. It never makes an administrator, and grants no
//     topic that could be read as a pattern.
//   - 401 and 403: refused. The detail of a problem document, or a text, is passed on.
//
// # Caching
//
// An answer of 200, 204, 401 or 403 is used again for as long as s-maxage or else max-age of
// its Cache-Control says, a day at most and not beyond the grant's end, unless that also
// says no-store, no-cache or private. With a Vary header it is used again for requests with
// the same action, topics, patterns, subject, Authorization and Cookie, and the same
// headers as Vary names; Tidewire-Address there stands for the sender's address. Without
// Vary, all that was asked must be the same, all headers too, but for Last-Event-ID.
//
// The same question is asked as often as it comes until there is an answer that may be used
// again, as an answer may be meant for one request only. Questions that wait for their turn
// find it then.
type Application struct {
	opt     ApplicationOptions
	client  *http.Client
	answers *answerCache // nil without one
	turns   chan struct{}

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
	asking sync.WaitGroup // added to with mu
	logged time.Time
	quiet  int // failures since that were not logged
}

// NewApplication returns an Application, which Close ends, or an error with all that is wrong
// with the options.
func NewApplication(o *ApplicationOptions) (*Application, error) {
	if o == nil {
		o = &ApplicationOptions{}
	}
	p := &Application{opt: *o}
	if err := p.opt.defaults(); err != nil {
		return nil, err
	}
	p.turns = make(chan struct{}, p.opt.Concurrency)
	if p.opt.CacheEntries > 0 {
		var err error
		if p.answers, err = newAnswerCache(p.opt.CacheEntries); err != nil {
			return nil, err
		}
	}
	p.client = p.newClient()
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

func (o *ApplicationOptions) defaults() error {
	if o.Timeout == 0 {
		o.Timeout = DefaultApplicationTimeout
	}
	if o.Concurrency == 0 {
		o.Concurrency = DefaultApplicationConcurrency
	}
	if o.CacheEntries == 0 {
		o.CacheEntries = DefaultApplicationCache
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	var wrong []error
	u, err := url.Parse(o.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		wrong = append(wrong, errors.New("auth: the URL of the application is none with http or https: it must be one such as http://127.0.0.1:3000/tidewire"))
	case u.User != nil:
		wrong = append(wrong, errors.New("auth: the URL of the application has a user in it, whose place is taken by the Authorization header of requests: put a secret into its query instead"))
	}
	if o.Timeout < 0 {
		wrong = append(wrong, fmt.Errorf("auth: the time-out of the application is %v: it must be more than 0", o.Timeout))
	}
	if o.Concurrency < 0 {
		wrong = append(wrong, fmt.Errorf("auth: the concurrency of the application is %d: it must be 1 or more", o.Concurrency))
	}
	return errors.Join(wrong...)
}

func (p *Application) newClient() *http.Client {
	var c http.Client
	if p.opt.Client != nil {
		c = *p.opt.Client
	} else if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t = t.Clone()
		t.MaxIdleConnsPerHost = p.opt.Concurrency
		t.MaxResponseHeaderBytes = maxAnswerSize
		c.Transport = t
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.Jar = nil // cookies are those of the request's sender
	return &c
}

// Ask returns what the application grants to the sender of a request; never more than inner,
// the grant of a token that was verified before, if that is not nil. The request's body is
// not read. Errors are [hub.RequestError]s: the application's refusal, or
// [hub.ProblemUnavailable].
func (p *Application) Ask(r *http.Request, a *hub.Access, inner *hub.Grant) (*hub.Grant, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errShutdown()
	}
	p.asking.Add(1)
	p.mu.Unlock()
	defer p.asking.Done()

	v, err := p.verdict(r.Context(), newQuestion(r, a, inner))
	if err != nil {
		return nil, err
	}
	if v.refusal != nil {
		refusal := *v.refusal
		return nil, &refusal
	}
	return v.grant(inner), nil
}

// Close ends the questions that are being asked, and returns when they are over.
func (p *Application) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.asking.Wait()
	if p.opt.Client == nil {
		p.client.CloseIdleConnections()
	}
	return nil
}

// verdict returns the application's answer to a question, which may be an old one.
func (p *Application) verdict(of context.Context, q *question) (*verdict, error) {
	if v := p.answers.get(q, p.opt.Now()); v != nil {
		return v, nil
	}
	ctx, cancel := context.WithTimeout(of, p.opt.Timeout)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	select {
	case p.turns <- struct{}{}:
		defer func() { <-p.turns }()
	case <-ctx.Done():
		return nil, p.failed(of, &askError{reason: "too many questions wait for their turn"})
	}
	if v := p.answers.get(q, p.opt.Now()); v != nil { // it came while this one waited
		return v, nil
	}
	v, h, err := p.post(ctx, q)
	if err != nil {
		return nil, p.failed(of, err)
	}
	p.answers.put(q, v, h, p.opt.Now())
	return v, nil
}

// post asks, and returns the answer with its headers.
func (p *Application) post(ctx context.Context, q *question) (*verdict, http.Header, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.opt.URL, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header = q.header.Clone()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, application/problem+json, text/plain")
	if _, ok := q.header["User-Agent"]; !ok {
		req.Header.Set("User-Agent", "") // and not the client's own
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, nil, &askError{reason: askReason(err)}
	}
	defer resp.Body.Close()
	answer, err := readBounded(resp.Body, maxAnswerSize)
	if err != nil {
		return nil, nil, &askError{reason: "its answer is larger than 1 MiB, breaks off or takes too long"}
	}
	v, err := readAnswer(resp, answer, q, p.opt.Now())
	return v, resp.Header, err
}

// An askError is why there is no answer that counts.
type askError struct {
	reason string        // for the operator, with no credentials in it
	retry  time.Duration // 0: the default
}

func (e *askError) Error() string { return e.reason }

// askReason says why a request got no answer. Of errors that are not known it says nothing
// more, as there may be parts of the answer in them.
func askReason(err error) string {
	var (
		timeout net.Error
		op      *net.OpError
		cert    *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return "it takes too long to answer"
	case errors.As(err, &op):
		return op.Error()
	case errors.As(err, &cert):
		return cert.Error()
	}
	return "it does not answer with HTTP, or breaks off"
}

// failed tells the operator, and returns what the sender of a request is told.
func (p *Application) failed(of context.Context, err error) error {
	retry := retryApplication
	if e := new(askError); errors.As(err, &e) && e.retry > 0 {
		retry = e.retry
	}
	switch {
	case of.Err() != nil: // the sender has gone
	case p.ctx.Err() != nil:
		return errShutdown()
	default:
		p.log(err)
	}
	return unavailable("the application that says who may come in gives no answer at the moment: try again in some seconds; the server's log has more", retry)
}

func errShutdown() error {
	return &hub.RequestError{Problem: hub.ProblemShutdown, Detail: "the server is shutting down: try again in a second"}
}

// log writes a line of the server's log now and then.
func (p *Application) log(err error) {
	now := p.opt.Now()
	p.mu.Lock()
	if !p.logged.IsZero() && now.Sub(p.logged) < logInterval {
		p.quiet++
		p.mu.Unlock()
		return
	}
	quiet := p.quiet
	p.logged, p.quiet = now, 0
	p.mu.Unlock()
	p.opt.Logger.Warn("the application does not say who may come in: those who ask are told to come back", "url", redacted(p.opt.URL), "reason", err, "more_since_last", quiet)
}
