package main

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
)

// conditions says in one line on what, and of what, everything was measured.
func conditions() string {
	parts := []string{
		runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
		fmt.Sprintf("%s, GOMAXPROCS %d", processor(), runtime.GOMAXPROCS(0)),
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			for _, name := range []string{tmaxmaxName, launchdarklyName, r3labsName} {
				if strings.Contains(m.Path, name) {
					parts = append(parts, name+" "+m.Version)
				}
			}
		}
	}
	return strings.Join(parts, "; ")
}

// processor returns the processor's name where the system tells it in a file, as
// Linux does.
func processor() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	_, rest, _ := strings.Cut(string(b), "model name")
	line, _, _ := strings.Cut(rest, "\n")
	return cmp.Or(strings.TrimLeft(line, "\t :"), "unknown processor")
}
