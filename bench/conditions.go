package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/tidewire/tidewire/bench/internal/report"
)

// conditions says in one line on what, and of what, everything was measured.
func conditions() string {
	parts := []string{
		runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
		fmt.Sprintf("%s, GOMAXPROCS %d", report.Processor(), runtime.GOMAXPROCS(0)),
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
