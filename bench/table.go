package main

import (
	"fmt"
	"io"
	"math"

	"github.com/tidewire/tidewire/bench/internal/report"
)

const notes = `
- MB/s counts the bytes of the stream. "× fastest rival" is a row's speed over that of the
  fastest other library that does the whole task.
- ` + r3labsName + ` finds where events end and leaves their fields unread and uncopied, since the
  parsing of fields is private to its client. This is less work, so it sets no ratio. It
  encodes only inside its HTTP server.
- ` + launchdarklyName + ` reads in a goroutine of its own, and so may use two processors.
- ` + ours + ` encodes with sse.AppendEvent; sse.Encoder, like the rivals, also writes into a
  bytes.Buffer.
`

// writeReport prints what was measured as Markdown that is also read well as it is.
func writeReport(w io.Writer, entries []*entry, rounds int) error {
	_, err := fmt.Fprintf(w, "%s; medians, %d rounds\n\n%s%s", conditions(), rounds, table(entries), notes)
	return err
}

func table(entries []*entry) string {
	rows := [][]string{
		{"task", "stream", "library", "ns/event", "speed", "allocs/event", "× fastest rival"},
		{"---", "---", "---", "--:", "--:", "--:", "--:"},
	}
	for i, e := range entries {
		row := []string{e.task, e.stream.name, e.library}
		if i > 0 && sameContest(e, entries[i-1]) {
			row[0], row[1] = "", ""
		}
		rows = append(rows, append(row, figures(e, fastestRival(entries, e))...))
	}
	return report.Table(rows)
}

func sameContest(a, b *entry) bool { return a.task == b.task && a.stream == b.stream }

// figures returns the cells of an entry, given the ns/event of its fastest rival.
func figures(e *entry, rival float64) []string {
	switch {
	case e.wrong != nil:
		return []string{"wrong: " + e.wrong.Error(), "", "", ""}
	case len(e.ns) == 0:
		return []string{"–", "–", "–", "–"}
	}
	ratio := "–"
	if !math.IsInf(rival, 1) {
		ratio = fmt.Sprintf("%.2f", rival/report.Median(e.ns))
	}
	return []string{
		report.Short(report.Median(e.ns)),
		speed(e.bytesPerSecond()),
		fmt.Sprintf("%.2f", report.Median(e.allocs)),
		ratio,
	}
}

// fastestRival returns the least ns/event of the rivals at what e does, +Inf if there
// is none.
func fastestRival(entries []*entry, e *entry) float64 {
	least := math.Inf(1)
	for _, other := range entries {
		if sameContest(e, other) && other.rival() && len(other.ns) > 0 {
			least = min(least, report.Median(other.ns))
		}
	}
	return least
}

func speed(bytesPerSecond float64) string {
	if bytesPerSecond < 1e9 {
		return report.Short(bytesPerSecond/1e6) + " MB/s"
	}
	return fmt.Sprintf("%.2f GB/s", bytesPerSecond/1e9)
}
