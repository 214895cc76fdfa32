//go:build !race

package disk_test

// raced says that the race detector is on, with which Pebble checks itself, too: all is
// ten times slower.
const raced = false
