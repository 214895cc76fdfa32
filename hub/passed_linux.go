//go:build linux && !portable && (amd64 || arm64)

package hub

import "time"

// What has passed a feed with streams: events of its topics that it does not want, since
// its streams were told their positions. It is to a feed what place is to a subscriber that
// has a goroutine. hotLog.mu guards it.
type passed struct {
	topics map[string]struct{} // nil: nothing has
	first  uint64
	last   uint64
	look   time.Time     // when to look whether it is time to tell
	wait   time.Duration // before the next look
	seen   uint64        // the last one at the last look
}

// pass notes that an event passes a feed; hotLog.mu is held.
func (e *engine) pass(f *feed, topic string, seq uint64) {
	if f.shared.streams.Load() == 0 {
		return
	}
	p := &f.shared.passed
	if p.topics == nil {
		*p = passed{topics: make(map[string]struct{}), first: seq, wait: firstLook}
		e.passing = append(e.passing, f)
	}
	if p.last = seq; len(p.topics) < maxPassed {
		p.topics[topic] = struct{}{}
	}
}

// toTell returns the feeds whose streams are to be told their positions now: retention
// comes near to something that has passed, or nothing more comes that would show it.
func (e *engine) toTell(now time.Time, near func(topic string, first uint64) bool) []*feed {
	var due []*feed
	e.hub.hot.mu.Lock()
	for _, f := range e.passing {
		switch p := &f.shared.passed; {
		case p.look.IsZero():
			p.look = now.Add(p.wait)
		case !now.Before(p.look):
			due = append(due, f)
		}
	}
	e.hub.hot.mu.Unlock()
	tell := due[:0]
	for _, f := range due {
		if e.isTime(f, now, near) {
			tell = append(tell, f)
		}
	}
	return tell
}

// isTime looks at one feed.
func (e *engine) isTime(f *feed, now time.Time, near func(topic string, first uint64) bool) bool {
	e.hub.hot.mu.Lock()
	p := &f.shared.passed
	is := f.shared.streams.Load() == 0 || p.wait >= settled && p.seen == p.last
	p.seen, p.wait = p.last, 2*p.wait
	p.look = now.Add(p.wait)
	first := p.first
	topics := make([]string, 0, len(p.topics))
	for t := range p.topics {
		topics = append(topics, t)
	}
	e.hub.hot.mu.Unlock()
	for _, t := range topics {
		is = is || near(t, first) // which may ask the disk
	}
	if !is {
		return false
	}
	e.hub.hot.mu.Lock()
	defer e.hub.hot.mu.Unlock()
	f.shared.passed = passed{}
	e.passing = without(e.passing, f)
	return true
}
