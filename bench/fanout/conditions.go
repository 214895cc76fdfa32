//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"github.com/tidewire/tidewire/bench/internal/report"
)

// conditions says on what, and of what, everything is measured.
func (b *bench) conditions() string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	line := []string{
		runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
		"Linux " + strings.TrimSpace(string(kernel)),
		fmt.Sprintf("%s, %d processors, %d GiB", report.Processor(), runtime.NumCPU(), (memory()+1<<29)>>30),
		"client and server share the machine",
		fmt.Sprintf("events of %d bytes", dataSize),
		fmt.Sprintf("medians of %s", plural(b.rounds, "round")),
	}
	text := strings.Join(line, "; ") + "\n"
	for _, c := range b.servers {
		switch {
		case c.name == limitName && strings.Contains(c.title, "in C"):
			text += "The limit is written in C, by " + firstLine("cc", "--version") + ".\n"
		case c.name == limitName:
			text += "The limit is written in Go with raw system calls" + map[bool]string{true: ", as there is no C compiler"}[!hasCompiler()] + ".\n"
		case c.name == nchanName:
			text += "Nchan is in " + strings.TrimPrefix(firstLine(b.nginx, "-v"), "nginx version: ") + ".\n"
		}
	}
	return text
}

func hasCompiler() bool {
	_, err := exec.LookPath("cc")
	return err == nil
}

// memory returns the machine's, in bytes.
func memory() int64 {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}
