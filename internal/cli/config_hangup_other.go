//go:build !unix

package cli

import "os"

// notifyHangup returns none: there is no such signal.
func notifyHangup() (hangups <-chan os.Signal, stop func()) { return nil, func() {} }
