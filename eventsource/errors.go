package eventsource

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

var (
	// ErrNoContent says that the server answered 204: there is nothing more to
	// come, and the client does not ask again.
	ErrNoContent = errors.New("eventsource: the server has nothing more to send (204 No Content)")

	// ErrIdleTimeout says that not a byte came for IdleTimeout.
	ErrIdleTimeout = errors.New("eventsource: nothing received within IdleTimeout")

	// ErrTruncated says that an answer read with [Do] ended before it was
	// whole. The error that is returned wraps the cause too.
	ErrTruncated = errors.New("eventsource: the answer was cut off")
)

// A StatusError says that the server answered with a status that is not a stream.
type StatusError struct {
	StatusCode int
	Header     http.Header
	Body       string        // its first kilobyte
	RetryAfter time.Duration // from the header of that name; 0: none
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("eventsource: the server answered %d %s", e.StatusCode, http.StatusText(e.StatusCode))
	switch e.StatusCode {
	case 301, 302, 303, 307, 308:
		if e.Header.Get("Location") == "" {
			s += " without a Location to go to"
		}
	}
	if line, _, _ := strings.Cut(strings.TrimSpace(e.Body), "\n"); line != "" {
		s += ": " + strconv.QuoteToGraphic(line)
	}
	return s
}

// A ContentTypeError says that the answer is not an event stream.
type ContentTypeError struct {
	ContentType string // as received, "" if there was none
}

func (e *ContentTypeError) Error() string {
	return fmt.Sprintf("eventsource: the answer's Content-Type is %q, not text/event-stream: is this the URL of a stream?", e.ContentType)
}

// A RedirectError says that a redirect was not followed.
type RedirectError struct {
	Reason string
	Err    error // of HTTPClient.CheckRedirect, if that refused it
}

func (e *RedirectError) Error() string { return "eventsource: redirect: " + e.Reason }

func (e *RedirectError) Unwrap() error { return e.Err }

// errReconnect ends a connection that Reconnect was called on.
var errReconnect = errors.New("eventsource: reconnecting because Reconnect was called")

// errEnded is the clean end of a stream: a fault all the same, but a harmless one.
var errEnded = fmt.Errorf("eventsource: the server ended the stream: %w", io.EOF)

// ended says how a body ended, from the decoder's error.
func ended(err error) error {
	switch {
	case err == io.EOF:
		return errEnded
	case err == io.ErrUnexpectedEOF:
		return fmt.Errorf("eventsource: the stream broke off inside an event or a chunk: %w", err)
	}
	return fmt.Errorf("eventsource: reading the stream: %w", err)
}

// maxSnippet bounds what is read of a body that explains a refusal, in bytes and
// in time.
const (
	maxSnippet     = 1 << 10
	maxSnippetTime = time.Second
)

// refusal returns why an answer is no stream, or nil if it is one (standard
// section 9.2.3). giveUp ends the request if the body of a refusal does not come.
func refusal(resp *http.Response, giveUp func()) error {
	switch {
	case resp.StatusCode == http.StatusNoContent:
		return ErrNoContent
	case resp.StatusCode != http.StatusOK:
		return &StatusError{
			StatusCode: resp.StatusCode,
			Header:     resp.Header,
			Body:       snippet(resp, giveUp),
			RetryAfter: parseRetryAfter(resp.Header.Get("Retry-After"), time.Now()),
		}
	case !isEventStream(resp.Header.Values("Content-Type")):
		return &ContentTypeError{strings.Join(resp.Header.Values("Content-Type"), ", ")}
	}
	return nil
}

// snippet returns the beginning of a body, as much of it as there is.
func snippet(resp *http.Response, giveUp func()) string {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return "" // what follows is another protocol, and does not end with the request
	}
	timer := time.AfterFunc(maxSnippetTime, giveUp)
	defer timer.Stop()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxSnippet))
	return strings.ToValidUTF8(string(body), "\uFFFD")
}

// isEventStream tells whether the media type is text/event-stream, whatever its
// case and parameters. Of several types the last one counts (Fetch standard,
// "extract a MIME type").
func isEventStream(contentType []string) bool {
	essence := ""
	for _, v := range splitUnquoted(strings.Join(contentType, ",")) {
		v, _, _ = strings.Cut(v, ";")
		if v = strings.Trim(v, " \t"); strings.Contains(v, "/") && v != "*/*" {
			essence = v
		}
	}
	return strings.EqualFold(essence, "text/event-stream")
}

// splitUnquoted splits a header at the commas that are not within a quoted string
// (Fetch standard, "get, decode, and split").
func splitUnquoted(s string) []string {
	var parts []string
	start, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case quoted && s[i] == '\\':
			i++
		case s[i] == ',' && !quoted:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

// parseRetryAfter reads seconds or a date (RFC 9110, section 10.2.3).
func parseRetryAfter(s string, now time.Time) time.Duration {
	if s == "" {
		return 0
	}
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}
