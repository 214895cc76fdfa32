package sse_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/tidewire/tidewire/sse"
)

func TestDecoder_TellsHowTheStreamEnded(t *testing.T) {
	tests := []struct {
		name, stream string
		want         error
	}{
		{"empty", "", io.EOF},
		{"after an event", "data: x\n\n", io.EOF},
		{"after CR CR", "data: x\r\r", io.EOF},
		{"after a comment", "data: x\n\n: hi\n", io.EOF},
		{"inside a comment", "data: x\n\n: hi", io.EOF},
		{"after retry", "data: x\n\nretry: 5\n", io.EOF},
		{"after an unknown field", "data: x\n\nfoo: x\n", io.EOF},
		{"inside an unknown field", "data: x\n\nfoo: x", io.EOF},
		{"inside a long unknown name", "data: x\n\ndatabase", io.EOF},
		{"inside a name that is none", "data: x\n\ndax", io.EOF},
		{"half a byte order mark", "\xEF\xBB", io.EOF},
		{"before the blank line", "data: x\n", io.ErrUnexpectedEOF},
		{"inside a value", "data: x", io.ErrUnexpectedEOF},
		{"inside a name", "da", io.ErrUnexpectedEOF},
		{"after a name", "retry", io.ErrUnexpectedEOF},
		{"after an id", "data: x\n\nid: 1\n", io.ErrUnexpectedEOF},
		{"after a type", "event: x\n", io.ErrUnexpectedEOF},
		{"inside retry", "retry: 5", io.ErrUnexpectedEOF},
		{"inside a comment in a block", "data: x\n: hi", io.ErrUnexpectedEOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for how, r := range map[string]io.Reader{
				"whole":   strings.NewReader(tt.stream),
				"by byte": iotest.OneByteReader(strings.NewReader(tt.stream)),
			} {
				d := sse.NewDecoder(r, nil)
				var err error
				for err == nil {
					_, err = d.Next()
				}
				if err != tt.want {
					t.Errorf("%s: got %v, want %v", how, err, tt.want)
				}
				if _, again := d.Next(); again != err {
					t.Errorf("%s: the next call: got %v, want %v again", how, again, err)
				}
			}
		})
	}
}

func TestDecoder_PassesTheReadersErrorOn(t *testing.T) {
	broken := errors.New("broken")
	r := io.MultiReader(strings.NewReader("id: 1\ndata: x\n\ndata: y\n"), iotest.ErrReader(broken))
	d := sse.NewDecoder(r, nil)
	if ev, err := d.Next(); err != nil || ev.Data != "x" {
		t.Fatalf("got %v, %v, want the event before the error", ev, err)
	}
	if _, err := d.Next(); err != broken {
		t.Errorf("got %v, want the reader's error", err)
	}
	if _, err := sse.NewDecoder(stuckReader{}, nil).Next(); err != io.ErrNoProgress {
		t.Errorf("reader that gives nothing: got %v, want %v", err, io.ErrNoProgress)
	}
}

type stuckReader struct{}

func (stuckReader) Read([]byte) (int, error) { return 0, nil }

// TestDecoder_DispatchesWithoutWaiting reads from a peer that sends nothing more:
// what has ended must come out, also where a lone CR may turn out to be a CRLF.
func TestDecoder_DispatchesWithoutWaiting(t *testing.T) {
	for _, stream := range []string{"data: x\n\n", "data: x\r\r", "data: x\r\n\r\n", "data: x\r\n\r", "\uFEFFdata: x\n\n"} {
		r, w := io.Pipe()
		go func() { _, _ = io.WriteString(w, stream) }()
		ev, err := sse.NewDecoder(r, nil).Next() // blocks for good if it fails
		if err != nil || ev.Data != "x" {
			t.Errorf("%q: got %v, %v", stream, ev, err)
		}
		_ = r.Close()
	}
}

func TestDecoder_LastEventID(t *testing.T) {
	d := sse.NewDecoder(strings.NewReader("data: a\n\nid: 1\n\ndata: b\n\nid\ndata: c\n\nid: 7\n"), &sse.DecoderOptions{LastEventID: "0"})
	for _, want := range []string{"0", "1", ""} {
		ev, err := d.Next()
		if err != nil || ev.ID != want || d.LastEventID() != want {
			t.Errorf("got event %+v, %v, LastEventID %q, want id %q", ev, err, d.LastEventID(), want)
		}
	}
	if _, err := d.Next(); err != io.ErrUnexpectedEOF || d.LastEventID() != "" {
		t.Errorf("got %v, LastEventID %q, want the unfinished id forgotten", err, d.LastEventID())
	}

	// A block with an id alone counts before the next event has come.
	r, w := io.Pipe()
	d = sse.NewDecoder(r, nil)
	go func() { _, _ = io.WriteString(w, "id: 9\n\n"); _ = w.Close() }()
	if _, err := d.Next(); err != io.EOF || d.LastEventID() != "9" {
		t.Errorf("got %v, LastEventID %q, want 9", err, d.LastEventID())
	}
}

func TestDecoder_Callbacks(t *testing.T) {
	var got []string
	opts := &sse.DecoderOptions{
		OnComment: func(s string) { got = append(got, "comment "+s) },
		OnRetry:   func(d time.Duration) { got = append(got, fmt.Sprint("retry ", d)) },
	}
	stream := ": one\n:\xFFtwo\r\nretry: 5\nretry: x\nretry\ndata: x\nretry: 0\n\n:three\n"
	for ev, err := range sse.Events(iotest.OneByteReader(strings.NewReader(stream)), opts) {
		got = append(got, fmt.Sprint("event ", ev.Data, " ", ev.Retry, " ", err))
	}
	want := []string{"comment  one", "comment \uFFFDtwo", "retry 5ms", "retry 0s", "event x 0s <nil>", "comment three"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDecoder_Retry(t *testing.T) {
	stream := "retry: 1\ndata: a\nretry: 20\n\ndata: b\n\nretry: 30\n\ndata: c\n\n"
	var got []time.Duration
	for ev, err := range sse.Events(strings.NewReader(stream), nil) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ev.Retry)
	}
	if want := []time.Duration{20 * time.Millisecond, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestEvents_YieldsTheErrorLast(t *testing.T) {
	for stream, want := range map[string]string{
		"data: a\n\n":            "[a <nil>]",
		"data: a\n\ndata: b\n":   "[a <nil>  unexpected EOF]",
		"data: a\n\ndata: b\n\n": "[a <nil> b <nil>]",
	} {
		var got []string
		for ev, err := range sse.Events(strings.NewReader(stream), nil) {
			got = append(got, ev.Data, fmt.Sprint(err))
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%q: got %v, want %v", stream, got, want)
		}
	}
	for ev, err := range sse.Events(strings.NewReader("data: a\n\ndata: b\n\n"), nil) {
		if err != nil || ev.Data != "a" {
			t.Errorf("got %v, %v, want a", ev, err)
		}
		break // must not yield again
	}
}

// TestDecoder_MaxEventSize has each stream end exactly at the limit, and one byte
// beyond it, whole and byte by byte.
func TestDecoder_MaxEventSize(t *testing.T) {
	const limit = 100
	fill := func(n int) string { return strings.Repeat("x", n) }
	tests := []struct {
		name   string
		stream func(n int) string // with an event of n bytes
	}{
		{"one line", func(n int) string { return "data: " + fill(n) + "\n\n" }},
		{"one line without a space", func(n int) string { return "data:" + fill(n) + "\n\n" }},
		{"unfinished line", func(n int) string { return "data: a\n\ndata: " + fill(n) }},
		{"lines", func(n int) string { return "data: " + fill(40) + "\ndata: " + fill(n-41) + "\n\n" }},
		{"empty lines", func(n int) string { return strings.Repeat("data\n", n+1) + "\n" }},
		{"id", func(n int) string { return "id: " + fill(n) + "\ndata\n\n" }},
		{"type", func(n int) string { return "event: " + fill(n) + "\ndata\n\n" }},
		{"all three", func(n int) string {
			return "id: " + fill(30) + "\nevent: " + fill(30) + "\ndata: " + fill(n-60) + "\n\n"
		}},
		{"all three, type last", func(n int) string {
			return "id: " + fill(30) + "\ndata: " + fill(30) + "\nevent: " + fill(n-60) + "\n\n"
		}},
		{"a replaced id counts once", func(n int) string {
			return "id: " + fill(60) + "\nid: " + fill(50) + "\ndata: " + fill(n-50) + "\n\n"
		}},
		{"an ignored id counts while it is read", func(n int) string { return "id: \x00" + fill(n-1) + "\n\n" }},
		{"retry", func(n int) string { return "retry: " + strings.Repeat("1", n) + "\n\n" }},
		{"multi-byte characters count in bytes", func(n int) string { return "data: é" + fill(n-2) + "\n\n" }},
		{"after another event of that size", func(n int) string {
			return "data: " + fill(limit) + "\n\ndata: " + fill(n) + "\n\n"
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for n, wantErr := range map[int]bool{limit: false, limit + 1: true} {
				for how, r := range map[string]io.Reader{
					"whole":   strings.NewReader(tt.stream(n)),
					"by byte": iotest.OneByteReader(strings.NewReader(tt.stream(n))),
				} {
					d := sse.NewDecoder(r, &sse.DecoderOptions{MaxEventSize: limit})
					var err error
					for err == nil {
						_, err = d.Next()
					}
					var size *sse.SizeError
					if got := errors.As(err, &size); got != wantErr || got && size.Limit != limit {
						t.Errorf("%d bytes, %s: got %v, want a size error: %v", n, how, err, wantErr)
					}
				}
			}
		})
	}
}

func TestDecoder_CommentsCountOnlyWhenAskedFor(t *testing.T) {
	stream := ": " + strings.Repeat("x", 1000) + "\nfoo: " + strings.Repeat("x", 1000) + "\ndata: y\n\n"
	for ev, err := range sse.Events(strings.NewReader(stream), &sse.DecoderOptions{MaxEventSize: 10}) {
		if err != nil || ev.Data != "y" {
			t.Errorf("got %v, %v, want y", ev, err)
		}
	}
	for _, err := range sse.Events(strings.NewReader(stream), &sse.DecoderOptions{MaxEventSize: 10, OnComment: func(string) {}}) {
		if _, ok := err.(*sse.SizeError); !ok {
			t.Errorf("with OnComment: got %v, want a size error", err)
		}
	}
}

// TestDecoder_MemoryIsBounded feeds 200 MB each of what a hostile or broken peer
// may send, and looks at what the decoder has allocated in all.
func TestDecoder_MemoryIsBounded(t *testing.T) {
	total := int64(200 << 20)
	if raceEnabled {
		total = 40 << 20 // "make test" runs it without, too
	}
	kilo := strings.Repeat("x", 1<<10)
	tests := []struct {
		name         string
		head, repeat string
		limit        int
		want         error
		atMost       uint64 // bytes allocated
	}{
		{"one line", "data: ", kilo, 0, &sse.SizeError{Limit: sse.DefaultMaxEventSize}, 5 * sse.DefaultMaxEventSize},
		{"many data lines", "", "data: " + kilo + "\n", 0, &sse.SizeError{Limit: sse.DefaultMaxEventSize}, 8 * sse.DefaultMaxEventSize},
		{"one comment", ": ", kilo, 0, io.EOF, 1 << 20},
		{"comments", "", ": " + kilo + "\n", 0, io.EOF, 1 << 20},
		{"comments in a block", "data: x\n", ": " + kilo + "\n", 0, io.ErrUnexpectedEOF, 1 << 20},
		{"one unknown field", "foo: ", kilo, 0, io.EOF, 1 << 20},
		{"unknown fields", "", "foo: " + kilo + "\n", 0, io.EOF, 1 << 20},
		{"one field name", "", kilo, 0, io.EOF, 1 << 20},
		{"types", "", "event: " + kilo + "\n", 0, io.ErrUnexpectedEOF, 1 << 20},
		{"ids", "", "id: " + kilo + "\n", 0, io.ErrUnexpectedEOF, 1 << 20},
		{"blank lines", "", "\r\n\n\r" + strings.Repeat("\n", 100), 0, io.EOF, 1 << 20},
		{"a small limit", "data: ", kilo, 1 << 10, &sse.SizeError{Limit: 1 << 10}, 64 << 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := io.LimitReader(io.MultiReader(strings.NewReader(tt.head), &repeater{s: tt.repeat}), total)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := sse.NewDecoder(r, &sse.DecoderOptions{MaxEventSize: tt.limit}).Next()
			runtime.ReadMemStats(&after)
			if fmt.Sprint(err) != fmt.Sprint(tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > tt.atMost {
				t.Errorf("allocated %d bytes, want at most %d", got, tt.atMost)
			}
		})
	}
}

// repeater reads s over and over.
type repeater struct {
	s  string
	at int
}

func (r *repeater) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		m := copy(p[n:], r.s[r.at:])
		n += m
		r.at = (r.at + m) % len(r.s)
	}
	return n, nil
}

// TestDecoder_GivesMemoryBack reads large events of both kinds and then small ones.
func TestDecoder_GivesMemoryBack(t *testing.T) {
	d := sse.NewDecoder(&packets{io.MultiReader(
		io.LimitReader(io.MultiReader(strings.NewReader("data: "), &repeater{s: "x"}), 8<<20), strings.NewReader("\n\n"),
		io.LimitReader(&repeater{s: "data: x\n"}, 8<<20), strings.NewReader("\n"),
		&repeater{s: "data: small\n\n"},
	)}, nil)
	next := func() {
		if _, err := d.Next(); err != nil {
			t.Fatal(err)
		}
	}
	next()
	next()
	if large := heap(); large < 8<<20 {
		t.Fatalf("the heap is %d bytes after large events: this test looks at the wrong thing", large)
	}
	for range 100_000 {
		next()
	}
	with := heap()
	next() // the decoder is alive until here
	d = nil
	if without := heap(); with > without+(1<<20) {
		t.Errorf("the decoder holds %d bytes after small events, want under 1 MiB", with-without)
	}
}

// packets reads at most as much at once as a packet brings.
type packets struct{ r io.Reader }

func (p *packets) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), 1460)]) }

// heap returns the bytes that are in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestDecoder_Allocations(t *testing.T) {
	for _, s := range samples {
		const runs = 200
		stream := bytes.Repeat(encode(t, s.ev), runs+20)
		d := sse.NewDecoder(bytes.NewReader(stream), nil)
		for range 10 { // buffers grow to their size
			if _, err := d.Next(); err != nil {
				t.Fatal(err)
			}
		}
		n := testing.AllocsPerRun(runs, func() {
			if _, err := d.Next(); err != nil {
				t.Fatal(err)
			}
		})
		if n > 1 {
			t.Errorf("%s: got %v allocations an event, want at most 1", s.name, n)
		}
	}

	// A new id on each event, and types that alternate, share their memory.
	var stream []byte
	for i := range 300 {
		stream = append(stream, encode(t, sse.Event{ID: fmt.Sprint("k7m2qa-", 1000+i), Type: []string{"add", "remove"}[i%2], Data: "some data"})...)
	}
	d := sse.NewDecoder(bytes.NewReader(stream), nil)
	n := testing.AllocsPerRun(250, func() {
		if _, err := d.Next(); err != nil {
			t.Fatal(err)
		}
	})
	if n > 1.1 { // AllocsPerRun rounds down; this says what is meant
		t.Errorf("with ids: got %v allocations an event, want 1 and a few shared ones", n)
	}
}
