// Package demo is what "tidewire demo" serves: a page with the first examples of
// Server-Sent Events, running live over a hub, each with its curl command and its
// JavaScript. All of the page is embedded.
package demo
