package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func newConfigReferenceCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reference",
		Short: "Print all that there is to set, in Markdown",
		Long: `Print what "tidewire serve" can be told, with the names that it has in the file, in the
environment and as a flag.

Exit codes: 0 printed; 2 wrong usage.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printReference(cmd.OutOrStdout())
		},
	}
}

const referenceHead = `# Configuration

` + "`tidewire serve`" + ` needs no configuration. What it can be told stands below, once for all three ways to say it:

- a **flag** is the key behind two dashes: ` + "`--max-streams 5000`" + `;
- a variable of the **environment**: ` + "`TIDEWIRE_MAX_STREAMS=5000`" + `. Elements of a list stand on lines of their own, or between semicolons. An
  empty variable counts for nothing;
- a **file** in TOML, which ` + "`--config`" + ` or ` + "`TIDEWIRE_CONFIG`" + ` names. Its keys have dashes as here, and stand in no table:

` + "```toml" + `
listen = "0.0.0.0:443"
tls-cert = "/etc/tidewire/cert.pem"
tls-key = "/etc/tidewire/key.pem"
keys = "/etc/tidewire/keys.jsonl"
anonymous = ["subscribe:news/**"]
retain = ["news/**=count:1000,age:7d", "**=age:1h"]
max-streams = 5000
` + "```" + `

Flags count most, then the environment, then the file, then the default. A list that is given in one of them stands for all of
it. Names of files are relative to where the server was started.

` + "`tidewire config check`" + ` reads all of that as the server does, and the files that it names; it says everything that is wrong at
once, with the line, variable or flag, and what would be right. ` + "`tidewire config print`" + ` says what counts and where it comes from.
Keep secrets in the environment or in a file that others cannot read; nothing that the server says or logs has one in it.

At ` + "`SIGHUP`" + ` the server reads the file and the environment again, and what is marked so below changes at once; files of keys and
certificates are read again too. No streams end but those of keys that are gone. If anything is wrong, all of it stays as it
was, and the log says why. What has changed and needs a restart is named there.
`

func printReference(w io.Writer) error {
	var text strings.Builder
	text.WriteString(referenceHead)
	group := settingGroup(-1)
	for _, s := range new(draft).settings() {
		if s.group != group {
			group = s.group
			fmt.Fprintf(&text, "\n## %s\n\n| key | environment | default | SIGHUP | meaning |\n|---|---|---|---|---|\n", group)
		}
		def, reload := s.words, ""
		if s.def != "" {
			def = "`" + s.def + "`"
		}
		if s.kind == toggleSetting {
			def = "`false`"
		}
		if s.reload {
			reload = "yes"
		}
		help := strings.ReplaceAll(s.help, "`", "")
		if s.list {
			help = "list: " + help
		}
		fmt.Fprintf(&text, "| `%s` | `%s` | %s | %s | %s |\n", s.name, s.variable(), cell(def), reload, cell(help))
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// cell writes text so that no pattern in it is taken for emphasis, and no | for the end.
func cell(text string) string {
	if strings.HasPrefix(text, "`") {
		return text
	}
	return strings.NewReplacer("|", `\|`, "*", `\*`, "<", "&lt;").Replace(text)
}
