package cli

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

const rsaBits = 3072

func newTokenKeygenCommand(std IO) *cobra.Command {
	var alg, out string
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make a key for tokens",
		Long: `Make a key for tokens. The private one goes to the file of --out, which only its owner
can read, and stays with who makes tokens; the public one is printed, in PEM, and is
what the server needs. HS256, HS384 and HS512 have one secret, for both: it is not
printed.

Exit codes: 0 made; 1 the file is there already, or could not be written; 2 wrong usage.`,
		Example: `  tidewire token keygen --out private.pem > public.pem
  tidewire token keygen --alg HS256 --out secret`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			algs := []string{"EdDSA", "ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "HS256", "HS384", "HS512"}
			switch {
			case !slices.Contains(algs, alg):
				return usagef("--alg is %q, and can be %s", alg, strings.Join(algs, ", "))
			case out == "":
				return usagef("--out needs the name of the file that gets the private key")
			}
			private, public, err := generateKey(alg)
			if err != nil {
				return err
			}
			if err := writeNew(out, private); err != nil {
				return err
			}
			_, err = std.Out.Write(public)
			return err
		},
	}
	cmd.Flags().StringVar(&alg, "alg", "EdDSA", "`ALGORITHM`: EdDSA, ES256 to ES512, RS256 to RS512, PS256 to PS512, HS256 to HS512")
	cmd.Flags().StringVar(&out, "out", "", "`FILE` that gets the private key; it must not be there yet")
	return cmd
}

// generateKey returns a private key, and the public one, which a secret does not have.
func generateKey(alg string) (private, public []byte, err error) {
	var key crypto.Signer
	switch alg {
	case "HS256", "HS384", "HS512":
		secret := make([]byte, 64) // as many bytes as the largest hash, in text that a shell can hold
		_, _ = rand.Read(secret)   // never fails
		return []byte(hex.EncodeToString(secret) + "\n"), nil, nil
	case "EdDSA":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "ES256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	default:
		key, err = rsa.GenerateKey(rand.Reader, rsaBits)
	}
	if err != nil {
		return nil, nil, err
	}
	privateDER, err1 := x509.MarshalPKCS8PrivateKey(key)
	publicDER, err2 := x509.MarshalPKIXPublicKey(key.Public())
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER}),
		pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER}), errors.Join(err1, err2)
}

// writeNew writes a file that was not there, for its owner alone.
func writeNew(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: name a file that is not, so that no key is lost", name)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}
