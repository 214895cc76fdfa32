package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/tidewire/tidewire/sse"
)

// A form appends an event as it is printed, its last line break included.
type form func(dst []byte, ev sse.Event) []byte

// jsonForm is an object a line.
func jsonForm(dst []byte, ev sse.Event) []byte {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	err := enc.Encode(struct {
		Type string `json:"type"`
		Data string `json:"data"`
		ID   string `json:"id"`
	}{ev.Type, ev.Data, ev.ID})
	if err != nil {
		panic(err) // strings can be encoded
	}
	dst = appendVisibleJSON(dst, bytes.TrimSuffix(line.Bytes(), []byte("\n")))
	return append(dst, '\n')
}

// dataForm is the data as it is, for programs.
func dataForm(dst []byte, ev sse.Event) []byte {
	return append(append(dst, ev.Data...), '\n')
}

// visibleDataForm is the data for a terminal.
func visibleDataForm(dst []byte, ev sse.Event) []byte {
	return append(appendVisible(dst, ev.Data, "\n\t"), '\n')
}

// The colours of the human form (ECMA-48, section 8.3.117).
const (
	dim   = "\x1b[2m"
	cyan  = "\x1b[36m"
	reset = "\x1b[0m"
)

// humanForm is one line, or a block if the data has several:
//
//	15:04:05.000 [type] #id  data
type humanForm struct {
	colors bool
	now    func() time.Time
}

func (f humanForm) append(dst []byte, ev sse.Event) []byte {
	dst = f.painted(dst, dim, f.now().Format("15:04:05.000"))
	if ev.Type != "message" {
		dst = f.painted(append(dst, ' '), cyan, "["+visible(ev.Type)+"]")
	}
	if ev.ID != "" {
		dst = f.painted(append(dst, ' '), dim, "#"+visible(ev.ID))
	}
	if !strings.Contains(ev.Data, "\n") {
		if ev.Data != "" {
			dst = appendVisible(append(dst, "  "...), ev.Data, "\t")
		}
		return append(dst, '\n')
	}
	dst = append(dst, '\n')
	for line := range strings.SplitSeq(ev.Data, "\n") {
		if line != "" {
			dst = appendVisible(append(dst, "    "...), line, "\t")
		}
		dst = append(dst, '\n')
	}
	return dst
}

func (f humanForm) painted(dst []byte, color, text string) []byte {
	if !f.colors {
		return append(dst, text...)
	}
	dst = append(dst, color...)
	dst = append(dst, text...)
	return append(dst, reset...)
}
