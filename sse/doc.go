// Package sse reads and writes the event-stream format of Server-Sent Events
// and serves it over HTTP, one connection at a time. It imports the standard
// library only.
//
// # Writing
//
// [AppendEvent] encodes an [Event] into a buffer, an [Encoder] into an
// [io.Writer], and [Encode] into a [Frame]: encoded once, never changed, sent
// to as many connections as there are. A value that the format cannot carry,
// such as a line break in an id, is refused with a [*FieldError].
//
// # Reading
//
// A [Decoder] reads any event stream exactly as the HTML standard says, at
// whatever places the network has cut it, and [Events] is the same as an
// iterator. They end with [io.EOF] where the stream ended between two events,
// and with [io.ErrUnexpectedEOF] where it ended inside one.
//
// # Serving
//
// [Serve] turns an iterator into a handler. [Accept] gives the [Session]
// beneath it, for a handler that sends when it likes. Every write has a
// deadline, so that a peer that no longer reads cannot hold a handler; an idle
// stream is kept open with comments; and the write timeout of the
// [net/http.Server] does not end it.
//
// A [net/http.Server] that shuts down waits for streams like for any other
// response: cancel the context that its BaseContext hands out, and they end.
//
// The client, which reconnects and resumes, is package eventsource.
//
// The rules are those of the HTML standard, section 9.2, "Server-sent events":
// https://html.spec.whatwg.org/multipage/server-sent-events.html
package sse
