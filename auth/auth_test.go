package auth_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/hub"
)

// backend returns a publisher key, and what the server has of it.
func backend(t testing.TB, name string, expires time.Time) (string, auth.PublisherKey) {
	t.Helper()
	text, k, err := auth.NewPublisherKey(name, auth.Permissions{Publish: []string{"orders/**"}}, tokenNow, expires)
	if err != nil {
		t.Fatal(err)
	}
	return text, k
}

func TestNew_SaysAllThatIsWrong(t *testing.T) {
	_, k := backend(t, "backend", time.Time{})
	noHash := k
	noHash.ID, noHash.Hash = "other", "sha1:00"
	_, err := auth.New(&auth.Options{
		Keys:          []auth.Key{{Algorithm: "HS256"}},
		JWKS:          []string{"http://keys.example/jwks", "https://keys.example/jwks?secret", "https://keys.example/jwks?secret", "ftp://x", "keys"},
		Cookie:        "a b",
		PublisherKeys: []auth.PublisherKey{k, k, noHash},
		Anonymous:     &hub.Grant{Subscribe: []string{"a*"}},
	})
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{
		"key 1 has no key", "over http anyone on the way", "https://keys.example/jwks is there twice", "a key set is at an https URL",
		`cookie's name "a b"`, "there are two with this id", "the hash must be sha256:", `anonymous: subscribe: "a*"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	if strings.Contains(err.Error(), "?secret") {
		t.Errorf("got %v, which has a query in it", err)
	}
}

func TestAuthority_OneCredentialCounts(t *testing.T) {
	key, k := backend(t, "backend", time.Time{})
	a := newAuthority(t, &auth.Options{Keys: []auth.Key{secretKey(t)}, PublisherKeys: []auth.PublisherKey{k}})
	alice := signSecret(t, goodJSON+`}`, nil)
	bob := signSecret(t, strings.Replace(goodJSON, "alice", "bob", 1)+`}`, nil)
	page := "Origin: http://example.com" // where httptest's requests are for
	for _, test := range []struct {
		name    string
		method  string
		target  string
		headers []string
		subject string
	}{
		{"bearer", "POST", "/events/x", []string{bearer(alice)}, "alice"},
		{"bearer in another case", "POST", "/events/x", []string{"Authorization: bEARER  " + alice + " "}, "alice"},
		{"publisher key", "POST", "/events/x", []string{bearer(key)}, "key:backend"},
		{"publisher key as a password", "POST", "/events/x", []string{"Authorization: " + basic("", key)}, "key:backend"},
		{"publisher key with any user", "POST", "/events/x", []string{"Authorization: " + basic("me", key)}, "key:backend"},
		{"cookie", "GET", "/events/x", []string{"Cookie: a=b; tidewire=" + bob}, "bob"},
		{"header before cookie", "GET", "/events/x", []string{bearer(alice), "Cookie: tidewire=" + bob}, "alice"},
		{"header before ticket", "GET", "/events/x?ticket=x", []string{bearer(alice)}, "alice"},
		{"cookie with the own page", "POST", "/events/x", []string{"Cookie: tidewire=" + bob, page}, "bob"},
		{"cookie with the browser's word", "DELETE", "/events/x", []string{"Cookie: tidewire=" + bob, "Sec-Fetch-Site: same-origin"}, "bob"},
		{"a word like ticket", "GET", "/events/x?since=tickets", []string{"Cookie: tidewire=" + bob}, "bob"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if g := granted(t, a, request(test.method, test.target, test.headers...)); g.Subject != test.subject {
				t.Errorf("got subject %q, want %q", g.Subject, test.subject)
			}
		})
	}
	for _, test := range []struct {
		name    string
		method  string
		target  string
		headers []string
		problem hub.Problem
		says    string
	}{
		{"nothing", "GET", "/events/x", nil, hub.ProblemUnauthorized, `as "Authorization: Bearer …", or as the cookie tidewire. tidewire token new and tidewire key new make them`},
		{"other cookies", "GET", "/events/x", []string{"Cookie: a=b"}, hub.ProblemUnauthorized, "who sends this?"},
		{"two headers", "GET", "/events/x", []string{bearer(alice), bearer(alice)}, hub.ProblemQuery, "there are 2 Authorization headers: send one"},
		{"empty header", "GET", "/events/x", []string{"Authorization: "}, hub.ProblemQuery, "is empty"},
		{"no token", "GET", "/events/x", []string{"Authorization: Bearer "}, hub.ProblemQuery, "no more than the name of a scheme"},
		{"token alone", "GET", "/events/x", []string{"Authorization: " + alice}, hub.ProblemQuery, `send "Authorization: Bearer "`},
		{"another scheme", "GET", "/events/x", []string{"Authorization: Digest x"}, hub.ProblemQuery, "a scheme that is not Bearer"},
		{"basic that is not base64", "GET", "/events/x", []string{"Authorization: Basic !"}, hub.ProblemQuery, "is not base64"},
		{"basic with a password", "GET", "/events/x", []string{"Authorization: " + basic("me", "password")}, hub.ProblemUnauthorized, "must be a publisher key"},
		{"bad header before a good cookie", "GET", "/events/x", []string{bearer("x.y.z"), "Cookie: tidewire=" + bob}, hub.ProblemUnauthorized, "header is not"},
		{"two cookies", "GET", "/events/x", []string{"Cookie: tidewire=" + bob + "; tidewire=" + bob}, hub.ProblemQuery, "2 cookies with the name tidewire"},
		{"ticket where there are none", "GET", "/events/x?ticket=x", nil, hub.ProblemUnauthorized, "gives no tickets"},
		{"two tickets", "GET", "/events/x?ticket=x&ticket=y", nil, hub.ProblemQuery, "must have one ticket"},
		{"cookie without a page", "POST", "/events/x", []string{"Cookie: tidewire=" + bob}, hub.ProblemForbidden, "needs an Origin header, which browsers send: in programs use the Authorization header"},
		{"cookie with another page", "POST", "/events/x", []string{"Cookie: tidewire=" + bob, "Origin: http://evil.example"}, hub.ProblemForbidden, `pages of "http://evil.example"`},
		{"cookie with no page to name", "POST", "/events/x", []string{"Cookie: tidewire=" + bob, "Origin: null"}, hub.ProblemForbidden, `pages of "null"`},
		{"cookie with another page of the host", "POST", "/events/x", []string{"Cookie: tidewire=" + bob, page, "Sec-Fetch-Site: same-site"}, hub.ProblemForbidden, "may not use POST"},
		{"cookie and a WebSocket of another page", "GET", "/events/x", []string{"Cookie: tidewire=" + bob, "Upgrade: websocket", "Origin: http://evil.example"}, hub.ProblemForbidden, "may not use GET"},
		{"publisher key that is none", "POST", "/events/x", []string{bearer("tw_a_b")}, hub.ProblemUnauthorized, "none that this server has"},
		{"publisher key cut off", "POST", "/events/x", []string{bearer(key[:len(key)-1])}, hub.ProblemUnauthorized, "none that this server has"},
		{"publisher key in a cookie", "GET", "/events/x", []string{"Cookie: tidewire=" + key}, hub.ProblemUnauthorized, "has 1 parts"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := refused(t, a, request(test.method, test.target, test.headers...), test.problem, test.says)
			if strings.Contains(e.Error()+e.Challenge, alice) || strings.Contains(e.Error()+e.Challenge, key) {
				t.Errorf("got %v with challenge %q, which repeats the credential", e, e.Challenge)
			}
		})
	}
}

func basic(user, password string) string {
	r := httptest.NewRequest("GET", "/", nil)
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

// RFC 6750, section 3: without credentials there is no error code.
func TestAuthority_Challenges(t *testing.T) {
	a := newAuthority(t, &auth.Options{Keys: []auth.Key{secretKey(t)}})
	if e := refused(t, a, request("GET", "/events/x"), hub.ProblemUnauthorized, ""); e.Challenge != `Bearer realm="tidewire"` {
		t.Errorf("got %q", e.Challenge)
	}
	e := refused(t, a, request("GET", "/events/x", bearer(signSecret(t, `{"tidewire":{"p\\\"üblish":[]}}`, nil))), hub.ProblemUnauthorized, "")
	if want := `Bearer realm="tidewire", error="invalid_token", error_description="the token's claim tidewire has `; !strings.HasPrefix(e.Challenge, want) ||
		strings.Count(e.Challenge, `"`) != 6 || strings.ContainsFunc(e.Challenge, func(r rune) bool { return r < ' ' || r > '~' || r == '\\' }) {
		t.Errorf("got %q, want %s and printable ASCII", e.Challenge, want)
	}
}

func TestAuthority_CookieSettings(t *testing.T) {
	token := signSecret(t, goodJSON+`}`, nil)
	named := newAuthority(t, &auth.Options{Keys: []auth.Key{secretKey(t)}, Cookie: "__Host-session"})
	granted(t, named, request("GET", "/events/x", "Cookie: __Host-session="+token))
	refused(t, named, request("GET", "/events/x", "Cookie: tidewire="+token), hub.ProblemUnauthorized, "as the cookie __Host-session")
	none := newAuthority(t, &auth.Options{Keys: []auth.Key{secretKey(t)}, Cookie: "-"})
	if e := refused(t, none, request("GET", "/events/x", "Cookie: -="+token), hub.ProblemUnauthorized, ""); strings.Contains(e.Detail, "cookie") {
		t.Errorf("got %q, which speaks of a cookie", e.Detail)
	}
}

// A cookie from another origin counts once the hub has let that origin's cookies come, and not
// because every origin may read.
func TestAuthority_CookieOfAnAllowedPage(t *testing.T) {
	const page = "https://app.example"
	a := newAuthority(t, &auth.Options{Keys: []auth.Key{secretKey(t)}, Now: time.Now})
	token := signSecret(t, goodJSON+`}`, nil)
	for _, test := range []struct {
		name   string
		opt    hub.Options
		status int
	}{
		{"with credentials", hub.Options{AllowedOrigins: []string{page}, AllowCredentials: true}, 201},
		{"without credentials", hub.Options{AllowedOrigins: []string{page}}, 403},
		{"any page", hub.Options{AllowedOrigins: []string{"*"}}, 403},
		{"no page", hub.Options{}, 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := newHubServer(t, a, test.opt)
			req, err := http.NewRequest("POST", server.URL+"/events/news/sport", strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Origin", page)
			req.Header.Set("Sec-Fetch-Site", "cross-site")
			req.AddCookie(&http.Cookie{Name: "tidewire", Value: token})
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			var got answer
			if got.read(t, resp); got.status != test.status {
				t.Errorf("got %d %s, want %d", got.status, got.body, test.status)
			}
		})
	}
}

func TestAuthority_Anonymous(t *testing.T) {
	mine := &hub.Grant{Subscribe: []string{"public/**"}}
	a := newAuthority(t, &auth.Options{Anonymous: mine})
	if g := granted(t, a, request("GET", "/events/x")); !g.Anonymous || g.Subscribe[0] != "public/**" {
		t.Errorf("got %+v, want what anonymous ones may", g)
	}
	if mine.Anonymous {
		t.Error("the grant of the options was changed")
	}
	// Who sends a credential means it: a bad one is no way to be anonymous.
	refused(t, a, request("GET", "/events/x", bearer("x.y.z")), hub.ProblemUnauthorized, "no keys to check tokens with")
}

func TestAuthority_WhoSaysWhoItIsMayDoNoLess(t *testing.T) {
	key, k, err := auth.NewPublisherKey("backend", auth.Permissions{Publish: []string{"orders/*"}}, time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthority(t, &auth.Options{
		Keys: []auth.Key{secretKey(t)}, Now: at(tokenNow), PublisherKeys: []auth.PublisherKey{k},
		Anonymous: &hub.Grant{Subscribe: []string{"public/**"}},
	})
	token := signSecret(t, `{"sub":"bob","tidewire":{"subscribe":["news/*"]}}`, nil)
	for _, c := range []struct {
		credential                  string
		subject, publish, subscribe string
	}{
		{key, "key:backend", "orders/*", "public/**"},
		{token, "bob", "", "news/* public/**"},
	} {
		g := granted(t, a, request("GET", "/events/x", bearer(c.credential)))
		if g.Anonymous || g.Subject != c.subject || strings.Join(g.Publish, " ") != c.publish || strings.Join(g.Subscribe, " ") != c.subscribe {
			t.Errorf("got %+v, want %q to publish %q and subscribe to %q", g, c.subject, c.publish, c.subscribe)
		}
	}
}

func TestAuthority_NothingConfigured(t *testing.T) {
	a, err := auth.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, a, request("GET", "/events/x"), hub.ProblemUnauthorized, "who sends this?")
	if err := errors.Join(a.Close(), a.Close()); err != nil {
		t.Error(err)
	}
	if err := a.Replace(nil); err == nil {
		t.Error("a closed authority took other options")
	}
}

func TestAuthority_Replace(t *testing.T) {
	key, k := backend(t, "backend", time.Time{})
	a := newAuthority(t, &auth.Options{Keys: []auth.Key{secretKey(t)}, PublisherKeys: []auth.PublisherKey{k}})
	token := request("GET", "/events/x", bearer(signSecret(t, goodJSON+`}`, nil)))
	granted(t, a, token)
	if err := a.Replace(&auth.Options{Cookie: "a b"}); err == nil {
		t.Fatal("got no error for a bad name")
	}
	granted(t, a, token)
	other, err := auth.NewSecretKey("HS256", strings.ToUpper(secret))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Replace(&auth.Options{Keys: []auth.Key{other}, Now: at(tokenNow)}); err != nil {
		t.Fatal(err)
	}
	refused(t, a, token, hub.ProblemUnauthorized, "signature does not hold")
	refused(t, a, request("POST", "/events/x", bearer(key)), hub.ProblemUnauthorized, "none that this server has")
	if err := a.Replace(&auth.Options{Keys: []auth.Key{secretKey(t)}, Audience: []string{"me"}, Now: at(tokenNow)}); err != nil {
		t.Fatal(err)
	}
	refused(t, a, token, hub.ProblemUnauthorized, `"me" must be among its aud`)
}

// A bobsQuestion is what an application was asked.
type bobsQuestion struct {
	Action, Subject string
	authorization   string
}

// newBobsApplication asks a server that takes the questions down and grants app/**, to bob.
func newBobsApplication(t *testing.T) (*auth.Application, <-chan bobsQuestion) {
	t.Helper()
	asked := make(chan bobsQuestion, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q bobsQuestion
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		q.authorization = r.Header.Get("Authorization")
		asked <- q
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"subject":"bob","subscribe":["news/sport","app/**"],"publish":["app/**"]}`)
	}))
	t.Cleanup(server.Close)
	p, err := auth.NewApplication(&auth.ApplicationOptions{URL: server.URL, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return p, asked
}

func TestAuthority_Application(t *testing.T) {
	key, k := backend(t, "backend", time.Time{})
	token := signSecret(t, goodJSON+`}`, nil)
	without, asked := newBobsApplication(t)
	with, askedWith := newBobsApplication(t)
	noKeys := newAuthority(t, &auth.Options{Application: without, PublisherKeys: []auth.PublisherKey{k}, Anonymous: &hub.Grant{}})
	keys := newAuthority(t, &auth.Options{Application: with, PublisherKeys: []auth.PublisherKey{k}, Keys: []auth.Key{secretKey(t)}})

	t.Run("without keys it is asked about all that comes", func(t *testing.T) {
		for _, header := range []string{"", bearer("opaque"), "Authorization: " + basic("me", "password"), "Authorization: Digest x", "Cookie: tidewire=opaque", "Cookie: session=x"} {
			var headers []string
			if header != "" {
				headers = []string{header}
			}
			if g := granted(t, noKeys, request("GET", "/events/x", headers...)); g.Subject != "bob" {
				t.Errorf("%q: got %+v, want what the application says", header, g)
			}
			want, _ := strings.CutPrefix(header, "Authorization: ")
			if q := <-asked; q.Action != "subscribe" || q.Subject != "" || q.authorization != want && strings.HasPrefix(header, "Auth") {
				t.Errorf("%q: got question %+v", header, q)
			}
		}
	})
	t.Run("with keys it narrows what a token grants", func(t *testing.T) {
		g := granted(t, keys, request("GET", "/events/x", bearer(token)))
		if len(g.Subscribe) != 1 || g.Subscribe[0] != "news/sport" || len(g.Publish) != 0 {
			t.Errorf("got %+v, want what both grant", g)
		}
		if q := <-askedWith; q.Subject != "alice" {
			t.Errorf("got question %+v, want the token's subject in it", q)
		}
		granted(t, keys, request("GET", "/events/x")) // it may know the sender by other means
		<-askedWith
	})
	t.Run("it is not asked", func(t *testing.T) {
		refused(t, keys, request("GET", "/events/x", bearer("opaque")), hub.ProblemUnauthorized, "has 1 parts")
		refused(t, keys, request("GET", "/events/x", "Authorization: "+basic("me", "password")), hub.ProblemUnauthorized, "must be a publisher key")
		refused(t, noKeys, request("POST", "/events/x", "Cookie: session=x"), hub.ProblemForbidden, "needs an Origin header")
		refused(t, noKeys, request("POST", "/events/x", "Cookie: session=x", "Origin: http://evil.example"), hub.ProblemForbidden, "may not use POST")
		for _, a := range []*auth.Authority{keys, noKeys} {
			if g := granted(t, a, request("POST", "/events/x", bearer(key))); g.Subject != "key:backend" {
				t.Errorf("got %+v, want what the key grants", g)
			}
		}
		select {
		case q := <-asked:
			t.Errorf("got question %+v", q)
		case q := <-askedWith:
			t.Errorf("got question %+v", q)
		default:
		}
	})
	t.Run("another one takes its place", func(t *testing.T) {
		another, askedThen := newBobsApplication(t)
		if err := noKeys.Replace(&auth.Options{Application: another}); err != nil {
			t.Fatal(err)
		}
		granted(t, noKeys, request("GET", "/events/x"))
		<-askedThen
	})
}

// A request that waits for an application that is replaced is judged by the new options.
func TestAuthority_ReplaceFinishesRequests(t *testing.T) {
	asked := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does a server notice that its client has gone
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	slow, err := auth.NewApplication(&auth.ApplicationOptions{URL: server.URL, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthority(t, &auth.Options{Application: slow})
	done := make(chan error, 1)
	go func() {
		_, err := authorize(a, request("GET", "/events/x"))
		done <- err
	}()
	<-asked
	another, _ := newBobsApplication(t)
	if err := a.Replace(&auth.Options{Application: another}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("got %v, want what the new application says", err)
	}
}

// HTTP lets no such token through, and decoders of base64 would pass over the line break.
func TestAuthority_RefusesLineBreaksInTokens(t *testing.T) {
	a := newAuthority(t, &auth.Options{Keys: []auth.Key{secretKey(t)}})
	token := signSecret(t, goodJSON+`}`, nil)
	for _, text := range []string{token[:9] + "\n" + token[9:], token[:len(token)-4] + "\r\n" + token[len(token)-4:]} {
		refused(t, a, request("GET", "/events/x", bearer(text)), hub.ProblemUnauthorized, "has a line break in it")
	}
}

func TestAuthority_Tickets(t *testing.T) {
	tickets, err := auth.NewTickets(&auth.TicketOptions{Secret: []byte(secret), Now: at(tokenNow)})
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthority(t, &auth.Options{Keys: []auth.Key{secretKey(t)}, Tickets: tickets})
	bearerOfToken := request("GET", "/events/x", bearer(signSecret(t, goodJSON+`}`, nil)))
	ticket, err := tickets.Issue(granted(t, a, bearerOfToken), nil)
	if err != nil {
		t.Fatal(err)
	}
	target := "/events/news/sport?" + ticket.Query()
	refused(t, a, request("POST", target), hub.ProblemUnauthorized, "a ticket is for subscribing: to publish, send a token")
	g := granted(t, a, request("GET", target))
	if g.Subject != "alice" || len(g.Publish) != 0 {
		t.Errorf("got %+v, want alice's subscriptions", g)
	}
	// Ended without a byte sent gives the ticket back.
	a.Ended(g, hub.ActionSubscribe, netip.Addr{})
	g = granted(t, a, request("GET", target))
	g.Started()
	a.Ended(g, hub.ActionSubscribe, netip.Addr{})
	refused(t, a, request("GET", target), hub.ProblemTicketSpent, "was used before")
	refused(t, a, request("GET", "/events/x"), hub.ProblemUnauthorized, "ticket from POST /tickets")
}
