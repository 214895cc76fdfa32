package cli

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/tidewire/tidewire/demo"
	"github.com/tidewire/tidewire/hub"
)

// newDemoCommand makes the command that shows what there is.
func newDemoCommand(std IO) *cobra.Command {
	f := serveFlags{memory: true}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a hub with a page of live examples",
		Long: `Run a hub as "tidewire serve" does, with a page of live examples at its address: a
clock, a counter, an article feed, custom event types, and a panel that shows a
connection as it is cut and resumes. The history is in memory.

Exit codes: 0 stopped by an interrupt; 1 it could not listen or serve; 2 wrong usage;
130 stopped by a second interrupt.`,
		Example: `  tidewire demo
  tidewire demo --listen 127.0.0.1:0`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.config(cmd.Flags())
			if err != nil {
				return err
			}
			var d *demo.Demo
			cfg.Retention = append(demo.Retention(), cfg.Retention...)
			cfg.Handler = func(h *hub.Hub) http.Handler {
				d = demo.New(h)
				return d
			}
			return serve(cmd.Context(), std, cfg, "demo/articles", func(ctx context.Context) { d.Run(ctx) })
		},
	}
	f.add(cmd)
	return cmd
}
