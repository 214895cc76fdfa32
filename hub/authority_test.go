package hub_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// A desk is an authority whose grants are looked up by the header Badge. It counts what has
// not ended.
type desk struct {
	mu     sync.Mutex
	grants map[string]*hub.Grant
	errs   map[string]error
	asked  []hub.Access
	open   int
	ended  []string        // actions
	gone   map[string]bool // credentials
}

func newDesk(grants map[string]*hub.Grant) *desk {
	return &desk{grants: grants, errs: make(map[string]error), gone: make(map[string]bool)}
}

func (d *desk) Authorize(_ http.ResponseWriter, r *http.Request, a *hub.Access) (*hub.Grant, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, *a)
	badge := r.Header.Get("Badge")
	if err := d.errs[badge]; err != nil {
		return nil, err
	}
	g := d.grants[badge]
	if g == nil {
		g = &hub.Grant{Anonymous: true}
	}
	d.open++
	return g, nil
}

func (d *desk) Ended(_ *hub.Grant, a hub.Action, _ netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	d.ended = append(d.ended, a.String())
}

func (d *desk) Holds(g *hub.Grant) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.gone[g.Credential]
}

// revoke has a credential hold no more.
func (d *desk) revoke(credential string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone[credential] = true
}

// allEnded waits until every grant has ended.
func (d *desk) allEnded(t testing.TB) {
	t.Helper()
	eventually(t, "every grant has ended", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.open == 0
	})
}

func TestAuthority_GrantsWhatMayBeDone(t *testing.T) {
	d := newDesk(map[string]*hub.Grant{
		"news": {By: "the badge", Subscribe: []string{"news/*"}, Publish: []string{"news/eu", "log/**"}, Delete: []string{"log/**"}},
	})
	s := serve(t, newHub(t, hub.Options{Authority: d}))
	s.call("POST", "/events/news/eu", "x", "Badge: news")
	for _, c := range []struct {
		method, path, body, badge string
		status                    int
		detail                    string // in the answer
	}{
		{"POST", "/events/news/eu", "x", "news", 201, ""},
		{"POST", "/events/news/us", "x", "news", 403, `the badge does not allow to publish topic \"news/us\"`},
		{"POST", "/events/news/eu", "x", "", 401, "without credentials nobody may publish topic"},
		{"POST", "/events?topic=news/eu&topic=secret", "x", "news", 403, `\"secret\"`},
		{"POST", "/events/log/a/b?end=true", "", "news", 200, ""},
		{"POST", "/events/news/us?end=true", "", "news", 403, `\"news/us\"`},
		{"DELETE", "/events/log/a/b", "", "news", 204, ""},
		{"DELETE", "/events/news/eu", "", "news", 403, "does not allow to delete"},
		{"DELETE", "/events/log/a/b", "", "", 401, "credentials"},
		{"HEAD", "/events/news/eu", "", "news", 200, ""},
		{"HEAD", "/events/log/x", "", "news", 403, ""},
		{"GET", "/events/secret", "", "news", 403, `does not allow to subscribe topic \"secret\"`},
		{"GET", "/events?topic=news/eu&topic=secret", "", "news", 403, `\"secret\"`},
		{"GET", "/events?pattern=**", "", "news", 403, `pattern \"**\"`},
		{"GET", "/events?pattern=news/**", "", "news", 403, `pattern \"news/**\"`},
		{"GET", "/events?pattern=*/eu", "", "news", 403, `pattern \"*/eu\"`},
		{"GET", "/events/news/eu/x", "", "news", 403, ""},
		{"GET", "/events/news", "", "news", 403, ""},
		{"GET", "/events/news%2Feu%2F..%2F..%2Fsecret", "", "news", 403, ""},
		{"GET", "/events/news/../secret", "", "news", 403, ""},
		{"GET", "/events/news//eu", "", "news", 403, ""},
		{"GET", "/events//news/eu", "", "news", 403, ""},
		{"GET", "/events/news%252Feu", "", "news", 403, ""},
		{"GET", "/events/NEWS/eu", "", "news", 403, ""},
		{"GET", "/events/news/eu", "", "", 401, "POST /tickets"},
	} {
		t.Run(c.method+" "+c.path+" as "+c.badge, func(t *testing.T) {
			s := *s
			s.t = t
			a := s.call(c.method, c.path, c.body, "Badge: "+c.badge)
			if a.StatusCode != c.status || !strings.Contains(a.body, c.detail) {
				t.Errorf("got %s %s, want %d with %q", a.Status, a.body, c.status, c.detail)
			}
			if challenge := a.Header.Get("WWW-Authenticate"); (challenge != "") != (c.status == 401) {
				t.Errorf("got the challenge %q with %d", challenge, a.StatusCode)
			}
		})
	}
	d.allEnded(t)
}

func TestAuthority_EveryEventOfABatchCounts(t *testing.T) {
	d := newDesk(map[string]*hub.Grant{"b": {Publish: []string{"a/*"}}})
	s := serve(t, newHub(t, hub.Options{Authority: d}))
	ndjson := []string{"Badge: b", "Content-Type: application/x-ndjson"}
	for body, want := range map[string]int{
		`{"data":"1","topics":["a/1"]}` + "\n" + `{"data":"2","topics":["a/2"]}`: 201,
		`{"data":"1","topics":["a/1"]}` + "\n" + `{"data":"2","topics":["b"]}`:   403,
		`{"data":"1","topics":["a/1","b"]}`:                                      403,
		`{"data":"1","topics":["a/1","a/x/y"]}`:                                  403,
		`{"data":"1","topics":["a/1"],"to` + `pics":["b"]}`:                      403,
		`{"data":"1","topics":["a/1"],"Topics":["b"]}`:                           403,
		`{"data":"1","topics":["a\/1"]}`:                                         201,
		`{"data":"1","topics":["\u0061/1"]}`:                                     201,
		`{"data":"1","topics":["\u0062"]}`:                                       403,
	} {
		if a := s.call("POST", "/events", body, ndjson...); a.StatusCode != want {
			t.Errorf("%s: got %s %s, want %d", body, a.Status, a.body, want)
		}
	}
	if a := s.call("POST", "/events/b", "data: x\n\n", "Badge: b", "Content-Type: text/event-stream"); a.StatusCode != 403 {
		t.Errorf("a stream to b: got %s, want 403", a.Status)
	}
	d.allEnded(t)
}

func TestAuthority_NarrowLeavesWhatIsGranted(t *testing.T) {
	d := newDesk(map[string]*hub.Grant{
		"all":    {Publish: []string{"**"}},
		"narrow": {Subscribe: []string{"a/*", "b"}, Narrow: true},
	})
	s := serve(t, newHub(t, hub.Options{Authority: d}))
	for _, topic := range []string{"a/1", "a/x/y", "b", "c", "a/2"} {
		s.call("POST", "/events/"+topic, topic, "Badge: all")
	}
	for query, want := range map[string][]string{
		"pattern=**":                       {"a/1", "b", "a/2"},
		"pattern=*":                        {"b"},
		"topic=c&topic=b":                  {"b"},
		"pattern=a/**&topic=c":             {"a/1", "a/2"},
		"pattern=*/1&pattern=c&pattern=**": {"a/1", "b", "a/2"},
	} {
		st := s.open("/events?since=earliest&"+query, "Badge: narrow")
		for _, w := range want {
			if ev := st.next(); ev.Data != w {
				t.Errorf("%s: got %q, want %q", query, ev.Data, w)
			}
		}
	}
	if a := s.call("GET", "/events?topic=c&pattern=d/*", "", "Badge: narrow"); a.StatusCode != 403 {
		t.Errorf("nothing is left: got %s, want 403", a.Status)
	}
}

func TestAuthority_NarrowLeavesNothingTwice(t *testing.T) {
	d := newDesk(map[string]*hub.Grant{
		"all":    {Publish: []string{"**"}},
		"narrow": {Subscribe: []string{"a", "a/**", "*", "*/b"}, Narrow: true},
	})
	h := newHub(t, hub.Options{Authority: d})
	s := serve(t, h)
	for _, query := range []string{"pattern=*", "pattern=**", "topic=a&pattern=**", "pattern=*/b&pattern=a/**&pattern=a"} {
		st := s.open("/events?"+query, "Badge: narrow")
		for _, topic := range []string{"a", "c/d", "a/b", "a"} {
			s.call("POST", "/events/"+topic, topic, "Badge: all")
		}
		want := []string{"a", "a/b", "a"}
		if query == "pattern=*" {
			want = []string{"a", "a"}
		}
		for _, w := range want {
			if ev := st.next(); ev.Data != w {
				t.Errorf("%s: got %q, want %q", query, ev.Data, w)
			}
		}
		eventually(t, "the subscription before it ends", func() bool { return h.Streams() == 1 })
		for _, sub := range h.Subscriptions(t.Context()) {
			for _, names := range [][]string{sub.Topics, sub.Patterns} {
				slices.Sort(names)
				if len(slices.Compact(slices.Clone(names))) != len(names) {
					t.Errorf("%s: got %q, want each once", query, names)
				}
			}
		}
		st.close()
	}
}

func TestAuthority_PrivateEventsNeedAGrant(t *testing.T) {
	d := newDesk(map[string]*hub.Grant{
		"all":  {Subscribe: []string{"**"}, Publish: []string{"**"}, Private: []string{"**"}},
		"some": {Subscribe: []string{"**"}, Private: []string{"a/*"}},
		"none": {Subscribe: []string{"**"}},
	})
	s := serve(t, newHub(t, hub.Options{Authority: d}))
	for _, topic := range []string{"a/1", "b", "a/x/y"} {
		s.call("POST", "/events/"+topic+"?private=true", "private "+topic, "Badge: all")
		s.call("POST", "/events/"+topic, "public "+topic, "Badge: all")
	}
	s.call("POST", "/events?topic=b&topic=a/1&private=true", "both", "Badge: all")
	s.call("POST", "/events/end", "end", "Badge: all")
	for badge, want := range map[string]map[string][]string{
		"all": {
			"pattern=**":        {"private a/1", "public a/1", "private b", "public b", "private a/x/y", "public a/x/y", "both"},
			"topic=b&topic=end": {"private b", "public b", "both"},
		},
		"some": {
			"pattern=**":                  {"private a/1", "public a/1", "public b", "public a/x/y", "both"},
			"topic=b&topic=end":           {"public b"}, // the grant is for a topic that is not asked for
			"topic=b&topic=end&topic=a/1": {"private a/1", "public a/1", "public b", "both"},
			"pattern=a/**&topic=end":      {"private a/1", "public a/1", "public a/x/y", "both"},
			"topic=a/1&topic=end":         {"private a/1", "public a/1", "both"},
		},
		"none": {"pattern=**": {"public a/1", "public b", "public a/x/y"}},
	} {
		for query, data := range want {
			st := s.open("/events?since=earliest&"+query, "Badge: "+badge)
			for _, w := range append(slices.Clone(data), "end") {
				if ev := st.next(); ev.Data != w {
					t.Fatalf("%s as %s: got %q, want %q", query, badge, ev.Data, w)
				}
			}
		}
	}
}

// What an EventSource would stop at for good reaches it in a stream.
func TestAuthority_AnEventSourceIsToldWhyInAStream(t *testing.T) {
	d := newDesk(nil)
	d.errs = map[string]error{
		"expired":    &hub.RequestError{Problem: hub.ProblemTokenExpired, Detail: "it is over", RetryAfter: 40 * time.Second},
		"spent":      &hub.RequestError{Problem: hub.ProblemTicketSpent, Detail: "it is spent", RetryAfter: time.Minute},
		"busy":       &hub.RequestError{Problem: hub.ProblemTooManyStreams, Detail: "too many", RetryAfter: 5 * time.Second},
		"overloaded": &hub.RequestError{Problem: hub.ProblemOverloaded, Detail: "full"},
		"down":       &hub.RequestError{Problem: hub.ProblemUnavailable, Detail: "down"},
		"wrong":      &hub.RequestError{Problem: hub.ProblemUnauthorized, Detail: "wrong", Challenge: "Bearer"},
		"stop":       &hub.RequestError{Problem: hub.ProblemTicketSpent, Detail: "again", Stop: true},
	}
	s := serve(t, newHub(t, hub.Options{Authority: d, Retry: 2 * time.Second}))
	for _, c := range []struct {
		badge       string
		eventSource int // status
		program     int
		after       string // Retry-After
		least, most int    // retry, ms
	}{
		{"expired", 200, 401, "40", 40_000, 80_000},
		{"spent", 200, 401, "60", 60_000, 120_000},
		{"busy", 200, 429, "5", 5_000, 10_000},
		{"overloaded", 200, 503, "1", 1_000, 3_000},
		{"down", 200, 503, "1", 1_000, 3_000},
		{"wrong", 401, 401, "", 0, 0},
		{"stop", 204, 401, "", 0, 0},
	} {
		for _, prefer := range []string{"", "status"} {
			accept := []string{"Badge: " + c.badge, "Accept: text/event-stream", "Prefer: " + prefer}
			if prefer == "" {
				accept = accept[:2]
			}
			a := s.call("GET", "/events/a", "", accept...)
			want := c.eventSource
			if prefer != "" {
				want = c.program
			}
			if a.StatusCode != want {
				t.Fatalf("%s, Prefer %q: got %s, want %d", c.badge, prefer, a.Status, want)
			}
			switch want {
			case 200:
				var ms int
				if _, err := fmt.Sscanf(a.body, "retry: %d\n", &ms); err != nil || ms < c.least || ms > c.most {
					t.Errorf("%s: got retry %d, want between %d and %d", c.badge, ms, c.least, c.most)
				}
				if !strings.Contains(a.body, "event: tidewire.error\n") || !strings.HasSuffix(a.body, "\n\n") {
					t.Errorf("%s: got %q, want an error told", c.badge, a.body)
				}
			case 204:
			default:
				var doc struct{ Type string }
				if err := json.Unmarshal([]byte(a.body), &doc); err != nil || doc.Type == "" {
					t.Errorf("%s: got %q, want a problem document", c.badge, a.body)
				}
				if got := a.Header.Get("Retry-After"); got != c.after {
					t.Errorf("%s: got Retry-After %q, want %q", c.badge, got, c.after)
				}
			}
		}
		if a := s.call("GET", "/events/a", "", "Badge: "+c.badge); a.StatusCode != c.program {
			t.Errorf("%s, a program: got %s, want %d", c.badge, a.Status, c.program)
		}
	}
}

func TestAuthority_IsToldWhatIsAsked(t *testing.T) {
	d := newDesk(map[string]*hub.Grant{"b": {Subscribe: []string{"**"}}})
	s := serve(t, newHub(t, hub.Options{Authority: d}))
	s.open("/events/a?topic=b&pattern=c/*", "Badge: b", "Accept: text/event-stream")
	d.mu.Lock()
	defer d.mu.Unlock()
	got := d.asked[0]
	if got.Action != hub.ActionSubscribe || !slices.Equal(got.Topics, []string{"a", "b"}) || !slices.Equal(got.Patterns, []string{"c/*"}) || !got.EventSource {
		t.Errorf("got %+v, want a subscription of an EventSource to a, b and c/*", got)
	}
}

// kinds are the representations of a stream.
var kinds = map[string][]string{
	"event stream": {"Accept: text/event-stream"},
	"JSON lines":   {"Accept: application/x-ndjson"},
}

func TestAuthority_AStreamEndsWithItsGrant(t *testing.T) {
	for kind, accept := range kinds {
		t.Run(kind, func(t *testing.T) {
			started := 0
			expires := time.Now().Add(300 * time.Millisecond)
			var mu sync.Mutex
			d := newDesk(map[string]*hub.Grant{
				"all": {Subscribe: []string{"**"}, Publish: []string{"**"}},
				"short": {By: "the badge", Subscribe: []string{"**"}, Expires: expires, Started: func() {
					mu.Lock()
					defer mu.Unlock()
					started++
				}},
			})
			s := serve(t, newHub(t, hub.Options{Authority: d}))
			s.call("POST", "/events/a", "before", "Badge: all")
			st := s.open("/events/a?since=earliest", append(accept, "Badge: short")...)
			b, err := io.ReadAll(st.Body)
			if err != nil {
				t.Fatalf("got %v after %q, want a clean end", err, b)
			}
			text := string(b)
			if i, j := strings.Index(text, "before"), strings.Index(text, "tidewire.error"); i < 0 || j < i || !strings.Contains(text, "token-expired") || !strings.Contains(text, "what the badge grants ended") {
				t.Errorf("got %q, want the event and then that it expired", text)
			}
			if time.Now().Before(expires) {
				t.Error("it ended before its time")
			}
			d.allEnded(t)
			mu.Lock()
			defer mu.Unlock()
			if started != 1 {
				t.Errorf("got %d beginnings, want 1", started)
			}
			// With a new grant it goes on where it was.
			s.call("POST", "/events/a", "after", "Badge: all")
			again := s.open("/events/a?last_event_id="+idIn(t, text), append(accept, "Badge: all")...)
			line, _ := again.line()
			if !strings.Contains(line, "after") {
				t.Errorf("got %q, want what came after", line)
			}
			if a := s.call("GET", "/events/a", "", "Badge: short"); a.StatusCode != 401 {
				t.Errorf("got %s for a grant that is over, want 401", a.Status)
			}
		})
	}
}

// idIn returns the id of the event in a stream of either representation.
func idIn(t testing.TB, text string) string {
	t.Helper()
	var ev struct{ ID string }
	if i := strings.Index(text, "id: "); i >= 0 {
		id, _, _ := strings.Cut(text[i+len("id: "):], "\n")
		return id
	}
	line, _, _ := strings.Cut(text, "\n")
	if err := json.Unmarshal([]byte(line), &ev); err != nil || ev.ID == "" {
		t.Fatalf("no id in %q", text)
	}
	return ev.ID
}

// line returns what comes up to the first line that has data.
func (s *stream) line() (string, error) {
	var all []byte
	b := make([]byte, 1)
	for {
		if _, err := s.Body.Read(b); err != nil {
			return string(all), err
		}
		all = append(all, b[0])
		if b[0] == '\n' && strings.Contains(string(all), "data") {
			return string(all), nil
		}
	}
}

func TestHub_SubscriptionsAreListedAndEnded(t *testing.T) {
	d := newDesk(map[string]*hub.Grant{
		"one": {Subject: "one", Subscribe: []string{"**"}}, "two": {Subject: "two", Subscribe: []string{"**"}},
	})
	h := newHub(t, hub.Options{Authority: d})
	s := serve(t, h)
	var streams []*stream
	for i := range 12 {
		accept := []string{"text/event-stream", "application/x-ndjson"}[i%2]
		badge := []string{"one", "two"}[i/2%2]
		streams = append(streams, s.open(fmt.Sprintf("/events/t%d?pattern=p/*&type=x", i), "Badge: "+badge, "Accept: "+accept))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all []hub.Subscription
	eventually(t, "12 subscriptions are listed", func() bool {
		all = h.Subscriptions(ctx)
		return len(all) == 12
	})
	subjects := map[string]int{}
	for _, sub := range all {
		subjects[sub.Subject]++
		if len(sub.Topics) != 1 || !slices.Equal(sub.Patterns, []string{"p/*"}) || !slices.Equal(sub.Types, []string{"x"}) || !sub.Address.IsLoopback() ||
			time.Since(sub.Since) > time.Hour || sub.Position == "" || sub.Grant != d.grants[sub.Subject] {
			t.Errorf("got %+v", sub)
		}
	}
	if subjects["one"] != 6 || subjects["two"] != 6 {
		t.Errorf("got %v, want six of each", subjects)
	}
	n := h.End(ctx, func(sub *hub.Subscription) bool { return sub.Subject == "one" },
		&hub.RequestError{Problem: hub.ProblemForbidden, Detail: "that will do"})
	if n != 6 {
		t.Errorf("got %d ended, want 6", n)
	}
	for i, st := range streams {
		if i/2%2 != 0 {
			continue
		}
		if rest := st.rest(); !strings.Contains(rest, "tidewire.error") || !strings.Contains(rest, "that will do") {
			t.Errorf("stream %d: got %q, want to be told why it ended", i, rest)
		}
	}
	eventually(t, "6 subscriptions are left", func() bool { return len(h.Subscriptions(ctx)) == 6 })
	if n := h.End(ctx, func(*hub.Subscription) bool { return true }, &hub.RequestError{Problem: hub.ProblemForbidden}); n != 6 {
		t.Errorf("got %d ended, want the other 6", n)
	}
	d.allEnded(t)
}
