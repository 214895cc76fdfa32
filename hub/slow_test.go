package hub_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/sse"
)

// serveSmall is serve with little room in the server's sockets, so that a client that does
// not read is noticed soon.
func serveSmall(t testing.TB, h http.Handler) *server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetWriteBuffer(16 << 10)
		return ctx
	}
	srv.Start()
	return clientOf(t, srv, &http.Transport{DisableCompression: true})
}

// slowly subscribes to a topic, lets events pass without reading, as many as said and until
// that is enough, and returns what then comes, up to the last event or the end.
func slowly(t *testing.T, h *hub.Hub, least int, enough func() bool) (got []sse.Event, events int, cut bool) {
	t.Helper()
	s := serveSmall(t, h)
	conn := s.dial()
	if err := conn.SetReadBuffer(16 << 10); err != nil {
		t.Fatal(err)
	}
	conn.write("GET /events/a HTTP/1.1\r\nHost: x\r\n\r\n")
	head := make([]byte, 1)
	for text := ""; !strings.HasSuffix(text, "retry: 3000\n"); text += string(head) {
		if _, err := io.ReadFull(conn, head); err != nil {
			t.Fatal(err)
		}
	}
	padding := strings.Repeat("x", 32<<10)
	for ; events < least || !enough(); events++ {
		publish(t, h, event("a", fmt.Sprint(events+1, " ", padding)))
	}
	// The chunk whose data was read is still to end.
	body := httputil.NewChunkedReader(io.MultiReader(strings.NewReader("1\r\n\n"), conn))
	for d := sse.NewDecoder(body, nil); ; {
		ev, err := d.Next()
		if err != nil {
			return got, events, true
		}
		ev.Data = strings.TrimSuffix(ev.Data, " "+padding)
		if got = append(got, ev); ev.Data == fmt.Sprint(events) {
			return got, events, false
		}
	}
}

func TestSlow_IsSkippedToTheNewestEventWhereThatIsThePolicy(t *testing.T) {
	h := newHub(t, hub.Options{Slow: hub.SlowRules{{Pattern: "a", Policy: hub.SlowLatest, Lag: 20}}})
	got, events, cut := slowly(t, h, 300, func() bool { return true })
	if cut {
		t.Fatalf("got %d events and the end, want the newest", len(got))
	}
	last, gaps := 0, 0
	for i, ev := range got {
		if ev.Type == "tidewire.gap" {
			gaps++
			if !strings.Contains(ev.Data, `"reason":"slow"`) {
				t.Errorf("got a gap %s, want the reason slow", ev.Data)
			}
			continue
		}
		var n int
		if _, err := fmt.Sscan(ev.Data, &n); err != nil {
			t.Fatal(err)
		}
		afterGap := i > 0 && got[i-1].Type == "tidewire.gap"
		if n <= last || n != last+1 && !afterGap {
			t.Errorf("got %d after %d, want no gap but those that are told", n, last)
		}
		last = n
	}
	if gaps == 0 || len(got) > events/2 {
		t.Errorf("got %d gaps in %d events, want it skipped", gaps, len(got))
	}
}

func TestSlow_IsDisconnectedWhereThatIsThePolicyAndLosesNothing(t *testing.T) {
	h := newHub(t, hub.Options{
		Slow:         hub.SlowRules{{Pattern: "b"}, {Pattern: "**", Policy: hub.SlowDisconnect, Lag: 20}},
		WriteTimeout: time.Second, // which is how long a goroutine may be stuck
	})
	got, events, cut := slowly(t, h, 100, func() bool { return h.Streams() == 0 })
	if !cut || len(got) > events/2 {
		t.Fatalf("got %d events, cut: %v; want it cut long before", len(got), cut)
	}
	for i, ev := range got {
		if ev.Data != fmt.Sprint(i+1) {
			t.Fatalf("got %s, want %d", ev.Data, i+1)
		}
	}
	last := ""
	if len(got) > 0 {
		last = got[len(got)-1].ID
	}
	st := serve(t, h).open("/events/a?since=earliest", "Last-Event-ID: "+last)
	for i := len(got); i < events; i++ {
		data, _, _ := strings.Cut(st.next().Data, " ")
		if want := fmt.Sprint(i + 1); data != want {
			t.Fatalf("after coming back: got %s, want %s", data, want)
		}
	}
}

// A subscriber that has everything is not slow when its topic is forgotten.
func TestSlow_IsNotWhoHasEverything(t *testing.T) {
	for _, accept := range []string{"text/event-stream", "application/x-ndjson"} {
		t.Run(accept, func(t *testing.T) {
			h := newHub(t, hub.Options{Slow: hub.SlowRules{{Pattern: "**", Policy: hub.SlowLatest, Lag: 1}}})
			st := serve(t, h).open("/events?topic=a&topic=b", "Accept: "+accept)
			publish(t, h, event("a", "1"))
			body := bufio.NewReader(st.Body)
			readTo := func(text string) (all string) {
				for !strings.Contains(all, text) {
					line, err := body.ReadString('\n')
					if err != nil {
						t.Fatal(err)
					}
					all += line
				}
				return all
			}
			readTo("1")
			forget(t, h, "a")
			publish(t, h, event("a", "after"))
			if got := readTo("after"); strings.Contains(got, "tidewire.gap") {
				t.Errorf("got %q, want no gap", got)
			}
		})
	}
}

func TestSlow_RulesAreChecked(t *testing.T) {
	for _, rule := range []hub.SlowRule{{Pattern: ""}, {Pattern: "a", Lag: -1}, {Pattern: "a", Policy: 7}} {
		if _, err := hub.New(&hub.Options{Log: newLog(t, nil), Slow: hub.SlowRules{rule}}); err == nil {
			t.Errorf("%+v: got no error", rule)
		}
	}
}

// A countedConn is what a listener may hand out that does something of its own on Close.
type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

type countingListener struct {
	net.Listener
	closed chan struct{}
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countedConn{c, func() { l.closed <- struct{}{} }}, nil
}

func TestStream_OfAListenerWithConnectionsOfItsOwn(t *testing.T) {
	h := newHub(t, hub.Options{})
	srv := httptest.NewUnstartedServer(h)
	closed := make(chan struct{}, 100)
	srv.Listener = countingListener{srv.Listener, closed}
	srv.Start()
	s := clientOf(t, srv, &http.Transport{DisableKeepAlives: true})
	st := s.open("/events/a")
	publish(t, h, event("a", "1"), event("a", "2"))
	if got := st.datas(2); got != "1, 2" {
		t.Errorf("got %s, want 1, 2", got)
	}
	select {
	case <-closed:
		t.Error("the connection was closed while the stream goes on")
	default:
	}
	end(t, h, "a")
	if got := st.rest(); got != "" {
		t.Errorf("got %q after the end", got)
	}
	<-closed
}
