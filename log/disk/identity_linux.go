package disk

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// fileIdentity returns what no copy of a file has: its number and the time of its birth.
func fileIdentity(name string) ([]byte, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, name, 0, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return nil, fmt.Errorf("statx %s: %w", name, err)
	}
	return fmt.Appendf(nil, "%d@%d.%09d", st.Ino, st.Btime.Sec, st.Btime.Nsec), nil
}
