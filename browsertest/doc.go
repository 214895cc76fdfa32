// Package browsertest has tests only: real clients against the real server. They are
// headless Chromium, driven by playwright-core on the pages of "tidewire demo" and, with
// cookies and tickets over TLS, on those of an application; the npm package eventsource in
// Node, curl, and our own client.
//
// What a machine lacks is skipped, with the reason, unless TIDEWIRE_REQUIRE_BROWSER=1 is
// set, which makes it an error. UPDATE_PICTURES=1 writes docs/demo.png and
// docs/compare.png.
package browsertest
