// Package demo is what "tidewire demo" serves: a page with the first examples of
// Server-Sent Events, running live over a hub, each with its curl command and its
// JavaScript, and one that compares the ways of waiting for events, over a network that
// can be made bad. All of both is embedded.
package demo
