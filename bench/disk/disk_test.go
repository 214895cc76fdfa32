//go:build linux

package main

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Every part looks itself that nothing is lost, and nothing comes twice.
func TestRun_QuickFormOfEverything(t *testing.T) {
	if err := checkDisk(".", 0); err != nil {
		t.Skip(err)
	}
	var out, log bytes.Buffer
	c := quick()
	c.time, c.warm, c.idle = 100*time.Millisecond, 20*time.Millisecond, 100*time.Millisecond
	c.rows = regexp.MustCompile("")
	c.out, c.log = &out, &log
	if err := run(t.Context(), c); err != nil {
		t.Fatalf("%v, after\n%s", err, log.String())
	}
	for _, want := range []string{"## Publishing", "## Replay to one client", "clients at once", "## Look-up", "## Start", "## Size"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "NaN") {
		t.Errorf("a figure is none in\n%s", out.String())
	}
}

func TestParseFlags_QuickSizesCanBeChanged(t *testing.T) {
	c, err := parseFlags([]string{"-quick", "-events", "30000", "-run", "replay,start"})
	if err != nil {
		t.Fatal(err)
	}
	if c.events != 30_000 || c.large != quick().large || fmt.Sprint(c.parts) != "[replay start]" {
		t.Errorf("got %d, %d events and %v", c.events, c.large, c.parts)
	}
	for _, args := range [][]string{{"-run", "all"}, {"-rounds", "0"}, {"-events", "7"}, {"-rows", "("}} {
		if _, err := parseFlags(args); err == nil {
			t.Errorf("%v: got no error", args)
		}
	}
}

// frames returns a subscription as the server sends it, each text a chunk.
func frames(chunks ...string) []byte {
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
	for _, c := range chunks {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(c), c)
	}
	return b.Bytes()
}

func TestSubscriber_ReadsEventsWhereverTheyAreCut(t *testing.T) {
	wire := frames("retry: 3000\n\n", "id: abcdef-7\nda", "ta: n=0000000003 x\n\nid: abcdef-9\nevent: reading\ndata: n=0000000004 y\n", "\n:\n\n")
	for cut := range len(wire) {
		s := &subscriber{}
		for _, part := range [][]byte{wire[:cut], wire[cut:]} {
			if err := s.feed(bytes.Clone(part)); err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
		}
		if err := s.check(expect{2, 7}); err != nil || s.sequence != 9 || s.last != 4 {
			t.Fatalf("cut at %d: sequence %d, last %d, %v", cut, s.sequence, s.last, err)
		}
	}
}

func TestSubscriber_WrongStreamsAreFound(t *testing.T) {
	one, two := "id: abcdef-7\ndata: n=0000000003 x\n\n", "id: abcdef-8\ndata: n=0000000004 x\n\n"
	tests := map[string][]byte{
		"out of order":  frames(two, one),
		"twice":         frames(one, one, two),
		"lost":          frames(one),
		"another event": frames(one, strings.Replace(two, "4", "5", 1)),
		"a gap":         frames(one, "event: tidewire.gap\ndata: {}\n\n", two),
		"ended":         append(frames(one, two), "0\r\n\r\n"...),
		"refused":       []byte("HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n"),
	}
	for name, wire := range tests {
		t.Run(name, func(t *testing.T) {
			s := &subscriber{}
			err := s.feed(wire)
			if err == nil {
				err = s.check(expect{2, 7})
			}
			if err == nil {
				t.Error("got no error")
			}
		})
	}
}

func TestAnswered_WantsAWhole201(t *testing.T) {
	const whole = "HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nabc"
	for cut := range len(whole) {
		if ok, err := answered([]byte(whole[:cut])); ok || err != nil {
			t.Fatalf("cut at %d: got %v, %v", cut, ok, err)
		}
	}
	if ok, err := answered([]byte(whole)); !ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
	for _, wrong := range []string{whole + "x", strings.Replace(whole, "201", "503", 1), "HTTP/1.1 201 Created\r\n\r\n"} {
		if _, err := answered([]byte(wrong)); err == nil {
			t.Errorf("%q: got no error", wrong)
		}
	}
}

func TestLoad_ARefusalIsAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 4096)
		if _, err := c.Read(b); err == nil {
			_, _ = c.Write([]byte("HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\n\r\n"))
		}
		_, _ = c.Read(b) // until it is closed
	}()
	load := &load{address: netip.MustParseAddrPort(l.Addr().String()), conns: 1, make: newSingle(newNotes(dataSize)), time: time.Second}
	if _, err := load.run(t.Context()); err == nil || !strings.Contains(err.Error(), "507") {
		t.Errorf("got %v, want the refusal", err)
	}
}

func TestCheckDisk_RefusesMemory(t *testing.T) {
	const memory = "/dev/shm"
	if name, err := fileSystem(memory); err != nil || name != "tmpfs" {
		t.Skipf("no tmpfs at %s", memory)
	}
	if err := checkDisk(memory, 0); err == nil || !strings.Contains(err.Error(), "tmpfs") {
		t.Errorf("got %v, want a refusal", err)
	}
	if err := checkDisk(".", 1<<62); err == nil {
		t.Error("got no error for a disk that is too small")
	}
}

func TestIDs_AreAllDifferent(t *testing.T) {
	seen := make(map[string]bool)
	for i := range uint64(100_000) {
		id := idOf(i)
		if len(id) != 16 || seen[id] {
			t.Fatalf("event %d has id %q", i, id)
		}
		seen[id] = true
	}
}
