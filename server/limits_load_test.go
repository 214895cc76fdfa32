package server_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidewire/tidewire/server"
)

// many returns how many clients a load test has: 10,000, if the machine is to do it.
func many() int {
	if os.Getenv("TIDEWIRE_LONG") != "" {
		return 10_000
	}
	return 1000
}

// attackers is how many addresses they come from.
const attackers = 16

func attacker(i int) string { return fmt.Sprintf("127.0.1.%d", 1+i%attackers) }

// attack has many clients at once connect, send something, and wait for their end. It
// returns when all are gone.
func attack(address string, n int, send string) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			c, err := dialFrom(attacker(i), address)
			if err != nil {
				return // it was kept out
			}
			defer c.Close()
			if _, err := io.WriteString(c, send); err == nil {
				_, _ = io.Copy(io.Discard, c)
			}
		})
	}
	all.Wait()
}

func TestLimits_SlowRequestsHoldNothing(t *testing.T) {
	n := many()
	for _, tt := range []struct {
		name, send string
		counts     []string // one of them at least, as the machine's speed has it
	}{
		{"headers", "POST /events/a HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", []string{"max-waiting"}},
		{"bodies", "POST /events/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nbegin", []string{"body-timeout"}},
		{"event streams that are refused", "POST /events/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/event-stream\r\nIf-Match: \"x\"\r\nContent-Length: 100000\r\n\r\n", []string{"max-connections-per-address", "max-waiting"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, address := serve(t, server.Config{Limits: server.Limits{
				Waiting:               n / 4,
				ConnectionsPerAddress: n / attackers / 2,
				HeaderTimeout:         2 * time.Second,
				BodyTimeout:           2 * time.Second,
			}})
			over := make(chan struct{})
			go func() {
				defer close(over)
				attack(address, n, tt.send)
			}()
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
			_, lines := subscribe(t, t.Context(), client, "http://"+address+"/events/honest", "")
			rounds := 0
			for going := true; going; rounds++ {
				publish(t, client, "http://"+address+"/events/honest", fmt.Sprint(rounds))
				if got, want := next(t, lines, "data: "), fmt.Sprint(rounds); got != want {
					t.Fatalf("got event %s, want %s", got, want)
				}
				if u := s.Usage(); u.Waiting > n/4 {
					t.Fatalf("got %d connections that wait, want %d at most", u.Waiting, n/4)
				}
				select {
				case <-over:
					going = false
				default:
				}
			}
			t.Logf("%d events came while %d attacked; refused: %v", rounds, n, s.Refused())
			refused := s.Refused()
			if !slices.ContainsFunc(tt.counts, func(bound string) bool { return refused[bound] > 0 }) {
				t.Errorf("got nothing refused by %v", tt.counts)
			}
			eventually(t, "only the honest stream is left", func() bool { return s.Usage().Connections == 1 })
		})
	}
}

// All come at once, as after a start of the server. Nobody may get an answer, or none, that
// stops an EventSource for good.
func TestLimits_ReconnectStorm(t *testing.T) {
	n := many() * 4 / 5 // both ends are in this process
	s, address := serve(t, server.Config{Limits: server.Limits{Streams: n / 2, StreamsPerAddress: -1, ConnectionsPerAddress: -1, Waiting: n, ConnectRate: -1}})
	for range 3 {
		var streams, refused atomic.Int64
		var came, gone sync.WaitGroup
		leave := make(chan struct{})
		came.Add(n)
		for i := range n {
			gone.Go(func() {
				c, ok, err := listenOnce(attacker(i), address)
				switch {
				case err != nil:
					t.Error(err)
				case ok:
					streams.Add(1)
				default:
					refused.Add(1)
				}
				came.Done()
				if c != nil {
					<-leave
					c.Close()
				}
			})
		}
		came.Wait()
		if got, want := streams.Load(), int64(n/2); got != want {
			t.Errorf("got %d streams and %d refused, want %d streams", got, refused.Load(), want)
		}
		close(leave)
		gone.Wait()
		eventually(t, "all are gone", func() bool { return s.Usage() == server.Usage{} })
	}
}

// listenOnce connects as an EventSource does, and tells whether it has a stream or was told
// to come again.
func listenOnce(from, address string) (c net.Conn, ok bool, err error) {
	if c, err = dialFrom(from, address); err != nil {
		return nil, false, err
	}
	if _, err = io.WriteString(c, "GET /events/a HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
		return c, false, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return c, false, err
	}
	if resp.StatusCode != http.StatusOK {
		return c, false, fmt.Errorf("got %s, want 200", resp.Status)
	}
	body := bufio.NewReader(resp.Body)
	first, err := body.ReadString('\n')
	if err != nil || first == "retry: 3000\n" { // later, for who is sent away
		return c, true, err
	}
	b, err := io.ReadAll(body)
	if err == nil && !(strings.HasPrefix(first, "retry: ") && strings.Contains(string(b), "tidewire.error")) {
		err = fmt.Errorf("got %q, want retry and an error", first+string(b))
	}
	return c, false, err
}

// Whatever clients do, nothing is counted that is not there any more.
func TestLimits_NothingIsCountedForGood(t *testing.T) {
	s, address := serve(t, server.Config{Limits: server.Limits{Streams: 40, ConnectRate: -1, BodyTimeout: time.Second, Waiting: 60}, Access: tokensOnly(t)})
	tokens := [2]string{tokenOf(t, "one"), tokenOf(t, "two")}
	h2 := transports(t)["HTTP/2"]
	request := func(line string, i int, rest string) string {
		return fmt.Sprintf("%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n%s\r\n", line, tokens[i%2], rest)
	}
	kinds := []func(c net.Conn, i int) (answers int){
		func(c net.Conn, i int) int { return 0 },
		func(c net.Conn, i int) int { return send1(c, "GET /events/a HT", 0) },
		func(c net.Conn, i int) int { return send1(c, request("GET /events/a", i, ""), 0) }, // aborted
		func(c net.Conn, i int) int { return send1(c, request("GET /events/a", i, ""), 1) },
		func(c net.Conn, i int) int {
			return send1(c, request("GET /events/a", i, "Accept: application/x-ndjson\r\n"), 1)
		},
		func(c net.Conn, i int) int { return send1(c, request("HEAD /events/a", i, ""), 1) },
		func(c net.Conn, i int) int {
			return send1(c, request("POST /events/a", i, "Content-Length: 2\r\n")+"hi", 1)
		},
		func(c net.Conn, i int) int {
			return send1(c, request("POST /events/a", i, "Content-Length: 200\r\n")+"hi", 0)
		},
		func(c net.Conn, i int) int {
			return send1(c, "GET /events/a HTTP/1.1\r\nHost: localhost\r\n\r\n", 1)
		}, // without a token
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for range many() / 10 {
				c, err := dialFrom("", address)
				if err != nil {
					t.Error(err)
					return
				}
				i := rand.IntN(1000)
				if kinds[i%len(kinds)](c, i) > 0 {
					_, _ = http.ReadResponse(bufio.NewReader(c), nil)
				}
				if i%3 == 0 {
					_ = c.(*net.TCPConn).SetLinger(0) // a reset
				}
				c.Close()
			}
		})
	}
	for range 4 {
		all.Go(func() {
			for i := range many() / 20 {
				r, err := http.NewRequest(http.MethodGet, "http://"+address+"/events/a", nil)
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("Authorization", "Bearer "+tokens[i%2])
				if resp, err := h2.RoundTrip(r); err == nil {
					resp.Body.Close()
				}
			}
		})
	}
	all.Wait()
	h2.CloseIdleConnections()
	eventually(t, "nothing is counted", func() bool { return s.Usage() == server.Usage{} })
	t.Log("refused: ", s.Refused())
}

// send1 sends something, and returns how many answers are to be read.
func send1(c net.Conn, text string, answers int) int {
	_, _ = io.WriteString(c, text)
	return answers
}
