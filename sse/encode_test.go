package sse_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/sse"
)

func TestAppendEvent(t *testing.T) {
	tests := []struct {
		name string
		ev   sse.Event
		want string
	}{
		{"data only", sse.Event{Data: "x"}, "data: x\n\n"},
		{"every field", sse.Event{ID: "1", Type: "add", Data: "x", Retry: 1500 * time.Millisecond}, "event: add\nid: 1\nretry: 1500\ndata: x\n\n"},
		{"type message is the default", sse.Event{Type: "message", Data: "x"}, "data: x\n\n"},
		{"empty data", sse.Event{}, "data:\n\n"},
		{"lines", sse.Event{Data: "a\nb"}, "data: a\ndata: b\n\n"},
		{"trailing LF", sse.Event{Data: "a\n"}, "data: a\ndata:\n\n"},
		{"trailing CRLF", sse.Event{Data: "a\r\n"}, "data: a\ndata:\n\n"},
		{"trailing CR", sse.Event{Data: "a\r"}, "data: a\ndata:\n\n"},
		{"only LF", sse.Event{Data: "\n"}, "data:\ndata:\n\n"},
		{"mixed line breaks", sse.Event{Data: "a\r\nb\rc\nd\n\re"}, "data: a\ndata: b\ndata: c\ndata: d\ndata:\ndata: e\n\n"},
		{"CR then LF far behind", sse.Event{Data: "a\rb\nc\nd\r\ne"}, "data: a\ndata: b\ndata: c\ndata: d\ndata: e\n\n"},
		{"leading space stays", sse.Event{Data: " x"}, "data:  x\n\n"},
		{"a line that looks like a field", sse.Event{Data: "id: 9\n:x"}, "data: id: 9\ndata: :x\n\n"},
		{"colon and spaces in id and type", sse.Event{ID: "a: b", Type: " c ", Data: "x"}, "event:  c \nid: a: b\ndata: x\n\n"},
		{"retry is rounded up", sse.Event{Data: "x", Retry: 1}, "retry: 1\ndata: x\n\n"},
		{"longest retry", sse.Event{Data: "x", Retry: math.MaxInt64}, "retry: 9223372036855\ndata: x\n\n"},
		{"NUL in data and type", sse.Event{Type: "a\x00", Data: "b\x00"}, "event: a\x00\ndata: b\x00\n\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := sse.AppendEvent([]byte("before"), tt.ev)
			if err != nil {
				t.Fatal(err)
			}
			if want := "before" + tt.want; string(got) != want {
				t.Errorf("AppendEvent: got %q, want %q", got, want)
			}
			var b bytes.Buffer
			if err := sse.NewEncoder(&b).Encode(tt.ev); err != nil || b.String() != tt.want {
				t.Errorf("Encoder: got %q, %v, want %q", b.String(), err, tt.want)
			}
			f, err := sse.Encode(tt.ev)
			if err != nil || string(f.Bytes()) != tt.want {
				t.Errorf("Encode: got %q, %v, want %q", f.Bytes(), err, tt.want)
			}
		})
	}
}

func TestAppendEvent_RefusesWhatTheFormatCannotCarry(t *testing.T) {
	tests := []struct {
		name   string
		ev     sse.Event
		field  string
		offset int
		says   string
	}{
		{"LF in id", sse.Event{ID: "a\nb"}, "id", 1, "sse: encode event: id has a line break at byte 1"},
		{"CR in id", sse.Event{ID: "ab\r"}, "id", 2, "sse: encode event: id has a line break at byte 2"},
		{"NUL in id", sse.Event{ID: "é\x00"}, "id", 2, "sse: encode event: id has a NUL at byte 2"},
		{"LF in type", sse.Event{Type: "\ndata: injected"}, "event", 0, "sse: encode event: event has a line break at byte 0"},
		{"CR in type", sse.Event{Type: "a\rb\n"}, "event", 1, "sse: encode event: event has a line break at byte 1"},
		{"LF before CR in type", sse.Event{Type: "a\nb\r"}, "event", 1, "sse: encode event: event has a line break at byte 1"},
		{"negative retry", sse.Event{Retry: -1}, "retry", 0, "sse: encode event: retry is negative"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := sse.AppendEvent([]byte("before"), tt.ev)
			if string(got) != "before" {
				t.Errorf("got %q, want nothing written", got)
			}
			var fe *sse.FieldError
			if !errors.As(err, &fe) || fe.Field != tt.field || fe.Offset != tt.offset || err.Error() != tt.says {
				t.Errorf("got error %#v, %v, want %q", err, err, tt.says)
			}
			var b bytes.Buffer
			if err := sse.NewEncoder(&b).Encode(tt.ev); err == nil || b.Len() != 0 {
				t.Errorf("Encoder: got %q, %v, want nothing and an error", b.String(), err)
			}
			if f, err := sse.Encode(tt.ev); err == nil || f.Len() != 0 {
				t.Errorf("Encode: got %q, %v, want nothing and an error", f.Bytes(), err)
			}
		})
	}
}

// TestAppendEvent_LongText puts line breaks at, before and after the places where
// the encoder cuts a long text for its own purposes.
func TestAppendEvent_LongText(t *testing.T) {
	const window = 8 << 10
	for _, nl := range []string{"\n", "\r", "\r\n", "\n\r", "\r\r", "\r\n\r\n", "\n\n"} {
		for at := window - 3; at <= window+2; at++ {
			for _, after := range []string{"", "y", nl, strings.Repeat("y", window)} {
				data := strings.Repeat("x", at) + nl + after
				want := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(data)
				for ev, err := range sse.Events(bytes.NewReader(encode(t, sse.Event{Data: data})), nil) {
					if err != nil || ev.Data != want {
						t.Fatalf("%q at %d before %.3q: got %d bytes, %v, want %d", nl, at, after, len(ev.Data), err, len(want))
					}
				}
				got := encode(t, sse.Event{Data: data})
				if want := "data: " + strings.NewReplacer("\n", "\ndata: ").Replace(want) + "\n\n"; string(got) != strings.ReplaceAll(want, "data: \n", "data:\n") {
					t.Fatalf("%q at %d before %.3q: got other bytes", nl, at, after)
				}
			}
		}
	}
}

func TestAppendID(t *testing.T) {
	for id, want := range map[string]string{"9": "id: 9\n\n", "": "id: \n\n"} {
		if got, err := sse.AppendID(nil, id); err != nil || string(got) != want {
			t.Errorf("AppendID(%q): got %q, %v, want %q", id, got, err, want)
		}
	}
	if got, err := sse.AppendID([]byte("x"), "a\n"); err == nil || string(got) != "x" {
		t.Errorf("AppendID with LF: got %q, %v, want an error", got, err)
	}
}

func TestAppendComment(t *testing.T) {
	for text, want := range map[string]string{
		"":          ":\n",
		"hi":        ": hi\n",
		"a\nb\r\nc": ": a\n: b\n: c\n",
	} {
		if got := sse.AppendComment(nil, text); string(got) != want {
			t.Errorf("AppendComment(%q): got %q, want %q", text, got, want)
		}
	}
}

// TestEncoder_OneWriteACall guards what a flush after each write relies on.
func TestEncoder_OneWriteACall(t *testing.T) {
	w := &countingWriter{}
	e := sse.NewEncoder(w)
	big := strings.Repeat("line\n", 100_000)
	for _, data := range []string{"x", big, "y"} {
		if err := e.Encode(sse.Event{ID: "1", Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Comment("a\nb"); err != nil {
		t.Fatal(err)
	}
	if w.calls != 4 {
		t.Errorf("got %d writes, want 4", w.calls)
	}
	w.err = io.ErrClosedPipe
	if err := e.Encode(sse.Event{}); err != io.ErrClosedPipe {
		t.Errorf("got %v, want the writer's error", err)
	}
}

type countingWriter struct {
	calls int
	err   error
}

func (w *countingWriter) Write(p []byte) (int, error) {
	w.calls++
	return len(p), w.err
}

func TestFrame(t *testing.T) {
	f, err := sse.Encode(sse.Event{ID: "1", Data: "a\nb"})
	if err != nil {
		t.Fatal(err)
	}
	const want = "id: 1\ndata: a\ndata: b\n\n"
	var b bytes.Buffer
	if n, err := f.WriteTo(&b); n != int64(len(want)) || err != nil || b.String() != want {
		t.Errorf("WriteTo: got %d, %v, %q, want %q", n, err, b.String(), want)
	}
	if got := f.AppendTo([]byte("-")); string(got) != "-"+want || f.Len() != len(want) {
		t.Errorf("AppendTo: got %q, Len %d", got, f.Len())
	}
	// An append by one owner of the bytes must not show up with another.
	_ = append(f.Bytes(), "overwritten"...)
	if got := string(append(f.Bytes(), "!"...)); got != want+"!" {
		t.Errorf("got %q after an append elsewhere", got)
	}
	if n, err := (sse.Frame{}).WriteTo(&b); n != 0 || err != nil {
		t.Errorf("zero Frame: got %d, %v", n, err)
	}
}

func TestAppendEvent_Allocations(t *testing.T) {
	for _, s := range samples {
		buf := encode(t, s.ev)
		if n := testing.AllocsPerRun(100, func() { buf, _ = sse.AppendEvent(buf[:0], s.ev) }); n != 0 {
			t.Errorf("%s: AppendEvent with room: got %v allocations, want 0", s.name, n)
		}
		e := sse.NewEncoder(io.Discard)
		if n := testing.AllocsPerRun(100, func() { _ = e.Encode(s.ev) }); n != 0 {
			t.Errorf("%s: Encoder: got %v allocations, want 0", s.name, n)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = sse.Encode(s.ev) }); n != 1 {
			t.Errorf("%s: Encode: got %v allocations, want 1", s.name, n)
		}
	}
}

func TestRawFrame_IsWhatItWasMadeOf(t *testing.T) {
	one, err := sse.Encode(sse.Event{ID: "1", Data: "a"})
	if err != nil {
		t.Fatal(err)
	}
	two := one.AppendTo(one.AppendTo(nil))
	if got := string(sse.RawFrame(two).Bytes()); got != "id: 1\ndata: a\n\nid: 1\ndata: a\n\n" {
		t.Errorf("got %q, want both events", got)
	}
}
