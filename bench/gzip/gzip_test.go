//go:build linux

package main

import (
	"os"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(modeVariable); mode != "" {
		serve(mode)
		return
	}
	os.Exit(m.Run())
}

func TestRun_MeasuresAllServers(t *testing.T) {
	var out strings.Builder
	if err := run(quickLoad, &out); err != nil {
		t.Fatal(err)
	}
	for _, mode := range modes {
		if !strings.Contains(out.String(), "| "+mode.title+" |") {
			t.Errorf("got %s, want a line of %s", out.String(), mode.title)
		}
	}
}
