// Package server is the daemon: it puts a hub behind a listener, with the limits that a
// server on a network needs, and stops in an orderly way.
package server
