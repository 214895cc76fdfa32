//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/tidewire/tidewire/internal/load"
)

// nchanHelp says how Nchan is had.
const nchanHelp = "Nchan is not installed, so its rows are left out. On Debian and Ubuntu: apt-get install nginx libnginx-mod-nchan"

// nchanReplays is a number of events that Nchan replays whole. It tells those of a second
// apart by 15 bits, and looks for each from the first one on: 100,000 take it a minute,
// in which it loses a third of them.
const nchanReplays = 20_000

var modulesPath = regexp.MustCompile(`--modules-path=(\S+)`)

// newNchan returns nil where there is none, and says so.
func (b *bench) newNchan() (*contender, error) {
	nginx, err := exec.LookPath(b.nginx)
	if err != nil {
		fmt.Fprintf(b.out, "%s\n\n", nchanHelp)
		return nil, nil
	}
	built, err := exec.CommandContext(b.ctx, nginx, "-V").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("nginx -V: %w\n%s", err, built)
	}
	modules := "/usr/lib/nginx/modules"
	if m := modulesPath.FindSubmatch(built); m != nil {
		modules = string(m[1])
	}
	module := filepath.Join(modules, "ngx_nchan_module.so")
	if _, err := os.Stat(module); err != nil {
		fmt.Fprintf(b.out, "%s\n\n", nchanHelp)
		return nil, nil
	}
	c := &contender{
		name:    nchanName,
		title:   strings.TrimSpace("Nchan "+debianVersion("libnginx-mod-nchan")) + ", " + plural(threads(), "worker"),
		peer:    &load.Peer{Subscribe: "/sub/{topic}", Publish: "/pub/{topic}"},
		history: true,
		replays: nchanReplays,
		note:    fmt.Sprintf("has %s events to replay: it loses some of 100,000, and takes the longer for each the more there are.", thousands(nchanReplays)),
		start:   func() (*process, error) { return b.launchNginx(nginx, module) },
	}
	return c, nil
}

// debianVersion returns a package's without what Debian has added, or "".
func debianVersion(name string) string {
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", name).Output()
	if err != nil {
		return ""
	}
	_, version, found := strings.Cut(string(out), ":") // behind the epoch
	if !found {
		version = string(out)
	}
	return version[:cmp.Or(strings.IndexAny(version, "+-")+1, len(version)+1)-1]
}

// nginxConfig has Nchan keep as much as the others do, and never time out.
func nginxConfig(dir, module string, address netip.AddrPort, descriptors uint64) string {
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;" // else the workers could not read what is ours
	}
	return fmt.Sprintf(`load_module %q;
%s
daemon off;
pid %q;
error_log stderr error;
worker_processes %d;
worker_rlimit_nofile %d;
events {
	worker_connections %d;
	multi_accept on;
}
http {
	access_log off;
	client_body_temp_path %q;
	proxy_temp_path %q;
	fastcgi_temp_path %q;
	uwsgi_temp_path %q;
	scgi_temp_path %q;
	tcp_nodelay on;
	keepalive_requests 1000000000;
	keepalive_timeout 1h;
	nchan_shared_memory_size 1024M;
	server {
		listen %s backlog=65535;
		location ~ ^/sub/(\w+)$ {
			nchan_subscriber eventsource;
			nchan_channel_id $1;
			nchan_subscriber_first_message newest;
		}
		location ~ ^/pub/(\w+)$ {
			nchan_publisher http;
			nchan_channel_id $1;
			nchan_message_buffer_length 200000;
			nchan_message_timeout 1h;
		}
	}
}
`, module, user, filepath.Join(dir, "nginx.pid"), threads(), descriptors, descriptors,
		filepath.Join(dir, "body"), filepath.Join(dir, "proxy"), filepath.Join(dir, "fastcgi"), filepath.Join(dir, "uwsgi"), filepath.Join(dir, "scgi"),
		address)
}

// launchNginx starts one, whose port must be chosen for it.
func (b *bench) launchNginx(nginx, module string) (*process, error) {
	dir, err := os.MkdirTemp(b.dir, "nginx-*")
	if err != nil {
		return nil, err
	}
	cleanup := func() error { return os.RemoveAll(dir) }
	address, err := freePort()
	if err != nil {
		return nil, errors.Join(err, cleanup())
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil, errors.Join(os.NewSyscallError("getrlimit", err), cleanup())
	}
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, []byte(nginxConfig(dir, module, address, min(limit.Max, 1<<20))), 0o600); err != nil {
		return nil, errors.Join(err, cleanup())
	}
	p := &process{cmd: exec.CommandContext(b.ctx, nginx, "-p", dir, "-c", config), address: address, cleanup: cleanup}
	if err := p.begin(nil); err != nil {
		return nil, errors.Join(err, cleanup())
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", address.String())
		if err == nil {
			return p, c.Close()
		}
		if p.ended() || time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("nginx does not listen: %w", err), p.stop())
		}
	}
}

// freePort returns an address that nobody listens on.
func freePort() (netip.AddrPort, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, err
	}
	return l.Addr().(*net.TCPAddr).AddrPort(), l.Close()
}
