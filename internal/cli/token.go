package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tidewire/tidewire/auth"
)

const secretEnv = "TIDEWIRE_TOKEN_SECRET"

// newTokenCommand makes the commands about tokens.
func newTokenCommand(std IO) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make and explain tokens, and make keys for them",
		Long: `Make tokens (JWT) that say what their bearer may publish and subscribe to, explain
them, and make the keys that they are signed and checked with.

Exit codes: 0 said; 2 wrong usage.`,
		Args: cobra.ArbitraryArgs, // for an error of our own
		RunE: helpOrUnknown,
	}
	cmd.AddCommand(newTokenNewCommand(std), newTokenExplainCommand(std), newTokenKeygenCommand(std))
	return cmd
}

// A tokenNew has the flags.
type tokenNew struct {
	std IO
	may permissionFlags

	key, secret, kid, expires string
	subject, issuer           string
	audience                  []string
}

func newTokenNewCommand(std IO) *cobra.Command {
	c := &tokenNew{std: std}
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Make a token",
		Long: `Make a token, and print it. It is signed with the private key of --key, which is
ALG:FILE: a PEM file or a JWK, such as "tidewire token keygen" makes, or for HS256,
HS384 and HS512 the secret. Without it the secret of ` + secretEnv + ` or
--secret signs, with HS256.

Exit codes: 0 made; 1 the key could not be read; 2 wrong usage.`,
		Example: `  tidewire token new --key EdDSA:private.pem --subject alice --subscribe 'news/**'
  tidewire token new --key 'ES256:private.pem#2026' --publish 'orders/**' --expires 15m
  ` + secretEnv + `=$(cat secret) tidewire token new --subscribe '**'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&c.key, "key", "", "private key, as `ALG:FILE` or ALG:FILE#kid")
	f.StringVar(&c.secret, "secret", "", "`SECRET` of HS256, 32 bytes or more; shells keep it in their history, and not $"+secretEnv)
	f.StringVar(&c.kid, "kid", "", "`ID` of the key, which tells the server which one to check with")
	f.StringVar(&c.subject, "subject", "", "`NAME` of who has the token: sub")
	c.may.add(cmd)
	f.StringVar(&c.expires, "expires", "1h", "it is good for this `TIME`, such as 15m or 7d: exp; 0 for ever")
	f.StringVar(&c.issuer, "issuer", "", "`NAME` of who makes the token: iss")
	f.StringArrayVar(&c.audience, "audience", nil, "`NAME` of a server that it is for: aud; may be repeated")
	return cmd
}

func (c *tokenNew) run(cmd *cobra.Command) error {
	if c.expires == "0" {
		c.expires = ""
	}
	life, err := parseLifetime("expires", c.expires)
	if err := firstOf([]error{exclusive(cmd, "key", "secret"), c.may.check(), err}); err != nil {
		return err
	}
	signer, err := c.signer()
	if err != nil {
		return err
	}
	claims := &auth.Claims{
		Issuer: c.issuer, Subject: c.subject, Audience: c.audience,
		IssuedAt: c.std.Now(), Permissions: c.may.Permissions,
	}
	if life > 0 {
		claims.Expires = claims.IssuedAt.Add(life)
	}
	text, err := signer.Sign(claims)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.std.Out, text)
	return err
}

func (c *tokenNew) signer() (*auth.Signer, error) {
	key, secret := c.key, c.secret
	if secret == "" && key == "" {
		secret = c.std.Getenv(secretEnv)
	}
	switch {
	case key == "" && secret == "":
		return nil, usagef("a token is signed: give --key ALG:FILE, such as --key EdDSA:private.pem from tidewire token keygen, or a secret in $%s", secretEnv)
	case key == "":
		s, err := auth.NewSecretSigner("HS256", c.kid, secret)
		if err != nil {
			return nil, usagef("%v", err)
		}
		return s, nil
	case c.kid != "" && strings.Contains(key, "#"):
		return nil, usagef("the kid is given twice, in --key and with --kid")
	case c.kid != "":
		key += "#" + c.kid
	}
	return auth.ParseSigner(key)
}
