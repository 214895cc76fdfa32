package doctor_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/internal/doctor"
	"github.com/tidewire/tidewire/internal/proxytest"
	"github.com/tidewire/tidewire/server"
)

const (
	patience = 30 * time.Second // for what must happen
	timeout  = 3 * time.Second  // for what a proxy holds back
)

// startServer runs the real server on a free port, and returns its URL.
func startServer(t *testing.T, c server.Config) string {
	t.Helper()
	c.Listen = "127.0.0.1:0"
	s, err := server.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.URL()
}

// startNginx puts nginx before upstream. directives stand in its location. It returns its URL.
func startNginx(t *testing.T, upstream, directives string) string {
	t.Helper()
	return proxytest.Nginx(t, fmt.Sprintf("location / { proxy_pass %s; %s }", upstream, directives))
}

// startHAProxy puts HAProxy before upstream. directives stand in its defaults. It returns
// its URL.
func startHAProxy(t *testing.T, upstream, directives string) string {
	t.Helper()
	return proxytest.HAProxy(t, fmt.Sprintf(`
defaults
	mode http
	timeout connect 5s
	timeout client 1m
	timeout server 1m
	%s
listen stream
	bind :443 ssl
	server upstream %s
`, strings.ReplaceAll(directives, "; ", "\n\t"), strings.TrimPrefix(upstream, "http://")))
}

// serve runs a server of another kind.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// streaming begins a stream as most servers do, and goes on with body.
func streaming(body func(w http.ResponseWriter, r *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Accel-Buffering", "no")
		if r.Method != http.MethodGet {
			return
		}
		send(w, "retry: 2000\n:\n")
		body(w, r)
	}
}

// hold keeps a stream open.
func hold(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func send(w http.ResponseWriter, text string) {
	_, _ = w.Write([]byte(text)) // who has gone needs none
	_ = http.NewResponseController(w).Flush()
}

// examine runs the doctor. What the options leave out is fit for tests: an idle stream is
// not looked at.
func examine(t *testing.T, url string, o doctor.Options) *doctor.Report {
	t.Helper()
	if o.Idle == 0 {
		o.Idle = -1
	}
	if o.Timeout == 0 {
		o.Timeout = timeout
	}
	r, err := doctor.Run(t.Context(), url, &o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// problems returns what is wrong, sorted.
func problems(r *doctor.Report) []string {
	names := []string{}
	for _, f := range r.Findings {
		if f.Severity == doctor.Problem {
			names = append(names, f.Check)
		}
	}
	slices.Sort(names)
	return names
}

// wrong checks that these are the problems, and no others.
func wrong(t *testing.T, r *doctor.Report, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := problems(r); !slices.Equal(got, want) {
		t.Errorf("got problems %q, want %q; all findings:\n%s", got, want, all(r))
	}
}

func all(r *doctor.Report) string {
	var s strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&s, "%s %s: %s %v\n", f.Severity, f.Check, f.Says, f.Measured)
	}
	return s.String()
}

// found returns the finding of a check, and fails unless it has this severity and its text
// these parts.
func found(t *testing.T, r *doctor.Report, check string, s doctor.Severity, parts ...string) doctor.Finding {
	t.Helper()
	for _, f := range r.Findings {
		if f.Check != check {
			continue
		}
		if f.Severity != s {
			t.Errorf("got %s %s: %s, want it to be %s", f.Severity, check, f.Says, s)
		}
		for _, part := range parts {
			if !strings.Contains(f.Says, part) {
				t.Errorf("got %s: %q, want it to have %q", check, f.Says, part)
			}
		}
		return f
	}
	t.Errorf("got no finding on %s, among\n%s", check, all(r))
	return doctor.Finding{}
}

// absent checks that nothing is said of something.
func absent(t *testing.T, r *doctor.Report, checks ...string) {
	t.Helper()
	for _, f := range r.Findings {
		if slices.Contains(checks, f.Check) {
			t.Errorf("got %s %s: %s, want nothing said of it", f.Severity, f.Check, f.Says)
		}
	}
}
