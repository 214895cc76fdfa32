//go:build !race

package sse_test

// raceEnabled tells whether the race detector, under which a loop over 200 MB takes
// minutes, is on.
const raceEnabled = false
