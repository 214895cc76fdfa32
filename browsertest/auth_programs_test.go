package browsertest

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestNpmEventSource_Auth(t *testing.T) {
	t.Parallel()
	node := needNode(t)
	hub := startSecure(t, "--retry", "200ms")
	token := func(life time.Duration) string {
		topics := []string{"test/npm"}
		return newToken(t, "npm", life, map[string]any{"subscribe": topics, "publish": topics})
	}
	tokens, err := json.Marshal(map[string]string{"short": token(5*time.Second - tokenLeeway), "lasting": token(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	trust := []string{"NODE_EXTRA_CA_CERTS=" + certificateFile(t, hub.certificate)}
	runChecks(t, trust, node, "auth_client.mjs", hub.url+"/", string(tokens))
}

func TestCurl_Auth(t *testing.T) {
	t.Parallel()
	curl, err := exec.LookPath("curl")
	if err != nil {
		missing(t, "curl is missing: apt-get install curl")
	}
	hub := startSecure(t)
	trust := certificateFile(t, hub.certificate)
	topics := map[string]any{"subscribe": []string{"test/curl"}, "publish": []string{"test/curl"}}
	good := "Authorization: Bearer " + newToken(t, "curl", time.Hour, topics)
	expired := "Authorization: Bearer " + newToken(t, "curl", -time.Hour, topics)

	for _, tt := range []struct {
		name, path string
		args       []string
		want       string // the status, and how the answer begins
	}{
		{"none", "test/curl", nil, `401 2 application/problem+json {"type":"urn:tidewire:problem:unauthorized",`},
		{"expired", "test/curl", []string{"-H", expired}, `401 2 application/problem+json {"type":"urn:tidewire:problem:token-expired",`},
		{"other topic", "test/other", []string{"-H", good}, `403 2 application/problem+json {"type":"urn:tidewire:problem:forbidden",`},
		{"publish without", "test/curl", []string{"-d", "no"}, `401 2 application/problem+json {"type":"urn:tidewire:problem:unauthorized",`},
		{"publish", "test/curl", []string{"-H", good, "-d", "hello"}, `201 2 application/json {"id":`},
		{"publish and close", "test/curl?end=true", []string{"-H", good, "-d", "bye"}, `201 2 application/json {"id":`},
		{"subscribe", "test/curl?since=earliest", []string{"-N", "-H", good}, "200 2 text/event-stream retry: 3000\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var body, words bytes.Buffer
			args := append([]string{"-sS", "--cacert", trust, hub.url + "/events/" + tt.path, "-o", "/dev/stderr", "-w", "%{http_code} %{http_version} %{content_type} "}, tt.args...)
			cmd := exec.CommandContext(t.Context(), curl, args...)
			cmd.Stdout, cmd.Stderr = &words, &body
			if err := cmd.Run(); err != nil {
				t.Fatalf("curl: %v: %s", err, &body)
			}
			if got := words.String() + body.String(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want a beginning of %q", got, tt.want)
			}
			if strings.Contains(body.String(), "eyJ") {
				t.Errorf("got %q, which has a token in it", &body)
			}
			if tt.name == "subscribe" && (!strings.Contains(body.String(), "\ndata: hello\n\n") || !strings.HasSuffix(body.String(), "\ndata: bye\n\n")) {
				t.Errorf("got %q, want both events", &body)
			}
		})
	}
}

// TestCommand_Auth has our own commands make a token, and use it.
func TestCommand_Auth(t *testing.T) {
	t.Parallel()
	hub := startSecure(t)
	program, err := built()
	if err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "SSL_CERT_FILE="+certificateFile(t, hub.certificate), "TIDEWIRE_URL="+hub.url)
	run := func(more []string, args ...string) (out, errs string, code int) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Env, cmd.Stdout, cmd.Stderr = append(env, more...), &stdout, &stderr
		if err := cmd.Run(); cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
	}

	out, errs, code := run([]string{"TIDEWIRE_TOKEN_SECRET=" + tokenSecret}, "token", "new", "--subject", "alice", "--subscribe", "test/*", "--publish", "test/ours")
	token := strings.TrimSpace(out)
	if code != 0 || strings.Count(token, ".") != 2 {
		t.Fatalf("token new: got %q, %q and code %d, want a token", out, errs, code)
	}

	if _, errs, code := run(nil, "subscribe", "--count", "1", "test/ours"); code != 1 || !strings.Contains(errs, "401") {
		t.Errorf("subscribe without a token: got %q and code %d, want 401 and 1", errs, code)
	}
	if _, errs, code := run(nil, "publish", "test/ours", "hello"); code == 0 || !strings.Contains(errs, "token") {
		t.Errorf("publish without a token: got %q and code %d, want to be told of tokens", errs, code)
	}
	if _, errs, code := run(nil, "publish", "--token", token, "test/other", "hello"); code == 0 || !strings.Contains(errs, "test/other") {
		t.Errorf("publish to another topic: got %q and code %d, want to be told of it", errs, code)
	}
	if _, errs, code := run([]string{"TIDEWIRE_TOKEN=" + token}, "publish", "test/ours", "hello"); code != 0 {
		t.Errorf("publish with a token of the environment: got %q and code %d, want 0", errs, code)
	}
	out, errs, code = run(nil, "subscribe", "--token", token, "--since", "earliest", "--count", "1", "--data-only", "test/ours")
	if code != 0 || out != "hello\n" {
		t.Errorf("subscribe with a token: got %q, %q and code %d, want hello", out, errs, code)
	}
	if strings.Contains(hub.logs.String(), token) {
		t.Errorf("got the token in what the hub prints: %s", hub.logs)
	}
}
