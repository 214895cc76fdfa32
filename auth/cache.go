package auth

import (
	"crypto/sha256"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/tidewire/tidewire/hub"
)

// maxCached is how many tokens' grants are kept. With the longest tokens that is some 64 MiB.
const maxCached = 4096

type digest [sha256.Size]byte

// A cache has the grants of tokens that hold, so that a signature is checked once and not at
// each publish (BenchmarkAuthority). The tokens themselves are not in it.
type cache struct {
	entries *lru.Cache[digest, cached]
}

type cached struct {
	version uint64 // of the keys
	grant   *hub.Grant
}

func newCache() *cache {
	entries, err := lru.New[digest, cached](maxCached)
	if err != nil {
		panic(err) // the size is more than 0
	}
	return &cache{entries}
}

// get returns the grant of a token that holds with these keys, or nil. Whether it has expired
// is for the caller to see.
func (c *cache) get(token digest, version uint64) *hub.Grant {
	if entry, ok := c.entries.Get(token); ok && entry.version == version {
		return entry.grant
	}
	return nil
}

func (c *cache) put(token digest, version uint64, g *hub.Grant) {
	c.entries.Add(token, cached{version, g})
}
