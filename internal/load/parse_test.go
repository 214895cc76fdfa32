package load_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/internal/load"
	"github.com/tidewire/tidewire/sse"
)

func TestHistogram_NeverBelowAndLittleAboveTheTruth(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, most := range []int64{1, 100, 1000, 1e6, 1e9, 1e12, 1 << 62} {
		durations := make([]int64, 5000)
		for i := range durations {
			durations[i] = random.Int64N(most)
		}
		sorted := slices.Sorted(slices.Values(durations))
		shares := []float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 1}
		for i, got := range load.Quantiles(durations, shares...) {
			rank := max(1, int(shares[i]*float64(len(sorted))+0.999999))
			want := sorted[rank-1]
			if int64(got) < want || float64(got) > float64(want)*1.016 {
				t.Errorf("up to %d: got %d for the share %g, want %d or 1.6 %% more", most, got, shares[i], want)
			}
		}
	}
}

func TestParseAnswer(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
	for _, test := range []struct {
		name   string
		answer string
		status int
		body   string
		ended  bool
		fails  bool
	}{
		{"up to the end of the connection", ok + "\r\nabc", 200, "abc", false, false},
		{"length", ok + "Content-Length: 3\r\n\r\nabcde", 200, "abc", true, false},
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", true, false},
		{"length of none", ok + "content-length: 0\r\n\r\n", 200, "", true, false},
		{"chunks", ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n", 200, "abc0123456789", false, false},
		{"last chunk", ok + "transfer-encoding:chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200, "abc", true, false},
		{"extensions and trailers", ok + "Transfer-Encoding: chunked\r\n\r\n03;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n", 200, "abc", true, false},
		{"line breaks without CR", ok + "Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n", 200, "abc", true, false},
		{"interim answer", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok + "Content-Length: 1\r\n\r\na", 200, "a", true, false},
		{"no reason", "HTTP/1.1 503\r\nContent-Length: 1\r\n\r\na", 503, "a", true, false},
		{"not HTTP", "SSH-2.0-OpenSSH_9.9\r\n\r\n", 0, "", false, true},
		{"status is no number", "HTTP/1.1 2x0 OK\r\n\r\n", 0, "", false, true},
		{"length is no number", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 0, "", false, true},
		{"chunk without a size", ok + "Transfer-Encoding: chunked\r\n\r\n\r\nabc", 200, "", false, true},
		{"chunk's size is no number", ok + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 200, "", false, true},
		{"chunk's size is too large", ok + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 200, "", false, true},
		{"chunk is longer than it says", ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nabc", 200, "a", false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			everyCut([]byte(test.answer), func(pieces ...[]byte) {
				status, body, ended, err := load.ParseAnswer(pieces...)
				if (err != nil) != test.fails || err == nil && (status != test.status || body != test.body || ended != test.ended) {
					t.Fatalf("got %d, %q, %v, %v, want %d, %q, %v", status, body, ended, err, test.status, test.body, test.ended)
				}
			})
		})
	}
	t.Run("endless head", func(t *testing.T) {
		if _, _, _, err := load.ParseAnswer([]byte(ok + strings.Repeat("X: y\r\n", 20_000))); err == nil {
			t.Error("got no error")
		}
	})
}

// everyCut calls f with b whole, byte by byte and cut at every point.
func everyCut(b []byte, f func(pieces ...[]byte)) {
	f(b)
	f(slices.Collect(slices.Chunk(b, 1))...)
	for i := range b {
		f(b[:i], b[i:])
	}
}

func TestParseEvents(t *testing.T) {
	type E = load.Event
	for _, test := range []struct {
		stream string
		want   []E
	}{
		{"data: a\n\n", []E{{Data: "a"}}},
		{"\uFEFFdata:a\n\ndata: b\n\n", []E{{Data: "a"}, {Data: "b"}}},
		{"retry: 1\n\n: hello\n:\ndata: a\nid: 7\nevent: t\n\n", []E{{"t", "a", "7"}}},
		{"data: a\r\n\r\ndata: b\r\rdata: c\n\r\n", []E{{Data: "a"}, {Data: "b"}, {Data: "c"}}},
		{"data: a\r\ndata:  b\rdata\n\n", []E{{Data: "a\n b\n"}}},
		{"id: 7\n\ndata: a\n\n", []E{{"", "a", "7"}}},
		{"event: t\n\ndata: a\n\n", []E{{Data: "a"}}},
		{"id: a\x00b\ndata\n\n", []E{{}}},
		{"datas: a\ndat: b\n\n", nil},
		{"data: a\n", nil},
	} {
		everyCut([]byte(test.stream), func(pieces ...[]byte) {
			if got := load.ParseEvents(pieces...); !slices.Equal(got, test.want) {
				t.Fatalf("%q in %d pieces: got %q, want %q", test.stream, len(pieces), got, test.want)
			}
		})
	}
}

// The parser finds what the decoder of package sse finds.
func FuzzParseEvents(f *testing.F) {
	f.Add([]byte("\uFEFFdata: a\r\rid:\ndata:b\ndata\r\n\r\n:x\nevent: y\ndata:\n\n"), uint(7))
	f.Add([]byte("data:a\r"), uint(3))
	f.Fuzz(func(t *testing.T, stream []byte, cut uint) {
		i := int(cut % uint(len(stream)+1))
		got := load.ParseEvents(stream[:i], stream[i:])
		var want []load.Event
		for ev, err := range sse.Events(bytes.NewReader(stream), nil) {
			if err != nil {
				break
			}
			// Bytes that are no UTF-8 are replaced here, and passed on there.
			want = append(want, load.Event{Type: ev.Type, Data: ev.Data, ID: ev.ID})
		}
		if !slices.EqualFunc(got, want, func(a, b load.Event) bool {
			return cmp.Or(text(a.Type), "message") == cmp.Or(text(b.Type), "message") && text(a.Data) == text(b.Data)
		}) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// text leaves out what is no UTF-8.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, ""), "\uFFFD", "")
}

// What is read the short way and what the parser reads counts the same, wherever it is cut.
func TestFeed_EveryForm(t *testing.T) {
	const run = "abcdefgh"
	data := func(f *load.Feeder, seq int64) string { return string(f.Message(seq)) }
	for _, test := range []struct {
		name  string
		event func(f *load.Feeder, n int64) string
		id    string // after four events
		n     int64  // of them that count
		wrong int64
	}{
		{"plain", func(f *load.Feeder, n int64) string { return fmt.Sprintf("id: e-%d\ndata: %s\n\n", n, data(f, n)) }, "e-3", 4, 0},
		{"without ids", func(f *load.Feeder, n int64) string { return "data: " + data(f, n) + "\n\n" }, "", 4, 0},
		{"ids at first", func(f *load.Feeder, n int64) string {
			return map[bool]string{true: "id: first\n"}[n == 0] + "data: " + data(f, n) + "\n\n"
		}, "first", 4, 0},
		{"an empty id at the end", func(f *load.Feeder, n int64) string {
			return map[bool]string{true: "id: \n", false: "id: x\n"}[n == 3] + "data: " + data(f, n) + "\n\n"
		}, "", 4, 0},
		{"an id with a tab", func(f *load.Feeder, n int64) string { return "id: a\tb\ndata: " + data(f, n) + "\n\n" }, "a\tb", 4, 0},
		{"ids behind", func(f *load.Feeder, n int64) string { return fmt.Sprintf("data: %s\nid: %d\n\n", data(f, n), n) }, "3", 4, 0},
		{"no spaces", func(f *load.Feeder, n int64) string { return fmt.Sprintf("id:%d\ndata:%s\n\n", n, data(f, n)) }, "3", 4, 0},
		{"CR and LF", func(f *load.Feeder, n int64) string {
			return fmt.Sprintf("id: %d\r\ndata: %s\r\n\r\n", n, data(f, n))
		}, "3", 4, 0},
		{"comments between", func(f *load.Feeder, n int64) string {
			return fmt.Sprintf(":\nid: %d\ndata: %s\n\n:\n", n, data(f, n))
		}, "3", 4, 0},
		{"one skipped", func(f *load.Feeder, n int64) string {
			return fmt.Sprintf("id: %d\ndata: %s\n\n", n, data(f, n+n/2))
		}, "3", 4, 1},
		{"two repeated", func(f *load.Feeder, n int64) string {
			return fmt.Sprintf("id: %d\ndata: %s\n\n", n, data(f, n/2))
		}, "3", 2, 2},
		{"a digit that is none", func(f *load.Feeder, n int64) string {
			d := []byte(data(f, n))
			for _, at := range []int{12, 17, 19, 22, 24, 33, 35, 41, 42, 49} { // of all four numbers
				d[at] = map[bool]byte{true: ':', false: '/'}[n%2 == 0]
			}
			return "id: 7\ndata: " + string(d) + "\n\n"
		}, "7", 0, 4},
		{"another end", func(f *load.Feeder, n int64) string {
			return fmt.Sprintf("id: %d\ndata: %sy\n\n", n, data(f, n)[:127])
		}, "3", 0, 4},
		{"another run's", func(f *load.Feeder, n int64) string {
			return fmt.Sprintf("id: %d\ndata: %s\n\n", n, strings.Replace(data(f, n), run, "abcdefgi", 1))
		}, "3", 0, 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stream string
			for n := range int64(4) {
				stream += test.event(load.NewFeeder(run, 128), n)
			}
			everyCut([]byte(stream), func(pieces ...[]byte) {
				f := load.NewFeeder(run, 128)
				for _, p := range pieces {
					if _, err := f.Feed(p, time.Second); err != nil {
						t.Fatal(err)
					}
				}
				if n, _ := f.Feed(nil, 0); n != test.n || f.ID() != test.id || f.Wrong() != test.wrong {
					t.Fatalf("in %d pieces: got %d events, the id %q and %d wrong, want %d, %q and %d", len(pieces), n, f.ID(), f.Wrong(), test.n, test.id, test.wrong)
				}
			})
		})
	}
}

func TestFeed_DoesNotAllocate(t *testing.T) {
	f := load.NewFeeder("abcdefgh", 128)
	var next int64
	var piece []byte
	half := 0
	feed := func() {
		piece = piece[:0]
		for range 3 {
			piece = fmt.Appendf(piece, "id: 3f-%d\ndata: %s\n\n", next, f.Message(next))
			next++
		}
		// Not at the end of an event, so that there is something to carry.
		for _, p := range [][]byte{piece[:half], piece[half:]} {
			if _, err := f.Feed(p, time.Second); err != nil {
				t.Fatal(err)
			}
		}
		half = len(piece) / 2
	}
	for range 100 {
		feed()
	}
	own := testing.AllocsPerRun(100, func() { // Message and Appendf
		for range 3 {
			piece = fmt.Appendf(piece[:0], "id: 3f-%d\ndata: %s\n\n", next, f.Message(next))
		}
	})
	if got := testing.AllocsPerRun(1000, feed); got > own+1 { // a bound, as the latest latencies grow
		t.Errorf("got %v allocations for three events, want %v", got, own)
	}
	if got, _ := f.Feed(nil, 0); got != next {
		t.Errorf("got %d deliveries, want %d", got, next)
	}
}

func TestFeed_EventThatIsTooLarge(t *testing.T) {
	f := load.NewFeeder("abcdefgh", 128)
	var err error
	for range 100 {
		if _, err = f.Feed(bytes.Repeat([]byte{'x'}, 10_000), 0); err != nil {
			return
		}
	}
	t.Error("got no error for a line of a megabyte")
}

func BenchmarkFeed(b *testing.B) {
	f := load.NewFeeder("abcdefgh", 128)
	b.ReportAllocs()
	const events = 100
	var next int64
	var piece []byte
	for i := 0; i < b.N; i += events {
		b.StopTimer()
		piece = piece[:0]
		for range events {
			piece = fmt.Appendf(piece, "id: 3f-%d\ndata: %s\n\n", next, f.Message(next))
			next++
		}
		b.StartTimer()
		if _, err := f.Feed(piece, time.Second); err != nil {
			b.Fatal(err)
		}
	}
}
