//go:build linux && !portable && (amd64 || arm64)

package httploop_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tidewire/tidewire/internal/httploop"
	"github.com/tidewire/tidewire/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// A fixture is a loop, and what net/http serves of its connections.
type fixture struct {
	t       *testing.T
	loop    *httploop.Loop
	address string
	entered atomic.Int64
	left    atomic.Int64 // taken or not
	taken   atomic.Int64
	passed  atomic.Int64
	changed chan struct{} // of one element: one of these has
}

// count adds to one of the numbers.
func (f *fixture) count(n *atomic.Int64) {
	n.Add(1)
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// eventually waits for the numbers to be so.
func (f *fixture) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	over := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-f.changed:
		case <-over:
			t.Fatalf("not so after 20s: %s", what)
		}
	}
}

// start starts a loop. Its handler answers with the body that it got, and says by a header
// who has served it.
func start(t *testing.T, o httploop.Options) *fixture {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, address: l.Addr().String(), changed: make(chan struct{}, 1)}
	if o.Handler == nil {
		o.Handler = http.HandlerFunc(echo)
	}
	conns := &passedListener{addr: l.Addr(), conns: make(chan net.Conn), closed: make(chan struct{})}
	srv := &http.Server{Handler: o.Handler}
	o.Enter = func(ctx context.Context, _ io.Closer, peer netip.AddrPort) context.Context {
		f.count(&f.entered)
		return ctx
	}
	o.Leave = func(_ context.Context, taken bool) {
		if taken {
			f.taken.Add(1)
		}
		f.count(&f.left)
	}
	o.Pass = func(_ context.Context, c net.Conn) {
		f.count(&f.passed)
		select {
		case conns.conns <- c:
		case <-conns.closed:
			_ = c.Close()
		}
	}
	if f.loop, err = httploop.New(l.(*net.TCPListener), &o); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(f.loop.Run)
	running.Go(func() { _ = srv.Serve(conns) })
	t.Cleanup(func() {
		_ = srv.Close()
		if err := f.loop.Close(); err != nil {
			t.Error(err)
		}
		running.Wait()
		if in, out := f.entered.Load(), f.left.Load()+f.passed.Load(); in != out {
			t.Errorf("%d connections began, and %d left", in, out)
		}
	})
	return f
}

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("By", by(w))
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if r.URL.Path == "/last" {
		w.Header().Set("Connection", "close")
	}
	_, _ = fmt.Fprintf(w, "%s %s %s", r.Method, r.URL, body)
}

func by(w http.ResponseWriter) string {
	if _, ok := w.(interface{ TakeSocket() (int, bool, error) }); ok {
		return "loop"
	}
	return "net/http"
}

type passedListener struct {
	addr   net.Addr
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *passedListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *passedListener) Addr() net.Addr { return l.addr }
func (l *passedListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }

// A peer is a client's connection.
type peer struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (f *fixture) dial() *peer {
	f.t.Helper()
	c, err := net.Dial("tcp", f.address)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return &peer{c, f.t, bufio.NewReader(c)}
}

func (p *peer) send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p, s); err != nil {
		p.t.Fatal(err)
	}
}

// want reads an answer.
func (p *peer) want(by, body string) {
	p.t.Helper()
	resp, err := http.ReadResponse(p.r, nil)
	if err != nil {
		p.t.Fatalf("want %q: %v", body, err)
	}
	b, err := io.ReadAll(resp.Body)
	if string(b) != body || err != nil || resp.Header.Get("By") != by {
		p.t.Fatalf("got %s, %.100q by %q (%v), want %.100q by %q", resp.Status, b, resp.Header.Get("By"), err, body, by)
	}
}

func (p *peer) wantEnd() {
	p.t.Helper()
	if b, err := p.r.ReadByte(); err != io.EOF {
		p.t.Fatalf("got %q, %v, want the end", b, err)
	}
}

const get, post = "GET %s HTTP/1.1\r\nHost: test\r\n\r\n", "POST %s HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%s"

func TestLoop_AnswersWhatIsPlain(t *testing.T) {
	f := start(t, httploop.Options{})
	p := f.dial()
	long := strings.Repeat("x", 60_000)
	for range 3 {
		p.send(fmt.Sprintf(get, "/a?b=c"))
		p.want("loop", "GET /a?b=c ")
		p.send(fmt.Sprintf(post, "/a", 5, "hello"))
		p.want("loop", "POST /a hello")
	}
	p.send(fmt.Sprintf(post, "/first", 5, "hello") + fmt.Sprintf(get, "/second") + fmt.Sprintf(post, "/third", 0, ""))
	p.want("loop", "POST /first hello")
	p.want("loop", "GET /second ")
	p.want("loop", "POST /third ")
	p.send("\r\n" + fmt.Sprintf(get, "/after-an-empty-line"))
	p.want("loop", "GET /after-an-empty-line ")
	p.send(fmt.Sprintf(post, "/last", 1, "x"))
	p.want("loop", "POST /last x")
	p.wantEnd()
	p = f.dial()
	p.send(fmt.Sprintf(post, "/a", len(long), long))
	resp, err := http.ReadResponse(p.r, nil) // by the loop or, if it came in parts, not
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); string(b) != "POST /a "+long || err != nil {
		t.Errorf("got %d bytes, %v", len(b), err)
	}
}

func TestLoop_LeavesTheRestToNetHTTP(t *testing.T) {
	f := start(t, httploop.Options{})
	for name, tt := range map[string]struct{ request, body string }{
		"chunks":       {"POST /a HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "POST /a hello"},
		"HTTP/1.0":     {"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET /a "},
		"another verb": {"DELETE /a HTTP/1.1\r\nHost: test\r\n\r\n", "DELETE /a "},
		"long head":    {"GET /a HTTP/1.1\r\nHost: test\r\nLong: " + strings.Repeat("x", 100_000) + "\r\n\r\n", "GET /a "},
		"long body":    {fmt.Sprintf(post, "/a", 100_000, strings.Repeat("x", 100_000)), "POST /a " + strings.Repeat("x", 100_000)},
	} {
		t.Run(name, func(t *testing.T) {
			p := f.dial()
			p.t = t
			p.send(fmt.Sprintf(post, "/plain", 1, "x"))
			p.want("loop", "POST /plain x")
			p.send(tt.request)
			p.want("net/http", tt.body)
			p.send(fmt.Sprintf(get, "/next"))
			p.want("net/http", "GET /next ")
		})
	}
	t.Run("in parts", func(t *testing.T) {
		for _, whole := range []string{fmt.Sprintf(get, "/a"), fmt.Sprintf(post, "/a", 5, "hello")} {
			for cut := 1; cut < len(whole); cut += 3 {
				p := f.dial()
				before := f.passed.Load()
				p.send(whole[:cut])
				f.eventually(t, "it is passed on", func() bool { return f.passed.Load() > before })
				p.send(whole[cut:])
				p.want("net/http", map[bool]string{true: "GET /a ", false: "POST /a hello"}[whole[0] == 'G'])
				_ = p.Close()
			}
		}
	})
}

// A client may say at once that it will send nothing more.
func TestLoop_EndsWithAClientThatHasEnded(t *testing.T) {
	said := make(chan struct{})
	f := start(t, httploop.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/after" {
			<-said
		}
		echo(w, r)
	})})
	for _, path := range []string{"/after", "/any"} { // the answer comes after the end, or at any time
		for range 20 {
			p := f.dial()
			p.send(fmt.Sprintf(get, path))
			if err := p.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if path == "/after" {
				said <- struct{}{}
			}
			p.want("loop", "GET "+path+" ")
			p.wantEnd()
		}
	}
}

func TestLoop_SlowReaderGetsTheWholeAnswer(t *testing.T) {
	answer := strings.Repeat("0123456789", 1_000_000)
	f := start(t, httploop.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("By", by(w))
		_, _ = io.WriteString(w, answer)
	})})
	p := f.dial()
	p.send(fmt.Sprintf(get, "/") + fmt.Sprintf(get, "/"))
	p.want("loop", answer)
	p.want("net/http", answer) // which has the connection by then
}

func TestLoop_CutsOffWhoTakesNothing(t *testing.T) {
	f := start(t, httploop.Options{WriteTimeout: 50 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 50<<20))
	})})
	p := f.dial()
	p.send(fmt.Sprintf(get, "/"))
	f.eventually(t, "it has ended", func() bool { return f.left.Load() == 1 })
	if n, err := io.Copy(io.Discard, p.r); n >= 50<<20 || err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("got %d bytes, %v", n, err)
	}
}

func TestLoop_FlushSendsWhatThereIs(t *testing.T) {
	more := make(chan struct{})
	f := start(t, httploop.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "one")
		rc := http.NewResponseController(w)
		if err := rc.Flush(); err != nil {
			t.Error(err)
		}
		<-more
		if err := rc.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, "two")
	})})
	p := f.dial()
	p.send(fmt.Sprintf(get, "/"))
	resp, err := http.ReadResponse(p.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 3)
	if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != "one" {
		t.Fatalf("got %q, %v, want one", b, err)
	}
	close(more)
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "two" {
		t.Fatalf("got %q, %v, want two", rest, err)
	}
	p.wantEnd()
}

func TestLoop_HandlerTakesTheSocket(t *testing.T) {
	sockets := make(chan *os.File, 1)
	f := start(t, httploop.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fd, more, err := w.(interface{ TakeSocket() (int, bool, error) }).TakeSocket()
		if err != nil || more != (r.URL.Path == "/more") {
			t.Errorf("%s: got more %v, %v", r.URL.Path, more, err)
		}
		if _, err := w.Write([]byte("x")); err != http.ErrHijacked {
			t.Errorf("write after the socket was taken: got %v", err)
		}
		sockets <- os.NewFile(uintptr(fd), "socket")
	})})
	for _, request := range []string{fmt.Sprintf(get, "/"), fmt.Sprintf(get, "/more") + "x"} {
		p := f.dial()
		p.send(request)
		socket := <-sockets
		if _, err := io.WriteString(socket, "mine"); err != nil {
			t.Fatal(err)
		}
		_ = syscall.Shutdown(int(socket.Fd()), syscall.SHUT_WR)
		if b, err := io.ReadAll(p.r); err != nil || string(b) != "mine" {
			t.Errorf("got %q, %v, want mine", b, err)
		}
		_ = socket.Close()
	}
	if n := f.taken.Load(); n != 2 {
		t.Errorf("%d were taken, want 2", n)
	}
}

func TestLoop_PanicEndsTheConnection(t *testing.T) {
	f := start(t, httploop.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/flushed" {
			_ = http.NewResponseController(w).Flush()
		}
		if r.URL.Path != "/" {
			panic(http.ErrAbortHandler)
		}
		echo(w, r)
	})})
	for _, path := range []string{"/panic", "/flushed"} {
		p := f.dial()
		p.send(fmt.Sprintf(get, path))
		if b, _ := io.ReadAll(p.r); strings.HasSuffix(string(b), "0\r\n\r\n") {
			t.Errorf("%s: got %q, want that it breaks off", path, b)
		}
	}
	p := f.dial()
	p.send(fmt.Sprintf(get, "/"))
	p.want("loop", "GET / ")
}

func TestLoop_SilentConnectionsEnd(t *testing.T) {
	f := start(t, httploop.Options{HeaderTimeout: time.Millisecond, IdleTimeout: time.Hour})
	stays := f.dial()
	stays.send(fmt.Sprintf(get, "/"))
	stays.want("loop", "GET / ")
	f.dial().wantEnd()
	stays.send(fmt.Sprintf(get, "/"))
	stays.want("loop", "GET / ")

	f = start(t, httploop.Options{IdleTimeout: time.Millisecond})
	p, silent := f.dial(), f.dial()
	p.send(fmt.Sprintf(get, "/"))
	p.want("loop", "GET / ")
	p.wantEnd()
	silent.send(fmt.Sprintf(get, "/"))
	silent.want("loop", "GET / ")
}

func TestLoop_WhoIsNotAdmittedIsClosed(t *testing.T) {
	f := start(t, httploop.Options{Admit: func(peer netip.AddrPort) bool { return !peer.Addr().IsLoopback() }})
	p := f.dial()
	if b, err := io.ReadAll(p.r); len(b) > 0 {
		t.Errorf("got %q, %v", b, err)
	}
	if n := f.entered.Load(); n != 0 {
		t.Errorf("%d connections began", n)
	}
}

func TestLoop_ShutdownFinishesWhatIsUnderWay(t *testing.T) {
	begun, more := make(chan struct{}), make(chan struct{})
	f := start(t, httploop.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(begun)
			<-more
		}
		echo(w, r)
	})})
	idle, slow := f.dial(), f.dial()
	idle.send(fmt.Sprintf(get, "/"))
	idle.want("loop", "GET / ")
	slow.send(fmt.Sprintf(get, "/slow"))
	<-begun
	ended, cancelled := make(chan error, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { cancelled <- f.loop.Shutdown(ctx) }()
	idle.wantEnd()
	cancel()
	if err := <-cancelled; err != context.Canceled {
		t.Errorf("got %v, want that of the context", err)
	}
	go func() { ended <- f.loop.Shutdown(t.Context()) }()
	if c, err := net.Dial("tcp", f.address); err == nil {
		_ = c.Close()
		t.Error("the listener is open")
	}
	close(more)
	slow.want("loop", "GET /slow ")
	slow.wantEnd()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestLoop_CloseEndsTheContextsOfRequests(t *testing.T) {
	begun := make(chan struct{})
	f := start(t, httploop.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	})})
	p := f.dial()
	p.send(fmt.Sprintf(get, "/"))
	<-begun
	if err := f.loop.Close(); err != nil {
		t.Error(err)
	}
	_, _ = io.ReadAll(p.r) // an empty answer, or a reset
}

// TestLoop_SurvivesClientsThatDoAnything has clients send whole requests and parts, several
// at once, and leave at any moment. Each answer must be the right one.
func TestLoop_SurvivesClientsThatDoAnything(t *testing.T) {
	f := start(t, httploop.Options{IdleTimeout: time.Second})
	var clients sync.WaitGroup
	for i := range 16 {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for range 60 {
				storm(t, f.address, random)
			}
		})
	}
	clients.Wait()
	f.eventually(t, "all connections have ended here", func() bool { return f.entered.Load() == f.left.Load()+f.passed.Load() })
	if f.passed.Load() == 0 || f.left.Load() == 0 {
		t.Errorf("%d were passed on, and %d ended: the test tests little", f.passed.Load(), f.left.Load())
	}
}

// storm is one connection of a client that does anything.
func storm(t *testing.T, address string, random *rand.Rand) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(c)
	for n := range random.IntN(8) {
		var text string
		var want []string
		for range 1 + random.IntN(3) {
			body := strings.Repeat("x", random.IntN(200)*random.IntN(50))
			text += fmt.Sprintf(post, fmt.Sprint("/", n), len(body), body)
			want = append(want, fmt.Sprint("POST /", n, " ", body))
		}
		for random.IntN(3) == 0 && len(text) > 1 { // in parts
			cut := 1 + random.IntN(len(text)-1)
			if _, err := io.WriteString(c, text[:cut]); err != nil {
				t.Error(err)
				return
			}
			if text = text[cut:]; random.IntN(10) == 0 {
				return // in the middle of a request
			}
		}
		if _, err := io.WriteString(c, text); err != nil {
			t.Error(err)
			return
		}
		if random.IntN(20) == 0 {
			_ = c.(*net.TCPConn).SetLinger(0) // a reset
			return
		}
		for _, want := range want {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if b, err := io.ReadAll(resp.Body); string(b) != want || err != nil {
				t.Errorf("got %.50q, %v, want %.50q", b, err, want)
				return
			}
		}
	}
}
