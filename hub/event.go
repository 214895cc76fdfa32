package hub

import (
	"time"
)

// An Event is one event as a Log keeps it.
type Event struct {
	ID      string        // the publisher's own; "": the event's position is its id
	Type    string        // "" means "message"
	Data    string        // UTF-8
	Topics  []string      // at least one, none twice; the first is the canonical one
	Retry   time.Duration // 0: none
	Private bool          // for subscribers with a grant only
}

// Size returns what an event counts for where bytes are bounded: its text.
func (e *Event) Size() int {
	n := len(e.ID) + len(e.Type) + len(e.Data)
	for _, t := range e.Topics {
		n += len(t)
	}
	return n
}
