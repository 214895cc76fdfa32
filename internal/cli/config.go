package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/tidewire/tidewire/server"
)

// A configReader reads what a server is told, as often as need be: SIGHUP has it read again.
type configReader struct {
	std    IO
	demo   bool
	flags  *pflag.FlagSet
	file   string
	adjust func(*server.Config) // what the command itself adds; nil for nothing
}

// A configuration is what a server was told, and what that means.
type configuration struct {
	draft
	file     string // "" for none
	settings []setting
	given    map[string]given
	warnings []string
}

// read reads all there is, and checks it as a whole. The error is [mistakes]; what comes
// beside it is what could be read.
func (r *configReader) read() (*configuration, error) {
	c := &configuration{draft: draft{demo: r.demo, memory: r.demo}, given: map[string]given{}}
	c.settings = c.draft.settings()
	var (
		wrong  mistakes
		inFile map[string]given
	)
	if c.file = r.fileName(); c.file != "" {
		text, err := os.ReadFile(c.file)
		if err != nil {
			wrong = append(wrong, mistake{flagPlace("config"), err.Error() + ": name a file that can be read"})
		} else {
			inFile, wrong = parseConfigFile(c.file, text, c.settings)
		}
	}
	failed := map[string]bool{}
	for _, s := range c.settings {
		g := r.given(&s, inFile)
		c.given[s.name] = g
		for _, v := range g.values {
			if err := s.read(v.text); err != nil {
				failed[s.name] = true
				wrong = append(wrong, mistake{v.at, err.Error()})
			}
		}
	}
	wrong = append(wrong, c.check(failed)...)
	c.complete()
	if r.adjust != nil {
		r.adjust(&c.server)
	}
	c.warn()
	c.warnings = append(c.warnings, r.strange()...)
	if len(wrong) > 0 {
		slices.SortStableFunc(wrong, func(a, b mistake) int { return a.at.line - b.at.line })
		return c, wrong
	}
	return c, nil
}

// fileName is that of the configuration file, "" for none.
func (r *configReader) fileName() string {
	if r.file != "" || r.flags.Changed("config") {
		return r.file
	}
	return r.std.Getenv(variable("config"))
}

// given returns what counts of all that a setting was given.
func (r *configReader) given(s *setting, inFile map[string]given) given {
	if f := r.flags.Lookup(s.name); f.Changed {
		return give(byFlag, flagPlace(s.name), f.Value.(*flagValue).given...)
	}
	if text := r.std.Getenv(s.variable()); text != "" {
		if !s.list {
			return give(byEnvironment, place{name: s.variable()}, text)
		}
		some := strings.FieldsFunc(text, func(c rune) bool { return c == '\n' || c == ';' })
		for i := range some {
			some[i] = strings.TrimSpace(some[i])
		}
		return give(byEnvironment, place{name: s.variable()}, slices.DeleteFunc(some, func(v string) bool { return v == "" })...)
	}
	if g, ok := inFile[s.name]; ok {
		return g
	}
	if s.def != "" {
		return give(byDefault, flagPlace(s.name), s.def)
	}
	return given{}
}

func give(from source, at place, texts ...string) given {
	g := given{from: from}
	for _, text := range texts {
		g.values = append(g.values, givenValue{text, at})
	}
	return g
}

// strange returns what may be wrong with the environment: a variable that is no setting's,
// but has nearly the name of one.
func (r *configReader) strange() (warnings []string) {
	settings := new(draft).settings()
	others := []string{"TIDEWIRE_URL", "TIDEWIRE_TOKEN", "TIDEWIRE_TYPE", "TIDEWIRE_ID", variable("config")}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		rest, ours := strings.CutPrefix(name, "TIDEWIRE_")
		if !ours || r.std.Getenv(name) == "" || slices.Contains(others, name) || slices.ContainsFunc(settings, func(s setting) bool { return s.variable() == name }) {
			continue
		}
		if similar := similarSettings(rest, settings); len(similar) > 0 {
			for i := range similar {
				similar[i] = variable(similar[i])
			}
			warnings = append(warnings, fmt.Sprintf("the environment has %s, which is no setting; did you mean %s?", name, strings.Join(similar, " or ")))
		}
	}
	return warnings
}

// isGiven tells whether one of these settings was given, and not left to its default.
func (c *configuration) isGiven(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		g := c.given[name]
		return g.from != byDefault && len(g.values) > 0 && g.values[0].text != ""
	})
}

// place is where a setting stands, or the flag with which it could.
func (c *configuration) place(name string) place {
	if g := c.given[name]; len(g.values) > 0 {
		return g.values[0].at
	}
	return flagPlace(name)
}

// complete puts what was read where the server has it.
func (c *configuration) complete() {
	s := &c.server
	if c.memory {
		s.Data, s.MinFree, s.Sync = "", 0, 0
	}
	s.Access = c.auth.complete(c.open())
	s.Hub.Limits.TypeSize = s.Hub.Limits.IDSize
	if c.tls != tlsOff {
		s.Transport.TLS = server.TLSMode(c.tls)
	}
}
