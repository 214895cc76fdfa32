package eventsource_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/sse"
)

func TestStream_YieldsEventsOfAllTypes(t *testing.T) {
	t.Parallel()
	srv := newServer(t, events("data: 1\n\nevent: add\ndata: 2\n\nevent: open\ndata: 3\n\n"), stop)
	opts := quick()
	opts.OnMessage = func(eventsource.MessageEvent) { t.Error("OnMessage was called") }
	opts.Listeners = map[string]func(eventsource.MessageEvent){"add": func(eventsource.MessageEvent) { t.Error("a listener was called") }}
	got, err := collect(t, eventsource.Stream(bounded(t), srv.URL, opts))
	if err != nil {
		t.Error(err)
	}
	var types []string
	for _, ev := range got {
		types = append(types, ev.Type+" "+ev.Data)
		if ev.Origin != srv.URL || ev.Target != nil {
			t.Errorf("got origin %q and target %p, want %q and nil", ev.Origin, ev.Target, srv.URL)
		}
	}
	wantStrings(t, "events", types, "message 1", "add 2", "open 3")
}

// TestStream_EventsComeAtOnce checks that an event is there before the next byte,
// in particular when a lone CR ends its blank line.
func TestStream_EventsComeAtOnce(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]string{"LF": "\n\n", "CRLF": "\r\n\r\n", "CR": "\r\r"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			more := make(chan struct{})
			srv := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				for range 10 {
					begin(w, "data: x"+end)
					select {
					case <-more:
					case <-r.Context().Done():
					}
				}
			}, stop)
			n := 0
			for ev, err := range eventsource.Stream(bounded(t), srv.URL, quick()) {
				if err != nil {
					t.Fatal(err)
				}
				if ev.Data != "x" {
					t.Errorf("got %q, want x", ev.Data)
				}
				n++
				more <- struct{}{}
			}
			if n != 10 {
				t.Errorf("got %d events, want 10", n)
			}
		})
	}
}

func TestStream_BreakEndsTheRequest(t *testing.T) {
	t.Parallel()
	srv := newServer(t, hold("data: 1\n\ndata: 2\n\n"))
	for ev, err := range eventsource.Stream(bounded(t), srv.URL, nil) {
		if ev.Data != "1" || err != nil {
			t.Errorf("got %q and error %v, want the first event", ev.Data, err)
		}
		break
	}
	receive(t, srv.gone, "the server to see that the client has left")
	srv.wantCalls(t, 1)
}

// TestStream_PanicEndsTheRequest leaves the loop in the other way.
func TestStream_PanicEndsTheRequest(t *testing.T) {
	t.Parallel()
	srv := newServer(t, hold("data: 1\n\n"))
	func() {
		defer func() { recover() }()
		for range eventsource.Stream(bounded(t), srv.URL, nil) {
			panic("on purpose")
		}
	}()
	receive(t, srv.gone, "the server to see that the client has left")
}

func TestStream_EachRangeIsAStreamOfItsOwn(t *testing.T) {
	t.Parallel()
	srv := newServer(t, hold("id: 1\nretry: 3600000\ndata: 1\n\n"))
	seq := eventsource.Stream(bounded(t), srv.URL, &eventsource.Options{LastEventID: "0"})
	srv.wantCalls(t, 0) // it is lazy
	for range 2 {
		for ev, err := range seq {
			if err != nil || ev.Data != "1" {
				t.Errorf("got %q and error %v, want the event", ev.Data, err)
			}
			break
		}
	}
	for i, c := range srv.wantCalls(t, 2) {
		if id, _ := c.id(); id != "0" {
			t.Errorf("got Last-Event-ID %q in request %d, want 0", id, i+1)
		}
	}
}

func TestStream_TwoAtOnce(t *testing.T) {
	t.Parallel()
	srv := newServer(t, hold("data: 1\n\n"))
	seq := eventsource.Stream(bounded(t), srv.URL, nil)
	for range seq {
		for ev, err := range seq {
			if err != nil || ev.Data != "1" {
				t.Errorf("got %q and error %v, want the event", ev.Data, err)
			}
			break
		}
		break
	}
	srv.wantCalls(t, 2)
}

// TestStream_EndOfTheContext ends it in each thing that a stream can wait for.
func TestStream_EndOfTheContext(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		steps []http.HandlerFunc
		data  []string
		lines []string // of OnOpen and OnError, the last of which ends the context
	}{
		{"before", nil, nil, nil},
		{"connecting", []http.HandlerFunc{silence}, nil, nil},
		{"open", []http.HandlerFunc{hold("")}, nil, []string{"open"}},
		{"open, after an event", []http.HandlerFunc{events("data: x\n\n"), hold("")}, []string{"x"}, []string{"open", "error 0", "open"}},
		{"waiting", []http.HandlerFunc{events("retry: 3600000\ndata: x\n\n")}, []string{"x"}, []string{"open", "error 0"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, tt.steps...)
			mine := errors.New("mine")
			ctx, cancel := context.WithCancelCause(bounded(t))
			defer cancel(nil)
			d := newDiary()
			opts := d.keep(quick())
			if len(tt.lines) == 0 && tt.steps != nil {
				go func() {
					<-srv.arrived
					cancel(mine)
				}()
			} else if tt.steps == nil {
				cancel(mine)
			}
			told := 0
			end := func() {
				if told++; told == len(tt.lines) {
					cancel(mine)
				}
			}
			onOpen, onError := opts.OnOpen, opts.OnError
			opts.OnOpen = func(ev eventsource.OpenEvent) { onOpen(ev); end() }
			opts.OnError = func(ev eventsource.ErrorEvent) { onError(ev); end() }

			got, err := collect(t, eventsource.Stream(ctx, srv.URL, opts))
			wantStrings(t, "data", data(got), tt.data...)
			if !errors.Is(err, mine) {
				t.Errorf("got error %v, want the context's cause", err)
			}
			d.want(t, tt.lines...)
			d.wantNoMore(t)
		})
	}
}

// TestStream_EndOfTheContextComesFirst ends it while further events lie in the
// buffer.
func TestStream_EndOfTheContextComesFirst(t *testing.T) {
	t.Parallel()
	srv := newServer(t, hold("data: 1\n\ndata: 2\n\ndata: 3\n\n"))
	ctx, cancel := context.WithCancel(bounded(t))
	defer cancel()
	var got []string
	var last error
	for ev, err := range eventsource.Stream(ctx, srv.URL, nil) {
		if last = err; err == nil {
			got = append(got, ev.Data)
		}
		cancel()
	}
	wantStrings(t, "data", got, "1")
	if !errors.Is(last, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", last)
	}
}

// TestStream_ContextOfAnAttemptEndsWithIt checks that nothing of an attempt stays
// with the caller's context, which may live for as long as the program does.
func TestStream_ContextOfAnAttemptEndsWithIt(t *testing.T) {
	t.Parallel()
	srv := newServer(t, events("data: x\n\n"), answer(503, ""), raw(chunkedHead, nil), raw("", nil), hold("data: last\n\n"))
	var attempts []context.Context
	opts := quick()
	opts.NewRequest = func(ctx context.Context, a eventsource.Attempt) (*http.Request, error) {
		for i, earlier := range attempts {
			if earlier.Err() == nil {
				t.Errorf("the context of attempt %d is alive in attempt %d", i+1, a.Number)
			}
		}
		attempts = append(attempts, ctx)
		if a.Number == 2 {
			return nil, errors.New("on purpose")
		}
		return http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
	}
	for ev, err := range eventsource.Stream(bounded(t), srv.URL, opts) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Data == "last" {
			break
		}
	}
	if len(attempts) != 6 {
		t.Fatalf("got %d attempts, want 6", len(attempts))
	}
	if attempts[5].Err() == nil {
		t.Error("the context of the last attempt is alive after the stream")
	}
}

// A bodyCounter counts the answers' bodies that are open.
type bodyCounter struct{ open atomic.Int32 }

func (b *bodyCounter) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err == nil {
		b.open.Add(1)
		resp.Body = &countedBody{ReadCloser: resp.Body, counter: b}
	}
	return resp, err
}

type countedBody struct {
	io.ReadCloser
	counter *bodyCounter
	once    sync.Once
}

func (c *countedBody) Close() error {
	c.once.Do(func() { c.counter.open.Add(-1) })
	return c.ReadCloser.Close()
}

// TestStream_ClosesEveryBody uses a transport that, like many a one with metrics,
// relies on it.
func TestStream_ClosesEveryBody(t *testing.T) {
	t.Parallel()
	page := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<p>") }
	srv := newServer(t, redirect(302, "/x"), events("data: x\n\n"), answer(503, ""), raw(chunkedHead, nil), page, stop, hold("data: last\n\n"))
	counter := new(bodyCounter)
	opts := quick()
	opts.HTTPClient = &http.Client{Transport: counter}
	opts.Retry = func(eventsource.Attempt, time.Duration, bool) (time.Duration, bool) {
		if n := counter.open.Load(); n != 0 {
			t.Errorf("got %d open bodies after an attempt, want none", n)
		}
		return 0, true
	}
	if _, err := collect(t, eventsource.Stream(bounded(t), srv.URL, opts)); err != nil {
		t.Error(err)
	}
	for range eventsource.Stream(bounded(t), srv.URL, opts) {
		break
	}
	if n := counter.open.Load(); n != 0 {
		t.Errorf("got %d open bodies in the end, want none", n)
	}
	srv.wantCalls(t, 7)
}

func TestStream_Deadline(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *script, c *http.Client) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err := collect(t, eventsource.Stream(ctx, memURL, &eventsource.Options{HTTPClient: c}))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v, want context.DeadlineExceeded", err)
		}
		if got := time.Since(start); got != time.Minute {
			t.Errorf("got it after %v, want 1m", got)
		}
	}, events("data: x\n\n"))
}

// TestStream_OnErrorIsToldOfPassingFaults checks that these are not yielded.
func TestStream_OnErrorIsToldOfPassingFaults(t *testing.T) {
	t.Parallel()
	srv := newServer(t,
		events("data: 1\n\n"), answer(503, ""), raw("HTTP/1.1 200 OK\r\n", nil), events("data: 2\n\n"), stop)
	d := newDiary()
	got, err := collect(t, eventsource.Stream(bounded(t), srv.URL, d.keep(quick())))
	if err != nil {
		t.Errorf("got error %v, want none", err)
	}
	wantStrings(t, "data", data(got), "1", "2")
	d.want(t, "open", "error 0", "error 0", "error 0", "open", "error 0", "error 2")
	for _, ev := range d.told(t, 5) {
		if ev.Err == nil || ev.Target != nil {
			t.Errorf("got error %v and target %p, want an error and nil", ev.Err, ev.Target)
		}
	}
}

// TestStream_StartsNoGoroutine looks for frames of the package in all goroutines
// but this one. It is not parallel, so that no other test's are there.
func TestStream_StartsNoGoroutine(t *testing.T) {
	srv := newServer(t, hold("data: x\n\n"))
	ours := func(stack string) bool {
		return strings.Contains(stack, "tidewire/eventsource.") && !strings.Contains(stack, "TestStream_StartsNoGoroutine(")
	}
	if left := leftOver(patience, ours); len(left) > 0 {
		t.Fatalf("got goroutines of earlier tests, want none:\n%s", strings.Join(left, "\n\n"))
	}
	for _, err := range eventsource.Stream(bounded(t), srv.URL, &eventsource.Options{IdleTimeout: time.Hour}) {
		if err != nil {
			t.Fatal(err)
		}
		if got := goroutines(ours); len(got) > 0 {
			t.Errorf("got %d goroutines of the package, want none:\n%s", len(got), strings.Join(got, "\n\n"))
		}
		break
	}
	// That the search would find one.
	src := open(t, srv.URL, nil)
	if got := goroutines(ours); len(got) != 1 {
		t.Errorf("got %d goroutines for a source, want 1", len(got))
	}
	src.Close()
}

// TestStream_EventThatIsTooLarge checks that it is final, as it would come again,
// and that the limit is the option's.
func TestStream_EventThatIsTooLarge(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		limit int
		text  string
		data  []string
		large bool
	}{
		{"at the limit", 10, "data: 0123456789\n\n", []string{"0123456789"}, false},
		{"above the limit", 10, "data: x\n\ndata: 0123456789a\n\n", []string{"x"}, true},
		{"above the limit in lines", 10, "data: 01234\ndata: 56789\n\n", nil, true},
		{"above the limit without an end", 10, "data: 0123456789abcdef", nil, true},
		{"default", 0, "data: " + strings.Repeat("x", sse.DefaultMaxEventSize+1) + "\n\n", nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, events(tt.text), stop)
			d := newDiary()
			opts := d.keep(quick())
			opts.MaxEventSize = tt.limit
			got, err := collect(t, eventsource.Stream(bounded(t), srv.URL, opts))
			wantStrings(t, "data", data(got), tt.data...)
			if !tt.large {
				if err != nil {
					t.Errorf("got error %v, want none", err)
				}
				return
			}
			var e *sse.SizeError
			if !errors.As(err, &e) || tt.limit > 0 && e.Limit != tt.limit {
				t.Errorf("got error %v, want a *sse.SizeError with the limit", err)
			}
			d.want(t, "open", "error 2")
			d.wantNoMore(t)
			srv.wantCalls(t, 1)
		})
	}
}

func TestStream_NoBoundOnEvents(t *testing.T) {
	t.Parallel()
	want := strings.Repeat("x", sse.DefaultMaxEventSize+1)
	srv := newServer(t, events("data: "+want+"\n\n"), stop)
	opts := quick()
	opts.MaxEventSize = -1
	got, err := collect(t, eventsource.Stream(bounded(t), srv.URL, opts))
	if err != nil || len(got) != 1 || got[0].Data != want {
		t.Errorf("got %d events and error %v, want one event", len(got), err)
	}
}

// TestStream_LosesAndRepeatsNothing cuts a long stream at random places, and has
// the server resume after the id that it is told.
func TestStream_LosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	const last = 500
	var text strings.Builder
	offsets := []int{0} // of what follows event i
	for i := 1; i <= last; i++ {
		fmt.Fprintf(&text, "id: %d\ndata: event %d\n\n", i, i)
		offsets = append(offsets, text.Len())
	}
	cut := 1
	srv := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		from := 0
		fmt.Sscan(r.Header.Get("Last-Event-ID"), &from)
		if from == last {
			stop(w, r)
			return
		}
		rest := text.String()[offsets[from]:]
		cut = cut*7%997 + 20 // pseudo-random, and more than an event each time
		rest = rest[:min(cut, len(rest))]
		if cut%2 == 0 {
			raw(chunkedHead+chunk(rest), nil)(w, r)
		} else {
			events(rest)(w, r)
		}
	})
	opts := quick()
	opts.Retry = func(_ eventsource.Attempt, _ time.Duration, again bool) (time.Duration, bool) { return 0, again }
	n := 0
	for ev, err := range eventsource.Stream(bounded(t), srv.URL, opts) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if want := fmt.Sprint("event ", n); ev.Data != want || ev.ID != fmt.Sprint(n) {
			t.Fatalf("got %q with id %q, want %q", ev.Data, ev.ID, want)
		}
	}
	if n != last {
		t.Errorf("got %d events, want %d", n, last)
	}
	if got := len(srv.seen()); got < 10 {
		t.Errorf("got %d requests, want many", got)
	}
}
