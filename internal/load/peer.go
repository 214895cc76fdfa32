package load

import (
	"fmt"
	"strings"
)

// A Peer is how a server that is none of ours is spoken to. An event's data is the body
// of a publish, which any 2xx answers, and who comes back says Last-Event-ID.
type Peer struct {
	// Subscribe and Publish are paths, with a query if need be, that have the text
	// {topic} once. It stands for the topic's name, six digits.
	Subscribe, Publish string
}

const peerTopic = "{topic}"

func (p *Peer) check(note func(option, format string, args ...any), o *Options) {
	for _, path := range []string{p.Subscribe, p.Publish} {
		if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, " \r\n") || strings.Count(path, peerTopic) != 1 {
			note("peer", "%q must be a path that has %s once", path, peerTopic)
		}
	}
	if o.Batch > 1 {
		note("batch", "must be 1 for a server that is none of ours")
	}
	if o.TopicPrefix != "" {
		note("topic-prefix", "does not go with a server that is none of ours")
	}
}

// A place is where a topic's name stands in a path.
type place struct{ before, after string }

func newPlace(path string) place {
	before, after, _ := strings.Cut(path, peerTopic)
	return place{before, after}
}

func (p place) of(topic string) string { return p.before + topic + p.after }

// places returns where is subscribed and published.
func (o *Options) places(prefix string) (subscribe, publish place) {
	base := strings.TrimRight(o.URL.EscapedPath(), "/")
	if o.Peer != nil {
		return newPlace(base + o.Peer.Subscribe), newPlace(base + o.Peer.Publish)
	}
	p := newPlace(fmt.Sprintf("%s/events/%s/%s", base, prefix, peerTopic))
	return p, p
}
