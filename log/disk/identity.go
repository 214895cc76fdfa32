package disk

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// identityFile is in each directory. The store knows which file that is, by its number
// and the time of its birth on the file system, and no copy has both of the original's. So a
// copy, or a backup in the place of the original, is known for what it is.
const identityFile = "IDENTITY"

var newline = []byte("\n")

// An identity is what tells a directory from a copy of it.
type identity struct {
	copied bool   // the store is of another directory, or an earlier state of this one
	row    []byte // for the store: the new identity, and the one before
	file   string // the new file, to be put in place when the store has the row; "" if there is none
	target string
}

// newIdentity gives a directory a new identity, as an earlier state of the store is to be
// known too, and compares the present one with what the store knows. Other file systems than
// the operating system's have none.
func newIdentity(dir string, fs vfs.FS, known []byte) (*identity, error) {
	if vfs.Root(fs) != vfs.Default {
		return &identity{}, nil
	}
	id := &identity{target: filepath.Join(dir, identityFile)}
	present, err := fileIdentity(id.target)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("identity: %w", err)
	}
	id.copied = !knows(known, present)
	f, err := os.CreateTemp(dir, identityFile+".*.tmp")
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	id.file = f.Name()
	_, err = f.WriteString("This file tells this directory from a copy of it. " + rand.Text())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	next, err := fileIdentity(id.file)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	// Both are right until the new file is in its place.
	id.row = bytes.Join([][]byte{next, present}, newline)
	return id, nil
}

// knows tells whether a store is of the directory that has an identity.
func knows(known, present []byte) bool {
	return len(known) == 0 || len(present) > 0 && slices.ContainsFunc(bytes.Split(known, newline), func(i []byte) bool { return bytes.Equal(i, present) })
}

// isCopy tells whether a file is another one than the store knows.
func isCopy(file string, known []byte) (bool, error) {
	present, err := fileIdentity(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("disk: identity: %w", err)
	}
	return !knows(known, present), nil
}

// settle puts the new file in its place.
func (id *identity) settle() error {
	if id.file == "" {
		return nil
	}
	if err := os.Rename(id.file, id.target); err != nil {
		return fmt.Errorf("disk: identity: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(id.target), identityFile+".*.tmp"))
	for _, name := range left { // of starts that were cut off
		err = errors.Join(err, os.Remove(name))
	}
	return err
}
