package eventsource_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/internal/memnet"
)

// ways are those to end a source from outside, which must have the same effect.
var ways = map[string]func(src *eventsource.Source, cancel context.CancelFunc){
	"Close":                  func(src *eventsource.Source, _ context.CancelFunc) { src.Close() },
	"the end of the context": func(_ *eventsource.Source, cancel context.CancelFunc) { cancel() },
}

// TestSource_CloseInEveryState ends a source while it waits for each thing that it
// can wait for. There must be no callback and no request after that.
func TestSource_CloseInEveryState(t *testing.T) {
	t.Parallel()
	refused := func(w http.ResponseWriter, r *http.Request) {
		answer(503, "because")(w, r)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	tests := []struct {
		name  string
		steps []http.HandlerFunc
		lines []string // told before
		calls int
		gone  bool // a request is under way, and the server sees it end
	}{
		{"waiting for the headers", []http.HandlerFunc{silence}, nil, 1, true},
		{"waiting for the headers after a redirect", []http.HandlerFunc{redirect(302, "/x"), silence}, nil, 2, true},
		{"waiting for the body of a refusal", []http.HandlerFunc{refused}, nil, 1, true},
		{"open, before any event", []http.HandlerFunc{hold("")}, []string{"open"}, 1, true},
		{"open, after an event", []http.HandlerFunc{hold("data: x\n\n")}, []string{"open", "message x"}, 1, true},
		{"open, inside an event", []http.HandlerFunc{hold("data: x\n\ndata: y\n")}, []string{"open", "message x"}, 1, true},
		{"waiting for an hour after a clean end", []http.HandlerFunc{events("retry: 3600000\ndata: x\n\n")}, []string{"open", "message x", "error 0"}, 1, false},
		{"waiting for an hour after a refusal", []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "3600")
			answer(503, "")(w, r)
		}}, []string{"error 0"}, 1, false},
		{"reconnecting", []http.HandlerFunc{events("data: x\n\n"), silence}, []string{"open", "message x", "error 0"}, 2, true},
		{"open again", []http.HandlerFunc{events("data: x\n\n"), hold("")}, []string{"open", "message x", "error 0", "open"}, 2, true},
	}
	for _, tt := range tests {
		for way, end := range ways {
			t.Run(tt.name+", "+way, func(t *testing.T) {
				t.Parallel()
				srv := newServer(t, tt.steps...)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				d := newDiary()
				src, err := eventsource.Open(ctx, srv.URL, d.keep(quick()))
				if err != nil {
					t.Fatal(err)
				}
				d.want(t, tt.lines...)
				for range tt.calls {
					receive(t, srv.arrived, "a request")
				}
				end(src, cancel)
				if got := src.ReadyState(); got != eventsource.StateClosed {
					t.Errorf("got state %v, want closed", got)
				}
				wantDone(t, src, nil)
				if tt.gone {
					receive(t, srv.gone, "the server to see that the client has left")
				}
				d.wantNoMore(t)
				srv.wantCalls(t, tt.calls)
			})
		}
	}
}

// TestSource_CloseWhileDialling has a server that does not even accept.
func TestSource_CloseWhileDialling(t *testing.T) {
	t.Parallel()
	for way, end := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			l := memnet.Listen()
			t.Cleanup(func() { l.Close() })
			dialling := make(chan struct{}, 1)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			opts := quick()
			opts.HTTPClient = &http.Client{Transport: &http.Transport{
				DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
					dialling <- struct{}{}
					return l.Dial(ctx, network, addr)
				},
			}}
			opts.OnError = func(ev eventsource.ErrorEvent) { t.Errorf("OnError was told of %v", ev.Err) }
			src, err := eventsource.Open(ctx, memURL, opts)
			if err != nil {
				t.Fatal(err)
			}
			receive(t, dialling, "the client to dial")
			end(src, cancel)
			wantDone(t, src, nil)
		})
	}
}

// TestSource_CloseAtOnce closes before anything can have happened.
func TestSource_CloseAtOnce(t *testing.T) {
	t.Parallel()
	for way, end := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, hold("data: x\n\n"))
			for range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				src, err := eventsource.Open(ctx, srv.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				end(src, cancel)
				wantDone(t, src, nil)
				cancel()
			}
		})
	}
}

func TestOpen_WithAContextThatHasEnded(t *testing.T) {
	t.Parallel()
	srv := newServer(t, hold("data: x\n\n"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := newDiary()
	opts := d.keep(quick())
	opts.NewRequest = func(ctx context.Context, _ eventsource.Attempt) (*http.Request, error) {
		d.note("request")
		return http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
	}
	src, err := eventsource.Open(ctx, srv.URL, opts)
	if err != nil {
		t.Fatal(err)
	}
	if got := src.ReadyState(); got != eventsource.StateClosed {
		t.Errorf("got state %v, want closed", got)
	}
	wantDone(t, src, nil)
	d.wantNoMore(t)
	srv.wantCalls(t, 0)
}

// TestSource_CloseInsideACallback ends the source from within each callback. Close
// must return there, and be the last that is heard of the source.
func TestSource_CloseInsideACallback(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string // of the callback, as it stands in the diary
		steps []http.HandlerFunc
		lines []string
		calls int
	}{
		{"request 1", []http.HandlerFunc{hold("data: x\n\n")}, []string{"request 1"}, 0},
		{"open", []http.HandlerFunc{hold(": c\ndata: x\n\n")}, []string{"request 1", "open"}, 1},
		{"comment", []http.HandlerFunc{hold(": c\n: c\ndata: x\n\n")}, []string{"request 1", "open", "comment"}, 1},
		{"message", []http.HandlerFunc{hold("data: x\n\n: c\ndata: y\n\n")}, []string{"request 1", "open", "message"}, 1},
		{"listener", []http.HandlerFunc{hold("event: x\ndata: x\n\ndata: y\n\n")}, []string{"request 1", "open", "listener"}, 1},
		{"retry", []http.HandlerFunc{events("")}, []string{"request 1", "open", "retry"}, 1},
		{"error 0", []http.HandlerFunc{events("")}, []string{"request 1", "open", "retry", "error 0"}, 1},
		{"error 2", []http.HandlerFunc{stop}, []string{"request 1", "error 2"}, 1},
		{"request 2", []http.HandlerFunc{answer(503, ""), hold("")}, []string{"request 1", "retry", "error 0", "request 2"}, 1},
	}
	for _, tt := range tests {
		for way, end := range ways {
			t.Run(tt.name+", "+way, func(t *testing.T) {
				t.Parallel()
				srv := newServer(t, tt.steps...)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				d := newDiary()
				var src *eventsource.Source
				ready := make(chan struct{}) // src is set
				tell := func(format string, args ...any) {
					<-ready
					d.note(format, args...)
					if fmt.Sprintf(format, args...) != tt.name {
						return
					}
					end(src, cancel)
					if got := src.ReadyState(); got != eventsource.StateClosed {
						t.Errorf("got state %v in the callback, want closed", got)
					}
					select {
					case <-src.Done():
						t.Error("Done before the callback has returned")
					default:
					}
				}
				listener := func(eventsource.MessageEvent) { tell("listener") }
				opts := quick()
				opts.NewRequest = func(ctx context.Context, a eventsource.Attempt) (*http.Request, error) {
					tell("request %d", a.Number)
					return http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
				}
				opts.Retry = func(_ eventsource.Attempt, _ time.Duration, again bool) (time.Duration, bool) {
					tell("retry")
					return 0, again
				}
				opts.OnOpen = func(eventsource.OpenEvent) { tell("open") }
				opts.OnComment = func(string) { tell("comment") }
				opts.OnMessage = func(eventsource.MessageEvent) { tell("message") }
				opts.OnError = func(ev eventsource.ErrorEvent) { tell("error %d", ev.State) }
				opts.Listeners = map[string]func(eventsource.MessageEvent){"x": listener}
				var err error
				if src, err = eventsource.Open(ctx, srv.URL, opts); err != nil {
					t.Fatal(err)
				}
				src.AddEventListener("x", listener) // which must not get what the first one closes at
				close(ready)
				receive(t, src.Done(), "the end")
				wantDone(t, src, nil)
				d.want(t, tt.lines...)
				d.wantNoMore(t)
				srv.wantCalls(t, tt.calls)
			})
		}
	}
}

// TestSource_CloseInsideCheckRedirect is about the one callback that is not an
// option of ours.
func TestSource_CloseInsideCheckRedirect(t *testing.T) {
	t.Parallel()
	srv := newServer(t, redirect(302, "/x"), hold(""))
	var src *eventsource.Source
	ready := make(chan struct{}) // src is set
	opts := quick()
	opts.HTTPClient = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
		<-ready
		src.Close()
		return nil
	}}
	src, err := eventsource.Open(t.Context(), srv.URL, opts)
	if err != nil {
		t.Fatal(err)
	}
	close(ready)
	wantDone(t, src, nil)
	srv.wantCalls(t, 1)
}

// TestSource_CloseWaits checks that when Close has returned the goroutine is gone.
func TestSource_CloseWaits(t *testing.T) {
	t.Parallel()
	srv := newServer(t, hold(""))
	d := newDiary()
	for range 20 {
		src := open(t, srv.URL, d.keep(quick()))
		d.want(t, "open")
		if err := src.Close(); err != nil {
			t.Errorf("got error %v from Close, want nil", err)
		}
		// The last callback may not have returned yet: Close then does not wait.
		receive(t, src.Done(), "the end")
	}
	src := open(t, srv.URL, quick()) // without callbacks it always does
	receive(t, srv.arrived, "the request")
	src.Close()
	select {
	case <-src.Done():
	default:
		t.Error("Close has returned before the source was done")
	}
}

func TestSource_CloseTwice(t *testing.T) {
	t.Parallel()
	srv := newServer(t, hold(""))
	src := open(t, srv.URL, nil)
	for range 3 {
		if err := src.Close(); err != nil {
			t.Errorf("got error %v, want nil", err)
		}
	}
	wantDone(t, src, nil)
}

func TestSource_CloseFromManyGoroutines(t *testing.T) {
	t.Parallel()
	srv := newServer(t, hold(strings.Repeat("data: x\n\n", 1000)))
	for range 20 {
		began := make(chan struct{})
		var once sync.Once
		src := open(t, srv.URL, &eventsource.Options{OnMessage: func(ev eventsource.MessageEvent) {
			once.Do(func() { close(began) })
			ev.Target.Close()
		}})
		<-began
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { src.Close() })
			wg.Go(src.Reconnect)
		}
		wg.Wait()
		wantDone(t, src, nil)
	}
}

// TestSource_CloseWhileACallbackIsBlocked closes from outside a callback that does
// not return, with many events behind it.
func TestSource_CloseWhileACallbackIsBlocked(t *testing.T) {
	t.Parallel()
	for way, end := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, hold(strings.Repeat(": c\ndata: x\n\n", 100)))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			began, release := make(chan struct{}, 1000), make(chan struct{})
			opts := quick()
			opts.OnMessage = func(eventsource.MessageEvent) {
				began <- struct{}{}
				<-release
			}
			src, err := eventsource.Open(ctx, srv.URL, opts)
			if err != nil {
				t.Fatal(err)
			}
			receive(t, began, "the callback")
			end(src, cancel) // must return, or the test does not
			if got := src.ReadyState(); got != eventsource.StateClosed {
				t.Errorf("got state %v, want closed", got)
			}
			select {
			case <-src.Done():
				t.Error("Done while a callback runs")
			default:
			}
			close(release)
			wantDone(t, src, nil)
			if n := len(began); n != 0 {
				t.Errorf("got %d more callbacks, want none", n)
			}
		})
	}
}

// TestSource_CloseWithALockThatCallbacksTake would come to a stand if Close waited for
// a callback, or one could start behind its back.
func TestSource_CloseWithALockThatCallbacksTake(t *testing.T) {
	t.Parallel()
	srv := newServer(t, hold(strings.Repeat("data: x\n\n", 1000)))
	for range 100 {
		var mu sync.Mutex
		begun := make(chan struct{})
		var once sync.Once
		src, err := eventsource.Open(t.Context(), srv.URL, &eventsource.Options{OnMessage: func(eventsource.MessageEvent) {
			once.Do(func() { close(begun) })
			mu.Lock()
			defer mu.Unlock()
		}})
		if err != nil {
			t.Fatal(err)
		}
		receive(t, begun, "the first event")
		closed := make(chan struct{})
		go func() {
			mu.Lock()
			defer mu.Unlock()
			src.Close()
			close(closed)
		}()
		receive(t, closed, "Close to return")
		wantDone(t, src, nil)
	}
}

// TestSource_NoCallbackAfterClose closes at any point of a stream in full flow.
func TestSource_NoCallbackAfterClose(t *testing.T) {
	t.Parallel()
	srv := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			begin(w, ": c\ndata: x\n\n")
		}
	})
	for i := range 25 {
		var mu sync.Mutex
		closed, late, running := false, 0, false
		enough := make(chan struct{})
		n := 0
		callback := func() {
			mu.Lock()
			defer mu.Unlock()
			if closed {
				late++
			}
			if n++; n == 1+5*i {
				close(enough)
			}
		}
		opts := quick()
		opts.OnMessage = func(eventsource.MessageEvent) { callback() }
		opts.OnComment = func(string) { callback() }
		opts.OnOpen = func(eventsource.OpenEvent) { callback() }
		opts.OnError = func(eventsource.ErrorEvent) { callback() }
		src := open(t, srv.URL, opts)
		receive(t, enough, "events")
		src.Close()
		mu.Lock()
		closed = true
		select {
		case <-src.Done():
		default:
			running = true // Close did not wait: a callback had begun
		}
		mu.Unlock()
		receive(t, src.Done(), "the end")
		if late > 1 || late == 1 && !running {
			t.Errorf("got %d callbacks after Close, want none but one that had begun: %t", late, running)
		}
	}
}
