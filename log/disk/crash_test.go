package disk_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/hub/hubtest"
	"github.com/tidewire/tidewire/log/disk"
)

// TestCrash_WhileOpeningOrClosing has the machine end before each change to the files that
// Open makes, or Close: three times in a row, as where a supervisor tries again and again.
// Then the directory is opened: nothing is damaged, all is there, and no sequence comes
// twice.
func TestCrash_WhileOpeningOrClosing(t *testing.T) {
	for _, closing := range []bool{false, true} {
		// All of it is left if only the process ends. A part of the names in a directory,
		// and not the earlier ones, is more than Pebble stands, and than file systems do.
		for _, percent := range []int{100, 0} {
			name := fmt.Sprintf("opening, %d%% of what was not synced remain", percent)
			if closing {
				name = fmt.Sprintf("closing, %d%% of what was not synced remain", percent)
			}
			t.Run(name, func(t *testing.T) {
				seed := rand.Uint64()
				t.Logf("seed %d", seed)
				step := 1
				for crashThrice(t, step, closing, percent, seed) {
					step++
				}
				if step < 10 {
					t.Errorf("got only %d steps: the test shows nothing", step)
				}
			})
		}
	}
}

// crashThrice returns false if there are not so many steps.
func crashThrice(t *testing.T, step int, closing bool, percent int, seed uint64) (crashed bool) {
	o := options(hubtest.Config{})
	random := rand.New(rand.NewPCG(seed, uint64(step)))
	mem := vfs.NewCrashableMem()
	var want []hub.Record // what was answered
	var epoch string
	// session opens the log, appends, and closes it, unless the machine ends before.
	session := func(fs *powerFS, opening, closing int) {
		t.Helper()
		fs.watch(opening)
		l, err := disk.OpenFS("log", o, fs)
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		fs.watch(0)
		appendData(t, l, "a", "one", "two")
		select {
		case <-fs.died: // before
		default:
			want, epoch = readAll(t, l, everything), l.Head().Epoch
		}
		fs.watch(closing)
		if err := l.Close(); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
	}
	for n := range 5 {
		fs := newPowerFS(mem, func() vfs.CrashCloneCfg { return vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: random} })
		switch {
		case n < 2: // orderly ones, so that there is something to go wrong
			session(fs, 0, 0)
		case closing:
			session(fs, 0, step)
		default:
			session(fs, step, 0)
		}
		select {
		case <-fs.died:
			crashed = true
			mem = fs.cut()
		default:
		}
	}
	if r := whole(t, "log", mem); r == nil || len(r.Problems) > 0 {
		t.Fatalf("step %d: got %+v", step, r)
	}
	l, err := disk.OpenFS("log", o, mem)
	if err != nil {
		t.Fatalf("step %d: %v", step, err)
	}
	defer l.Close()
	got := readAll(t, l, everything)
	if len(got) < len(want) || l.Head().Epoch != epoch {
		t.Fatalf("step %d: got %d events of epoch %s, want at least %d of %s", step, len(got), l.Head().Epoch, len(want), epoch)
	}
	for i, w := range want {
		if got[i].Seq != w.Seq || got[i].Event.Data != w.Event.Data {
			t.Fatalf("step %d: got %d %q, want %d %q", step, got[i].Seq, got[i].Event.Data, w.Seq, w.Event.Data)
		}
	}
	if r, last := appendData(t, l, "a", "after it all"), want[len(want)-1].Seq; r.Sequences[0] <= last {
		t.Fatalf("step %d: got sequence %d after %d", step, r.Sequences[0], last)
	}
	return crashed
}

// endVariable has the test binary open a directory, and end without a further word when so
// many syncs are done.
const endVariable = "TIDEWIRE_TEST_END"

// TestCrash_OfTheProcessWhileOpening ends a process after each sync of Open, on real files,
// so that the file that tells a copy is among them: the directory is none.
func TestCrash_OfTheProcessWhileOpening(t *testing.T) {
	dir := t.TempDir()
	o := options(hubtest.Config{})
	first := func() hub.Receipt {
		l := open(t, dir, o, vfs.Default)
		defer l.Close()
		return appendData(t, l, "a", "one")
	}()
	for n := 1; ; n++ {
		other := exec.CommandContext(t.Context(), os.Args[0])
		other.Env = append(os.Environ(), fmt.Sprint(endVariable, "=", n, " ", dir))
		out, err := other.CombinedOutput()
		var exit *exec.ExitError
		switch {
		case err == nil && n < 5:
			t.Fatalf("got no end at sync %d: the test shows nothing", n)
		case err == nil:
			return
		case !errors.As(err, &exit) || exit.ExitCode() != endCode:
			t.Fatalf("sync %d: %v: %s", n, err, out)
		}
		if n%2 == 1 {
			continue // and two in a row
		}
		l := open(t, dir, o, vfs.Default)
		if r := appendData(t, l, "a", "again"); r.Epoch != first.Epoch || r.Sequences[0] <= first.Sequences[0] {
			t.Errorf("after an end at sync %d: got %+v, want epoch %s still", n, r, first.Epoch)
		}
		if got := len(readAll(t, l, everything)); got != 1+n/2 {
			t.Errorf("after an end at sync %d: got %d events, want %d", n, got, 1+n/2)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

const endCode = 9

// An endingFS ends the process after some syncs.
type endingFS struct {
	vfs.FS
	left *atomic.Int64
}

func (f endingFS) Unwrap() vfs.FS { return f.FS }

func (f endingFS) file(file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return endingFile{file, f.left}, nil
}

func (f endingFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(f.FS.Create(name, c))
}

func (f endingFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(f.FS.ReuseForWrite(old, name, c))
}

func (f endingFS) OpenDir(name string) (vfs.File, error) { return f.file(f.FS.OpenDir(name)) }

type endingFile struct {
	vfs.File
	left *atomic.Int64
}

func (f endingFile) synced(err error) error {
	if f.left.Add(-1) == 0 {
		os.Exit(endCode)
	}
	return err
}

func (f endingFile) Sync() error     { return f.synced(f.File.Sync()) }
func (f endingFile) SyncData() error { return f.synced(f.File.SyncData()) }

// openAndEnd is what the other process does.
func openAndEnd(what string) error {
	var n int64
	var dir string
	if _, err := fmt.Sscan(what, &n, &dir); err != nil {
		return err
	}
	fs := endingFS{vfs.Default, new(atomic.Int64)}
	fs.left.Store(n)
	_, err := disk.OpenFS(dir, options(hubtest.Config{}), fs)
	return err
}
