package load

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strconv"
	"strings"
)

//go:embed report.html
var reportText string

var reportTemplate = template.Must(template.New("report").Parse(reportText))

// WriteHTML writes the result as a page of its own, which asks no server for anything.
func (res *Result) WriteHTML(w io.Writer) error {
	type pair struct{ Name, Value string }
	page := struct {
		*Result
		Title      string
		Verdict    string
		Faulty     bool
		Rows       []row
		Timings    []timing
		Conditions []pair
		Plots      []plot
	}{
		Result:  res,
		Title:   res.Conditions.Title(),
		Verdict: res.Verdict(),
		Faulty:  res.Faults.Any(),
		Plots:   res.plots(),
	}
	page.Rows, page.Timings = res.rows(), res.timings()
	c := &res.Conditions
	page.Conditions = []pair{
		{"command", strings.Join(c.Command, " ")},
		{"hub", c.URL},
		{"topics", c.Topics},
		{"started", c.Started.Format("2006-01-02 15:04:05 MST")},
		{"run", c.Run},
		{"client", strings.TrimSpace(c.Form + ", version " + c.Version + ", " + c.Go)},
		{"machine of the client", fmt.Sprintf("%s, %d cores", c.System, c.Cores)},
	}
	if s := res.Server; s != nil {
		page.Conditions = append(page.Conditions, pair{"server", fmt.Sprintf("%s, process %s", s.Name, strings.Trim(fmt.Sprint(s.PIDs), "[]"))})
	}
	return reportTemplate.Execute(w, page)
}

// Name, Value and Rate are what the report's template sees of a row.
func (r row) Name() string  { return r.name }
func (r row) Value() string { return r.value }
func (r row) Rate() string  { return r.rate }

// Cells are what the report's template sees of a timing.
func (t timing) Cells() []string {
	return []string{t.name, ms(t.P50), ms(t.P90), ms(t.P99), ms(t.P999), ms(t.Max)}
}

// A plot is a drawing in SVG. Colours are the page's.
type plot struct {
	Title, Note string
	Lines       []string // their names, where there are several
	SVG         template.HTML
}

// plots are those that there is something to draw for.
func (res *Result) plots() (all []plot) {
	if d := res.Delivery; d != nil && len(d.Curve) > 1 {
		lines := []line{{name: "every delivery", points: percentileLine(d.Curve)}}
		if len(d.CurveLast) > 1 {
			lines = append(lines, line{name: "every event, to the last subscriber", points: percentileLine(d.CurveLast)})
		}
		all = append(all, percentilePlot("Latency", "milliseconds from when an event was due, which so many do not exceed", lines))
	}
	if s := res.Storm; s != nil && len(s.Curve) > 1 {
		all = append(all, percentilePlot("Caught up", "milliseconds from the storm's begin, in which so many subscribers had all they had missed", []line{{points: percentileLine(s.Curve)}}))
	}
	if rates := res.over(func(a, b Sample) float64 { return float64(b.Delivered-a.Delivered) / (b.At - a.At) }); res.Delivery != nil && len(rates) > 1 {
		all = append(all, timePlot("Deliveries", "a second", []line{{points: rates}}))
	}
	if res.Server == nil {
		return all
	}
	if cpu := res.over(func(a, b Sample) float64 { return (b.ServerCPU - a.ServerCPU) / (b.At - a.At) }); len(cpu) > 1 {
		all = append(all, timePlot("Server CPU", "cores", []line{{points: cpu}}))
	}
	if memory := res.over(func(_, b Sample) float64 { return float64(b.ServerRSS) / 1e6 }); len(memory) > 1 {
		all = append(all, timePlot("Server memory", "MB resident", []line{{points: memory}}))
	}
	return all
}

// over draws something of each two samples over time.
func (res *Result) over(of func(a, b Sample) float64) (points []xy) {
	for i := 1; i < len(res.Timeline); i++ {
		if a, b := res.Timeline[i-1], res.Timeline[i]; b.At-a.At > 0.01 {
			points = append(points, xy{b.At, of(a, b)})
		}
	}
	return points
}

type xy struct{ x, y float64 }

type line struct {
	name   string
	points []xy
}

// percentileLine spreads shares so that each nine takes as much room as the one before.
func percentileLine(curve []Point) (points []xy) {
	most := 0.0
	for _, p := range curve {
		if p.Share < 1 {
			most = -math.Log10(1 - p.Share)
		}
		points = append(points, xy{most, p.Milliseconds})
	}
	return points
}

func percentilePlot(title, note string, lines []line) plot {
	most := 1.0
	for _, l := range lines {
		most = max(most, l.points[len(l.points)-1].x)
	}
	var ticks []tick
	for _, t := range []tick{{0, "0 %"}, {-math.Log10(0.5), "50 %"}, {1, "90 %"}, {2, "99 %"}, {3, "99.9 %"}, {4, "99.99 %"}, {5, "99.999 %"}, {6, "99.9999 %"}, {7, "7 nines"}, {8, "8 nines"}} {
		if t.at <= most {
			ticks = append(ticks, t)
		}
	}
	return newPlot(title, note, lines, most, ticks)
}

func timePlot(title, note string, lines []line) plot {
	most := 0.0
	for _, l := range lines {
		most = max(most, l.points[len(l.points)-1].x)
	}
	var ticks []tick
	step := niceStep(most, 8)
	for i := 0; float64(i)*step <= most; i++ {
		ticks = append(ticks, tick{float64(i) * step, number3(float64(i)*step) + " s"})
	}
	return newPlot(title, note, lines, most, ticks)
}

type tick struct {
	at   float64
	text string
}

// The size of a plot, in units of the drawing.
const (
	plotWidth, plotHeight   = 720, 260
	plotLeft, plotRight     = 64, 16
	plotTop, plotBottom     = 12, 30
	innerWidth, innerHeight = plotWidth - plotLeft - plotRight, plotHeight - plotTop - plotBottom
)

func newPlot(title, note string, lines []line, width float64, ticks []tick) plot {
	height := 0.0
	for _, l := range lines {
		for _, p := range l.points {
			height = max(height, p.y)
		}
	}
	step := niceStep(height, 5)
	height = max(step*math.Ceil(height/step), step)
	x := func(v float64) float64 { return plotLeft + v/max(width, 1e-9)*innerWidth }
	y := func(v float64) float64 { return plotTop + (1-v/height)*innerHeight }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img" aria-label="%s: %s">`, plotWidth, plotHeight, title, note)
	for i := 0; float64(i)*step <= height*1.0001; i++ {
		v := float64(i) * step
		fmt.Fprintf(&b, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`, plotLeft, plotWidth-plotRight, y(v), y(v))
		fmt.Fprintf(&b, `<text class="tick" x="%d" y="%.1f" text-anchor="end">%s</text>`, plotLeft-8, y(v)+4, number3(v))
	}
	for _, t := range ticks {
		fmt.Fprintf(&b, `<line class="mark" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, x(t.at), x(t.at), plotHeight-plotBottom, plotHeight-plotBottom+4)
		fmt.Fprintf(&b, `<text class="tick" x="%.1f" y="%d" text-anchor="middle">%s</text>`, x(t.at), plotHeight-plotBottom+18, t.text)
	}
	p := plot{Title: title, Note: note}
	for i, l := range lines {
		var at strings.Builder
		for _, q := range l.points {
			fmt.Fprintf(&at, "%.1f,%.1f ", x(q.x), y(max(0, q.y)))
		}
		fmt.Fprintf(&b, `<polyline class="line%d" points="%s"/>`, i, strings.TrimSpace(at.String()))
		if l.name != "" {
			p.Lines = append(p.Lines, l.name)
		}
	}
	b.WriteString(`</svg>`)
	p.SVG = template.HTML(b.String()) // its text is all ours
	return p
}

// niceStep returns 1, 2 or 5 times a power of ten, so that most has about so many steps.
func niceStep(most float64, steps int) float64 {
	if most <= 0 {
		return 1
	}
	rough := most / float64(steps)
	power := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, m := range []float64{1, 2, 5} {
		if rough <= m*power {
			return m * power
		}
	}
	return 10 * power
}

// number3 writes a number short, with k and M.
func number3(v float64) string {
	switch {
	case v >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 4, 64) + " M"
	case v >= 1e4:
		return strconv.FormatFloat(v/1e3, 'g', 4, 64) + " k"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
