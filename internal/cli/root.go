package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commands are all there are. Each makes its own from what it has of the world.
var commands = []func(IO) *cobra.Command{
	newServeCommand,
	newConfigCommand,
	newDemoCommand,
	newPublishCommand,
	newSubscribeCommand,
	newSubscriptionsCommand,
	newDoctorCommand,
	newBenchCommand,
	newCheckCommand,
	newBackupCommand,
	newTokenCommand,
	newKeyCommand,
	newVersionCommand,
	newCompletionCommand,
	newHelpCommand,
}

const usageTemplate = `Usage:
  {{if .HasAvailableSubCommands}}{{.CommandPath}} COMMAND [flags]{{else}}{{.UseLine}}{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}

Commands:{{range .Commands}}{{if or (eq .Name "help") .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableFlags}}

Flags:
{{.Flags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableSubCommands}}

"{{.CommandPath}} COMMAND --help" says more of a command.{{end}}
`

func newRootCommand(std IO) *cobra.Command {
	root := &cobra.Command{
		Use:   "tidewire",
		Short: "Publish events and subscribe to them, over Server-Sent Events",
		Long: `Tidewire is the event-stream server: a backend publishes events over HTTP, and any
number of browsers and programs receive them as they happen, through Server-Sent
Events.

A hub is found at --url, else at the URL in the environment variable TIDEWIRE_URL,
else at ` + defaultURL + `.`,
		Example: `  tidewire subscribe clock
  tidewire publish clock "it is noon"
  tidewire subscribe https://example.com/stream`,
		Version:           buildVersion().Version,
		Args:              cobra.ArbitraryArgs, // for an error of our own
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	root.SetIn(std.In)
	root.SetOut(std.Out)
	root.SetErr(std.Err)
	root.Flags().Bool("version", false, "print the version of the program")
	root.SetVersionTemplate("{{.DisplayName}} {{.Version}}\n")
	root.SetUsageTemplate(usageTemplate)
	root.SetFlagErrorFunc(flagError)
	for _, newCommand := range commands {
		cmd := newCommand(std)
		if cmd.Name() == "help" {
			root.SetHelpCommand(cmd)
			continue
		}
		root.AddCommand(cmd)
	}
	return root
}

// newHelpCommand stands in for cobra's, which knows no failure.
func newHelpCommand(IO) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Say what a command does",
		Long: `Say what a command does, with its flags and exit codes.

Exit codes: 0 said; 2 there is no such command.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(cmd.Root(), strings.Join(args, " "))
			}
			about.InitDefaultHelpFlag()
			about.InitDefaultVersionFlag()
			return about.Help()
		},
	}
}

func unknownCommand(root *cobra.Command, name string) error {
	var names []string
	for _, c := range root.Commands() {
		names = append(names, c.Name())
	}
	if similar := root.SuggestionsFor(name); len(similar) > 0 {
		return usagef("there is no command %q; did you mean %s?", name, strings.Join(similar, " or "))
	}
	return usagef("there is no command %q, but %s", name, strings.Join(names, ", "))
}

// flagError says what is wrong with a flag, and what would be right.
func flagError(cmd *cobra.Command, err error) error {
	var (
		unknown *pflag.NotExistError
		needs   *pflag.ValueRequiredError
		invalid *pflag.InvalidValueError
	)
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		return usagef("there is no flag -%s", unknown.GetSpecifiedName())
	case errors.As(err, &unknown):
		text := fmt.Sprintf("there is no flag --%s", unknown.GetSpecifiedName())
		if similar := similarFlags(cmd, unknown.GetSpecifiedName()); len(similar) > 0 {
			text += "; did you mean " + strings.Join(similar, " or ") + "?"
		}
		return usagef("%s", text)
	case errors.As(err, &needs):
		return usagef("--%s needs a value", needs.GetFlag().Name)
	case errors.As(err, &invalid):
		want := map[string]string{
			"duration": "a number and a unit, such as 3s or 1m30s",
			"int":      "a whole number",
			"bool":     "true or false, or no value at all",
		}[invalid.GetFlag().Value.Type()]
		return usagef("--%s is %q, and must be %s", invalid.GetFlag().Name, invalid.GetValue(), want)
	}
	return usagef("%s", err)
}

// similarFlags returns those that begin like a name that does not exist.
func similarFlags(cmd *cobra.Command, name string) (similar []string) {
	name = name[:min(len(name), 3)]
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if strings.HasPrefix(f.Name, name) {
			similar = append(similar, "--"+f.Name)
		}
	})
	return similar
}

// noArguments refuses every one.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no arguments, and got %q", cmd.Name(), args[0])
	}
	return nil
}
