package auth

import (
	"fmt"
	"strings"

	"github.com/tidewire/tidewire/hub"
)

// maxDescription bounds the bytes of an error_description.
const maxDescription = 300

// challenge is what a request without credentials is answered with (RFC 6750, section 3:
// no error code then).
const challenge = `Bearer realm="tidewire"`

// refuse says why a credential does not count. field is what is at fault, such as a claim.
func refuse(field, format string, args ...any) *hub.RequestError {
	return refusal(hub.ProblemUnauthorized, "invalid_token", field, fmt.Sprintf(format, args...))
}

// malformed says why no credential can be read from a request.
func malformed(field, format string, args ...any) *hub.RequestError {
	return refusal(hub.ProblemQuery, "invalid_request", field, fmt.Sprintf(format, args...))
}

// refusal has the codes of RFC 6750, section 3.1.
func refusal(p hub.Problem, code, field, detail string) *hub.RequestError {
	return &hub.RequestError{
		Problem: p, Field: field, Detail: detail,
		Challenge: challenge + `, error="` + code + `", error_description="` + description(detail) + `"`,
	}
}

// description is a text as an error_description may have it, which is printable ASCII
// without " and \ (RFC 6750, section 3).
func description(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '"' || r == '\\':
			return '\''
		case r < ' ' || r > '~':
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), maxDescription)]
}

// quote shows what a sender gave, in ASCII and not too much of it.
func quote(s string) string {
	const most = 64
	if len(s) > most {
		return fmt.Sprintf("%+q…", s[:most])
	}
	return fmt.Sprintf("%+q", s)
}
