package disk_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/hub/hubtest"
	"github.com/tidewire/tidewire/log/disk"
)

// TestBackup_WhilePublishersAppend takes backups under load. Each is whole, of another
// epoch, and has a prefix of the order, with all that was answered before.
func TestBackup_WhilePublishersAppend(t *testing.T) {
	const publishers, backups, between = 8, 5, 200
	// Some of it stands in tables already.
	dir := t.TempDir()
	l := open(t, dir, options(hubtest.Config{}), vfs.Default)
	answered := make(map[uint64]string) // the name of a group of two
	for range 20 {
		answered[appendData(t, l, "t0", "early", "early").Sequences[0]] = "early"
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, options(hubtest.Config{}), vfs.Default)
	var mu sync.Mutex
	var stop atomic.Bool
	var publishing sync.WaitGroup
	for p := range publishers {
		publishing.Go(func() {
			for n := 0; !stop.Load(); n++ {
				name := fmt.Sprintf("%d of %d", n, p)
				r, err := l.Append(t.Context(), groupOf(fmt.Sprint("t", n%3), name, name))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				answered[r.Sequences[0]] = name
				mu.Unlock()
			}
		})
	}
	type backup struct {
		dir      string
		answered map[uint64]string // before it was begun
		head     hub.Head          // after it
	}
	var all []backup
	parent := t.TempDir()
	for len(all) < backups && !t.Failed() {
		mu.Lock()
		before := maps.Clone(answered)
		mu.Unlock()
		if len(before) < len(all)*between {
			continue
		}
		b := backup{dir: filepath.Join(parent, fmt.Sprint(len(all))), answered: before}
		if err := l.Backup(b.dir); err != nil {
			t.Fatal(err)
		}
		b.head = l.Head()
		all = append(all, b)
	}
	stop.Store(true)
	publishing.Wait()
	order := readAll(t, l, everything)

	for i, b := range all {
		if r := whole(t, b.dir, vfs.Default); r == nil || !r.Copied {
			t.Errorf("backup %d: got %+v, want one that is known for a copy", i, r)
		}
		copied := open(t, b.dir, options(hubtest.Config{}), vfs.Default)
		got := readAll(t, copied, everything)
		if len(got) > len(order) || !reflect.DeepEqual(got, order[:len(got)]) || len(got)%2 != 0 {
			t.Fatalf("backup %d: got %d events, which are not the first of the order in whole groups", i, len(got))
		}
		last := uint64(0)
		for seq := range b.answered {
			last = max(last, seq+1)
		}
		if n := uint64(len(got)); n < last {
			t.Errorf("backup %d: got %d events, want at least the %d that were answered before", i, n, last)
		}
		otherEpoch(t, copied, b.head)
	}
}

// otherEpoch checks that a copy is told from the original, and tells those who have seen
// that.
func otherEpoch(t testing.TB, copied *disk.Log, original hub.Head) {
	t.Helper()
	if got := copied.Head().Epoch; got == original.Epoch {
		t.Errorf("got epoch %s of the original", got)
	}
	for _, seq := range []uint64{1, original.Seq} {
		loc, err := copied.Locate(t.Context(), hub.Cursor{Epoch: original.Epoch, Seq: seq})
		if err != nil || loc.Lost != hub.LostEpoch {
			t.Errorf("locate %d of the original: got %+v, %v, want lost %q", seq, loc, err, hub.LostEpoch)
		}
	}
	before := copied.Head()
	if r := appendData(t, copied, "a", "in the copy"); r.Sequences[0] <= before.Seq || r.Epoch != before.Epoch {
		t.Errorf("got %+v in the copy after head %+v", r, before)
	}
}

// TestBackup_RefusesADirectoryThatIsThere leaves what is in it.
func TestBackup_RefusesADirectoryThatIsThere(t *testing.T) {
	l := open(t, t.TempDir(), options(hubtest.Config{}), vfs.Default)
	appendData(t, l, "a", "one")
	to := t.TempDir()
	name := filepath.Join(to, "something")
	if err := os.WriteFile(name, []byte("else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Backup(to); err == nil {
		t.Error("got no error")
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != "else" {
		t.Errorf("got %q, %v afterward", b, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Backup(filepath.Join(to, "new")); err == nil {
		t.Error("got no error from a log that is closed")
	}
}

// TestEpoch_ChangesWithTheDirectory closes a log, and opens it again as it is, moved,
// copied, and as it was some time ago.
func TestEpoch_ChangesWithTheDirectory(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "log")
	o := options(hubtest.Config{})
	// session opens the log, appends, and closes it.
	session := func(dir string) hub.Head {
		t.Helper()
		l := open(t, dir, o, vfs.Default)
		appendData(t, l, "a", "one", "two")
		head := l.Head()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return head
	}
	copyDir := func(from, to string) {
		t.Helper()
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	first := session(dir)
	if got := session(dir); got.Epoch != first.Epoch {
		t.Errorf("opened again: got epoch %s, want %s", got.Epoch, first.Epoch)
	}

	earlier := filepath.Join(parent, "earlier")
	copyDir(dir, earlier)
	later := session(dir)
	if later.Epoch != first.Epoch {
		t.Errorf("opened after it was copied: got epoch %s, want %s", later.Epoch, first.Epoch)
	}

	moved := filepath.Join(parent, "moved")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if got := session(moved); got.Epoch != first.Epoch {
		t.Errorf("moved: got epoch %s, want %s", got.Epoch, first.Epoch)
	}

	// The earlier state comes back to where it was.
	copyDir(earlier, dir)
	restored := open(t, dir, o, vfs.Default)
	otherEpoch(t, restored, later)
	second := restored.Head()
	if err := restored.Close(); err != nil {
		t.Fatal(err)
	}
	if got := session(dir); got.Epoch != second.Epoch {
		t.Errorf("restored, and opened again: got epoch %s, want %s", got.Epoch, second.Epoch)
	}

	// Only the files of the store are put back, one over the other, as some tools do.
	copyDir(dir, filepath.Join(parent, "third"))
	third := session(dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	copyDir(filepath.Join(parent, "third"), dir)
	again := open(t, dir, o, vfs.Default)
	otherEpoch(t, again, third)
}
