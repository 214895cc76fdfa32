package eventsource_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/sse"
)

// serve starts a server for an example.
func serve(h http.HandlerFunc) *httptest.Server { return httptest.NewServer(h) }

// stock sends two events of each type, and stays open until the client leaves.
func stock(w http.ResponseWriter, r *http.Request) {
	err := sse.Serve(w, r, func(s *sse.Session) iter.Seq2[sse.Event, error] {
		return func(yield func(sse.Event, error) bool) {
			for _, ev := range []sse.Event{
				{ID: "1", Type: "add", Data: "73857293"},
				{ID: "2", Type: "remove", Data: "2153"},
				{ID: "3", Data: "closing time"},
			} {
				if !yield(ev, nil) {
					return
				}
			}
			<-s.Context().Done()
		}
	}, nil)
	if err != nil && !errors.Is(err, context.Canceled) {
		log.Print(err)
	}
}

// The browser's model: listeners by type, and a ready state.
func ExampleOpen() {
	server := serve(stock)
	defer server.Close()

	source, err := eventsource.Open(context.Background(), server.URL, &eventsource.Options{
		OnOpen:  func(ev eventsource.OpenEvent) { fmt.Println(ev.Target.ReadyState()) },
		OnError: func(ev eventsource.ErrorEvent) { fmt.Println(ev.State, ev.Err) },
		Listeners: map[string]func(eventsource.MessageEvent){
			"add":    func(ev eventsource.MessageEvent) { fmt.Println("new:", ev.Data) },
			"remove": func(ev eventsource.MessageEvent) { fmt.Println("gone:", ev.Data) },
		},
		OnMessage: func(ev eventsource.MessageEvent) {
			fmt.Println(ev.Data)
			_ = ev.Target.Close() // returns nil
		},
	})
	if err != nil {
		log.Fatal(err) // the URL is wrong
	}
	<-source.Done()
	fmt.Println(source.ReadyState(), "after", source.LastEventID())
	// Output:
	// open
	// new: 73857293
	// gone: 2153
	// closing time
	// closed after 3
}

// A listener can come and go while the stream runs.
func ExampleSource_AddEventListener() {
	server := serve(stock)
	defer server.Close()
	source, err := eventsource.Open(context.Background(), server.URL, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close()
	remove := source.AddEventListener("price", func(ev eventsource.MessageEvent) { fmt.Println(ev.Data) })
	remove()
	fmt.Println(source.URL() == server.URL)
	// Output: true
}

// An iterator that reconnects by itself, in the caller's own goroutine.
func ExampleStream() {
	server := serve(stock)
	defer server.Close()
	for ev, err := range eventsource.Stream(context.Background(), server.URL, nil) {
		if err != nil {
			log.Fatal(err) // final: whatever could be mended by reconnecting was
		}
		fmt.Println(ev.ID, ev.Type, ev.Data)
		if ev.ID == "3" {
			break // ends the request
		}
	}
	// Output:
	// 1 add 73857293
	// 2 remove 2153
	// 3 message closing time
}

// Resuming from an id that was stored when the program ran before.
func ExampleStream_resume() {
	server := serve(func(w http.ResponseWriter, r *http.Request) {
		last, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
		if last == 5 {
			w.WriteHeader(http.StatusNoContent) // nothing more will come
			return
		}
		_ = sse.Serve(w, r, func(*sse.Session) iter.Seq2[sse.Event, error] {
			return func(yield func(sse.Event, error) bool) {
				// Two events, and then the server hangs up.
				for i := last + 1; i <= last+2; i++ {
					if !yield(sse.Event{ID: strconv.Itoa(i), Data: "event " + strconv.Itoa(i)}, nil) {
						return
					}
				}
			}
		}, &sse.SessionOptions{Retry: 20 * time.Millisecond})
	})
	defer server.Close()

	stored := "1"
	for ev, err := range eventsource.Stream(context.Background(), server.URL, &eventsource.Options{LastEventID: stored}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(ev.Data)
		stored = ev.ID // once the event is dealt with
	}
	fmt.Println("resume after", stored)
	// Output:
	// event 2
	// event 3
	// event 4
	// event 5
	// resume after 5
}

// A token that is fresh at each attempt.
func ExampleOptions_newRequest() {
	server := serve(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token-2" {
			http.Error(w, "the token has expired", http.StatusUnauthorized)
			return
		}
		stock(w, r)
	})
	defer server.Close()

	opts := &eventsource.Options{
		NewRequest: func(ctx context.Context, a eventsource.Attempt) (*http.Request, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
			if err != nil {
				return nil, err
			}
			req.Header.Set("Authorization", fmt.Sprintf("Bearer token-%d", a.Number))
			return req, nil
		},
		// By default a 401 is final. Here the next attempt has another token.
		Retry: func(a eventsource.Attempt, delay time.Duration, again bool) (time.Duration, bool) {
			var status *eventsource.StatusError
			if errors.As(a.Err, &status) && status.StatusCode == http.StatusUnauthorized && a.Failures == 1 {
				return 0, true
			}
			return delay, again
		},
		OnError: func(ev eventsource.ErrorEvent) { fmt.Println(ev.State, ev.Err) },
	}
	for ev, err := range eventsource.Stream(context.Background(), server.URL, opts) {
		fmt.Println(ev.Data, err)
		break
	}
	// Output:
	// connecting eventsource: the server answered 401 Unauthorized: "the token has expired"
	// 73857293 <nil>
}

// Reading a model's answer, streamed over POST: it ends with an event that says so,
// and without that it was cut off.
func ExampleDo() {
	server := serve(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = sse.Serve(w, r, func(*sse.Session) iter.Seq2[sse.Event, error] {
			return func(yield func(sse.Event, error) bool) {
				for _, data := range []string{`{"text":"Hello"}`, `{"text":", world"}`, "[DONE]"} {
					if !yield(sse.Event{Data: data}, nil) {
						return
					}
				}
			}
		}, nil)
	})
	defer server.Close()

	done := func(ev sse.Event) bool { return ev.Data == "[DONE]" }
	req, err := http.NewRequest(http.MethodPost, server.URL, strings.NewReader(`{"prompt":"Greet me."}`))
	if err != nil {
		log.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	_, events, err := eventsource.Do(nil, req, &eventsource.ResponseOptions{Terminal: done, IdleTimeout: time.Minute})
	if err != nil {
		log.Fatal(err) // for example a *StatusError
	}
	for ev, err := range events {
		if errors.Is(err, eventsource.ErrTruncated) {
			log.Fatal("only half an answer: ", err)
		}
		if err != nil {
			log.Fatal(err)
		}
		if done(ev) {
			break
		}
		var token struct{ Text string }
		if err := json.Unmarshal([]byte(ev.Data), &token); err != nil {
			log.Fatal(err)
		}
		fmt.Print(token.Text)
	}
	// Output: Hello, world
}
