//go:build unix

package server

import (
	"math"
	"syscall"
)

// descriptors returns how many files and connections the process may have open.
func descriptors() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return unknownDescriptors
	}
	return int(min(uint64(r.Cur), math.MaxInt32)) // which some systems have as int64
}
