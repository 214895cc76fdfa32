package eventsource_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/internal/memnet"
)

const (
	ms  = time.Millisecond
	day = 24 * time.Hour
)

// gaps returns the times between requests.
func gaps(calls []call) []time.Duration {
	var g []time.Duration
	for i := 1; i < len(calls); i++ {
		g = append(g, calls[i].At.Sub(calls[i-1].At))
	}
	return g
}

// TestStream_StrictSpecWaitsExactlyTheReconnectionTime ends streams at once, so
// that the requests are as far apart as the waits are long.
func TestStream_StrictSpecWaitsExactlyTheReconnectionTime(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		option time.Duration
		texts  []string // of the streams
		want   []time.Duration
	}{
		{"default", 0, []string{"", "", ""}, []time.Duration{3 * time.Second, 3 * time.Second, 3 * time.Second}},
		{"option", 5 * time.Second, []string{"", "", ""}, []time.Duration{5 * time.Second, 5 * time.Second, 5 * time.Second}},
		{"negative option", -1, []string{"", ""}, []time.Duration{10 * ms, 10 * ms}},
		{"option below the least", 1, []string{""}, []time.Duration{10 * ms}},
		{"option above a day", 100 * day, []string{""}, []time.Duration{day}},
		{"the server's holds for all later connections", 5 * time.Second, []string{"", "retry: 1234\n", "", "data: x\n\n"},
			[]time.Duration{5 * time.Second, 1234 * ms, 1234 * ms, 1234 * ms}},
		{"the server's last one", 0, []string{"retry: 1\nretry: 100\n\nretry: 200\n", "retry: 300\n\n", ""},
			[]time.Duration{200 * ms, 300 * ms, 300 * ms}},
		{"malformed", 0, []string{"retry: 1s\n", "retry: -1\nretry:1.5\nretry:  5\nretry: 0x10\nretry: 1", ""},
			[]time.Duration{3 * time.Second, 3 * time.Second, 3 * time.Second}},
		{"zero", 0, []string{"retry: 0\n", ""}, []time.Duration{10 * ms, 10 * ms}},
		{"a day", 0, []string{"retry: 86400000\n"}, []time.Duration{day}},
		{"more than a day", 0, []string{"retry: 86400001\n", ""}, []time.Duration{day, day}},
		{"2^63", 0, []string{"retry: 9223372036854775808\n"}, []time.Duration{day}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var steps []http.HandlerFunc
			for _, text := range tt.texts {
				steps = append(steps, events(text))
			}
			bubble(t, func(t *testing.T, s *script, c *http.Client) {
				d := newDiary()
				opts := d.keep(&eventsource.Options{HTTPClient: c, StrictSpec: true, ReconnectionTime: tt.option})
				if _, err := collect(t, eventsource.Stream(t.Context(), memURL, opts)); err != nil {
					t.Error(err)
				}
				if got := gaps(s.seen()); !slices.Equal(got, tt.want) {
					t.Errorf("got waits %v, want %v", got, tt.want)
				}
				for i, ev := range d.told(t, len(tt.want)+1)[:len(tt.want)] {
					if got, want := ev.Delay, tt.want[i]; got != want {
						t.Errorf("got delay %v in error %d, want %v", got, i+1, want)
					}
				}
			}, append(steps, stop)...)
		})
	}
}

// TestStream_WaitsForTheDelayThatItTells compares, for the default policy, what
// OnError was told with what the server saw.
func TestStream_WaitsForTheDelayThatItTells(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *script, c *http.Client) {
		d := newDiary()
		if _, err := collect(t, eventsource.Stream(t.Context(), memURL, d.keep(&eventsource.Options{HTTPClient: c}))); err != nil {
			t.Error(err)
		}
		var told []time.Duration
		for _, ev := range d.told(t, 6) {
			told = append(told, ev.Delay)
		}
		if got := append(gaps(s.seen()), 0); !slices.Equal(got, told) {
			t.Errorf("got waits %v, want those that OnError was told: %v", got, told)
		}
		for i, got := range told {
			if last := i == len(told)-1; (got == 0) != last {
				t.Errorf("got delay %v in error %d of %d, want one unless it is the last", got, i+1, len(told))
			}
		}
	}, answer(503, ""), events("data: x\n\n"), events("retry: 700\n"), answer(500, ""), answer(429, ""), stop)
}

// offered runs many streams and returns, for each failure in a row, the smallest
// and the largest delay that the default policy had for it. No stream waits.
func offered(t *testing.T, opts eventsource.Options, failures int) (least, most []time.Duration) {
	t.Helper()
	for run := range 100 {
		n := 0
		opts.Retry = func(a eventsource.Attempt, delay time.Duration, again bool) (time.Duration, bool) {
			if a.Failures != n+1 || !again {
				t.Errorf("got failure %d and again %t, want %d and true", a.Failures, again, n+1)
			}
			if run == 0 {
				least, most = append(least, delay), append(most, delay)
			}
			least[n], most[n] = min(least[n], delay), max(most[n], delay)
			n++
			return 0, n < failures
		}
		if _, err := collect(t, eventsource.Stream(t.Context(), memURL, &opts)); err == nil {
			t.Error("got no error, want the last failure")
		}
		if n != failures {
			t.Fatalf("got %d failures, want %d", n, failures)
		}
	}
	return least, most
}

// noServer returns a client whose every connection is refused.
func noServer() *http.Client {
	l := memnet.Listen()
	l.Close()
	return &http.Client{Transport: &http.Transport{DialContext: l.Dial}}
}

// TestStream_DefaultDelay checks the bounds of the random wait after each failure
// in a row: never below what the server asked for, at most a window more, that
// doubles. Of 100 samples one lies in the upper half of the window unless the
// window is wrong, but for one time in 2^100.
func TestStream_DefaultDelay(t *testing.T) {
	t.Parallel()
	s := time.Second
	tests := []struct {
		name     string
		text     string // of each stream; "": connections are refused
		option   time.Duration
		maxDelay time.Duration
		floor    time.Duration
		windows  []time.Duration
	}{
		{"default", "", 0, 0, 0, []time.Duration{3 * s, 6 * s, 12 * s, 24 * s, 30 * s, 30 * s, 30 * s}},
		{"own reconnection time", "", s, 0, 0, []time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 30 * s}},
		{"own bound", "", s, 5 * s, 0, []time.Duration{s, 2 * s, 4 * s, 5 * s, 5 * s}},
		{"bound below the reconnection time", "", 10 * s, 5 * s, 0, []time.Duration{5 * s, 5 * s}},
		{"the server's time", "retry: 4000\n", s, 0, 4 * s, []time.Duration{4 * s, 8 * s, 16 * s, 30 * s}},
		{"the server's time above the bound", "retry: 60000\n", s, 0, 60 * s, []time.Duration{30 * s, 30 * s}},
		{"zero", "retry: 0\n", s, 0, 10 * ms, []time.Duration{10 * ms, 20 * ms, 40 * ms, 80 * ms}},
		{"endless", "retry: 18446744073709551615\n", s, 0, day, []time.Duration{30 * s, 30 * s}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			check := func(t *testing.T, c *http.Client) {
				least, most := offered(t, eventsource.Options{
					HTTPClient: c, ReconnectionTime: tt.option, MaxDelay: tt.maxDelay,
				}, len(tt.windows))
				for i, window := range tt.windows {
					low, high := max(tt.floor, 10*ms), tt.floor+window
					if least[i] < low || most[i] > high || most[i] < tt.floor+window/2 {
						t.Errorf("got delays from %v to %v after failure %d, want from %v to about %v", least[i], most[i], i+1, low, high)
					}
					if least[i] > tt.floor+window/2 {
						t.Errorf("got no delay below %v after failure %d, want some from %v on", least[i], i+1, low)
					}
				}
			}
			if tt.text == "" {
				check(t, noServer())
				return
			}
			bubble(t, func(t *testing.T, _ *script, c *http.Client) { check(t, c) }, events(tt.text))
		})
	}
}

// TestStream_BackoffWithoutBound has a MaxDelay that says: no limit.
func TestStream_BackoffWithoutBound(t *testing.T) {
	t.Parallel()
	defer func() {
		if v := recover(); v != nil {
			t.Errorf("got panic %v, want none", v)
		}
	}()
	last := time.Duration(0)
	collect(t, eventsource.Stream(t.Context(), memURL, &eventsource.Options{
		HTTPClient: noServer(),
		MaxDelay:   math.MaxInt64,
		Retry: func(a eventsource.Attempt, delay time.Duration, _ bool) (time.Duration, bool) {
			if delay < 10*ms {
				t.Errorf("got delay %v after failure %d, want no less than 10ms", delay, a.Failures)
			}
			last = delay
			return 0, a.Failures < 100
		},
	}))
	if last == 0 {
		t.Error("got no delay after failure 100, want one")
	}
}

// TestStream_RetryAfter checks that a server's own word is a floor.
func TestStream_RetryAfter(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		before string // sent by the stream before; it makes the window 1s
		value  func() string
		floor  time.Duration
		parsed time.Duration
	}{
		{"seconds", "", func() string { return "7" }, 7 * time.Second, 7 * time.Second},
		{"zero", "", func() string { return "0" }, 0, 0},
		{"date", "", func() string { return time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat) }, 90 * time.Second, 90 * time.Second},
		{"date gone by", "", func() string { return time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat) }, 0, 0},
		{"nonsense", "", func() string { return "soon" }, 0, 0},
		{"negative", "", func() string { return "-5" }, 0, 0},
		{"a year", "", func() string { return "31536000" }, day, 365 * day},
		{"more than the server's reconnection time", "retry: 1000\ndata: x\n\n", func() string { return "7" }, 7 * time.Second, 7 * time.Second},
		{"less than the server's reconnection time", "retry: 1000\ndata: x\n\n", func() string { return "0" }, time.Second, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			retryAfter := func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", tt.value())
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			steps := []http.HandlerFunc{retryAfter, stop}
			if tt.before != "" {
				steps = slices.Insert(steps, 0, events(tt.before))
			}
			bubble(t, func(t *testing.T, s *script, c *http.Client) {
				d := newDiary()
				opts := d.keep(&eventsource.Options{HTTPClient: c, ReconnectionTime: time.Second, MaxDelay: time.Second})
				if _, err := collect(t, eventsource.Stream(t.Context(), memURL, opts)); err != nil {
					t.Error(err)
				}
				got := gaps(s.wantCalls(t, len(steps)))[len(steps)-2]
				if got < tt.floor || got > tt.floor+time.Second {
					t.Errorf("got a wait of %v, want from %v up to a second more", got, tt.floor)
				}
				var e *eventsource.StatusError
				if !errors.As(d.told(t, len(steps))[len(steps)-2].Err, &e) || e.RetryAfter != tt.parsed {
					t.Errorf("got RetryAfter %v, want %v", e.RetryAfter, tt.parsed)
				}
			}, steps...)
		})
	}
}

// counts returns how many failures in a row each attempt's end is told to be.
func counts(t *testing.T, opts *eventsource.Options) []int {
	t.Helper()
	var got []int
	opts.Retry = func(a eventsource.Attempt, delay time.Duration, again bool) (time.Duration, bool) {
		got = append(got, a.Failures)
		return delay, again
	}
	if _, err := collect(t, eventsource.Stream(t.Context(), memURL, opts)); err != nil {
		t.Error(err)
	}
	return got
}

func TestStream_AnEventStartsBackoffAfresh(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *script, c *http.Client) {
		got := counts(t, &eventsource.Options{HTTPClient: c})
		if want := []int{1, 2, 3, 1, 2, 3, 1}; !slices.Equal(got, want) {
			t.Errorf("got failures %v, want %v", got, want)
		}
	},
		answer(503, ""), events(""), answer(500, ""),
		events("data: x\n\n"), events(": a comment\n\nid: 1\n\n"), events("data: x"),
		events("data: x\n\n"), stop)
}

// TestStream_ALongStreamStartsBackoffAfresh has streams without events that stay
// open for about MaxDelay.
func TestStream_ALongStreamStartsBackoffAfresh(t *testing.T) {
	t.Parallel()
	lasting := func(d time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			begin(w, "")
			<-time.After(d)
		}
	}
	bubble(t, func(t *testing.T, s *script, c *http.Client) {
		got := counts(t, &eventsource.Options{HTTPClient: c, MaxDelay: 5 * time.Second})
		if want := []int{1, 2, 1, 2, 1}; !slices.Equal(got, want) {
			t.Errorf("got failures %v, want %v", got, want)
		}
	}, lasting(0), lasting(5*time.Second-1), lasting(5*time.Second), lasting(5*time.Second-1), lasting(time.Hour), stop)
}

func TestStream_RetryOverrules(t *testing.T) {
	t.Parallel()

	t.Run("the wait", func(t *testing.T) {
		t.Parallel()
		bubble(t, func(t *testing.T, s *script, c *http.Client) {
			opts := &eventsource.Options{HTTPClient: c, Retry: func(a eventsource.Attempt, delay time.Duration, again bool) (time.Duration, bool) {
				return time.Duration(a.Number) * time.Minute, again
			}}
			d := newDiary()
			if _, err := collect(t, eventsource.Stream(t.Context(), memURL, d.keep(opts))); err != nil {
				t.Error(err)
			}
			want := []time.Duration{time.Minute, 2 * time.Minute, 3 * time.Minute}
			if got := gaps(s.seen()); !slices.Equal(got, want) {
				t.Errorf("got waits %v, want %v", got, want)
			}
			if got := d.told(t, 4)[2].Delay; got != want[2] {
				t.Errorf("got delay %v in OnError, want %v", got, want[2])
			}
		}, events("retry: 10\n"), answer(500, ""), events("data: x\n\n"), stop)
	})

	t.Run("a refusal", func(t *testing.T) {
		t.Parallel()
		srv := newServer(t, answer(401, ""), events("data: one\n\n"), stop)
		opts := quick()
		d := newDiary()
		opts.Retry = func(a eventsource.Attempt, delay time.Duration, again bool) (time.Duration, bool) {
			var e *eventsource.StatusError
			if errors.As(a.Err, &e) && e.StatusCode == 401 {
				if again || delay < 10*ms {
					t.Errorf("got the decision %v, %t, want some wait and false", delay, again)
				}
				return delay, true
			}
			return delay, again
		}
		got, err := collect(t, eventsource.Stream(bounded(t), srv.URL, d.keep(opts)))
		if err != nil {
			t.Error(err)
		}
		wantStrings(t, "data", data(got), "one")
		d.want(t, "error 0", "open", "error 0", "error 2")
		srv.wantCalls(t, 3)
	})

	t.Run("another attempt", func(t *testing.T) {
		t.Parallel()
		srv := newServer(t, answer(503, ""))
		opts := quick()
		d := newDiary()
		opts.Retry = func(a eventsource.Attempt, delay time.Duration, again bool) (time.Duration, bool) {
			if a.Failures == 3 {
				return time.Hour, false // a wait that must not be waited for
			}
			return delay, again
		}
		_, err := collect(t, eventsource.Stream(bounded(t), srv.URL, d.keep(opts)))
		var e *eventsource.StatusError
		if !errors.As(err, &e) || e.StatusCode != 503 {
			t.Errorf("got %v, want the last *StatusError", err)
		}
		d.want(t, "error 0", "error 0", "error 2")
		srv.wantCalls(t, 3)
		if got := d.told(t, 3)[2]; got.Delay != 0 || got.Err != err {
			t.Errorf("got delay %v and error %v, want none and %v", got.Delay, got.Err, err)
		}
	})
}

// TestStream_RetryIsTold checks where the hook is told that the source stands: at
// the end of the attempt, not at its beginning.
func TestStream_RetryIsTold(t *testing.T) {
	t.Parallel()
	srv := newServer(t, events("retry: 4000\nid: 1\ndata: x\n\n"), answer(503, ""), stop)
	var got []string
	var errs []error
	opts := quick()
	d := newDiary()
	opts.LastEventID = "0"
	opts.Retry = func(a eventsource.Attempt, _ time.Duration, again bool) (time.Duration, bool) {
		got = append(got, fmt.Sprintf("%d, %d failures, id %q, %v, %t", a.Number, a.Failures, a.LastEventID, a.ReconnectionTime, again))
		errs = append(errs, a.Err)
		return 0, again
	}
	if _, err := collect(t, eventsource.Stream(bounded(t), srv.URL, d.keep(opts))); err != nil {
		t.Error(err)
	}
	wantStrings(t, "attempts", got,
		`1, 1 failures, id "1", 4s, true`,
		`2, 2 failures, id "1", 4s, true`)
	for i, ev := range d.told(t, 3)[:2] {
		if errs[i] != ev.Err || errs[i] == nil {
			t.Errorf("got Err %v in attempt %d, want what OnError gets, %v", errs[i], i+1, ev.Err)
		}
	}
}

// TestStream_RetryIsNotAsked lists what no hook can overrule, and what it can.
func TestStream_RetryIsNotAsked(t *testing.T) {
	t.Parallel()
	page := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(200)
	}
	tests := []struct {
		name   string
		opts   eventsource.Options
		step   http.HandlerFunc
		asked  bool
		strict bool // whether it is asked with StrictSpec
	}{
		{"204", eventsource.Options{}, stop, false, false},
		{"POST, 204", eventsource.Options{Method: "POST", RepeatNonGET: true}, stop, false, false},
		{"POST, clean end", eventsource.Options{Method: "POST"}, events(""), false, false},
		{"POST, 503", eventsource.Options{Method: "POST"}, answer(503, ""), false, false},
		{"POST that may be repeated, 503", eventsource.Options{Method: "POST", RepeatNonGET: true}, answer(503, ""), true, false},
		{"POST that may be repeated, clean end", eventsource.Options{Method: "POST", RepeatNonGET: true}, events(""), true, true},
		{"clean end", eventsource.Options{}, events(""), true, true},
		{"broken end", eventsource.Options{}, raw(chunkedHead, nil), true, true},
		{"no answer", eventsource.Options{}, raw("", nil), true, true},
		{"503", eventsource.Options{}, answer(503, ""), true, false},
		{"404", eventsource.Options{}, answer(404, ""), true, false},
		{"content type", eventsource.Options{}, page, true, false},
		{"redirect", eventsource.Options{}, redirect(302, "ftp://x/"), true, false},
		{"event too large", eventsource.Options{MaxEventSize: 5}, events("data: too large\n\n"), true, false},
	}
	for _, tt := range tests {
		for _, strict := range []bool{false, true} {
			want := tt.asked
			if strict {
				want = tt.strict
			}
			t.Run(fmt.Sprintf("%s, StrictSpec %t", tt.name, strict), func(t *testing.T) {
				t.Parallel()
				srv := newServer(t, tt.step)
				opts := tt.opts
				opts.StrictSpec = strict
				asked := 0
				opts.Retry = func(eventsource.Attempt, time.Duration, bool) (time.Duration, bool) {
					asked++
					return 0, asked < 3
				}
				collect(t, eventsource.Stream(bounded(t), srv.URL, &opts))
				if got := asked > 0; got != want {
					t.Errorf("asked: got %t, want %t", got, want)
				}
				if want {
					srv.wantCalls(t, 3)
				} else {
					srv.wantCalls(t, 1)
				}
			})
		}
	}
}

func TestStream_RetryIsNotAskedAfterTheContext(t *testing.T) {
	t.Parallel()
	srv := newServer(t, silence)
	ctx, cancel := context.WithCancel(bounded(t))
	opts := &eventsource.Options{
		Retry: func(eventsource.Attempt, time.Duration, bool) (time.Duration, bool) {
			t.Error("Retry was asked")
			return 0, false
		},
		OnError: func(ev eventsource.ErrorEvent) { t.Errorf("OnError was told of %v", ev.Err) },
	}
	go func() {
		<-srv.arrived
		cancel()
	}()
	if _, err := collect(t, eventsource.Stream(ctx, srv.URL, opts)); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
}
