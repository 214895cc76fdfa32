package auth_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/hub"
)

// newKey returns a publisher key.
func newKey(t testing.TB, name string) (secret string, k auth.PublisherKey) {
	t.Helper()
	secret, k, err := auth.NewPublisherKey(name, auth.Permissions{Subscribe: []string{"news/**"}}, tokenNow, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return secret, k
}

func wantHolds(t testing.TB, a *auth.Authority, what string, g *hub.Grant, want bool) {
	t.Helper()
	if got := a.Holds(g); got != want {
		t.Errorf("%s: holds is %v, want %v", what, got, want)
	}
}

// TestAuthority_HoldsWhatItsKeysAreThereFor takes one key away at a time.
func TestAuthority_HoldsWhatItsKeysAreThereFor(t *testing.T) {
	one, oneKept := newKey(t, "one")
	other, otherKept := newKey(t, "one")
	ed, es := newPair(t, "EdDSA", "a"), newPair(t, "ES256", "")
	tickets := newTickets(t, auth.TicketOptions{})
	options := func() *auth.Options {
		return &auth.Options{
			Keys:          []auth.Key{secretKey(t), ed.publicKeyOption, es.publicKeyOption},
			PublisherKeys: []auth.PublisherKey{oneKept, otherKept},
			Tickets:       tickets, Anonymous: &hub.Grant{Subscribe: []string{"open"}}, Now: at(tokenNow),
		}
	}
	a := newAuthority(t, options())
	grants := map[string]*hub.Grant{}
	for name, credential := range map[string]string{
		"one": one, "other": other, "EdDSA": ed.sign(t, good()), "ES256": es.sign(t, good()), "HS256": signSecret(t, goodJSON+"}", nil),
	} {
		grants[name] = granted(t, a, request("GET", "/events/x", bearer(credential)))
	}
	grants["nobody"] = granted(t, a, request("GET", "/events/x"))
	renamed := parseKey(t, "EdDSA:"+ed.publicPEM+"#b")
	for _, tt := range []struct {
		gone   string // by what is done
		change func(*auth.Options)
	}{
		{"", func(*auth.Options) {}},
		{"one", func(o *auth.Options) { o.PublisherKeys = o.PublisherKeys[1:] }},
		{"other", func(o *auth.Options) { o.PublisherKeys = o.PublisherKeys[:1] }},
		{"HS256", func(o *auth.Options) { o.Keys = o.Keys[1:] }},
		{"EdDSA", func(o *auth.Options) { o.Keys[1] = newPair(t, "EdDSA", "a").publicKeyOption }},
		{"ES256", func(o *auth.Options) { o.Keys = o.Keys[:2] }},
		{"", func(o *auth.Options) { o.Keys[0], o.Keys[1] = renamed, o.Keys[0] }},
		{"", func(o *auth.Options) {
			o.PublisherKeys[0], o.PublisherKeys[1] = o.PublisherKeys[1], o.PublisherKeys[0]
			o.PublisherKeys[0].Name, o.Anonymous = "another name", nil
		}},
	} {
		o := options()
		tt.change(o)
		if err := a.Replace(o); err != nil {
			t.Fatal(err)
		}
		for name, g := range grants {
			wantHolds(t, a, fmt.Sprintf("%s, without %q", name, tt.gone), g, name != tt.gone)
		}
	}
}

// What the application has narrowed still came from a token.
func TestAuthority_HoldsWhatTheApplicationHasNarrowed(t *testing.T) {
	p, _ := newApplication(t, auth.ApplicationOptions{}, answers(200, `{"subscribe":["**"]}`))
	a := newAuthority(t, &auth.Options{Keys: []auth.Key{secretKey(t)}, Application: p})
	g := granted(t, a, request("GET", "/events/news/a", bearer(signSecret(t, goodJSON+"}", nil))))
	alone := granted(t, a, request("GET", "/events/news/a"))
	if err := a.Replace(&auth.Options{Keys: []auth.Key{newPair(t, "EdDSA", "").publicKeyOption}, Application: p}); err != nil {
		t.Fatal(err)
	}
	wantHolds(t, a, "a token", g, false)
	wantHolds(t, a, "the application's word alone", alone, true)
}

// A key set counts as its last answer has it, and for anything before its first one.
func TestAuthority_HoldsWhatAKeySetHas(t *testing.T) {
	keys := newKeyServer(t)
	one, two, three := newPair(t, "EdDSA", "1"), newPair(t, "EdDSA", "2"), newPair(t, "EdDSA", "3")
	keys.has(t, one, two)
	key, kept := newKey(t, "backend")
	now, changed := newClock(), make(chan struct{}, 10)
	options := func(urls ...string) *auth.Options {
		return &auth.Options{JWKS: urls, Keys: []auth.Key{secretKey(t)}, PublisherKeys: []auth.PublisherKey{kept}, Now: now.now, Logger: quiet, OnChange: func() { changed <- struct{}{} }}
	}
	a := newAuthority(t, options(keys.URL))
	get := func(p pair) *http.Request { return request("GET", "/events/x", bearer(p.sign(t, good()))) }
	first, second := granted(t, a, get(one)), granted(t, a, get(two))
	shared := granted(t, a, request("GET", "/events/x", bearer(signSecret(t, goodJSON+"}", nil))))
	publisher := granted(t, a, request("GET", "/events/x", bearer(key)))
	// renew has the set fetched, for a key that it does not have.
	renew := func() {
		t.Helper()
		now.forward(time.Minute)
		_, _ = authorize(a, get(three))
	}

	keys.serve(failing)
	renew()
	wantHolds(t, a, "after a fetch that failed", first, true)
	now.forward(25 * time.Hour)
	wantHolds(t, a, "a day later", first, true)
	for len(changed) > 0 {
		<-changed
	}
	keys.has(t, two)
	eventually(t, "the set is fetched again", func() bool {
		renew()
		return len(changed) > 0
	})
	wantHolds(t, a, "a key that was taken out", first, false)
	wantHolds(t, a, "a key that is there", second, true)
	<-changed

	// At another address, which does not answer yet.
	elsewhere := newKeyServer(t)
	elsewhere.serve(failing)
	others := options(elsewhere.URL)
	others.Keys, others.PublisherKeys = nil, nil
	if err := a.Replace(others); err != nil {
		t.Fatal(err)
	}
	wantHolds(t, a, "before the first answer", second, true)
	wantHolds(t, a, "a secret that is gone, which no set can have", shared, false)
	wantHolds(t, a, "a publisher key that is gone", publisher, false)
	elsewhere.has(t, one)
	eventually(t, "the set is fetched by itself", func() bool { return len(changed) > 0 })
	wantHolds(t, a, "a key of the other set only", second, false)
	wantHolds(t, a, "a key that has come back", first, true)
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not so after %v: %s", patience, what)
		}
	}
}

// ticketed is a request with a ticket.
func ticketed(t *auth.Ticket, cookies ...*http.Cookie) *http.Request {
	r := request("GET", "/events/news/a?"+t.Query())
	for _, c := range cookies {
		r.AddCookie(c)
	}
	return r
}

func TestTickets_EndWithTheKeyTheyWereIssuedFor(t *testing.T) {
	lost, lostKept := newKey(t, "lost")
	kept, keptKept := newKey(t, "kept")
	p := newPair(t, "EdDSA", "")
	tickets := newTickets(t, auth.TicketOptions{Now: at(tokenNow)})
	a := newAuthority(t, &auth.Options{PublisherKeys: []auth.PublisherKey{lostKept, keptKept}, Keys: []auth.Key{p.publicKeyOption}, Tickets: tickets})
	for _, credential := range []string{lost, p.sign(t, good()), kept} {
		if err := a.Replace(&auth.Options{PublisherKeys: []auth.PublisherKey{lostKept, keptKept}, Keys: []auth.Key{p.publicKeyOption}, Tickets: tickets, Now: at(tokenNow)}); err != nil {
			t.Fatal(err)
		}
		g := granted(t, a, request("GET", "/events/x", bearer(credential)))
		used, fresh := issue(t, tickets, g, nil), issue(t, tickets, g, nil)
		reusable := issue(t, tickets, g, &auth.TicketRequest{Reuse: true})
		_, cookies, err := redeem(tickets, used.Text, eventSource)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Replace(&auth.Options{PublisherKeys: []auth.PublisherKey{keptKept}, Tickets: tickets, Now: at(tokenNow)}); err != nil {
			t.Fatal(err)
		}
		for name, r := range map[string]*http.Request{"used, with its cookie": ticketed(used, cookies...), "not used": ticketed(fresh), "reusable": ticketed(reusable)} {
			if credential == kept {
				wantHolds(t, a, name, granted(t, a, r), true)
				continue
			}
			if e := refused(t, a, r, hub.ProblemTicketSpent, "POST /tickets, with other credentials"); e.RetryAfter != time.Minute || !strings.Contains(e.Detail, "was revoked") {
				t.Errorf("%s: got %+v, want a minute, and that it was revoked", name, e)
			}
		}
	}
}

// An EventSource is told once, and then stopped.
func TestTickets_OfARevokedKeyStopAnEventSource(t *testing.T) {
	secret, k := newKey(t, "lost")
	tickets := newTickets(t, auth.TicketOptions{Now: at(tokenNow)})
	a := newAuthority(t, &auth.Options{PublisherKeys: []auth.PublisherKey{k}, Tickets: tickets})
	ticket := issue(t, tickets, granted(t, a, request("GET", "/events/x", bearer(secret))), nil)
	if err := a.Replace(&auth.Options{Tickets: tickets, Now: at(tokenNow)}); err != nil {
		t.Fatal(err)
	}
	for _, stop := range []bool{false, true} {
		_, err := a.Authorize(httptest.NewRecorder(), ticketed(ticket), eventSource)
		if e := wantProblem(t, err, hub.ProblemTicketSpent); e.Stop != stop {
			t.Errorf("got stop %v, want %v", e.Stop, stop)
		}
	}
}

// After a restart the key of a ticket can be in a set that must be fetched first.
func TestTickets_WaitForKeySets(t *testing.T) {
	keys := newKeyServer(t)
	p := newPair(t, "EdDSA", "")
	keys.has(t, p)
	tickets := newTickets(t, auth.TicketOptions{Now: at(tokenNow)})
	options := &auth.Options{JWKS: []string{keys.URL}, Tickets: tickets, Logger: quiet}
	a := newAuthority(t, options)
	ticket := issue(t, tickets, granted(t, a, request("GET", "/events/x", bearer(p.sign(t, good())))), &auth.TicketRequest{Reuse: true})

	for _, tt := range []struct {
		answer  http.HandlerFunc
		problem hub.Problem
		says    string
	}{
		{func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(toJSON(t, keySetOf(p))) }, "", ""},
		{func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"keys":[]}`) }, hub.ProblemTicketSpent, "was revoked"},
		{failing, hub.ProblemUnavailable, "cannot be fetched at the moment"},
	} {
		asked, answer := make(chan struct{}, 100), make(chan struct{})
		keys.serve(func(w http.ResponseWriter, r *http.Request) {
			asked <- struct{}{}
			<-answer
			tt.answer(w, r)
		})
		again := newAuthority(t, options)
		<-asked // and it is not answered yet
		err := make(chan error, 1)
		go func() {
			_, e := authorize(again, ticketed(ticket))
			err <- e
		}()
		close(answer)
		got := <-err
		if tt.problem == "" {
			if got != nil {
				t.Errorf("got %v, want a grant", got)
			}
			continue
		}
		if e := wantProblem(t, got, tt.problem); !strings.Contains(e.Detail, tt.says) {
			t.Errorf("got %q, want %q", e.Detail, tt.says)
		}
	}
}

// A ticket names its key the same wherever the secret of tickets is the same, and otherwise
// with what nobody can tell.
func TestTickets_NameKeysWithTheirSecret(t *testing.T) {
	name := func(ticketSecret []byte, keySecret string) string {
		t.Helper()
		k, err := auth.NewSecretKey("HS256", keySecret)
		if err != nil {
			t.Fatal(err)
		}
		a := newAuthority(t, &auth.Options{Keys: []auth.Key{k}, Tickets: newTickets(t, auth.TicketOptions{Secret: ticketSecret})})
		return granted(t, a, request("GET", "/events/x", bearer(signRaw(t, "HS256", []byte(keySecret), goodJSON+"}", nil)))).Credential
	}
	other := bytes.Repeat([]byte("o"), 32)
	one := name(ticketSecret, secret)
	if one == "" || name(ticketSecret, secret) != one {
		t.Errorf("got %q and another, want the same", one)
	}
	if name(other, secret) == one || name(ticketSecret, secret+"x") == one {
		t.Error("got the same of another secret")
	}
}

// A ticket from before tickets named a key is refused in a way that has a page fetch another.
func TestTickets_FromBeforeTheyNamedAKey(t *testing.T) {
	tickets := newTickets(t, auth.TicketOptions{Now: at(tokenNow)})
	signKey, err := hkdf.Key(sha256.New, ticketSecret, nil, "tidewire ticket 1 signature", sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	payload := fmt.Sprintf(`{"jti":"x","s":["news/**"],"r":true,"i":"y","f":%[1]d,"exp":%[1]d}`, tokenNow.Add(time.Minute).UnixMilli())
	text := "tk1." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	h := hmac.New(sha256.New, signKey)
	h.Write([]byte(text))
	text += "." + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
	for _, stop := range []bool{false, true} {
		_, _, err = redeem(tickets, text, eventSource)
		if e := wantProblem(t, err, hub.ProblemTicketSpent); e.Stop != stop || !strings.Contains(e.Detail, "before an update") {
			t.Errorf("got %+v, want that it is from before an update, and stop %v", e, stop)
		}
	}
}
