package hub_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// serveGzip is serve, or serveTLS, for a client that asks for gzip and undoes it.
func serveGzip(t testing.TB, h http.Handler, http2 bool) *server {
	t.Helper()
	if http2 {
		return serveTLS(t, h)
	}
	return clientOf(t, httptest.NewServer(h), &http.Transport{})
}

// order is an event's data as applications have it, of about so many bytes.
func order(number, size int) string {
	b := fmt.Appendf(nil, `{"number":%d`, number)
	for len(b) < size {
		b = fmt.Appendf(b, `,"%x":{"price":%d,"state":"waiting"}`, rand.Uint32(), rand.IntN(10000))
	}
	return string(append(b, '}'))
}

func TestGzip_OnlyForThoseWhoAsk(t *testing.T) {
	tests := []struct {
		accept string
		want   bool
	}{
		{"", false},
		{"gzip", true},
		{"GZIP", true},
		{"x-gzip", true},
		{"gzip, deflate, br, zstd", true},
		{"br, gzip;q=0.5", true},
		{"deflate, br", false},
		{"*", false},
		{"gzip;q=0", false},
		{"gzip; q=0.000, *", false},
		{"identity, gzip;q=0.5", false},
		{"identity;q=0.5, gzip", true},
		{"identity, gzip", true},
		{"gzipped", false},
	}
	h, off := newHub(t, hub.Options{}), newHub(t, hub.Options{Compression: hub.CompressionOff})
	publish(t, h, event("a", order(1, 2000)))
	publish(t, off, event("a", order(1, 2000)))
	s, sOff := serve(t, h), serve(t, off)
	for _, tt := range tests {
		for _, media := range []string{"text/event-stream", "application/x-ndjson", "application/json"} {
			headers := []string{"Accept: " + media}
			if tt.accept != "" {
				headers = append(headers, "Accept-Encoding: "+tt.accept)
			}
			st := s.open("/events/a?since=earliest", headers...)
			if got := st.Header.Get("Content-Encoding"); (got == "gzip") != tt.want || got != "" && !tt.want {
				t.Errorf("%q, %s: got Content-Encoding %q, want gzip: %v", tt.accept, media, got, tt.want)
			}
			if got := st.Header.Get("Vary"); got != "Accept, Accept-Encoding" {
				t.Errorf("%q, %s: got Vary %q", tt.accept, media, got)
			}
			_ = st.Body.Close()
			st = sOff.open("/events/a?since=earliest", headers...)
			if st.Header.Get("Content-Encoding") != "" || st.Header.Get("Vary") != "Accept" {
				t.Errorf("off: %q, %s: got %v", tt.accept, media, st.Header)
			}
			_ = st.Body.Close()
		}
	}
}

func TestGzip_NotForHTTP10(t *testing.T) {
	h := newHub(t, hub.Options{})
	publish(t, h, event("a", order(1, 2000)))
	end(t, h, "a")
	s := serve(t, h)
	for _, media := range []string{"text/event-stream", "application/x-ndjson", "application/json"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(conn, "GET /events/a?since=earliest HTTP/1.0\r\nAccept-Encoding: gzip\r\nAccept: "+media+"\r\n\r\n")
		b, err := io.ReadAll(conn)
		if err != nil || !bytes.Contains(b, []byte(" 200 OK")) || bytes.Contains(b, []byte("Content-Encoding")) || !bytes.Contains(b, []byte("waiting")) {
			t.Errorf("%s: got %.300q and %v, want it as it is", media, b, err)
		}
	}
}

// TestGzip_EachEventComesAtOnce publishes an event only when the one before has come.
func TestGzip_EachEventComesAtOnce(t *testing.T) {
	sizes := []int{0, 1, 100, 511, 512, 600, 1 << 10, 4 << 10, 65_500, 65_535, 65_536, 200_000, 1 << 20}
	for _, way := range []struct {
		name  string
		media string
		http2 bool
	}{{"events over HTTP/1.1", "text/event-stream", false}, {"events over HTTP/2", "text/event-stream", true}, {"lines", "application/x-ndjson", false}} {
		t.Run(way.name, func(t *testing.T) {
			h := newHub(t, hub.Options{Heartbeat: 10 * time.Millisecond})
			s := serveGzip(t, h, way.http2)
			st := s.open("/events/a", "Accept: "+way.media)
			if !st.Uncompressed {
				t.Error("got no gzip")
			}
			for _, size := range sizes {
				for _, data := range []string{order(size, size), filler(size)} {
					data = data[:min(len(data), 1<<20)]
					publish(t, h, hub.Event{Topics: []string{"a"}, ID: fmt.Sprint("id-", size), Data: data})
					if way.media == "text/event-stream" {
						if ev := st.next(); ev.Data != data {
							t.Fatalf("got %d bytes, want %d", len(ev.Data), size)
						}
					} else if got := st.ndLine(); !strings.Contains(got, fmt.Sprintf(`"id-%d"`, size)) || len(got) < size {
						t.Fatalf("got %.100q of %d, want %d", got, len(got), size)
					}
				}
			}
			end(t, h, "a")
			if got := strings.Trim(st.rest(), ":\n"); got != "" {
				t.Errorf("got %q at the end", got)
			}
		})
	}
}

// ndLine returns the next line that is not empty.
func (s *stream) ndLine() string {
	s.t.Helper()
	var line []byte
	for one := make([]byte, 1); ; {
		if _, err := io.ReadFull(s.Body, one); err != nil {
			s.t.Fatalf("got %q and %v, want a line", line, err)
		}
		if one[0] != '\n' {
			line = append(line, one[0])
		} else if len(line) > 0 {
			return string(line)
		}
	}
}

// TestGzip_IsThePlainStream compares what two get who differ only in that, to the last byte,
// for random mixes of events, places to begin, and sockets that are full at any byte.
func TestGzip_IsThePlainStream(t *testing.T) {
	trials := 12
	if long() {
		trials = 500
	}
	for range trials {
		hot := []int{0, 1, 300_000}[rand.IntN(3)]
		h := newHub(t, hub.Options{HotBytes: hot, Heartbeat: -1})
		s := serveNarrow(t, h)
		var all sync.WaitGroup
		events := 100 + rand.IntN(400)
		for n := 0; n < events; {
			if n == 0 || rand.IntN(10) == 0 {
				query := []string{"/events/a?type=message&type=t", "/events?topic=a&topic=b", "/events?topic=c&topic=b"}[rand.IntN(3)]
				start := ""
				if n > 0 {
					start = []string{"&since=earliest", fmt.Sprint("&last_event_id=", rand.IntN(n)), fmt.Sprint("&last=", 1+rand.IntN(n))}[rand.IntN(3)]
				}
				var wires [2]*wire
				for i := range wires {
					wires[i] = s.wire(query+start, codings[i]...)
					wires[i].narrow()
				}
				slow := rand.IntN(3) == 0
				all.Go(func() {
					var got [2][]byte
					var err [2]error
					var both sync.WaitGroup
					for i, w := range wires {
						both.Go(func() { got[i], err[i] = readSlowly(w.body, slow) })
					}
					both.Wait()
					if start == "" { // they have begun at different places perhaps
						return
					}
					if err[0] != nil || err[1] != nil || !bytes.Equal(got[0], got[1]) {
						t.Errorf("%s%s: got %d bytes and %v, want %d bytes (%v)", query, start, len(got[1]), err[1], len(got[0]), err[0])
					}
				})
			}
			var batch []hub.Event
			for range min(1+rand.IntN(40), events-n) {
				size := []int{10, 200, 600, 3000}[rand.IntN(4)]
				if rand.IntN(50) == 0 {
					size = 100_000
				}
				data := filler(rand.IntN(size))
				if rand.IntN(2) == 0 {
					data = order(n, rand.IntN(size))
				}
				batch = append(batch, hub.Event{Topics: []string{[]string{"a", "a", "b", "c"}[rand.IntN(4)]}, ID: fmt.Sprint(n), Type: []string{"", "t", "u"}[rand.IntN(3)], Data: data})
				n++
			}
			publish(t, h, batch...)
		}
		end(t, h, "a", "b", "c")
		all.Wait()
	}
}

// readSlowly reads to the end.
func readSlowly(r io.Reader, slow bool) ([]byte, error) {
	var all []byte
	b := make([]byte, 8<<10)
	for {
		n, err := r.Read(b[:1+rand.IntN(len(b))])
		all = append(all, b[:n]...)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		if slow && rand.IntN(50) == 0 {
			time.Sleep(rand.N(3 * time.Millisecond)) // it is as it is
		}
	}
}

// A countingDeflater counts what is compressed.
type countingDeflater struct {
	*flate.Writer
	flushes *atomic.Int64
}

func (c countingDeflater) Flush() error {
	c.flushes.Add(1)
	return c.Writer.Flush()
}

func TestGzip_EventsAreCompressedOnceForAll(t *testing.T) {
	const subscribers, events = 40, 25
	for _, http2 := range []bool{false, true} {
		var flushes atomic.Int64
		h := newHub(t, hub.Options{Heartbeat: -1, NewDeflater: func() hub.Deflater {
			w, _ := flate.NewWriter(nil, 6)
			return countingDeflater{w, &flushes}
		}})
		s := serveGzip(t, h, http2)
		plain := serve(t, h).open("/events/a")
		publish(t, h, event("a", order(0, 1000)))
		_ = plain.next()
		if got := flushes.Load(); got != 0 {
			t.Errorf("got %d compressions while nobody wants them", got)
		}
		var all []*stream
		for range subscribers {
			all = append(all, s.open("/events/a"))
		}
		for i := range events {
			data := order(i, 1000)
			publish(t, h, event("a", data))
			for _, st := range all {
				if got := st.next().Data; got != data {
					t.Fatalf("got %.50q, want %.50q", got, data)
				}
			}
		}
		if got := flushes.Load(); got != events {
			t.Errorf("HTTP/2 %v: got %d compressions of %d events", http2, got, events)
		}
	}
}

// A failingDeflater is one of those that a Deflater must not be.
type failingDeflater struct{ calls int }

func (d *failingDeflater) Write(b []byte) (int, error) { d.calls++; return 0, errors.New("no") }
func (d *failingDeflater) Flush() error                { return errors.New("no") }
func (d *failingDeflater) Reset(io.Writer)             {}

func TestGzip_WhatCannotBeCompressedIsStored(t *testing.T) {
	h := newHub(t, hub.Options{NewDeflater: func() hub.Deflater { return new(failingDeflater) }})
	s := serveGzip(t, h, false)
	st := s.open("/events/a")
	data := order(1, 100_000)
	publish(t, h, event("a", data))
	if got := st.next().Data; got != data {
		t.Errorf("got %.50q of %d, want %.50q", got, len(got), data)
	}
	if got := s.open("/events/a?since=earliest").next().Data; got != data {
		t.Errorf("history: got %.50q of %d, want %.50q", got, len(got), data)
	}
}

// TestGzip_ControlEventsComeThrough has what a stream is sent of its own.
func TestGzip_ControlEventsComeThrough(t *testing.T) {
	t.Run("heartbeats and positions", func(t *testing.T) {
		h := newHub(t, hub.Options{Heartbeat: 20 * time.Millisecond, PositionInterval: 20 * time.Millisecond})
		s := serve(t, h)
		w := s.wire("/events/a?type=t&heartbeat=event", codings[1]...)
		w.wantText(t, "retry: 3000\n")
		publish(t, h, hub.Event{Topics: []string{"a"}, Type: "u"})
		for w.next(t).Type != "tidewire.hb" {
		}
		w = s.wire("/events/b", codings[1]...)
		w.wantText(t, "retry: 3000\n:\n:\n:\n")
		end(t, h, "a", "b")
		w.wantEnd(t)
	})
	t.Run("a gap", func(t *testing.T) {
		h := newHub(t, hub.Options{})
		w := serve(t, h).wire("/events/a?last_event_id=unknown", codings[1]...)
		if got := w.next(t).Type; got != "tidewire.gap" {
			t.Errorf("got %q, want a gap", got)
		}
	})
	t.Run("the shutdown", func(t *testing.T) {
		h := newHub(t, hub.Options{})
		w := serve(t, h).wire("/events/a", codings[1]...)
		publish(t, h, event("a", order(1, 3000)))
		w.next(t)
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantEnd(t)
	})
}

func TestGzip_PollsOfAKibibyte(t *testing.T) {
	h := newHub(t, hub.Options{})
	s := serve(t, h)
	ask := []string{"Accept: application/json", "Accept-Encoding: gzip"}
	if got := s.call("GET", "/events/a", "", ask...); got.Header.Get("Content-Encoding") != "" {
		t.Errorf("got an answer of %d bytes in gzip", len(got.body))
	}
	publish(t, h, event("a", order(1, 5000)))
	plain := s.call("GET", "/events/a?since=earliest", "", ask[0])
	zipped := s.call("GET", "/events/a?since=earliest", "", ask...)
	z, err := gzip.NewReader(strings.NewReader(zipped.body))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(z)
	if err != nil || string(got) != plain.body {
		t.Errorf("got %.100q of %d and %v, want %.100q of %d", got, len(got), err, plain.body, len(plain.body))
	}
	if len(zipped.body) > len(plain.body)/2 {
		t.Errorf("got %d bytes for %d", len(zipped.body), len(plain.body))
	}
	tag := zipped.Header.Get("ETag")
	if tag == plain.Header.Get("ETag") {
		t.Errorf("got the tag %s for both", tag)
	}
	if got := s.call("GET", "/events/a?since=earliest", "", append(ask, "If-None-Match: "+tag)...); got.StatusCode != http.StatusNotModified {
		t.Errorf("got %s for the same", got.Status)
	}
}

func TestGzip_LongPolls(t *testing.T) {
	h := newHub(t, hub.Options{})
	s := serveGzip(t, h, false)
	answers := make(chan answer, 1)
	go func() { answers <- s.call("GET", "/events/a?wait=30s", "", "Accept: application/json") }()
	eventually(t, "a long-poll", func() bool { return h.Streams() > 0 })
	data := order(1, 5000)
	publish(t, h, hub.Event{Topics: []string{"a"}, ID: "1", Data: data})
	got := <-answers
	if !got.Uncompressed || !strings.Contains(got.body, `\"number\":1,`) || !strings.Contains(got.body, `"id":"1"`) {
		t.Errorf("got %.200q, gzip %v", got.body, got.Uncompressed)
	}
}

// TestGzip_CountsAsMemory has the hot log keep less where the same is there twice.
func TestGzip_CountsAsMemory(t *testing.T) {
	const hotBytes = 1 << 20
	h := newHub(t, hub.Options{HotBytes: hotBytes, Heartbeat: -1})
	s := serveGzip(t, h, false)
	st := s.open("/events/a")
	for i := range 60 {
		publish(t, h, event("a", filler(50_000+i)))
		if got := st.next().Data; len(got) != 50_000+i {
			t.Fatalf("got %d bytes, want %d", len(got), 50_000+i)
		}
		if got := h.HotBytes(); got > hotBytes {
			t.Fatalf("got %d bytes in memory, want at most %d", got, hotBytes)
		}
	}
}
