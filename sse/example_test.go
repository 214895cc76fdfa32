package sse_test

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/tidewire/tidewire/sse"
)

// A handler is a generator: this one ticks each second until the client leaves.
func ExampleServe() {
	ticks := func(s *sse.Session) iter.Seq2[sse.Event, error] {
		return func(yield func(sse.Event, error) bool) {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				select {
				case t := <-tick.C:
					if !yield(sse.Event{Data: t.Format(time.TimeOnly)}, nil) {
						return
					}
				case <-s.Context().Done():
					return
				}
			}
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := sse.Serve(w, r, ticks, nil); err != nil {
			log.Print(err)
		}
	}))
	defer server.Close()

	resp, err := http.Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	for ev, err := range sse.Events(resp.Body, nil) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("a", ev.Type, "with a time of", len(ev.Data), "characters")
		break
	}
	// Output: a message with a time of 8 characters
}

// A handler that resumes: the client says which event it saw last.
func ExampleAccept() {
	history := []sse.Event{{ID: "1", Data: "one"}, {ID: "2", Data: "two"}, {ID: "3", Data: "three"}}

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := sse.Accept(w, r, &sse.SessionOptions{Heartbeat: 30 * time.Second})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer s.Close()
		for i, ev := range history {
			if ev.ID == s.LastEventID() {
				history = history[i+1:]
				break
			}
		}
		if err := s.Send(history...); err != nil { // one write for all
			log.Print(err)
		}
	}))
	defer server.Close()

	req, err := http.NewRequest("GET", server.URL, nil)
	if err != nil {
		log.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", "1")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	for ev, err := range sse.Events(resp.Body, nil) {
		fmt.Println(ev.ID, ev.Data, err)
	}
	// Output:
	// 2 two <nil>
	// 3 three <nil>
}

// An event that goes to many is encoded once.
func ExampleEncode() {
	frame, err := sse.Encode(sse.Event{ID: "7", Type: "news", Data: "two\nlines"})
	if err != nil {
		log.Fatal(err)
	}
	for range 2 { // subscribers
		if _, err := frame.WriteTo(os.Stdout); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// event: news
	// id: 7
	// data: two
	// data: lines
	//
	// event: news
	// id: 7
	// data: two
	// data: lines
}

func ExampleNewEncoder() {
	e := sse.NewEncoder(os.Stdout)
	if err := e.Encode(sse.Event{Data: "hello"}); err != nil {
		log.Fatal(err)
	}
	err := e.Encode(sse.Event{ID: "1\ndata: injected", Data: "hello"})
	var field *sse.FieldError
	if errors.As(err, &field) {
		fmt.Println(field.Field, field.Offset)
	}
	fmt.Println(err)
	// Output:
	// data: hello
	//
	// id 1
	// sse: encode event: id has a line break at byte 1
}

func ExampleAppendEvent() {
	var buf [64]byte // so that nothing is allocated
	b, err := sse.AppendEvent(buf[:0], sse.Event{Data: "x", Retry: 2 * time.Second})
	fmt.Printf("%q %v\n", b, err)
	// Output: "retry: 2000\ndata: x\n\n" <nil>
}

func ExampleAppendID() {
	b, err := sse.AppendID(nil, "k7m2qa-4711") // no event, but a later place to resume from
	fmt.Printf("%q %v\n", b, err)
	// Output: "id: k7m2qa-4711\n\n" <nil>
}

func ExampleAppendComment() {
	fmt.Printf("%q\n", sse.AppendComment(nil, "still here"))
	// Output: ": still here\n"
}

func ExampleEvents() {
	stream := "id: 1\nevent: add\ndata: 73857293\n\ndata: cut o"
	for ev, err := range sse.Events(strings.NewReader(stream), nil) {
		if err != nil {
			fmt.Println("the stream broke off:", err)
			break
		}
		fmt.Println(ev.Type, ev.Data, "after which to resume:", ev.ID)
	}
	// Output:
	// add 73857293 after which to resume: 1
	// the stream broke off: unexpected EOF
}

func ExampleNewDecoder() {
	stream := ": welcome\nretry: 5000\ndata: first\n\ndata: second\nid: 2\n\n"
	d := sse.NewDecoder(strings.NewReader(stream), &sse.DecoderOptions{
		OnComment: func(text string) { fmt.Printf("comment %q\n", text) },
		OnRetry:   func(t time.Duration) { fmt.Println("reconnect after", t) },
	})
	for {
		ev, err := d.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(ev.Data)
	}
	fmt.Println("last event id:", d.LastEventID())
	// Output:
	// comment " welcome"
	// reconnect after 5s
	// first
	// second
	// last event id: 2
}
