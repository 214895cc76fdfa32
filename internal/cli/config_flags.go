package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const configHelp = "`file` in TOML whose keys are these flags, such as listen = \"127.0.0.1:8080\"; the environment counts more, and the command line most"

// A flagValue takes down what a flag is given. It is read with the file and the
// environment, so that everything that is wrong is said at once.
type flagValue struct {
	setting
	given []string
}

func (v *flagValue) Set(text string) error {
	if !v.list {
		v.given = nil
	}
	v.given = append(v.given, text)
	return nil
}

func (v *flagValue) String() string { return v.def }

func (v *flagValue) Type() string { return string(v.kind) }

// add adds the flags to a command, and has its help show them in groups.
func (r *configReader) add(cmd *cobra.Command) {
	r.flags = cmd.Flags()
	r.flags.SortFlags = false
	r.flags.StringVar(&r.file, "config", "", configHelp)
	sets := make([]*pflag.FlagSet, groups)
	for g := range sets {
		sets[g] = pflag.NewFlagSet("", pflag.ContinueOnError)
		sets[g].SortFlags = false
	}
	sets[groupServer].AddFlag(r.flags.Lookup("config"))
	for _, s := range (&draft{demo: r.demo}).settings() {
		usage := s.help
		if s.list {
			usage += " (repeat for more)"
		}
		if s.words != "" {
			usage += " (default " + s.words + ")"
		}
		f := r.flags.VarPF(&flagValue{setting: s}, s.name, "", usage)
		if s.kind == toggleSetting {
			f.NoOptDefVal = "true"
		}
		sets[s.group].AddFlag(f)
	}
	var usages strings.Builder
	for g, set := range sets {
		fmt.Fprintf(&usages, "%s:\n%s\n", settingGroup(g), set.FlagUsagesWrapped(100))
	}
	usages.WriteString("  -h, --help   help for " + cmd.Name())
	cmd.SetUsageTemplate(strings.Replace(usageTemplate, allFlags, usages.String(), 1))
}

// allFlags is what the groups stand for.
const allFlags = "Flags:\n{{.Flags.FlagUsages | trimTrailingWhitespaces}}"
