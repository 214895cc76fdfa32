//go:build linux && !portable && (amd64 || arm64)

package hub

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// A yielder lets other goroutines run, those too that wait for the network. While there is
// always a goroutine that can run, the runtime looks at the network every 10 ms only, and
// [runtime.Gosched] does not change that: publishers would wait so long for a busy shard.
// So a shard waits for the network itself, for a descriptor that is ready at once.
type yielder struct {
	fd   int
	file *os.File
	raw  syscall.RawConn
}

func newYielder() (*yielder, error) {
	fd, _, errno := syscall.Syscall(syscall.SYS_EVENTFD2, 0, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		return nil, fmt.Errorf("hub: eventfd2: %w", errno)
	}
	y := &yielder{fd: int(fd), file: os.NewFile(fd, "eventfd")}
	var err error
	if y.raw, err = y.file.SyscallConn(); err != nil {
		_ = y.file.Close()
		return nil, fmt.Errorf("hub: eventfd: %w", err)
	}
	return y, nil
}

// yield returns when the others have had their turn.
func (y *yielder) yield() {
	waited := false
	_ = y.raw.Read(func(fd uintptr) bool { // fails after close only
		if waited {
			return true
		}
		waited = true
		one := uint64(1)
		_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&one)), unsafe.Sizeof(one))
		return false
	})
	// What the network has woken together with the shard may stand behind it.
	runtime.Gosched()
}

func (y *yielder) close() { _ = y.file.Close() }
