package auth_test

import (
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/hub"
)

func TestNewTickets_TellsAllThatIsWrong(t *testing.T) {
	tests := []struct {
		name string
		o    *auth.TicketOptions
		want []string
	}{
		{"nothing", nil, []string{"the secret of tickets has 0 bytes"}},
		{"a short secret", &auth.TicketOptions{Secret: make([]byte, 31)}, []string{"31 bytes", "32"}},
		{"times and a path", &auth.TicketOptions{Secret: ticketSecret, FirstUse: -1, Life: time.Millisecond, ReuseLife: 1, MaxFirstUses: -1, Path: "events"},
			[]string{"the first use", "the life of tickets", "reusable", "first uses", `"events"`}},
		{"a path that no cookie can have", &auth.TicketOptions{Secret: ticketSecret, Path: "/a;b"}, []string{`"/a;b"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := auth.NewTickets(tt.o)
			if err == nil {
				t.Fatal("got no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got error %q, want %q in it", err, want)
				}
			}
		})
	}
}

func TestTickets_NeverExceedTheBearer(t *testing.T) {
	narrow := newsGrant()
	narrow.Narrow = true
	tests := []struct {
		name      string
		grant     *hub.Grant
		request   *auth.TicketRequest
		subscribe []string
		private   []string
		problem   hub.Problem
	}{
		{"no request", newsGrant(), nil, []string{"news/**", "users/alice"}, []string{"users/alice"}, ""},
		{"a topic", newsGrant(), &auth.TicketRequest{Subscribe: []string{"news/a"}}, []string{"news/a"}, nil, ""},
		{"a topic with private events", newsGrant(), &auth.TicketRequest{Subscribe: []string{"users/alice"}}, []string{"users/alice"}, []string{"users/alice"}, ""},
		{"no private events", newsGrant(), &auth.TicketRequest{Subscribe: []string{"users/alice"}, Private: []string{}}, []string{"users/alice"}, []string{}, ""},
		{"a narrower pattern", newsGrant(), &auth.TicketRequest{Subscribe: []string{"news/*/b", "news/**"}}, []string{"news/*/b", "news/**"}, nil, ""},
		{"the topic that the pattern begins with", newsGrant(), &auth.TicketRequest{Subscribe: []string{"news"}}, []string{"news"}, nil, ""},

		{"everything", newsGrant(), &auth.TicketRequest{Subscribe: []string{"**"}}, nil, nil, hub.ProblemForbidden},
		{"one segment", newsGrant(), &auth.TicketRequest{Subscribe: []string{"*"}}, nil, nil, hub.ProblemForbidden},
		{"a star for what is named", newsGrant(), &auth.TicketRequest{Subscribe: []string{"*/a"}}, nil, nil, hub.ProblemForbidden},
		{"more below a topic", newsGrant(), &auth.TicketRequest{Subscribe: []string{"users/alice/**"}}, nil, nil, hub.ProblemForbidden},
		{"another user", newsGrant(), &auth.TicketRequest{Subscribe: []string{"users/bob"}}, nil, nil, hub.ProblemForbidden},
		{"one that is granted and one that is not", newsGrant(), &auth.TicketRequest{Subscribe: []string{"news/a", "users/bob"}}, nil, nil, hub.ProblemForbidden},
		{"an encoded slash", newsGrant(), &auth.TicketRequest{Subscribe: []string{"news%2Fa"}}, nil, nil, hub.ProblemForbidden},
		{"an encoded star", newsGrant(), &auth.TicketRequest{Subscribe: []string{"%2A%2A"}}, nil, nil, hub.ProblemForbidden},
		{"an empty first segment", newsGrant(), &auth.TicketRequest{Subscribe: []string{"/news/a"}}, nil, nil, hub.ProblemForbidden},
		{"an empty last segment", newsGrant(), &auth.TicketRequest{Subscribe: []string{"users/alice/"}}, nil, nil, hub.ProblemForbidden},
		{"dot segments are names", newsGrant(), &auth.TicketRequest{Subscribe: []string{"users/bob/../alice"}}, nil, nil, hub.ProblemForbidden},
		{"dot segments below what is granted", newsGrant(), &auth.TicketRequest{Subscribe: []string{"news/../users/bob"}}, []string{"news/../users/bob"}, nil, ""},
		{"** before the end", newsGrant(), &auth.TicketRequest{Subscribe: []string{"news/**/a"}}, nil, nil, hub.ProblemTopic},
		{"a star within a segment", newsGrant(), &auth.TicketRequest{Subscribe: []string{"news/a*"}}, nil, nil, hub.ProblemTopic},
		{"an empty pattern", newsGrant(), &auth.TicketRequest{Subscribe: []string{""}}, nil, nil, hub.ProblemTopic},
		{"control characters", newsGrant(), &auth.TicketRequest{Subscribe: []string{"news/a\r\nb"}}, nil, nil, hub.ProblemTopic},
		{"NUL", newsGrant(), &auth.TicketRequest{Subscribe: []string{"news/\x00"}}, nil, nil, hub.ProblemTopic},
		{"not UTF-8", newsGrant(), &auth.TicketRequest{Subscribe: []string{"news/\xff"}}, nil, nil, hub.ProblemTopic},
		{"an empty list", newsGrant(), &auth.TicketRequest{Subscribe: []string{}}, nil, nil, hub.ProblemForbidden},
		{"others' private events", newsGrant(), &auth.TicketRequest{Private: []string{"news/a"}}, nil, nil, hub.ProblemForbidden},
		{"all private events", newsGrant(), &auth.TicketRequest{Private: []string{"**"}}, nil, nil, hub.ProblemForbidden},
		{"too many", newsGrant(), &auth.TicketRequest{Subscribe: make([]string, 101)}, nil, nil, hub.ProblemTooManyTopics},
		{"too long", newsGrant(), &auth.TicketRequest{Subscribe: []string{"news/" + strings.Repeat("a", 1000), "news/" + strings.Repeat("b", 1000), "news/" + strings.Repeat("c", 1000), "news/" + strings.Repeat("d", 1000)}}, nil, nil, hub.ProblemFieldTooLong},

		{"narrowed", narrow, &auth.TicketRequest{Subscribe: []string{"*/alice", "x"}}, []string{"news/alice", "users/alice"}, []string{"users/alice"}, ""},
		{"narrowed to nothing", narrow, &auth.TicketRequest{Subscribe: []string{"x"}}, nil, nil, hub.ProblemForbidden},
		{"a publisher", &hub.Grant{Publish: []string{"**"}}, nil, nil, nil, hub.ProblemForbidden},
		{"nobody", &hub.Grant{Subscribe: []string{"**"}, Anonymous: true}, nil, nil, nil, hub.ProblemUnauthorized},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tickets := newTickets(t, auth.TicketOptions{})
			ticket, err := tickets.Issue(tt.grant, tt.request)
			if tt.problem != "" {
				wantProblem(t, err, tt.problem)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, _, err := redeem(tickets, ticket.Text, eventSource)
			if err != nil {
				t.Fatal(err)
			}
			got.Started = nil
			want := &hub.Grant{Subject: tt.grant.Subject, Subscribe: tt.subscribe, Private: tt.private, Narrow: tt.grant.Narrow, Expires: ticket.Expires, By: "the ticket"}
			if len(got.Private) == 0 && len(want.Private) == 0 {
				got.Private, want.Private = nil, nil
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got grant %+v, want %+v", got, want)
			}
		})
	}
}

func TestTickets_EndNoLaterThanTheBearer(t *testing.T) {
	clock := newTicketClock()
	now := clock.Now()
	tests := []struct {
		name     string
		bearer   time.Duration // 0: never ends
		request  auth.TicketRequest
		expires  time.Duration
		firstUse time.Duration
		problem  hub.Problem
	}{
		{"for ever", 0, auth.TicketRequest{}, 24 * time.Hour, time.Minute, ""},
		{"an hour", time.Hour, auth.TicketRequest{}, time.Hour, time.Minute, ""},
		{"seconds", 30 * time.Second, auth.TicketRequest{}, 30 * time.Second, 30 * time.Second, ""},
		{"less was asked for", time.Hour, auth.TicketRequest{ExpiresIn: 90}, 90 * time.Second, time.Minute, ""},
		{"more was asked for", time.Hour, auth.TicketRequest{ExpiresIn: 7200}, time.Hour, time.Minute, ""},
		{"more than a day", 0, auth.TicketRequest{ExpiresIn: 1 << 62}, 24 * time.Hour, time.Minute, ""},
		{"less than none", 0, auth.TicketRequest{ExpiresIn: -1}, 0, 0, hub.ProblemField},
		{"reusable", 0, auth.TicketRequest{Reuse: true}, 10 * time.Minute, 10 * time.Minute, ""},
		{"reusable, more was asked for", 0, auth.TicketRequest{Reuse: true, ExpiresIn: 3600}, 10 * time.Minute, 10 * time.Minute, ""},
		{"reusable, of a bearer who ends", 5 * time.Minute, auth.TicketRequest{Reuse: true}, 5 * time.Minute, 5 * time.Minute, ""},
		{"expired", -time.Second, auth.TicketRequest{}, 0, 0, hub.ProblemTokenExpired},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tickets := newTickets(t, auth.TicketOptions{Now: clock.Now})
			g := newsGrant()
			if tt.bearer != 0 {
				g.Expires = now.Add(tt.bearer)
			}
			ticket, err := tickets.Issue(g, &tt.request)
			if tt.problem != "" {
				wantProblem(t, err, tt.problem)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := ticket.Expires.Sub(now); got != tt.expires {
				t.Errorf("got a ticket for %v, want %v", got, tt.expires)
			}
			if got := ticket.FirstUseBy.Sub(now); got != tt.firstUse {
				t.Errorf("got a first use within %v, want %v", got, tt.firstUse)
			}
		})
	}
	t.Run("no reusable ones", func(t *testing.T) {
		tickets := newTickets(t, auth.TicketOptions{ReuseLife: -1})
		_, err := tickets.Issue(newsGrant(), &auth.TicketRequest{Reuse: true})
		wantProblem(t, err, hub.ProblemForbidden)
	})
}

func TestTickets_AnothersName(t *testing.T) {
	tests := []struct {
		name    string
		grant   hub.Grant
		subject string
		want    string
		problem hub.Problem
	}{
		{"one's own", hub.Grant{Subject: "alice", By: "the token"}, "", "alice", ""},
		{"one's own, said outright", hub.Grant{Subject: "alice", By: "the token"}, "alice", "alice", ""},
		{"another's", hub.Grant{Subject: "alice", By: "the token"}, "bob", "", hub.ProblemForbidden},
		{"an administrator", hub.Grant{Subject: "root", Admin: true, By: "the token"}, "bob", "bob", ""},
		{"a back end", hub.Grant{Subject: "key:shop", By: `the key "shop"`}, "bob", "bob", ""},
		{"a token that says it is a key", hub.Grant{Subject: "key:shop", By: "the token"}, "bob", "", hub.ProblemForbidden},
		{"an application that says so", hub.Grant{Subject: "key:shop", By: "the application"}, "bob", "", hub.ProblemForbidden},
		{"no name at all", hub.Grant{}, "bob", "", hub.ProblemForbidden},
		{"a line break", hub.Grant{Admin: true}, "b\nob", "", hub.ProblemField},
		{"too long", hub.Grant{Admin: true}, strings.Repeat("b", 1025), "", hub.ProblemField},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tickets := newTickets(t, auth.TicketOptions{})
			tt.grant.Subscribe = []string{"a"}
			ticket, err := tickets.Issue(&tt.grant, &auth.TicketRequest{Subject: tt.subject})
			if tt.problem != "" {
				wantProblem(t, err, tt.problem)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			g, _, err := redeem(tickets, ticket.Text, eventSource)
			if err != nil {
				t.Fatal(err)
			}
			if g.Subject != tt.want {
				t.Errorf("got subject %q, want %q", g.Subject, tt.want)
			}
		})
	}
}

func TestTickets_RefuseWhatTheyHaveNotIssued(t *testing.T) {
	tickets := newTickets(t, auth.TicketOptions{})
	text := issue(t, tickets, newsGrant(), nil).Text
	wrong := map[string]string{
		"":                                    "nothing",
		"tk1":                                 "the version alone",
		"tk1..":                               "no content",
		"..":                                  "dots",
		text + "A":                            "a byte more",
		text + "\n":                           "a line break more",
		text + "=":                            "padding",
		"tk2" + text[3:]:                      "another version",
		text[:strings.LastIndex(text, ".")+1]: "no signature",
		strings.Repeat("a", 1<<20) + ".x":     "a megabyte",
		issue(t, newTickets(t, auth.TicketOptions{Secret: []byte(strings.Repeat("x", 32))}), newsGrant(), nil).Text: "another server's",
	}
	for i := range text {
		wrong[text[:i]] = "cut off"
		for bit := range 8 {
			wrong[text[:i]+string([]byte{text[i] ^ 1<<bit})+text[i+1:]] = "another byte"
		}
		wrong[text[:i]+"\n"+text[i:]] = "a line break within"
	}
	for w, name := range wrong {
		_, cookies, err := redeem(tickets, w, eventSource)
		e := wantProblem(t, err, hub.ProblemUnauthorized)
		if len(cookies) > 0 || e.Challenge == "" {
			t.Errorf("%s: got cookies %v and challenge %q, want no cookies and a challenge", name, cookies, e.Challenge)
		}
		if len(w) > 3 && strings.Contains(e.Detail+e.Challenge, w) {
			t.Errorf("%s: the refusal has the ticket in it: %s", name, e.Detail)
		}
	}
	if _, _, err := redeem(tickets, text, eventSource); err != nil {
		t.Errorf("after that the ticket itself is refused: %v", err)
	}
}

func TestTickets_OnlyForSubscribing(t *testing.T) {
	for _, reuse := range []bool{false, true} {
		tickets := newTickets(t, auth.TicketOptions{})
		text := issue(t, tickets, newsGrant(), &auth.TicketRequest{Reuse: reuse}).Text
		for _, action := range []hub.Action{hub.ActionPublish, hub.ActionDelete, hub.ActionAdminister} {
			_, _, err := redeem(tickets, text, &hub.Access{Action: action})
			wantProblem(t, err, hub.ProblemForbidden)
		}
	}
}

func TestTickets_DescribingUsesNothingUp(t *testing.T) {
	tickets := newTickets(t, auth.TicketOptions{})
	text := issue(t, tickets, newsGrant(), nil).Text
	for range 3 {
		g, cookies, err := redeem(tickets, text, &hub.Access{Action: hub.ActionDescribe})
		if err != nil {
			t.Fatal(err)
		}
		if len(cookies) > 0 || g.Started != nil {
			t.Fatalf("got cookies %v, want none, and no Started", cookies)
		}
		tickets.Ended(g)
	}
	g, _, err := redeem(tickets, text, eventSource)
	if err != nil {
		t.Fatal(err)
	}
	g.Started()
	_, _, err = redeem(tickets, text, &hub.Access{Action: hub.ActionDescribe})
	wantProblem(t, err, hub.ProblemTicketSpent)
}

func TestTickets_UsedOnceAndThenWithTheProof(t *testing.T) {
	clock := newTicketClock()
	tickets := newTickets(t, auth.TicketOptions{Now: clock.Now})
	text := issue(t, tickets, newsGrant(), nil).Text
	g, cookies, err := redeem(tickets, text, eventSource)
	if err != nil {
		t.Fatal(err)
	}
	if len(cookies) != 1 {
		t.Fatalf("got cookies %v, want one", cookies)
	}
	g.Started()
	tickets.Ended(g)
	for _, step := range []struct {
		after time.Duration
		want  hub.Problem // with the proof
	}{{0, ""}, {59 * time.Second, ""}, {time.Hour, ""}, {22 * time.Hour, ""}, {58*time.Minute + 59*time.Second, ""}, {2 * time.Second, hub.ProblemTicketSpent}} {
		clock.add(step.after)
		g, again, err := redeem(tickets, text, eventSource, cookies...)
		if step.want != "" {
			wantProblem(t, err, step.want)
		} else if err != nil || len(again) > 0 {
			t.Fatalf("with the proof, %v later: got %v and cookies %v, want a grant without", step.after, err, again)
		} else {
			tickets.Ended(g)
		}
		_, _, err = redeem(tickets, text, eventSource)
		wantProblem(t, err, hub.ProblemTicketSpent)
		forged := *cookies[0]
		forged.Value = strings.Repeat("A", len(forged.Value))
		_, _, err = redeem(tickets, text, eventSource, &forged)
		wantProblem(t, err, hub.ProblemTicketSpent)
	}
}

func TestTickets_ProofIsOfOneTicket(t *testing.T) {
	tickets := newTickets(t, auth.TicketOptions{})
	var texts [2]string
	var proofs [2]*http.Cookie
	for i := range texts {
		texts[i] = issue(t, tickets, newsGrant(), nil).Text
		g, cookies, err := redeem(tickets, texts[i], eventSource)
		if err != nil {
			t.Fatal(err)
		}
		g.Started()
		proofs[i] = cookies[0]
	}
	crossed := *proofs[0]
	crossed.Value = proofs[1].Value
	_, _, err := redeem(tickets, texts[0], eventSource, &crossed, proofs[1])
	wantProblem(t, err, hub.ProblemTicketSpent)
	// Another path's cookie may have the same name.
	if _, _, err = redeem(tickets, texts[0], eventSource, &crossed, proofs[0]); err != nil {
		t.Errorf("with another cookie before the proof: %v", err)
	}
}

func TestTickets_SecondRefusalStopsAnEventSource(t *testing.T) {
	tickets := newTickets(t, auth.TicketOptions{})
	text := issue(t, tickets, newsGrant(), nil).Text
	g, _, err := redeem(tickets, text, eventSource)
	if err != nil {
		t.Fatal(err)
	}
	g.Started()
	program := &hub.Access{Action: hub.ActionSubscribe}
	for i, step := range []struct {
		access *hub.Access
		stop   bool
	}{{program, false}, {program, false}, {eventSource, false}, {eventSource, true}, {eventSource, true}, {program, false}} {
		_, _, err := redeem(tickets, text, step.access)
		e := wantProblem(t, err, hub.ProblemTicketSpent)
		if e.Stop != step.stop || e.RetryAfter != time.Minute || e.Challenge == "" {
			t.Errorf("refusal %d: got Stop %v, RetryAfter %v, Challenge %q, want %v, a minute and a challenge", i+1, e.Stop, e.RetryAfter, e.Challenge, step.stop)
		}
	}
}

func TestTickets_NotInTimeForTheFirstUse(t *testing.T) {
	clock := newTicketClock()
	tickets := newTickets(t, auth.TicketOptions{Now: clock.Now})
	text := issue(t, tickets, newsGrant(), nil).Text
	clock.add(time.Minute)
	_, _, err := redeem(tickets, text, eventSource)
	wantProblem(t, err, hub.ProblemTicketSpent)
}

func TestTickets_OneOfManyFirstUsesWins(t *testing.T) {
	tickets := newTickets(t, auth.TicketOptions{})
	text := issue(t, tickets, newsGrant(), nil).Text
	var (
		begin   = make(chan struct{})
		mu      sync.Mutex
		grants  []*hub.Grant
		cookies int
		using   sync.WaitGroup
	)
	for range 50 {
		using.Go(func() {
			<-begin
			g, c, err := redeem(tickets, text, eventSource)
			mu.Lock()
			defer mu.Unlock()
			cookies += len(c)
			if err == nil {
				grants = append(grants, g)
				return
			}
			var e *hub.RequestError
			if !errors.As(err, &e) || e.Problem != hub.ProblemUnavailable || e.RetryAfter != time.Second {
				t.Errorf("got %v, want to be told to come again in a second", err)
			}
		})
	}
	close(begin)
	using.Wait()
	if len(grants) != 1 || cookies != 1 {
		t.Fatalf("got %d grants and %d cookies, want one of each", len(grants), cookies)
	}
}

func TestTickets_GivenBackWhereNothingWasSent(t *testing.T) {
	tickets := newTickets(t, auth.TicketOptions{})
	text := issue(t, tickets, newsGrant(), nil).Text
	var last *hub.Grant
	for range 3 {
		g, _, err := redeem(tickets, text, eventSource)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = redeem(tickets, text, eventSource)
		wantProblem(t, err, hub.ProblemUnavailable)
		tickets.Ended(g)
		tickets.Ended(g) // is no harm
		last = g
	}
	g, _, err := redeem(tickets, text, eventSource)
	if err != nil {
		t.Fatal(err)
	}
	tickets.Ended(last) // which is another one
	_, _, err = redeem(tickets, text, eventSource)
	wantProblem(t, err, hub.ProblemUnavailable)
	g.Started()
	tickets.Ended(g)
	_, _, err = redeem(tickets, text, eventSource)
	wantProblem(t, err, hub.ProblemTicketSpent)
	tickets.Ended(&hub.Grant{}) // of somebody else
}

func TestTickets_RestartForgetsFirstUses(t *testing.T) {
	before := newTickets(t, auth.TicketOptions{})
	text := issue(t, before, newsGrant(), nil).Text
	unused := issue(t, before, newsGrant(), nil).Text
	reusable := issue(t, before, newsGrant(), &auth.TicketRequest{Reuse: true}).Text
	g, proof, err := redeem(before, text, eventSource)
	if err != nil {
		t.Fatal(err)
	}
	g.Started()

	after := newTickets(t, auth.TicketOptions{})
	_, _, err = redeem(after, text, eventSource)
	wantProblem(t, err, hub.ProblemTicketSpent)
	_, _, err = redeem(after, unused, eventSource)
	wantProblem(t, err, hub.ProblemTicketSpent)
	if _, _, err = redeem(after, text, eventSource, proof...); err != nil {
		t.Errorf("with the proof: %v", err)
	}
	if _, _, err = redeem(after, reusable, eventSource); err != nil {
		t.Errorf("reusable: %v", err)
	}
}

func TestTickets_RefuseRatherThanForget(t *testing.T) {
	clock := newTicketClock()
	tickets := newTickets(t, auth.TicketOptions{Now: clock.Now, MaxFirstUses: 3})
	use := func(text string) error {
		g, _, err := redeem(tickets, text, eventSource)
		if err == nil {
			g.Started()
			tickets.Ended(g)
		}
		return err
	}
	var texts []string
	for range 3 {
		texts = append(texts, issue(t, tickets, newsGrant(), nil).Text)
		if err := use(texts[len(texts)-1]); err != nil {
			t.Fatal(err)
		}
		clock.add(20 * time.Second)
	}
	e := wantProblem(t, use(issue(t, tickets, newsGrant(), nil).Text), hub.ProblemUnavailable)
	if e.RetryAfter <= 0 {
		t.Errorf("got RetryAfter %v, want some time", e.RetryAfter)
	}
	for _, text := range texts {
		wantProblem(t, use(text), hub.ProblemTicketSpent)
	}
	clock.add(time.Minute)
	for range 3 {
		if err := use(issue(t, tickets, newsGrant(), nil).Text); err != nil {
			t.Fatalf("a minute later: %v", err)
		}
	}
}

func TestTickets_ReusableForOneStreamAtATime(t *testing.T) {
	var replaced []*hub.Grant
	clock := newTicketClock()
	tickets := newTickets(t, auth.TicketOptions{Now: clock.Now, OnReplace: func(old *hub.Grant) { replaced = append(replaced, old) }})
	text := issue(t, tickets, newsGrant(), &auth.TicketRequest{Reuse: true}).Text
	other := issue(t, tickets, newsGrant(), &auth.TicketRequest{Reuse: true}).Text
	use := func(text string) *hub.Grant {
		t.Helper()
		g, cookies, err := redeem(tickets, text, eventSource)
		if err != nil {
			t.Fatal(err)
		}
		if len(cookies) > 0 {
			t.Errorf("got cookies %v, want none", cookies)
		}
		return g
	}
	first := use(text)
	use(other)
	if len(replaced) > 0 {
		t.Fatalf("got %d streams ended, want none", len(replaced))
	}
	second := use(text)
	if len(replaced) != 1 || replaced[0] != first || first == second {
		t.Fatalf("got %d streams ended, want the first", len(replaced))
	}
	tickets.Ended(first) // which is not the newest
	third := use(text)
	if len(replaced) != 2 || replaced[1] != second {
		t.Fatalf("got %d streams ended, want the second too", len(replaced))
	}
	if _, _, err := redeem(tickets, text, &hub.Access{Action: hub.ActionDescribe}); err != nil || len(replaced) != 2 {
		t.Errorf("to describe: got %v and %d streams ended, want no more", err, len(replaced))
	}
	tickets.Ended(third)
	use(text)
	if len(replaced) != 2 {
		t.Errorf("got a stream ended that was over")
	}
	clock.add(10 * time.Minute)
	_, _, err := redeem(tickets, text, eventSource)
	wantProblem(t, err, hub.ProblemTicketSpent)
}

func TestTickets_ErrorsNameNoTopicsThatWereNotAskedFor(t *testing.T) {
	tickets := newTickets(t, auth.TicketOptions{})
	g := &hub.Grant{Subject: "alice", Subscribe: []string{"hidden/**"}, Private: []string{"hidden/**"}, By: "the token"}
	for _, q := range []*auth.TicketRequest{{Subscribe: []string{"x"}}, {Private: []string{"x"}}, {Subject: "bob"}, {Subscribe: []string{}}} {
		if _, err := tickets.Issue(g, q); err == nil || strings.Contains(err.Error(), "hidden") || !strings.Contains(err.Error(), "the token") {
			t.Errorf("%+v: got %v, want an error that names the token, and nothing that it has", q, err)
		}
	}
}

func TestLoadTicketSecret(t *testing.T) {
	dir := t.TempDir()
	first, err := auth.LoadTicketSecret(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := auth.LoadTicketSecret(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != 32 || string(first) != string(second) {
		t.Errorf("got secrets of %d and %d bytes, want the same of 32", len(first), len(second))
	}
	another, err := auth.LoadTicketSecret(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if string(another) == string(first) {
		t.Error("got the same secret in another directory")
	}
	name := filepath.Join(dir, "ticket-secret")
	if info, err := os.Stat(name); err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("got %v, %v, want a file for its owner alone", info.Mode(), err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("got files %v, %v, want one", files, err)
	}
	if err := os.Truncate(name, 31); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.LoadTicketSecret(dir); err == nil || !strings.Contains(err.Error(), "31 bytes") {
		t.Errorf("of a file that is cut off: got %v, want an error that says so", err)
	}
	if _, err := auth.LoadTicketSecret(filepath.Join(dir, "none")); err == nil {
		t.Error("without the directory: got no error")
	}
}

// FuzzTickets_Redeem gives Tickets texts that they have not issued: any, and their own with
// one piece replaced. Each process that fuzzes has another secret, and tickets of its own.
func FuzzTickets_Redeem(f *testing.F) {
	secret := make([]byte, 32)
	rand.Read(secret)
	tickets := newTickets(f, auth.TicketOptions{Secret: secret})
	var issued []string
	for _, q := range []*auth.TicketRequest{nil, {Reuse: true}, {Subscribe: []string{"news/a"}, ExpiresIn: 60}} {
		issued = append(issued, issue(f, tickets, newsGrant(), q).Text)
	}
	f.Add(issued[0], uint16(0), uint16(0))
	f.Add(issued[1], uint16(4), uint16(10))
	f.Add("tk1.e30.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", uint16(0), uint16(300))
	f.Add("", uint16(3), uint16(4))
	f.Fuzz(func(t *testing.T, text string, from, size uint16) {
		texts := []string{text}
		for _, own := range issued {
			i := min(int(from), len(own))
			texts = append(texts, own[:i]+text+own[min(i+int(size), len(own)):])
		}
		for _, text := range texts {
			g, cookies, err := redeem(tickets, text, eventSource)
			if err == nil {
				tickets.Ended(g)
			}
			if !slices.Contains(issued, text) && (err == nil || len(cookies) > 0) {
				t.Errorf("%q was not issued: got grant %+v and cookies %v", text, g, cookies)
			}
		}
	})
}
