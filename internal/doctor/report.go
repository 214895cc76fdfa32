package doctor

import (
	"fmt"
	"net/url"
	"slices"
	"time"
)

// A Severity says how much a finding matters.
type Severity string

const (
	OK      Severity = "ok"
	Note    Severity = "note"    // good to know, or not to be told from outside
	Problem Severity = "problem" // something does not work as it should
)

// A Finding is what one look at the stream has shown.
type Finding struct {
	Check    string         `json:"check"` // what was looked at: one of the words in docs/proxies.md
	Severity Severity       `json:"severity"`
	Says     string         `json:"says"`               // with words of the server's own: escape it before a terminal shows it
	Measured map[string]any `json:"measured,omitempty"` // numbers, whose units are in their names
	Remedies []Remedy       `json:"remedies,omitempty"`
	More     string         `json:"more,omitempty"` // where the documentation says more
}

// A Remedy is what to write into whose configuration.
type Remedy struct {
	For string `json:"for"` // a program or service
	Do  string `json:"do"`
}

// A Report is all that was found, in the order in which it was looked at.
type Report struct {
	URL      string    `json:"url"`      // without a password
	Tidewire bool      `json:"tidewire"` // the server is a hub of ours
	Proxies  []string  `json:"proxies"`  // that show themselves
	Findings []Finding `json:"findings"`
}

// Problems counts the findings that are problems.
func (r *Report) Problems() int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == Problem {
			n++
		}
	}
	return n
}

// measured are the numbers of a finding.
type measured map[string]any

// find adds a finding, with what helps against its cause.
func (x *examination) find(check string, s Severity, c cause, m measured, format string, args ...any) {
	f := Finding{Check: check, Severity: s, Measured: m, Says: fmt.Sprintf(format, args...)}
	if c != "" {
		f.Remedies = x.report.order(remedies[c])
		f.More = "docs/proxies.md#" + string(c)
	}
	x.report.Findings = append(x.report.Findings, f)
}

func (x *examination) ok(check string, m measured, format string, args ...any) {
	x.find(check, OK, "", m, format, args...)
}

func (x *examination) note(check string, c cause, m measured, format string, args ...any) {
	x.find(check, Note, c, m, format, args...)
}

func (x *examination) problem(check string, c cause, m measured, format string, args ...any) {
	x.find(check, Problem, c, m, format, args...)
}

// order returns remedies with those for what shows itself first.
func (r *Report) order(all []Remedy) []Remedy {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b Remedy) int {
		switch shownA, shownB := r.shows(a.For), r.shows(b.For); {
		case shownA && !shownB:
			return -1
		case shownB && !shownA:
			return 1
		}
		return 0
	})
	return all
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

// brief writes a duration with about three digits.
func brief(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < 10*time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

// redacted returns a URL without its password.
func redacted(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return rawURL
	}
	return u.Redacted()
}
