//go:build linux && !portable && (amd64 || arm64)

package hub

import (
	"maps"
	"slices"
	"time"
)

// What has passed a feed with streams: events of its topics that it does not want, since
// its streams were told their positions. It is to a feed what place is to a subscriber that
// has a goroutine. hotLog.mu guards it.
type passed struct {
	topics map[string]struct{} // nil: nothing has
	listed bool                // in engine.passing
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
		if !p.listed {
			e.passing = append(e.passing, f)
		}
		*p = passed{topics: make(map[string]struct{}), listed: true, first: seq, wait: firstLook}
	}
	if p.last = seq; len(p.topics) < maxPassed {
		p.topics[topic] = struct{}{}
	}
}

// lookOut has streams told their positions before retention comes to what has passed
// them unwanted. One of the shards begins it, and none waits for it.
func (e *engine) lookOut(now time.Time) {
	last := e.looked.Load()
	if now.UnixNano()-last < int64(firstLook/4) || !e.looked.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	due := e.due(now)
	if len(due) == 0 || !e.looking.CompareAndSwap(false, true) {
		return
	}
	e.running.Go(func() {
		defer e.looking.Store(false)
		for _, f := range due {
			if !e.isTime(f, now) {
				continue
			}
			for _, s := range e.all() {
				s.post(func() { s.tellAll(f) })
			}
		}
	})
}

// due returns the feeds that are to be looked at.
func (e *engine) due(now time.Time) (due []*feed) {
	e.hub.hot.mu.Lock()
	defer e.hub.hot.mu.Unlock()
	still := e.passing[:0]
	for _, f := range e.passing {
		p := &f.shared.passed
		switch {
		case p.topics == nil || f.shared.streams.Load() == 0:
			*p = passed{}
			continue
		case p.look.IsZero():
			p.look = now.Add(p.wait)
		case !now.Before(p.look):
			due = append(due, f)
		}
		still = append(still, f)
	}
	clear(e.passing[len(still):])
	e.passing = still
	return due
}

// isTime tells whether a feed's streams are to be told their positions now: retention
// comes near to something that has passed, or nothing more comes that would show it.
func (e *engine) isTime(f *feed, now time.Time) bool {
	hot := e.hub.hot
	hot.mu.Lock()
	p := &f.shared.passed
	first, is := p.first, p.wait >= settled && p.seen == p.last
	p.seen, p.wait = p.last, 2*p.wait
	p.look = now.Add(p.wait)
	var topics []string
	if !is {
		topics = slices.Collect(maps.Keys(p.topics))
	}
	hot.mu.Unlock()
	for _, t := range topics {
		info, err := e.hub.log.Topic(e.hub.ctx, t)
		if err != nil {
			return false // reading tells of it
		}
		is = is || info.Trimmed >= first || info.Count > 0 && first <= info.Oldest+(info.Newest-info.Oldest)/2
	}
	if is {
		hot.mu.Lock()
		defer hot.mu.Unlock()
		*p = passed{listed: p.listed}
	}
	return is
}
