package cli_test

import (
	"bytes"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"github.com/tidewire/tidewire/internal/cli"
)

// Whatever is in a file, each value and each mistake has a line of it, and a file without
// mistakes is one to the decoder of TOML too, with the same keys.
func FuzzConfigFile(f *testing.F) {
	for _, text := range []string{
		"listen = \"127.0.0.1:0\"\nretain = [\n  \"a=all\", # first\n  'b=latest',\n]\n",
		"retry = '3s'\nretry = \"4s\"\n[limits]\na.b = {c = 1}\n",
		"max-topics = 0x1_0\nconnect-rate = 1e3\nmemory = true\r\nslow = []",
		"retain = [[\"a\"], 2026-01-01]\nlisten = \"\"\"\nx\ny\"\"\"\nmax-id = 99999999999999999999",
		"\"listen\" = \"\\u0000\"\n'retry' = 1979-05-27T07:32:00Z\nlisten = ", "[[a]]", "=", "\xef\xbb\xbfretry = 1", "a = \"\xff\"",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		values, lines, wrong := cli.ParseConfigFile(text)
		last := 1 + bytes.Count(text, []byte("\n"))
		for _, line := range append(lines, wrong...) {
			if line < 1 || line > last {
				t.Errorf("got line %d of %d", line, last)
			}
		}
		if len(wrong) > 0 {
			return
		}
		var twin map[string]any
		if err := toml.Unmarshal(text, &twin); err != nil {
			t.Fatalf("got no mistake, want one as the decoder has: %v", err)
		}
		if len(twin) != len(values) {
			t.Errorf("got %q, want the keys of %v", values, twin)
		}
		for key, v := range twin {
			if text, ok := v.(string); ok && (len(values[key]) != 1 || values[key][0] != text) {
				t.Errorf("%s: got %q, want %q", key, values[key], text)
			}
		}
	})
}
