package disk_test

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidewire/tidewire/hub/hubtest"
)

var errFault = errors.New("the disk says no")

// A faultyFS is a file system that fails when it is told to.
type faultyFS struct {
	vfs.FS

	syncs   atomic.Int64  // that were begun
	slow    time.Duration // that a sync takes
	gate    chan struct{} // that a sync waits for; nil: it does not
	fell    func()        // called once when it is dead, and nothing is half way; may be nil
	fall    sync.Once     // calls fell
	died    chan struct{} // closed when it has
	running sync.RWMutex  // held by each change to the files

	mu    sync.Mutex
	fault hubtest.Fault // 0: none
	left  int           // steps before it

	err   error // what it says then
	dead  bool  // nothing reaches the files any more
	full  bool  // nothing can be written for now
	until int   // changes before fell is called, without a fault; 0: it is not
}

func newFaultyFS(fs vfs.FS) *faultyFS {
	return &faultyFS{FS: fs, err: errFault, died: make(chan struct{})}
}

func (f *faultyFS) Unwrap() vfs.FS { return f.FS }

// fail has the n-th step from now on fail.
func (f *faultyFS) fail(fault hubtest.Fault, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.left = fault, n
}

// crash has nothing reach the files any more.
func (f *faultyFS) crash() {
	f.mu.Lock()
	f.dead = true
	f.mu.Unlock()
	f.tell()
}

// begin is called before each change to the files, and what it returns after.
func (f *faultyFS) begin() (end func()) {
	if f.due() {
		f.tell()
	}
	f.running.RLock()
	return func() {
		f.running.RUnlock()
		f.mu.Lock()
		dead := f.dead
		f.mu.Unlock()
		if dead {
			f.tell()
		}
	}
}

// tell has fell know that nothing is changed any more.
func (f *faultyFS) tell() {
	f.fall.Do(func() {
		f.running.Lock()
		defer f.running.Unlock()
		if f.fell != nil {
			f.fell()
		}
		close(f.died)
	})
}

// watch has fell called before the n-th change from now on, and nothing fail: what it
// takes a copy of is what a crash would have left.
func (f *faultyFS) watch(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.until = n
}

// due counts down to what watch has asked for.
func (f *faultyFS) due() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.until == 0 {
		return false
	}
	f.until--
	return f.until == 0
}

// sync is before each sync.
func (f *faultyFS) sync() error {
	f.syncs.Add(1)
	f.mu.Lock()
	slow := f.slow
	f.mu.Unlock()
	time.Sleep(slow) // as a disk does
	if f.gate != nil {
		<-f.gate
	}
	_, err := f.step(true)
	return err
}

// step counts a write, of which half may still be done, or a sync.
func (f *faultyFS) step(sync bool) (half bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.dead:
		return false, f.err
	case f.full && !sync:
		return false, syscall.ENOSPC
	}
	if f.fault == 0 || f.fault == hubtest.FailWrite && sync || f.fault == hubtest.FailSync && !sync {
		return false, nil
	}
	if f.left--; f.left > 0 {
		return false, nil
	}
	f.dead = f.fault == hubtest.Crash
	f.fault = 0
	return true, f.err
}

// change tells whether anything else may be changed.
func (f *faultyFS) change() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.dead:
		return f.err
	case f.full:
		return syscall.ENOSPC
	}
	return nil
}

// fill has the disk be full, or not any more.
func (f *faultyFS) fill(full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.full = full
}

func (f *faultyFS) file(file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &faultyFile{file, f}, nil
}

func (f *faultyFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	defer f.begin()()
	if err := f.change(); err != nil {
		return nil, err
	}
	return f.file(f.FS.Create(name, c))
}

func (f *faultyFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	defer f.begin()()
	if err := f.change(); err != nil {
		return nil, err
	}
	return f.file(f.FS.OpenReadWrite(name, c, opts...))
}

func (f *faultyFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	defer f.begin()()
	if err := f.change(); err != nil {
		return nil, err
	}
	return f.file(f.FS.ReuseForWrite(old, name, c))
}

func (f *faultyFS) OpenDir(name string) (vfs.File, error) { return f.file(f.FS.OpenDir(name)) }

func (f *faultyFS) Link(old, name string) error {
	defer f.begin()()
	if err := f.change(); err != nil {
		return err
	}
	return f.FS.Link(old, name)
}

func (f *faultyFS) Rename(old, name string) error {
	defer f.begin()()
	if err := f.change(); err != nil {
		return err
	}
	return f.FS.Rename(old, name)
}

func (f *faultyFS) Remove(name string) error {
	defer f.begin()()
	if err := f.change(); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

func (f *faultyFS) MkdirAll(name string, perm os.FileMode) error {
	defer f.begin()()
	if err := f.change(); err != nil {
		return err
	}
	return f.FS.MkdirAll(name, perm)
}

type faultyFile struct {
	vfs.File
	fs *faultyFS
}

func (f *faultyFile) Write(p []byte) (int, error) {
	defer f.fs.begin()()
	half, err := f.fs.step(false)
	if err == nil {
		return f.File.Write(p)
	}
	if half {
		if n, err := f.File.Write(p[:len(p)/2]); err != nil {
			return n, err
		}
	}
	return 0, err
}

func (f *faultyFile) WriteAt(p []byte, at int64) (int, error) {
	defer f.fs.begin()()
	if _, err := f.fs.step(false); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, at)
}

func (f *faultyFile) Preallocate(at, n int64) error {
	defer f.fs.begin()()
	if err := f.fs.change(); err != nil {
		return err
	}
	return f.File.Preallocate(at, n)
}

func (f *faultyFile) Sync() error {
	defer f.fs.begin()()
	if err := f.fs.sync(); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *faultyFile) SyncData() error {
	defer f.fs.begin()()
	if err := f.fs.sync(); err != nil {
		return err
	}
	return f.File.SyncData()
}

func (f *faultyFile) SyncTo(n int64) (bool, error) {
	defer f.fs.begin()()
	if err := f.fs.sync(); err != nil {
		return false, err
	}
	return f.File.SyncTo(n)
}

// opened is what a Log of a harness stands on.
type opened struct {
	dir  string
	conf hubtest.Config
	fs   *faultyFS
}

func keepTrack() (put func(any, opened), get func(testing.TB, any) opened) {
	var all sync.Map
	put = func(l any, o opened) { all.Store(l, o) }
	get = func(t testing.TB, l any) opened {
		o, ok := all.Load(l)
		if !ok {
			t.Fatal("the harness does not know that Log")
		}
		return o.(opened)
	}
	return put, get
}
