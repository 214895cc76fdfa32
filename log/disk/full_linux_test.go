package disk_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/hub/hubtest"
)

// smallDisk returns a directory on a file system of its own.
func smallDisk(t testing.TB, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tidewire-test", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a small file system cannot be had: mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestFull fills a disk to the last byte, with nothing kept free. Publishers are refused,
// or wait, and subscribers go on; when there is room, publishing goes on as well, and
// nothing is missing of what was answered.
func TestFull(t *testing.T) {
	t.Run("with room for log files", func(t *testing.T) { fillDisk(t, 96, 24) })
	t.Run("with room for tables", func(t *testing.T) {
		if raced && !long() {
			t.Skip("it takes long with the race detector: set TIDEWIRE_LONG=1")
		}
		fillDisk(t, 256, 64)
	})
}

// fillDisk does so with a disk of that many MiB, of which a file has some that are freed
// later.
func fillDisk(t *testing.T, size, ballastSize int) {
	const (
		enough     = 100 // events after there is room
		publishers = 4
	)
	small := smallDisk(t, fmt.Sprint(size, "m"))
	ballast := filepath.Join(small, "ballast")
	if err := os.WriteFile(ballast, make([]byte, ballastSize<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(small, "log")
	o := options(hubtest.Config{})
	l := open(t, dir, o, vfs.Default)
	began := time.Now()

	var mu sync.Mutex
	answered := make(map[uint64]string) // an event's data
	var refused, unsure int
	refusals := make(chan struct{}, 1000)
	ctx, stop := context.WithCancel(t.Context())
	var publishing sync.WaitGroup
	defer publishing.Wait()
	defer stop()
	publish := func() {
		for ctx.Err() == nil {
			raw := make([]byte, 16<<10)
			_, _ = rand.Read(raw) // never fails
			g := groupOf("a", hex.EncodeToString(raw))
			one, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			r, err := l.Append(one, g)
			cancel()
			mu.Lock()
			switch {
			case err == nil:
				answered[r.Sequences[0]] = g.Events[0].Data
			case errors.Is(err, hub.ErrNoSpace):
				refused++
			case errors.Is(err, hub.ErrIndeterminate):
				unsure++
			case ctx.Err() == nil:
				t.Errorf("append: %v", err)
			}
			mu.Unlock()
			if err != nil {
				select {
				case refusals <- struct{}{}:
				case <-time.After(10 * time.Millisecond): // a publisher's pause
				}
			}
		}
	}
	for range publishers {
		publishing.Go(publish)
	}
	for range 20 {
		select {
		case <-refusals:
		case <-time.After(patience):
			t.Fatal("the disk does not get full")
		}
	}
	mu.Lock()
	n, last := len(answered), uint64(0)
	for seq := range answered {
		last = max(last, seq)
	}
	data := answered[last]
	t.Logf("full after %v, with %d events; %d were refused, of %d it is not sure", time.Since(began), n, refused, unsure)
	mu.Unlock()

	page, err := l.Read(t.Context(), hub.Query{Topics: []string{"a"}, Until: last, Limit: 10, Newest: true})
	if err != nil || len(page.Records) == 0 || page.Records[len(page.Records)-1].Event.Data != data {
		t.Errorf("got %d events, %v, from a full disk, and the last is another one", len(page.Records), err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for {
		mu.Lock()
		more := len(answered) - n
		mu.Unlock()
		if more >= enough {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %d events stored after there was room, want %d", more, enough)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("goes on after %v", time.Since(began))
	stop()
	publishing.Wait()
	if err := l.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	t.Logf("closed after %v", time.Since(began))
	// It may be full again, and a start needs some room.
	if err := unix.Mount("", small, "", unix.MS_REMOUNT, fmt.Sprintf("size=%dm", 2*size)); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, o, vfs.Default)
	kept := make(map[uint64]string)
	for _, r := range readAll(t, l, everything) {
		kept[r.Seq] = r.Event.Data
	}
	for seq, data := range answered {
		if kept[seq] != data {
			t.Errorf("event %d was answered, and is lost", seq)
		}
	}
	t.Logf("done after %v", time.Since(began))
}

// TestOpen_RefusesAReadOnlyDisk has a log on a disk that can only be read. It can still be
// checked.
func TestOpen_RefusesAReadOnlyDisk(t *testing.T) {
	small := smallDisk(t, "96m")
	dir := filepath.Join(small, "log")
	l := open(t, dir, options(hubtest.Config{}), vfs.Default)
	appendData(t, l, "a", "one")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	remount := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("", small, "", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	defer remount(0)
	refused(t, dir, "read-only file system", dir)
	refused(t, filepath.Join(small, "new"), "read-only file system", small)
	t.Run("and Check does not", func(t *testing.T) { whole(t, dir, vfs.Default) })
}
