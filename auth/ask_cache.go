package auth

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	maxKeptAnswer = 8 << 10 // bytes; larger ones are asked for again
	maxKeptFor    = 24 * time.Hour
)

// An answerCache keeps the answers of an application that may be used again, and what makes
// two questions the same. It has digests of credentials, and not the credentials.
type answerCache struct {
	vary    *lru.Cache[digest, []string] // the headers that count; nil: all
	answers *lru.Cache[digest, keptAnswer]
}

type keptAnswer struct {
	*verdict
	until time.Time
}

func newAnswerCache(entries int) (*answerCache, error) {
	vary, err := lru.New[digest, []string](entries)
	if err != nil {
		return nil, err
	}
	answers, err := lru.New[digest, keptAnswer](entries)
	return &answerCache{vary, answers}, err
}

// get returns an answer that counts for a question now, or nil.
func (c *answerCache) get(q *question, now time.Time) *verdict {
	if c == nil {
		return nil
	}
	vary, ok := c.vary.Get(q.digest())
	if !ok {
		return nil
	}
	kept, ok := c.answers.Get(q.digestWith(vary))
	if !ok || !now.Before(kept.until) {
		return nil
	}
	return kept.verdict
}

// put keeps an answer if its headers say so.
func (c *answerCache) put(q *question, v *verdict, h http.Header, now time.Time) {
	if c == nil || v.size > maxKeptAnswer {
		return
	}
	vary, any := varyOf(h)
	until := now.Add(keepFor(h))
	if !v.expires.IsZero() && v.expires.Before(until) {
		until = v.expires
	}
	if any || !until.After(now) {
		return
	}
	c.vary.Add(q.digest(), vary)
	c.answers.Add(q.digestWith(vary), keptAnswer{v, until})
}

// keepFor is how long an answer may be used again (RFC 9111, section 5.2.2). Of values that
// contradict one another, or cannot be read, the shortest counts.
func keepFor(h http.Header) time.Duration {
	const none = -1 * time.Second
	own, shared := none, none
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		age := &own
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "no-store", "no-cache", "private":
			return 0
		case "s-maxage":
			age = &shared
		case "max-age":
		default:
			continue
		}
		seconds, _ := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
		if d := time.Duration(seconds) * time.Second; *age == none || d < *age {
			*age = d
		}
	}
	if shared != none {
		own = shared
	}
	return min(max(own, 0), maxKeptFor)
}

// varyOf returns the headers that an answer depends on, in order, nil if it does not say, or that
// it may depend on anything (RFC 9110, section 12.5.5).
func varyOf(h http.Header) (names []string, any bool) {
	for name := range strings.SplitSeq(strings.Join(h.Values("Vary"), ","), ",") {
		switch name = strings.TrimSpace(name); name {
		case "":
		case "*":
			return nil, true
		default:
			names = append(names, http.CanonicalHeaderKey(name))
		}
	}
	slices.Sort(names)
	return names, false
}

// digest is the same for all questions that could have the same answer.
func (q *question) digest() (d digest) {
	h := askHash{sha256.New()}
	h.texts(q.Action, q.Subject)
	h.list(q.Topics)
	h.list(q.Patterns)
	h.list(q.header["Authorization"])
	h.list(q.header["Cookie"])
	h.Sum(d[:0])
	return d
}

// digestWith is the same for all questions that an answer with this Vary counts for.
func (q *question) digestWith(vary []string) (d digest) {
	h := askHash{sha256.New()}
	common := q.digest()
	h.Write(common[:])
	if vary == nil {
		h.texts("exact", q.Method, q.URL, q.Address)
		vary = slices.Sorted(maps.Keys(q.header))
		vary = slices.DeleteFunc(vary, func(name string) bool { return name == "Last-Event-Id" })
	}
	for _, name := range vary {
		h.texts(name)
		if name == "Tidewire-Address" {
			h.texts(q.Address)
			continue
		}
		h.list(q.header[name])
	}
	h.Sum(d[:0])
	return d
}

// An askHash takes texts so that no two sequences of them are the same.
type askHash struct{ hash.Hash }

func (h askHash) texts(texts ...string) {
	for _, s := range texts {
		h.length(len(s))
		h.Write([]byte(s))
	}
}

func (h askHash) list(texts []string) {
	h.length(len(texts))
	h.texts(texts...)
}

func (h askHash) length(n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	h.Write(b[:])
}
