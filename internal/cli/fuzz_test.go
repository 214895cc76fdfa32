package cli_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/tidewire/tidewire/internal/cli"
	"github.com/tidewire/tidewire/sse"
)

// Whatever is in an event, no form of it for a terminal has a control character but
// the line breaks and tabs of the data, and as JSON it is still the same.
func FuzzForms(f *testing.F) {
	for _, ev := range nasty {
		f.Add(ev.Type, ev.Data, ev.ID)
	}
	f.Fuzz(func(t *testing.T, typ, data, id string) {
		forms := cli.VisibleForms(sse.Event{Type: typ, Data: data, ID: id})
		for name, text := range forms {
			allowed := map[string]string{"human": "\n\t", "data": "\n\t", "JSON": "\n"}[name]
			for _, r := range text {
				if (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) && !strings.ContainsRune(allowed, r) {
					t.Errorf("%s: got %U in %q", name, r, text)
				}
			}
		}
		if got := strings.Count(forms["JSON"], "\n"); got != 1 {
			t.Errorf("got %d lines of JSON, want one: %q", got, forms["JSON"])
		}
		var got struct{ Type, Data, ID string }
		if err := json.Unmarshal([]byte(forms["JSON"]), &got); err != nil {
			t.Fatal(err)
		}
		for _, s := range []struct{ name, got, want string }{{"type", got.Type, typ}, {"data", got.Data, data}, {"id", got.ID, id}} {
			if want := string([]rune(s.want)); s.got != want { // what is not UTF-8 is U+FFFD
				t.Errorf("%s: got %q, want %q", s.name, s.got, want)
			}
		}
	})
}

// However an input is cut, its lines make the same events, one each.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\r\n\nb\rc\nd"), 3)
	f.Add([]byte("\n"), 0)
	f.Add([]byte("\xff\x00data: x\n\n"), 1)
	f.Fuzz(func(t *testing.T, in []byte, at int) {
		at = min(max(at, 0), len(in))
		whole, err := cli.EncodeLines(in)
		if err != nil {
			t.Fatal(err)
		}
		cut, err := cli.EncodeLines(slices.Clone(in[:at]), slices.Clone(in[at:]))
		if err != nil || !bytes.Equal(cut, whole) {
			t.Errorf("got %q, %v when cut at %d, want %q", cut, err, at, whole)
		}
		lines := bytes.Count(in, []byte("\n"))
		if len(in) > 0 && in[len(in)-1] != '\n' {
			lines++
		}
		events := 0
		for _, err := range sse.Events(bytes.NewReader(whole), nil) {
			if err != nil {
				t.Error(err)
			}
			events++
		}
		if events != lines {
			t.Errorf("got %d events, want one for each of %d lines", events, lines)
		}
	})
}
