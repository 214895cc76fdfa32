package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestEntries_DoTheirTaskRight(t *testing.T) {
	for _, e := range enter(newStreams(1)) {
		t.Run(e.task+"/"+e.stream.name+"/"+e.library, func(t *testing.T) {
			if e.wrong != nil {
				t.Fatalf("not measured: %v", e.wrong)
			}
			if !e.runs() {
				t.Skip("the library has nothing to call")
			}
			if err := e.measure(1); err != nil {
				t.Fatal(err)
			}
			if len(e.ns) != 1 || e.ns[0] <= 0 {
				t.Errorf("got %v ns/event, want one figure above 0", e.ns)
			}
		})
	}
}

func TestStreams_HoldSingleLineJSONOfTheirSize(t *testing.T) {
	sizes := []int{20, 100, 1 << 10, 1 << 20}
	for i, s := range newStreams(1) {
		if s.count() < 16 {
			t.Errorf("%s: got %d events, want at least 16", s.name, s.count())
		}
		for n, ev := range s.events {
			if len(ev.data) != sizes[i] || !json.Valid([]byte(ev.data)) || strings.ContainsAny(ev.data, "\r\n") {
				t.Fatalf("%s: event %d is not %d bytes of JSON on one line: %.80q", s.name, n, sizes[i], ev.data)
			}
		}
	}
}

// small is a stream whose events have all fields.
func small() *stream {
	return newStream("small", 1, 16, func(i int) event { return event{id(i), "update", note(i, 100)} })
}

func TestDecoder_WrongEventsAreFound(t *testing.T) {
	changed := func(change func(n int, ev *event)) func(io.Reader, func(event)) error {
		return func(r io.Reader, got func(event)) error {
			n := 0
			return decodeOurs(r, func(ev event) {
				change(n, &ev)
				n++
				got(ev)
			})
		}
	}
	tests := map[string]func(io.Reader, func(event)) error{
		"other id":      changed(func(n int, ev *event) { ev.id += "x" }),
		"no type":       changed(func(n int, ev *event) { ev.typ = "" }),
		"data cut":      changed(func(n int, ev *event) { ev.data = ev.data[:n] }),
		"data replaced": changed(func(n int, ev *event) { ev.data = strings.ToUpper(ev.data) }),
		"one too many": func(r io.Reader, got func(event)) error {
			defer got(event{})
			return decodeOurs(r, got)
		},
		"last one lost": func(r io.Reader, got func(event)) error {
			b, _ := io.ReadAll(r)
			end := bytes.LastIndex(bytes.TrimSpace(b), []byte("\n\n"))
			return decodeOurs(bytes.NewReader(b[:end+2]), got)
		},
		"error": func(r io.Reader, got func(event)) error {
			decodeOurs(r, got)
			return errors.New("fails")
		},
	}
	for name, decode := range tests {
		t.Run(name, func(t *testing.T) {
			d := decoder{library: "broken", decode: decode}
			if err := d.check(small()); err == nil {
				t.Error("got no error")
			}
		})
	}
}

func TestEncoder_WrongBytesAreFound(t *testing.T) {
	changed := func(change func(string) string) encodeFunc {
		encode := openOurs()
		return func(ev event) ([]byte, error) {
			b, err := encode(ev)
			return []byte(change(string(b))), err
		}
	}
	tests := map[string]encodeFunc{
		"nothing":       changed(func(string) string { return "" }),
		"no blank line": changed(func(s string) string { return strings.TrimSuffix(s, "\n") }),
		"one too many":  changed(func(s string) string { return s + "\n" }),
		"early end":     changed(func(s string) string { return strings.Replace(s, "\n", "\n\n", 1) }),
		"field lost":    changed(func(s string) string { return s[strings.Index(s, "\n")+1:] }),
		"error":         func(event) ([]byte, error) { return nil, errors.New("fails") },
	}
	for name, encode := range tests {
		t.Run(name, func(t *testing.T) {
			if err := encode.check(small()); err == nil {
				t.Error("got no error")
			}
		})
	}
}

func TestTable_ShowsWhoWasNotMeasured(t *testing.T) {
	s := small()
	got := table([]*entry{
		{task: "decode", library: ours, stream: s, ns: []float64{9, 10, 500}, allocs: []float64{1, 1, 1}},
		{task: "decode", library: tmaxmaxName, stream: s, ns: []float64{25}, allocs: []float64{2}},
		{task: "decode", library: launchdarklyName, stream: s, wrong: errors.New("delivered 15 events, want 16")},
		{task: "encode", library: r3labsName, stream: s},
	})
	got = strings.Join(strings.Fields(got), " ")
	for _, want := range []string{
		"| decode | small | tidewire | 10.0 |",
		"| 1.00 | 2.50 |",
		"| launchdarkly/eventsource | wrong: delivered 15 events, want 16 |",
		"| encode | small | r3labs/sse | – | – | – | – |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}
