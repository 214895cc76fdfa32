package auth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/hub"
)

// askLog is what the operator reads.
type askLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *askLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *askLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *askLog) lines() int { return strings.Count(l.String(), "\n") }

// newApplication returns one that asks a server with this handler, whose log comes with it.
func newApplication(t testing.TB, o auth.ApplicationOptions, h http.HandlerFunc) (*auth.Application, *askLog) {
	t.Helper()
	if h != nil {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		o.URL = s.URL + "/may?key=operators-secret"
	}
	log := &askLog{}
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	p, err := auth.NewApplication(&o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, log
}

// answers is a handler with always the same answer.
func answers(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, h := range header {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Add(name, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// newsAccess is what a subscription to news/a asks for.
func newsAccess() *hub.Access {
	return &hub.Access{Action: hub.ActionSubscribe, Topics: []string{"news/a"}, Patterns: []string{"users/*"}, Address: netip.MustParseAddr("203.0.113.7")}
}

func newsRequest(header ...string) *http.Request {
	r := httptest.NewRequest("GET", "/events/news/a?pattern=users/*", nil)
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func TestNewApplication_TellsAllThatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    *auth.ApplicationOptions
		want []string
	}{
		{"nothing", nil, []string{"URL of the application"}},
		{"another scheme", &auth.ApplicationOptions{URL: "ftp://app.example/"}, []string{"http or https"}},
		{"no host", &auth.ApplicationOptions{URL: "http:///may"}, []string{"http or https"}},
		{"a password", &auth.ApplicationOptions{URL: "http://user:s3cret@app.example/"}, []string{"a user in it"}},
		{"all of it", &auth.ApplicationOptions{URL: "x", Timeout: -1, Concurrency: -1}, []string{"URL", "time-out", "concurrency"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := auth.NewApplication(tt.o)
			if err == nil {
				t.Fatal("got no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
					t.Errorf("got error %q, want %q in it, and no password", err, want)
				}
			}
		})
	}
}

func TestApplication_GetsTheQuestion(t *testing.T) {
	type got struct {
		method, uri string
		header      http.Header
		body        map[string]any
	}
	asked := make(chan got, 1)
	p, _ := newApplication(t, auth.ApplicationOptions{}, func(w http.ResponseWriter, r *http.Request) {
		g := got{method: r.Method, uri: r.RequestURI, header: r.Header}
		if err := json.NewDecoder(r.Body).Decode(&g.body); err != nil {
			t.Error(err)
		}
		asked <- g
		w.WriteHeader(204)
	})
	r := httptest.NewRequest("PUT", "/events/news%2Fa?topic=x&ticket=t1&Access_Token=t2&%74oken=t3&type=y&a%=1&jwt", strings.NewReader("data"))
	passed := http.Header{
		"Authorization": {"Bearer abc"}, "Cookie": {"a=b; c=d"}, "Origin": {"https://page.example"}, "User-Agent": {"Mozilla/5.0"},
		"Accept-Language": {"de"}, "X-Custom": {"1", "2"}, "Last-Event-Id": {"7"}, "X-Named-In-Connection": {"1"},
	}
	dropped := http.Header{
		"Connection": {"keep-alive, X-Named-In-Connection"}, "Keep-Alive": {"x"}, "Te": {"trailers"}, "Trailer": {"x"}, "Upgrade": {"websocket"},
		"Transfer-Encoding": {"chunked"}, "Proxy-Authorization": {"Basic x"}, "Content-Encoding": {"gzip"}, "Content-Md5": {"x"},
		"If-Match": {"x"}, "If-None-Match": {"x"}, "Range": {"bytes=0-1"}, "Expect": {"100-continue"}, "Sec-Websocket-Key": {"x"},
		"X-Forwarded-For": {"10.0.0.1"}, "X-Forwarded-Host": {"evil.example"}, "Forwarded": {"for=10.0.0.1"}, "X-Real-Ip": {"10.0.0.1"},
		"X-Http-Method-Override": {"DELETE"}, "X-Original-Url": {"/health"}, "X-Rewrite-Url": {"/health"}, "X_custom": {"3"}, "Idempotency-Key": {"k"},
	}
	for name, values := range passed {
		r.Header[name] = values
	}
	for name, values := range dropped {
		r.Header[name] = values
	}
	a := &hub.Access{Action: hub.ActionPublish, Topics: []string{"news/a", "x"}, Address: netip.MustParseAddr("203.0.113.7")}
	if _, err := p.Ask(r, a, &hub.Grant{Subject: "alice"}); err != nil {
		t.Fatal(err)
	}
	g := <-asked
	if g.method != "POST" || g.uri != "/may?key=operators-secret" {
		t.Errorf("got %s %s, want a POST to the URL", g.method, g.uri)
	}
	want := map[string]any{
		"action": "publish", "topics": []any{"news/a", "x"}, "patterns": []any{}, "method": "PUT",
		"url": "/events/news%2Fa?topic=x&type=y", "address": "203.0.113.7", "subject": "alice",
	}
	if !reflect.DeepEqual(g.body, want) {
		t.Errorf("got body %v, want %v", g.body, want)
	}
	for name, values := range passed {
		if !reflect.DeepEqual(g.header[name], values) {
			t.Errorf("got %s: %q, want %q", name, g.header[name], values)
		}
	}
	for name := range dropped {
		if _, ok := g.header[name]; ok {
			t.Errorf("got %s: %q, want none", name, g.header[name])
		}
	}
	if got := g.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("got type %q, want application/json", got)
	}
	if data, err := io.ReadAll(r.Body); err != nil || string(data) != "data" {
		t.Errorf("got the body %q, %v after the question, want all of it", data, err)
	}
}

func TestApplication_Grants(t *testing.T) {
	clock := newTicketClock()
	soon, later := clock.Now().Add(time.Minute), clock.Now().Add(time.Hour)
	alice := func(g hub.Grant) *hub.Grant { g.Subject = "alice"; return &g }
	urls := hub.Grant{Subscribe: []string{"news/a", "users/*"}}
	token := alice(hub.Grant{Subscribe: []string{"news/**"}, Publish: []string{"a", "b"}, Private: []string{"news/a"}, Delete: []string{"*"}, Expires: later})
	everything := `{"subject":"bob","subscribe":["**"],"publish":["*"],"private":["**"],"delete":["a/**"],"admin":true,"expires_in":60}`
	tests := []struct {
		name   string
		status int
		body   string
		access *hub.Access
		inner  *hub.Grant
		want   hub.Grant
	}{
		{"204", 204, "", newsAccess(), nil, urls},
		{"no body", 200, "", newsAccess(), nil, urls},
		{"an empty object", 200, " {}\n", newsAccess(), nil, urls},
		{"to describe", 204, "", &hub.Access{Action: hub.ActionDescribe, Topics: []string{"a"}}, nil, hub.Grant{Subscribe: []string{"a"}}},
		{"to publish", 204, "", &hub.Access{Action: hub.ActionPublish, Topics: []string{"a"}}, nil, hub.Grant{Publish: []string{"a"}}},
		{"to delete", 204, "", &hub.Access{Action: hub.ActionDelete, Topics: []string{"a"}}, nil, hub.Grant{Delete: []string{"a"}}},
		{"to administer", 204, "", &hub.Access{Action: hub.ActionAdminister}, nil, hub.Grant{}},
		{"a topic that is a pattern too", 204, "", &hub.Access{Action: hub.ActionPublish, Topics: []string{"**", "a/*", "*", "a*", "\xff", "", "a"}}, nil, hub.Grant{Publish: []string{"a"}}},
		{"all fields", 200, everything, newsAccess(), nil, hub.Grant{Subject: "bob", Subscribe: []string{"**"}, Publish: []string{"*"}, Private: []string{"**"}, Delete: []string{"a/**"}, Admin: true, Expires: soon}},
		{"a subject alone", 200, `{"subject":"bob"}`, newsAccess(), nil, hub.Grant{Subject: "bob"}},
		{"an end", 200, `{"expires":"2026-01-31T13:01:00+01:00"}`, newsAccess(), nil, hub.Grant{Expires: soon}},
		{"two ends", 200, `{"expires":"2026-01-31T13:00:00Z","expires_in":60}`, newsAccess(), nil, hub.Grant{Expires: soon}},
		{"nulls", 200, `{"subscribe":null,"expires":null,"expires_in":null}`, newsAccess(), nil, hub.Grant{}},

		{"a token, 204", 204, "", newsAccess(), token, *alice(hub.Grant{Subscribe: []string{"news/a"}, Expires: later})},
		{"a token, everything", 200, everything, newsAccess(), token, *alice(hub.Grant{Subscribe: []string{"news/**"}, Publish: []string{"a", "b"}, Private: []string{"news/a"}, Delete: []string{"a"}, Expires: soon})},
		{"a token that ends sooner", 200, `{"subscribe":["news/*"],"expires_in":7200}`, newsAccess(), token, *alice(hub.Grant{Subscribe: []string{"news/*"}, Expires: later})},
		{"a token without a subject", 200, `{"subject":"bob","subscribe":["x"]}`, newsAccess(), &hub.Grant{Subscribe: []string{"*"}}, hub.Grant{Subject: "bob", Subscribe: []string{"x"}}},
		{"a token for something else", 200, everything, newsAccess(), &hub.Grant{}, hub.Grant{Subject: "bob", Expires: soon}},
		{"an administrator's token", 200, everything, newsAccess(), &hub.Grant{Admin: true}, hub.Grant{Subject: "bob", Admin: true, Expires: soon}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := newApplication(t, auth.ApplicationOptions{Now: clock.Now}, answers(tt.status, tt.body))
			got, err := p.Ask(newsRequest(), tt.access, tt.inner)
			if err != nil {
				t.Fatal(err)
			}
			if !got.Expires.Equal(tt.want.Expires) {
				t.Errorf("got the end %v, want %v", got.Expires, tt.want.Expires)
			}
			want := tt.want
			want.Narrow, want.By, want.Expires = true, "the application", got.Expires
			if !reflect.DeepEqual(got, &want) {
				t.Errorf("got grant %+v, want %+v", got, &want)
			}
		})
	}
}

func TestApplication_Refuses(t *testing.T) {
	const problem = "Content-Type: application/problem+json; charset=utf-8"
	const text = "Content-Type: text/plain; charset=utf-8"
	tests := []struct {
		name   string
		status int
		body   string
		header string
		want   hub.Problem
		says   string
	}{
		{"401", 401, "", "", hub.ProblemUnauthorized, "does not accept the credentials"},
		{"403", 403, "", "", hub.ProblemForbidden, "does not allow this"},
		{"a problem document", 403, `{"title":"x","detail":"the trial is over"}`, problem, hub.ProblemForbidden, "refuses: the trial is over"},
		{"a text", 401, "the session is over\r\n", text, hub.ProblemUnauthorized, "refuses: the session is over"},
		{"control characters", 403, "a\x00b\x1b[31m\r\nSet-Cookie: x\u202ec\xff", text, hub.ProblemForbidden, "refuses: a b [31m Set-Cookie: x c"},
		{"a page", 403, "<html>", "Content-Type: text/html", hub.ProblemForbidden, "does not allow this"},
		{"no document", 403, "<html>", problem, hub.ProblemForbidden, "does not allow this"},
		{"a long text", 403, strings.Repeat("ä", 100_000), text, hub.ProblemForbidden, "ä…"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, log := newApplication(t, auth.ApplicationOptions{}, answers(tt.status, tt.body, tt.header))
			_, err := p.Ask(newsRequest(), newsAccess(), nil)
			e := wantProblem(t, err, tt.want)
			if !strings.Contains(e.Detail, tt.says) {
				t.Errorf("got %q, want %q", e.Detail, tt.says)
			}
			if len(e.Detail) > 540 || (tt.want == hub.ProblemUnauthorized) != (e.Challenge != "") {
				t.Errorf("got %d bytes and challenge %q, want 540 at most, and one with a 401", len(e.Detail), e.Challenge)
			}
			if log.lines() > 0 {
				t.Errorf("got log %s, want none", log)
			}
		})
	}
}

func TestApplication_FailsClosed(t *testing.T) {
	clock := newTicketClock()
	everything := `{"subscribe":["**"]}`
	tests := []struct {
		name   string
		answer http.HandlerFunc
		says   string // the log
		retry  time.Duration
	}{
		{"500", answers(500, everything), "status 500", 2 * time.Second},
		{"201", answers(201, everything), "status 201", 2 * time.Second},
		{"404", answers(404, ""), "status 404", 2 * time.Second},
		{"a redirect", answers(302, "", "Location: /elsewhere"), "status 302", 2 * time.Second},
		{"a redirect that keeps the method", answers(307, "", "Location: /elsewhere"), "status 307", 2 * time.Second},
		{"busy", answers(503, "", "Retry-After: 30"), "status 503", 30 * time.Second},
		{"busy until a time", answers(429, "", "Retry-After: Sat, 31 Jan 2026 12:00:20 GMT"), "status 429", 20 * time.Second},
		{"busy for a year", answers(503, "", "Retry-After: 31536000"), "status 503", time.Hour},
		{"busy until yesterday", answers(503, "", "Retry-After: Fri, 30 Jan 2026 12:00:00 GMT"), "status 503", time.Second},
		{"busy for nonsense", answers(503, "", "Retry-After: soon"), "status 503", 2 * time.Second},
		{"a page", answers(200, "<html>log in</html>", "Content-Type: text/html"), "not a JSON object", 2 * time.Second},
		{"a list", answers(200, `["**"]`), "not a JSON object", 2 * time.Second},
		{"null", answers(200, "null"), "not a JSON object", 2 * time.Second},
		{"true", answers(200, "true"), "not a JSON object", 2 * time.Second},
		{"two objects", answers(200, everything+everything), "not a JSON object", 2 * time.Second},
		{"cut off", answers(200, `{"subscribe":["**"]`), "not a JSON object", 2 * time.Second},
		{"cut off by the connection", answers(200, everything, "Content-Length: 1000"), "breaks off", 2 * time.Second},
		{"an unknown field", answers(200, `{"subscribes":["**"]}`), "subscribes", 2 * time.Second},
		{"a text for a list", answers(200, `{"subscribe":"**"}`), "subscribe", 2 * time.Second},
		{"a bad pattern", answers(200, `{"subscribe":["**","a/**/b"]}`), "before its end", 2 * time.Second},
		{"an empty pattern", answers(200, `{"private":[""]}`), "empty", 2 * time.Second},
		{"a null pattern", answers(200, `{"private":[null]}`), "empty", 2 * time.Second},
		{"too many patterns", answers(200, `{"publish":["a"`+strings.Repeat(`,"a"`, 1000)+`]}`), "1001", 2 * time.Second},
		{"a bad subject", answers(200, `{"subject":"a\nb"}`), "subject", 2 * time.Second},
		{"expired", answers(200, `{"subscribe":["**"],"expires":"2026-01-31T12:00:00Z"}`), "expired", 2 * time.Second},
		{"the year 1", answers(200, `{"subscribe":["**"],"expires":"0001-01-01T00:00:00Z"}`), "expired", 2 * time.Second},
		{"no time", answers(200, `{"expires":"tomorrow"}`), "tomorrow", 2 * time.Second},
		{"for no seconds", answers(200, `{"subscribe":["**"],"expires_in":0}`), "expires_in", 2 * time.Second},
		{"for too many seconds", answers(200, `{"expires_in":9223372036854775807}`), "expires_in", 2 * time.Second},
		{"too large", answers(200, `{"subscribe":["**"]`+strings.Repeat(" ", 1<<20)+`}`), "larger than 1 MiB", 2 * time.Second},
		{"no HTTP", func(w http.ResponseWriter, r *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprintf(c, "%s\r\n\r\n", r.Header.Get("Authorization"))
			_ = c.Close()
		}, "does not answer with HTTP", 2 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var asked atomic.Int32
			p, log := newApplication(t, auth.ApplicationOptions{Now: clock.Now}, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				tt.answer(w, r)
			})
			r := newsRequest("Authorization: Bearer s3cret-token", "Cookie: session=s3cret-cookie")
			_, err := p.Ask(r, newsAccess(), nil)
			e := wantProblem(t, err, hub.ProblemUnavailable)
			if e.RetryAfter != tt.retry {
				t.Errorf("got RetryAfter %v, want %v", e.RetryAfter, tt.retry)
			}
			if asked.Load() != 1 {
				t.Errorf("got %d requests, want one", asked.Load())
			}
			if got := log.String(); !strings.Contains(got, tt.says) {
				t.Errorf("got log %q, want %q", got, tt.says)
			}
			for _, text := range []string{log.String(), e.Error()} {
				if strings.Contains(text, "s3cret") || strings.Contains(text, "operators-secret") {
					t.Errorf("got credentials in %q", text)
				}
			}
		})
	}
}

func TestApplication_DownIsUnavailable(t *testing.T) {
	s := httptest.NewServer(nil)
	s.Close()
	clock := newTicketClock()
	p, log := newApplication(t, auth.ApplicationOptions{URL: s.URL, Now: clock.Now}, nil)
	for range 3 {
		_, err := p.Ask(newsRequest(), newsAccess(), nil)
		wantProblem(t, err, hub.ProblemUnavailable)
	}
	if got := log.lines(); got != 1 {
		t.Errorf("got %d lines of log, want one: %s", got, log)
	}
	clock.add(10 * time.Second)
	_, err := p.Ask(newsRequest(), newsAccess(), nil)
	wantProblem(t, err, hub.ProblemUnavailable)
	if got := log.String(); !strings.Contains(got, "more_since_last=2") {
		t.Errorf("10 seconds later: got log %q, want a line that counts 2 more", got)
	}
}

func TestApplication_SlowIsUnavailable(t *testing.T) {
	for _, begin := range []bool{false, true} {
		t.Run(fmt.Sprintf("headers come %v", begin), func(t *testing.T) {
			p, log := newApplication(t, auth.ApplicationOptions{Timeout: 50 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if begin {
					_, _ = io.WriteString(w, `{"subscribe":`)
					_ = http.NewResponseController(w).Flush()
				}
				<-r.Context().Done()
			})
			_, err := p.Ask(newsRequest(), newsAccess(), nil)
			wantProblem(t, err, hub.ProblemUnavailable)
			if got := log.String(); !strings.Contains(got, "too long") {
				t.Errorf("got log %q, want that it takes too long", got)
			}
		})
	}
}

// blocking is a handler that waits until it is let go, or its client has gone.
func blocking(begun chan<- struct{}, release <-chan struct{}, then http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case begun <- struct{}{}:
		case <-r.Context().Done():
		}
		select {
		case <-release:
			then(w, r)
		case <-r.Context().Done():
		}
	}
}

func TestApplication_QuestionEndsWhenItsSenderGoes(t *testing.T) {
	begun, gone := make(chan struct{}), make(chan struct{})
	p, log := newApplication(t, auth.ApplicationOptions{Timeout: time.Hour}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		begun <- struct{}{}
		<-r.Context().Done()
		close(gone)
	})
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := p.Ask(newsRequest().WithContext(ctx), newsAccess(), nil)
		failed <- err
	}()
	<-begun
	cancel()
	wantProblem(t, <-failed, hub.ProblemUnavailable)
	<-gone
	if log.lines() > 0 {
		t.Errorf("got log %s, want none: it was not the application's failure", log)
	}
}

func TestApplication_CloseEndsQuestions(t *testing.T) {
	begun := make(chan struct{})
	p, _ := newApplication(t, auth.ApplicationOptions{Timeout: time.Hour, Concurrency: 1}, blocking(begun, nil, nil))
	failed := make(chan error, 2)
	for range 2 { // one of which waits for its turn
		go func() {
			_, err := p.Ask(newsRequest(), newsAccess(), nil)
			failed <- err
		}()
	}
	<-begun
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		wantProblem(t, <-failed, hub.ProblemShutdown)
	}
	_, err := p.Ask(newsRequest(), newsAccess(), nil)
	wantProblem(t, err, hub.ProblemShutdown)
}

func TestApplication_NoMoreQuestionsAtATimeThanItIsTold(t *testing.T) {
	const most, questions = 3, 20
	var now, peak atomic.Int32
	begun, release := make(chan struct{}, questions), make(chan struct{})
	p, _ := newApplication(t, auth.ApplicationOptions{Concurrency: most, Timeout: time.Minute}, func(w http.ResponseWriter, r *http.Request) {
		if n := now.Add(1); n > peak.Load() {
			peak.Store(n)
		}
		defer now.Add(-1)
		blocking(begun, release, answers(204, ""))(w, r)
	})
	var asking sync.WaitGroup
	for range questions {
		asking.Go(func() {
			if _, err := p.Ask(newsRequest(), newsAccess(), nil); err != nil {
				t.Error(err)
			}
		})
	}
	for range most {
		<-begun
	}
	close(release)
	asking.Wait()
	if got := peak.Load(); got != most {
		t.Errorf("got %d questions at a time, want %d", got, most)
	}
}

func TestApplication_WaitIsPartOfTheTimeout(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	p, log := newApplication(t, auth.ApplicationOptions{Concurrency: 1, Timeout: 100 * time.Millisecond}, blocking(begun, release, answers(204, "")))
	first := make(chan error, 1)
	go func() {
		_, err := p.Ask(newsRequest(), newsAccess(), nil)
		first <- err
	}()
	<-begun
	second := make(chan error, 1)
	go func() {
		_, err := p.Ask(newsRequest(), newsAccess(), nil)
		second <- err
	}()
	wantProblem(t, <-first, hub.ProblemUnavailable)
	select { // the second one gets its turn if it is there late enough
	case <-begun:
	case err := <-second:
		wantProblem(t, err, hub.ProblemUnavailable)
		second <- err
	}
	wantProblem(t, <-second, hub.ProblemUnavailable)
	if log.lines() != 1 {
		t.Errorf("got log %s, want a line", log)
	}
}

func TestApplication_KeepsAnswersAsItSays(t *testing.T) {
	const max = "Cache-Control: max-age=60"
	ask := func(access *hub.Access, header ...string) func(p *auth.Application) error {
		return func(p *auth.Application) error {
			_, err := p.Ask(newsRequest(header...), access, nil)
			return err
		}
	}
	plain := ask(newsAccess())
	publish := newsAccess()
	publish.Action = hub.ActionPublish
	another := newsAccess()
	another.Topics = []string{"news/b"}
	moved := newsAccess()
	moved.Topics, moved.Patterns = append(moved.Topics, moved.Patterns...), nil
	elsewhere := newsAccess()
	elsewhere.Address = netip.MustParseAddr("203.0.113.8")
	cross := func(p *auth.Application) error {
		_, err := p.Ask(newsRequest(), newsAccess(), &hub.Grant{Subject: "alice", Subscribe: []string{"**"}})
		return err
	}
	otherURL := func(p *auth.Application) error {
		r := httptest.NewRequest("GET", "/events/news/a?pattern=users/*&last=5", nil)
		_, err := p.Ask(r, newsAccess(), nil)
		return err
	}
	tests := []struct {
		name   string
		status int
		body   string
		header []string
		first  func(*auth.Application) error
		after  time.Duration
		second func(*auth.Application) error
		asked  int32
	}{
		{"nothing said", 204, "", nil, plain, 0, plain, 2},
		{"max-age", 204, "", []string{max}, plain, 59 * time.Second, plain, 1},
		{"max-age is over", 204, "", []string{max}, plain, 60 * time.Second, plain, 2},
		{"max-age 0", 204, "", []string{"Cache-Control: max-age=0"}, plain, 0, plain, 2},
		{"a negative max-age", 204, "", []string{"Cache-Control: max-age=-5"}, plain, 0, plain, 2},
		{"nonsense", 204, "", []string{"Cache-Control: max-age=soon"}, plain, 0, plain, 2},
		{"two of them", 204, "", []string{"Cache-Control: max-age=600, max-age=60"}, plain, 60 * time.Second, plain, 2},
		{"s-maxage counts", 204, "", []string{"Cache-Control: max-age=600, s-maxage=60"}, plain, 60 * time.Second, plain, 2},
		{"s-maxage of none", 204, "", []string{"Cache-Control: s-maxage=0, max-age=600"}, plain, 0, plain, 2},
		{"a day at most", 204, "", []string{"Cache-Control: max-age=9999999"}, plain, 24 * time.Hour, plain, 2},
		{"no-store", 204, "", []string{max, "Cache-Control: no-store"}, plain, 0, plain, 2},
		{"private", 204, "", []string{"Cache-Control: Private, max-age=60"}, plain, 0, plain, 2},
		{"no-cache", 204, "", []string{"Cache-Control: max-age=60, no-cache"}, plain, 0, plain, 2},
		{"not beyond the grant", 200, `{"subscribe":["**"],"expires_in":30}`, []string{max}, plain, 30 * time.Second, plain, 2},
		{"up to the grant's end", 200, `{"subscribe":["**"],"expires_in":30}`, []string{max}, plain, 29 * time.Second, plain, 1},
		{"401", 401, "", []string{max}, plain, 59 * time.Second, plain, 1},
		{"403", 403, "", []string{max}, plain, 59 * time.Second, plain, 1},
		{"a failure", 500, "", []string{max}, plain, 0, plain, 2},
		{"garbage", 200, "x", []string{max}, plain, 0, plain, 2},
		{"a large one", 200, `{"subscribe":["` + strings.Repeat("a", 1000) + strings.Repeat(`","`+strings.Repeat("a", 1000), 9) + `"]}`, []string{max}, plain, 0, plain, 2},

		{"another action", 204, "", []string{max}, plain, 0, ask(publish), 2},
		{"another topic", 204, "", []string{max}, plain, 0, ask(another), 2},
		{"a topic for a pattern", 204, "", []string{max}, plain, 0, ask(moved), 2},
		{"another subject", 204, "", []string{max}, plain, 0, cross, 2},
		{"another token", 204, "", []string{max, "Vary: X-Key"}, ask(newsAccess(), "Authorization: Bearer a"), 0, ask(newsAccess(), "Authorization: Bearer b"), 2},
		{"no token", 204, "", []string{max, "Vary: X-Key"}, ask(newsAccess(), "Authorization: Bearer a"), 0, plain, 2},
		{"another cookie", 204, "", []string{max, "Vary: X-Key"}, ask(newsAccess(), "Cookie: a=1"), 0, ask(newsAccess(), "Cookie: a=2"), 2},
		{"the same token", 204, "", []string{max, "Vary: X-Key"}, ask(newsAccess(), "Authorization: Bearer a", "X-Other: 1"), 0, ask(newsAccess(), "Authorization: Bearer a", "X-Other: 2"), 1},
		{"a named header", 204, "", []string{max, "Vary: Accept, x-key"}, ask(newsAccess(), "X-Key: 1"), 0, ask(newsAccess(), "X-Key: 2"), 2},
		{"a named header, the same", 204, "", []string{max, "Vary: Accept", "Vary: x-key"}, ask(newsAccess(), "X-Key: 1"), 0, ask(newsAccess(), "X-Key: 1", "Last-Event-ID: 7"), 1},
		{"a named header in two lines", 204, "", []string{max, "Vary: X-Key"}, ask(newsAccess(), "X-Key: 1", "X-Key: 2"), 0, ask(newsAccess(), "X-Key: 12"), 2},
		{"another address, named", 204, "", []string{max, "Vary: Tidewire-Address"}, plain, 0, ask(elsewhere), 2},
		{"another address, not named", 204, "", []string{max, "Vary: X-Key"}, plain, 0, ask(elsewhere), 1},
		{"anything", 204, "", []string{max, "Vary: X-Key, *"}, plain, 0, plain, 2},

		{"no Vary, another header", 204, "", []string{max}, ask(newsAccess(), "X-Key: 1"), 0, ask(newsAccess(), "X-Key: 2"), 2},
		{"no Vary, a header more", 204, "", []string{max}, plain, 0, ask(newsAccess(), "X-Key: "), 2},
		{"no Vary, another address", 204, "", []string{max}, plain, 0, ask(elsewhere), 2},
		{"no Vary, another URL", 204, "", []string{max}, plain, 0, otherURL, 2},
		{"no Vary, a reconnection", 204, "", []string{max}, plain, 0, ask(newsAccess(), "Last-Event-ID: 7"), 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clock := newTicketClock()
			var asked atomic.Int32
			p, _ := newApplication(t, auth.ApplicationOptions{Now: clock.Now}, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				answers(tt.status, tt.body, tt.header...)(w, r)
			})
			first := tt.first(p)
			clock.add(tt.after)
			second := tt.second(p)
			if got := asked.Load(); got != tt.asked {
				t.Errorf("got %d questions, want %d", got, tt.asked)
			}
			if fmt.Sprint(first) != fmt.Sprint(second) {
				t.Errorf("got %v and then %v, want the same", first, second)
			}
		})
	}
	t.Run("no cache", func(t *testing.T) {
		var asked atomic.Int32
		p, _ := newApplication(t, auth.ApplicationOptions{CacheEntries: -1}, func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			answers(204, "", max)(w, r)
		})
		for range 2 {
			if err := plain(p); err != nil {
				t.Fatal(err)
			}
		}
		if got := asked.Load(); got != 2 {
			t.Errorf("got %d questions, want 2", got)
		}
	})
}

// TestApplication_KeptAnswerIsNarrowedEachTime has one answer serve two tokens' grants.
func TestApplication_KeptAnswerIsNarrowedEachTime(t *testing.T) {
	p, _ := newApplication(t, auth.ApplicationOptions{}, answers(200, `{"subscribe":["**"]}`, "Cache-Control: max-age=60"))
	for _, inner := range [][]string{{"**"}, {"a"}, {"**"}} {
		g, err := p.Ask(newsRequest(), newsAccess(), &hub.Grant{Subscribe: inner})
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(g.Subscribe, inner) {
			t.Errorf("got %q, want %q", g.Subscribe, inner)
		}
	}
}

// TestApplication_QuestionsThatWaitFindTheAnswer has many ask the same at once.
func TestApplication_QuestionsThatWaitFindTheAnswer(t *testing.T) {
	const most, questions = 2, 50
	var asked atomic.Int32
	begun, release := make(chan struct{}, questions), make(chan struct{})
	p, _ := newApplication(t, auth.ApplicationOptions{Concurrency: most, Timeout: time.Minute}, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		blocking(begun, release, answers(204, "", "Cache-Control: max-age=60"))(w, r)
	})
	var asking sync.WaitGroup
	for range questions {
		asking.Go(func() {
			if _, err := p.Ask(newsRequest(), newsAccess(), nil); err != nil {
				t.Error(err)
			}
		})
	}
	for range most {
		<-begun
	}
	close(release)
	asking.Wait()
	if got := asked.Load(); got > most {
		t.Errorf("got %d questions, want %d at most", got, most)
	}
}

// TestApplication_OwnClient has the client's redirects and cookies not count.
func TestApplication_OwnClient(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cookie") != "" || r.URL.Path != "/" {
			t.Errorf("got cookie %q and path %s, want neither another path nor a cookie", r.Header.Get("Cookie"), r.URL.Path)
		}
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer s.Close()
	jar := newTicketServer(t, true).browser(t).Jar
	client := s.Client()
	client.Jar = jar
	p, _ := newApplication(t, auth.ApplicationOptions{URL: s.URL, Client: client}, nil)
	for range 2 {
		_, err := p.Ask(newsRequest(), newsAccess(), nil)
		wantProblem(t, err, hub.ProblemUnavailable)
	}
	stranger, log := newApplication(t, auth.ApplicationOptions{URL: s.URL}, nil)
	_, err := stranger.Ask(newsRequest(), newsAccess(), nil)
	wantProblem(t, err, hub.ProblemUnavailable)
	if got := log.String(); !strings.Contains(got, "certificate") {
		t.Errorf("of a certificate that is not known: got log %q, want that", got)
	}
}
