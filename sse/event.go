package sse

import (
	"fmt"
	"time"
)

// An Event is one event of a stream.
type Event struct {
	// ID is the id that a client sends back to resume. When writing, "" writes
	// no id field, so that the client keeps the id that it has. When reading,
	// it is the stream's last event id at this event, which an earlier event
	// may have set. HTTP trims spaces at its ends when it is sent back.
	ID string

	// Type is the event's type, the name under which a browser's listener
	// gets it. When writing, "" means "message"; when reading, it is never "".
	Type string

	// Data is the text that the event carries, of any length, and may be "".
	// The format knows one line break only: CRLF and CR become LF.
	Data string

	// Retry is the reconnection time that the client is told to keep to from
	// now on, in whole milliseconds (a fraction is rounded up); 0 says nothing.
	// When reading, it is the last valid one in the event's block.
	Retry time.Duration
}

// typeMessage is the type of an event that names none.
const typeMessage = "message"

// A FieldError says that a field holds something that the format cannot carry.
// Nothing of the event was written.
type FieldError struct {
	Field  string // "id", "event" or "retry", as the field is called on the wire
	Offset int    // of the byte at fault in the value; 0 for retry
	Reason string // what is wrong there
}

func (e *FieldError) Error() string {
	if e.Field == "retry" {
		return "sse: encode event: retry " + e.Reason
	}
	return fmt.Sprintf("sse: encode event: %s has %s at byte %d", e.Field, e.Reason, e.Offset)
}
