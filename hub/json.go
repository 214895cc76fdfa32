package hub

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/tidewire/tidewire/sse"
)

// eventJSON is an event as JSON, the same everywhere.
type eventJSON struct {
	ID       string   `json:"id"`
	Position string   `json:"position"`
	Topics   []string `json:"topics"`
	Type     string   `json:"type"`
	Data     string   `json:"data"`
	Time     string   `json:"time"`
}

func (it *item) json(epoch string) []byte {
	typ := it.Event.Type
	if typ == "" {
		typ = "message"
	}
	return jsonBytes(eventJSON{
		ID:       it.id,
		Position: Position(epoch, it.Seq),
		Topics:   it.Topics,
		Type:     typ,
		Data:     it.Event.Data,
		Time:     it.Time.UTC().Format(time.RFC3339Nano),
	})
}

// jsonBytes encodes what cannot fail, without escaping for HTML.
func jsonBytes(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func jsonText(s string) string { return string(jsonBytes(s)) }

// streamJSON sends a subscription as JSON lines. Control events are objects of the same
// form, and an empty line keeps an idle stream open.
func (h *Hub) streamJSON(w http.ResponseWriter, r *http.Request, c *cursor, batch []*item, gap *GapError) {
	var zw *gzipWriter
	if h.gzips(r) {
		zw = h.newGzipWriter(w, formJSON)
	}
	lines := &lineWriter{w: zw.over(w), rc: http.NewResponseController(w), timeout: h.opt.WriteTimeout}
	header := w.Header()
	header.Set("Content-Type", "application/x-ndjson")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	if lines.write(nil) != nil {
		return
	}
	defer zw.finish()
	c.served.begun()
	epoch := h.log.Head().Epoch
	defer h.cutOff(w)()
	idle := newIdleTimer(h.opt.Heartbeat)
	defer idle.stop()
	out := []byte(nil)
	for {
		if gap != nil {
			out = append(out, controlJSON(gapEvent(gap))...)
		}
		for _, it := range batch {
			out = append(append(out, it.json(epoch)...), '\n')
		}
		if gap == nil {
			zw.expect(batch, len(out))
		}
		if lines.write(out) != nil {
			return
		}
		c.served.moved(c.after)
		out, gap = out[:0], nil

		var err error
		batch, err = c.next(r.Context(), idle.start())
		switch {
		case err == nil || errors.As(err, &gap):
		case err == errIdle:
			out = append(out, '\n')
		case err == errEnded || err == errSlow || errors.Is(err, ErrShutdown) || r.Context().Err() != nil:
			return
		default:
			_ = lines.write(controlJSON(h.errorEvent(err)))
			return
		}
	}
}

// controlJSON is a control event as a line.
func controlJSON(ev sse.Event) []byte {
	return append(jsonBytes(map[string]string{"id": ev.ID, "type": ev.Type, "data": ev.Data}), '\n')
}

// A lineWriter writes and flushes with a deadline each time.
type lineWriter struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	timeout time.Duration
}

func (l *lineWriter) write(b []byte) error {
	if l.timeout > 0 {
		_ = l.rc.SetWriteDeadline(time.Now().Add(l.timeout)) // where there are deadlines
		defer func() { _ = l.rc.SetWriteDeadline(time.Time{}) }()
	}
	if _, err := l.w.Write(b); err != nil {
		return err
	}
	return l.rc.Flush()
}
