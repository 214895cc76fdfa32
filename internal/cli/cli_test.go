package cli_test

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/internal/cli"
)

func TestMain_Usage(t *testing.T) {
	for _, test := range []struct {
		args string // separated by blanks; _ is an empty one
		want string // all but what is tried next
	}{
		{"sub", `there is no command "sub"; did you mean subscribe or subscriptions?`},
		{"nonsense", `there is no command "nonsense", but backup, bench, check, completion, config, `},
		{"help nonsense", `there is no command "nonsense", but`},
		{"help publish x", `there is no command "publish x", but`},
		{"--nonsense", "there is no flag --nonsense"},
		{"version x", `version takes no arguments, and got "x"`},
		{"completion", "completion needs one shell: bash, zsh, fish, powershell"},
		{"completion tcsh", `there is no completion for "tcsh", but for bash, zsh, fish, powershell`},

		{"publish", "publish needs a topic"},
		{"publish a b c", "got 3 arguments: put data that has spaces in quotes"},
		{"publish _ x", "a topic has at least one character"},
		{"publish --topic= a x", "a topic has at least one character"},
		{"publish --topics b a x", "there is no flag --topics; did you mean --topic?"},
		{"publish -z a x", "there is no flag -z"},
		{"publish --url", "--url needs a value"},
		{"publish --url= a x", `--url is "", which is not an http or https URL such as http://127.0.0.1:7730`},
		{"publish --url localhost:7730 a x", `--url is "localhost:7730", which is not`},
		{"publish --url ftp://localhost a x", "is not an http or https URL"},
		{"publish --url http://localhost?x a x", "a hub's URL has no query"},
		{"publish --header x a x", `--header "x" is not a header: write it as 'Name: value'`},
		{"publish --header x\x01:y a x", "is not a header"},
		{"publish --header x:y\x01z a x", "control character in its value"},
		{"publish --retry 3 a x", `--retry is "3", and must be a number and a unit, such as 3s or 1m30s`},
		{"publish --retry -3s a x", "--retry: "},
		{"publish --type a\nb a x", "--type: "},
		{"publish --id a\nb a x", "--id: "},
		{"publish --if-match a\nb a x", "--if-match has a control character"},
		{"publish --idempotency-key a\nb a x", "--idempotency-key has a control character"},
		{"publish --file f a x", `there is data both in the argument "x" and in --file`},
		{"publish --file f a -", `there is data both in standard input ("-") and in --file`},
		{"publish --lines a x", `--lines reads standard input or --file, not the argument "x"`},
		{"publish --event-stream a x", `--event-stream reads standard input or --file`},
		{"publish --lines --event-stream a", "--lines and --event-stream cannot be given together"},
		{"publish --lines --id 1 a", "--id is for one event, and --lines publishes many"},
		{"publish --event-stream --if-match 1 a", "--if-match is for one event, and --event-stream publishes many"},
		{"publish --lines --idempotency-key 1 a", "--idempotency-key is for one event"},
		{"publish --lines --timeout 1s a", "--timeout is for one event"},
		{"publish --event-stream --type x a", "those of --event-stream have theirs"},
		{"publish --lines --json a", "--json is for one event"},
		{"publish --end --type x a", `--type is for data, and --end alone has none: give DATA, or "-"`},
		{"publish --json-output --quiet a x", "--json-output and --quiet cannot be given together"},
		{"publish --lines=maybe a", `--lines is "maybe", and must be true or false, or no value at all`},

		{"subscribe", "subscribe needs a URL or a topic"},
		{"subscribe _", "a topic has at least one character"},
		{"subscribe --pattern= a", "a pattern has at least one character"},
		{"subscribe ws://localhost/x", `"ws://localhost/x" is neither an http or https URL nor a plain topic; if it is a topic's name, write --topic ws://localhost/x`},
		{"subscribe http://", `"http://" is not a URL such as https://example.com/stream`},
		{"subscribe http://[::1", `is not a URL such as`},
		{"subscribe http://a http://b", "one URL at a time, and got 2"},
		{"subscribe http://a b", "there is a URL, and topics or patterns beside it"},
		{"subscribe http://a --pattern b", "there is a URL, and topics or patterns beside it"},
		{"subscribe --count 0 a", "--count must be more than zero"},
		{"subscribe --count x a", `--count is "x", and must be a whole number`},
		{"subscribe --last -1 a", "--last must be more than zero"},
		{"subscribe --timeout 0s a", "--timeout must be more than zero"},
		{"subscribe --colour never a", "there is no flag --colour; did you mean --color?"},
		{"subscribe --color red a", `--color is "red", and can be auto, always or never`},
		{"subscribe --all a", "--all is for --json"},
		{"subscribe --json --data-only a", "--json and --data-only cannot be given together"},
		{"subscribe --json --exec x a", "--json and --exec cannot be given together"},
		{"subscribe --since 1h --last 3 a", "--since and --last cannot be given together"},
		{"subscribe --last-event-id 1 --last 3 a", "--last-event-id and --last cannot be given together"},
		{"subscribe --last-event-id a\nb a", "has a control character"},
		{"subscribe --exec= a", "--exec needs a command"},
		{"subscribe --exec-fail-stop a", "--exec-fail-stop needs --exec"},
		{"subscribe --method P(ST a", `--method "P(ST" is not an HTTP method such as POST`},

		{"bench http://a http://b", "bench takes one URL, and got 2"},
		{"bench --url http://a http://b", `the URL is given twice, as "http://b" and with --url`},
		{"bench localhost:7730", `--url is "localhost:7730", which is not`},
		{"bench --header x", `--header "x" is not a header`},
		{"bench --header Accept:x", "--header: Accept is sent by the load client itself"},
		{"bench --subscribers -1", "--subscribers is -1, and must be 0 or more"},
		{"bench --topics 0", "--topics is 0, and must be more than 0"},
		{"bench --topics 1000001", "--topics: 1000001 must be 1 to 1000000"},
		{"bench --rate -1", "--rate: -1 must be 0 (as fast as answered) to 100000000 events a second"},
		{"bench --rate NaN", "--rate: NaN must be 0"},
		{"bench --duration 0s", "--duration is 0s, and must be more than 0"},
		{"bench --duration 25h", "--duration: 25h0m0s must be more than 0 and at most 24h"},
		{"bench --size 50", "--size: 50 must be 51 to 1048576"},
		{"bench --storm 0", "--storm is 0, and must be more than 0"},
		{"bench --storm 1 --idle", "--storm does not go with --idle"},
		{"bench --storm 1 --rate 3", "--rate does not go with --storm"},
		{"bench --idle --batch 3", "--batch does not go with --idle"},
		{"bench --idle --subscribers 0", "--subscribers: must be 1 or more"},
		{"bench --topic-prefix a/../b", `--topic-prefix: "a/../b" must be letters, digits`},
		{"bench --topic-prefix=", "--topic-prefix needs at least one character"},
		{"bench --report=", "--report needs the name of a file"},
	} {
		t.Run(strings.ReplaceAll(test.args, "/", "|"), func(t *testing.T) {
			args := strings.Split(test.args, " ")
			for i := range args {
				args[i] = strings.TrimPrefix(args[i], "_")
			}
			code, out, errs := run(t, args)
			message, next, ok := strings.Cut(errs, "\n")
			if code != cli.ExitUsage || out != "" || !strings.HasPrefix(message, "tidewire: ") || !strings.Contains(message, test.want) {
				t.Errorf("got code %d, output %q and errors %q, want 2 and %q", code, out, errs, test.want)
			}
			if !ok || !strings.HasPrefix(next, "Try: tidewire ") || strings.Count(next, "\n") != 1 {
				t.Errorf("got %q after the message, want what to try", next)
			}
		})
	}
	t.Run("all at once", func(t *testing.T) {
		_, _, errs := run(t, []string{"bench", "--topics", "0", "--size", "-3", "--url", "x", "--header", "y"})
		for _, want := range []string{"--topics", "--size", "--url", "--header"} {
			if !strings.Contains(errs, want) {
				t.Errorf("got %q, want %s in it", errs, want)
			}
		}
	})
	t.Run("environment", func(t *testing.T) {
		code, _, errs := run(t, []string{"publish", "a", "x"}, env(map[string]string{"TIDEWIRE_URL": "nonsense"}))
		if code != cli.ExitUsage || !strings.Contains(errs, `TIDEWIRE_URL is "nonsense"`) {
			t.Errorf("got code %d and %q, want 2 and the variable", code, errs)
		}
	})
}

// The help is what users have of a manual: every flag and exit code stands in it.
func TestMain_Help(t *testing.T) {
	for _, test := range []struct {
		golden string
		ways   [][]string
	}{
		{"tidewire", [][]string{nil, {"--help"}, {"-h"}, {"help"}}},
		{"serve", [][]string{{"serve", "--help"}, {"help", "serve"}}},
		{"config", [][]string{{"config"}, {"config", "--help"}, {"help", "config"}}},
		{"config-reference", [][]string{{"config", "reference", "--help"}}},
		{"check", [][]string{{"check", "--help"}}},
		{"backup", [][]string{{"backup", "--help"}}},
		{"demo", [][]string{{"demo", "--help"}, {"help", "demo"}}},
		{"publish", [][]string{{"publish", "--help"}, {"help", "publish"}}},
		{"subscribe", [][]string{{"subscribe", "--help"}, {"help", "subscribe"}}},
		{"subscriptions", [][]string{{"subscriptions", "--help"}, {"help", "subscriptions"}}},
		{"doctor", [][]string{{"doctor", "--help"}, {"help", "doctor"}}},
		{"bench", [][]string{{"bench", "--help"}, {"help", "bench"}}},
		{"version", [][]string{{"version", "--help"}, {"help", "version"}}},
		{"completion", [][]string{{"completion", "--help"}, {"help", "completion"}}},
		{"help", [][]string{{"help", "--help"}}},
	} {
		for _, args := range test.ways {
			code, out, errs := run(t, args)
			if code != cli.ExitOK || errs != "" {
				t.Errorf("%q: got code %d and errors %q, want 0 and none", args, code, errs)
			}
			golden(t, "help/"+test.golden+".txt", out)
		}
	}
}

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}} {
		if code, out, _ := run(t, args); code != cli.ExitOK || !strings.HasPrefix(out, "tidewire ") {
			t.Errorf("%q: got code %d and %q", args, code, out)
		}
	}
	_, out, _ := run(t, []string{"version", "--json"})
	var v map[string]string
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatal(err)
	}
	if v["go"] != runtime.Version() || v["os"] != runtime.GOOS || v["arch"] != runtime.GOARCH || v["version"] == "" || len(v) != 4 {
		t.Errorf("got %v, want the version, Go's, and the system", v)
	}
}

func TestCompletion(t *testing.T) {
	for shell, want := range map[string]string{"bash": "__start_tidewire", "zsh": "#compdef tidewire", "fish": "complete -c tidewire", "powershell": "Register-ArgumentCompleter"} {
		if code, out, _ := run(t, []string{"completion", shell}); code != cli.ExitOK || !strings.Contains(out, want) {
			t.Errorf("%s: got code %d and %.200q, want %q", shell, code, out, want)
		}
	}
	if _, out, _ := run(t, []string{"__complete", "subscribe", "--color", ""}); !strings.HasPrefix(out, "auto\nalways\nnever\n") {
		t.Errorf("got %q, want what --color can be", out)
	}
}
