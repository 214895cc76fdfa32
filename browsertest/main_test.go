package browsertest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/internal/leaktest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(binaryDir) // it lies in the system's temporary folder
	if left := leaktest.Wait(); code == 0 && len(left) > 0 {
		fmt.Fprintf(os.Stderr, "%d goroutines left behind:\n\n%s\n", len(left), strings.Join(left, "\n\n"))
		code = 1
	}
	os.Exit(code)
}
