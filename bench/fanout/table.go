//go:build linux

package main

import (
	"fmt"
	"strings"

	"github.com/tidewire/tidewire/bench/internal/report"
	"github.com/tidewire/tidewire/internal/load"
)

// A column is a figure of a result.
type column struct {
	name     string
	decimals int
	of       func(*load.Result) float64
}

// A figure is the one that a workload is about.
type figure struct {
	name     string
	decimals int
	of       func(*load.Result) float64
	less     bool // is better
}

// The columns that several workloads have.
var (
	publishes  = column{"publishes/s", 0, func(r *load.Result) float64 { return r.Publish.PerSecond }}
	deliveries = column{"deliveries/s", 0, func(r *load.Result) float64 { return r.Delivery.PerSecond }}
	p50        = column{"p50 ms", 2, func(r *load.Result) float64 { return percentile(r.Delivery.Latency).P50 }}
	p99        = column{"p99 ms", 2, func(r *load.Result) float64 { return percentile(r.Delivery.Latency).P99 }}
	perMillion = column{"s/million", 2, func(r *load.Result) float64 { return r.Server.PerMillion }}
	processors = column{"processors", 2, func(r *load.Result) float64 { return share(r, r.Server.User+r.Server.System) }}
	client     = column{"client", 2, func(r *load.Result) float64 { return share(r, r.Client.User+r.Client.System) }}
	others     = column{"others", 2, othersOf}
	costs      = []column{perMillion, processors, client, others}

	stormColumns = []column{
		{"all caught up ms", 1, func(r *load.Result) float64 { return r.Storm.Seconds * 1e3 }},
		{"half caught up ms", 1, func(r *load.Result) float64 { return percentile(r.Storm.Times).P50 }},
		perMillion, others,
	}
)

// percentile returns zeros where nothing was measured.
func percentile(p *load.Percentiles) load.Percentiles {
	if p == nil {
		return load.Percentiles{}
	}
	return *p
}

// share is in processors.
func share(r *load.Result, seconds float64) float64 {
	if r.Machine == nil {
		return 0
	}
	return ratio(seconds, r.Machine.Seconds)
}

// unsent returns the share of the events that the rate asks for and that were not sent.
func unsent(r *load.Result) float64 {
	if r.Publish == nil {
		return 0
	}
	return ratio(float64(r.Publish.Unsent), float64(r.Publish.Unsent+r.Publish.Events))
}

func ratio(a, b float64) float64 {
	if b <= 0 {
		return 0
	}
	return a / b
}

// othersOf returns what others used, in processors: while subscribers connected, where
// nothing else was measured long enough.
func othersOf(r *load.Result) float64 {
	m := r.Machine
	if r.Delivery == nil && r.Connect != nil && (m == nil || r.Connect.Seconds > m.Seconds) {
		m = r.Connect.Machine
	}
	if m == nil {
		return 0
	}
	return ratio(m.Others, m.Seconds)
}

// A target is one of ours, for the workload's figure or for a column: at least or at most
// a value, or that times a server's figure.
type target struct {
	server      string
	column      *column // nil: the figure
	least, most float64
	of          string // another server; "": the value is absolute
}

// verdict tells whether a target is reached, among rows.
func (t *target) verdict(w *workload, rows []*row, own *row) string {
	of, name := w.main.of, ""
	if t.column != nil {
		of, name = t.column.of, t.column.name+" "
	}
	bound, sign := t.most, "≤"
	if t.least > 0 {
		bound, sign = t.least, "≥"
	}
	text := fmt.Sprintf("%s%s %s", name, sign, thousands(int(bound)))
	if t.of != "" {
		text = fmt.Sprintf("%s%s %.2f × %s", name, sign, bound, t.of)
		other := find(rows, t.of)
		if w.alone && other != nil && other.name == limitName || other == nil || other.wrong != "" {
			return text + ", which is missing"
		}
		bound *= other.median(of)
	}
	got := own.median(of)
	if t.least > 0 && got >= bound || t.least == 0 && got <= bound {
		return text + " ✓"
	}
	return text + " ✗"
}

// find returns the row of a server, or nil.
func find(rows []*row, name string) *row {
	for _, r := range rows {
		if r.name == name {
			return r
		}
	}
	return nil
}

// median is that of a row's rounds.
func (r *row) median(of func(*load.Result) float64) float64 {
	var all []float64
	for _, res := range r.results {
		all = append(all, of(res))
	}
	return report.Median(all)
}

// table writes the rows of a workload.
func (w *workload) table(c *config, rows []*row) string {
	cells := [][]string{{"server", w.main.name}, {"---", "--:"}}
	ratios := []struct{ name, title string }{{limitName, "× limit"}, {nchanName, "× Nchan"}}
	for _, other := range ratios {
		cells[0], cells[1] = append(cells[0], other.title), append(cells[1], "--:")
	}
	cells[0], cells[1] = append(cells[0], "target"), append(cells[1], "---")
	for _, col := range w.columns {
		cells[0], cells[1] = append(cells[0], col.name), append(cells[1], "--:")
	}
	var notes strings.Builder
	for _, r := range rows {
		if r.wrong != "" {
			line := make([]string, len(cells[0]))
			line[0], line[1] = r.title, "NO RESULT"
			cells = append(cells, line)
			fmt.Fprintf(&notes, "\n%s: NO RESULT, as %s\n", r.title, r.wrong)
			continue
		}
		line := []string{r.title, number(r.median(w.main.of), w.main.decimals)}
		for _, other := range ratios {
			line = append(line, w.beside(r, find(rows, other.name)))
		}
		line = append(line, w.verdicts(rows, r))
		for _, col := range w.columns {
			line = append(line, number(r.median(col.of), col.decimals))
		}
		cells = append(cells, line)
		if r.replays > 0 && w.options(c).Storm > r.replays {
			fmt.Fprintf(&notes, "\n%s %s\n", r.title, r.note)
		}
		if unsent := r.median(unsent); unsent > 0.01 {
			fmt.Fprintf(&notes, "\n%s: could not keep the rate; %.0f %% of the events were due and not sent.\n", r.title, 100*unsent)
		}
	}
	return report.Table(cells) + notes.String()
}

// beside is a row's figure over that of another.
func (w *workload) beside(r, other *row) string {
	if w.alone && other != nil && other.name == limitName || other == nil || other.wrong != "" || other.median(w.main.of) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", r.median(w.main.of)/other.median(w.main.of))
}

func (w *workload) verdicts(rows []*row, r *row) string {
	var all []string
	for _, t := range w.targets {
		if t.server == r.name {
			all = append(all, t.verdict(w, rows, r))
		}
	}
	if len(all) == 0 {
		return "–"
	}
	return strings.Join(all, "; ")
}

// number writes a figure, with commas between thousands.
func number(x float64, decimals int) string {
	s := fmt.Sprintf("%.*f", decimals, x)
	whole, fraction, _ := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction == "" {
		return whole
	}
	return whole + "." + fraction
}

func thousands(n int) string { return number(float64(n), 0) }
