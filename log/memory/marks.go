package memory

import (
	"sort"
	"time"
)

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
