//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of times in /proc (USER_HZ).
const tick = 10 * time.Millisecond

// A usage is what was used up to a moment.
type usage struct {
	at      time.Time
	server  time.Duration // of processors, by the process under test
	own     time.Duration // by this one
	machine time.Duration // by all, those included
	disk    time.Duration // in which the disk had something to do
	flushes int64         // of the disk
}

// use returns what is used up to now; pid 0 is no server.
func (b *bench) use(pid int) usage {
	u := usage{at: time.Now(), server: processTime(pid), machine: machineTime()}
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err == nil {
		u.own = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	u.disk, u.flushes = diskUse(b.dir)
	return u
}

func (u usage) minus(v usage) usage {
	return usage{
		u.at, u.server - v.server, u.own - v.own, u.machine - v.machine, u.disk - v.disk, u.flushes - v.flushes,
	}
}

// processTime returns what a process has used of processors.
func processTime(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 13 {
		return 0
	}
	return ticks(f[11]) + ticks(f[12]) // utime and stime
}

// machineTime returns what all have used of processors.
func machineTime() (busy time.Duration) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	for i := 1; i < len(f) && i < 8; i++ {
		if i != 4 && i != 5 { // idle, iowait
			busy += ticks(f[i])
		}
	}
	return busy
}

func ticks(s string) time.Duration {
	n, _ := strconv.ParseInt(s, 10, 64) // the kernel writes numbers
	return time.Duration(n) * tick
}

// diskUse returns how long the disk of a directory has been at work, and how often it
// was flushed, whoever wanted it.
func diskUse(dir string) (busy time.Duration, flushes int64) {
	major, minor, err := device(dir)
	if err != nil {
		return 0, 0
	}
	b, err := os.ReadFile("/proc/diskstats")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 19 || f[0] != strconv.FormatUint(major, 10) || f[1] != strconv.FormatUint(minor, 10) {
			continue
		}
		ms, _ := strconv.ParseInt(f[12], 10, 64)
		n, _ := strconv.ParseInt(f[18], 10, 64)
		return time.Duration(ms) * time.Millisecond, n
	}
	return 0, 0
}

// resident returns the memory of a process in bytes, and that of it which is in no file.
func resident(pid int) (all, anonymous int64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "VmRSS:":
			all = kib << 10
		case "RssAnon:":
			anonymous = kib << 10
		}
	}
	return all, anonymous
}

// onDisk returns the bytes that files in a directory take, those of write-ahead logs
// apart.
func onDisk(dir string) (tables, logs int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // removed by a compaction
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		size := info.Sys().(*syscall.Stat_t).Blocks * 512
		if filepath.Ext(path) == ".log" {
			logs += size
		} else {
			tables += size
		}
		return nil
	})
	return tables, logs, err
}

// settle waits until the files in a directory stay as they are, a minute at most.
func (b *bench) settle(dir string) error {
	var last int64
	same := 0
	for range 120 {
		tables, logs, err := onDisk(dir)
		if err != nil {
			return err
		}
		if same++; tables+logs != last {
			last, same = tables+logs, 0
		}
		if same == 4 {
			break
		}
		if err := b.sleep(500 * time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) sleep(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
}

// eachFile calls f with all files of a directory.
func eachFile(dir string, f func(*os.File) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f(file), file.Close())
	})
}

// evict has the system forget what it has in memory of the files in a directory, which
// nobody may have open.
func evict(dir string) error {
	const dontNeed = 4 // POSIX_FADV_DONTNEED
	return eachFile(dir, func(f *os.File) error {
		if err := f.Sync(); err != nil {
			return err
		}
		if _, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, dontNeed, 0, 0); errno != 0 {
			return fmt.Errorf("fadvise: %w", errno)
		}
		return nil
	})
}

// readAll has the system take the files in a directory into memory.
func readAll(dir string) error {
	buf := make([]byte, 1<<20)
	return eachFile(dir, func(f *os.File) error {
		for {
			if n, err := f.Read(buf); n == 0 || err != nil {
				return nil // at its end
			}
		}
	})
}
