package auth

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/tidewire/tidewire/hub"
)

const (
	maxPatterns = 1000 // of a credential
	maxDepth    = 16   // of objects and arrays in one another, in a token
)

// claimExample is how the claim looks; refusals show it.
const claimExample = `"tidewire": {"subscribe": ["news/*"], "publish": ["news/sport"]}`

// Claims are those of a token that this package reads and writes (RFC 7519, section 4.1).
// Zero fields are not in it.
type Claims struct {
	Issuer   string   // iss
	Subject  string   // sub; it becomes the subject of the grant
	Audience []string // aud

	// Whole seconds.
	Expires   time.Time // exp
	NotBefore time.Time // nbf
	IssuedAt  time.Time // iat

	Permissions Permissions // tidewire
}

// Permissions say what may be done, by patterns of topics ([hub.CheckPattern]), of which
// there may be 1,000. In JSON they are the claim "tidewire" of a token; private may be true
// there, which means all that subscribe has.
type Permissions struct {
	Subscribe []string `json:"subscribe,omitempty"`
	Publish   []string `json:"publish,omitempty"`
	Private   []string `json:"private,omitempty"` // whose private events come too
	Delete    []string `json:"delete,omitempty"`  // whose history may be deleted
	Admin     bool     `json:"admin,omitempty"`   // whether others' streams may be seen and ended
}

// Check says what is wrong with the patterns. What it says has patterns in it and is for
// who wrote them, not for who sends a request.
func (p *Permissions) Check() error {
	total := 0
	for _, list := range p.lists() {
		total += len(*list.patterns)
		for _, pattern := range *list.patterns {
			if err := hub.CheckPattern(pattern); err != nil {
				return fmt.Errorf("%s: %q: %w", list.name, pattern, err)
			}
		}
	}
	if total > maxPatterns {
		return fmt.Errorf("there are %d patterns, more than %d: use fewer, with * and **", total, maxPatterns)
	}
	return nil
}

type patternList struct {
	name     string
	patterns *[]string
}

func (p *Permissions) lists() []patternList {
	return []patternList{{"subscribe", &p.Subscribe}, {"publish", &p.Publish}, {"private", &p.Private}, {"delete", &p.Delete}}
}

// grant returns what they grant, and besides what everyone may do: who says who it is may do
// no less.
func (p *Permissions) grant(subject, by string, expires time.Time, everyone *hub.Grant) *hub.Grant {
	g := &hub.Grant{
		Subject: subject, Expires: expires, By: by,
		Subscribe: p.Subscribe, Publish: p.Publish, Private: p.Private, Delete: p.Delete, Admin: p.Admin,
	}
	if everyone != nil {
		g.Subscribe = slices.Concat(p.Subscribe, everyone.Subscribe)
		g.Publish = slices.Concat(p.Publish, everyone.Publish)
		g.Private = slices.Concat(p.Private, everyone.Private)
		g.Delete = slices.Concat(p.Delete, everyone.Delete)
		g.Admin = p.Admin || everyone.Admin
	}
	return g
}

// readClaims reads the payload of a token whose signature holds. A claim that is not of its
// type is an error, not one that is missing.
func readClaims(payload []byte) (*Claims, error) {
	members, err := readObject("payload", payload)
	if err != nil {
		return nil, err
	}
	var (
		c             Claims
		audience      jwt.Audience
		exp, nbf, iat jwt.NumericDate
	)
	for _, claim := range []struct {
		name, want string
		to         any
	}{
		{"iss", "text", &c.Issuer},
		{"sub", "text", &c.Subject},
		{"aud", "text, or a list of texts", &audience},
		{"exp", "a number, of seconds since 1970", &exp},
		{"nbf", "a number, of seconds since 1970", &nbf},
		{"iat", "a number, of seconds since 1970", &iat},
	} {
		raw, ok := members[claim.name]
		if ok && (isNull(raw) || json.Unmarshal(raw, claim.to) != nil) {
			return nil, refuse(claim.name, "the token's claim %s must be %s", claim.name, claim.want)
		}
	}
	c.Audience = audience
	for _, date := range []struct {
		name string
		from jwt.NumericDate
		to   *time.Time
	}{{"exp", exp, &c.Expires}, {"nbf", nbf, &c.NotBefore}, {"iat", iat, &c.IssuedAt}} {
		if members[date.name] != nil {
			*date.to = date.from.Time()
		}
	}
	if c.Permissions, err = readPermissions(members["tidewire"]); err != nil {
		return nil, err
	}
	return &c, nil
}

// readPermissions reads the claim "tidewire". Errors name no pattern, as they go to who
// sends the token.
func readPermissions(raw json.RawMessage) (p Permissions, err error) {
	if raw == nil {
		return p, refuse("tidewire", "the token does not say what may be done: it needs a claim %s", claimExample)
	}
	var members map[string]json.RawMessage
	if isNull(raw) || json.Unmarshal(raw, &members) != nil {
		return p, refuse("tidewire", "the token's claim tidewire must be an object: %s", claimExample)
	}
	lists := map[string]*[]string{}
	for _, list := range p.lists() {
		lists[list.name] = list.patterns
	}
	allPrivate, total := false, 0
	for name, raw := range members {
		list := lists[name]
		switch {
		case name == "admin":
			if isNull(raw) || json.Unmarshal(raw, &p.Admin) != nil {
				return p, refuse("tidewire", "in the token's claim tidewire, admin must be true or false")
			}
		case list == nil:
			return p, refuse("tidewire", "the token's claim tidewire has %s, and can have subscribe, publish, private, delete and admin", quote(name))
		case name == "private" && json.Unmarshal(raw, &allPrivate) == nil && !isNull(raw):
		case isNull(raw) || hasNull(raw) || json.Unmarshal(raw, list) != nil:
			return p, refuse("tidewire", "in the token's claim tidewire, %s must be a list of patterns, such as [\"news/*\"]", name)
		}
		if list == nil {
			continue
		}
		for i, pattern := range *list {
			if hub.CheckPattern(pattern) != nil {
				return p, refuse("tidewire", "in the token's claim tidewire, number %d of %s is no pattern: it must be a topic in which a whole segment may be *, and the last one **", i+1, name)
			}
		}
		total += len(*list)
	}
	if total > maxPatterns {
		return p, refuse("tidewire", "the token's claim tidewire has %d patterns, more than %d: use fewer, with * and **", total, maxPatterns)
	}
	if allPrivate {
		p.Private = p.Subscribe
	}
	return p, nil
}

// readObject reads the members of a part of a token. A name that comes twice is an error
// here: readers disagree on which of them counts (RFC 8725, section 2.4).
func readObject(part string, text []byte) (members map[string]json.RawMessage, err error) {
	switch {
	case !utf8.Valid(text):
		return nil, refuse("", "the token's %s is not UTF-8: have it made by a library for JWT", part)
	case deeperThan(maxDepth, text):
		return nil, refuse("", "the token's %s has objects and arrays in one another deeper than %d: leave claims out of it", part, maxDepth)
	}
	if err := json.Unmarshal(text, &members); err != nil || members == nil {
		return nil, refuse("", "the token's %s is not a JSON object in which each name comes once: have it made by a library for JWT", part)
	}
	return members, nil
}

// deeperThan looks at brackets only: what is no JSON at all is found later.
func deeperThan(most int, text []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > most {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

func isNull(raw json.RawMessage) bool { return strings.TrimSpace(string(raw)) == "null" }

// hasNull tells whether a list has a null in it, which would be read as an empty text.
func hasNull(raw json.RawMessage) bool {
	var elements []json.RawMessage
	if json.Unmarshal(raw, &elements) != nil {
		return false
	}
	for _, e := range elements {
		if isNull(e) {
			return true
		}
	}
	return false
}
