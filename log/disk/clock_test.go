package disk_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/hub/hubtest"
	"github.com/tidewire/tidewire/log/disk"
)

// TestClock_Jumps has a clock go back by an hour, and forward by a year, with a crash or a
// restart between: sequences and times rise all the same.
func TestClock_Jumps(t *testing.T) {
	for _, reopen := range []string{"never", "in an orderly way", "after kill -9"} {
		t.Run("reopened "+reopen, func(t *testing.T) {
			c := newClock()
			mem := vfs.NewMem()
			fs := newFaultyFS(mem)
			o := options(hubtest.Config{Now: c.Now})
			l := open(t, "log", o, fs)
			start := c.Now()
			last := appendData(t, l, "a", "first")
			for i, jump := range []time.Duration{-time.Hour, time.Minute, 365 * 24 * time.Hour, -366 * 24 * time.Hour, time.Second} {
				c.step(jump)
				switch reopen {
				case "after kill -9":
					fs.crash()
					_ = l.Close() // it is dead
					fs = newFaultyFS(mem)
					l = open(t, "log", o, fs)
				case "in an orderly way":
					if err := l.Close(); err != nil {
						t.Fatal(err)
					}
					l = open(t, "log", o, fs)
				}
				r := appendData(t, l, "a", fmt.Sprint(i))
				if r.Time.Before(last.Time) || r.Sequences[0] <= last.Sequences[0] || r.Epoch != last.Epoch {
					t.Errorf("after a jump of %v: got %+v after %+v", jump, r, last)
				}
				if head := l.Head(); !head.Time.Equal(r.Time) || head.Seq != r.Sequences[0] {
					t.Errorf("after a jump of %v: got head %+v, want that of %+v", jump, head, r)
				}
				last = r
			}
			if want := start.Add(365*24*time.Hour - time.Hour + time.Minute); !last.Time.Equal(want) {
				t.Errorf("got time %v in the end, want the latest that there was, %v", last.Time, want)
			}
			before := start.Add(-2 * time.Hour)
			for _, r := range readAll(t, l, everything) {
				if r.Time.Before(before) {
					t.Errorf("got time %v after %v", r.Time, before)
				}
				before = r.Time
			}
		})
	}
}

// TestClock_AgeIsThatOfTheRecords lets the clock jump under a rule of an hour. What counts
// are the times in the order, as subscribers see them.
func TestClock_AgeIsThatOfTheRecords(t *testing.T) {
	c := newClock()
	l := open(t, "log", options(hubtest.Config{Now: c.Now, Retention: hub.RetentionRules{{Pattern: "**", Retention: hub.Retention{Age: time.Hour}}}}), vfs.NewMem())
	kept := func(want ...string) {
		t.Helper()
		var got []string
		for _, r := range readAll(t, l, everything) {
			got = append(got, r.Event.Data)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	appendData(t, l, "a", "one")
	c.step(30 * time.Minute)
	appendData(t, l, "a", "two")
	kept("one", "two")
	c.step(-24 * time.Hour) // and nothing gets older
	appendData(t, l, "a", "three")
	kept("one", "two", "three")
	c.step(24*time.Hour + 29*time.Minute)
	appendData(t, l, "b", "four")
	kept("one", "two", "three", "four")
	c.step(2 * time.Minute) // one is older than an hour now
	appendData(t, l, "b", "five")
	kept("two", "three", "four", "five")
	c.step(365 * 24 * time.Hour)
	appendData(t, l, "b", "six")
	kept("six")
	c.step(-365 * 24 * time.Hour) // and what comes is as young as six
	appendData(t, l, "a", "seven")
	kept("six", "seven")
	c.step(365*24*time.Hour + 59*time.Minute)
	appendData(t, l, "b", "eight")
	kept("six", "seven", "eight")
}

// TestClock_ExpiryIsInTheOrder has a clock that steps back after an event has expired by it:
// what comes then cannot be older than that.
func TestClock_ExpiryIsInTheOrder(t *testing.T) {
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	l := open(t, "log", options(hubtest.Config{Now: now, Retention: hub.RetentionRules{{Pattern: "short", Retention: hub.Retention{Age: shortAge}}}}), vfs.NewMem())
	one := appendData(t, l, "short", "one").Time
	expired(t, l, "short")
	ahead.Store(-int64(time.Hour))
	if got := appendData(t, l, "short", "two").Time; got.Before(one.Add(shortAge)) {
		t.Errorf("got an event of %v after %v, when one of %v was as old as %v", got, one.Add(shortAge), one, shortAge)
	}
}

// shortAge is waited for: when something comes of age while nothing is appended, the Log
// has to look at its clock by itself.
const shortAge = 300 * time.Millisecond

// expired waits until a topic is empty, with nothing appended.
func expired(t testing.TB, l *disk.Log, topic string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		info, err := l.Topic(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		if info.Count == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %+v after %v, want everything to have come of age", info, patience)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestClock_ManyComeOfAgeAtOnce lets more events come of age than one round removes, while
// nothing is appended, and others that do not.
func TestClock_ManyComeOfAgeAtOnce(t *testing.T) {
	const events, batch = 5000, 500
	l := open(t, "log", options(hubtest.Config{Retention: hub.RetentionRules{{Pattern: "short", Retention: hub.Retention{Age: shortAge}}}}), vfs.NewMem())
	for range events / batch {
		appendData(t, l, "short", slices.Repeat([]string{"x"}, batch)...)
		appendData(t, l, "long", "stays")
	}
	expired(t, l, "short")
	page, err := l.Read(t.Context(), hub.Query{Topics: []string{"short"}})
	if err != nil || !page.Gap || len(page.Records) > 0 {
		t.Errorf("got %d events, gap %v, %v of what came of age", len(page.Records), page.Gap, err)
	}
	if got := len(readAll(t, l, hub.Query{Topics: []string{"long"}})); got != events/batch {
		t.Errorf("got %d events that stay, want %d", got, events/batch)
	}
}
