package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/tidewire/tidewire/server"
)

// follow reads the configuration again at each hangup, until ctx ends, or the hangup is
// that of the terminal that the server was started from.
func (r *configReader) follow(ctx context.Context, hangups <-chan os.Signal, s *server.Server, running *configuration) {
	terminal := r.std.IsTerminal(r.std.In)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			if terminal && !r.std.IsTerminal(r.std.In) {
				return
			}
			r.reload(s, running)
		}
	}
}

// reload has the server take what is new of the configuration, or nothing if there is a
// mistake anywhere.
func (r *configReader) reload(s *server.Server, running *configuration) {
	c, err := r.read()
	if err == nil {
		err = c.fit(running)
	}
	if err == nil {
		err = s.Reload(&c.server)
	}
	if err != nil {
		var wrong mistakes
		if !errors.As(err, &wrong) {
			slog.Error("the configuration cannot be taken, and what was read before stays", "error", err)
		}
		for _, m := range wrong {
			slog.Error("the configuration is wrong, and what was read before stays", "mistake", m.String())
		}
		return
	}
	for _, w := range c.warnings {
		slog.Warn(visible(w))
	}
	var changed, later []string
	for _, s := range c.settings {
		switch {
		case slices.Equal(c.given[s.name].texts(), running.given[s.name].texts()):
		case s.reload:
			changed = append(changed, s.name)
			running.given[s.name] = c.given[s.name]
		default:
			later = append(later, s.name)
		}
	}
	if len(later) > 0 {
		slog.Warn("these settings have changed, and count after a restart only", "settings", strings.Join(later, " "))
	}
	slog.Info("the configuration was read again", "changed", strings.Join(changed, " "), "allowed", c.access())
}

// fit leaves what needs a restart as it is running, where the rest depends on that. The
// error says that the rest does not go with it.
func (c *configuration) fit(running *configuration) error {
	if local, err := onThisMachine(running.server.Listen); err != nil || !local && c.open() {
		return mistakes{{c.place("listen"), fmt.Sprintf("the server still listens on %s, where everyone could do everything without keys: restart it", running.server.Listen)}}
	}
	c.server.Data = running.server.Data
	if c.server.Transport.TLS != running.server.Transport.TLS {
		c.server.Transport = running.server.Transport
	}
	return nil
}
