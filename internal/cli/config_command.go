package cli

import (
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
)

// newConfigCommand makes the commands about the configuration of serve.
func newConfigCommand(std IO) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check, print and explain the configuration of serve",
		Long: `Check the configuration of "tidewire serve", print what counts of it, or say what
there is to set.

Exit codes: 0 said; 2 wrong usage.`,
		Args: cobra.ArbitraryArgs, // for an error of our own
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(newConfigCheckCommand(std), newConfigPrintCommand(std), newConfigReferenceCommand())
	return cmd
}

func newConfigCheckCommand(std IO) *cobra.Command {
	r := &configReader{std: std}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Look whether serve would take a configuration",
		Long: `Read the configuration as "tidewire serve" does, from the same flags, environment and
file, and say everything that is wrong with it, each with its place. The files that it
names are read too; nothing is asked over the network, and nothing is changed.

Exit codes: 0 all is right; 1 something is wrong; 2 wrong usage.`,
		Example: `  tidewire config check
  tidewire config check --config /etc/tidewire.toml`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			c, err := r.read()
			c.printWarnings(std.Err)
			if err != nil {
				return err
			}
			return c.summarise(std.Out)
		},
	}
	r.add(cmd)
	return cmd
}

func newConfigPrintCommand(std IO) *cobra.Command {
	r := &configReader{std: std}
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Print the configuration that counts, and where it comes from",
		Long: `Print every setting that "tidewire serve" would have with the same flags, environment and
file, as a file in TOML, each with the place where it comes from. Secrets are left out, and so
are passwords and queries of URLs.

Exit codes: 0 printed; 1 something is wrong with the configuration; 2 wrong usage.`,
		Example: `  tidewire config print --config /etc/tidewire.toml`,
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			c, err := r.read()
			c.printWarnings(std.Err)
			if err != nil {
				return err
			}
			return c.print(std.Out)
		},
	}
	r.add(cmd)
	return cmd
}

func (c *configuration) printWarnings(w io.Writer) {
	for _, text := range c.warnings {
		fmt.Fprintf(w, "tidewire: warning: %s\n", visible(text))
	}
}

// summarise says what a configuration is about.
func (c *configuration) summarise(w io.Writer) error {
	own := 0
	for _, g := range c.given {
		if g.from != byDefault {
			own++
		}
	}
	file, data, tls := c.file, c.server.Data, string(c.server.Transport.TLS)
	if file == "" {
		file = "none"
	}
	if data == "" {
		data = "in memory"
	}
	if tls == "" {
		tls = tlsOff
	}
	_, err := fmt.Fprintf(w, "ok\nFile       %s\nSettings   %d that are not the defaults\nListen     %s, TLS %s\nData       %s\nAllowed    %s\n",
		visible(file), own, visible(c.server.Listen), tls, visible(data), visible(c.access()))
	return err
}

// print writes a configuration as a file.
func (c *configuration) print(w io.Writer) error {
	var text strings.Builder
	group := settingGroup(-1)
	for _, s := range c.settings {
		if s.group != group {
			if group >= 0 {
				text.WriteString("\n")
			}
			group = s.group
			fmt.Fprintf(&text, "# %s\n", group)
		}
		line, err := s.line(c.given[s.name])
		if err != nil {
			return err
		}
		text.WriteString(line)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// line writes a setting as a line of a file.
func (s *setting) line(g given) (string, error) {
	from := "the default"
	switch {
	case g.from == byFile && len(g.values) > 0:
		from = visible(place{g.values[0].at.file, g.values[0].at.line, ""}.String())
	case g.from != byDefault && len(g.values) > 0:
		from = g.values[0].at.name
	case g.from != byDefault:
		from = "an empty list"
	}
	switch {
	case s.secret && g.from != byDefault:
		return fmt.Sprintf("# %s is not shown # %s\n", s.name, from), nil
	case s.kind == toggleSetting && len(g.values) == 0:
		return fmt.Sprintf("%s = false # %s\n", s.name, from), nil
	case g.from == byDefault && len(g.values) == 0 && s.words != "":
		return fmt.Sprintf("# %s is not set # %s: %s\n", s.name, from, s.words), nil
	case g.from == byDefault && len(g.values) == 0:
		return fmt.Sprintf("# %s is not set\n", s.name), nil
	}
	values, hidden := []string{}, ""
	for _, text := range g.texts() {
		if !s.kind.quoted() {
			values = append(values, s.kind.inTOML(text))
			continue
		}
		shown := withoutSecrets(text)
		if shown != text {
			hidden = "# "
		}
		b, err := toml.Marshal(map[string]string{"v": shown})
		if err != nil {
			return "", fmt.Errorf("print %s: %w", s.name, err)
		}
		values = append(values, strings.TrimSuffix(strings.TrimPrefix(string(b), "v = "), "\n"))
	}
	value := strings.Join(values, ", ")
	if s.list {
		value = "[" + value + "]"
	}
	return fmt.Sprintf("%s%s = %s # %s\n", hidden, s.name, value, from), nil
}

// withoutSecrets takes the password and the query out of a text that is a URL.
func withoutSecrets(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User == nil && u.RawQuery == "" {
		return text
	}
	return shownURL(u)
}
