package sse_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"github.com/tidewire/tidewire/internal/vectors"
	"github.com/tidewire/tidewire/sse"
)

// FuzzDecoder checks that no input makes the decoder panic, that how the input is
// cut never changes the result, that the limit is kept to, and that what comes out
// is what the standard's algorithm, written down naively, gives.
func FuzzDecoder(f *testing.F) {
	for _, v := range vectors.All(f) {
		if len(v.Stream) < 10_000 {
			f.Add(v.Stream, uint16(7), uint16(0))
			f.Add(v.Stream, uint16(1), uint16(3))
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, cut, limit uint16) {
		whole := transcript(bytes.NewReader(stream), int(limit))
		for how, r := range map[string]io.Reader{
			"in pieces": &chunks{b: stream, sizes: sizes(len(stream), int(cut))},
			"by byte":   iotest.OneByteReader(bytes.NewReader(stream)),
			"halved":    iotest.HalfReader(bytes.NewReader(stream)),
			"with EOF":  iotest.DataErrReader(bytes.NewReader(stream)),
		} {
			if got := transcript(r, int(limit)); got != whole {
				t.Fatalf("%s: got\n%s\nwhole it was\n%s", how, got, whole)
			}
		}
		if limit == 0 {
			if want := reference(stream); !strings.HasPrefix(whole, want) {
				t.Fatalf("got\n%s\nthe standard gives\n%s", whole, want)
			}
		}
	})
}

// sizes cuts n bytes into pieces of about the given size.
func sizes(n, size int) []int {
	size = 1 + size%64
	var all []int
	for i := 0; n > 0; i++ {
		c := 1 + (size+i)%size
		all = append(all, c)
		n -= c
	}
	return all
}

// transcript returns all that a decoder makes of a stream as text.
func transcript(r io.Reader, limit int) string {
	var b strings.Builder
	d := sse.NewDecoder(r, &sse.DecoderOptions{
		MaxEventSize: limit,
		OnRetry:      func(t time.Duration) { fmt.Fprintf(&b, "retry %d\n", t.Milliseconds()) },
	})
	for {
		ev, err := d.Next()
		if err != nil {
			fmt.Fprintf(&b, "end %q %v\n", d.LastEventID(), err)
			return b.String()
		}
		if limit > 0 && utf8.ValidString(ev.Data) && !strings.Contains(ev.Data+ev.Type, "\uFFFD") && len(ev.Data) > limit {
			fmt.Fprintf(&b, "BEYOND THE LIMIT ")
			panic(b.String())
		}
		fmt.Fprintf(&b, "event %q %q %q\n", ev.Type, ev.Data, ev.ID)
	}
}

// reference is the algorithm of the HTML standard, sections 9.2.5 and 9.2.6, over
// a stream that is there as a whole: slow and short.
func reference(stream []byte) string {
	text := strings.TrimPrefix(decodeUTF8(stream), "\uFEFF")
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	lines := strings.Split(text, "\n")
	var out strings.Builder
	var data, typ, idBuffer, id string
	for _, line := range lines[:len(lines)-1] { // the last one has no end
		if line == "" {
			id = idBuffer
			if data != "" {
				if typ == "" {
					typ = "message"
				}
				fmt.Fprintf(&out, "event %q %q %q\n", typ, strings.TrimSuffix(data, "\n"), id)
			}
			data, typ = "", ""
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			typ = value
		case "data":
			data += value + "\n"
		case "id":
			if !strings.Contains(value, "\x00") {
				idBuffer = value
			}
		case "retry":
			if ms, ok := digits(value); ok {
				fmt.Fprintf(&out, "retry %d\n", ms)
			}
		}
	}
	fmt.Fprintf(&out, "end %q ", id)
	return out.String()
}

// digits is the value of a retry field, with the caps that the decoder documents.
func digits(s string) (ms int64, ok bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	s = strings.TrimLeft(s, "0")
	const most, longest = "18446744073709551615", int64(9223372036854)
	if len(s) > len(most) || len(s) == len(most) && s > most {
		return 0, false
	}
	if len(s) > 13 {
		return longest, true
	}
	for _, c := range s {
		ms = ms*10 + int64(c-'0')
	}
	return min(ms, longest), true
}

// decodeUTF8 is the Encoding standard's UTF-8 decoder, one U+FFFD for each maximal
// subpart, by trying every prefix.
func decodeUTF8(b []byte) string {
	var out strings.Builder
	for len(b) > 0 {
		if r, n := utf8.DecodeRune(b); r != utf8.RuneError || n == 3 {
			out.WriteRune(r)
			b = b[n:]
			continue
		}
		n := 1
		for n < len(b) && n < 4 && beginsRune(b[:n+1]) {
			n++
		}
		out.WriteRune(utf8.RuneError)
		b = b[n:]
	}
	return out.String()
}

// beginsRune tells whether some bytes can follow that make b a whole character.
func beginsRune(b []byte) bool {
	for _, tail := range []string{"\x80", "\xBF", "\x80\x80", "\xBF\xBF", "\x80\x80\x80", "\xBF\xBF\xBF"} {
		if r, n := utf8.DecodeRune(append(bytes.Clone(b), tail...)); r != utf8.RuneError && n > len(b) {
			return true
		}
	}
	return false
}

// FuzzRoundTrip checks that what is encoded is what is decoded, for every event
// that can be encoded, and that all three encoders agree on which those are.
func FuzzRoundTrip(f *testing.F) {
	f.Add("1", "add", "a\r\nb\rc\n", uint32(1500), "comment\nof lines")
	f.Add("", "", "", uint32(0), "")
	f.Add("a\x00", "b\n", "\xE2\x82", uint32(1), "\r\n")
	f.Add("id: x", "message", " data\n\n", uint32(0), ":")
	f.Fuzz(func(t *testing.T, id, typ, data string, retry uint32, comment string) {
		ev := sse.Event{ID: id, Type: typ, Data: data, Retry: time.Duration(retry) * time.Millisecond}
		b, err := sse.AppendEvent(nil, ev)
		frame, err2 := sse.Encode(ev)
		bad := strings.ContainsAny(id, "\r\n\x00") || strings.ContainsAny(typ, "\r\n")
		var fe *sse.FieldError
		if bad != (err != nil) || bad != (err2 != nil) || bad != errors.As(err, &fe) {
			t.Fatalf("got errors %v and %v for %+v", err, err2, ev)
		}
		if bad {
			value := map[string]string{"id": id, "event": typ}[fe.Field]
			if len(b) != 0 || !strings.ContainsRune("\r\n\x00", rune(value[fe.Offset])) {
				t.Fatalf("got %q, %+v", b, fe)
			}
			return
		}
		if !bytes.Equal(frame.Bytes(), b) {
			t.Fatalf("got frame %q, AppendEvent %q", frame.Bytes(), b)
		}
		stream := sse.AppendComment(nil, comment)
		stream = append(stream, b...)
		stream = frame.AppendTo(stream)
		want := sse.Event{
			ID:    decodeUTF8([]byte(id)),
			Type:  decodeUTF8([]byte(typ)),
			Data:  decodeUTF8([]byte(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(data))),
			Retry: ev.Retry,
		}
		if typ == "" {
			want.Type = "message"
		}
		n := 0
		for got, err := range sse.Events(bytes.NewReader(stream), &sse.DecoderOptions{MaxEventSize: -1}) {
			n++
			if err != nil || got != want {
				t.Fatalf("got %+v, %v, want %+v from %q", got, err, want, stream)
			}
		}
		if n != 2 {
			t.Fatalf("got %d events, want 2", n)
		}
	})
}
