package hub_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
)

// A hub is an http.Handler: anything that speaks HTTP publishes and subscribes.
func ExampleHub() {
	events, err := memory.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	h, err := hub.New(&hub.Options{Log: events})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(h) // or http.ListenAndServe
	defer func() {
		_ = h.Shutdown(context.Background()) // ends the streams
		server.Close()
		_ = events.Close()
	}()

	// curl -d 'Hello' http://…/events/news
	for _, text := range []string{"Hello", "Good bye"} {
		resp, err := http.Post(server.URL+"/events/news", "text/plain", strings.NewReader(text))
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Println(resp.Status)
	}

	// new EventSource("http://…/events/news?last=10")
	for ev, err := range eventsource.Stream(context.Background(), server.URL+"/events/news?last=10", nil) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(ev.Type, ev.Data)
		if ev.Data == "Good bye" {
			break
		}
	}
	// Output:
	// 201 Created
	// 201 Created
	// message Hello
	// message Good bye
}

func ExampleHub_Publish() {
	events, err := memory.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	h, err := hub.New(&hub.Options{Log: events})
	if err != nil {
		log.Fatal(err)
	}
	defer func() {
		_ = h.Shutdown(context.Background())
		_ = events.Close()
	}()

	// Both are stored, or none; a repeat under the same key stores nothing more.
	order := hub.Publication{
		Events: []hub.Event{
			{Topics: []string{"orders", "customers/7"}, Type: "paid", Data: `{"order":4711}`},
			{Topics: []string{"stock"}, Data: "3 left"},
		},
		IdempotencyKey: "order-4711-paid",
	}
	for range 2 {
		receipt, err := h.Publish(context.Background(), order)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(receipt.Sequences, receipt.Replayed)
	}
	// Output:
	// [1 2] false
	// [1 2] true
}

func ExampleHub_Subscribe() {
	events, err := memory.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	h, err := hub.New(&hub.Options{Log: events})
	if err != nil {
		log.Fatal(err)
	}
	defer func() {
		_ = h.Shutdown(context.Background())
		_ = events.Close()
	}()

	_, err = h.Publish(context.Background(), hub.Publication{
		Events: []hub.Event{
			{Topics: []string{"news/sport"}, Data: "2:1"},
			{Topics: []string{"weather"}, Data: "sunny"},
			{Topics: []string{"news/world"}, Data: "peace", ID: "story-1"},
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	for d, err := range h.Subscribe(context.Background(), hub.Filter{
		Patterns: []string{"news/**"},
		From:     hub.Start{Earliest: true},
	}) {
		var gap *hub.GapError
		switch {
		case errors.As(err, &gap):
			fmt.Println("some are gone:", gap)
			continue
		case err != nil:
			log.Fatal(err)
		}
		fmt.Println(d.Topics, d.Data)
		if d.ID == "story-1" { // what to give to Start.LastEventID another time
			break
		}
	}
	// Output:
	// [news/sport] 2:1
	// [news/world] peace
}
