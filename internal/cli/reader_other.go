//go:build !unix

package cli

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// The errors of Windows for a pipe that nobody reads: ERROR_BROKEN_PIPE, ERROR_NO_DATA.
const (
	errBrokenPipe = syscall.Errno(109)
	errNoData     = syscall.Errno(232)
)

// readerGone tells whether a write failed because nobody reads any more.
func readerGone(err error) bool {
	return errors.Is(err, errBrokenPipe) || errors.Is(err, errNoData) || errors.Is(err, io.ErrClosedPipe)
}

// watchReader does nothing here: the next write notices that nobody reads any more.
func watchReader(*os.File, func()) (stop func()) { return func() {} }
