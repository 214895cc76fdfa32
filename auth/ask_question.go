package auth

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/tidewire/tidewire/hub"
)

// A question is what an application is asked; its exported fields are the body.
type question struct {
	Action   string   `json:"action"`
	Topics   []string `json:"topics"`
	Patterns []string `json:"patterns"`
	Method   string   `json:"method"`
	URL      string   `json:"url"`
	Address  string   `json:"address,omitempty"`
	Subject  string   `json:"subject,omitempty"`

	action hub.Action
	header http.Header // those of the original request that are passed on
}

func newQuestion(r *http.Request, a *hub.Access, inner *hub.Grant) *question {
	q := &question{
		Action:   a.Action.String(),
		Topics:   append([]string{}, a.Topics...), // [] and not null
		Patterns: append([]string{}, a.Patterns...),
		Method:   r.Method,
		URL:      withoutSecrets(r.URL),
		action:   a.Action,
		header:   passedOn(r.Header),
	}
	if a.Address.IsValid() {
		q.Address = a.Address.String()
	}
	if inner != nil {
		q.Subject = inner.Subject
	}
	return q
}

// notPassedOn are headers of the original request that would be about something else in the
// question, beside those of heldBack.
var notPassedOn = map[string]bool{
	// The connection and the body's framing. What else a client's Connection header names
	// is passed on: a client could hide with it what a proxy has added.
	"Connection": true, "Keep-Alive": true, "Te": true, "Trailer": true, "Transfer-Encoding": true,
	"Upgrade": true, "Http2-Settings": true, "Host": true, "Expect": true,
	"Accept": true, "Accept-Encoding": true, "Range": true,
	// From an address that the application trusts they would be believed; its question has
	// the sender's address.
	"Forwarded": true, "X-Real-Ip": true, "X-Client-Ip": true, "True-Client-Ip": true, "Cf-Connecting-Ip": true,
	// Many frameworks take these for the question's own method and URL.
	"X-Http-Method": true, "X-Http-Method-Override": true, "X-Method-Override": true, "X-Rewrite-Url": true,
	// The answer would be that to an older question.
	"Idempotency-Key": true, "X-Idempotency-Key": true,
}

var heldBack = []string{"Content-", "If-", "Proxy-", "Sec-Websocket-", "X-Forwarded-", "X-Original-"}

// passedOn returns the headers that the application gets.
func passedOn(h http.Header) http.Header {
	passed := make(http.Header, len(h))
	for name, values := range h {
		drop := notPassedOn[name] ||
			strings.Contains(name, "_") || // which some servers take for -
			slices.ContainsFunc(heldBack, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
		if !drop {
			passed[name] = slices.Clone(values)
		}
	}
	return passed
}

// withoutSecrets returns the path and the query of a URL, without the parameters that may
// be credentials.
func withoutSecrets(u *url.URL) string {
	var kept []string
	for param := range strings.SplitSeq(u.RawQuery, "&") {
		name, _, _ := strings.Cut(param, "=")
		name, err := url.QueryUnescape(name)
		if err == nil && param != "" && !isSecretName(name) {
			kept = append(kept, param)
		}
	}
	if len(kept) == 0 {
		return u.EscapedPath()
	}
	return u.EscapedPath() + "?" + strings.Join(kept, "&")
}

// isSecretName errs towards yes.
func isSecretName(name string) bool {
	name = strings.ToLower(name)
	for _, part := range []string{"auth", "credential", "jwt", "key", "passw", "secret", "session", "sig", "ticket", "token"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
