//go:build !linux

package load

func newClient(r *run) (client, error) { return newPortableClient(r), nil }

func (r *run) clientForm() string { return "net/http" }
