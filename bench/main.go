// Command bench compares how fast this module and other Go libraries decode and
// encode event streams, side by side in one run, and prints a table.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"
)

const (
	defaultRounds = 5
	defaultTime   = 500 * time.Millisecond

	streamSize = 4 << 20 // bytes, so that what a new decoder costs is spread over many events
)

func main() {
	rounds := flag.Int("rounds", defaultRounds, "measure everything this `number` of times, and take the medians")
	atLeast := flag.Duration("time", defaultTime, "how long to measure each library for each stream in each round, at least")
	flag.Parse()
	if err := run(*rounds, *atLeast); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(rounds int, atLeast time.Duration) error {
	if rounds < 1 || atLeast <= 0 {
		return errors.New("-rounds and -time must be positive")
	}
	entries := enter(newStreams(streamSize))
	for i := range rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", i+1, rounds)
		if err := round(entries, atLeast); err != nil {
			return err
		}
	}
	return writeReport(os.Stdout, entries, rounds)
}

// round measures every entry once. Rounds go through all entries, so that a while in
// which the machine is slow falls into one round of many entries, where the median
// leaves it out, and not into all rounds of one.
func round(entries []*entry, atLeast time.Duration) error {
	for _, e := range entries {
		if !e.runs() {
			continue
		}
		if err := e.measure(atLeast); err != nil {
			return err
		}
	}
	return nil
}
