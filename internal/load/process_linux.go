package load

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// newProcess returns nil if there is no such process, or if it is our own, whose work
// cannot be told from the client's.
func newProcess(pids []int) *process {
	if slices.Contains(pids, os.Getpid()) {
		return nil
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pids[0]))
	if err != nil {
		return nil
	}
	p := &process{pids: pids, name: strings.TrimSpace(string(name)), kind: "PSS"}
	if p.pss() == 0 {
		p.kind = "RSS" // only its owner may read the other
	}
	return p
}

// ticks is USER_HZ, in which proc_pid_stat(5) counts. It is 100 on all of Go's systems.
const ticks = 100

// cpu returns user and system seconds.
func (p *process) cpu() (user, system float64) {
	if p == nil {
		return 0, 0
	}
	for _, pid := range p.pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended
		}
		// Behind the name, which can have any character, stands the third field.
		fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		if len(fields) < 13 {
			continue
		}
		u, s := float(fields[11])/ticks, float(fields[12])/ticks
		// Both are the parts of a sum that its clock has to the nanosecond, which counts
		// for what takes less than a second.
		if sum := cpuClock(pid); sum > 0 && u+s > 0 {
			u, s = sum*u/(u+s), sum*s/(u+s)
		}
		user += u
		system += s
	}
	return user, system
}

// cpuClock returns the seconds that a process has used, or 0 if its clock cannot be read.
func cpuClock(pid int) float64 {
	const perProcess = 2 // CPUCLOCK_SCHED, as clock_getcpuclockid(3) makes it
	var t unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|perProcess), &t) != nil {
		return 0
	}
	return float64(t.Nano()) / 1e9
}

func float(b []byte) float64 {
	v, _ := strconv.ParseFloat(string(b), 64) // the kernel writes numbers
	return v
}

// memory returns bytes: shared pages by their share, where that can be read.
func (p *process) memory() int64 {
	switch {
	case p == nil:
		return 0
	case p.kind == "PSS":
		return p.pss()
	}
	return p.resident()
}

func (p *process) pss() (sum int64) {
	for _, pid := range p.pids {
		sum += field(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")
	}
	return sum
}

// resident costs less than pss.
func (p *process) resident() (sum int64) {
	if p == nil {
		return 0
	}
	for _, pid := range p.pids {
		sum += field(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")
	}
	return sum
}

// field returns a value that stands in kB.
func field(file, name string) int64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			if f := bytes.Fields(rest); len(f) > 0 {
				return int64(float(f[0])) << 10
			}
		}
	}
	return 0
}

// ownCPU returns the client's user and system seconds.
func ownCPU() (user, system float64) {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0, 0
	}
	return float64(u.Utime.Nano()) / 1e9, float64(u.Stime.Nano()) / 1e9
}

// machineCPU returns seconds of all processes and interrupts, and those that the
// hypervisor withheld (proc_stat(5)).
func machineCPU() (busy, stolen float64) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	for i, f := range bytes.Fields(line) {
		switch i {
		case 0, 4, 5: // "cpu", idle, waiting for a disk
		case 8:
			stolen = float(f) / ticks
		default:
			if i < 8 { // guests stand in user too
				busy += float(f) / ticks
			}
		}
	}
	return busy, stolen
}

// listeners returns the processes that listen on an address of this machine, as far as we
// may look into them.
func listeners(address netip.AddrPort) (pids []int) {
	sockets := map[string]bool{}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		listening(file, address, sockets)
	}
	if len(sockets) == 0 {
		return nil
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is well-formed
	for _, link := range links {
		to, err := os.Readlink(link)
		if err != nil || !sockets[to] {
			continue // it is another's, or closed meanwhile
		}
		if pid, err := strconv.Atoi(strings.Split(link, "/")[2]); err == nil && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// listening adds the sockets of a table (proc_net(5)) that take connections to an address.
func listening(file string, address netip.AddrPort, sockets map[string]bool) {
	b, err := os.ReadFile(file)
	if err != nil {
		return // there is none without IPv6
	}
	const listen = "0A"
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[3] != listen {
			continue
		}
		local, ok := parseSocketAddress(fields[1])
		if ok && local.Port() == address.Port() && (local.Addr() == address.Addr() || local.Addr().IsUnspecified()) {
			sockets["socket:["+fields[9]+"]"] = true
		}
	}
}

// parseSocketAddress reads such as 0100007F:1E32: words of four bytes in the machine's
// order, which on all that matter is the reverse.
func parseSocketAddress(s string) (a netip.AddrPort, ok bool) {
	host, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil || len(b)%4 != 0 {
		return a, false
	}
	for word := range slices.Chunk(b, 4) {
		slices.Reverse(word)
	}
	addr, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), ok
}

// spareDescriptors are for what is neither a subscriber nor a publisher.
const spareDescriptors = 64

// checkDescriptors raises the limit as far as we may, and says what would fit.
func checkDescriptors(subscribers, publishers int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("limit of descriptors: %w", err)
	}
	need := uint64(subscribers + publishers + spareDescriptors)
	if need <= limit.Cur {
		return nil
	}
	if need > limit.Max {
		return &DescriptorError{Need: int(need), Limit: int(limit.Max), Fits: max(0, int(limit.Max)-publishers-spareDescriptors)}
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("limit of descriptors: %w", err)
	}
	return nil
}
