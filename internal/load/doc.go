// Package load is the load client: it opens many subscribers of a hub, publishes, and
// measures. What it reports is honest in three ways.
//
//   - Every event carries the run, its topic, its stream, its sequence within that, and
//     the time at which it was due. So each subscriber knows whether it has everything
//     once and in order, and a [Result] with a fault is no measurement.
//   - Latency counts from when an event was due, not from when it could be sent: a server
//     that makes the client wait pays for that (no "coordinated omission").
//   - The client's own cost, that of others on the machine, and what else spoils a
//     measurement are reported beside it.
//
// On Linux the subscribers are raw sockets that one goroutine a core reads with
// edge-triggered epoll, or one for every two cores if the server is on the same machine,
// and the publishers patch requests that are encoded once.
// Elsewhere, and for https, both go through net/http, a goroutine each; that client
// costs several times as much. Neither uses a proxy.
//
// With a [Peer] the same is done to a server that is none of ours.
package load
