// Package tables is the "apply" of a Log that keeps its history on disk: a deterministic
// step that writes each record of one order to tables in a Pebble store, and the reading
// from them. Who makes the order, gives each record its sequence and time, and commits,
// is another's part: package disk does it for one process.
//
// Nothing here reads a clock, draws a random number or depends on when it is called, so
// that whoever applies the same records has the same tables.
//
// A row's key begins with one byte that says what it is; numbers in keys are big-endian,
// so that rows stand in order.
//
//	o seq          a record: an event, or that a topic was closed or forgotten
//	t topic seq    an event that a topic keeps: its time, size, flags
//	r topic seq    an event that a topic no longer keeps, but another one does
//	n topic        the name of a topic; topics are numbered as they are first used
//	m topic        what is known of a topic: marks, count, bytes
//	i id           the sequence of the first event of that publisher's id
//	l number       the id of an event that is gone, the oldest first
//	k key          what an idempotency key answered
//	x time seq     the idempotency keys of that time, to forget them in order
//	g seq          the ids of groups, for a repeat whose first outcome was not known
//	z seq          sequences from there on that were skipped
//	h              the head: how far the order has come, and sums over all topics
package tables
