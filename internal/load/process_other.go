//go:build !linux

package load

import "net/netip"

// On other systems nothing is known of processes.

func newProcess([]int) *process                { return nil }
func listeners(netip.AddrPort) []int           { return nil }
func (p *process) cpu() (user, system float64) { return 0, 0 }
func (p *process) memory() int64               { return 0 }
func (p *process) resident() int64             { return 0 }
func ownCPU() (user, system float64)           { return 0, 0 }
func machineCPU() (busy, stolen float64)       { return 0, 0 }

// checkDescriptors leaves it to the system to refuse: Go raises the limit by itself.
func checkDescriptors(subscribers, publishers int) error { return nil }
