package doctor_test

import (
	"flag"
	"testing"

	"github.com/tidewire/tidewire/internal/leaktest"
)

// TestMain lets many tests run at a time, whatever the processors: they wait.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	leaktest.Main(m)
}
