package doctor_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/internal/doctor"
	"github.com/tidewire/tidewire/internal/proxytest"
	"github.com/tidewire/tidewire/server"
)

func proxiesPage(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/proxies.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var notInAnchor = regexp.MustCompile(`[^a-z0-9-]`)

// TestDocs_HaveEachRemedy looks for a section for each cause, and in it for all whom
// remedies are for.
func TestDocs_HaveEachRemedy(t *testing.T) {
	sections := map[string]string{}
	for _, section := range strings.Split(proxiesPage(t), "\n## ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		sections[notInAnchor.ReplaceAllString(strings.ReplaceAll(strings.ToLower(title), " ", "-"), "")] = text
	}
	for heading, remedies := range doctor.Remedies() {
		text, ok := sections[heading]
		if !ok {
			t.Errorf("docs/proxies.md has no section %s", heading)
		}
		for _, r := range remedies {
			if !strings.Contains(text, "**"+r.For+"**") {
				t.Errorf("section %s says nothing of **%s**", heading, r.For)
			}
		}
	}
}

// block returns the configuration of a program in docs/proxies.md.
func block(t *testing.T, program string) string {
	t.Helper()
	_, text, found := strings.Cut(proxiesPage(t), "```"+program+"\n")
	text, _, closed := strings.Cut(text, "```")
	if !found || !closed {
		t.Fatalf("docs/proxies.md has no configuration of %s", program)
	}
	return text
}

// TestDocs_ConfigurationsWork runs those of the documentation in front of the real server.
func TestDocs_ConfigurationsWork(t *testing.T) {
	for _, program := range []string{"nginx", "haproxy"} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			upstream := strings.TrimPrefix(startServer(t, server.Config{}), "http://")
			config := strings.ReplaceAll(block(t, program), "127.0.0.1:7730", upstream)
			url := ""
			if program == "nginx" {
				url = proxytest.Nginx(t, config)
			} else {
				url = proxytest.HAProxy(t, config)
			}
			r := examine(t, url+"/events/clock", doctor.Options{Probe: url + "/events/probe", Idle: idle})
			wrong(t, r)
			found(t, r, "delivery", doctor.OK)
			found(t, r, "resume", doctor.OK)
			passesSockets(t, url+"/events/clock")
			passesStreamsOn(t, url+"/events/relay")
		})
	}
}

// passesSockets fails the test unless a WebSocket comes through.
func passesSockets(t *testing.T, url string) {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if err := conn.Ping(conn.CloseRead(t.Context())); err != nil {
		t.Error(err)
	}
}

// passesStreamsOn fails the test unless each event of a stream that is published comes before
// the next one.
func passesStreamsOn(t *testing.T, url string) {
	t.Helper()
	const events = 3
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	body, more := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "text/event-stream")
	answered := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusCreated {
				err = fmt.Errorf("got %s, want 201", resp.Status)
			}
		}
		answered <- err
	}()
	n := 0
	write := func() {
		if _, err := fmt.Fprintf(more, "data: %d\n\n", n); err != nil {
			t.Fatal(err)
		}
	}
	write()
	for ev, err := range eventsource.Stream(ctx, url+"?since=earliest", nil) {
		if err != nil || ev.Data != fmt.Sprint(n) {
			t.Fatalf("got %q and %v, want event %d, which was published", ev.Data, err, n)
		}
		if n++; n == events {
			break
		}
		write()
	}
	_ = more.Close()
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// TestDocs_NamesAreAllowed has a browser's Host come through the configurations.
func TestDocs_NamesAreAllowed(t *testing.T) {
	for _, test := range []struct {
		allowed []string
		status  int
	}{
		{nil, http.StatusMisdirectedRequest},
		{[]string{"events.example.com"}, http.StatusOK},
	} {
		upstream := strings.TrimPrefix(startServer(t, server.Config{Transport: server.Transport{AllowedHosts: test.allowed}}), "http://")
		for url, program := range map[string]string{
			proxytest.Nginx(t, strings.ReplaceAll(block(t, "nginx"), "127.0.0.1:7730", upstream)):     "nginx",
			proxytest.HAProxy(t, strings.ReplaceAll(block(t, "haproxy"), "127.0.0.1:7730", upstream)): "HAProxy",
		} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, url+"/events/clock", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = "events.example.com"
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != test.status {
				t.Errorf("%s, names %q: got %s, want %d", program, test.allowed, resp.Status, test.status)
			}
		}
	}
	if !strings.Contains(proxiesPage(t), "--allow-host") {
		t.Error("docs/proxies.md does not tell of --allow-host")
	}
}
