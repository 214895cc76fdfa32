// Package eventsource is the client of Server-Sent Events: it connects, reads,
// reconnects and resumes as a browser's EventSource does, and with what programs
// need beside that. It imports the standard library only.
//
// There are three ways in, over one decoder (package sse):
//
//   - [Stream] is an iterator over the events of a stream that does not end. It
//     reconnects by itself and runs in the caller's goroutine.
//   - [Open] is the browser's model: a [Source] with a ready state, callbacks and
//     listeners by type, served by one goroutine.
//   - [Do] reads one finite answer, such as a model's, never repeats it, and tells
//     a whole one from one that was cut off.
//
// # Reconnecting
//
// The end of a stream is a fault, clean or not, and is followed by a wait and a
// new request with the last event id. Status 204 is the server's way to say that
// this is the end. By default the statuses that tell of a passing trouble (408,
// 425, 429 and 5xx) are tried again too, Retry-After is kept to, and the wait grows
// with each attempt that brings nothing. [Options.StrictSpec] is the HTML
// standard to the letter: every status but 200 is final and the wait is constant.
//
// A request that is not a GET is not repeated unless [Options.RepeatNonGET] says
// that it may be. Every attempt starts at the original URL, wherever redirects
// have led before; credentials do not follow a redirect to another origin.
//
// The rules are those of the HTML standard, section 9.2, "Server-sent events":
// https://html.spec.whatwg.org/multipage/server-sent-events.html
package eventsource
