//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/tidewire/tidewire/bench/internal/report"
)

// fileSystems names some by what statfs calls them.
var fileSystems = map[uint32]string{
	0xEF53: "ext4", 0x58465342: "xfs", 0x9123683E: "btrfs", 0x2FC12FC1: "zfs", 0x794C7630: "overlayfs",
	0x01021994: "tmpfs", 0x858458F6: "ramfs",
}

func fileSystem(dir string) (string, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return "", fmt.Errorf("statfs: %w", err)
	}
	if name := fileSystems[uint32(st.Type)]; name != "" {
		return name, nil
	}
	return fmt.Sprintf("file system %#x", uint32(st.Type)), nil
}

// checkDisk refuses memory, and a disk that would become full.
func checkDisk(dir string, needs uint64) error {
	name, err := fileSystem(dir)
	if err != nil {
		return err
	}
	if name == "tmpfs" || name == "ramfs" {
		return fmt.Errorf("%s is in memory (%s): name a directory on a disk with -data", dir, name)
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return fmt.Errorf("statfs: %w", err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < needs {
		return fmt.Errorf("%d MiB are free on the disk, and %d should be: name another directory with -data, or use smaller sizes", free>>20, needs>>20)
	}
	return nil
}

// conditions says in one line on what, and of what, everything was measured.
func conditions(dir string) string {
	name, err := fileSystem(dir)
	if err != nil {
		name = "unknown file system"
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.Join([]string{
		runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
		"Linux " + strings.TrimSpace(string(kernel)),
		fmt.Sprintf("%s, %d processors, %d GiB", report.Processor(), runtime.NumCPU(), (memory()+1<<29)>>30),
		name + " on " + diskKind(dir),
	}, "; ")
}

// memory returns the machine's, in bytes.
func memory() int64 {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}

// device returns the number of the device that a directory is on.
func device(dir string) (major, minor uint64, err error) {
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("stat: %w", err)
	}
	dev := uint64(st.Dev)
	return dev >> 8 & 0xFFF, dev&0xFF | dev>>12&0xFFF00, nil
}

// diskKind says what the device is.
func diskKind(dir string) string {
	major, minor, err := device(dir)
	if err != nil {
		return "unknown disk"
	}
	link, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", major, minor))
	if err != nil {
		return "unknown disk"
	}
	if _, err := os.Stat(filepath.Join(link, "partition")); err == nil {
		link = filepath.Dir(link)
	}
	queue := func(file string) string {
		b, _ := os.ReadFile(filepath.Join(link, "queue", file))
		return strings.TrimSpace(string(b))
	}
	kind := "a disk"
	switch name := filepath.Base(link); {
	case strings.HasPrefix(name, "nvme"):
		kind = "NVMe"
	case strings.HasPrefix(name, "vd"): // which does not know whether it is rotational
		kind = "a virtio disk"
	case strings.HasPrefix(name, "dm-"), strings.HasPrefix(name, "md"):
		kind = "a mapped disk"
	case queue("rotational") == "1":
		kind = "a rotational disk"
	}
	if cache := queue("write_cache"); cache != "" {
		kind += ", " + cache
	}
	return kind
}
