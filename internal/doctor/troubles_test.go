package doctor_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/internal/doctor"
	"github.com/tidewire/tidewire/server"
)

// TestRun_RefusalWhoseTextDoesNotCome has a server that announces a text and does not send it.
func TestRun_RefusalWhoseTextDoesNotCome(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusForbidden)
		if r.Method == http.MethodGet {
			send(w, "no ent")
			hold(w, r)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := doctor.Run(ctx, url, &doctor.Options{Idle: -1, Timeout: timeout / 10})
	if err != nil {
		t.Fatalf("got %v, want a report in time", err)
	}
	found(t, r, "status", doctor.Problem, "403", "no ent")
}

// TestRun_HandshakeThatDoesNotCome has a port that takes connections and speaks no TLS.
func TestRun_HandshakeThatDoesNotCome(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := examine(t, "https://"+l.Addr().String(), doctor.Options{Timeout: timeout / 10})
	found(t, r, "connection", doctor.Problem, "TLS")
	if strings.Contains(all(r), "firewall") {
		t.Errorf("got %s, want nothing of firewalls where a connection was made", all(r))
	}
}

func TestRun_ConnectionThatIsClosed(t *testing.T) {
	t.Parallel()
	url := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	found(t, examine(t, url, doctor.Options{}), "connection", doctor.Problem, "closed before")
}

// TestRun_EndsAtWhatIsNoStream has a page, of which nothing more is to be said.
func TestRun_EndsAtWhatIsNoStream(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<h1>hello</h1>") })
	r := examine(t, url, doctor.Options{Idle: timeout})
	wrong(t, r, "content-type")
	absent(t, r, "x-accel-buffering", "first-bytes", "content-length", "resume", "idle")
}

func TestRun_StreamThatEndsAtOnce(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		send(w, "")
	})
	r := examine(t, url, doctor.Options{Idle: timeout})
	found(t, r, "first-bytes", doctor.Problem, "was ended", "again and again")
	absent(t, r, "resume", "idle")
}

// TestRun_StreamThatIsCutAtOnce has one that breaks after its first bytes.
func TestRun_StreamThatIsCutAtOnce(t *testing.T) {
	t.Parallel()
	url := serve(t, streaming(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	r := examine(t, url, doctor.Options{Idle: timeout})
	found(t, r, "idle", doctor.Problem, "was cut", "breaks it")
	found(t, r, "resume", doctor.Note, "the stream was cut")
}

func TestRun_EventThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	line := strings.Repeat("x", 1<<16)
	url := serve(t, streaming(func(w http.ResponseWriter, r *http.Request) {
		send(w, "data: ")
		for r.Context().Err() == nil {
			send(w, line)
		}
	}))
	r := examine(t, url, doctor.Options{Idle: patience})
	found(t, r, "idle", doctor.Problem, "an event of more than 16 MiB")
}

// TestRun_PublicationThatIsRedirected has what many servers do with http.
func TestRun_PublicationThatIsRedirected(t *testing.T) {
	t.Parallel()
	target := startServer(t, server.Config{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target+r.URL.Path, http.StatusMovedPermanently)
	})
	r := examine(t, url+"/events/clock", doctor.Options{Probe: url + "/events/probe"})
	wrong(t, r, "delivery")
	found(t, r, "delivery", doctor.Problem, "redirected", target+"/events/probe")
}

// TestRun_DeliveryOnAStreamThatEnds has a proxy that ends streams after their beginning.
func TestRun_DeliveryOnAStreamThatEnds(t *testing.T) {
	t.Parallel()
	upstream := startServer(t, server.Config{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		req, err := http.NewRequestWithContext(r.Context(), r.Method, upstream+r.URL.Path, r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		req.Header = r.Header.Clone()
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			return // who asked has gone
		}
		defer resp.Body.Close()
		for name, values := range resp.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(resp.StatusCode)
		first := make([]byte, 1024)
		n, _ := resp.Body.Read(first)
		send(w, string(first[:n]))
	})
	r := examine(t, url+"/events/clock", doctor.Options{Probe: url + "/events/probe"})
	found(t, r, "delivery", doctor.Problem, "was stored", "the stream was ended")
}

// TestRun_CompressionThatBreaks has a server whose gzip is none.
func TestRun_CompressionThatBreaks(t *testing.T) {
	t.Parallel()
	plain := streaming(hold)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
		}
		plain(w, r)
	})
	found(t, examine(t, url, doctor.Options{}), "compression", doctor.Problem, "gzip", "was cut")
}

// TestRun_ResumesBesideEventsWithoutIDs has a server that greets, and pings, without ids.
func TestRun_ResumesBesideEventsWithoutIDs(t *testing.T) {
	t.Parallel()
	ticks := newTicks(t)
	url := serve(t, streaming(func(w http.ResponseWriter, r *http.Request) {
		send(w, "event: hello\ndata: {}\n\n")
		next := ticks.now() + 1
		if last, _ := strconv.Atoi(r.Header.Get("Last-Event-ID")); last > 0 {
			next = min(next, last+1)
		}
		for ; ticks.reach(r.Context(), next) == nil; next++ {
			send(w, fmt.Sprintf("id: %d\ndata: %[1]d\n\nevent: ping\ndata: {}\n\nevent: ping\ndata: {}\n\n", next))
		}
	}))
	found(t, examine(t, url, doctor.Options{}), "resume", doctor.OK, "each once")
}

// TestRun_HTTP3WhereARedirectLeads has the announcement of another host.
func TestRun_HTTP3WhereARedirectLeads(t *testing.T) {
	t.Parallel()
	target := startServer(t, server.Config{Transport: server.Transport{TLS: server.TLSDev, HTTP3: true}})
	trust := trusting(t, target)
	target = strings.Replace(target, "127.0.0.1", "localhost", 1)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target+"/events/clock", http.StatusTemporaryRedirect)
	})
	r := examine(t, url, doctor.Options{TLS: trust})
	if got, want := found(t, r, "http3", doctor.OK).Measured["address"], strings.TrimPrefix(target, "https://"); got != want {
		t.Errorf("got HTTP/3 tried at %v, want %v", got, want)
	}
}

// TestRun_TokenThatIsRefused does not ask for the one that was given.
func TestRun_TokenThatIsRefused(t *testing.T) {
	t.Parallel()
	key, err := auth.NewSecretKey("HS256", "a secret of thirty-two bytes and more")
	if err != nil {
		t.Fatal(err)
	}
	url := startServer(t, server.Config{Access: &server.Access{Options: auth.Options{Keys: []auth.Key{key}}}}) + "/events/a"
	r := examine(t, url, doctor.Options{Header: http.Header{"Authorization": {"Bearer wrong"}}})
	if says := found(t, r, "status", doctor.Problem, "401", "token explain").Says; strings.Contains(says, "--token") {
		t.Errorf("got %q, want no advice to give a token where one was given", says)
	}
	found(t, examine(t, url, doctor.Options{}), "status", doctor.Problem, "--token", "TIDEWIRE_URL")
}
