package cli

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/server"
)

// keySettings are those with which credentials are asked for.
var keySettings = []string{"token-secret", "token-key", "token-jwks", "keys", "authorize-url"}

// An authSettings is what a server was told of who may come in.
type authSettings struct {
	access    server.Access
	anonymous hub.Grant
}

// complete returns all of it, nil where nobody is to be asked.
func (a *authSettings) complete(open bool) *server.Access {
	if open {
		return nil
	}
	if len(a.anonymous.Subscribe)+len(a.anonymous.Publish) > 0 {
		a.access.Options.Anonymous = &a.anonymous
	}
	return &a.access
}

func (a *authSettings) readSecret(value string) error {
	k, err := auth.NewSecretKey("HS256", value)
	a.access.Options.Keys = append(a.access.Options.Keys, k)
	return err
}

func (a *authSettings) readTicketSecret(value string) error {
	if len(value) < 32 {
		return fmt.Errorf("it has %d bytes, and needs 32 or more: openssl rand -hex 32 makes one", len(value))
	}
	a.access.Tickets.Secret = []byte(value)
	return nil
}

// readPublishers reads the keys of publishers; the error has a line for each that is wrong.
func (a *authSettings) readPublishers(file string) (err error) {
	a.access.Options.PublisherKeys, err = auth.LoadPublisherKeys(file)
	return err
}

// readAnonymous takes what anyone may do, some of it at a time.
func (a *authSettings) readAnonymous(value string) error {
	for what := range strings.SplitSeq(value, ",") {
		action, pattern, some := strings.Cut(strings.TrimSpace(what), ":")
		if !some {
			pattern = "**"
		}
		if err := hub.CheckPattern(pattern); err != nil {
			return fmt.Errorf("%q: %w", what, err)
		}
		switch action {
		case "subscribe":
			a.anonymous.Subscribe = append(a.anonymous.Subscribe, pattern)
		case "publish":
			a.anonymous.Publish = append(a.anonymous.Publish, pattern)
		default:
			return fmt.Errorf("%q is none of subscribe, publish, subscribe:PATTERN and publish:PATTERN", what)
		}
	}
	return nil
}

// parseJWKS takes the URL of a set of keys, which nobody may change on its way.
func parseJWKS(value string) (string, error) {
	if _, err := parseURL(value); err != nil {
		return "", err
	}
	u, err := url.Parse(value)
	if err != nil {
		return "", err
	}
	local, err := onThisMachine(net.JoinHostPort(u.Hostname(), "80"))
	if !strings.EqualFold(u.Scheme, "https") && !local {
		return "", errors.Join(fmt.Errorf("%s must be https, or http on this machine: whoever changes the answer on its way can make tokens", shownURL(u)), err)
	}
	return value, nil
}

// open tells whether nobody is asked who they are, and everyone may do everything.
func (c *configuration) open() bool { return !c.isGiven(keySettings...) && !c.isGiven("anonymous") }

// access says in a line who may come in.
func (c *configuration) access() string {
	if c.open() {
		return "anyone on this machine may publish and subscribe, as no keys are set"
	}
	var ways []string
	for _, w := range []struct {
		words    string
		settings []string
	}{
		{"a token", []string{"token-secret", "token-key", "token-jwks"}},
		{"a publisher's key", []string{"keys"}},
		{"the application's leave", []string{"authorize-url"}},
	} {
		if c.isGiven(w.settings...) {
			ways = append(ways, w.words)
		}
	}
	var free []string
	if len(c.auth.anonymous.Subscribe) > 0 {
		free = append(free, "subscribe to "+strings.Join(c.auth.anonymous.Subscribe, " "))
	}
	if len(c.auth.anonymous.Publish) > 0 {
		free = append(free, "publish to "+strings.Join(c.auth.anonymous.Publish, " "))
	}
	switch {
	case len(free) == 0:
		return "only with " + strings.Join(ways, " or ")
	case len(ways) == 0:
		return "anyone may " + strings.Join(free, ", and ") + ", and nobody more"
	}
	return "anyone may " + strings.Join(free, ", and ") + "; more with " + strings.Join(ways, " or ")
}
