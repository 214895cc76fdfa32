package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/tidewire/tidewire/eventsource"
)

// maxMS is the longest time that a parameter can ask for, in milliseconds: a year.
const maxMS = 365 * 24 * 60 * 60 * 1000

// clientParams say what client to create. A pointer tells 0 from nothing.
type clientParams struct {
	StreamURL      string            `json:"streamUrl"`
	CallbackURL    string            `json:"callbackUrl"`
	Tag            string            `json:"tag"` // of the test, for the log
	InitialDelayMS *int64            `json:"initialDelayMs"`
	ReadTimeoutMS  *int64            `json:"readTimeoutMs"`
	LastEventID    string            `json:"lastEventId"`
	Headers        map[string]string `json:"headers"`
	Method         string            `json:"method"`
	Body           string            `json:"body"`
}

// validate names every mistake. What eventsource.Open refuses by itself is left to it.
func (p *clientParams) validate() error {
	return errors.Join(
		checkURL("streamUrl", p.StreamURL),
		checkURL("callbackUrl", p.CallbackURL),
		checkMS("initialDelayMs", p.InitialDelayMS),
		checkMS("readTimeoutMs", p.ReadTimeoutMS),
	)
}

func checkURL(name, value string) error {
	if value == "" {
		return fmt.Errorf("%s is missing", name)
	}
	u, err := url.Parse(value)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%s is %q, want an absolute http or https URL", name, value)
	}
	return nil
}

func checkMS(name string, value *int64) error {
	if value != nil && (*value < 0 || *value > maxMS) {
		return fmt.Errorf("%s is %d, want 0 to %d milliseconds", name, *value, int64(maxMS))
	}
	return nil
}

// options returns what the parameters mean to the client, without callbacks.
func (p *clientParams) options() *eventsource.Options {
	o := &eventsource.Options{
		Method:       p.Method,
		Header:       make(http.Header),
		Body:         []byte(p.Body),
		LastEventID:  p.LastEventID,
		StrictSpec:   true,
		RepeatNonGET: true, // the harness wants a POST to be sent again
	}
	for name, value := range p.Headers {
		o.Header.Set(name, value)
	}
	if ms := p.InitialDelayMS; ms != nil {
		o.ReconnectionTime = time.Duration(*ms) * time.Millisecond
		if *ms == 0 {
			o.ReconnectionTime = -1 // zero would be the default of three seconds
		}
	}
	if ms := p.ReadTimeoutMS; ms != nil {
		o.IdleTimeout = time.Duration(*ms) * time.Millisecond // 0: none, as usual for sockets
	}
	return o
}

// The commands that a client takes.
const (
	commandRestart = "restart"
	commandListen  = "listen"
)

type commandParams struct {
	Command string       `json:"command"`
	Listen  listenParams `json:"listen"`
}

type listenParams struct {
	Type string `json:"type"`
}

func (p *commandParams) validate() error {
	switch p.Command {
	case commandRestart:
		return nil
	case commandListen:
		if p.Listen.Type == "" {
			return errors.New("listen.type is missing")
		}
		return nil
	}
	return fmt.Errorf("command is %q, want %q or %q", p.Command, commandRestart, commandListen)
}
