package server_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/server"
)

// bySubject grants everything to the subject that a header names.
type bySubject struct {
	mu    sync.Mutex
	given int // grants that have not ended
}

func (a *bySubject) Authorize(_ http.ResponseWriter, r *http.Request, _ *hub.Access) (*hub.Grant, error) {
	if r.Header.Get("Refuse") != "" {
		return nil, &hub.RequestError{Problem: hub.ProblemForbidden, Detail: "no"}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.given++
	return &hub.Grant{Subject: r.Header.Get("Subject"), Subscribe: []string{"**"}, Publish: []string{"**"}}, nil
}

func (a *bySubject) Ended(*hub.Grant, hub.Action, netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.given--
}

func (a *bySubject) Holds(*hub.Grant) bool { return true }

func (a *bySubject) left() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.given
}

// send asks an authority as a request from an address does, and returns when to try again, 0
// if it is granted.
func send(t testing.TB, a hub.Authority, action hub.Action, subject, from string) time.Duration {
	t.Helper()
	method := map[hub.Action]string{hub.ActionSubscribe: "GET", hub.ActionPublish: "POST", hub.ActionDescribe: "HEAD", hub.ActionDelete: "DELETE"}[action]
	r := httptest.NewRequest(method, "/events/a", nil)
	r.Header.Set("Subject", subject)
	access := &hub.Access{Action: action, Topics: []string{"a"}, Address: netip.MustParseAddr(from)}
	g, err := a.Authorize(httptest.NewRecorder(), r, access)
	if err == nil {
		a.Ended(g, action, access.Address)
		return 0
	}
	var refused *hub.RequestError
	if !errors.As(err, &refused) || refused.Problem != hub.ProblemTooOften {
		t.Fatalf("got %v, want too-many-requests", err)
	}
	if want := map[hub.Action]string{hub.ActionSubscribe: "(--connect-rate 10)", hub.ActionPublish: "(--publish-rate 10)"}[action]; !strings.Contains(refused.Detail, want) {
		t.Errorf("got %q, want it to say %s", refused.Detail, want)
	}
	return refused.RetryAfter
}

func TestRates_OneMoreIsRefusedUntilItIsTime(t *testing.T) {
	for _, tt := range []struct {
		name          string
		action        hub.Action
		subject, from string
		same          [2]string // a subject and address that share the bucket
		other         [2]string // and those that do not
	}{
		{"streams of an address", hub.ActionSubscribe, "", "192.0.2.1", [2]string{"x", "::ffff:192.0.2.1"}, [2]string{"", "192.0.2.2"}},
		{"streams of a network of IPv6", hub.ActionSubscribe, "", "2001:db8::1", [2]string{"", "2001:db8::2:3:4:5"}, [2]string{"", "2001:db8:0:1::1"}},
		{"publishes of a subject", hub.ActionPublish, "x", "192.0.2.1", [2]string{"x", "192.0.2.2"}, [2]string{"y", "192.0.2.1"}},
		{"publishes of an address", hub.ActionPublish, "", "192.0.2.1", [2]string{"", "192.0.2.1"}, [2]string{"x", "192.0.2.1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := new(bySubject)
				a := server.Limited(server.Limits{ConnectRate: 10, PublishRate: 10}, nil, inner)
				for n := range 20 {
					if wait := send(t, a, tt.action, tt.subject, tt.from); wait > 0 {
						t.Fatalf("got request %d refused, want twice the rate at once", n)
					}
				}
				if got := send(t, a, tt.action, tt.subject, tt.from); got != 100*time.Millisecond {
					t.Errorf("got %v to wait, want 100ms", got)
				}
				if send(t, a, tt.action, tt.same[0], tt.same[1]) == 0 {
					t.Errorf("got %v granted, want it in the same bucket", tt.same)
				}
				if got := send(t, a, tt.action, tt.other[0], tt.other[1]); got != 0 {
					t.Errorf("got %v refused, want a bucket of its own", tt.other)
				}
				time.Sleep(99 * time.Millisecond) // of the bubble's own clock
				if got := send(t, a, tt.action, tt.subject, tt.from); got < time.Millisecond || got > 2*time.Millisecond {
					t.Errorf("got %v to wait, want 1ms", got)
				}
				time.Sleep(2 * time.Millisecond)
				if got := send(t, a, tt.action, tt.subject, tt.from); got != 0 {
					t.Errorf("got %v to wait after the time that was said, want none", got)
				}
				if got := inner.left(); got != 0 {
					t.Errorf("got %d grants that have not ended, want none", got)
				}
			})
		})
	}
}

// An attacker with many addresses must not be able to have its own bucket forgotten, nor
// memory filled.
func TestRates_ManyAddressesResetNoBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := server.Limited(server.Limits{ConnectRate: 10}, nil, nil)
		for send(t, a, hub.ActionSubscribe, "", "192.0.2.1") == 0 {
		}
		from := netip.MustParseAddr("10.0.0.0")
		for range server.MaxBuckets - 1 {
			from = from.Next()
			send(t, a, hub.ActionSubscribe, "", from.String())
		}
		if send(t, a, hub.ActionSubscribe, "", "192.0.2.1") == 0 {
			t.Error("got a stream granted, want the bucket empty as before")
		}
		if got := server.Buckets(a); got > server.MaxBuckets {
			t.Errorf("got %d buckets, want %d at most", got, server.MaxBuckets)
		}
		time.Sleep(2 * time.Second) // until all are full
		for range server.MaxBuckets / 3 {
			send(t, a, hub.ActionDescribe, "", "192.0.2.2") // has no rate
			send(t, a, hub.ActionSubscribe, "", "192.0.2.3")
			time.Sleep(time.Second)
		}
		if got := server.Buckets(a); got != 1 {
			t.Errorf("got %d buckets after a while, want one", got)
		}
	})
}

func TestLimited_GrantsEverythingWithoutAnAuthority(t *testing.T) {
	a := server.Limited(server.Limits{}, nil, nil)
	access := &hub.Access{Action: hub.ActionDelete, Topics: []string{"a"}, Address: netip.MustParseAddr("192.0.2.1")}
	g, err := a.Authorize(httptest.NewRecorder(), httptest.NewRequest("DELETE", "/events/a", nil), access)
	if err != nil || len(g.Delete) != 1 || g.Delete[0] != "**" || !g.Admin {
		t.Errorf("got %+v, %v, want everything", g, err)
	}
}

// What the authority inside refuses must not be counted.
func TestLimited_RefusedStreamsTakeNoRoom(t *testing.T) {
	inner := new(bySubject)
	a := server.Limited(server.Limits{Streams: 1, ConnectRate: -1}, nil, inner)
	r := httptest.NewRequest("GET", "/events/a", nil)
	r.Header.Set("Refuse", "yes")
	access := &hub.Access{Action: hub.ActionSubscribe, Topics: []string{"a"}, Address: netip.MustParseAddr("192.0.2.1")}
	for range 3 {
		var e *hub.RequestError
		if _, err := a.Authorize(httptest.NewRecorder(), r, access); !errors.As(err, &e) || e.Problem != hub.ProblemForbidden {
			t.Fatalf("got %v, want what the authority says", err)
		}
	}
	if wait := send(t, a, hub.ActionSubscribe, "x", "192.0.2.1"); wait != 0 {
		t.Error("got a stream refused, want room for it")
	}
}

func BenchmarkLimited_Publish(b *testing.B) {
	for _, bb := range []struct {
		name   string
		limits server.Limits
	}{
		{"no rate", server.Limits{}},
		{"a rate", server.Limits{PublishRate: 1e9}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			a := server.Limited(bb.limits, nil, nil)
			r := httptest.NewRequest("POST", "/events/a", nil)
			access := &hub.Access{Action: hub.ActionPublish, Topics: []string{"a"}, Address: netip.MustParseAddr("192.0.2.1")}
			b.ReportAllocs()
			for b.Loop() {
				g, err := a.Authorize(nil, r, access)
				if err != nil {
					b.Fatal(err)
				}
				a.Ended(g, access.Action, access.Address)
			}
		})
	}
}

func BenchmarkLimited_Subscribe(b *testing.B) {
	a := server.Limited(server.Limits{ConnectRate: 1e9}, nil, nil)
	r := httptest.NewRequest("GET", "/events/a", nil)
	access := &hub.Access{Action: hub.ActionSubscribe, Topics: []string{"a"}, Address: netip.MustParseAddr("192.0.2.1")}
	b.ReportAllocs()
	for b.Loop() {
		g, err := a.Authorize(nil, r, access)
		if err != nil {
			b.Fatal(err)
		}
		a.Ended(g, access.Action, access.Address)
	}
}
