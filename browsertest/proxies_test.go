package browsertest

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/internal/proxytest"
)

// TestNode_OurClientBehindProxies has the browser client behind real proxies, right and
// wrong ones: it misses nothing, and streams wherever that is possible.
func TestNode_OurClientBehindProxies(t *testing.T) {
	t.Parallel()
	node, module := needNode(t), filepath.Join(needBundle(t), "index.js")
	hub := runCommand(t, nil, t.Output(), "serve", "--memory", "--listen", "127.0.0.1:0", "--retry", "200ms")
	for _, p := range []struct {
		name, does string // see proxies.mjs
		start      func(t *testing.T, upstream, directives string) string
		directives string
	}{
		{"nginx", "streams", startNginx, "proxy_http_version 1.1; proxy_buffering off; proxy_cache off; proxy_read_timeout 1h; gzip off;"},
		// In HTTP/1.1 it would pass each chunk on, even so.
		{"nginx that buffers", "buffers", startNginx, "proxy_http_version 1.0; proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;"},
		{"nginx that cuts", "cuts", startNginx, "proxy_http_version 1.1; proxy_buffering off; proxy_read_timeout 2s;"},
		{"HAProxy", "streams", startHAProxy, "timeout server 1h\n\toption http-no-delay"},
		{"HAProxy that cuts", "cuts", startHAProxy, "timeout server 2s\n\toption http-no-delay"},
	} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			runChecks(t, nil, node, "proxies.mjs", hub, module, p.start(t, hub, p.directives), p.does)
		})
	}
}

// startNginx puts nginx before upstream, with directives in its location. It returns its
// origin.
func startNginx(t *testing.T, upstream, directives string) (origin string) {
	t.Helper()
	return proxytest.Nginx(t, fmt.Sprintf("location / { proxy_pass %s; %s }", upstream, directives))
}

// startHAProxy puts HAProxy before upstream, with directives in its defaults. It returns its
// origin.
func startHAProxy(t *testing.T, upstream, directives string) (origin string) {
	t.Helper()
	return proxytest.HAProxy(t, fmt.Sprintf(`
defaults
	mode http
	timeout connect 5s
	timeout client 1h
	%s
listen stream
	bind :80
	server upstream %s
`, directives, strings.TrimPrefix(upstream, "http://")))
}
