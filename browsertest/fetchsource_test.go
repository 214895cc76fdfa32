package browsertest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestChromium_FetchEventSource has the npm package that many pages use where they need
// headers. Its parser takes each blank line for an event.
func TestChromium_FetchEventSource(t *testing.T) {
	t.Parallel()
	node, chromium := needNode(t), needChromium(t)
	const modules = "node_modules/@microsoft/fetch-event-source/lib/esm"
	dir := t.TempDir()
	for _, name := range []string{"fetch.js", "parse.js"} {
		module, err := os.ReadFile(filepath.Join(modules, name))
		if err != nil {
			t.Fatal(err)
		}
		// As a bundler would: without one they do not find one another.
		module = bytes.ReplaceAll(module, []byte("'./parse'"), []byte("'./parse.js'"))
		if err := os.WriteFile(filepath.Join(dir, name), module, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	runChecks(t, nil, node, "fetchsource.mjs", newClientWorld(t, dir), chromium)
}
