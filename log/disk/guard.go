package disk

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// guardFile has the name, length and checksum of the store's manifest, the list of its
// files. Pebble takes damage there for the end of the list, and deletes what is not in it:
// with it a directory is refused before that happens.
const guardFile = "GUARD"

// A guard keeps the file up to date while a store is open.
type guard struct {
	dir   string
	fs    vfs.FS
	dirty chan struct{} // of one element: the manifest has changed
	stop  chan struct{}
	runs  sync.WaitGroup
}

func newGuard(dir string, fs vfs.FS) *guard {
	return &guard{dir: dir, fs: fs, dirty: make(chan struct{}, 1), stop: make(chan struct{})}
}

// changed has the file be written soon. It is called with Pebble's locks held.
func (g *guard) changed() {
	select {
	case g.dirty <- struct{}{}:
	default:
	}
}

// start writes the file, and each time that the manifest has changed, until close.
func (g *guard) start(failed func(error)) error {
	select {
	case <-g.dirty: // by opening
	default:
	}
	if err := g.write(); err != nil {
		return err
	}
	g.runs.Go(func() { g.run(failed) })
	return nil
}

func (g *guard) run(failed func(error)) {
	for {
		select {
		case <-g.dirty:
			if err := g.write(); err != nil {
				failed(err)
			}
		case <-g.stop:
			return
		}
	}
}

func (g *guard) close() {
	close(g.stop)
	g.runs.Wait()
}

// write notes the manifest as it is, once that is on the disk.
func (g *guard) write() error {
	found, err := pebble.Peek(g.dir, g.fs)
	if err != nil || !found.Exists {
		return fmt.Errorf("guard: %w", err)
	}
	length, sum, err := g.read(found.ManifestFilename, -1)
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	text := fmt.Sprintf("%s %d %08x\n", g.fs.PathBase(found.ManifestFilename), length, sum)
	next := g.fs.PathJoin(g.dir, guardFile+".tmp")
	f, err := g.fs.Create(next, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	_, err = f.Write([]byte(text))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	if err := g.fs.Rename(next, g.fs.PathJoin(g.dir, guardFile)); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	return syncDir(g.dir, g.fs)
}

// read returns the length of a manifest and the checksum of so much of it, or of all if
// most is negative, which is then synced.
func (g *guard) read(name string, most int64) (length int64, sum uint32, err error) {
	f, err := g.fs.Open(name)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	if length = info.Size(); most >= 0 {
		length = min(length, most)
	} else if runtime.GOOS != "windows" { // where a file open for reading cannot be
		err = f.Sync()
	}
	if err != nil {
		return 0, 0, err
	}
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, length)); err != nil {
		return 0, 0, err
	}
	return length, h.Sum32(), nil
}

// check compares a directory with what the file says, if it is there.
func (g *guard) check() error {
	f, err := g.fs.Open(g.fs.PathJoin(g.dir, guardFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	text, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	var name string
	var length int64
	var sum uint32
	if _, err := fmt.Sscanf(string(text), "%s %d %x", &name, &length, &sum); err != nil || !strings.HasPrefix(name, "MANIFEST-") {
		return fmt.Errorf("%w: %s cannot be read", ErrDamaged, guardFile)
	}
	found, err := pebble.Peek(g.dir, g.fs)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case !found.Exists:
		return fmt.Errorf("%w: nothing says which file is the manifest", ErrDamaged)
	}
	gotLength, gotSum, err := g.read(g.fs.PathJoin(g.dir, name), length)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: %s is missing", ErrDamaged, name)
	case err != nil:
		return fmt.Errorf("guard: %w", err)
	case gotLength != length || gotSum != sum:
		return fmt.Errorf("%w: %s is not what was written", ErrDamaged, name)
	}
	return nil
}
