package browsertest

import (
	"bytes"
	"image"
	"image/draw"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestChromium(t *testing.T) {
	t.Parallel()
	node, chromium := needNode(t), needChromium(t)
	server := startServer(t)
	runChecks(t, nil, node, "page.mjs", server, chromium)
	if os.Getenv("UPDATE_PICTURES") == "1" {
		t.Run("picture", func(t *testing.T) { paint(t, node, server, chromium) })
	}
}

// paint makes the README's picture: by day the top of the page, below it by night a
// connection that was cut.
func paint(t *testing.T, node, server, chromium string) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), node, "page.mjs", server, chromium, dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("page.mjs: %v\n%s", err, out)
	}

	day, night := decode(t, filepath.Join(dir, "day.png")), decode(t, filepath.Join(dir, "night.png"))
	height := day.Bounds().Dy() + night.Bounds().Dy()
	both := image.NewNRGBA(image.Rect(0, 0, day.Bounds().Dx(), height))
	draw.Draw(both, both.Bounds(), day, image.Point{}, draw.Src)
	draw.Draw(both, both.Bounds().Add(image.Pt(0, day.Bounds().Dy())), night, image.Point{}, draw.Src)
	writePicture(t, "../docs/demo.png", both)
}

// writePicture writes a picture of the README, of 300 KB at most.
func writePicture(t *testing.T, path string, img image.Image) {
	t.Helper()
	paper := image.NewNRGBA(img.Bounds())
	draw.Draw(paper, paper.Bounds(), img, image.Point{}, draw.Src)
	for i := range paper.Pix {
		paper.Pix[i] |= 3 // fewer shades, which nobody sees: a fifth smaller
	}
	const limit = 300_000
	var file bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&file, paper); err != nil {
		t.Fatal(err)
	}
	if file.Len() > limit {
		t.Errorf("%s has %d bytes, want %d at most", path, file.Len(), limit)
	}
	if err := os.WriteFile(path, file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %v, %d bytes", path, paper.Bounds().Size(), file.Len())
}

func decode(t *testing.T, path string) image.Image {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return img
}
