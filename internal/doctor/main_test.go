package doctor_test

import (
	"testing"

	"github.com/tidewire/tidewire/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
