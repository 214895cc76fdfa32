package load

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A row of the result: what, how much, how fast.
type row struct{ name, value, rate string }

// A timing is a row of percentiles.
type timing struct {
	name string
	*Percentiles
}

// Title says in a line what was asked for.
func (c *Conditions) Title() string {
	subscribers := fmt.Sprintf("%s on %s", plural(int64(c.Subscribers), "subscriber"), plural(int64(c.TopicCount), "topic"))
	if c.Subscribers == 0 {
		subscribers = "no subscribers, " + plural(int64(c.TopicCount), "topic")
	}
	if c.Idle {
		return fmt.Sprintf("%s, idle for %s", subscribers, seconds(c.Duration))
	}
	events := fmt.Sprintf("%s, events of %s bytes", plural(int64(c.Publishers), "publisher"), Count(int64(c.Size)))
	if c.Batch > 1 {
		events += fmt.Sprintf(", %s a request", Count(int64(c.Batch)))
	}
	if c.Storm > 0 {
		return fmt.Sprintf("%s, which all miss %s and come back at once; %s", subscribers, plural(int64(c.Storm), "event"), events)
	}
	rate := "as fast as answered"
	if c.Rate > 0 {
		rate = strconv.FormatFloat(c.Rate, 'f', -1, 64) + " a second"
	}
	return fmt.Sprintf("%s; %s, %s, for %s", subscribers, events, rate, seconds(c.Duration))
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return Count(n) + " " + what + "s"
}

func seconds(s float64) string {
	return time.Duration(s * 1e9).Round(time.Millisecond).String()
}

func perSec(v float64) string {
	if v < 10 {
		return strconv.FormatFloat(v, 'f', 2, 64) + "/s"
	}
	return Count(int64(v+0.5)) + "/s"
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// rows are the numbers without the percentiles.
func (res *Result) rows() (rows []row) {
	add := func(name, value, rate string) { rows = append(rows, row{name, value, rate}) }
	took := func(n int64, s float64) string { return fmt.Sprintf("%s in %.2f s", Count(n), s) }
	if c := res.Connect; c != nil {
		add("connected", took(int64(c.Subscribers), c.Seconds), perSec(c.PerSecond))
	}
	if p := res.Publish; p != nil {
		add("published", took(p.Events, p.Seconds), perSec(p.PerSecond))
	}
	if d := res.Delivery; d != nil && (d.Expected > 0 || d.Delivered > 0) {
		value := took(d.Delivered, d.Seconds)
		if d.Delivered < d.Expected {
			value += fmt.Sprintf(" (of %s)", Count(d.Expected))
		}
		add("delivered", value, perSec(d.PerSecond))
	}
	if s := res.Storm; s != nil {
		add("caught up", took(s.CaughtUp, s.Seconds), perSec(perSecond(s.CaughtUp, s.Seconds)))
	}
	if s := res.Server; s != nil {
		add("server CPU", cpuText(s.User, s.System, s.PerMillion, res.unit()), "")
		memory := fmt.Sprintf("%s %s", megabytes(s.Bytes), s.Memory)
		if s.Peak > 0 {
			memory += fmt.Sprintf("; peak %s RSS", megabytes(s.Peak))
		}
		if s.BytesPerSubscriber != 0 {
			memory += fmt.Sprintf("; %s without subscribers, %s bytes for each", megabytes(s.BeforeBytes), Count(int64(s.BytesPerSubscriber+0.5)))
		}
		add("server memory", memory, "")
	}
	c := res.Client
	if c.User+c.System > 0 {
		add("client CPU", cpuText(c.User, c.System, c.PerMillion, res.unit())+fmt.Sprintf("; %.0f %% of the cores", c.Share*100), "")
	}
	if m := res.Machine; m != nil {
		add("other CPU", fmt.Sprintf("%.2f s of others, %.2f s stolen, in %.2f s", m.Others, m.Stolen, m.Seconds), "")
	}
	return rows
}

func (res *Result) unit() string {
	if res.Conditions.Subscribers == 0 {
		return "events"
	}
	return "deliveries"
}

func cpuText(user, system, perMillion float64, unit string) string {
	s := fmt.Sprintf("%.2f s (user %.2f, system %.2f)", user+system, user, system)
	if perMillion > 0 {
		s += fmt.Sprintf("; %.2f s per million %s", perMillion, unit)
	}
	return s
}

// timings are the percentiles that there are.
func (res *Result) timings() (all []timing) {
	add := func(name string, p *Percentiles) {
		if p != nil {
			all = append(all, timing{name, p})
		}
	}
	if d := res.Delivery; d != nil {
		add("delivery", d.Latency)
		last := "to the last subscriber"
		if d.LastPartly {
			last += " (first events)"
		}
		add(last, d.Last)
	}
	if s := res.Storm; s != nil {
		add("caught up", s.Times)
		add("coming back: answer", s.Heads)
	}
	if p := res.Publish; p != nil {
		add("publish: answer", p.Answer)
	}
	if c := res.Connect; c != nil {
		add("connecting: answer", c.Head)
	}
	return all
}

// ms writes milliseconds with three digits that mean something.
func ms(v float64) string {
	switch {
	case v < 10:
		return strconv.FormatFloat(v, 'f', 3, 64)
	case v < 100:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 1000:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return Count(int64(v + 0.5))
}

// Verdict says whether the run is a measurement.
func (res *Result) Verdict() string {
	switch {
	case res.Faults.Any():
		return "NOT A MEASUREMENT: " + res.Faults.String()
	case res.Interrupted:
		return "interrupted; what came, came once and in order"
	case res.Conditions.Idle:
		return "no stream was closed by the server"
	case res.Conditions.Subscribers == 0:
		return "every event was answered with success"
	}
	return "every subscriber has every event once and in order"
}

// Table writes the result for a terminal.
func (res *Result) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n\n", res.Conditions.URL, res.Conditions.Title())
	for _, r := range res.rows() {
		fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("%-14s %-30s %12s", r.name, r.value, r.rate), " "))
	}
	if all := res.timings(); len(all) > 0 {
		fmt.Fprintf(&b, "\n%-28s %9s %9s %9s %9s %9s\n", "milliseconds", "50 %", "90 %", "99 %", "99.9 %", "max")
		for _, t := range all {
			fmt.Fprintf(&b, "%-28s %9s %9s %9s %9s %9s\n", t.name, ms(t.P50), ms(t.P90), ms(t.P99), ms(t.P999), ms(t.Max))
		}
	}
	fmt.Fprintf(&b, "\n%-14s %s\n", "checked", res.Verdict())
	if res.Faults.First != "" {
		fmt.Fprintf(&b, "%-14s %s\n", "", res.Faults.First)
	}
	for _, w := range res.Warnings {
		fmt.Fprintf(&b, "%-14s %s\n", "warning", w)
	}
	return b.String()
}
