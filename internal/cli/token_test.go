package cli_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/internal/cli"
)

const tokenSecret = "0123456789abcdef0123456789abcdef"

func noonIs() time.Time { return noon }

func TestToken_Help(t *testing.T) {
	helps(t, map[string][]string{
		"token": {"token"}, "token-new": {"token", "new", "--help"}, "token-explain": {"token", "explain", "--help"}, "token-keygen": {"token", "keygen", "--help"},
	})
}

func TestToken_Usage(t *testing.T) {
	usages(t, map[string]string{
		"token new":                                            "say what may be done",
		"token new --subscribe a":                              "a token is signed: give --key ALG:FILE",
		"token new --subscribe a --secret x":                   "the secret has 1 bytes, and HS256 needs 32",
		"token new --subscribe a --secret x --key y":           "--key and --secret cannot be given together",
		"token new --subscribe a --key EdDSA:f#a --kid b":      "the kid is given twice",
		"token new --subscribe a* --secret " + tokenSecret:     `subscribe: "a*"`,
		"token new --expires 7x --subscribe a --secret x":      "must be a time to live",
		"token explain":                                        "explain needs a token on standard input",
		"token explain a b":                                    "explain takes one token, and got 2",
		"token explain --key a --jwks b c":                     "--key and --jwks cannot be given together",
		"token explain --jwks http://keys.example e30.e30.e30": "over http anyone",
		"token keygen":                                         "--out needs the name",
		"token keygen --alg none --out x":                      `--alg is "none", and can be EdDSA,`,
	})
}

func TestToken_KeygenNewExplain(t *testing.T) {
	for _, alg := range []string{"EdDSA", "ES256", "ES384", "ES512", "RS256", "PS512", "HS256", "HS512"} {
		t.Run(alg, func(t *testing.T) {
			dir := t.TempDir()
			private, public := filepath.Join(dir, "private"), filepath.Join(dir, "public")
			keygen := []string{"token", "keygen", "--alg", alg, "--out", private}
			code, out, errs := run(t, keygen)
			if code != cli.ExitOK || strings.HasPrefix(alg, "HS") != (out == "") {
				t.Fatalf("got code %d, output %q and errors %q", code, out, errs)
			}
			if info, err := os.Stat(private); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("got %v and %v, want a file for its owner alone", info, err)
			}
			if code, _, errs := run(t, keygen); code != cli.ExitFailed || !strings.Contains(errs, "is there already") {
				t.Errorf("again: got code %d and %q, want 1", code, errs)
			}
			if out == "" {
				public = private
			} else if err := os.WriteFile(public, []byte(out), 0o600); err != nil {
				t.Fatal(err)
			}
			code, token, errs := run(t, []string{"token", "new", "--key", alg + ":" + private + "#k", "--subject", "alice", "--subscribe", "news/**",
				"--publish", "news/sport", "--expires", "2d", "--issuer", "me", "--audience", "a", "--audience", "b"})
			if code != cli.ExitOK {
				t.Fatalf("got code %d and %q", code, errs)
			}
			k, err := auth.ParseKey(alg + ":" + public + "#k")
			if err != nil {
				t.Fatal(err)
			}
			if err := takes(t, &auth.Options{Keys: []auth.Key{k}, Issuer: "me", Audience: []string{"b"}}, strings.TrimSpace(token)); err != nil {
				t.Error(err)
			}
			code, out, errs = run(t, []string{"token", "explain", "--key", alg + ":" + public + "#k"}, stdin(strings.NewReader("Authorization: Bearer "+token)))
			want := "algorithm  " + alg + `, kid "k"
subject    alice
issuer     me
audience   ["a","b"]
issued     2026-01-02T12:00:00Z, 0s ago
expires    2026-01-04T12:00:00Z, in 48h0m0s
subscribe  news/**
publish    news/sport
private    nothing
delete     nothing
signature  holds
`
			if code != cli.ExitOK || errs != "" || out != want {
				t.Errorf("got code %d, errors %q and\n%s, want\n%s", code, errs, out, want)
			}
		})
	}
}

func TestToken_SecretOfTheEnvironment(t *testing.T) {
	secret := env(map[string]string{"TIDEWIRE_TOKEN_SECRET": tokenSecret})
	code, token, errs := run(t, []string{"token", "new", "--subscribe", "**", "--kid", "k", "--expires", "0"}, secret)
	if code != cli.ExitOK {
		t.Fatalf("got code %d and %q", code, errs)
	}
	k, err := auth.NewSecretKey("HS256", tokenSecret)
	if err != nil {
		t.Fatal(err)
	}
	if err := takes(t, &auth.Options{Keys: []auth.Key{k}}, strings.TrimSpace(token)); err != nil {
		t.Error(err)
	}
	code, out, _ := run(t, []string{"token", "explain", strings.TrimSpace(token)})
	for _, want := range []string{`HS256, kid "k"`, "expires    never", "odd        it has no exp", "odd        subscribe has **", "signature  not checked"} {
		if code != cli.ExitOK || !strings.Contains(out, want) {
			t.Errorf("got code %d and\n%s, want %q", code, out, want)
		}
	}
}

func TestToken_ExplainSaysWhatIsOdd(t *testing.T) {
	past, future := noon.Add(-time.Minute).Unix(), noon.Add(time.Hour).Unix()
	for _, test := range []struct {
		header, payload string
		want            []string
	}{
		{`{"alg":"none"}`, `{}`, []string{"alg is none", `no claim "tidewire"`, "no exp"}},
		{`{"alg":"None","crit":["x"],"jwk":{},"jku":"x"}`, `{}`, []string{"alg is none", "has crit", "has jwk", "has jku"}},
		{`{}`, `{"sub":7,"iss":null}`, []string{"algorithm  none that can be read", "sub must be text"}},
		{`{"alg":"HS256"}`, fmt.Sprintf(`{"exp":%d,"nbf":%d,"iat":%[2]d}`, past, future), []string{"it has expired", "1m0s ago", "nbf is in the future", "iat is in the future"}},
		{`{"alg":"HS256"}`, fmt.Sprintf(`{"exp":%d000,"nbf":"x","iat":null}`, future), []string{"may be milliseconds", "nbf must be a number", "iat must be a number"}},
		{`{"alg":"HS256"}`, `{"tidewire":{"publish":["a*","b"],"subscribe":"x","private":true,"admin":1,"publsih":[]}}`,
			[]string{`publish: "a*": pattern has *`, "subscribe must be a list", "private    all that subscribe has", "admin must be true", `"publsih", which means nothing`, "publish    a* b"}},
		{`{"alg":"HS256"}`, `{"tidewire":{"private":false}}`, []string{"it grants nothing", "private    nothing"}},
		{`{"alg":"HS256"}`, `{"tidewire":{"admin":true}}`, []string{"admin      yes"}},
		{`{"alg":"HS256"}`, `{"tidewire":{"admin":true,"admin":false}}`, []string{"in which each name comes once"}},
		{`{"alg":"HS256"}`, `{"sub":"\u001b[2J\u202e"}`, []string{`subject    \x1b[2J\u202e`}},
		{`{"alg":"HS256"}`, `{"x":"` + strings.Repeat("x", 8<<10) + `"}`, []string{"servers refuse more than 8192"}},
	} {
		encode := base64.RawURLEncoding.EncodeToString
		token := encode([]byte(test.header)) + "." + encode([]byte(test.payload)) + "."
		code, out, errs := run(t, []string{"token", "explain", "-"}, stdin(strings.NewReader(token+"\n")))
		for _, want := range test.want {
			if code != cli.ExitOK || errs != "" || !strings.Contains(out, want) {
				t.Errorf("%s %.200s: got code %d, errors %q and\n%.2000s, want %q", test.header, test.payload, code, errs, out, want)
			}
		}
	}
}

func TestToken_ExplainRefusesWhatIsNone(t *testing.T) {
	for text, want := range map[string]string{
		"tw_a_b":                    "it is a publisher key",
		"a":                         "it has 1 parts",
		"a.b.c.d.e":                 "it is encrypted",
		"!.e30.":                    "its header is not base64url",
		"e30.!.":                    "its payload is not base64url",
		"e30.W10.":                  "its payload is not a JSON object",
		"bnVsbA.e30.":               "its header is not a JSON object",
		strings.Repeat("x", 70_000): "no token has so many",
	} {
		code, out, errs := run(t, []string{"token", "explain"}, stdin(strings.NewReader(text)))
		if code != cli.ExitFailed || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%.50s: got code %d, output %q and errors %q, want 1 and %q", text, code, out, errs, want)
		}
	}
}

func TestToken_ExplainChecksSignatures(t *testing.T) {
	dir := t.TempDir()
	var keys []string
	for _, name := range []string{"a", "b"} {
		_, public, _ := run(t, []string{"token", "keygen", "--out", filepath.Join(dir, name)})
		file := filepath.Join(dir, name+".pem")
		if err := os.WriteFile(file, []byte(public), 0o600); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, file)
	}
	_, token, _ := run(t, []string{"token", "new", "--key", "EdDSA:" + filepath.Join(dir, "a"), "--subscribe", "x"})
	code, out, errs := run(t, []string{"token", "explain", "--key", "EdDSA:" + keys[1]}, stdin(strings.NewReader(token)))
	if code != cli.ExitFailed || !strings.Contains(out, "subscribe  x") || !strings.Contains(errs, "a server would refuse it: the token's signature does not hold") {
		t.Errorf("got code %d, %q and %q, want 1 and why", code, out, errs)
	}
	broken := httptest.NewServer(http.NotFoundHandler())
	defer broken.Close()
	code, _, errs = run(t, []string{"token", "explain", "--jwks", broken.URL}, stdin(strings.NewReader(token)))
	if code != cli.ExitFailed || !strings.Contains(errs, "404 Not Found") {
		t.Errorf("got code %d and %q, want 1 and why", code, errs)
	}
}

// A token of the command line goes wherever the command does, and one of the environment to
// hubs only.
func TestHubToken(t *testing.T) {
	got := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("Authorization")
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	for _, test := range []struct {
		name  string
		args  []string
		token string // of the environment
		want  string
	}{
		{"flag", []string{"publish", "--token", "abc", "t", "x"}, "", "Bearer abc"},
		{"environment", []string{"publish", "t", "x"}, " abc\n", "Bearer abc"},
		{"flag before environment", []string{"publish", "--token", "abc", "t", "x"}, "def", "Bearer abc"},
		{"header before environment", []string{"publish", "-H", "authorization: Basic x", "t", "x"}, "def", "Basic x"},
		{"subscribe to a topic", []string{"subscribe", "t"}, "abc", "Bearer abc"},
		{"subscribe to a URL with a flag", []string{"subscribe", "--token", "abc", server.URL}, "", "Bearer abc"},
		{"subscribe to a URL", []string{"subscribe", server.URL}, "abc", ""},
		{"none", []string{"publish", "t", "x"}, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			run(t, test.args, env(map[string]string{"TIDEWIRE_URL": server.URL, "TIDEWIRE_TOKEN": test.token}))
			if h := receive(t, got, "the request"); h != test.want {
				t.Errorf("got Authorization %q, want %q", h, test.want)
			}
		})
	}
	for _, test := range []struct {
		args  []string
		token string
		want  string
	}{
		{[]string{"publish", "--token", "abc", "-H", "Authorization: x", "t", "x"}, "", "--token and --header Authorization cannot be given together"},
		{[]string{"publish", "--token", "Bearer abcdef", "t", "x"}, "", "--token has a blank"},
		{[]string{"subscribe", "t"}, "abc\ndef", "TIDEWIRE_TOKEN has a blank or a control character"},
		{[]string{"bench", "--token", "a\x01b"}, "", "--token has a blank or a control character"},
	} {
		code, _, errs := run(t, test.args, env(map[string]string{"TIDEWIRE_URL": server.URL, "TIDEWIRE_TOKEN": test.token}))
		if code != cli.ExitUsage || !strings.Contains(errs, test.want) || strings.Contains(errs, "def") {
			t.Errorf("%q: got code %d and %q, want 2 and %q, without the token", test.args, code, errs, test.want)
		}
	}
}
