package memory

// A queue is a list that grows at its end and shrinks at its front, with access by
// index. The zero queue is empty.
type queue[T any] struct {
	items []T
	head  int
}

func (q *queue[T]) len() int   { return len(q.items) - q.head }
func (q *queue[T]) at(i int) T { return q.items[q.head+i] }
func (q *queue[T]) front() T   { return q.items[q.head] }
func (q *queue[T]) push(v T)   { q.items = append(q.items, v) }

// pop removes the front, and now and then moves the rest there, in constant time on
// average.
func (q *queue[T]) pop() T {
	var zero T
	v := q.items[q.head]
	q.items[q.head] = zero
	q.head++
	if q.head > 64 && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return v
}

// filter keeps what keep returns true for.
func (q *queue[T]) filter(keep func(T) bool) {
	n := 0
	for _, v := range q.items[q.head:] {
		if keep(v) {
			q.items[n] = v
			n++
		}
	}
	clear(q.items[n:])
	q.items, q.head = q.items[:n], 0
}

// recent is a map that forgets its oldest entry when it has too many.
type recent[T any] struct {
	limit int
	m     map[string]T
	old   queue[string]
}

func newRecent[T any](limit int) *recent[T] {
	return &recent[T]{limit: limit, m: make(map[string]T)}
}

func (r *recent[T]) get(k string) (T, bool) {
	v, ok := r.m[k]
	return v, ok
}

// put adds an entry, which is not there yet, and returns the one that had to go.
func (r *recent[T]) put(k string, v T) (forgotten string, ok bool) {
	if k == "" {
		return "", false
	}
	r.m[k] = v
	r.old.push(k)
	if r.old.len() <= r.limit {
		return "", false
	}
	forgotten = r.old.pop()
	delete(r.m, forgotten)
	return forgotten, true
}
