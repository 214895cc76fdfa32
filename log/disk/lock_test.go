package disk_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidewire/tidewire/hub/hubtest"
	"github.com/tidewire/tidewire/log/disk"
)

// holdVariable names a directory that the test binary is to open, and to hold until its
// standard input ends.
const holdVariable = "TIDEWIRE_TEST_HOLD"

// hold is what the other process does.
func hold(dir string) error {
	l, err := disk.Open(dir, options(hubtest.Config{}))
	if err != nil {
		return err
	}
	fmt.Println("held")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	return l.Close()
}

// TestLock_AnotherProcess has another process hold a directory, and end in an orderly way
// or by kill -9.
func TestLock_AnotherProcess(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprint("killed ", killed), func(t *testing.T) {
			dir := t.TempDir()
			other := exec.CommandContext(t.Context(), os.Args[0])
			other.Env = append(os.Environ(), holdVariable+"="+dir)
			other.Stderr = os.Stderr
			in, err := other.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := other.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := other.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
				t.Fatalf("got %q, %v from the other process", line, err)
			}
			inUse(t, dir)
			if _, err := disk.Check(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "in use") {
				t.Errorf("check: got %v, want an error that says that it is in use", err)
			}
			if killed {
				_ = other.Process.Kill()
			}
			_ = in.Close()
			if err := other.Wait(); err != nil && !killed {
				t.Fatal(err)
			}
			appendData(t, open(t, dir, options(hubtest.Config{}), vfs.Default), "a", "one")
		})
	}
}

// TestLock_TheSameProcess opens a directory twice.
func TestLock_TheSameProcess(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, options(hubtest.Config{}), vfs.Default)
	appendData(t, l, "a", "one")
	inUse(t, dir)
	appendData(t, l, "a", "two") // and the first one goes on
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, options(hubtest.Config{}), vfs.Default)
	if got := len(readAll(t, l, everything)); got != 2 {
		t.Errorf("got %d events, want 2", got)
	}
}

// inUse checks that a directory is refused as it should be.
func inUse(t testing.TB, dir string) {
	t.Helper()
	l, err := disk.Open(dir, options(hubtest.Config{}))
	if err == nil {
		_ = l.Close()
		t.Fatal("got no error from a directory that is in use")
	}
	if got := err.Error(); !strings.Contains(got, "in use by another process") || !strings.Contains(got, dir) {
		t.Errorf("got %q, want an error that says that %s is in use", got, dir)
	}
}

// TestOpen_RefusesWhatIsNoDirectory has a file where the directory should be, or above it.
func TestOpen_RefusesWhatIsNoDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("not a directory"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, file, "not a directory", file)
	refused(t, filepath.Join(file, "below"), "not a directory", file)
	if b, err := os.ReadFile(file); err != nil || string(b) != "not a directory" {
		t.Errorf("got %q, %v in the file afterward", b, err)
	}
}

// TestOpen_RefusesWhatItMayNotUse has a directory in which nothing may be made, and one in
// which nothing may be read.
func TestOpen_RefusesWhatItMayNotUse(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may do anything")
	}
	for _, mode := range []os.FileMode{0o500, 0} {
		dir := t.TempDir()
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		refused(t, dir, "permission denied", dir)
		refused(t, filepath.Join(dir, "below"), "permission denied", dir)
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// refused checks that Open does not open a directory, and says why, and where.
func refused(t testing.TB, dir, why, where string) {
	t.Helper()
	l, err := disk.Open(dir, options(hubtest.Config{}))
	if err == nil {
		_ = l.Close()
		t.Errorf("%s: got no error, want one that says %q", dir, why)
		return
	}
	if got := err.Error(); !strings.Contains(got, why) || !strings.Contains(got, where) || strings.Contains(got, "in use") || errors.Is(err, disk.ErrDamaged) {
		t.Errorf("%s: got %q, want an error that says %q", dir, got, why)
	}
}

// TestOpen_LeavesOtherFilesAlone opens a directory that has something else in it.
func TestOpen_LeavesOtherFilesAlone(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "README")
	if err := os.WriteFile(name, []byte("not yours"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l := open(t, dir, options(hubtest.Config{}), vfs.Default)
		appendData(t, l, "a", "one")
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != "not yours" {
		t.Errorf("got %q, %v in a file that was there before", b, err)
	}
}
