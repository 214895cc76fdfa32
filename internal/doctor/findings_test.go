package doctor_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/internal/doctor"
	"github.com/tidewire/tidewire/internal/proxytest"
	"github.com/tidewire/tidewire/server"
)

func TestRun_LooksAtHeaders(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		header   http.Header
		check    string
		severity doctor.Severity
		says     string
	}{
		{"all right", http.Header{}, "content-type", doctor.OK, "text/event-stream"},
		{"all right", http.Header{}, "cache-control", doctor.OK, "no-store"},
		{"all right", http.Header{}, "x-accel-buffering", doctor.OK, "no"},
		{"all right", http.Header{}, "clock", doctor.OK, "within"},
		{"UTF-8", http.Header{"Content-Type": {"text/event-stream; charset=UTF-8"}}, "content-type", doctor.OK, ""},
		{"another charset", http.Header{"Content-Type": {"text/event-stream; charset=latin1"}}, "content-type", doctor.Note, "UTF-8"},
		{"a page", http.Header{"Content-Type": {"text/html"}}, "content-type", doctor.Problem, "no stream"},
		{"no type", http.Header{"Content-Type": nil}, "content-type", doctor.Problem, "no Content-Type"},
		{"no cache rule", http.Header{"Cache-Control": nil}, "cache-control", doctor.Note, "no-store"},
		{"revalidated", http.Header{"Cache-Control": {"private, No-Cache"}}, "cache-control", doctor.OK, ""},
		{"may be kept", http.Header{"Cache-Control": {"max-age=60"}}, "cache-control", doctor.Problem, "max-age=60"},
		{"no shared cache", http.Header{"Cache-Control": {"private"}}, "cache-control", doctor.OK, "private"},
		{"not changed", http.Header{"Cache-Control": {"no-transform"}}, "cache-control", doctor.Note, "no-store"},
		{"public", http.Header{"Cache-Control": {"public"}}, "cache-control", doctor.Problem, "public"},
		{"was kept", http.Header{"Age": {"7"}}, "cache-control", doctor.Problem, "from a cache"},
		{"a hit", http.Header{"X-Cache": {"Hit from cloudfront"}}, "cache-control", doctor.Problem, "from a cache"},
		{"a miss", http.Header{"X-Cache": {"Miss from cloudfront"}}, "cache-control", doctor.OK, ""},
		{"no X-Accel-Buffering", http.Header{"X-Accel-Buffering": nil}, "x-accel-buffering", doctor.Note, "missing"},
		{"X-Accel-Buffering: yes", http.Header{"X-Accel-Buffering": {"yes"}}, "x-accel-buffering", doctor.Problem, "yes"},
		{"a coding", http.Header{"Content-Encoding": {"br"}}, "content-encoding", doctor.Problem, "asked for none"},
		{"clock a little off", http.Header{"Date": {clock(-20 * time.Second)}}, "clock", doctor.Note, "behind"},
		{"clock off", http.Header{"Date": {clock(time.Hour)}}, "clock", doctor.Problem, "ahead of"},
		{"proxies", http.Header{"Via": {"1.1 varnish"}, "Cf-Ray": {"1"}, "Server": {"Apache"}}, "proxies", doctor.OK, "Cloudflare; Via: 1.1 varnish; Server: Apache"},
		{"no proxy", http.Header{}, "proxies", doctor.OK, "none shows itself"},
		{"a retry", http.Header{}, "retry", doctor.OK, "2s"},
	} {
		t.Run(test.name+" "+test.check, func(t *testing.T) {
			t.Parallel()
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				h := w.Header()
				h.Set("Content-Type", "text/event-stream")
				h.Set("Cache-Control", "no-store")
				h.Set("X-Accel-Buffering", "no")
				for name, values := range test.header {
					h[name] = values
				}
				send(w, "retry: 2000\n:\n")
			})
			r := examine(t, url, doctor.Options{})
			found(t, r, test.check, test.severity, test.says)
			absent(t, r, "content-length", "redirect", "status", "http3", "certificate", "cors", "idle")
			if test.check != "content-encoding" {
				absent(t, r, "content-encoding")
			}
			if r.Tidewire {
				t.Error("got a server of ours")
			}
		})
	}
}

func clock(off time.Duration) string { return time.Now().Add(off).UTC().Format(http.TimeFormat) }

func TestRun_StreamWithALengthIsNone(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = io.WriteString(w, "data: x\n\n")
	})
	r := examine(t, url, doctor.Options{})
	wrong(t, r, "content-length")
	found(t, r, "content-length", doctor.Problem, "9 bytes")
}

func TestRun_SaysWhyThereIsNoStream(t *testing.T) {
	t.Parallel()
	key, err := auth.NewSecretKey("HS256", "a secret of thirty-two bytes and more")
	if err != nil {
		t.Fatal(err)
	}
	locked := startServer(t, server.Config{Access: &server.Access{Options: auth.Options{Keys: []auth.Key{key}}}})
	open := startServer(t, server.Config{})
	closing, err := http.Post(open+"/events/ended?end=true", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = closing.Body.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	silent := serve(t, func(_ http.ResponseWriter, r *http.Request) { hold(nil, r) })
	text := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out to lunch\nsecond line", http.StatusServiceUnavailable)
	})
	for _, test := range []struct {
		name, url, check string
		severity         doctor.Severity
		says             []string
	}{
		{"no credentials", locked + "/events/a", "status", doctor.Problem, []string{"401", "publisher key", "urn:tidewire:problem:unauthorized", "--token"}},
		{"no such path", open + "/", "content-type", doctor.Problem, []string{"text/html"}},
		{"bad query", open + "/events/a?since=never", "status", doctor.Problem, []string{"400", `(field "since")`}},
		{"closed topic", open + "/events/ended", "status", doctor.Note, []string{"204"}},
		{"nobody there", gone.URL, "connection", doctor.Problem, []string{"refused"}},
		{"no answer at all", silent, "answer", doctor.Problem, []string{"no answer came in 3s"}},
		{"text", text, "status", doctor.Problem, []string{"503", "out to lunch"}},
		{"no URL", "http://127.0.0.1:99999/", "connection", doctor.Problem, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := examine(t, test.url, doctor.Options{})
			found(t, r, test.check, test.severity, test.says...)
			if strings.Contains(all(r), "second line") {
				t.Error("got more than the first line")
			}
		})
	}
}

func TestRun_SendsHeadersButNoTokenAheadOfCORS(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[string]string{} // Authorization by method
	stream := streaming(hold)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen[r.Method] = r.Header.Get("Authorization")
		mu.Unlock()
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Headers", "*")
		if r.Method == http.MethodOptions {
			return
		}
		stream(w, r)
	})
	r := examine(t, url, doctor.Options{Origin: "https://app.example", Header: http.Header{"Authorization": {"Bearer x"}}})
	wrong(t, r, "preflight")
	found(t, r, "preflight", doctor.Problem, "lacks authorization:")
	mu.Lock()
	defer mu.Unlock()
	if seen["GET"] != "Bearer x" || seen["HEAD"] != "Bearer x" || seen["OPTIONS"] != "" {
		t.Errorf("got Authorization %q, want it in all requests but OPTIONS", seen)
	}
}

func TestRun_LooksAtCORS(t *testing.T) {
	t.Parallel()
	const origin = "https://app.example"
	with := startServer(t, server.Config{Hub: hub.Options{AllowedOrigins: []string{origin}, AllowCredentials: true}})
	without := startServer(t, server.Config{Hub: hub.Options{AllowedOrigins: []string{origin}}})
	other := serve(t, streaming(hold))
	wrongOne := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "https://other.example")
		streaming(hold)(w, r)
	})
	cookie := http.Header{"Cookie": {"a=b"}}
	for _, test := range []struct {
		name, url, origin string
		header            http.Header
		check             string
		severity          doctor.Severity
		says              string
	}{
		{"allowed", with + "/events/a", origin, nil, "cors", doctor.OK, origin},
		{"credentials", with + "/events/a", origin, cookie, "credentials", doctor.OK, "withCredentials"},
		{"no credentials", without + "/events/a", origin, nil, "credentials", doctor.Note, "without cookies"},
		{"a cookie that pages cannot send", without + "/events/a", origin, cookie, "credentials", doctor.Problem, "has a cookie"},
		{"preflight", with + "/events/a", origin, nil, "preflight", doctor.OK, "let in"},
		{"refused", with + "/events/a", "https://evil.example", nil, "cors", doctor.Problem, "may not use this hub"},
		{"not known", other, origin, nil, "cors", doctor.Problem, "no Access-Control-Allow-Origin"},
		{"another", wrongOne, origin, nil, "cors", doctor.Problem, "other.example"},
		{"the same", other, other, nil, "cors", doctor.OK, "own origin"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			found(t, examine(t, test.url, doctor.Options{Origin: test.origin, Header: test.header}), test.check, test.severity, test.says)
		})
	}
}

func TestRun_FollowsRedirects(t *testing.T) {
	t.Parallel()
	target := startServer(t, server.Config{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target+"/events/clock", http.StatusTemporaryRedirect)
	})
	r := examine(t, url, doctor.Options{})
	wrong(t, r)
	found(t, r, "redirect", doctor.Note, url, "leads on to "+target+"/events/clock")

	var endless string
	endless = serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, endless, http.StatusFound) })
	found(t, examine(t, endless, doctor.Options{}), "connection", doctor.Problem, "without an end")
}

// trusting returns a configuration that trusts the certificate that a server shows.
func trusting(t *testing.T, url string) *tls.Config {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	roots := x509.NewCertPool()
	for _, c := range conn.ConnectionState().PeerCertificates {
		roots.AddCert(c)
	}
	return &tls.Config{RootCAs: roots}
}

func TestRun_HTTP2AndHTTP3(t *testing.T) {
	t.Parallel()
	url := startServer(t, server.Config{Transport: server.Transport{TLS: server.TLSDev, HTTP3: true}})
	r := examine(t, url+"/events/clock", doctor.Options{Probe: url + "/events/probe", TLS: trusting(t, url)})
	wrong(t, r)
	found(t, r, "protocol", doctor.OK, "HTTP/2.0")
	found(t, r, "http3", doctor.OK, "was answered")
	found(t, r, "certificate", doctor.OK, "days more")
	found(t, r, "resume", doctor.OK)

	r = examine(t, url+"/events/clock", doctor.Options{})
	wrong(t, r, "certificate")
	found(t, r, "certificate", doctor.Problem, "browsers do not connect")
}

func TestRun_HTTP1(t *testing.T) {
	t.Parallel()
	found(t, examine(t, serve(t, streaming(hold)), doctor.Options{}), "protocol", doctor.Note, "six connections", "needs https")

	s := httptest.NewTLSServer(streaming(hold)) // which does not offer HTTP/2
	t.Cleanup(s.Close)
	r := examine(t, s.URL, doctor.Options{TLS: trusting(t, s.URL)})
	found(t, r, "protocol", doctor.Note, "offered and not taken")
	absent(t, r, "http3")
}

func TestRun_HTTP3ThatIsAnnouncedAndNotThere(t *testing.T) {
	t.Parallel()
	address := proxytest.FreeAddress(t) // of TCP, and so of nobody's UDP
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Alt-Svc", fmt.Sprintf(`h2="x:1", h3="%s"; ma=60`, address))
		streaming(hold)(w, r)
	}))
	t.Cleanup(s.Close)
	r := examine(t, s.URL, doctor.Options{TLS: trusting(t, s.URL)})
	wrong(t, r)
	found(t, r, "http3", doctor.Note, address, "does not answer")
}

// TestRun_FirstBytesThatDoNotCome has a proxy that passes on the headers.
func TestRun_FirstBytesThatDoNotCome(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		ours     bool
		severity doctor.Severity
	}{{"of a hub", true, doctor.Problem}, {"of others", false, doctor.Note}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if test.ours {
					w.Header().Set("Tidewire-Closed", "false")
				}
				w.Header().Set("Content-Type", "text/event-stream")
				if r.Method == http.MethodGet {
					send(w, "")
					hold(w, r)
				}
			})
			found(t, examine(t, url, doctor.Options{}), "first-bytes", test.severity, "nothing in 3s")
		})
	}
}

// TestRun_DeliveryThatIsHeldBack has a proxy that passes on what a stream begins with.
func TestRun_DeliveryThatIsHeldBack(t *testing.T) {
	t.Parallel()
	upstream := startServer(t, server.Config{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		req, err := http.NewRequestWithContext(r.Context(), r.Method, upstream+r.URL.Path, r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		req.Header = r.Header.Clone()
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			return // the doctor has gone
		}
		defer resp.Body.Close()
		for name, values := range resp.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(resp.StatusCode)
		first := make([]byte, 1024)
		n, _ := resp.Body.Read(first)
		send(w, string(first[:n]))
		if r.Method == http.MethodGet {
			hold(w, r)
		}
	})
	r := examine(t, url+"/events/clock", doctor.Options{Probe: url + "/events/probe"})
	wrong(t, r, "delivery")
	found(t, r, "delivery", doctor.Problem, "was stored, and did not come in 3s")
	found(t, r, "resume", doctor.Note, "not tried")
}

func TestRun_PublishingThatIsRefused(t *testing.T) {
	t.Parallel()
	url := startServer(t, server.Config{})
	r := examine(t, url+"/events/clock", doctor.Options{Probe: url + "/events/probe?type=tidewire.x&id=%00"})
	found(t, r, "delivery", doctor.Problem, "could not be published")
	r = examine(t, url+"/events/clock", doctor.Options{})
	wrong(t, r)
	found(t, r, "delivery", doctor.Note, "--publish-topic")
	found(t, r, "resume", doctor.Note, "no event came")
}

func TestRun_CodingThatNobodyAskedFor(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "zstd")
		}
		streaming(hold)(w, r)
	})
	r := examine(t, url, doctor.Options{})
	wrong(t, r, "compression")
	found(t, r, "compression", doctor.Problem, "zstd", "says nothing")
}

// TestRun_CodingsThatAreNotDecoded has one that browsers ask for over https, of which only
// the time can be told.
func TestRun_CodingsThatAreNotDecoded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		begin    string
		severity doctor.Severity
		says     string
	}{
		{"at once", "\x0b\x02\x80", doctor.OK, "begins at once"},
		{"held back", "", doctor.Problem, "nothing that can be read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			plain := streaming(hold)
			s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.Contains(r.Header.Get("Accept-Encoding"), "br") {
					plain(w, r)
					return
				}
				w.Header().Set("Content-Type", "text/event-stream")
				w.Header().Set("Content-Encoding", "br")
				send(w, test.begin)
				hold(w, r)
			}))
			t.Cleanup(s.Close)
			r := examine(t, s.URL, doctor.Options{TLS: trusting(t, s.URL)})
			found(t, r, "compression", test.severity, "br", test.says)
		})
	}
}

// TestRun_CertificatesNearTheirEnd has one whose life is nearly over, and others.
func TestRun_CertificatesNearTheirEnd(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for _, test := range []struct {
		name       string
		life, left time.Duration
		severity   doctor.Severity
		says       string
	}{
		{"of three months, new", 90 * day, 80 * day, doctor.OK, "days more"},
		{"of three months, to be renewed", 90 * day, 20 * day, doctor.Note, "renewal"},
		{"of three months, late", 90 * day, 5 * day, doctor.Problem, "renew it now"},
		{"of a year, with a month", 365 * day, 31 * day, doctor.OK, "days more"},
		{"of a week, with three days", 7 * day, 3 * day, doctor.OK, "days more"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewUnstartedServer(streaming(hold))
			s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate(t, test.left-test.life, test.left)}}
			s.StartTLS()
			t.Cleanup(s.Close)
			r := examine(t, s.URL, doctor.Options{TLS: trusting(t, s.URL), Timeout: timeout})
			found(t, r, "certificate", test.severity, test.says)
		})
	}
}

// certificate returns one for this machine, with its bounds as durations from now.
func certificate(t *testing.T, from, until time.Duration) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(until),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestRun_ResumesOtherServers has servers that are not ours, with events of their own:
// number n comes to each stream at the same time.
func TestRun_ResumesOtherServers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		resume   func(last int) (from int) // the first number of a resumed stream
		ids      bool
		severity doctor.Severity
		says     string
	}{
		{"well", func(last int) int { return last + 1 }, true, doctor.OK, "each once"},
		{"losing", func(int) int { return 1 << 30 }, true, doctor.Problem, "are lost"},
		{"repeating", func(last int) int { return last }, true, doctor.Problem, "came again"},
		{"without ids", func(int) int { return 1 << 30 }, false, doctor.Note, "have no id"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ticks := newTicks(t)
			url := serve(t, streaming(func(w http.ResponseWriter, r *http.Request) {
				last, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
				next := ticks.now() + 1
				if last > 0 {
					next = min(next, test.resume(last))
				}
				for ; ticks.reach(r.Context(), next) == nil; next++ {
					text := fmt.Sprintf("data: %d\n\n", next)
					if test.ids {
						text = fmt.Sprintf("id: %d\n%s", next, text)
					}
					send(w, text)
				}
			}))
			r := examine(t, url, doctor.Options{})
			found(t, r, "resume", test.severity, test.says)
		})
	}
}

// ticks count up while a test runs.
type ticks struct {
	mu      sync.Mutex
	n       int
	changed chan struct{}
}

func newTicks(t *testing.T) *ticks {
	ti := &ticks{changed: make(chan struct{})}
	every := time.NewTicker(100 * time.Millisecond)
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-every.C:
				ti.mu.Lock()
				ti.n++
				close(ti.changed)
				ti.changed = make(chan struct{})
				ti.mu.Unlock()
			case <-done:
				return
			}
		}
	}()
	t.Cleanup(func() { every.Stop(); close(done); <-stopped })
	return ti
}

func (ti *ticks) now() int {
	ti.mu.Lock()
	defer ti.mu.Unlock()
	return ti.n
}

// reach waits until they have come to n.
func (ti *ticks) reach(ctx context.Context, n int) error {
	for {
		ti.mu.Lock()
		at, changed := ti.n, ti.changed
		ti.mu.Unlock()
		if at >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// TestRun_ResumptionThatMeetsAGap has a hub that keeps one event only.
func TestRun_ResumptionThatMeetsAGap(t *testing.T) {
	t.Parallel()
	url := startServer(t, server.Config{Retention: hub.RetentionRules{{Pattern: "**", Retention: hub.Retention{Count: 1}}}})
	r := examine(t, url+"/events/clock", doctor.Options{Probe: url + "/events/probe"})
	wrong(t, r, "resume")
	found(t, r, "resume", doctor.Problem, "a gap", "expired")
}

func TestRun_StreamsThatEndThoughTheyAreNotIdle(t *testing.T) {
	t.Parallel()
	beat := func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for range 15 {
			select {
			case <-tick.C:
				send(w, ":\n")
			case <-r.Context().Done():
				return
			}
		}
	}
	for _, test := range []struct {
		name     string
		body     func(w http.ResponseWriter, r *http.Request)
		severity doctor.Severity
		says     string
	}{
		{"ended", beat, doctor.Note, "orderly"},
		{"cut", func(w http.ResponseWriter, r *http.Request) { beat(w, r); panic(http.ErrAbortHandler) }, doctor.Problem, "whole answer"},
		{"held", hold, doctor.OK, "stayed open"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			found(t, examine(t, serve(t, streaming(test.body)), doctor.Options{Idle: 2500 * time.Millisecond}), "idle", test.severity, test.says)
		})
	}
}

func TestRun_TellsWhatWasFoundWhenItIsInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var steps []string
	r, err := doctor.Run(ctx, serve(t, streaming(hold)), &doctor.Options{Timeout: timeout, Progress: func(step string) {
		steps = append(steps, step)
		if strings.Contains(step, "idle") {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was canceled", err)
	}
	found(t, r, "first-bytes", doctor.OK)
	absent(t, r, "idle")
	if len(steps) < 4 || steps[len(steps)-1] != "an idle stream, for 1m30s" {
		t.Errorf("got steps %q", steps)
	}
}
