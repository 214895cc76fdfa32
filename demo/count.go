package demo

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// How often the numbers are published.
const (
	counterEvery = time.Second
	panelEvery   = 500 * time.Millisecond
)

// Run publishes the pages' numbers until ctx ends or the hub shuts down, and returns
// when it has stopped. The clocks and comparisons of open pages end with it. Call it once.
func (d *Demo) Run(ctx context.Context) {
	defer d.end.Do(func() { close(d.over) })
	defer d.startComparisons(ctx)()
	var publishers sync.WaitGroup
	publishers.Go(func() { d.count(ctx, topicCounter, counterEvery) })
	publishers.Go(func() { d.count(ctx, topicPanel, panelEvery) })
	publishers.Wait()
}

// timeFormat is RFC 3339 in UTC, to the millisecond.
const timeFormat = "2006-01-02T15:04:05.000Z"

// A number is the data of what Run publishes.
type number struct {
	Count int    `json:"count"`
	Time  string `json:"time"`
}

// count publishes consecutive numbers to a topic. They go on where they stood if the
// topic has a history.
func (d *Demo) count(ctx context.Context, topic string, every time.Duration) {
	next := d.newest(ctx, topic) + 1
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		_, err := d.hub.Publish(ctx, hub.Publication{Events: []hub.Event{{
			Topics: []string{topic},
			Data:   numberAt(next, time.Now()),
		}}})
		switch {
		case err == nil:
			next++
		case errors.Is(err, hub.ErrShutdown):
			return
		}
		// After any other error the same number is next: none must be missing.
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// newest returns the number of a topic's newest event, 0 if there is none.
func (d *Demo) newest(ctx context.Context, topic string) int {
	info, err := d.hub.Topic(ctx, topic)
	if err != nil || info.Count == 0 {
		return 0
	}
	for ev, err := range d.hub.Subscribe(ctx, hub.Filter{Topics: []string{topic}, From: hub.Start{Last: 1}}) {
		var n number
		if err != nil || json.Unmarshal([]byte(ev.Data), &n) != nil {
			break
		}
		return n.Count
	}
	return 0
}

func numberAt(n int, t time.Time) string {
	data, err := json.Marshal(number{Count: n, Time: t.UTC().Format(timeFormat)})
	if err != nil {
		panic(err) // an int and a string
	}
	return string(data)
}
