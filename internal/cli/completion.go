package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

var shells = []string{"bash", "zsh", "fish", "powershell"}

func newCompletionCommand(IO) *cobra.Command {
	return &cobra.Command{
		Use:   "completion " + strings.Join(shells, "|"),
		Short: "Print the script that completes tidewire's commands in a shell",
		Long: `Print the script that completes tidewire's commands and flags in a shell.

Exit codes: 0 printed; 2 wrong usage.`,
		Example: `  source <(tidewire completion bash)
  tidewire completion zsh > "${fpath[1]}/_tidewire"
  tidewire completion fish > ~/.config/fish/completions/tidewire.fish
  tidewire completion powershell | Out-String | Invoke-Expression`,
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("completion needs one shell: %s", strings.Join(shells, ", "))
			}
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return usagef("there is no completion for %q, but for %s", args[0], strings.Join(shells, ", "))
		},
	}
}
