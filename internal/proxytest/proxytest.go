// Package proxytest runs real proxies for tests. Where one is missing the test is skipped, or
// fails with TIDEWIRE_REQUIRE_PROXIES=1.
package proxytest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// patience bounds what a proxy takes to listen.
const patience = 30 * time.Second

// Nginx runs nginx with one server, in which location stands, until the test ends. It returns
// the proxy's origin when it listens.
func Nginx(t testing.TB, location string) (origin string) {
	t.Helper()
	path, dir, address := find(t, "nginx"), t.TempDir(), FreeAddress(t)
	return start(t, address, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`
daemon off; master_process off; pid %[1]s/pid; error_log stderr warn;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server { listen %[2]s; %[3]s }
}
`, dir, address, location), func(config string) *exec.Cmd {
		return exec.Command(path, "-e", "stderr", "-p", dir, "-c", config)
	})
}

// bind is where HAProxy listens.
var bind = regexp.MustCompile(`(?m)^(\s*)bind .*$`)

// HAProxy runs HAProxy with a configuration until the test ends, listening in clear text on a
// free port wherever config says. It returns the proxy's origin when it listens.
func HAProxy(t testing.TB, config string) (origin string) {
	t.Helper()
	path, address := find(t, "haproxy"), FreeAddress(t)
	config = bind.ReplaceAllString(config, "${1}bind "+address)
	return start(t, address, filepath.Join(t.TempDir(), "haproxy.cfg"), config, func(config string) *exec.Cmd {
		return exec.Command(path, "-db", "-f", config)
	})
}

// find returns the path of a proxy.
func find(t testing.TB, program string) string {
	t.Helper()
	for _, name := range []string{program, "/usr/sbin/" + program} { // Debian has it there, and users' PATH has not
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	missing := program + " is missing: .ci/run installs it"
	if os.Getenv("TIDEWIRE_REQUIRE_PROXIES") == "1" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// FreeAddress returns an address that nobody listened on a moment ago.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func start(t testing.TB, address, file, config string, command func(file string) *exec.Cmd) (origin string) {
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
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond) // nobody tells when it listens
	defer tick.Stop()
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			return "http://" + address
		}
		select {
		case <-tick.C:
		case <-ended:
			t.Fatalf("%s has ended: %s", cmd.Path, said.String())
		case <-deadline:
			t.Fatalf("%s does not listen", cmd.Path)
		}
	}
}
