package cli

import (
	"time"

	"github.com/tidewire/tidewire/sse"
)

// For the fuzz targets.

// VisibleForms returns an event in every form that may reach a terminal.
func VisibleForms(ev sse.Event) map[string]string {
	human := humanForm{now: func() time.Time { return time.Time{} }}
	return map[string]string{
		"human": string(human.append(nil, ev)),
		"JSON":  string(jsonForm(nil, ev)),
		"data":  string(visibleDataForm(nil, ev)),
		"note":  visible(gapIn(ev.Data)) + visible(problemIn(ev.Data)) + visible(ev.Type),
	}
}

// EncodeLines encodes an input that comes in these chunks as events.
func EncodeLines(chunks ...[]byte) ([]byte, error) {
	var (
		l   lineEvents
		out []byte
		err error
	)
	for i, c := range chunks {
		if out, err = l.encode(out, c, i == len(chunks)-1); err != nil {
			return out, err
		}
	}
	return out, nil
}
