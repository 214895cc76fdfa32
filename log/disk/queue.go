package disk

import (
	"slices"
	"sync"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// roundBytes is about how much is committed at once, so that nobody waits for a very
// large commit.
const roundBytes = 8 << 20

// gatherMost is how long a round may wait for publishers who have just been answered: less
// than it would take them to wait for the next one.
const gatherMost = 400 * time.Microsecond

// A request is a group that waits for its answer.
type request struct {
	group  *hub.Group
	size   int
	result answer      // of applying it; told when it is committed
	answer chan answer // of one element: the committer does not wait
}

type answer struct {
	receipt hub.Receipt
	err     error
}

var requests = sync.Pool{New: func() any { return &request{answer: make(chan answer, 1)} }}

func newRequest(g *hub.Group, size int) *request {
	r := requests.Get().(*request)
	r.group, r.size, r.result = g, size, answer{}
	return r
}

// free gives a request back whose answer was taken.
func (r *request) free() {
	r.group, r.result = nil, answer{}
	requests.Put(r)
}

// A queue has the requests that wait for the next round.
type queue struct {
	mu     sync.Mutex
	list   []*request
	closed bool
	wake   chan struct{} // of one element: there are some, or the queue is closed
	enough int           // as many as a round that gathers waits for
	full   chan struct{} // of one element: there are so many
}

func newQueue() queue { return queue{wake: make(chan struct{}, 1), full: make(chan struct{}, 1)} }

// gather waits until there are so many requests, or for a while.
func (q *queue) gather(enough int, timer *time.Timer) {
	q.mu.Lock()
	have := len(q.list)
	q.enough = enough
	select {
	case <-q.full: // of an earlier round
	default:
	}
	closed := q.closed
	q.mu.Unlock()
	if have >= enough || closed {
		return
	}
	timer.Reset(gatherMost)
	select {
	case <-q.full:
	case <-timer.C:
	}
}

// waiting returns how many requests wait for a round.
func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.list)
}

func (q *queue) put(r *request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return hub.ErrUnavailable
	}
	if q.list = append(q.list, r); len(q.list) == 1 {
		q.signal()
	}
	if len(q.list) == q.enough {
		select {
		case q.full <- struct{}{}:
		default:
		}
	}
	return nil
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns the requests of the next round.
func (q *queue) take() (round []*request, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, 0
	for ; n < len(q.list) && (n == 0 || size+q.list[n].size <= roundBytes); n++ {
		size += q.list[n].size
	}
	round = slices.Clone(q.list[:n])
	left := copy(q.list, q.list[n:])
	clear(q.list[left:])
	if q.list = q.list[:left]; left > 0 || q.closed {
		q.signal()
	}
	return round, q.closed
}

// refuse answers all that wait.
func (q *queue) refuse(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range q.list {
		r.answer <- answer{err: err}
	}
	clear(q.list)
	q.list = q.list[:0]
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.signal()
}
