package cli

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/tidewire/tidewire/server"
)

// check says what is wrong with settings beside each other. Those that failed by themselves
// are not spoken of again.
func (c *configuration) check(failed map[string]bool) (wrong mistakes) {
	note := func(name, format string, args ...any) {
		if !failed[name] {
			failed[name] = true
			wrong = append(wrong, mistake{c.place(name), fmt.Sprintf(format, args...)})
		}
	}
	for _, s := range c.settings {
		if len(s.needs) > 0 && c.isGiven(s.name) && !c.given[s.name].off(s.kind) && !c.isGiven(s.needs...) {
			note(s.name, "it has no meaning without %s: give that too, or take this away", strings.Join(s.needs, " or "))
		}
	}
	if !c.memory && c.server.Data == "" {
		note("data", "name a directory, or set memory")
	}
	if c.server.Hub.AllowCredentials && slices.Contains(c.server.Hub.AllowedOrigins, "*") {
		note("allow-origin", "* does not go with allow-credentials: name the origins")
	}
	c.checkTLS(failed, note)
	c.checkListen(note)
	return wrong
}

// checkTLS looks whether all is there that TLS needs, and nothing that it does not.
func (c *configuration) checkTLS(failed map[string]bool, note func(name, format string, args ...any)) {
	t := &c.server.Transport
	files := t.CertFile != "" || t.KeyFile != ""
	if c.tls == "" && files {
		c.tls = tlsFiles
	}
	switch {
	case files && c.tls != tlsFiles:
		note("tls", "%s does not go with tls-cert and tls-key: take those away, or say files", c.tls)
	case c.tls == tlsFiles && c.isGiven("tls") && (t.CertFile == "" || t.KeyFile == ""):
		note("tls", "files needs tls-cert and tls-key: name both")
	case c.tls == tlsFiles && t.CertFile != "" && t.KeyFile != "":
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			note("tls-cert", "%v: name a certificate and its key, both in PEM", err)
		} else if until := pair.Leaf.NotAfter; until.Before(time.Now()) {
			c.warnings = append(c.warnings, fmt.Sprintf("%s: the certificate has expired on %s: renew it", c.place("tls-cert"), until.Format(time.DateOnly)))
		}
	}
	if len(t.ACME.Domains) > 0 && c.tls != tlsACME {
		note("acme-domain", "it has no meaning without tls set to acme: say that too, or take this away")
	}
	if c.tls == tlsACME && len(t.ACME.Domains) == 0 {
		note("tls", "acme needs acme-domain: name what to have certificates for")
	}
	if c.tls == tlsACME && c.memory && t.ACME.Cache == "" {
		note("tls", "acme needs a directory that keeps the certificates: name it as acme-cache")
	}
	if t.HTTP3 && !failed["tls"] && (c.tls == "" || c.tls == tlsOff) {
		note("http3", "it needs TLS: set tls, or tls-cert and tls-key")
	}
	if t.HTTP3 && strings.HasPrefix(c.server.Listen, "unix:") {
		note("http3", "it needs an address of UDP, and a Unix socket has none: listen elsewhere, or take http3 away")
	}
}

// checkListen refuses addresses that others could reach while nobody is asked who they
// are.
func (c *configuration) checkListen(note func(name, format string, args ...any)) {
	local, err := onThisMachine(c.server.Listen)
	switch {
	case err != nil:
		note("listen", "%v", err)
	case local || !c.open():
	default:
		note("listen", `%q can be reached from other machines, and nothing says who may come in. Do one of these:
set keys for publishers:   tidewire key new --name backend --publish '**' --file keys.jsonl
                           tidewire serve --keys keys.jsonl
or a secret for tokens:    export TIDEWIRE_TOKEN_SECRET="$(openssl rand -hex 32)"
or say what anyone may do: --anonymous=subscribe, --anonymous=publish
or listen on %s`, c.server.Listen, server.DefaultListen)
	}
}

// onThisMachine tells whether nobody else can reach an address.
func onThisMachine(address string) (bool, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if path == "" {
			return false, errors.New("unix: needs the path of a socket, such as unix:/run/tidewire.sock")
		}
		return true, nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false, fmt.Errorf("%q is no address such as %s", address, server.DefaultListen)
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback(), nil
}

// warn notes what is no mistake, and may be a misfortune.
func (c *configuration) warn() {
	for _, s := range c.settings {
		if !s.secret {
			continue
		}
		switch c.given[s.name].from {
		case byFlag:
			c.warnings = append(c.warnings, fmt.Sprintf("--%s can be seen in the list of processes: set %s, or write it to the file", s.name, s.variable()))
		case byFile:
			if info, err := os.Stat(c.file); err == nil && info.Mode()&0o004 != 0 && runtime.GOOS != "windows" {
				c.warnings = append(c.warnings, fmt.Sprintf("%s: everyone on this machine can read the secret: chmod o-r %s", c.place(s.name), c.file))
			}
		}
	}
	if c.open() && c.isGiven("trusted-proxy") {
		c.warnings = append(c.warnings, "a proxy is trusted, and no keys are set: whoever the proxy lets in may do everything")
	}
}
