package hub

import "sort"

// A lane has the newest events of one selection, in order. An event's ordinal is how many
// were in the lane before it. hotLog.mu guards it.
type lane struct {
	items []*item
	base  uint64 // the ordinal of the first
	from  uint64 // every event of the selection above this sequence is here
	gzip  laneGzip
}

// end returns the ordinal of the next event.
func (l *lane) end() uint64 { return l.base + uint64(len(l.items)) }

// last returns the newest event, nil if there is none.
func (l *lane) last() *item {
	if len(l.items) == 0 {
		return nil
	}
	return l.items[len(l.items)-1]
}

func (l *lane) push(it *item) {
	l.items = append(l.items, it)
	it.lanes = append(it.lanes, l)
}

// drop lets go of the oldest event, if it is that.
func (l *lane) drop(it *item) {
	if len(l.items) == 0 || l.items[0] != it {
		return
	}
	l.items[0] = nil
	l.items = l.items[1:]
	l.base++
	l.from = it.Seq
	l.gzip.drop(l.base)
	if len(l.items) == 0 {
		l.items = nil
	}
}

// reset lets go of everything up to a sequence, which nothing here is above.
func (l *lane) reset(seq uint64) {
	l.base = l.end()
	l.items, l.from = nil, seq
	l.gzip.drop(l.base)
}

// skip is reset where there may have been events that have never been here: nobody's place
// is in the lane any more, not even one that had everything.
func (l *lane) skip(seq uint64) {
	l.reset(seq)
	l.base++
}

// join returns the ordinal of the first event above a sequence, and false if the lane does
// not reach back so far.
func (l *lane) join(after uint64) (ordinal uint64, ok bool) {
	if after < l.from {
		return 0, false
	}
	i := sort.Search(len(l.items), func(i int) bool { return l.items[i].Seq > after })
	return l.base + uint64(i), true
}
