package cli_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/internal/cli"
)

// secret is long enough to sign tokens, and must be seen nowhere.
const secret = "correct-horse-battery-staple-0123456789"

// write writes a file of its own, and returns its name.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// certificate makes a pair of files that end at a time.
func certificate(t *testing.T, until time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, NotBefore: until.Add(-time.Hour), NotAfter: until}
	public, err := x509.CreateCertificate(rand.Reader, about, about, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert = write(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: public})))
	key = write(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	return cert, key
}

func TestConfigCheck_MistakesInAFileHaveTheirLine(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"unknown key", "memory = true\nlistne = \"x\"", `:2: there is no key "listne"; did you mean listen?`},
		{"underscores", "max_topics = 3", `:1: there is no key "max_topics"; did you mean max-topics?`},
		{"nothing like it", "zebra = 3", `:1: there is no key "zebra": "tidewire config reference" has them all`},
		{"twice", "retry = \"3s\"\n\nretry = \"4s\"", ":3: retry: it stands in line 1 too: keep one of them"},
		{"twice in quotes", "retry = \"3s\"\n\"retry\" = \"4s\"", ":2: retry: it stands in line 1 too"},
		{"table", "[limits]\nmax-topics = 3", ":1: [limits] begins a table, and there are none"},
		{"list of tables", "[[limits]]", ":1: [limits] begins a table"},
		{"after a table", "[limits]\nmax-topics = 0", ":2: max-topics: must be more than 0"},
		{"dots", "max.topics = 3", ":1: max.topics: keys have no dots"},
		{"another file", `config = "other.toml"`, ":1: config: a file cannot name another one"},
		{"syntax", "memory = true\nlisten = \nretry = \"3s\"", ":2: it is no TOML: "},
		{"an end too soon", "memory = true\nlisten = \"", ":2: it is no TOML: "},
		{"text for a number", `max-topics = "many"`, ":1: max-topics: it is text, and must be a whole number, without quotes"},
		{"fraction for a number", "max-topics = 1.5", ":1: max-topics: it is a number, and must be a whole number"},
		{"too large a number", "max-topics = 99999999999999999999", ":1: max-topics: 99999999999999999999 is no number that fits"},
		{"number for text", "listen = 7730", ":1: listen: it is a number, and must be text, in quotes"},
		{"list for text", `listen = ["a", "b"]`, ":1: listen: it is a list, and must be text, in quotes"},
		{"date for text", "listen = 2026-01-01", ":1: listen: it is a date or a time"},
		{"table for text", "listen = {a = 1}", ":1: listen: it is a table"},
		{"text for a toggle", `memory = "yes"`, ":1: memory: it is text, and must be true or false, without quotes"},
		{"number without a unit", "heartbeat = 15", `:1: heartbeat: "15" must be a number and a unit`},
		{"list in a list", "retain = [[\"a=all\"]]", ":1: retain: it is a list, and must be text"},
		{"an element", "retain = [\n  \"a=all\",\n  \"b\",\n]", `:3: retain: retention "b" has no`},
		{"an element's type", "retain = [\n  \"a=all\",\n  3,\n]", ":3: retain: it is a number"},
		{"size", `min-free = "x"`, `:1: min-free: "x" is not a size`},
		{"negative rate", "connect-rate = -0.5", `:1: connect-rate: "-0.5" must be a number from 0`},
		{"no number", "connect-rate = nan", ":1: connect-rate: "},
		{"negative limit", "max-streams = -1", `:1: max-streams: "-1" must not be less than 0`},
		{"sync", `sync = "sometimes"`, ":1: sync: "},
		{"short secret", `token-secret = "short"`, ":1: token-secret: the secret has 5 bytes"},
		{"anonymous", `anonymous = ["subscribe", "read"]`, `:1: anonymous: "read" is none of subscribe, publish`},
		{"anonymous pattern", `anonymous = "subscribe:a/**/b"`, ":1: anonymous: "},
		{"no URL", `authorize-url = "application"`, ":1: authorize-url: "},
		{"open key set", `token-jwks = "http://example.com/jwks"`, ":1: token-jwks: http://example.com/jwks must be https"},
		{"missing file of keys", `keys = "/none/keys.jsonl"`, ":1: keys: "},
		{"missing key", `token-key = "ES256:/none/key.pem"`, ":1: token-key: "},
		{"network", `trusted-proxy = ["10.0.0.0/8", "10.1.2.3/8"]`, `:1: trusted-proxy: "10.1.2.3/8" has bits behind those that count: write 10.0.0.0/8`},
		{"host", `allow-host = "https://example.com"`, `:1: allow-host: "https://example.com" is no host's name`},
		{"needs another", `token-issuer = "x"`, ":1: token-issuer: it has no meaning without token-secret or token-key or token-jwks"},
		{"half a pair", `tls-cert = "x"`, ":1: tls-cert: it has no meaning without tls-key"},
		{"files without a pair", `tls = "files"`, ":1: tls: files needs tls-cert and tls-key"},
		{"a pair that is none", "tls-cert = \"/none/cert\"\ntls-key = \"/none/key\"", ":1: tls-cert: open /none/cert"},
		{"a pair beside another way", "tls = \"dev\"\ntls-cert = \"a\"\ntls-key = \"b\"", ":1: tls: dev does not go with tls-cert and tls-key"},
		{"no such way", `tls = "on"`, `:1: tls: "on" is none of off, dev, files and acme`},
		{"ACME for nothing", `tls = "acme"`, ":1: tls: acme needs acme-domain"},
		{"ACME without a directory", "memory = true\ntls = \"acme\"\nacme-domain = \"a.example\"", ":2: tls: acme needs a directory"},
		{"names without ACME", `acme-domain = "a.example"`, ":1: acme-domain: it has no meaning without tls set to acme"},
		{"ACME for no domain", `acme-domain = ["*"]`, `:1: acme-domain: "*" is no full domain name`},
		{"ACME for an address", `acme-domain = ["192.0.2.1"]`, `:1: acme-domain: "192.0.2.1" is no full domain name`},
		{"roots that are none", "tls = \"acme\"\nacme-domain = \"a.example\"\nacme-roots = \"/none/roots\"", ":3: acme-roots: open /none/roots"},
		{"HTTP/3 on a Unix socket", "listen = \"unix:a\"\ntls = \"dev\"\nhttp3 = true", ":3: http3: it needs an address of UDP"},
		{"PROXY protocol from nobody", "http3 = false\nproxy-protocol = true", ":2: proxy-protocol: it has no meaning without trusted-proxy"},
		{"HTTP/3 in clear text", "http3 = true", ":1: http3: it needs TLS"},
		{"everybody with cookies", "allow-origin = \"*\"\nallow-credentials = true", ":1: allow-origin: * does not go with allow-credentials"},
		{"the world", `listen = "0.0.0.0:7730"`, `:1: listen: "0.0.0.0:7730" can be reached from other machines, and nothing says who may come in`},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := write(t, "tidewire.toml", test.text)
			code, out, errs := run(t, []string{"config", "check", "--config", file})
			if code != cli.ExitFailed || out != "" || !strings.Contains(errs, file+test.want) {
				t.Errorf("got code %d, output %q and %q, want 1 and %q", code, out, errs, test.want)
			}
			if code, _, again := run(t, []string{"serve", "--config", file}); code != cli.ExitUsage {
				t.Errorf("got code %d and %q from serve, want 2", code, again)
			}
		})
	}
}

func TestConfigCheck_SaysAllAtOnceInTheOrderOfTheFile(t *testing.T) {
	file := write(t, "tidewire.toml", "listen = \"nowhere\"\nretry = \"x\"\nlistne = 3\nretain = \"a\"")
	_, _, errs := run(t, []string{"config", "check", "--config", file, "--max-id", "x"}, env(map[string]string{"TIDEWIRE_SLOW": "a=replay;\nb"}))
	at := -1
	for _, want := range []string{"--max-id: ", file + ":1: listen: ", file + ":2: retry: ", file + ":3: ", file + ":4: retain: "} {
		next := strings.Index(errs, want)
		if next <= at {
			t.Errorf("got %q, want %q in it, and behind the one before", errs, want)
		}
		at = next
	}
	if !strings.Contains(errs, `TIDEWIRE_SLOW: rule "b" has no`) {
		t.Errorf("got %q, want the variable", errs)
	}
}

func TestConfigCheck_NamesAFileThatCannotBeRead(t *testing.T) {
	for _, way := range []struct {
		name string
		args []string
		env  map[string]string
	}{
		{"flag", []string{"--config", "/none/tidewire.toml"}, nil},
		{"environment", nil, map[string]string{"TIDEWIRE_CONFIG": "/none/tidewire.toml"}},
	} {
		code, _, errs := run(t, append([]string{"config", "check"}, way.args...), env(way.env))
		if code != cli.ExitFailed || !strings.Contains(errs, "/none/tidewire.toml") {
			t.Errorf("%s: got code %d and %q, want 1 and the file", way.name, code, errs)
		}
	}
	if code, _, errs := run(t, []string{"config", "chek"}); code != cli.ExitUsage || !strings.Contains(errs, "did you mean check?") {
		t.Errorf("got code %d and %q, want 2 and what was meant", code, errs)
	}
}

// TestConfigPrint_TheNearerSourceCounts gives one setting in each way.
func TestConfigPrint_TheNearerSourceCounts(t *testing.T) {
	file := write(t, "tidewire.toml", "max-topics = 1\nretain = [\"a=all\", \"b=all\"]\nheartbeat = 0\nconnect-rate = 0.5\nslow = []\nhttp3 = false")
	_, out, errs := run(t, []string{"config", "print", "--config", file, "--max-id", "4", "--max-batch-events", "5"}, env(map[string]string{
		"TIDEWIRE_MAX_TOPICS": "+002", "TIDEWIRE_ALLOW_CREDENTIALS": "1", "TIDEWIRE_PUBLISH_RATE": "1e2", "TIDEWIRE_MAX_ID": "3", "TIDEWIRE_RETAIN": "c=all\nd=latest; ", "TIDEWIRE_RETRY": "",
	}))
	for _, want := range []string{
		"max-topics = 2 # TIDEWIRE_MAX_TOPICS",
		"allow-credentials = true # TIDEWIRE_ALLOW_CREDENTIALS",
		"publish-rate = 100 # TIDEWIRE_PUBLISH_RATE",
		"max-id = 4 # --max-id",
		"max-batch-events = 5 # --max-batch-events",
		"retain = ['c=all', 'd=latest'] # TIDEWIRE_RETAIN",
		"heartbeat = '0' # " + file + ":3",
		"connect-rate = 0.5 # " + file + ":4",
		"slow = [] # an empty list",
		"http3 = false # " + file + ":6",
		"retry = '3s' # the default",
		"memory = false # the default",
		"data = './tidewire-data' # the default",
		"# token-issuer is not set",
	} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("got %q and %q, want %q", out, errs, want)
		}
	}
	if _, out, _ := run(t, []string{"config", "print", "--authorize-url", "https://example.com/may?key=1"}); !strings.Contains(out, "\n# authorize-url = 'https://example.com/may?xxxxx' # --authorize-url\n") {
		t.Errorf("got %q, want what is not shown in full as a comment", out)
	}
	// What is printed is a file that means the same.
	_, again, errs := run(t, []string{"config", "print", "--config", write(t, "again.toml", out)})
	strip := func(text string) (all []string) {
		for line := range strings.Lines(text) {
			if setting, _, ok := strings.Cut(line, " # "); ok && !strings.HasPrefix(line, "#") {
				all = append(all, setting)
			}
		}
		return all
	}
	if got, want := strings.Join(strip(again), "\n"), strings.Join(strip(out), "\n"); got != want {
		t.Errorf("got %q and %q, want %q", got, errs, want)
	}
}

func TestConfig_SecretsAreNeverShown(t *testing.T) {
	for _, test := range []struct {
		name, file string
		args       []string
		env        map[string]string
	}{
		{name: "environment", env: map[string]string{"TIDEWIRE_TOKEN_SECRET": secret, "TIDEWIRE_TICKET_SECRET": secret}},
		{name: "flags", args: []string{"--token-secret", secret, "--ticket-secret", secret}},
		{name: "file", file: "token-secret = \"" + secret + "\"\nticket-secret = '" + secret + "'"},
		{name: "wrong type", file: "token-secret = [\"" + secret + "\"]\nlisten = {a = \"" + secret + "\"}"},
		{name: "too short", args: []string{"--ticket-secret", secret[:20]}},
		{name: "in a URL", args: []string{"--authorize-url", "https://user:" + secret + "@example.com/?key=" + secret}},
		{name: "in a wrong URL", args: []string{"--authorize-url", "ftp://user:" + secret + "@example.com/?key=" + secret, "--token-jwks", "http://user:" + secret + "@example.com/?" + secret}},
		{name: "in no URL", args: []string{"--authorize-url", "https://user:" + secret + "@exa mple.com/%zz"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, command := range []string{"check", "print"} {
				args := append([]string{"config", command, "--config", write(t, "tidewire.toml", test.file)}, test.args...)
				_, out, errs := run(t, args, env(test.env))
				if strings.Contains(out+errs, secret[:20]) {
					t.Errorf("%s: got the secret in %q", command, out+errs)
				}
			}
		})
	}
}

func TestConfigCheck_WarnsOfWhatIsNoMistake(t *testing.T) {
	expired, key := certificate(t, time.Now().Add(-time.Hour))
	open := write(t, "open.toml", "token-secret = \""+secret+"\"")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, want string
		args       []string
	}{
		{"a certificate that has expired", "--tls-cert: the certificate has expired on ", []string{"--tls-cert", expired, "--tls-key", key}},
		{"a secret in the command line", "can be seen in the list of processes: set TIDEWIRE_TOKEN_SECRET", []string{"--token-secret", secret}},
		{"a secret that all may read", open + ":1: token-secret: everyone on this machine can read the secret: chmod o-r", []string{"--config", open}},
		{"a proxy that lets all in", "a proxy is trusted, and no keys are set", []string{"--trusted-proxy", "::1"}},
	} {
		if runtime.GOOS == "windows" && strings.Contains(test.want, "chmod") {
			continue // it has no such modes
		}
		code, out, errs := run(t, append([]string{"config", "check"}, test.args...))
		if code != cli.ExitOK || !strings.HasPrefix(out, "ok\n") || !strings.Contains(errs, "tidewire: warning: ") || !strings.Contains(errs, test.want) {
			t.Errorf("%s: got code %d, %q and %q, want 0, ok and %q", test.name, code, out, errs, test.want)
		}
	}
}

func TestConfigCheck_WarnsOfVariablesThatAreNearlySettings(t *testing.T) {
	t.Setenv("TIDEWIRE_MAX_STREMS", "4")
	t.Setenv("TIDEWIRE_TOKEN", "x")            // of the commands that speak to a hub
	t.Setenv("TIDEWIRE_PORT", "tcp://[::1]:1") // such as Kubernetes makes
	code, _, errs := run(t, []string{"config", "check"}, func(std *cli.IO) { std.Getenv = os.Getenv })
	want := "tidewire: warning: the environment has TIDEWIRE_MAX_STREMS, which is no setting; did you mean TIDEWIRE_MAX_STREAMS?\n"
	if code != cli.ExitOK || errs != want {
		t.Errorf("got code %d and %q, want 0 and %q", code, errs, want)
	}
}

// TestConfigCheck_SaysWhoMayComeIn has the ways to listen, and what each lets in.
func TestConfigCheck_SaysWhoMayComeIn(t *testing.T) {
	keys := write(t, "keys.jsonl", "")
	all := "\nAllowed    anyone on this machine may publish and subscribe, as no keys are set\n"
	for _, test := range []struct {
		args []string
		want string // "" where it is refused
	}{
		{nil, all},
		{[]string{"--listen", "localhost:0"}, all},
		{[]string{"--listen", "[::1]:0"}, all},
		{[]string{"--listen", "127.9.9.9:0"}, all},
		{[]string{"--listen", "unix:/run/tidewire.sock"}, all},
		{[]string{"--listen", ":0"}, ""},
		{[]string{"--listen", "0.0.0.0:0"}, ""},
		{[]string{"--listen", "[::]:0"}, ""},
		{[]string{"--listen", "example.com:0"}, ""},
		{[]string{"--listen", "unix:"}, ""},
		{[]string{"--listen", ":0", "--anonymous="}, ""},
		{[]string{"--listen", ":0", "--token-issuer", "x"}, ""},
		{[]string{"--listen", ":0", "--ticket-secret", secret}, ""},
		{[]string{"--listen", ":0", "--anonymous", "subscribe"}, "anyone may subscribe to **, and nobody more"},
		{[]string{"--listen", ":0", "--anonymous", "subscribe:a,publish:b/*", "--anonymous", "subscribe:c"}, "anyone may subscribe to a c, and publish to b/*, and nobody more"},
		{[]string{"--listen", ":0", "--token-secret", secret}, "only with a token"},
		{[]string{"--listen", ":0", "--keys", keys}, "only with a publisher's key"},
		{[]string{"--listen", ":0", "--authorize-url", "https://example.com/may", "--token-jwks", "https://example.com/keys"}, "only with a token or the application's leave"},
		{[]string{"--listen", ":0", "--keys", "false"}, ""}, // a file's name, and none that is there
		{[]string{"--keys", keys, "--anonymous=publish"}, "anyone may publish to **; more with a publisher's key"},
	} {
		code, out, errs := run(t, append([]string{"config", "check"}, test.args...))
		if (code == cli.ExitOK) != (test.want != "") || !strings.Contains(out, test.want) {
			t.Errorf("%q: got code %d, %q and %q, want %q", test.args, code, out, errs, test.want)
		}
	}
	_, _, errs := run(t, []string{"config", "check", "--listen", ":0"})
	for _, want := range []string{"tidewire key new --name backend --publish '**' --file keys.jsonl", "tidewire serve --keys keys.jsonl", "TIDEWIRE_TOKEN_SECRET=", "--anonymous=subscribe"} {
		if !strings.Contains(errs, want) {
			t.Errorf("got %q, want the way %q", errs, want)
		}
	}
}

func TestConfigCheck_TakesAWholeFile(t *testing.T) {
	cert, key := certificate(t, time.Now().Add(time.Hour))
	file := write(t, "tidewire.toml", `
listen = "0.0.0.0:443"
data = "/var/lib/tidewire"
sync = "interval=100ms"
min-free = 0
retain = ["news/**=count:1000,age:7d", "**=all"]
history = "1GiB"
slow = "prices/**=latest,lag:100"
token-secret = "`+secret+`"
token-jwks = ["https://example.com/jwks", "http://127.0.0.1:1/jwks"]
token-issuer = "https://example.com"
token-audience = ["a", "b"]
token-cookie = "session"
anonymous = "subscribe:news/**"
tls-cert = '`+cert+`'
tls-key = '`+key+`'
http3 = true
trusted-proxy = ["10.0.0.0/8", "::1", "::ffff:192.0.2.1"]
forwarded-header = "forwarded"
proxy-protocol = true
acme-email = ""
allow-host = "events.example.com"
max-connections = 0
max-streams-per-address = 5_000
publish-rate = 0.5
idle-timeout = 0
`)
	code, out, errs := run(t, []string{"config", "check", "--config", file})
	want := "ok\nFile       " + file + "\nSettings   25 that are not the defaults\nListen     0.0.0.0:443, TLS files\nData       /var/lib/tidewire\nAllowed    anyone may subscribe to news/**; more with a token\n"
	if code != cli.ExitOK || out != want || errs != "" {
		t.Errorf("got code %d, %q and %q, want %q", code, out, errs, want)
	}
}

func TestDemo_SaysWhichSettingsItLacks(t *testing.T) {
	file := write(t, "tidewire.toml", "retry = \"3s\"\ndata = \"/var/lib/tidewire\"")
	code, _, errs := run(t, []string{"demo", "--config", file})
	if code != cli.ExitUsage || !strings.Contains(errs, file+":2: data: the demo keeps its history in memory, and has no such setting") {
		t.Errorf("got code %d and %q, want 2 and why", code, errs)
	}
}

// The reference in docs is what the program says of itself.
func TestConfigReference_IsTheOneInDocs(t *testing.T) {
	code, out, errs := run(t, []string{"config", "reference"})
	if code != cli.ExitOK || errs != "" {
		t.Errorf("got code %d and %q, want 0 and nothing", code, errs)
	}
	golden(t, "../../../docs/configuration.md", out)
}
