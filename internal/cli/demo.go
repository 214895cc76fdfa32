package cli

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/tidewire/tidewire/demo"
	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/server"
)

// newDemoCommand makes the command that shows what there is.
func newDemoCommand(std IO) *cobra.Command {
	r := &configReader{std: std, demo: true}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a hub with a page of live examples",
		Long: `Run a hub as "tidewire serve" does, with a page of live examples at its address: a
clock, a counter, an article feed, custom event types, and a panel that shows a
connection as it is cut and resumes. Its second page, /compare, has the same events by
polling, long-polling, Server-Sent Events and WebSocket side by side. The history is in
memory.

Exit codes: 0 stopped by an interrupt; 1 it could not listen or serve; 2 wrong usage;
130 stopped by a second interrupt.`,
		Example: `  tidewire demo
  tidewire demo --listen 127.0.0.1:0`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var d *demo.Demo
			r.adjust = func(c *server.Config) {
				c.Retention = append(demo.Retention(), c.Retention...)
				c.Handler = func(h *hub.Hub) http.Handler {
					d = demo.New(h)
					return d
				}
			}
			return serve(cmd.Context(), r, "demo/articles", func(ctx context.Context) { d.Run(ctx) })
		},
	}
	r.add(cmd)
	return cmd
}
