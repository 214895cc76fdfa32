// Package memory is a [hub.Log] in memory: nothing survives the process, and each Log
// is an epoch of its own, so that a subscriber who comes back after a restart is told
// of the gap.
//
// It is log and apply, as every Log is: Append puts a record with its sequence and time
// at the end of the order, and tables.apply, which reads no clock, writes it to the
// tables that all reading is done from. Where nothing is appended, a record with a time
// alone lets old events expire.
package memory
