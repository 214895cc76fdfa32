// Package report writes what the benchmarks print.
package report

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// Table pads the cells of a Markdown table, whose second row tells each column's side,
// so that it is also read well as it is.
func Table(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			fill := " "
			if n == 1 {
				fill = "-"
			}
			pad := strings.Repeat(fill, widths[i]-utf8.RuneCountInString(cell))
			if strings.HasSuffix(rows[1][i], ":") {
				b.WriteString("| " + pad + cell + " ")
			} else {
				b.WriteString("| " + cell + pad + " ")
			}
		}
		b.WriteString("|\n")
	}
	return b.String()
}

// Median returns the middle of some figures, of which there must be one.
func Median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// Short leaves out digits that are noise.
func Short(x float64) string {
	if x < 100 {
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.0f", x)
}

// Processor returns the processor's name where the system tells it in a file, as
// Linux does.
func Processor() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	_, rest, _ := strings.Cut(string(b), "model name")
	line, _, _ := strings.Cut(rest, "\n")
	return cmp.Or(strings.TrimLeft(line, "\t :"), "unknown processor")
}
