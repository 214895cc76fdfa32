package cli

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
	"github.com/spf13/cobra"
)

// A given is what a setting was given.
type given struct {
	from   source
	values []givenValue // more than one, or none, of a list only
}

// A givenValue is one value, and where it stands, as the beginning of a message.
type givenValue struct {
	text string
	at   place
}

// texts are the values alone.
func (g given) texts() []string {
	var all []string
	for _, v := range g.values {
		all = append(all, v.text)
	}
	return all
}

// off tells whether it is a toggle's false.
func (g given) off(kind settingKind) bool {
	if kind != toggleSetting || len(g.values) == 0 {
		return false
	}
	on, err := strconv.ParseBool(g.values[0].text)
	return err == nil && !on
}

// A source is where a setting comes from; the later counts.
type source int

const (
	byDefault source = iota
	byFile
	byEnvironment
	byFlag
)

// A configFile is one that is being read: its keys are the names of settings.
type configFile struct {
	name     string
	parser   unstable.Parser
	settings []setting
	given    map[string]given
	lines    map[string]int // where each key stands
	mistakes mistakes
}

// parseConfigFile reads a file in TOML. Each mistake begins with the file's name and a line.
func parseConfigFile(name string, text []byte, settings []setting) (map[string]given, mistakes) {
	f := &configFile{name: name, settings: settings, given: map[string]given{}, lines: map[string]int{}}
	f.parser.Reset(slices.Clip(text))
	for f.parser.NextExpression() {
		f.take(f.parser.Expression())
	}
	var wrong *unstable.ParserError
	if err := f.parser.Error(); errors.As(err, &wrong) {
		f.mistake(f.line(f.parser.Range(wrong.Highlight)), "", "it is no TOML: %s", wrong.Message)
	}
	return f.given, f.mistakes
}

func (f *configFile) line(r unstable.Range) int {
	return 1 + bytes.Count(f.parser.Data()[:r.Offset], []byte("\n"))
}

// mistake notes one in a line; name may be "".
func (f *configFile) mistake(line int, name, format string, args ...any) {
	f.mistakes = append(f.mistakes, mistake{place{f.name, line, name}, fmt.Sprintf(format, args...)})
}

// take takes one expression in: a key with its value, or the head of a table.
func (f *configFile) take(n *unstable.Node) {
	var key []string
	keys := n.Key()
	line := 0
	for keys.Next() {
		if line == 0 {
			line = f.line(keys.Node().Raw)
		}
		key = append(key, string(keys.Node().Data))
	}
	name := strings.Join(key, ".")
	if n.Kind != unstable.KeyValue {
		f.mistake(line, "", "[%s] begins a table, and there are none: take that line away, and let the keys stand by themselves", name)
		return
	}
	i := slices.IndexFunc(f.settings, func(s setting) bool { return s.name == name })
	switch {
	case len(key) > 1:
		f.mistake(line, name, "keys have no dots: name one of the settings")
	case name == "config":
		f.mistake(line, name, "a file cannot name another one: write all in one")
	case i < 0 && slices.ContainsFunc(new(draft).settings(), func(s setting) bool { return s.name == name }):
		f.mistake(line, name, "the demo keeps its history in memory, and has no such setting: take it away")
	case i < 0:
		f.mistake(line, "", "there is no key %q%s", name, didYouMean(name, f.settings))
	case f.lines[name] > 0:
		f.mistake(line, name, "it stands in line %d too: keep one of them", f.lines[name])
	default:
		f.lines[name] = line
		if values, ok := f.values(&f.settings[i], n.Value(), line); ok {
			f.given[name] = given{byFile, values}
		}
	}
}

// values returns what stands behind a key.
func (f *configFile) values(s *setting, n *unstable.Node, line int) (all []givenValue, ok bool) {
	if n.Kind != unstable.Array {
		v, ok := f.value(s, n, line)
		return []givenValue{v}, ok
	}
	if !s.list {
		f.mistake(line, s.name, "it is a list, and must be %s", s.kind.inFile())
		return nil, false
	}
	ok = true
	for c := n.Children(); c.Next(); {
		at := line
		if r := c.Node().Raw; r.Length > 0 {
			at = f.line(r)
		}
		v, fits := f.value(s, c.Node(), at)
		all, ok = append(all, v), ok && fits
	}
	return all, ok
}

// value returns one value as a flag would have it.
func (f *configFile) value(s *setting, n *unstable.Node, line int) (givenValue, bool) {
	v := givenValue{at: place{f.name, line, s.name}}
	if !slices.Contains(s.kind.nodes(), n.Kind) {
		f.mistake(line, s.name, "it is %s, and must be %s", kindWords(n.Kind), s.kind.inFile())
		return v, false
	}
	v.text = string(n.Data)
	if n.Kind == unstable.Integer || n.Kind == unstable.Float {
		var one map[string]any
		if err := toml.Unmarshal([]byte("n = "+v.text), &one); err != nil {
			f.mistake(line, s.name, "%s is no number that fits: it must be %s", v.text, s.kind.inFile())
			return v, false
		}
		v.text = fmt.Sprint(one["n"])
	}
	return v, true
}

// nodes are the kinds of TOML that a value may be.
func (k settingKind) nodes() []unstable.Kind {
	switch k {
	case toggleSetting:
		return []unstable.Kind{unstable.Bool}
	case countSetting:
		return []unstable.Kind{unstable.Integer}
	case rateSetting:
		return []unstable.Kind{unstable.Integer, unstable.Float}
	case sizeSetting, durationSetting:
		return []unstable.Kind{unstable.String, unstable.Integer}
	}
	return []unstable.Kind{unstable.String}
}

// inFile says what a value must be.
func (k settingKind) inFile() string {
	switch k {
	case toggleSetting:
		return "true or false, without quotes"
	case countSetting:
		return "a whole number, without quotes"
	case rateSetting:
		return "a number, without quotes"
	case sizeSetting:
		return `a size such as "64MiB", in quotes`
	case durationSetting:
		return `a duration such as "1m30s", in quotes`
	}
	return "text, in quotes"
}

func kindWords(k unstable.Kind) string {
	switch k {
	case unstable.String:
		return "text"
	case unstable.Bool:
		return "true or false"
	case unstable.Integer, unstable.Float:
		return "a number"
	case unstable.Array:
		return "a list"
	case unstable.InlineTable:
		return "a table"
	}
	return "a date or a time"
}

// didYouMean says which settings have a name like one that does not exist.
func didYouMean(name string, settings []setting) string {
	if similar := similarSettings(name, settings); len(similar) > 0 {
		return "; did you mean " + strings.Join(similar, " or ") + "?"
	}
	return `: "tidewire config reference" has them all`
}

// similarSettings returns those that differ little from a name, or begin with it.
func similarSettings(name string, settings []setting) []string {
	name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	if len(name) < 3 {
		return nil
	}
	commands := cobra.Command{SuggestionsMinimumDistance: 2} // which knows how to compare
	for _, s := range settings {
		commands.AddCommand(&cobra.Command{Use: s.name, Run: func(*cobra.Command, []string) {}})
	}
	similar := commands.SuggestionsFor(name)
	if slices.Contains(similar, name) {
		return []string{name}
	}
	return similar[:min(len(similar), 3)]
}
