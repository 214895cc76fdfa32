package hub_test

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
	"github.com/tidewire/tidewire/sse"
)

// The tests of this file have streams over real sockets, and clients that read every byte
// of HTTP themselves. They hold for the engine and, with the build tag portable, for
// streams that have a goroutine each.

// A wire is a subscriber's connection. As a reader it is the body of the response, of
// which it accepts nothing but what RFC 9112, section 7.1, has: its error is io.EOF at the
// clean end only, a framingError where the server is wrong, and another one where the
// connection breaks.
type wire struct {
	conn  *net.TCPConn
	in    *bufio.Reader
	head  map[string]string // of the response, by names in lower case; nil before it was read
	chunk int               // bytes that are left of the chunk
	err   error

	body   *unzipped    // the same as it was before gzip, if that was asked for
	events *sse.Decoder // of the body
}

// An unzipped is a body whose content coding is undone.
type unzipped struct {
	w *wire
	r io.Reader // nil before the head was read
}

func (u *unzipped) Read(p []byte) (int, error) {
	if u.r == nil {
		if _, err := u.w.Read(nil); err != nil {
			return 0, err
		}
		u.r = u.w
		if u.w.head["content-encoding"] == "gzip" {
			z, err := gzip.NewReader(u.w)
			if err != nil {
				return 0, err
			}
			u.r = z
		}
	}
	n, err := u.r.Read(p)
	if errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) || errors.As(err, new(flate.CorruptInputError)) {
		err = &framingError{err.Error(), "gzip"}
	}
	return n, err
}

// A framingError says what bytes came where others must stand.
type framingError struct{ got, want string }

func (e *framingError) Error() string { return fmt.Sprintf("got %q, want %s", e.got, e.want) }

// get is a request for a stream. Headers are "Name: value".
func get(path string, headers ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + strings.Join(append(headers, "\r\n"), "\r\n")
}

// connect connects and sends a request, or whatever text is.
func (s *server) connect(text string) (*wire, error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		return nil, err
	}
	w := &wire{conn: conn.(*net.TCPConn), in: bufio.NewReader(conn)}
	w.body = &unzipped{w: w}
	w.events = sse.NewDecoder(w.body, nil)
	_ = conn.SetDeadline(time.Now().Add(s.patience))
	if err := w.say(text); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// wire subscribes, and returns when the hub has the subscription.
func (s *server) wire(path string, headers ...string) *wire {
	s.t.Helper()
	w, err := s.connect(get(path, headers...))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(w.close)
	if err := w.readHead(); err != nil {
		s.t.Fatal(err)
	}
	return w
}

// say sends something to the server.
func (w *wire) say(text string) error {
	_, err := io.WriteString(w.conn, text)
	return err
}

// narrow is how much the sockets take of a client that does not read, twice, about. With
// less than that, which is one segment of the loopback's, TCP pauses.
const narrow = 64 << 10

// narrow has the client's side of the connection take little.
func (w *wire) narrow() { _ = w.conn.SetReadBuffer(narrow) }

// serveNarrow is serve with sockets that take little.
func serveNarrow(t testing.TB, h http.Handler) *server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetWriteBuffer(narrow)
		return ctx
	}
	srv.Start()
	return clientOf(t, srv, &http.Transport{DisableCompression: true})
}

func (w *wire) close() { _ = w.conn.Close() }

// vanish breaks the connection as a network does.
func (w *wire) vanish() {
	_ = w.conn.SetLinger(0)
	w.close()
}

// line reads a line, and returns it without its end, which must be CRLF.
func (w *wire) line() (string, error) {
	text, err := w.in.ReadString('\n')
	switch {
	case err == io.EOF:
		return "", io.ErrUnexpectedEOF
	case err != nil:
		return "", err
	case !strings.HasSuffix(text, "\r\n"):
		return "", &framingError{text, "a line that ends with CRLF"}
	}
	return strings.TrimSuffix(text, "\r\n"), nil
}

// readHead reads the head of the response.
func (w *wire) readHead() error {
	status, err := w.line()
	if err != nil {
		return err
	}
	if status != "HTTP/1.1 200 OK" {
		return &framingError{status, "HTTP/1.1 200 OK"}
	}
	w.head = make(map[string]string)
	for {
		field, err := w.line()
		if err != nil {
			return err
		}
		if field == "" {
			break
		}
		name, value, ok := strings.Cut(field, ": ")
		name = strings.ToLower(name)
		if _, twice := w.head[name]; !ok || twice {
			return &framingError{field, "a header that was not there yet"}
		}
		w.head[name] = value
	}
	for name, want := range map[string]string{"transfer-encoding": "chunked", "content-type": "text/event-stream", "content-length": ""} {
		if w.head[name] != want {
			return &framingError{w.head[name], name + ": " + want}
		}
	}
	return nil
}

func (w *wire) Read(p []byte) (n int, err error) {
	if w.err == nil && w.head == nil {
		w.err = w.readHead()
	}
	if w.err == nil && w.chunk == 0 {
		w.err = w.readSize()
	}
	if w.err != nil {
		return 0, w.err
	}
	n, err = w.in.Read(p[:min(len(p), w.chunk)])
	w.chunk -= n
	switch {
	case err == io.EOF:
		w.err = io.ErrUnexpectedEOF
	case err != nil:
		w.err = err
	case w.chunk == 0:
		var after string
		if after, w.err = w.line(); after != "" {
			w.err = &framingError{after, "CRLF after a chunk"}
		}
	}
	return n, nil
}

// readSize reads the size of a chunk, or the end.
func (w *wire) readSize() error {
	size, err := w.line()
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(size, 16, 31)
	if err != nil || size != strconv.FormatUint(n, 16) {
		return &framingError{size, "a size in hexadecimal"}
	}
	if w.chunk = int(n); n > 0 {
		return nil
	}
	trailer, err := w.line()
	if err != nil {
		return err
	}
	if trailer != "" {
		return &framingError{trailer, "no trailer"}
	}
	if w.head["connection"] != "close" {
		return io.EOF // it may be used again
	}
	b, err := w.in.ReadByte()
	if err == nil {
		return &framingError{string(rune(b)), "the end of the connection"}
	}
	return err
}

// wantText reads a text of the body.
func (w *wire) wantText(t testing.TB, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(w.body, got); err != nil || string(got) != want {
		t.Fatalf("got %q and %v, want %q", got[:n], err, want)
	}
}

// next returns the next event.
func (w *wire) next(t testing.TB) sse.Event {
	t.Helper()
	ev, err := w.events.Next()
	if err != nil {
		t.Fatalf("no event: %v", err)
	}
	return ev
}

// wantEnd reads the rest of the body, which must be clean and, but for comments and a
// retry, empty.
func (w *wire) wantEnd(t testing.TB) {
	t.Helper()
	if ev, err := w.events.Next(); err != io.EOF {
		t.Errorf("got %+.99v and %v, want a clean end", ev, err)
	}
}

// wantValid fails the test if what has come is not valid, however it has ended.
func wantValid(t testing.TB, who string, err error) {
	t.Helper()
	var wrong *framingError
	var large *sse.SizeError
	if errors.As(err, &wrong) || errors.As(err, &large) {
		t.Errorf("%s: %v", who, err)
	}
}

// eventually waits for something that nobody tells of.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: still not, after %v", what, patience)
		}
	}
}

// descriptors returns how many descriptors the process has, 0 where the system does not
// tell.
func descriptors() int {
	all, _ := os.ReadDir("/proc/self/fd")
	return len(all)
}

// leavesNothing notes what the process has, and returns a function that waits until it has
// no more, and the hub no subscription.
func leavesNothing(t testing.TB, h *hub.Hub, s *server) func() {
	t.Helper()
	s.wire("/events/before").vanish() // it starts what is started once
	eventually(t, "the first subscription ends", func() bool { return h.Streams() == 0 })
	s.CloseIdleConnections()
	fds, goroutines := descriptors(), runtime.NumGoroutine()
	return func() {
		t.Helper()
		s.CloseIdleConnections()
		eventually(t, "no subscriptions", func() bool { return h.Streams() == 0 })
		eventually(t, fmt.Sprint("descriptors at most ", fds), func() bool { return descriptors() <= fds })
		eventually(t, fmt.Sprint("goroutines at most ", goroutines), func() bool { return runtime.NumGoroutine() <= goroutines })
	}
}

// path returns the URL of a filter's stream.
func path(f hub.Filter) string {
	return "/events?" + url.Values{"topic": f.Topics, "pattern": f.Patterns, "type": f.Types}.Encode()
}

// withEnd returns a filter that also selects the event that is the last of all.
func withEnd(f hub.Filter) hub.Filter {
	f.Topics = append(slices.Clone(f.Topics), "end")
	if len(f.Types) > 0 {
		f.Types = append(slices.Clone(f.Types), "end")
	}
	return f
}

// codings are the headers that ask for none, and for gzip.
var codings = [][]string{nil, {"Accept-Encoding: gzip"}}

var lastOfAll = hub.Event{Topics: []string{"end"}, Type: "end"}

var seed = maphash.MakeSeed()

// mark tells one event from another, whatever its size.
func mark(id, typ, data string) string {
	if typ == "" {
		typ = "message"
	}
	return fmt.Sprint(id, " ", typ, " ", len(data), " ", maphash.String(seed, data))
}

// marks returns those of all events of a log that a filter selects, above a place.
func marks(t testing.TB, log hub.Log, f hub.Filter, after uint64) []string {
	t.Helper()
	var all []string
	for seq, ev := range inOrder(t, log) {
		if seq <= after || !wanted(f, *ev) || ev.Type == lastOfAll.Type {
			continue
		}
		id := ev.ID
		if id == "" {
			id = hub.Position(log.Head().Epoch, seq)
		}
		all = append(all, mark(id, ev.Type, ev.Data))
	}
	return all
}

// wantMarks compares what a subscriber got with what it is to get.
func wantMarks(t testing.TB, who string, got, want []string) {
	t.Helper()
	if at := firstDifference(got, want); at >= 0 {
		t.Errorf("%s: got %d events, want %d; they differ at %d: %q, want %q", who, len(got), len(want), at, item(got, at), item(want, at))
	}
}

// selections are filters of each kind, for the topics of [anyEvent].
var selections = []hub.Filter{
	topics("a"), topics("b"), topics("a", "b"), topics("c/1", "b", "nobody's"),
	{Patterns: []string{"*"}}, {Patterns: []string{"**"}}, {Patterns: []string{"c/*", "a"}}, {Topics: []string{"a"}, Patterns: []string{"c/**"}},
	{Topics: []string{"a"}, Types: []string{"t"}}, {Topics: []string{"b", "c/1"}, Types: []string{"message"}}, {Patterns: []string{"c/**"}, Types: []string{"t", "u"}},
}

// anyEvent draws an event, most of them small, some of about the sizes at which the engine
// begins another block of memory or another write.
func anyEvent(number int) hub.Event {
	ev := event([]string{"a", "b", "c/1", "a,b", "c/1/2,b,a", "d", "c/2"}[rand.IntN(7)], "")
	ev.Type = []string{"", "", "t", "u", "message"}[rand.IntN(5)]
	ev.Private = rand.IntN(20) == 0
	if number%2 == 0 {
		ev.ID = fmt.Sprint("own ", number)
	}
	size := rand.IntN(200)
	switch rand.IntN(40) {
	case 0:
		size = 64<<10 - 64 + rand.IntN(96)
	case 1:
		size = 256<<10 - 64 + rand.IntN(96)
	case 2:
		size = rand.IntN(300 << 10)
	case 3, 4, 5, 6:
		size = rand.IntN(8 << 10)
	}
	ev.Data = fmt.Sprint(number, " ") + filler(size)
	return ev
}

// TestStream_ThoseWhoStayGetEverythingWhateverOthersDo has clients that break off in every
// way there is, and again and again, while events flow, and others that stay.
func TestStream_ThoseWhoStayGetEverythingWhateverOthersDo(t *testing.T) {
	const publishers, vandals = 4, 12
	lasts, each := 1500*time.Millisecond, 200 // events of a publisher
	if long() {
		lasts, each = time.Minute, 4000
	}
	log := newLog(t, nil)
	// So little memory that those who are slow read from the log.
	h := newHub(t, hub.Options{Log: log, HotBytes: 1 << 20, WriteTimeout: time.Hour, Heartbeat: 50 * time.Millisecond})
	s := serveNarrow(t, h)
	s.patience = lasts + 10*patience // it is a lot to read under the race detector
	wantNothingLeft := leavesNothing(t, h, s)
	ctx, stop := context.WithTimeout(t.Context(), lasts)
	defer stop()

	var staying, breaking, publishing sync.WaitGroup
	got := make([][]string, 2*len(selections))
	for i := range got {
		w := s.wire(path(withEnd(selections[i/2])), codings[(i/2+i)%2]...)
		slow := i%2 == 1
		if slow {
			w.narrow()
		}
		staying.Go(func() {
			defer w.close()
			for {
				ev, err := w.events.Next()
				if err != nil {
					t.Errorf("subscriber %d: %v after %d events", i, err, len(got[i]))
					return
				}
				if ev.Type == lastOfAll.Type {
					return
				}
				got[i] = append(got[i], mark(ev.ID, ev.Type, ev.Data))
				if slow && rand.IntN(30) == 0 {
					time.Sleep(rand.N(10 * time.Millisecond)) // it is as it is
				}
			}
		})
	}
	var visits atomic.Int64
	for range vandals {
		breaking.Go(func() {
			for ctx.Err() == nil {
				s.vandalize(ctx, path(selections[rand.IntN(len(selections))]))
				visits.Add(1)
			}
		})
	}
	for p := range publishers {
		publishing.Go(func() {
			ticks := time.NewTicker(lasts / time.Duration(each))
			defer ticks.Stop()
			for i := range each {
				tryPublish(t, h, anyEvent(i*publishers+p))
				<-ticks.C
			}
		})
	}
	publishing.Wait()
	publish(t, h, lastOfAll)
	breaking.Wait()
	staying.Wait()
	wantNothingLeft()
	total := 0
	for i, marked := range got {
		wantMarks(t, fmt.Sprint("subscriber ", i), marked, marks(t, log, selections[i/2], 0))
		total += len(marked)
	}
	t.Logf("%d events to %d who stayed, %d visits of others", total, len(got), visits.Load())
}

// vandalize subscribes, and breaks off in some way, or when ctx ends. What it gets up to
// then must be valid.
func (s *server) vandalize(ctx context.Context, path string) {
	request := get(path + "&since=earliest")
	if rand.IntN(2) == 0 {
		request = get(path)
	}
	if rand.IntN(4) == 0 {
		request = strings.TrimSuffix(request, "\r\n\r\n") + "\r\nAccept-Encoding: gzip\r\n\r\n"
	}
	garbage := func() string { return strings.Repeat(string(rune('A'+rand.IntN(26))), rand.IntN(100<<10)) }
	way := rand.IntN(9)
	switch way {
	case 0:
		request = request[:rand.IntN(len(request))]
	case 1:
		request += request + get("/events/other")
	case 2:
		request += garbage()
	}
	w, err := s.connect(request)
	if err != nil {
		return // cut off while it sends, as it deserves
	}
	defer w.close()
	defer context.AfterFunc(ctx, w.vanish)()
	read := func(n int) {
		_, err := io.CopyN(io.Discard, w, int64(n))
		wantValid(s.t, fmt.Sprint("way ", way), err)
	}
	switch way {
	case 0: // half a request
	case 1, 2: // more than a request
		read(rand.IntN(10_000))
	case 3: // a reset before the answer
		w.vanish()
	case 4: // a reset in the middle
		read(rand.IntN(100_000))
		w.vanish()
	case 5: // a close in the middle
		read(rand.IntN(100_000))
	case 6: // it has nothing more to say, and listens
		read(rand.IntN(1000))
		_ = w.conn.CloseWrite()
		read(1 << 30)
	case 7: // it stalls
		w.narrow()
		read(rand.IntN(1000))
		time.Sleep(rand.N(100 * time.Millisecond)) // and that is all it does
		if rand.IntN(2) == 0 {
			w.vanish()
		}
	case 8: // it talks while it is talked to
		read(rand.IntN(1000))
		for range rand.IntN(5) {
			if err := w.say(garbage()); err != nil {
				break
			}
			read(rand.IntN(1000))
		}
	}
}

// TestStream_ConnectionsLeaveNothingBehind has clients that come and go, a million of them
// if there is time.
func TestStream_ConnectionsLeaveNothingBehind(t *testing.T) {
	const rounds, clients, mib = 4, 20, 1 << 20
	total := 2000
	if long() {
		total = 1_000_000
	}
	h := newHub(t, hub.Options{})
	s := serve(t, h)
	s.patience = time.Hour
	wantNothingLeft := leavesNothing(t, h, s)
	paths := []string{"/events/a", "/events?topic=a&topic=b", "/events?pattern=a/*", "/events?pattern=**&type=t", "/events/a?since=earliest"}
	publish(t, h, event("a", "1"), event("a/b", "2"))
	var before int64
	for round := range rounds {
		var all sync.WaitGroup
		for c := range clients {
			all.Go(func() {
				for i := range total / rounds / clients {
					path := paths[(i+c)%len(paths)]
					if i%3 == 0 {
						path = fmt.Sprint("/events/own/", round, ".", c, ".", i) // nobody else's
					}
					w, err := s.connect(get(path))
					if err != nil {
						t.Error(err)
						return
					}
					if i%4 > 0 { // else it does not wait for the answer
						if _, err := io.ReadFull(w, make([]byte, len("retry: 3000\n"))); err != nil {
							t.Error(err)
						}
					}
					w.vanish()
				}
			})
		}
		for range 100 {
			publish(t, h, event("a", "x"))
		}
		all.Wait()
		wantNothingLeft()
		switch now := heap(); {
		case round == 0:
			before = now
		case now > before+2*mib: // what the log keeps of the events, and a little
			t.Errorf("round %d: got a heap of %d KiB, want about the %d KiB that it was after the first", round, now>>10, before>>10)
		}
	}
}

// filler is the data of numbered events of a size, at most a mebibyte. Gzip makes less than
// half of it.
func filler(size int) string { return noise[:size] }

var noise = func() string {
	random, b := rand.NewChaCha8([32]byte{}), make([]byte, 24)
	var s strings.Builder
	for s.Len() < 1<<20 {
		_, _ = random.Read(b) // which has no errors
		s.WriteString(strings.Repeat(base64.StdEncoding.EncodeToString(b), 4))
	}
	return s.String()
}()

// tryPublish is publish for other goroutines than the test's.
func tryPublish(t testing.TB, h *hub.Hub, events ...hub.Event) {
	if _, err := h.Publish(t.Context(), hub.Publication{Events: events}); err != nil {
		t.Error(err)
	}
}

// publishMany publishes numbered events, in batches.
func publishMany(t testing.TB, h *hub.Hub, topic string, from, to, size int) {
	t.Helper()
	var batch []hub.Event
	for i := from; i < to; i++ {
		batch = append(batch, hub.Event{Topics: []string{topic}, ID: fmt.Sprint(i), Data: filler(size)})
		if len(batch)*size > 1<<20 || len(batch) == 100 || i == to-1 {
			publish(t, h, batch...)
			batch = nil
		}
	}
}

// wantMany reads numbered events.
func wantMany(t testing.TB, w *wire, from, to, size int) {
	t.Helper()
	data := filler(size)
	for i := from; i < to; i++ {
		if ev := w.next(t); ev.ID != fmt.Sprint(i) || ev.Data != data {
			t.Fatalf("got event %q of %d bytes, want %d of %d", ev.ID, len(ev.Data), i, size)
		}
	}
}

// stuck are the ways in which a subscriber falls behind.
var stuck = []struct {
	name         string
	hotBytes     int
	events, size int
}{
	{"small events, all in memory", 0, 12_000, 100},
	{"small events, some in memory", 200_000, 12_000, 100},
	{"small events, one in memory", 1, 12_000, 100},
	{"events of a block", 0, 60, 64<<10 - 40},
	{"events of a write", 2 << 20, 16, 256<<10 - 20},
	{"large events, all in memory", 0, 14, 300 << 10},
	{"large events, one in memory", 1, 14, 300 << 10},
}

// full subscribes over sockets that take little, reads the beginning, and then nothing
// while numbered events are published, far more than the sockets take.
func (s *server) full(h *hub.Hub, path string, events, size int, headers ...string) *wire {
	s.t.Helper()
	w := s.wire(path, headers...)
	w.narrow()
	w.wantText(s.t, "retry: 3000\n")
	publishMany(s.t, h, "a", 0, events, size)
	return w
}

// TestStream_StuckSubscriberLosesNothing has sockets that are full for a while, and events
// that are published then and while they are emptied.
func TestStream_StuckSubscriberLosesNothing(t *testing.T) {
	for _, tt := range stuck {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t, hub.Options{HotBytes: tt.hotBytes, Heartbeat: 20 * time.Millisecond})
			s := serveNarrow(t, h)
			s.patience = 4 * patience // the race detector makes gzip ten times as slow
			var all sync.WaitGroup
			defer all.Wait()
			paths := []string{"/events/a", "/events?topic=a&topic=b", "/events?pattern=*", "/events/a?type=message", "/events?topic=a", "/events/a"}
			var wires []*wire
			for i, path := range paths {
				wires = append(wires, s.full(h, path, 0, 0, codings[i/5]...)) // the last one in gzip
			}
			publishMany(t, h, "a", 0, tt.events, tt.size)
			reading := make(chan struct{}, len(wires))
			for i, w := range wires {
				all.Go(func() {
					data := filler(tt.size)
					for n := range 2 * tt.events {
						ev, err := w.events.Next()
						if err != nil || ev.ID != fmt.Sprint(n) || ev.Data != data {
							t.Errorf("%s: got event %q of %d bytes and %v, want %d of %d", paths[i], ev.ID, len(ev.Data), err, n, tt.size)
							break
						}
						if n == 0 {
							reading <- struct{}{}
						}
					}
				})
			}
			<-reading
			publishMany(t, h, "a", tt.events, 2*tt.events, tt.size)
			all.Wait()
			end(t, h, "a", "b")
			for i, w := range wires {
				if i != 2 { // patterns have no end
					w.wantEnd(t)
				}
			}
		})
	}
}

// TestStream_StuckSubscriberGetsTheRestOfAClosedTopic has a topic that is closed while its
// subscriber is behind.
func TestStream_StuckSubscriberGetsTheRestOfAClosedTopic(t *testing.T) {
	for _, tt := range stuck {
		t.Run(tt.name, func(t *testing.T) {
			h := newHub(t, hub.Options{HotBytes: tt.hotBytes})
			s := serveNarrow(t, h)
			w := s.full(h, "/events/a", tt.events, tt.size)
			typed := s.wire("/events?topic=a&topic=b&since=earliest&type=message")
			end(t, h, "a", "b")
			wantMany(t, w, 0, tt.events, tt.size)
			w.wantEnd(t)
			wantMany(t, typed, 0, tt.events, tt.size)
			typed.wantEnd(t)
			eventually(t, "the subscriptions end", func() bool { return h.Streams() == 0 })
		})
	}
}

// TestStream_StuckSubscriberIsToldOfWhatIsForgotten removes a topic's history while its
// subscriber is behind: what it has not got is gone, and what comes later is not.
func TestStream_StuckSubscriberIsToldOfWhatIsForgotten(t *testing.T) {
	const after = 3 // events
	for _, tt := range stuck {
		for name, path := range map[string]string{"topic": "/events/a", "pattern": "/events?pattern=*", "type": "/events?topic=b&topic=a&type=message"} {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				h := newHub(t, hub.Options{HotBytes: tt.hotBytes})
				s := serveNarrow(t, h)
				w := s.full(h, path, tt.events, tt.size)
				if got := s.call("DELETE", "/events/a", ""); got.StatusCode != http.StatusNoContent {
					t.Fatalf("got %s", got.Status)
				}
				publishMany(t, h, "a", tt.events, tt.events+after, tt.size)
				n, ev := 0, w.next(t)
				for ; ev.Type != "tidewire.gap"; ev = w.next(t) {
					if ev.ID != fmt.Sprint(n) || len(ev.Data) != tt.size {
						t.Fatalf("got event %q of %d bytes, want %d of %d, or a gap", ev.ID, len(ev.Data), n, tt.size)
					}
					n++
				}
				if n >= tt.events/2 {
					t.Errorf("got %d of %d events before the gap, so that nothing was stuck", n, tt.events)
				}
				var gap struct{ Reason, Resumed string }
				if err := json.Unmarshal([]byte(ev.Data), &gap); err != nil || gap.Reason != "expired" || gap.Resumed != ev.ID {
					t.Errorf("got a gap %s with id %q, want the reason expired and where it goes on", ev.Data, ev.ID)
				}
				wantMany(t, w, tt.events, tt.events+after, tt.size)
			})
		}
	}
}

// TestStream_GapIsNotToldOfWhatIsNotWanted has a subscriber to one type that knows its
// position, while events of another type pass it and expire. It then falls behind for a
// moment: nothing that it wants is missing.
func TestStream_GapIsNotToldOfWhatIsNotWanted(t *testing.T) {
	const keep, passing = 3, 8
	log := newLog(t, &memory.Options{Retention: hub.RetentionRules{{Pattern: "**", Retention: hub.Retention{Count: keep}}}})
	h := newHub(t, hub.Options{Log: log, HotBytes: 1, Heartbeat: -1, PositionInterval: 10 * time.Millisecond})
	frequent := hub.Event{Topics: []string{"a"}, Type: "frequent"}
	rare := hub.Event{Topics: []string{"a"}, Type: "rare", ID: "own", Data: "x"}
	w := serve(t, h).wire("/events/a?type=rare&heartbeat=id")
	told := func(seq uint64) string { return "id: " + hub.Position(log.Head().Epoch, seq) + "\n\n" }
	w.wantText(t, "retry: 3000\n"+told(0))
	for n := range uint64(passing) {
		publish(t, h, frequent)
		w.wantText(t, told(n+1))
	}
	publish(t, h, rare, frequent) // of which the hub has the second one only in memory
	w.wantText(t, "event: rare\nid: own\ndata: x\n\n")
}

// TestStream_ResumesWithoutASeam has clients that break off and come back, all at once,
// with the last id that they got, while events are published.
func TestStream_ResumesWithoutASeam(t *testing.T) {
	const publishers, each, clients = 4, 250, 33
	for name, hotBytes := range map[string]int{"all in memory": 0, "some in memory": 100_000, "one in memory": 1} {
		t.Run(name, func(t *testing.T) {
			log := newLog(t, nil)
			h := newHub(t, hub.Options{Log: log, HotBytes: hotBytes})
			s := serve(t, h)
			wantNothingLeft := leavesNothing(t, h, s)
			for i := range 500 { // a history
				publish(t, h, event([]string{"a", "b", "c/1", "a,b"}[i%4], fmt.Sprint("before ", i)))
			}
			var publishing, subscribing sync.WaitGroup
			var connections atomic.Int64
			got := make([][]string, clients)
			for i := range clients {
				subscribing.Go(func() {
					last := ""
					for ended := false; !ended; {
						var marked []string
						marked, last, ended = s.visit(withEnd(selections[i%len(selections)]), last, 1+rand.IntN(150))
						got[i] = append(got[i], marked...)
						connections.Add(1)
					}
				})
			}
			for p := range publishers {
				publishing.Go(func() {
					for i := range each {
						ev := event([]string{"a", "b", "c/1", "a,b", "c/1/2,b,a", "d", "c/2"}[(p+i)%7], fmt.Sprint(p, ".", i))
						ev.Type = []string{"", "t", "u", "message", "v"}[i%5]
						if i%3 == 0 {
							ev.ID = "own " + ev.Data
						}
						tryPublish(t, h, ev)
					}
				})
			}
			publishing.Wait()
			publish(t, h, lastOfAll)
			subscribing.Wait()
			wantNothingLeft()
			for i, marked := range got {
				f := selections[i%len(selections)]
				wantMarks(t, fmt.Sprintf("client %d, %+v", i, f), marked, marks(t, log, f, 0))
			}
			t.Logf("%d connections", connections.Load())
		})
	}
}

// TestStream_NothingComesTwiceWhereTheHubIsBehindItsLog has subscribers who come while the
// log has events that the hub has not taken into its memory yet.
func TestStream_NothingComesTwiceWhereTheHubIsBehindItsLog(t *testing.T) {
	tests := []struct {
		name, query string
		id          string // with which it comes
		read        bool   // it gets its history before the hub has it
		want        string
	}{
		{"now", "topic=a", "", false, "own 4"},
		{"the newest id", "topic=a", "own 3", false, "own 4"},
		{"an id", "topic=a", "own 1", false, "own 2, own 3, own 4"},
		{"everything", "topic=a&since=earliest", "", false, "own 1, own 2, own 3, own 4"},
		{"several topics, the newest id", "topic=a&topic=b", "own 3", false, "own 4"},
		{"a pattern, now", "pattern=*", "", false, "own 4"},
		{"a pattern, the newest id", "pattern=*", "own 3", false, "own 4"},
		{"a pattern, an id", "pattern=*", "own 1", true, "own 2, own 3, own 4"},
		{"a pattern, everything", "pattern=**&since=earliest", "", true, "own 1, own 2, own 3, own 4"},
		{"a type", "topic=a&type=message", "own 3", false, "own 4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log := &spyLog{Log: newLog(t, nil)}
			hold := log.holdTail()
			h := newHub(t, hub.Options{Log: log})
			defer hold(false)
			own := func(n int) hub.Event { return hub.Event{Topics: []string{"a"}, ID: fmt.Sprint("own ", n)} }
			hold(true)
			for n := 1; n <= 3; n++ {
				publish(t, h, own(n))
			}
			w := serve(t, h).wire("/events?"+tt.query, "Last-Event-ID: "+tt.id)
			want := strings.Split(tt.want, ", ")
			var got []string
			if tt.read {
				for range len(want) - 1 {
					got = append(got, w.next(t).ID)
				}
			}
			hold(false)
			publish(t, h, own(4))
			for len(got) < len(want) {
				got = append(got, w.next(t).ID)
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			publish(t, h, own(5))
			if ev := w.next(t); ev.ID != "own 5" {
				t.Errorf("then got %q, want the next one", ev.ID)
			}
		})
	}
}

// visit subscribes from an id on, "" for the beginning, and returns what it got when it
// vanishes after some events, or after the last of all.
func (s *server) visit(f hub.Filter, last string, stay int) (got []string, id string, ended bool) {
	request := get(path(f) + "&since=earliest")
	if last != "" {
		request = get(path(f), "Last-Event-ID: "+last)
	}
	w, err := s.connect(request)
	if err != nil {
		s.t.Error(err)
		return nil, last, true
	}
	defer w.vanish()
	for range stay {
		ev, err := w.events.Next()
		if err != nil {
			s.t.Errorf("from %q: %v", last, err)
			return got, last, true
		}
		if ev.Type == lastOfAll.Type {
			return got, last, true
		}
		got, last = append(got, mark(ev.ID, ev.Type, ev.Data)), ev.ID
	}
	return got, last, false
}

// TestStream_IsClosedByTheWriteTimeout has a client that never reads, and no heartbeat by
// which that would be noticed.
func TestStream_IsClosedByTheWriteTimeout(t *testing.T) {
	for name, heartbeat := range map[string]time.Duration{"with heartbeats": 10 * time.Millisecond, "without": -1} {
		t.Run(name, func(t *testing.T) {
			const timeout = 200 * time.Millisecond
			h := newHub(t, hub.Options{WriteTimeout: timeout, Heartbeat: heartbeat, PositionInterval: -1})
			s := serveNarrow(t, h)
			wantNothingLeft := leavesNothing(t, h, s)
			idle := s.wire("/events/b") // which is no fault
			idle.wantText(t, "retry: 3000\n")
			began := time.Now()
			w := s.full(h, "/events/a", 10_000, 100)
			eventually(t, "it is closed", func() bool { return h.Streams() == 1 })
			if lasted := time.Since(began); lasted < timeout {
				t.Errorf("got it closed after %v, want %v at least", lasted, timeout)
			}
			_, err := io.Copy(io.Discard, w)
			wantValid(t, "the rest", err)
			if err == nil {
				t.Error("got a clean end, want it cut off")
			}
			publish(t, h, hub.Event{Topics: []string{"b"}, ID: "1", Data: "x"})
			if ev := idle.next(t); ev.ID != "1" {
				t.Errorf("the idle one: got %+v", ev)
			}
			idle.vanish()
			w.close()
			wantNothingLeft()
		})
	}
}

// TestSlow_IsSkippedWhileTheMemoryMovesOn has streams that are skipped to an event which is
// let go of at the same moment.
func TestSlow_IsSkippedWhileTheMemoryMovesOn(t *testing.T) {
	const publishers, each, clients = 4, 1000, 10
	h := newHub(t, hub.Options{HotBytes: 1, Slow: hub.SlowRules{{Pattern: "**", Policy: hub.SlowLatest, Lag: 1}}})
	s := serve(t, h)
	var reading, publishing sync.WaitGroup
	for i := range clients {
		w := s.wire("/events/a")
		reading.Go(func() {
			defer w.close()
			last := ""
			for last != "last" {
				ev, err := w.events.Next()
				if err != nil {
					t.Errorf("client %d: %v after %q", i, err, last)
					return
				}
				last = ev.ID
			}
		})
	}
	for range publishers {
		publishing.Go(func() {
			for range each {
				tryPublish(t, h, event("a", "x"))
			}
		})
	}
	publishing.Wait()
	publish(t, h, hub.Event{Topics: []string{"a"}, ID: "last"})
	reading.Wait()
}

// TestStream_EndsWithItsClient has clients that say in each way that they are gone, on a
// stream on which nothing happens.
func TestStream_EndsWithItsClient(t *testing.T) {
	tests := []struct {
		name string
		gone func(w *wire)
	}{
		{"a reset", (*wire).vanish},
		{"a close", (*wire).close},
		{"half a close", func(w *wire) { _ = w.conn.CloseWrite() }},
	}
	h := newHub(t, hub.Options{Heartbeat: -1})
	s := serve(t, h)
	wantNothingLeft := leavesNothing(t, h, s)
	for _, tt := range tests {
		for _, path := range []string{"/events/a", "/events?pattern=*&since=earliest"} {
			w := s.wire(path)
			w.wantText(t, "retry: 3000\n")
			tt.gone(w)
			eventually(t, tt.name, func() bool { return h.Streams() == 0 })
			w.close()
		}
	}
	wantNothingLeft()
}

// TestStream_HeartbeatsInRealTime has the least that time must show; what it must show in
// all is tested where time is synctest's.
func TestStream_HeartbeatsInRealTime(t *testing.T) {
	const heartbeat, beats = 40 * time.Millisecond, 8
	beating := newHub(t, hub.Options{Heartbeat: heartbeat, PositionInterval: -1})
	never := newHub(t, hub.Options{Heartbeat: -1, PositionInterval: -1})
	silent := serve(t, never).wire("/events/a")
	silent.wantText(t, "retry: 3000\n")
	began := time.Now()
	w := serve(t, beating).wire("/events/a")
	w.wantText(t, "retry: 3000\n"+strings.Repeat(":\n", beats))
	// An eighth sooner at most, and its clock has milliseconds.
	if lasted, least := time.Since(began), beats*(heartbeat*7/8-2*time.Millisecond); lasted < least {
		t.Errorf("got %d comments in %v, want that to take %v", beats, lasted, least)
	}
	for _, h := range []*hub.Hub{beating, never} {
		publish(t, h, hub.Event{Topics: []string{"a"}, ID: "1", Data: "x"})
	}
	silent.wantText(t, "id: 1\ndata: x\n\n")
	if ev := w.next(t); ev.ID != "1" || ev.Data != "x" {
		t.Errorf("got %+v", ev)
	}
}

// TestStream_PositionsInRealTime has browsers that get nothing while the order moves.
func TestStream_PositionsInRealTime(t *testing.T) {
	log := newLog(t, &memory.Options{Retention: hub.RetentionRules{{Pattern: "**", Retention: hub.Retention{Count: 4}}}})
	often := newHub(t, hub.Options{Log: log, Heartbeat: -1, PositionInterval: 50 * time.Millisecond})
	seldom := newHub(t, hub.Options{Log: log, Heartbeat: -1, WriteTimeout: 500 * time.Millisecond})
	told := func() string { return "id: " + hub.Position(log.Head().Epoch, log.Head().Seq) + "\n\n" }
	var all []*wire
	for _, h := range []*hub.Hub{often, seldom} {
		s := serve(t, h)
		all = append(all, s.wire("/events/a?type=rare", native...), s.wire("/events/b", native...), s.wire("/events/b"))
	}
	for i, w := range all {
		begins := "retry: 3000\n"
		if i%3 < 2 {
			begins += told()
		}
		w.wantText(t, begins)
	}
	publish(t, often, slices.Repeat([]hub.Event{{Topics: []string{"a"}, Type: "frequent"}}, 4)...)
	all[0].wantText(t, told())
	all[1].wantText(t, told())
	all[3].wantText(t, told()) // as one more would remove the first
	id := hub.Position(log.Head().Epoch, log.Head().Seq)
	rare := hub.Event{Topics: []string{"a", "b"}, Type: "rare", ID: "own", Data: "x"}
	publish(t, often, append(slices.Repeat([]hub.Event{{Topics: []string{"a"}, Type: "frequent"}}, 3), rare)...)
	text := "event: rare\nid: own\ndata: x\n\n"
	for i, w := range all {
		if i == 1 {
			continue // it may have been told where it is before
		}
		w.wantText(t, text)
	}
	serve(t, seldom).wire("/events/a?type=rare", append(native[:3:3], "Last-Event-ID: "+id)...).wantText(t, "retry: 3000\n"+text)
}

// TestShutdown_EndsStreamsOnTheWire has streams in every state.
func TestShutdown_EndsStreamsOnTheWire(t *testing.T) {
	h := newHub(t, hub.Options{HotBytes: 100_000})
	s := serveNarrow(t, h)
	wantNothingLeft := leavesNothing(t, h, s)
	publishMany(t, h, "b", 0, 5000, 100)
	live, typed, pattern := s.wire("/events/a"), s.wire("/events/a?type=t"), s.wire("/events?pattern=**&last=10", native...)
	behind := s.wire("/events/b?since=earliest")
	behind.narrow()
	talking := s.wire("/events/a")
	if err := talking.say(get("/events/a") + strings.Repeat("x", 1000)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { done <- h.Shutdown(ctx) }()
	for name, w := range map[string]*wire{"live": live, "typed": typed, "pattern": pattern, "behind": behind} {
		text, err := io.ReadAll(w)
		if err != nil {
			t.Errorf("%s: got %.200q and %v, want a clean end", name, text, err)
		}
		if text = text[bytes.LastIndexByte(text[:max(0, len(text)-1)], '\n')+1:]; !strings.HasPrefix(string(text), "retry: ") || strings.HasPrefix(string(text), "retry: 3000\n") {
			t.Errorf("%s: got %q at the end, want a retry", name, text)
		}
	}
	_, err := io.Copy(io.Discard, talking) // what it said may reset the connection
	wantValid(t, "talking", err)
	if err := <-done; err != nil {
		t.Error(err)
	}
	talking.close()
	for _, w := range []*wire{live, typed, pattern, behind} {
		w.close()
	}
	wantNothingLeft()
}

// TestShutdown_CutsWhatIsStuckAndSendsOthersAway has one subscriber who keeps the hub from
// going down until the context ends, and one who comes meanwhile.
func TestShutdown_CutsWhatIsStuckAndSendsOthersAway(t *testing.T) {
	h := newHub(t, hub.Options{WriteTimeout: time.Hour, Heartbeat: -1})
	s := serveNarrow(t, h)
	wantNothingLeft := leavesNothing(t, h, s)
	w := s.full(h, "/events/a", 4, 1000<<10)
	w.wantText(t, "id: 0\n") // it is in the middle of an event, which no socket takes whole
	reading := s.wire("/events/a")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- h.Shutdown(ctx) }()
	_, err := io.Copy(io.Discard, reading)
	if err != nil {
		t.Errorf("one that reads: got %v, want a clean end", err)
	}
	for _, path := range []string{"/events/a", "/events?pattern=*&type=t"} {
		late := s.wire(path, "Accept: text/event-stream")
		text, err := io.ReadAll(late)
		if err != nil || !strings.HasPrefix(string(text), "retry: ") || !strings.Contains(string(text), "event: tidewire.error\n") {
			t.Errorf("%s: got %q and %v, want a retry, a tidewire.error and a clean end", path, text, err)
		}
		late.close()
	}
	select {
	case err := <-done:
		t.Errorf("got %v before the context's end", err)
	default:
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	_, err = io.Copy(io.Discard, w)
	wantValid(t, "the stuck one", err)
	if err == nil {
		t.Error("the stuck one: got a clean end, want it cut off")
	}
	w.close()
	reading.close()
	wantNothingLeft()
}

// comeLate has a hub whose first subscriber, or a later one, waits for the log while
// shutdown is under way, and returns its connection, which goes on with go.
func comeLate(t *testing.T, first bool) (h *hub.Hub, s *server, w *wire, goOn func()) {
	entered, proceed := make(chan struct{}), make(chan struct{})
	log := &spyLog{Log: newLog(t, nil)}
	h = newHub(t, hub.Options{Log: log})
	s = serve(t, h)
	var once sync.Once
	log.topic = func(_ context.Context, topic string) (bool, error) {
		if topic == "late" {
			once.Do(func() {
				close(entered)
				<-proceed
			})
		}
		return false, nil
	}
	if !first {
		s.wire("/events/early").wantText(t, "retry: 3000\n")
	}
	w, err := s.connect(get("/events/late"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	<-entered
	return h, s, w, sync.OnceFunc(func() { close(proceed) })
}

// TestShutdown_EndsAStreamThatIsJustBeginning has a subscriber who is let in just before
// the hub begins to go down.
func TestShutdown_EndsAStreamThatIsJustBeginning(t *testing.T) {
	for name, first := range map[string]bool{"the first of all": true, "a later one": false} {
		t.Run(name, func(t *testing.T) {
			h, _, w, goOn := comeLate(t, first)
			defer goOn()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- h.Shutdown(ctx) }()
			eventually(t, "it is going down", func() bool {
				_, err := h.Publish(t.Context(), hub.Publication{Events: []hub.Event{event("b", "")}})
				return errors.Is(err, hub.ErrShutdown)
			})
			goOn()
			text, err := io.ReadAll(w)
			if err != nil || strings.Count(string(text), "retry: ") != 2 {
				t.Errorf("got %q and %v, want another retry and a clean end", text, err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestShutdown_EndsAStreamThatBeginsAfterIt has a subscriber who is let in, and whose
// stream begins when the hub has given up waiting for it.
func TestShutdown_EndsAStreamThatBeginsAfterIt(t *testing.T) {
	for name, first := range map[string]bool{"the first of all": true, "a later one": false} {
		t.Run(name, func(t *testing.T) {
			h, s, w, goOn := comeLate(t, first)
			defer goOn()
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := h.Shutdown(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want the context's error", err)
			}
			goOn()
			_, err := io.Copy(io.Discard, w)
			wantValid(t, "the stream", err)
			if err, ok := err.(net.Error); ok && err.Timeout() {
				t.Errorf("the connection is still open after %v", s.patience)
			}
			eventually(t, "no subscriptions", func() bool { return h.Streams() == 0 })
		})
	}
}
