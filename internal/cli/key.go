package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidewire/tidewire/auth"
)

// maxLifetime is more than anyone means, and less than a duration can hold.
const maxLifetime = 100 * 365 * 24 * time.Hour

// newKeyCommand makes the commands about publisher keys.
func newKeyCommand(std IO) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make, list and revoke keys of back ends that publish",
		Long: `Make, list and revoke publisher keys: for back ends that want no JWT. A server knows
them from a file, which has their hashes and not the keys themselves.

Exit codes: 0 said; 2 wrong usage.`,
		Args: cobra.ArbitraryArgs, // for an error of our own
		RunE: helpOrUnknown,
	}
	cmd.AddCommand(newKeyNewCommand(std), newKeyListCommand(std), newKeyRevokeCommand(std))
	return cmd
}

// helpOrUnknown is what a command does that only has others below it.
func helpOrUnknown(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	return unknownCommand(cmd, args[0])
}

// permissionFlags are those of what may be done.
type permissionFlags struct{ auth.Permissions }

func (p *permissionFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&p.Publish, "publish", nil, "topics that match `PATTERN` may be published to; may be repeated")
	f.StringArrayVar(&p.Subscribe, "subscribe", nil, "topics that match `PATTERN` may be subscribed to; may be repeated")
	f.StringArrayVar(&p.Private, "private", nil, "private events of topics that match `PATTERN` come too; may be repeated")
	f.StringArrayVar(&p.Delete, "delete", nil, "the history of topics that match `PATTERN` may be deleted; may be repeated")
	f.BoolVar(&p.Admin, "admin", false, "others' streams may be seen and ended")
}

func (p *permissionFlags) check() error {
	if len(p.Publish)+len(p.Subscribe)+len(p.Private)+len(p.Delete) == 0 && !p.Admin {
		return usagef("say what may be done, such as --publish 'orders/**' or --subscribe '**'")
	}
	if err := p.Permissions.Check(); err != nil {
		return usagef("%v", err)
	}
	return nil
}

// parseLifetime reads a duration, with d for days too; "" is none.
func parseLifetime(flag, s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		d = time.Duration(min(max(n, 0), 40_000)) * 24 * time.Hour
	}
	if err != nil || d < time.Second || d > maxLifetime {
		return 0, usagef("--%s is %q, and must be a time to live such as 90d, 12h or 15m", flag, s)
	}
	return d, nil
}

func newKeyNewCommand(std IO) *cobra.Command {
	var (
		may                 permissionFlags
		name, expires, file string
	)
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Make a publisher key",
		Long: `Make a publisher key, and print it: it is shown this once, and kept nowhere. What a
server needs of it is a line of the file of --file, or is printed on standard error.

A back end sends the key as "Authorization: Bearer tw_…", or as a password: curl -u :tw_….
A server that runs takes the file's new keys at a SIGHUP.

Exit codes: 0 made; 1 the file could not be read or written; 2 wrong usage.`,
		Example: `  tidewire key new --name backend --publish 'orders/**' --file keys.jsonl
  tidewire key new --name ci --publish builds --expires 90d --file keys.jsonl`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			life, err := parseLifetime("expires", expires)
			if err := firstOf([]error{may.check(), err}); err != nil {
				return err
			}
			if name == "" {
				return usagef("--name is needed, for people and for the server's log: --name backend")
			}
			now, end := std.Now(), time.Time{}
			if life > 0 {
				end = now.Add(life)
			}
			secret, k, err := auth.NewPublisherKey(name, may.Permissions, now, end)
			if err != nil {
				return usagef("%v", err)
			}
			return giveKey(std, file, secret, k)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&name, "name", "", "`NAME` of the back end")
	may.add(cmd)
	f.StringVar(&expires, "expires", "", "it is good for this `TIME`, such as 90d or 12h (default for ever)")
	f.StringVar(&file, "file", "", "add it to this `FILE`, which serve --keys reads")
	return cmd
}

// giveKey stores a key, and then prints it.
func giveKey(std IO, file, secret string, k auth.PublisherKey) error {
	line, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if file == "" {
		fmt.Fprintf(std.Err, "The key is shown this once. The server needs this line in the file of --keys:\n%s\n", line)
	} else if err := appendKey(file, line); err != nil {
		return err
	} else {
		fmt.Fprintf(std.Err, "The key is shown this once. %s has it as %s; a server that runs takes it at a SIGHUP.\n", file, k.ID)
	}
	_, err = fmt.Fprintln(std.Out, secret)
	return err
}

// appendKey adds a line to a file of keys, which it makes if need be.
func appendKey(name string, line []byte) error {
	if _, err := auth.LoadPublisherKeys(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("nothing was added to the file of keys: %w", err)
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("cannot add the key: %w", err)
	}
	line = append(line, '\n')
	if !endsLine(f) {
		line = append([]byte("\n"), line...)
	}
	_, err = f.Write(line)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot add the key: %w", err)
	}
	return nil
}

// endsLine tells whether a file is empty or has a line break at its end.
func endsLine(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return true
	}
	last := make([]byte, 1)
	_, err = f.ReadAt(last, info.Size()-1)
	return err != nil || last[0] == '\n'
}

func newKeyListCommand(std IO) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the publisher keys of a file",
		Long: `List the publisher keys of a file, with what each may do. The keys themselves are not
there.

Exit codes: 0 listed; 1 the file cannot be read, or a line of it is wrong; 2 wrong usage.`,
		Example: `  tidewire key list --file keys.jsonl`,
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			if file == "" {
				return usagef("--file is needed: the file that serve --keys reads")
			}
			keys, err := auth.LoadPublisherKeys(file)
			if err != nil {
				return err
			}
			return listKeys(std, keys)
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "`FILE` of keys")
	return cmd
}

func listKeys(std IO, keys []auth.PublisherKey) error {
	table := tabwriter.NewWriter(std.Out, 0, 0, 2, ' ', 0)
	row := func(columns ...string) {
		_, _ = io.WriteString(table, strings.Join(columns, "\t")+"\n") // Flush has the error
	}
	row("ID", "NAME", "CREATED", "EXPIRES", "MAY")
	for _, k := range keys {
		row(k.ID, visible(k.Name), day(k.Created), expiry(k.Expires, std.Now()), visible(grants(&k.Permissions)))
	}
	return table.Flush()
}

func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.DateOnly)
}

func expiry(t, now time.Time) string {
	switch {
	case t.IsZero():
		return "never"
	case !now.Before(t):
		return "expired"
	}
	return t.UTC().Format(time.RFC3339)
}

// grants says in a line what may be done.
func grants(p *auth.Permissions) string {
	var all []string
	for _, list := range permissionLists(p) {
		if len(list.patterns) > 0 {
			all = append(all, list.action+" "+strings.Join(list.patterns, " "))
		}
	}
	if p.Admin {
		all = append(all, "admin")
	}
	if len(all) == 0 {
		return "nothing"
	}
	return strings.Join(all, ", ")
}

type permissionList struct {
	action   string
	patterns []string
}

func permissionLists(p *auth.Permissions) []permissionList {
	return []permissionList{{"publish", p.Publish}, {"subscribe", p.Subscribe}, {"private", p.Private}, {"delete", p.Delete}}
}

func newKeyRevokeCommand(std IO) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "revoke [flags] ID|NAME",
		Short: "Take a publisher key out of a file",
		Long: `Take a publisher key out of a file. A server that runs refuses it after a SIGHUP, and
tickets that were issued for it, and ends the streams that were opened with either.

Exit codes: 0 revoked; 1 there is no such key, or more than one of that name, or the
file could not be written; 2 wrong usage.`,
		Example: `  tidewire key revoke --file keys.jsonl backend`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usagef("revoke takes the id or the name of one key, which tidewire key list shows")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if file == "" {
				return usagef("--file is needed: the file that serve --keys reads")
			}
			id, err := revokeKey(file, args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(std.Out, "revoked %s: a server that runs refuses it after a SIGHUP, and ends its streams\n", id)
			return err
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "`FILE` of keys")
	return cmd
}

// revokeKey leaves all other lines as they are, even those that are wrong.
func revokeKey(name, which string) (id string, err error) {
	path, err := filepath.EvalSymlinks(name) // the file is replaced, and not a link to it
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var rest [][]byte
	var byID, byName []string
	lines := bytes.SplitAfter(text, []byte("\n"))
	for _, line := range lines {
		var k struct{ ID, Name string }
		if json.Unmarshal(line, &k) != nil {
			continue
		}
		switch which {
		case k.ID:
			byID = append(byID, k.ID)
		case k.Name:
			byName = append(byName, k.ID)
		}
	}
	switch {
	case len(byID) > 0:
		id = which
	case len(byName) == 1:
		id = byName[0]
	case len(byName) > 1:
		return "", fmt.Errorf("%s has %d keys with the name %q: say which by its id, of %s", name, len(byName), which, strings.Join(byName, ", "))
	default:
		return "", fmt.Errorf("%s has no key with the id or the name %q: tidewire key list --file %[1]s shows those that it has", name, which)
	}
	for _, line := range lines {
		var k struct{ ID string }
		if json.Unmarshal(line, &k) != nil || k.ID != id {
			rest = append(rest, line)
		}
	}
	return id, replaceFile(path, bytes.Join(rest, nil))
}

// replaceFile writes a file anew: whoever reads it has all of the old or all of the new one,
// after a crash too.
func replaceFile(name string, content []byte) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, bytes.NewReader(content))
	err = errors.Join(err, f.Chmod(info.Mode().Perm()), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
