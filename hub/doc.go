// Package hub is the engine: publishers hand it events, it keeps them in a [Log], and
// gives them to subscribers in one total order, history first and live after it,
// without a seam. A [Hub] is used through Go calls ([Hub.Publish], [Hub.Subscribe]) and
// as an [net/http.Handler] for the whole HTTP interface, or both at once.
//
// A subscriber is a cursor, not a queue: it has a selector and a position, reads
// from the newest events in memory where it can and from the Log where it has fallen
// behind, and costs no more when it is slow. It loses nothing that the Log still
// keeps, and is told where something is gone ([GapError]).
//
// Package log/memory is a Log; hub/hubtest tests others.
package hub
