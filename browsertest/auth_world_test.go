package browsertest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// tokenSecret is what the hub and the application share.
const tokenSecret = "a secret of the hub and of the application"

// tokenLeeway is how much longer than its exp a token holds.
const tokenLeeway = 30 * time.Second

// newToken makes a token as an application would that knows nothing of this module
// (RFC 7515, RFC 7519).
func newToken(t *testing.T, subject string, life time.Duration, permissions map[string]any) string {
	t.Helper()
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	text := part(map[string]any{"alg": "HS256", "typ": "JWT"}) + "." + part(map[string]any{
		"sub": subject, "exp": float64(time.Now().Add(life).UnixMilli()) / 1000, "tidewire": permissions,
	})
	mac := hmac.New(sha256.New, []byte(tokenSecret))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// everythingToken is that of one who may do everything.
func everythingToken(t *testing.T) string {
	all := []string{"**"}
	return newToken(t, "the test", time.Hour, map[string]any{"subscribe": all, "publish": all, "private": all, "admin": true})
}

// A logs is what a server prints.
type logs struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// A secureHub is "tidewire serve" with TLS.
type secureHub struct {
	url         string // https://127.0.0.1:port
	host        string // 127.0.0.1:port
	certificate *x509.Certificate
	client      *http.Client // that trusts it
	logs        *logs
}

// startSecure starts a hub that asks for tokens, with more arguments than it needs.
func startSecure(t *testing.T, args ...string) *secureHub {
	t.Helper()
	return startTLS(t, []string{"TIDEWIRE_TOKEN_SECRET=" + tokenSecret}, args...)
}

func startTLS(t *testing.T, env []string, args ...string) *secureHub {
	t.Helper()
	h := &secureHub{logs: &logs{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the hub %s printed %s", h.url, h.logs)
		}
	})
	args = append([]string{"serve", "--listen", "127.0.0.1:0", "--memory", "--tls", "dev"}, args...)
	h.url = runCommand(t, env, h.logs, args...)
	h.host = strings.TrimPrefix(h.url, "https://")
	conn, err := tls.Dial("tcp", h.host, &tls.Config{InsecureSkipVerify: true}) // which is to show the certificate
	if err != nil {
		t.Fatal(err)
	}
	h.certificate = conn.ConnectionState().PeerCertificates[0]
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	h.client = trusting(t, h.certificate)
	return h
}

// trusting returns a client that speaks HTTP/2, and trusts a certificate.
func trusting(t *testing.T, certificate *x509.Certificate) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// certificateFile writes certificates where programs other than browsers can take them from.
func certificateFile(t *testing.T, certificates ...*x509.Certificate) (path string) {
	t.Helper()
	var text []byte
	for _, c := range certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	path = filepath.Join(t.TempDir(), "certificates.pem")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// keyHash names a certificate's key as Chromium has it named.
func keyHash(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// newPages makes an HTTP/2 server of somebody else, on 127.0.0.1 and under whatever name. It
// listens, and StartTLS has it serve.
func newPages(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // browsers break off handshakes, and proxied streams are cut
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func portOf(addr net.Addr) string {
	return strconv.Itoa(addr.(*net.TCPAddr).Port)
}

// An application is a site with a back end: it knows who its users are, and may ask the
// hub for tickets.
type application struct {
	t    *testing.T
	wire *cutter // that /cut and /swallow are for
	hub  *secureHub

	mu     sync.Mutex
	issued []string // tokens and tickets
}

func (a *application) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.URL.Path {
	case "GET /":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, `<!doctype html><html lang="en"><title>a page</title><link rel="icon" href="data:,"><h1>A page</h1>`)
	case "POST /login":
		a.login(w, r)
	case "POST /ticket":
		a.ticket(w, r)
	case "POST /cut":
		_, _ = io.WriteString(w, strconv.Itoa(a.wire.cut()))
	case "POST /swallow":
		_, _ = io.WriteString(w, strconv.Itoa(a.wire.swallow()))
	default:
		http.NotFound(w, r)
	}
}

// token returns a token for the topics of a request, good for as many seconds as that says.
func (a *application) token(r *http.Request) string {
	life := time.Minute
	if s, err := strconv.ParseFloat(r.FormValue("life"), 64); err == nil {
		life = time.Duration(s * float64(time.Second))
	}
	topics := r.Form["topic"]
	token := newToken(a.t, r.FormValue("subject"), life-tokenLeeway, map[string]any{"subscribe": topics, "publish": topics})
	a.remember(token)
	return token
}

func (a *application) remember(secret string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.issued = append(a.issued, secret)
}

// login gives the browser a cookie with a token, for this host or for a domain.
func (a *application) login(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{
		Name: "tidewire", Value: a.token(r), Path: "/", Domain: r.FormValue("domain"),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

// ticket asks the hub for a ticket, and passes the answer on.
func (a *application) ticket(w http.ResponseWriter, r *http.Request) {
	token := a.token(r)
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, a.hub.url+"/tickets", strings.NewReader(r.FormValue("wish")))
	if err != nil {
		a.t.Error(err)
		return
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.hub.client.Do(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	var answer struct{ Ticket string }
	if json.Unmarshal(text, &answer) == nil && answer.Ticket != "" {
		a.remember(answer.Ticket)
	}
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(text)
}

// leaked returns how many secrets were issued, and those that stand in a text.
func (a *application) leaked(text string) (issued int, found []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, secret := range a.issued {
		if strings.Contains(text, secret) || strings.Contains(text, url.QueryEscape(secret)) {
			found = append(found, secret)
		}
	}
	return len(a.issued), found
}

// newProxy puts a site's pages and the events of a hub behind one origin.
func newProxy(t *testing.T, hub *url.URL, trusted *http.Client, pages http.Handler) *httptest.Server {
	t.Helper()
	events := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(hub) },
		Transport: trusted.Transport,
		ErrorLog:  log.New(io.Discard, "", 0), // streams are cut
	}
	return newPages(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/events") {
			events.ServeHTTP(w, r)
			return
		}
		pages.ServeHTTP(w, r)
	}))
}

// A cutter passes TCP connections on, and can cut all of them.
type cutter struct {
	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex
	conns map[*passed]struct{}
}

// A passed connection has two ends.
type passed struct {
	in, out   *net.TCPConn
	swallowed atomic.Bool // nothing comes back any more
}

// newCutter makes one that listens, and that pass has serve.
func newCutter(t *testing.T) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: l, conns: make(map[*passed]struct{})}
	t.Cleanup(func() {
		_ = l.Close() // pass ends
		c.cut()
		c.running.Wait()
	})
	return c
}

// pass passes connections on to an address from now on.
func (c *cutter) pass(to string) {
	c.running.Go(func() { c.accept(to) })
}

func (c *cutter) accept(to string) {
	for {
		in, err := c.listener.Accept()
		if err != nil {
			return // closed
		}
		out, err := net.Dial("tcp", to)
		if err != nil {
			_ = in.Close() // which its client sees
			continue
		}
		p := &passed{in: in.(*net.TCPConn), out: out.(*net.TCPConn)}
		c.mu.Lock()
		c.conns[p] = struct{}{}
		c.mu.Unlock()
		c.running.Go(func() {
			p.run()
			c.mu.Lock()
			delete(c.conns, p)
			c.mu.Unlock()
		})
	}
}

// run copies both ways until one end closes.
func (p *passed) run() {
	var both sync.WaitGroup
	both.Go(func() {
		defer p.close()
		_, _ = io.Copy(p.out, p.in)
	})
	both.Go(func() {
		defer p.close()
		_, _ = io.Copy(p, p.out)
	})
	both.Wait()
}

// Write passes on what comes back.
func (p *passed) Write(b []byte) (int, error) {
	if p.swallowed.Load() {
		return len(b), nil
	}
	return p.in.Write(b)
}

func (p *passed) close() {
	_ = p.in.Close()
	_ = p.out.Close()
}

// cut resets all connections, and returns how many there were.
func (c *cutter) cut() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.conns {
		_ = p.in.SetLinger(0) // as when a machine is gone
		_ = p.out.SetLinger(0)
		p.close()
	}
	return len(c.conns)
}

// swallow has nothing come back on the connections that there are, and returns how many
// that is.
func (c *cutter) swallow() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.conns {
		p.swallowed.Store(true)
	}
	return len(c.conns)
}
