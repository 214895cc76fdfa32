package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json"
	"github.com/spf13/cobra"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/hub"
)

const (
	maxTokenInput = 64 << 10 // bytes
	maxTokenSize  = 8 << 10  // that servers take
)

// A tokenExplain has the flags.
type tokenExplain struct {
	std   IO
	key   string
	jwks  string
	token string

	odd []string // what is strange about the token
}

func newTokenExplainCommand(std IO) *cobra.Command {
	c := &tokenExplain{std: std}
	cmd := &cobra.Command{
		Use:   "explain [flags] [TOKEN|-]",
		Short: "Say what a token grants, and what is odd about it",
		Long: `Say in words what a token grants, until when, and what is odd about it. It is read from
standard input, so that it stands in no shell history. Anyone can write such a token:
whether its signature holds is checked with --key or --jwks only.

Exit codes: 0 explained; 1 it is no token, or with --key or --jwks a server would refuse
it; 2 wrong usage.`,
		Example: `  tidewire token explain < token
  tidewire token explain --key EdDSA:public.pem < token
  tidewire token explain --jwks https://login.example.com/jwks.json < token`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("explain takes one token, and got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd, args) },
	}
	cmd.Flags().StringVar(&c.key, "key", "", "check the signature with this public key or secret, as `ALG:FILE` or ALG:FILE#kid")
	cmd.Flags().StringVar(&c.jwks, "jwks", "", "check the signature with the keys at this `URL`")
	return cmd
}

func (c *tokenExplain) run(cmd *cobra.Command, args []string) error {
	if err := exclusive(cmd, "key", "jwks"); err != nil {
		return err
	}
	if err := c.read(args); err != nil {
		return err
	}
	header, payload, err := splitToken(c.token)
	if err != nil {
		return err
	}
	server, err := c.server()
	if err != nil {
		return err
	}
	var said bytes.Buffer
	c.header(&said, header)
	c.claims(&said, payload)
	var refusal error
	if server == nil {
		fmt.Fprintf(&said, "signature  not checked: --key or --jwks does\n")
	} else if refusal = c.verify(cmd.Context(), server); refusal == nil {
		fmt.Fprintf(&said, "signature  holds\n")
	}
	for _, odd := range c.odd {
		fmt.Fprintf(&said, "odd        %s\n", odd)
	}
	if _, err := c.std.Out.Write(appendVisible(nil, said.String(), "\n")); err != nil {
		return err
	}
	return refusal
}

// read takes the token out of what may be a whole header.
func (c *tokenExplain) read(args []string) error {
	if len(args) == 1 && args[0] != "-" {
		c.token = args[0]
	} else {
		b, err := io.ReadAll(io.LimitReader(c.std.In, maxTokenInput+1))
		if err != nil {
			return fmt.Errorf("cannot read the token: %w", err)
		}
		if len(b) > maxTokenInput {
			return fmt.Errorf("there are more than %d bytes, and no token has so many", maxTokenInput)
		}
		c.token = string(b)
	}
	c.token = strings.TrimSpace(c.token)
	for _, prefix := range []string{"Authorization:", "Bearer "} {
		if len(c.token) >= len(prefix) && strings.EqualFold(c.token[:len(prefix)], prefix) {
			c.token = strings.TrimSpace(c.token[len(prefix):])
		}
	}
	if c.token == "" {
		return usagef("explain needs a token on standard input: tidewire token explain < token")
	}
	return nil
}

// members are those of a JSON object; a name that comes twice is an error to json, as
// it is to servers.
type members map[string]json.RawMessage

// splitToken decodes the two parts of a token that say something.
func splitToken(text string) (header, payload members, err error) {
	if strings.HasPrefix(text, "tw_") {
		return nil, nil, errors.New("it is a publisher key and no token: tidewire key list says what it may do")
	}
	parts := strings.Split(text, ".")
	switch len(parts) {
	case 3:
	case 5:
		return nil, nil, errors.New("it is encrypted (JWE), and a server reads signed tokens (JWS)")
	default:
		return nil, nil, fmt.Errorf("it has %d parts, and a token has three with dots between them", len(parts))
	}
	for i, to := range []*members{&header, &payload} {
		name := []string{"header", "payload"}[i]
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return nil, nil, fmt.Errorf("its %s is not base64url", name)
		}
		if err := json.Unmarshal(b, to); err != nil || *to == nil {
			return nil, nil, fmt.Errorf("its %s is not a JSON object in which each name comes once", name)
		}
	}
	return header, payload, nil
}

func (c *tokenExplain) note(format string, args ...any) {
	c.odd = append(c.odd, fmt.Sprintf(format, args...))
}

func (c *tokenExplain) header(w io.Writer, h members) {
	var alg, kid string
	if json.Unmarshal(h["alg"], &alg) != nil {
		alg = "none that can be read"
	}
	named := ""
	if h["kid"] != nil && json.Unmarshal(h["kid"], &kid) == nil {
		named = fmt.Sprintf(", kid %q", kid)
	}
	fmt.Fprintf(w, "algorithm  %s%s\n", alg, named)
	if strings.EqualFold(alg, "none") {
		c.note("alg is none: it has no signature, and every server refuses it")
	}
	for _, name := range []string{"crit", "b64"} {
		if h[name] != nil {
			c.note("the header has %s: servers refuse it", name)
		}
	}
	for _, name := range []string{"jwk", "jku", "x5u", "x5c"} {
		if h[name] != nil {
			c.note("the header has %s: servers never take a key from there", name)
		}
	}
	if len(c.token) > maxTokenSize {
		c.note("it has %d bytes: servers refuse more than %d", len(c.token), maxTokenSize)
	}
}

func (c *tokenExplain) claims(w io.Writer, p members) {
	for _, claim := range []struct{ name, title string }{{"sub", "subject"}, {"iss", "issuer"}} {
		if text := ""; p[claim.name] != nil && json.Unmarshal(p[claim.name], &text) == nil {
			fmt.Fprintf(w, "%-11s%s\n", claim.title, text)
		} else if p[claim.name] != nil {
			c.note("%s must be text", claim.name)
		}
	}
	if raw := p["aud"]; raw != nil {
		fmt.Fprintf(w, "audience   %s\n", raw)
	}
	c.dates(w, p)
	c.permissions(w, p["tidewire"])
}

func (c *tokenExplain) dates(w io.Writer, p members) {
	now := c.std.Now()
	for _, claim := range []struct{ name, title string }{{"iat", "issued"}, {"nbf", "valid from"}, {"exp", "expires"}} {
		if p[claim.name] == nil {
			continue
		}
		var seconds float64
		if string(p[claim.name]) == "null" || json.Unmarshal(p[claim.name], &seconds) != nil {
			c.note("%s must be a number, of seconds since 1970", claim.name)
			continue
		}
		if seconds > 1e11 {
			c.note("%s is beyond the year 5000: it must be seconds since 1970, and these may be milliseconds", claim.name)
			continue
		}
		at := time.Unix(int64(seconds), 0)
		fmt.Fprintf(w, "%-11s%s, %s\n", claim.title, at.UTC().Format(time.RFC3339), away(at.Sub(now)))
		switch {
		case claim.name == "exp" && !now.Before(at):
			c.note("it has expired")
		case claim.name != "exp" && now.Before(at):
			c.note("%s is in the future: the clock of who made it may be wrong", claim.name)
		}
	}
	if p["exp"] == nil {
		fmt.Fprintf(w, "expires    never\n")
		c.note("it has no exp: who finds it can use it for ever, or until its key goes")
	}
}

func away(d time.Duration) string {
	if d < 0 {
		return (-d).Round(time.Second).String() + " ago"
	}
	return "in " + d.Round(time.Second).String()
}

// permissions says what the claim "tidewire" grants.
func (c *tokenExplain) permissions(w io.Writer, raw json.RawMessage) {
	var claim members
	if raw == nil || json.Unmarshal(raw, &claim) != nil || claim == nil {
		c.note(`it has no claim "tidewire" that is an object in which each name comes once, and servers refuse it: it needs "tidewire": {"subscribe": ["news/*"]}`)
		return
	}
	total := 0
	for _, name := range []string{"subscribe", "publish", "private", "delete"} {
		patterns := c.patterns(name, claim)
		total += len(patterns)
		if len(patterns) == 0 {
			patterns = []string{"nothing"}
		}
		fmt.Fprintf(w, "%-11s%s\n", name, strings.Join(patterns, " "))
	}
	var admin bool
	if claim["admin"] != nil && json.Unmarshal(claim["admin"], &admin) != nil {
		c.note("admin must be true or false")
	}
	if admin {
		fmt.Fprintf(w, "admin      yes: others' streams may be seen and ended\n")
	}
	if total == 0 && !admin {
		c.note("it grants nothing")
	}
	for _, name := range slices.Sorted(maps.Keys(claim)) {
		if !slices.Contains([]string{"subscribe", "publish", "private", "delete", "admin"}, name) {
			c.note("the claim tidewire has %q, which means nothing: servers refuse it", name)
		}
	}
}

// patterns returns those of a list, and notes what is wrong with them.
func (c *tokenExplain) patterns(name string, claim members) (patterns []string) {
	raw := claim[name]
	var all bool
	switch {
	case raw == nil:
		return nil
	case name == "private" && json.Unmarshal(raw, &all) == nil && string(raw) != "null":
		if all {
			return []string{"all that subscribe has"}
		}
		return nil
	case json.Unmarshal(raw, &patterns) != nil || patterns == nil:
		c.note("%s must be a list of patterns: servers refuse it", name)
		return nil
	}
	for _, p := range patterns {
		if err := hub.CheckPattern(p); err != nil {
			c.note("%s: %q: %v: servers refuse it", name, p, err)
		}
		if p == "**" {
			c.note("%s has **, which is every topic", name)
		}
	}
	return patterns
}

// server returns what checks the signature, or nil without --key and --jwks.
func (c *tokenExplain) server() (*auth.Authority, error) {
	o := &auth.Options{Leeway: -1, Now: c.std.Now, Logger: slog.New(slog.NewTextHandler(c.std.Err, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	switch {
	case c.key != "":
		k, err := auth.ParseKey(c.key)
		if err != nil {
			return nil, err
		}
		o.Keys = []auth.Key{k}
	case c.jwks != "":
		o.JWKS = []string{c.jwks}
	default:
		return nil, nil
	}
	a, err := auth.New(o)
	if err != nil {
		return nil, usagef("%v", err)
	}
	return a, nil
}

// verify asks what a server would say, and returns its refusal.
func (c *tokenExplain) verify(ctx context.Context, a *auth.Authority) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, "/events", nil)
	if err != nil {
		return errors.Join(err, a.Close())
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	_, err = a.Authorize(nil, r, &hub.Access{Action: hub.ActionDescribe})
	var refusal *hub.RequestError
	if errors.As(err, &refusal) {
		err = errors.New("a server would refuse it: " + refusal.Detail)
	}
	return errors.Join(err, a.Close())
}
