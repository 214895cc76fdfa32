//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/internal/load"
)

// programs is where the servers are built, once for all tests.
var programs string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		b := &bench{config: config{log: io.Discard}, ctx: context.Background()}
		var err error
		if b.dir, err = os.MkdirTemp("", "fanout-*"); err == nil {
			defer os.RemoveAll(b.dir)
			err = b.build()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		programs = b.programs
		return m.Run()
	}())
}

// quickRun runs the quick form, and returns what it prints.
func quickRun(t *testing.T, args ...string) (string, error) {
	t.Helper()
	c, err := parseFlags(append([]string{"-quick", "-data", t.TempDir()}, args...))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c.out, c.log, c.programs = &out, io.Discard, programs
	err = run(t.Context(), c)
	if left, _ := os.ReadDir(c.data); len(left) > 0 {
		t.Errorf("%v is left behind", left)
	}
	if strings.Contains(out.String(), "NaN") || strings.Contains(out.String(), "Inf") {
		t.Errorf("a figure is none in\n%s", out.String())
	}
	return out.String(), err
}

func wants(t *testing.T, out string, texts ...string) {
	t.Helper()
	for _, want := range texts {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// Every server that is there, and every workload: each looks itself that nothing is lost,
// repeated or out of order.
func TestRun_QuickFormOfEverything(t *testing.T) {
	out, err := quickRun(t)
	if err != nil {
		t.Fatalf("%v, after\n%s", err, out)
	}
	wants(t, out, "## Throughput", "## Processor time", "## Latency to the last", "## Memory", "## Topics", "## Connecting", "## Resume storm", "## Replay",
		"limit, in ", "naive, net/http", "r3labs/sse v", "tmaxmax/go-sse v", "tidewire, memory", "tidewire, disk", "× limit", "× Nchan", "≥ 4,000,000", "p99 ms ≤ 2.00 × naive ")
	if strings.Contains(out, nchanHelp) {
		t.Logf("without Nchan: %s", nchanHelp)
	} else {
		wants(t, out, "Nchan ", "worker")
	}
}

func TestRun_LimitInGo(t *testing.T) {
	out, err := quickRun(t, "-limit", "go", "-servers", "limit,tidewire", "-run", "throughput,topics,idle,connect")
	if err != nil {
		t.Fatalf("%v, after\n%s", err, out)
	}
	wants(t, out, "limit, in Go, 1 thread", "The limit is written in Go")
}

// What has only as many threads as the machine has room for is tried with more of them.
func TestLimit_Threads(t *testing.T) {
	b := prepared(t, "-servers", "limit")
	if !strings.Contains(b.servers[0].title, "in C") {
		t.Skip("there is no C compiler")
	}
	c := *b.servers[0]
	c.start = func() (*process, error) { return b.launch(filepath.Join(b.dir, "limit"), "3") }
	for _, w := range workloads() {
		if w.name == "throughput" || w.name == "topics" {
			if _, err := b.try(w, &c); err != nil {
				t.Errorf("%s: %v", w.name, err)
			}
		}
	}
}

// prepared returns a bench that has built its servers.
func prepared(t *testing.T, args ...string) *bench {
	t.Helper()
	c, err := parseFlags(append([]string{"-quick"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	c.out, c.log, c.programs = &bytes.Buffer{}, io.Discard, programs
	b := &bench{config: c, ctx: t.Context(), dir: t.TempDir()}
	if err := b.prepare(); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRun_NchanThatIsMissingIsTold(t *testing.T) {
	out, err := quickRun(t, "-nginx", filepath.Join(t.TempDir(), "nginx"), "-servers", "limit,nchan", "-run", "connect")
	if err != nil {
		t.Fatal(err)
	}
	wants(t, out, "apt-get install nginx libnginx-mod-nchan", "limit, in ")
	// An nginx without the module.
	other := filepath.Join(t.TempDir(), "nginx")
	if err := os.WriteFile(other, []byte("#!/bin/sh\necho configure arguments: --modules-path=/nonexistent\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	out, err = quickRun(t, "-nginx", other, "-servers", "nchan", "-run", "connect")
	if err != nil {
		t.Fatal(err)
	}
	wants(t, out, "apt-get install nginx libnginx-mod-nchan", "None of the servers takes part.")
}

// A server that loses something has no figures, and the run fails.
func TestMeasure_WhatIsLostIsNoResult(t *testing.T) {
	b := prepared(t, "-servers", "limit,naive")
	b.servers[0].history = true  // which it has not
	b.patience = 2 * time.Second // nobody waits for long for what will never come
	for _, w := range workloads() {
		if w.name != "storm" {
			continue
		}
		w.targets = []target{{server: naiveName, least: 0.5, of: limitName}}
		if err := b.measure(w); err != nil {
			t.Fatal(err)
		}
	}
	out := b.out.(*bytes.Buffer).String()
	wants(t, out, "NO RESULT", "400 lost", "naive, net/http", "which is missing")
	if len(b.bad) != 1 || !strings.Contains(b.bad[0], "storm, limit") {
		t.Errorf("got %q, want the limit in the storm", b.bad)
	}
}

func TestRun_Profiles(t *testing.T) {
	dir := t.TempDir()
	out, err := quickRun(t, "-profile", dir, "-servers", "naive,tidewire", "-run", "throughput,storm")
	if err != nil {
		t.Fatalf("%v, after\n%s", err, out)
	}
	for _, name := range []string{"throughput-naive.cpu", "throughput-tidewire.cpu", "storm-naive.cpu", "storm-tidewire.cpu"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: got %v, want a profile", name, err)
		}
	}
}

func TestRun_StopsWithItsContext(t *testing.T) {
	c, err := parseFlags([]string{"-quick", "-data", t.TempDir(), "-servers", "naive", "-run", "throughput", "-time", "1h"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.out, c.log, c.programs = io.Discard, cancelling{cancel}, programs
	if err := run(ctx, c); err == nil || ctx.Err() == nil {
		t.Errorf("got %v, want the end of the context", err)
	}
}

// A cancelling writer cancels a little after a first round has begun.
type cancelling struct{ cancel func() }

func (c cancelling) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("round 1")) {
		time.AfterFunc(200*time.Millisecond, c.cancel)
	}
	return len(b), nil
}

func TestProcess_OneThatEndsByItselfIsTold(t *testing.T) {
	b := &bench{ctx: t.Context(), dir: t.TempDir()}
	for _, script := range []string{"exit 3", "echo no address; exec sleep 10", "echo 'Open http://127.0.0.1:1/'; echo oops >&2; exit 1"} {
		p, err := b.launch("/bin/sh", "-c", script)
		if err == nil {
			<-p.done
			err = p.stop()
		}
		if err == nil {
			t.Errorf("%q: got no error", script)
		}
	}
	if _, err := b.launch(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("got no error for a program that is not there")
	}
}

func TestParseFlags(t *testing.T) {
	c, err := parseFlags([]string{"-quick", "-rounds", "5", "-run", "storm,idle", "-servers", "nchan,limit", "-publishers", "9"})
	if err != nil {
		t.Fatal(err)
	}
	if c.rounds != 5 || c.sizes.publishers != 9 || c.sizes.storm != quick().sizes.storm || len(c.workloads) != 2 || len(c.servers) != 2 {
		t.Errorf("got %+v", c)
	}
	for _, args := range [][]string{{"-run", "all"}, {"-servers", "apache"}, {"-rounds", "0"}, {"-limit", "rust"}, {"-time", "0s"}, {"-publishers", "0"}} {
		if _, err := parseFlags(args); err == nil {
			t.Errorf("%v: got no error", args)
		}
	}
}

func TestTarget_Verdict(t *testing.T) {
	result := func(perSecond float64) []*load.Result {
		return []*load.Result{{Delivery: &load.Delivery{PerSecond: perSecond}}}
	}
	w := &workload{main: figure{of: deliveries.of}}
	rows := []*row{
		{contender: &contender{name: limitName}, results: result(100)},
		{contender: &contender{name: naiveName}, wrong: "5 lost"},
		{contender: &contender{name: tidewireName}, results: append(append(result(80), result(120)...), result(90)...)}, // 90
	}
	for _, test := range []struct {
		target target
		want   string
	}{
		{target{least: 90}, "≥ 90 ✓"},
		{target{least: 91}, "≥ 91 ✗"},
		{target{most: 90}, "≤ 90 ✓"},
		{target{most: 1234567}, "≤ 1,234,567 ✓"},
		{target{most: 89}, "≤ 89 ✗"},
		{target{least: .85, of: limitName}, "≥ 0.85 × limit ✓"},
		{target{least: .95, of: limitName}, "≥ 0.95 × limit ✗"},
		{target{most: .85, of: limitName, column: &deliveries}, "deliveries/s ≤ 0.85 × limit ✗"},
		{target{most: 1, of: naiveName}, "≤ 1.00 × naive, which is missing"},
		{target{most: 1, of: nchanName}, "≤ 1.00 × nchan, which is missing"},
	} {
		if got := test.target.verdict(w, rows, rows[2]); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.target, got, test.want)
		}
	}
}

func TestNumber(t *testing.T) {
	for _, test := range []struct {
		x        float64
		decimals int
		want     string
	}{{0, 0, "0"}, {999, 0, "999"}, {1000, 0, "1,000"}, {1234567.891, 2, "1,234,567.89"}, {-1234, 0, "-1,234"}, {-123, 0, "-123"}} {
		if got := number(test.x, test.decimals); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

// The configuration is read by the nginx that is there.
func TestNginxConfig(t *testing.T) {
	b := prepared(t, "-servers", "nchan")
	if len(b.servers) == 0 {
		t.Skip(nchanHelp)
	}
	for range 2 {
		p, err := b.servers[0].start()
		if err != nil {
			t.Fatal(err)
		}
		dir := p.cmd.Args[2]
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is left behind", dir)
		}
		if out, _ := exec.Command("pgrep", "-f", "--", dir).Output(); len(out) > 0 {
			t.Errorf("processes are left behind: %s", out)
		}
	}
}
