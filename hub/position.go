package hub

import (
	"context"
	"time"
)

const (
	// firstLook is how soon after an event that a subscriber did not want it is looked
	// at whether retention comes near its place; then after twice as long, and so on.
	firstLook = time.Second

	// settled is the wait in which nothing must have passed for the place to be told
	// at its end: history may go on to age without further events. Pauses that are
	// shorter cost nothing, and longer ones not much more than a comment would.
	settled = 4 * time.Second

	// maxPassed bounds the topics that are looked at. Beyond them the
	// PositionInterval must do.
	maxPassed = 16
)

// A place is what a subscriber knows of its position: the last id that it was sent. It
// falls behind the cursor where events pass that are not wanted, of another type or
// private. When retention removes one of those, who resumes from the place is told of a
// gap, as a Log knows topics only, although nothing is missing. So a subscriber that
// takes lone ids is told its position before. A nil place is of one that does not.
type place struct {
	sent   uint64
	known  bool              // the subscriber has an id at all
	passed map[string]uint64 // topics with unwanted events above sent, and the last of each
	last   uint64            // of all those events
	seen   uint64            // the same at the last look
	wait   time.Duration     // before the next look
	timer  *time.Timer
	set    bool // the timer runs, or has fired unseen
}

func newPlace(at uint64, known bool) *place {
	return &place{sent: at, known: known, passed: make(map[string]uint64), wait: firstLook}
}

// told notes that the subscriber was sent an id.
func (p *place) told(seq uint64) {
	if p == nil {
		return
	}
	p.sent, p.known = seq, true
	p.wait, p.set = firstLook, false
	for topic, last := range p.passed {
		if last <= seq {
			delete(p.passed, topic)
		}
	}
}

// behind tells whether there is a position to tell.
func (p *place) behind(position uint64) bool {
	return p != nil && (!p.known || p.sent < position)
}

// pass notes an event that a filter selects by its topics, and does not want.
func (p *place) pass(f *Filter, r *Record) {
	if p == nil {
		return
	}
	p.last = r.Seq
	for _, topic := range r.Topics {
		if _, ok := p.passed[topic]; (ok || len(p.passed) < maxPassed) && f.selectsName(topic) {
			p.passed[topic] = r.Seq
		}
	}
}

// look returns a channel that fires when it is time to call nears; nil if nothing has
// passed.
func (p *place) look() <-chan time.Time {
	switch {
	case p == nil || len(p.passed) == 0:
		return nil
	case p.timer == nil:
		p.timer = time.NewTimer(p.wait)
	case !p.set:
		p.timer.Reset(p.wait)
	}
	p.set = true
	return p.timer.C
}

// nears tells whether the end of history comes near the place: it is in the older half
// of what a topic keeps, so that at a steady pace there is as much time left as it took
// to come here, which is more than until the next look. It is also told where nothing
// comes that would show the pace.
func (p *place) nears(ctx context.Context, log Log) bool {
	if p.wait >= settled && p.seen == p.last {
		return true
	}
	p.seen, p.wait, p.set = p.last, 2*p.wait, false
	for topic := range p.passed {
		info, err := log.Topic(ctx, topic)
		if err != nil {
			return false // reading tells of it
		}
		if info.Trimmed > p.sent || info.Count > 0 && p.sent < info.Oldest+(info.Newest-info.Oldest)/2 {
			return true
		}
	}
	return false
}
