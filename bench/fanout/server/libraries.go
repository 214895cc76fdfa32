//go:build linux

package main

import (
	"net/http"
	"net/url"
	"strconv"

	r3labs "github.com/r3labs/sse/v2"
	gosse "github.com/tmaxmax/go-sse"
)

// newR3Labs serves github.com/r3labs/sse with its own history.
func newR3Labs() (http.Handler, error) {
	s := r3labs.New()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /events/{topic}", func(w http.ResponseWriter, r *http.Request) {
		s.CreateStream(r.PathValue("topic"))
		r.URL.RawQuery = url.Values{"stream": {r.PathValue("topic")}}.Encode()
		// It replays from the event with the id on, instead of from the one after it.
		if id, err := strconv.Atoi(r.Header.Get("Last-Event-ID")); err == nil {
			r.Header.Set("Last-Event-ID", strconv.Itoa(id+1))
		}
		s.ServeHTTP(w, r)
	})
	mux.Handle("POST /events/{topic}", publishing(func(topic, data string) error {
		s.CreateStream(topic)
		s.Publish(topic, &r3labs.Event{Data: []byte(data)})
		return nil
	}))
	return mux, nil
}

// newGoSSE serves github.com/tmaxmax/go-sse with its provider and its history.
func newGoSSE() (http.Handler, error) {
	history, err := gosse.NewFiniteReplayer(keep, true)
	if err != nil {
		return nil, err
	}
	s := &gosse.Server{
		Provider: &gosse.Joe{Replayer: answering{history}},
		OnSession: func(_ http.ResponseWriter, r *http.Request) ([]string, bool) {
			return []string{r.PathValue("topic")}, true
		},
	}
	mux := http.NewServeMux()
	mux.Handle("GET /events/{topic}", s)
	mux.Handle("POST /events/{topic}", publishing(func(topic, data string) error {
		m := &gosse.Message{}
		m.AppendData(data)
		return s.Publish(m, topic)
	}))
	return mux, nil
}

// An answering history has subscribers answered as soon as they are in. Else the head of
// the answer comes with the first event.
type answering struct{ gosse.Replayer }

func (a answering) Replay(s gosse.Subscription) error {
	if err := a.Replayer.Replay(s); err != nil {
		return err
	}
	return s.Client.Flush()
}
