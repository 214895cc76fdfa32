package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/sse"
)

// notes tell on standard error how a stream fares. They are made in the goroutine that
// reads it.
type notes struct {
	w       io.Writer
	quiet   bool
	verbose bool // someone is watching: tell of the first connection too
	target  string
	ofHub   bool

	connected bool // once
	broken    bool // since then
	hinted    bool
}

func (n *notes) say(format string, args ...any) {
	if !n.quiet {
		fmt.Fprintf(n.w, "tidewire: %s\n", visible(fmt.Sprintf(format, args...)))
	}
}

// opened tells of a connection.
func (n *notes) opened(ev eventsource.OpenEvent) {
	id := ev.Response.Request.Header.Get("Last-Event-ID")
	switch {
	case n.broken && id != "":
		n.say("connected again, to go on after %q", id)
	case n.broken:
		n.say("connected again")
	case n.verbose:
		n.say("connected to %s", redacted(n.target))
	}
	n.connected, n.broken = true, false
}

// failed tells of the end of a connection. Why the last one failed the command tells.
func (n *notes) failed(ev eventsource.ErrorEvent) {
	n.broken = true
	if ev.State == eventsource.StateClosed {
		if errors.Is(ev.Err, eventsource.ErrNoContent) {
			n.say("the server says that nothing more will come (204)")
		}
		return
	}
	text := reason(n.target, ev.Err)
	if n.ofHub && unreachable(ev.Err) && !n.hinted {
		n.hinted = true
		text += startOne
	}
	n.say("%s; trying again in %s", text, shortly(ev.Delay))
}

// own tells of an event that a hub itself has put into the stream.
func (n *notes) own(ev sse.Event) {
	switch ev.Type {
	case "tidewire.gap":
		n.say("%s", gapIn(ev.Data))
	case "tidewire.error":
		n.say("the server says: %s", problemIn(ev.Data))
	}
}

// gapIn says what a hub tells of events that cannot be had any more.
func gapIn(data string) string {
	var gap struct {
		Reason    string `json:"reason"`
		Requested string `json:"requested"`
		Resumed   string `json:"resumed"`
	}
	if err := json.Unmarshal([]byte(data), &gap); err != nil {
		return "events are missing here: " + data
	}
	var after, s string
	if gap.Requested != "" {
		after = fmt.Sprintf(" after %q", gap.Requested)
	}
	switch gap.Reason {
	case "expired":
		s = fmt.Sprintf("events are missing here: some%s have expired", after)
	case "unknown":
		s = fmt.Sprintf("events may be missing here: the server does not know the id %q", gap.Requested)
	case "epoch":
		s = fmt.Sprintf("events may be missing here: the server's history was begun anew%s", after)
	default:
		s = fmt.Sprintf("events%s are missing here, for the reason %q", after, gap.Reason)
	}
	if gap.Resumed != "" {
		s += fmt.Sprintf("; it goes on after %q", gap.Resumed)
	}
	return s
}

// problemIn returns what a problem document says.
func problemIn(data string) string {
	var p problem
	if err := json.Unmarshal([]byte(data), &p); err != nil || p.String() == "" {
		return data
	}
	return p.String()
}
