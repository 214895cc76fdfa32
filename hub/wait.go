package hub

import "sync"

// A waitIndex finds those who wait for a topic. Its cost for an event is that of
// the subscribers who match, and one comparison for each different pattern.
type waitIndex struct {
	mu       sync.RWMutex
	topics   map[string]map[*cursor]struct{}
	patterns map[string]map[*cursor]struct{}
}

func newWaitIndex() *waitIndex {
	return &waitIndex{topics: make(map[string]map[*cursor]struct{}), patterns: make(map[string]map[*cursor]struct{})}
}

func (w *waitIndex) add(c *cursor) {
	w.mu.Lock()
	defer w.mu.Unlock()
	enter(w.topics, c.filter.Topics, c)
	enter(w.patterns, c.filter.Patterns, c)
}

func (w *waitIndex) remove(c *cursor) {
	w.mu.Lock()
	defer w.mu.Unlock()
	leave(w.topics, c.filter.Topics, c)
	leave(w.patterns, c.filter.Patterns, c)
}

func enter(index map[string]map[*cursor]struct{}, names []string, c *cursor) {
	for _, name := range names {
		if index[name] == nil {
			index[name] = make(map[*cursor]struct{})
		}
		index[name][c] = struct{}{}
	}
}

func leave(index map[string]map[*cursor]struct{}, names []string, c *cursor) {
	for _, name := range names {
		if delete(index[name], c); len(index[name]) == 0 {
			delete(index, name)
		}
	}
}

// wake has all cursors that a record with these topics concerns look at it.
func (w *waitIndex) wake(topics []string) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, topic := range topics {
		wake(w.topics[topic])
		for pattern, cursors := range w.patterns {
			if Match(pattern, topic) {
				wake(cursors)
			}
		}
	}
}

// wakeAll has every cursor look.
func (w *waitIndex) wakeAll() {
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, index := range []map[string]map[*cursor]struct{}{w.topics, w.patterns} {
		for _, cursors := range index {
			wake(cursors)
		}
	}
}

func wake(cursors map[*cursor]struct{}) {
	for c := range cursors {
		select {
		case c.wake <- struct{}{}:
		default: // it has not looked yet since the last time
		}
	}
}
