package browsertest

import (
	"encoding/json"
	"net/url"
	"testing"
)

// TestChromium_Auth has Chromium on pages of an application, of its friends, and of
// strangers. All names lead to 127.0.0.1:
//
//	app.tide.test, hub.tide.test   two origins of one site
//	evil.tide.test                 that site too, and in somebody else's hands
//	shop.test                      one origin for pages and hub, by a proxy in front of both
//	friend.example                 another site, whose origin the hub allows
//	stranger.example               another one, which it does not
func TestChromium_Auth(t *testing.T) {
	t.Parallel()
	node, chromium := needNode(t), needChromium(t)
	wire := newCutter(t)
	app := &application{t: t, wire: wire}
	pages := newPages(t, app)
	port := ":" + portOf(pages.Listener.Addr())
	hub := startSecure(t, "--retry", "200ms", "--allow-credentials",
		"--allow-origin", "https://app.tide.test"+port, "--allow-origin", "https://friend.example"+port)
	app.hub = hub
	pages.StartTLS()
	wire.pass(hub.host)
	shop := newProxy(t, &url.URL{Scheme: "https", Host: wire.listener.Addr().String()}, hub.client, app)
	shop.StartTLS()

	world, err := json.Marshal(map[string]any{
		"token":    everythingToken(t),
		"control":  pages.URL,
		"app":      "https://app.tide.test" + port,
		"evil":     "https://evil.tide.test" + port,
		"friend":   "https://friend.example" + port,
		"stranger": "https://stranger.example" + port,
		"shop":     "https://shop.test:" + portOf(shop.Listener.Addr()),
		"hub":      "https://hub.tide.test:" + portOf(wire.listener.Addr()),
		"keys":     []string{keyHash(hub.certificate), keyHash(pages.Certificate())},
	})
	if err != nil {
		t.Fatal(err)
	}
	trust := []string{"NODE_EXTRA_CA_CERTS=" + certificateFile(t, hub.certificate, pages.Certificate())}
	runChecks(t, trust, node, "auth.mjs", hub.url+"/", chromium, string(world))

	issued, found := app.leaked(hub.logs.String())
	if issued == 0 {
		t.Error("the application issued no tokens and tickets")
	}
	if len(found) > 0 {
		t.Errorf("got %d of %d tokens and tickets in what the hub prints, want none: the first is %s", len(found), issued, found[0])
	}
}
