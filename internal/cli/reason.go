package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/tidewire/tidewire/eventsource"
	"github.com/tidewire/tidewire/sse"
)

// reason says in words for a user, without a capital or a full stop, why a request to
// the server at rawURL has failed.
func reason(rawURL string, err error) string {
	var (
		status   *eventsource.StatusError
		typ      *eventsource.ContentTypeError
		tooLarge *sse.SizeError
	)
	switch {
	case errors.As(err, &status):
		return refusal("the server", status.StatusCode, status.Header, []byte(status.Body))
	case errors.As(err, &typ) && typ.ContentType == "":
		return "the answer has no Content-Type, where a stream has text/event-stream: is this the URL of a stream?"
	case errors.As(err, &typ):
		return fmt.Sprintf("the answer is %s, not text/event-stream: is this the URL of a stream?", typ.ContentType)
	case errors.As(err, &tooLarge):
		return fmt.Sprintf("the stream has an event of more than %d MiB, which is more than this program takes", tooLarge.Limit>>20)
	}
	return connectionReason(rawURL, err)
}

// connectionReason is reason for what happens before and beside an answer.
func connectionReason(rawURL string, err error) string {
	var (
		dns      *net.DNSError
		op       *net.OpError
		redirect *eventsource.RedirectError
		request  *url.Error
	)
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Sprintf("there is no host %q", dns.Name)
	case unreachable(err) && errors.As(err, &op):
		return fmt.Sprintf("cannot reach %s: %s", hostOf(rawURL), innermost(op))
	case errors.As(err, &redirect):
		return strings.TrimPrefix(redirect.Error(), "eventsource: ")
	case errors.As(err, &request) && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)):
		return fmt.Sprintf("%s closed the connection before it had answered", hostOf(rawURL))
	case errors.As(err, &request):
		return fmt.Sprintf("no answer from %s: %s", hostOf(rawURL), request.Err)
	}
	text := strings.TrimPrefix(err.Error(), "eventsource: ")
	text = strings.TrimSuffix(text, ": "+io.EOF.Error())
	return strings.TrimSuffix(text, ": "+io.ErrUnexpectedEOF.Error()) // which the text says in words
}

// unreachable tells whether there was no connection at all.
func unreachable(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// innermost leaves out the address and the system call.
func innermost(op *net.OpError) error {
	var call *os.SyscallError
	if errors.As(op.Err, &call) {
		return call.Err
	}
	return op.Err
}

// A problem is what a server says about an error (RFC 9457), with the field at fault.
type problem struct {
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Field  string `json:"field"`
}

func (p problem) String() string {
	s := p.Detail
	if s == "" {
		s = p.Title
	}
	if p.Field != "" {
		s += fmt.Sprintf(" (field %q)", p.Field)
	}
	return s
}

// refusal says that who answered with a status that is no success, and why.
func refusal(who string, status int, h http.Header, body []byte) string {
	s := fmt.Sprintf("%s answered %d %s", who, status, http.StatusText(status))
	s = strings.TrimSpace(s)
	if to := h.Get("Location"); to != "" && status/100 == 3 {
		return s + ", and leads on to " + to
	}
	if why := explanation(h, body); why != "" {
		s += ": " + visible(why)
	}
	if status == http.StatusUnauthorized {
		s += "; give a token with --token or $TIDEWIRE_TOKEN"
	}
	return s
}

// explanation returns what a refusal's body says, if it is meant to be read.
func explanation(h http.Header, body []byte) string {
	media, _, _ := mime.ParseMediaType(h.Get("Content-Type")) // without one there is no explanation
	switch {
	case media == "application/problem+json":
		var p problem
		if json.Unmarshal(body, &p) == nil {
			return p.String()
		}
	case media == "text/html", !strings.HasPrefix(media, "text/") && !strings.HasSuffix(media, "json"):
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	return strings.TrimSpace(line)
}

// shortly writes a duration as people do.
func shortly(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}
