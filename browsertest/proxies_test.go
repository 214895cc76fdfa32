package browsertest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
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

// needProxy returns the path of a proxy.
func needProxy(t *testing.T, program string) (path string) {
	t.Helper()
	for _, name := range []string{program, "/usr/sbin/" + program} { // Debian has it there, and users' PATH has not
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("TIDEWIRE_REQUIRE_PROXIES") == "1" {
		t.Fatalf("%s is missing: .ci/run installs it", program)
	}
	t.Skipf("%s is missing: .ci/run installs it", program)
	return ""
}

// startNginx puts nginx before upstream, with directives in its location. It returns its
// origin.
func startNginx(t *testing.T, upstream, directives string) (origin string) {
	t.Helper()
	path, dir, address := needProxy(t, "nginx"), t.TempDir(), freeAddress(t)
	return startProxy(t, address, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`
daemon off; master_process off; pid %[1]s/pid; error_log stderr warn;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server { listen %[2]s; location / { proxy_pass %[3]s; %[4]s } }
}
`, dir, address, upstream, directives), func(config string) *exec.Cmd {
		return exec.Command(path, "-e", "stderr", "-p", dir, "-c", config)
	})
}

// startHAProxy puts HAProxy before upstream, with directives in its defaults. It returns its
// origin.
func startHAProxy(t *testing.T, upstream, directives string) (origin string) {
	t.Helper()
	path, address := needProxy(t, "haproxy"), freeAddress(t)
	return startProxy(t, address, filepath.Join(t.TempDir(), "haproxy.cfg"), fmt.Sprintf(`
defaults
	mode http
	timeout connect 5s
	timeout client 1h
	%s
listen stream
	bind %s
	server upstream %s
`, directives, address, strings.TrimPrefix(upstream, "http://")), func(config string) *exec.Cmd {
		return exec.Command(path, "-db", "-f", config)
	})
}

// freeAddress returns an address that nobody listened on a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startProxy runs a proxy until the test ends, and returns its origin when it listens.
func startProxy(t *testing.T, address, file, config string, command func(file string) *exec.Cmd) (origin string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := command(file)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // it is killed
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("%s said: %s", cmd.Path, said.String())
		}
	})
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			return "http://" + address
		}
		select {
		case <-tick.C:
		case <-ended:
			t.Fatalf("%s has ended", cmd.Path)
		case <-deadline:
			t.Fatalf("%s does not listen", cmd.Path)
		}
	}
}
