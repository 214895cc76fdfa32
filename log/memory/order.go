package memory

import (
	"sort"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// tailPage is about how many records Tail yields at once.
const tailPage = 512

// An order keeps the newest records for Tail, whatever retention does to the events:
// who follows live gets everything.
type order struct {
	limit  int // of bytes
	bytes  int
	groups queue[[]hub.Record]
	gone   uint64 // the highest sequence that is no longer there
}

func (o *order) add(group []hub.Record) {
	o.groups.push(group)
	o.bytes += groupSize(group)
	for o.bytes > o.limit && o.groups.len() > 1 {
		old := o.groups.pop()
		o.bytes -= groupSize(old)
		o.gone = old[len(old)-1].Seq
	}
}

func groupSize(group []hub.Record) int {
	const perRecord = 128
	n := 0
	for i := range group {
		n += perRecord
		if ev := group[i].Event; ev != nil {
			n += ev.Size()
		}
	}
	return n
}

// above returns the next whole groups after a sequence, none if there are none yet.
func (o *order) above(after uint64) ([]hub.Record, error) {
	if after < o.gone {
		return nil, &hub.TrimmedError{After: after, Oldest: o.groups.front()[0].Seq}
	}
	n := o.groups.len()
	i := sort.Search(n, func(i int) bool {
		g := o.groups.at(i)
		return g[len(g)-1].Seq > after
	})
	var records []hub.Record
	for ; i < n && len(records) < tailPage; i++ {
		for _, r := range o.groups.at(i) {
			if r.Seq > after {
				records = append(records, r)
			}
		}
	}
	return records, nil
}

// marks remember when each record came.
type marks struct {
	list queue[mark]
	lost bool // earlier ones are gone
}

type mark struct {
	seq  uint64
	time time.Time
}

func (m *marks) add(seq uint64, t time.Time) {
	if n := m.list.len(); n > 0 && m.list.at(n-1).time.Equal(t) {
		return // the first of equal times says it all
	}
	m.list.push(mark{seq, t})
	if m.list.len() > maxMarks {
		m.list.pop()
		m.lost = true
	}
}

// before returns the highest sequence with an earlier time, or false if that time is
// before all that are remembered.
func (m *marks) before(t time.Time) (uint64, bool) {
	n := m.list.len()
	i := sort.Search(n, func(i int) bool { return !m.list.at(i).time.Before(t) })
	switch {
	case i == 0 && m.lost:
		return 0, false
	case i == n:
		return 0, false
	}
	return m.list.at(i).seq - 1, true
}
