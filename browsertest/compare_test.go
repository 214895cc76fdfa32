package browsertest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	node, chromium := needNode(t), needChromium(t)
	server := startServer(t)
	runChecks(t, nil, node, "compare.mjs", server, chromium)
	if os.Getenv("UPDATE_PICTURES") != "1" {
		return
	}
	t.Run("picture", func(t *testing.T) {
		dir := t.TempDir()
		cmd := exec.CommandContext(t.Context(), node, "compare.mjs", server, chromium, dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("compare.mjs: %v\n%s", err, out)
		}
		writePicture(t, "../docs/compare.png", decode(t, filepath.Join(dir, "compare.png")))
	})
}
