package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tidewire/tidewire/eventsource"
)

func TestClock(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, "127.0.0.1:0", w) }()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url := strings.TrimSpace(line[strings.LastIndex(line, "http://"):])

	for ev, err := range eventsource.Stream(ctx, url, &eventsource.Options{LastEventID: "41"}) {
		if err != nil || ev.ID != "42" || len(ev.Data) != len("15:04:05") {
			t.Errorf("got %+v, %v, want tick 42", ev, err)
		}
		break
	}
	resp, err := http.Get(strings.TrimSuffix(url, "clock"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), "EventSource") {
		t.Errorf("got page %.100q, %v", body, err)
	}

	// A stream that is open does not hold up the end.
	open, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Body.Close()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
