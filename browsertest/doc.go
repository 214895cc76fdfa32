// Package browsertest has tests only: real clients against the real server. They are
// headless Chromium, driven by playwright-core on the pages of "tidewire demo" and, with
// cookies and tickets over TLS, on those of an application; the npm packages eventsource in
// Node and @microsoft/fetch-event-source in Chromium, curl, and our own clients, that for
// browsers behind nginx and HAProxy too.
//
// What a machine lacks is skipped, with the reason, unless TIDEWIRE_REQUIRE_BROWSER=1 is
// set, or TIDEWIRE_REQUIRE_PROXIES=1 for proxies, which makes it an error. UPDATE_PICTURES=1 writes docs/demo.png and
// docs/compare.png.
package browsertest
