package auth_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/hub"
)

func TestPublisherKey_IsRandomAndStoredHashed(t *testing.T) {
	text, k := backend(t, "backend", time.Time{})
	random, ok := strings.CutPrefix(text, "tw_"+k.ID+"_")
	b, err := base64.RawURLEncoding.DecodeString(random)
	if !ok || err != nil || len(b) != 32 {
		t.Errorf("got %q, want tw_%s_ and 256 bits in base64url", text, k.ID)
	}
	sum := sha256.Sum256([]byte(text))
	if want := "sha256:" + hex.EncodeToString(sum[:]); k.Hash != want {
		t.Errorf("got hash %s, want %s", k.Hash, want)
	}
	if other, o := backend(t, "backend", time.Time{}); other == text || o.ID == k.ID {
		t.Errorf("got %s twice", text)
	}
	if strings.Contains(string(toJSON(t, k)), random) {
		t.Error("what is stored has the key in it")
	}
	if _, _, err := auth.NewPublisherKey("a\nb", auth.Permissions{}, tokenNow, time.Time{}); err == nil {
		t.Error("got no error for a name with a line break")
	}
	if _, _, err := auth.NewPublisherKey("a", auth.Permissions{Publish: []string{"a*"}}, tokenNow, time.Time{}); err == nil || !strings.Contains(err.Error(), `publish: "a*"`) {
		t.Errorf("got %v, want the pattern", err)
	}
}

func TestPublisherKey_GrantsWhatItsLineSays(t *testing.T) {
	text, k := backend(t, "backend", tokenNow.Add(time.Hour))
	k.Permissions = auth.Permissions{Subscribe: []string{"a"}, Publish: []string{"b/*"}, Private: []string{"c"}, Delete: []string{"d"}, Admin: true}
	file := filepath.Join(t.TempDir(), "keys.jsonl")
	writeFile(t, file, append([]byte("\n"), toJSON(t, k)...))
	keys, err := auth.LoadPublisherKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	now := tokenNow
	a := newAuthority(t, &auth.Options{PublisherKeys: keys, Now: func() time.Time { return now }})
	r := request("POST", "/events/x", bearer(text))
	g := granted(t, a, r)
	if g.Subject != "key:backend" || g.By != `the key "backend"` || !g.Admin || !g.Expires.Equal(k.Expires) ||
		!slices.Equal(slices.Concat(g.Subscribe, g.Publish, g.Private, g.Delete), []string{"a", "b/*", "c", "d"}) {
		t.Errorf("got %+v, want what %+v says", g, k)
	}
	now = k.Expires
	refused(t, a, r, hub.ProblemTokenExpired, `the key "backend" expired at 2026-05-04T13:00:00Z`)
	refused(t, a, request("POST", "/events/x", bearer(text[:len(text)-2]+"xx")), hub.ProblemUnauthorized, "none that this server has")
	refused(t, a, request("POST", "/events/x", bearer("a.b.c")), hub.ProblemUnauthorized, "this server takes no tokens, but publisher keys")
}

func TestLoadPublisherKeys_TellsOfEveryBadLine(t *testing.T) {
	_, k := backend(t, "backend", time.Time{})
	line := string(toJSON(t, k))
	change := func(old, new string) string { return strings.Replace(line, old, new, 1) }
	lines := []string{
		line,
		"",
		line,
		"nonsense",
		change(`"id":"`+k.ID, `"id":"a_b`),
		change(`"id":"`+k.ID, `"id":"`),
		change("sha256:", "sha1:"),
		change("orders/**", "orders*"),
		change(`"publish"`, `"publsih"`),
		change(`"backend"`, `""`),
		line + line,
		`{"hash":7}`,
		"   \r",
		"null",
	}
	file := filepath.Join(t.TempDir(), "keys.jsonl")
	writeFile(t, file, []byte(strings.Join(lines, "\n")))
	_, err := auth.LoadPublisherKeys(file)
	if err == nil {
		t.Fatal("got no error")
	}
	got := strings.Split(err.Error(), "\n")
	want := []string{":3: ", ":4: ", ":5: ", ":6: ", ":7: ", ":8: ", ":9: ", ":10: ", ":11: ", ":12: ", ":14: "}
	if len(got) != len(want) {
		t.Fatalf("got %d errors, want %d:\n%v", len(got), len(want), err)
	}
	for i := range got {
		if !strings.HasPrefix(got[i], file+want[i]) {
			t.Errorf("got %q, want it to begin with %s", got[i], want[i])
		}
	}
	if !strings.Contains(got[0], "that of line 1 too") || !strings.Contains(got[6], `"publsih"`) {
		t.Errorf("got %v", err)
	}
	if _, err := auth.LoadPublisherKeys(filepath.Join(t.TempDir(), "nothing")); err == nil {
		t.Error("got no error for a file that is not there")
	}
}
