package hub

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestProblems_AreDocumented compares the table in docs/http.md with the code.
func TestProblems_AreDocumented(t *testing.T) {
	b, err := os.ReadFile("../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| (`[a-z`, -]+) \\| (\\d{3}) \\|").FindAllStringSubmatch(string(b), -1) {
		for name := range strings.SplitSeq(row[1], ", ") {
			documented[strings.Trim(name, "`")] = row[2]
		}
	}
	for p, want := range problems {
		if got := documented[string(p)]; got != fmt.Sprint(want.status) {
			t.Errorf("docs/http.md has status %q for %s, want %d", got, p, want.status)
		}
	}
	if len(documented) != len(problems) {
		t.Errorf("docs/http.md has %d problems, want %d", len(documented), len(problems))
	}
}
