package disk

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// How long to wait before what failed is tried again, or is told.
const (
	fullPause  = 250 * time.Millisecond
	errorPause = 50 * time.Millisecond
)

// A patientFS is a file system whose writes wait while the disk is full: Pebble cannot
// go on after an error there, and can after a wait. Other errors are told after a moment,
// as Pebble's background work tries again at once.
type patientFS struct {
	vfs.FS
	*patience
}

// patience is what a patientFS knows of the disk.
type patience struct {
	begins func(error) // called when the disk turns out to be full
	ends   func()      // and when it is not any more
	stop   chan struct{}

	mu      sync.Mutex
	waiting int
}

func newPatientFS(fs vfs.FS, begins func(error), ends func()) *patientFS {
	return &patientFS{fs, &patience{begins: begins, ends: ends, stop: make(chan struct{})}}
}

// giveUp has what waits, and what would, fail.
func (p *patience) giveUp() { close(p.stop) }

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// do does something until the disk is not too full for it.
func (p *patience) do(what func() error) error {
	err := what()
	switch {
	case err == nil || errors.Is(err, os.ErrNotExist) || errors.Is(err, vfs.ErrUnsupported):
		return err
	case !isFull(err):
		p.pause(errorPause)
		return err
	}
	p.enter(err)
	defer p.leave()
	for isFull(err) && p.pause(fullPause) {
		err = what()
	}
	return err
}

// pause waits, unless it is given up.
func (p *patience) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.stop:
		return false
	}
}

func (p *patience) enter(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting++; p.waiting == 1 {
		p.begins(err)
	}
}

func (p *patience) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting--; p.waiting == 0 {
		p.ends()
	}
}

// Unwrap implements [vfs.FS].
func (f *patientFS) Unwrap() vfs.FS { return f.FS }

// open opens a file that is patient too.
func (f *patientFS) open(open func() (vfs.File, error)) (file vfs.File, err error) {
	err = f.do(func() error {
		file, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &patientFile{file, f.patience}, nil
}

func (f *patientFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(func() (vfs.File, error) { return f.FS.Create(name, c) })
}

func (f *patientFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.open(func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, opts...) })
}

func (f *patientFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(func() (vfs.File, error) { return f.FS.ReuseForWrite(old, name, c) })
}

func (f *patientFS) OpenDir(name string) (vfs.File, error) {
	return f.open(func() (vfs.File, error) { return f.FS.OpenDir(name) })
}

func (f *patientFS) Link(old, name string) error {
	return f.do(func() error { return f.FS.Link(old, name) })
}

func (f *patientFS) Rename(old, name string) error {
	return f.do(func() error { return f.FS.Rename(old, name) })
}

func (f *patientFS) MkdirAll(name string, perm os.FileMode) error {
	return f.do(func() error { return f.FS.MkdirAll(name, perm) })
}

// A patientFile is a file of a patientFS. Preallocate, which only makes later writes
// faster, is not patient.
type patientFile struct {
	vfs.File
	*patience
}

// Write writes all of b, if in parts.
func (f *patientFile) Write(b []byte) (written int, err error) {
	err = f.do(func() error {
		n, err := f.File.Write(b[written:])
		written += n
		return err
	})
	return written, err
}

func (f *patientFile) WriteAt(b []byte, at int64) (written int, err error) {
	err = f.do(func() error {
		n, err := f.File.WriteAt(b[written:], at+int64(written))
		written += n
		return err
	})
	return written, err
}

func (f *patientFile) Sync() error     { return f.do(f.File.Sync) }
func (f *patientFile) SyncData() error { return f.do(f.File.SyncData) }

func (f *patientFile) SyncTo(n int64) (full bool, err error) {
	err = f.do(func() error {
		full, err = f.File.SyncTo(n)
		return err
	})
	return full, err
}
