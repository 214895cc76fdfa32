package main

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestService_TellsNameAndCapabilities(t *testing.T) {
	h := newHarness(t)
	status, header, body := h.call("GET", "/", nil)
	if status != http.StatusOK || header.Get("Content-Type") != "application/json" {
		t.Errorf("got %d %s, want 200 application/json", status, header.Get("Content-Type"))
	}
	var got struct {
		Name         string
		Capabilities []string
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(`bom comments event-type-listeners headers last-event-id post
		read-timeout report restart server-directed-shutdown-request`)
	if got.Name != "tidewire" || !slices.Equal(got.Capabilities, want) {
		t.Errorf("got %q %q, want tidewire %q", got.Name, got.Capabilities, want)
	}
}

func TestService_RefusesBadParameters(t *testing.T) {
	const stream, callback = `"streamUrl":"http://127.0.0.1:1/"`, `"callbackUrl":"http://127.0.0.1:1/"`
	tests := []struct {
		name, body string
		want       []string // in the explanation
	}{
		{"no body", ``, []string{"parse request"}},
		{"broken JSON", `{`, []string{"parse request"}},
		{"something after the JSON", `{` + stream + `,` + callback + `} x`, []string{"parse request"}},
		{"wrong type", `{` + stream + `,` + callback + `,"initialDelayMs":"1"}`, []string{"initialDelayMs"}},
		{"fraction", `{` + stream + `,` + callback + `,"initialDelayMs":1.5}`, []string{"initialDelayMs"}},
		{"nothing", `null`, []string{"streamUrl is missing", "callbackUrl is missing"}},
		{"no streamUrl", `{` + callback + `}`, []string{"streamUrl is missing"}},
		{"no callbackUrl", `{` + stream + `}`, []string{"callbackUrl is missing"}},
		{"relative streamUrl", `{"streamUrl":"/stream",` + callback + `}`, []string{`streamUrl is "/stream", want an absolute`}},
		{"other scheme", `{` + stream + `,"callbackUrl":"ftp://127.0.0.1/"}`, []string{`callbackUrl is "ftp://127.0.0.1/"`}},
		{"no host", `{` + stream + `,"callbackUrl":"http:///1"}`, []string{`callbackUrl is "http:///1"`}},
		{"broken URL", `{` + stream + `,"callbackUrl":"http://%"}`, []string{"callbackUrl: "}},
		{"negative delay", `{` + stream + `,` + callback + `,"initialDelayMs":-1}`, []string{"initialDelayMs is -1"}},
		{"negative time-out", `{` + stream + `,` + callback + `,"readTimeoutMs":-1}`, []string{"readTimeoutMs is -1"}},
		{"delay beyond reason", `{` + stream + `,` + callback + `,"initialDelayMs":9223372036854775807}`, []string{"initialDelayMs is 9"}},
		{"method", `{` + stream + `,` + callback + `,"method":"GET IT"}`, []string{`"GET IT"`}},
		{"id", `{` + stream + `,` + callback + `,"lastEventId":"a\nb"}`, []string{`"a\nb"`}},
		{"all at once", `{"initialDelayMs":-1,"readTimeoutMs":-2}`,
			[]string{"streamUrl", "callbackUrl", "initialDelayMs", "readTimeoutMs"}},
	}
	h := newHarness(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, _, body := h.call("POST", "/", tt.body)
			if status != http.StatusBadRequest {
				t.Errorf("got %d, want 400", status)
			}
			for _, want := range tt.want {
				if !strings.Contains(body, want) {
					t.Errorf("got explanation %q, want %q in it", body, want)
				}
			}
		})
	}
}

func TestService_RefusesBadCommands(t *testing.T) {
	tests := []struct {
		name, body, want string
	}{
		{"no body", ``, "parse request"},
		{"broken JSON", `{"command":`, "parse request"},
		{"no command", `{}`, `command is ""`},
		{"unknown command", `{"command":"dance"}`, `command is "dance"`},
		{"listen to nothing", `{"command":"listen"}`, "listen.type is missing"},
		{"listen to null", `{"command":"listen","listen":null}`, "listen.type is missing"},
		{"listen to no type", `{"command":"listen","listen":{"type":""}}`, "listen.type is missing"},
	}
	h := newHarness(t)
	location := h.create(nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, _, body := h.call("POST", location, tt.body)
			if status != http.StatusBadRequest || !strings.Contains(body, tt.want) {
				t.Errorf("got %d %q, want 400 with %q", status, body, tt.want)
			}
		})
	}
}

func TestService_UnknownPathsAndMethods(t *testing.T) {
	h := newHarness(t)
	gone := h.create(nil)
	there := h.create(nil)
	h.want(http.StatusNoContent, "DELETE", gone, nil)
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{"POST", gone, http.StatusNotFound},
		{"DELETE", gone, http.StatusNotFound},
		{"POST", "/clients/99", http.StatusNotFound},
		{"DELETE", "/clients/99", http.StatusNotFound},
		{"GET", "/elsewhere", http.StatusNotFound},
		{"PUT", "/", http.StatusMethodNotAllowed},
		{"GET", there, http.StatusMethodNotAllowed},
		{"POST", there, http.StatusNoContent},
	} {
		if got, _, _ := h.call(tt.method, tt.path, `{"command":"restart"}`); got != tt.want {
			t.Errorf("%s %s: got %d, want %d", tt.method, tt.path, got, tt.want)
		}
	}
}

func TestService_DeleteRootAsksForTheEnd(t *testing.T) {
	h := newHarness(t)
	select {
	case <-h.svc.Quit():
		t.Fatal("Quit before DELETE /")
	default:
	}
	h.want(http.StatusNoContent, "DELETE", "/", nil)
	receive(t, h.svc.Quit(), "Quit")
	h.want(http.StatusNoContent, "DELETE", "/", nil)
}

func TestService_CloseEndsClientsAndTakesNoMore(t *testing.T) {
	h := newHarness(t)
	location := h.create(nil)
	conn := h.connect()
	conn.send(": hello\n")
	h.svc.Close()
	receive(t, conn.gone, "the end of the connection")
	h.want(http.StatusNotFound, "DELETE", location, nil)
	h.want(http.StatusServiceUnavailable, "POST", "/", object{"streamUrl": h.streamURL, "callbackUrl": h.callbackURL})
	h.svc.Close()
}

func TestService_CloseHangsUp(t *testing.T) {
	h := newHarness(t)
	h.create(nil)
	h.connect().send("data: hello\n\n")
	h.nextAnswer(1, http.StatusNotFound)
	receive(t, h.logged, "a line in the log") // the client is through with the answer
	h.svc.Close()
	for receive(t, h.states, "the end of the idle connection") != http.StateClosed {
	}
}

// Whatever it is that the client waits for would never come.
func TestService_DeleteIsPrompt(t *testing.T) {
	never := object{"initialDelayMs": 3_600_000}
	tests := []struct {
		name   string
		params object
		during func(h *harness) *connection // the one to be hung up, if any
	}{
		{"before the headers", nil, func(h *harness) *connection {
			return h.connect()
		}},
		{"stream is silent", nil, func(h *harness) *connection {
			conn := h.connect()
			conn.send("data: hello\n\n")
			h.wantData(1, "hello")
			return conn
		}},
		{"inside an event", nil, func(h *harness) *connection {
			conn := h.connect()
			conn.send(": hello\ndata: hel")
			h.wantRaw(1, `{"kind":"comment","comment":" hello"}`)
			return conn
		}},
		{"inside the body of a refusal", nil, func(h *harness) *connection {
			conn := h.connect()
			conn.do(func(w http.ResponseWriter) {
				w.WriteHeader(http.StatusInternalServerError)
				_ = http.NewResponseController(w).Flush()
			})
			return conn
		}},
		{"waiting to reconnect", never, func(h *harness) *connection {
			conn := h.connect()
			conn.send(": hello\n")
			conn.end()
			h.next(1)
			h.wantError(2, "ended")
			return nil
		}},
		{"after the end", nil, func(h *harness) *connection {
			h.connect().refuse(http.StatusNoContent, nil)
			h.wantError(1, "204")
			return nil
		}},
		{"callback is not answered", nil, func(h *harness) *connection {
			conn := h.connect()
			conn.send("data: hello\n\n")
			receive(h.t, h.callbacks, "a callback")
			return conn
		}},
		{"callbacks wait in line", nil, func(h *harness) *connection {
			conn := h.connect()
			conn.send(strings.Repeat("data: hello\n\n", 10_000))
			h.wantData(1, "hello")
			return conn
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t)
			location := h.create(tt.params)
			conn := tt.during(h)
			h.want(http.StatusNoContent, "DELETE", location, nil)
			if conn != nil {
				receive(t, conn.gone, "the end of the connection")
			}
			h.want(http.StatusNotFound, "DELETE", location, nil)
		})
	}
}
