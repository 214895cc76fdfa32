package hubtest

import "testing"

// Checks returns all checks by "statement/check".
func Checks() map[string]func(testing.TB, Harness) {
	all := make(map[string]func(testing.TB, Harness))
	for _, s := range statements {
		for _, c := range s.checks {
			all[s.name+"/"+c.name] = c.on
		}
	}
	return all
}
