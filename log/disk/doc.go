// Package disk is a [hub.Log] in a directory of one process: what Append has answered
// survives kill -9 and power loss.
//
// It is log and apply: one goroutine puts the groups that wait into one order, has
// package tables apply them, and commits all of them with one sync, so that durable
// throughput grows with the number of publishers. Reading sees what is durable, and
// nothing else. The tables stand in a Pebble store; docs/adr says why.
//
// A directory belongs to one process at a time. A copy of it, or a backup that is put in
// its place, is another order: it gets another epoch when it is opened, so that
// subscribers who have seen more are told of the gap.
package disk
