package memory

import "sync/atomic"

// Looked counts the entries that reading has looked at, in all Logs.
var Looked atomic.Int64

func init() { look = func() { Looked.Add(1) } }
