package cli

import (
	"fmt"
	"strings"
)

// A mistakes error is all that is wrong with a configuration.
type mistakes []mistake

// A mistake says what is wrong, where, and what would be right.
type mistake struct {
	at   place
	text string
}

func (m mistake) String() string { return m.at.String() + ": " + m.text }

func (m mistakes) Error() string {
	var all []string
	for _, one := range m {
		all = append(all, strings.ReplaceAll(one.String(), "\n", "\n            "))
	}
	return strings.Join(all, "\n          ")
}

// A place is where a setting stands: a name alone is a flag's or a variable's.
type place struct {
	file string
	line int
	name string
}

func (p place) String() string {
	switch {
	case p.file == "":
		return p.name
	case p.name == "":
		return fmt.Sprintf("%s:%d", p.file, p.line)
	}
	return fmt.Sprintf("%s:%d: %s", p.file, p.line, p.name)
}

func flagPlace(name string) place { return place{name: "--" + name} }
