package doctor_test

import (
	"testing"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/internal/doctor"
	"github.com/tidewire/tidewire/internal/proxytest"
	"github.com/tidewire/tidewire/server"
)

const (
	idle = 4 * time.Second // that streams are watched
	cut  = "2s"            // after which a proxy cuts them
)

// gzipped has nginx compress streams, and not the server.
const gzipped = `proxy_http_version 1.1; proxy_set_header Accept-Encoding ""; gzip on; gzip_types text/event-stream; gzip_proxied any; gzip_min_length 0; `

// A way is how a stream comes from the real server: through a proxy, or directly.
type way struct {
	name  string
	start func(t *testing.T, upstream, directives string) (url string)
	with  string // the proxy's directives
}

func direct(_ *testing.T, upstream, _ string) string { return upstream }

// TestRun_FindsWhatProxiesDo has real proxies in front of the real server. What is not
// listed as a problem must not be found.
func TestRun_FindsWhatProxiesDo(t *testing.T) {
	for _, test := range []struct {
		way
		problems []string
		says     string // part of the first problem's text
		remedy   string // for what the first remedy is
		gzip     bool   // the server's own, which leaves a proxy nothing to compress
	}{
		{way: way{"no proxy", direct, ""}},
		{way: way{"nginx as installed", startNginx, ""}},
		{way: way{"nginx well configured", startNginx, "proxy_http_version 1.1; proxy_buffering off; proxy_read_timeout 1h;"}},
		{
			way: way{"nginx buffering", startNginx, "proxy_ignore_headers X-Accel-Buffering;"}, problems: []string{"first-bytes"},
			says: "not even headers", remedy: "nginx",
		},
		{
			way: way{"nginx cutting", startNginx, "proxy_read_timeout " + cut + ";"}, problems: []string{"idle"},
			says: "nothing had come for", remedy: "nginx",
		},
		{way: way{"nginx compressing and flushing", startNginx, gzipped}},
		{
			way: way{"nginx compressing", startNginx, gzipped + "proxy_ignore_headers X-Accel-Buffering;"}, problems: []string{"compression"},
			says: "holds it back", remedy: "nginx",
		},
		{
			way: way{"nginx taking the last id away", startNginx, `proxy_set_header Last-Event-ID "";`}, problems: []string{"resume"},
			says: "2 are lost", remedy: "nginx",
		},
		{
			way: way{"HAProxy as installed", startHAProxy, ""}, problems: []string{"delivery", "first-bytes"},
			says: "waits for more", remedy: "HAProxy",
		},
		{way: way{"HAProxy well configured", startHAProxy, "option http-no-delay"}},
		{
			// It flushes, but not the last bits of an event: those come with the next one.
			way: way{"HAProxy compressing", startHAProxy, "option http-no-delay; compression algo gzip; compression type text/event-stream"}, problems: []string{"compression"},
			says: "does not flush", remedy: "nginx",
		},
		{way: way{"HAProxy compressing, where the server does", startHAProxy, "option http-no-delay; compression algo gzip; compression type text/event-stream"}, gzip: true},
		{
			way: way{"HAProxy cutting", startHAProxy, "option http-no-delay; timeout server " + cut}, problems: []string{"idle"},
			says: "nothing had come for", remedy: "tidewire",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var c server.Config
			if !test.gzip {
				c.Hub.Compression = hub.CompressionOff
			}
			url := test.start(t, startServer(t, c), test.with)
			r := examine(t, url+"/events/clock", doctor.Options{Probe: url + "/events/probe", Idle: idle})
			wrong(t, r, test.problems...)
			if !r.Tidewire {
				t.Error("got another server than ours")
			}
			if len(test.problems) == 0 {
				found(t, r, "resume", doctor.OK, "each once and in order")
				found(t, r, "delivery", doctor.OK)
				found(t, r, "first-bytes", doctor.OK)
				found(t, r, "idle", doctor.OK)
				found(t, r, "compression", doctor.OK)
				return
			}
			for _, f := range r.Findings {
				if f.Severity != doctor.Problem {
					continue
				}
				found(t, r, f.Check, doctor.Problem, test.says)
				if len(f.Remedies) == 0 || f.Remedies[0].For != test.remedy {
					t.Errorf("got remedies %v for %s, want first one for %s", f.Remedies, f.Check, test.remedy)
				}
				break
			}
		})
	}
}

func TestRun_KnowsCompressionThatFlushes(t *testing.T) {
	t.Parallel()
	url := startNginx(t, startServer(t, server.Config{}), gzipped)
	r := examine(t, url+"/events/clock", doctor.Options{Probe: url + "/events/probe"})
	wrong(t, r)
	found(t, r, "compression", doctor.OK, "gzip", "after they were sent")
	found(t, examine(t, url+"/events/clock", doctor.Options{}), "compression", doctor.OK, "gzip", "begins at once")
}

func TestRun_AHeartbeatKeepsStreamsOpen(t *testing.T) {
	t.Parallel()
	url := startNginx(t, startServer(t, server.Config{Hub: hub.Options{Heartbeat: 500 * time.Millisecond}}), "proxy_read_timeout "+cut+";")
	r := examine(t, url+"/events/clock", doctor.Options{Idle: idle})
	wrong(t, r)
	found(t, r, "idle", doctor.OK, "stayed open")
}

func TestRun_CORSOfAProxyBesideTheServers(t *testing.T) {
	t.Parallel()
	const origin = "https://app.example"
	upstream := startServer(t, server.Config{Hub: hub.Options{AllowedOrigins: []string{origin}}})
	url := startNginx(t, upstream, "add_header Access-Control-Allow-Origin *;")
	r := examine(t, url+"/events/clock", doctor.Options{Origin: origin})
	wrong(t, r, "cors")
	found(t, r, "cors", doctor.Problem, "twice")
	absent(t, r, "credentials", "preflight")

	r = examine(t, upstream+"/events/clock", doctor.Options{Origin: origin})
	wrong(t, r)
	found(t, r, "cors", doctor.OK, origin)
	found(t, r, "credentials", doctor.Note, "without cookies")
	found(t, r, "preflight", doctor.OK)
}

func TestRun_ShowsTheProxy(t *testing.T) {
	t.Parallel()
	url := startNginx(t, startServer(t, server.Config{}), "")
	r := examine(t, url+"/events/clock", doctor.Options{})
	found(t, r, "proxies", doctor.OK, "nginx/")
	found(t, r, "x-accel-buffering", doctor.Note, "takes it away")
	if len(r.Proxies) != 1 {
		t.Errorf("got proxies %q, want one", r.Proxies)
	}
}

// TestRun_ServerThatIsNotReached has a proxy with nobody behind it.
func TestRun_ServerThatIsNotReached(t *testing.T) {
	t.Parallel()
	url := startNginx(t, "http://"+proxytest.FreeAddress(t), "")
	r := examine(t, url+"/events/clock", doctor.Options{})
	wrong(t, r, "status")
	found(t, r, "status", doctor.Problem, "502", "does not reach the server")
}
