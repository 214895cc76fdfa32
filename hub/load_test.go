package hub_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
	"github.com/tidewire/tidewire/sse"
)

// How much the load tests do: enough to show what they are for, or, with
// TIDEWIRE_LONG=1, all of it.
const (
	loadTime     = 4 * time.Second
	loadTimeLong = 20 * time.Second

	loadEvents     = 3000
	loadEventsLong = 10_000
)

func long() bool { return os.Getenv("TIDEWIRE_LONG") == "1" }

// TestLoad_ClientsThatDropAndResumeLoseNothing has 1,000 publishes a second while 50
// clients drop and resume at random, by their own doing and by the network's: each has
// each id once and in order.
func TestLoad_ClientsThatDropAndResumeLoseNothing(t *testing.T) {
	const (
		rate       = 1000 // publishes a second
		publishers = 16
		clients    = 50
		topics     = 5
		tick       = 10 * time.Millisecond
	)
	lasts := loadTime
	if long() {
		lasts = loadTimeLong
	}
	log := newLog(t, nil)
	// So little memory that those who come back find their place in the log.
	h := newHub(t, hub.Options{Log: log, HotBytes: 100_000, Retry: time.Millisecond})
	srv := httptest.NewServer(h)
	defer srv.Close()
	var conns cutter
	transport := &http.Transport{MaxIdleConnsPerHost: 8, DialContext: conns.dial}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	ctx, cancel := context.WithTimeout(t.Context(), lasts+patience)
	defer cancel()

	var all sync.WaitGroup
	var connections atomic.Int64
	got := make([][]string, clients)
	for i := range clients {
		url := fmt.Sprintf("%s/events/t%d?since=earliest", srv.URL, i%topics)
		if i%10 == 0 {
			url = srv.URL + "/events?since=earliest" // some get it all
			for topic := range topics {
				url += fmt.Sprint("&topic=t", topic)
			}
		}
		all.Go(func() {
			own := &http.Transport{DialContext: conns.dial} // so that it drops its own connection only
			defer own.CloseIdleConnections()
			opts := &eventsource.Options{
				HTTPClient: &http.Client{Transport: own},
				MaxDelay:   5 * time.Millisecond,
				OnOpen:     func(eventsource.OpenEvent) { connections.Add(1) },
			}
			for ctx.Err() == nil {
				stay := 1 + rand.IntN(rate)
				dropped := false
				for ev, err := range eventsource.Stream(ctx, url, opts) {
					if err != nil {
						t.Errorf("client %d: %v", i, err)
						return
					}
					if strings.HasPrefix(ev.Type, "tidewire.") {
						t.Errorf("client %d: got %s %s", i, ev.Type, ev.Data)
					}
					got[i] = append(got[i], ev.ID)
					opts.LastEventID = ev.ID
					if stay--; stay == 0 {
						dropped = true
						break
					}
				}
				if !dropped {
					return // 204: the topics are closed, and it has everything
				}
			}
		})
	}

	// Publishers repeat what they have no answer to, which their keys make safe.
	var publishing sync.WaitGroup
	var published atomic.Int64
	began := time.Now()
	for p := range publishers {
		publishing.Go(func() {
			ticker := time.NewTicker(tick)
			defer ticker.Stop()
			for n := 0; time.Since(began) < lasts; <-ticker.C {
				for due := int(time.Since(began).Seconds() * rate / publishers); n < due; n++ {
					url := fmt.Sprintf("%s/events/t%d", srv.URL, n%topics)
					for !post(ctx, t, client, url, fmt.Sprint(p, ".", n)) {
						if ctx.Err() != nil {
							return
						}
					}
					published.Add(1)
				}
			}
		})
	}
	cuts := time.NewTicker(500 * time.Millisecond) // everyone's connection breaks
	defer cuts.Stop()
	for time.Since(began) < lasts {
		<-cuts.C
		conns.cut()
	}
	publishing.Wait()
	for topic := range topics {
		end(t, h, fmt.Sprint("t", topic))
	}
	all.Wait()

	var want [topics + 1][]string // the last one is of all topics
	for seq, ev := range inOrder(t, log) {
		var topic int
		if _, err := fmt.Sscanf(ev.Topics[0], "t%d", &topic); err != nil {
			t.Fatal(err)
		}
		id := hub.Position(log.Head().Epoch, seq)
		want[topic] = append(want[topic], id)
		want[topics] = append(want[topics], id)
	}
	total := int(published.Load())
	if len(want[topics]) != total {
		t.Errorf("got %d events stored, want %d", len(want[topics]), total)
	}
	for i, ids := range got {
		list := want[i%topics]
		if i%10 == 0 {
			list = want[topics]
		}
		if at := firstDifference(ids, list); at >= 0 {
			t.Errorf("client %d: got %d ids, want %d; they differ at %d: %q, %q", i, len(ids), len(list), at, item(ids, at), item(list, at))
		}
	}
	t.Logf("%d events, %d connections", total, connections.Load())
	if least := rate * int(lasts/time.Second) / 4; total < least { // on a machine that is busy with other things
		t.Errorf("got %d publishes in %v, want at least %d", total, lasts, least)
	}
	if connections.Load() < 3*clients {
		t.Errorf("got %d connections, so that nobody dropped", connections.Load())
	}
}

// A cutter breaks the connections that were made through it.
type cutter struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (c *cutter) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, conn)
	return conn, nil
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.(*net.TCPConn).SetLinger(0) // as a network does it, with a reset
		_ = conn.Close()
	}
	c.conns = nil
}

// post publishes, and tells whether it was answered.
func post(ctx context.Context, t *testing.T, client *http.Client, url, data string) bool {
	r, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader(data))
	if err != nil {
		t.Error(err)
		return true
	}
	r.Header.Set("Idempotency-Key", data)
	resp, err := client.Do(r)
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return false
	}
	if resp.StatusCode != http.StatusCreated {
		t.Errorf("got %s", resp.Status)
	}
	return true
}

// firstDifference returns the first index at which two lists differ, or -1.
func firstDifference(a, b []string) int {
	for i := range max(len(a), len(b)) {
		if item(a, i) != item(b, i) {
			return i
		}
	}
	return -1
}

func item(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return ""
}

// TestLoad_SlowSubscriberCostsNothingAndLosesNothing has one subscriber that reads
// nothing and 100 that read, and up to 10,000 events of 1 KiB. The 100 get all; memory
// stays bounded; the stuck one is cut off, comes back with its last id, and gets all.
func TestLoad_SlowSubscriberCostsNothingAndLosesNothing(t *testing.T) {
	const (
		readers, size = 100, 1024
		writeTimeout  = 5 * time.Second // more than a busy machine keeps a reader waiting
		mib           = 1 << 20
	)
	events := loadEvents
	if long() {
		events = loadEventsLong
	}
	// What everyone is to read, byte for byte.
	var whole bytes.Buffer
	whole.WriteString("retry: 3000\n")
	data := strings.Repeat("x", size)
	for i := 1; i <= events; i++ {
		fmt.Fprintf(&whole, "id: e%d\ndata: %s\n\n", i, data)
	}

	// The log keeps the events, which are all one string; the rest of the memory is
	// bounded to 1 MiB each.
	log := newLog(t, &memory.Options{TailBytes: mib})
	h := newHub(t, hub.Options{Log: log, HotBytes: mib, Heartbeat: -1, WriteTimeout: writeTimeout})
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetWriteBuffer(64 << 10) // else the system takes megabytes
		return ctx
	}
	srv.Start()
	s := clientOf(t, srv, &http.Transport{DisableCompression: true})
	s.patience = 5 * time.Minute // it is a lot to read under the race detector

	stuck := s.dial()
	stuck.write("GET /events/a HTTP/1.1\r\nHost: x\r\n\r\n")
	// It has read the headers and the first line, so that it is subscribed, and stops.
	first := make([]byte, 4096)
	n := 0
	for !bytes.Contains(first[:n], []byte("retry: 3000\n")) {
		more, err := stuck.Read(first[n:])
		if err != nil {
			t.Fatal(err)
		}
		n += more
	}

	var reading sync.WaitGroup
	for i := range readers {
		st := s.open("/events/a")
		reading.Go(func() {
			defer st.close()
			buf := make([]byte, 64<<10)
			for at := 0; at < whole.Len(); {
				n, err := st.Body.Read(buf[:min(len(buf), whole.Len()-at)])
				if !bytes.Equal(buf[:n], whole.Bytes()[at:at+n]) {
					t.Errorf("reader %d: got something else within %d bytes after %d", i, n, at)
					return
				}
				if at += n; err != nil && at < whole.Len() {
					t.Errorf("reader %d: %v after %d bytes of %d", i, err, at, whole.Len())
					return
				}
			}
		})
	}

	before := heap()
	var batch []hub.Event
	for i := 1; i <= events; i++ {
		batch = append(batch, hub.Event{Topics: []string{"a"}, ID: fmt.Sprint("e", i), Data: data})
		if len(batch) == 50 {
			publish(t, h, batch...)
			batch = batch[:0]
		}
	}
	during := heap()
	reading.Wait()
	// Each of the 101 may hold a page of what it is sending, 64 KiB in a few copies, and
	// the log's entries are some hundred bytes each, 5 MiB together. Queues of what was
	// not sent yet would be up to 1 GiB.
	const bound = 96 * mib
	if grown := max(during, heap()) - before; grown > bound {
		t.Errorf("got %d MiB more heap, want at most %d", grown/mib, bound/mib)
	} else {
		t.Logf("%d KiB more heap", grown/1024)
	}

	// The stuck one is cut off by the time that a write may take; the others have gone.
	eventually(t, "the stuck subscriber is cut off", func() bool { return h.Streams() == 0 })
	ids := readIDs(t, io.MultiReader(bytes.NewReader(first[:n]), stuck))
	if len(ids) >= events {
		t.Fatalf("got all %d events, so that nothing was stuck", len(ids))
	}
	last := ""
	if len(ids) > 0 {
		last = ids[len(ids)-1]
	}
	st := s.open("/events/a?since=earliest", "Last-Event-ID: "+last)
	for len(ids) < events {
		ids = append(ids, st.next().ID)
	}
	for i, id := range ids {
		if want := fmt.Sprint("e", i+1); id != want {
			t.Fatalf("got %s, want %s", id, want)
		}
	}
}

// heap returns how much memory is in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// readIDs reads an answer that was cut off, and returns the ids of its whole events.
func readIDs(t *testing.T, r io.Reader) []string {
	resp, err := http.ReadResponse(bufio.NewReader(r), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var ids []string
	decoder := sse.NewDecoder(resp.Body, nil)
	for {
		ev, err := decoder.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				t.Errorf("got a clean end of a stream that was cut off")
			}
			return ids
		}
		ids = append(ids, ev.ID)
	}
}
