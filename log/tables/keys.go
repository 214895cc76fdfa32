package tables

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/tidewire/tidewire/hub"
)

// The first byte of a row's key.
const (
	rowOrder    = 'o'
	rowTopic    = 't'
	rowOrphan   = 'r'
	rowName     = 'n'
	rowMarks    = 'm'
	rowID       = 'i'
	rowLostID   = 'l'
	rowKey      = 'k'
	rowKeyTime  = 'x'
	rowGroups   = 'g'
	rowSkipped  = 'z'
	rowHead     = 'h'
	topicKeyLen = 1 + 4 + 8
)

var headKey = []byte{rowHead}

// numberKey is the key of a row that is found by one number.
func numberKey(dst []byte, row byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, row), n)
}

// topicKey is the key of a row of a topic and a sequence.
func topicKey(dst []byte, row byte, topic uint32, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(append(dst, row), topic), seq)
}

// keySeq returns the sequence at the end of a key.
func keySeq(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }

// maxPlainID is the longest id that stands in a key as it is.
const maxPlainID = 64

func idKey(dst []byte, id string) []byte {
	if len(id) <= maxPlainID {
		return append(append(dst, rowID, 0), id...)
	}
	sum := sha256.Sum256([]byte(id))
	return append(append(dst, rowID, 1), sum[:]...)
}

// keyName scopes an idempotency key to the topics of its group; "" if there is none.
func keyName(g *hub.Group) string {
	if g.Key == "" {
		return ""
	}
	topics := g.Close
	if len(g.Events) > 0 {
		topics = g.Events[0].Topics
	}
	names := slices.Sorted(slices.Values(topics))
	sum := sha256.Sum256([]byte(strings.Join(append(names, g.Key), "\x00"))) // no topic or key has a NUL
	return string(sum[:])
}

func keyRow(dst []byte, name string) []byte { return append(append(dst, rowKey), name...) }

func keyTimeRow(dst []byte, time int64, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(numberKey(dst, rowKeyTime, uint64(time)), seq)
}
