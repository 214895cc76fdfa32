package auth

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

const (
	ticketSecretFile = "ticket-secret"
	ticketSecretSize = 32 // bytes
)

// LoadTicketSecret returns the secret of [TicketOptions] from the file ticket-secret in a
// directory, and makes one that outlives a power loss if there is none. Only one process at
// a time may use the directory.
func LoadTicketSecret(dir string) ([]byte, error) {
	name := filepath.Join(dir, ticketSecretFile)
	secret, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return newTicketSecret(dir, name)
	case err != nil:
		return nil, fmt.Errorf("auth: read the secret of tickets: %w", err)
	case len(secret) != ticketSecretSize:
		return nil, fmt.Errorf("auth: %s has %d bytes, not %d: remove it to have another one made, which voids the tickets that are out", name, len(secret), ticketSecretSize)
	}
	return secret, nil
}

// newTicketSecret writes a file beside the one that is to be, and renames it.
func newTicketSecret(dir, name string) (secret []byte, err error) {
	defer func() {
		if err != nil {
			secret, err = nil, fmt.Errorf("auth: write the secret of tickets: %w", err)
		}
	}()
	secret = make([]byte, ticketSecretSize)
	rand.Read(secret)                                           // which never fails
	f, err := os.CreateTemp(dir, "."+ticketSecretFile+"-*.tmp") // with mode 0600
	if err != nil {
		return nil, err
	}
	_, err = f.Write(secret)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	if runtime.GOOS == "windows" {
		return secret, nil // which cannot sync a directory
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return secret, errors.Join(d.Sync(), d.Close())
}
