package tables

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/tidewire/tidewire/hub"
)

// The size of a page if the query does not say.
const (
	pageEvents = 1000
	pageBytes  = 1 << 20
)

// Read answers a query, as [hub.Log] has it. Where the topics that match have a good
// part of all events, it goes through the order and leaves out what does not match; else
// it merges the topics' own rows. So its cost is that of the page and of the number of
// those topics, whatever else there is.
func (t *Tables) Read(ctx context.Context, q hub.Query) (page hub.Page, err error) {
	if err := ctx.Err(); err != nil {
		return page, fmt.Errorf("tables: read: %w", err)
	}
	p := &pager{query: q, ctx: ctx, found: pages.Get().(*found)}
	defer p.found.free()
	v := t.acquire(p.match)
	defer func() { err = errors.Join(err, v.release()) }()
	p.view = v
	if p.until = v.head.seq; q.Until > 0 {
		p.until = min(p.until, q.Until)
	}
	if p.query.Limit <= 0 {
		p.query.Limit = pageEvents
	}
	if p.query.Bytes <= 0 {
		p.query.Bytes = pageBytes
	}
	if err := p.findGap(); err != nil {
		return page, err
	}
	through, err := p.read()
	if err != nil {
		return page, err
	}
	page = hub.Page{Through: max(q.After, through), Gap: p.gap, Removed: p.removed}
	page.Records, err = p.records()
	return page, err
}

// A pager makes a page.
type pager struct {
	query hub.Query
	ctx   context.Context
	view  *view
	until uint64

	all     bool            // every topic matches
	topics  map[*topic]bool // that match, unless all do
	reading []*topic        // those of them that have something above After
	count   int64           // events of those
	suspect []*topic        // topics from which an event was removed that may be kept elsewhere
	gap     bool
	removed int64

	size int // of the events found
	*found
}

// found has the rows of a page, one after the other.
type found struct {
	rows []byte
	ends []int
	seqs []uint64
}

var pages = sync.Pool{New: func() any { return new(found) }}

// free lets the next page have the memory, unless it is very much.
func (f *found) free() {
	const most = 1 << 20
	if cap(f.rows) > most {
		return
	}
	f.rows, f.ends, f.seqs = f.rows[:0], f.ends[:0], f.seqs[:0]
	pages.Put(f)
}

// match finds the query's topics, and what is known of them; Tables.mu is held.
func (p *pager) match(v *view) {
	q, t := &p.query, v.tables
	if slices.Contains(q.Patterns, "**") {
		p.all = true
		p.gap, p.removed = v.head.dead > q.After, v.head.removed
		return
	}
	p.topics = make(map[*topic]bool, len(q.Topics))
	for _, name := range q.Topics {
		if topic := t.byName[name]; topic != nil {
			p.add(topic)
		}
	}
	for _, pattern := range q.Patterns {
		t.tree.Match(pattern, p.add)
	}
}

func (p *pager) add(t *topic) {
	if p.topics[t] {
		return
	}
	p.topics[t] = true
	m := &t.seen
	p.removed += m.removed
	switch after := p.query.After; {
	case m.dead > after:
		p.gap = true
	case m.trimmed > after:
		p.suspect = append(p.suspect, t)
	}
	if m.count > 0 && m.newest > p.query.After {
		p.reading = append(p.reading, t)
		p.count += m.count
	}
}

// findGap looks whether what was removed from a topic is kept under another one that is
// asked for too.
func (p *pager) findGap() (err error) {
	if p.gap || len(p.suspect) == 0 {
		return nil
	}
	orphans, err := p.view.rows(rowOrphan)
	if err != nil {
		return err
	}
	kept, err := p.view.rows(rowTopic)
	if err != nil {
		return errors.Join(err, orphans.it.Close())
	}
	defer func() { err = errors.Join(err, orphans.it.Error(), orphans.it.Close(), kept.it.Close()) }()
	for _, t := range p.suspect {
		for ok := orphans.seekTopic(rowOrphan, t.no, p.query.After+1); ok && orphans.of(t.no); ok = orphans.next() {
			topics, err := p.view.topicsOf(orphans.it.Value())
			if err != nil {
				return err
			}
			if !p.anyKeeps(kept, topics, orphans.seq()) {
				p.gap = true
				return nil
			}
		}
	}
	return nil
}

// anyKeeps tells whether one of the topics is asked for and keeps an event.
func (p *pager) anyKeeps(rows *rows, topics []*topic, seq uint64) bool {
	return slices.ContainsFunc(topics, func(t *topic) bool {
		return p.topics[t] && rows.seekTopic(rowTopic, t.no, seq) && rows.seq() == seq
	})
}

// What a seek costs, in rows that are gone through.
const seekCost = 16

// dense tells whether going through the order is cheaper than going from topic to topic.
func (p *pager) dense() bool {
	if p.all {
		return true
	}
	limit := min(int64(p.query.Limit), p.count)
	through := float64(limit) * float64(p.view.head.count) / float64(max(p.count, 1))
	return through < seekCost*float64(int64(len(p.reading))+limit)
}

// read finds the page's events, and returns how far it has come.
func (p *pager) read() (uint64, error) {
	if !p.all && len(p.reading) == 0 || p.query.After >= p.until {
		return p.until, nil
	}
	order, err := p.view.rows(rowOrder)
	if err != nil {
		return 0, err
	}
	topics, err := p.view.rows(rowTopic)
	if err != nil {
		return 0, errors.Join(err, order.it.Close())
	}
	through, err := p.readFrom(order, topics)
	return through, errors.Join(err, order.it.Error(), order.it.Close(), topics.it.Error(), topics.it.Close())
}

func (p *pager) readFrom(order, topics *rows) (uint64, error) {
	switch {
	case p.query.Newest && p.dense():
		return p.until, p.scanBack(order, topics)
	case p.query.Newest:
		return p.until, p.mergeBack(order, topics)
	case p.dense():
		return p.scan(order, topics)
	}
	return p.merge(order, topics)
}

// take puts an event on the page, unless the page is full.
func (p *pager) take(seq uint64, row []byte) bool {
	size := sizeOf(row, p.view.topics)
	if len(p.seqs) == p.query.Limit || len(p.seqs) > 0 && p.size+size > p.query.Bytes {
		return false
	}
	p.size += size
	p.rows = append(p.rows, row...)
	p.ends = append(p.ends, len(p.rows))
	p.seqs = append(p.seqs, seq)
	return true
}

// mostScanned bounds the rows that a page goes through where few of them match.
const mostScanned = 50_000

// scan goes through the order.
func (p *pager) scan(order, topics *rows) (uint64, error) {
	through := p.query.After
	n := 0
	for ok := order.seek(p.query.After + 1); ok && order.seq() <= p.until; ok = order.next() {
		if n++; n%1024 == 0 && p.ctx.Err() != nil {
			return 0, fmt.Errorf("tables: read: %w", p.ctx.Err())
		}
		if n > mostScanned && through > p.query.After {
			return through, nil
		}
		seq := order.seq()
		wanted, err := p.wants(seq, order.it.Value(), topics)
		if err != nil {
			return 0, err
		}
		if wanted && !p.take(seq, order.it.Value()) {
			return through, nil
		}
		through = seq
	}
	return p.until, nil
}

func (p *pager) scanBack(order, topics *rows) error {
	for ok := order.seekBefore(p.until + 1); ok && order.seq() > p.query.After; ok = order.prev() {
		seq := order.seq()
		wanted, err := p.wants(seq, order.it.Value(), topics)
		if err != nil {
			return err
		}
		if wanted && !p.take(seq, order.it.Value()) {
			return nil
		}
	}
	return nil
}

// wants tells whether a record is an event that a topic which is asked for keeps.
func (p *pager) wants(seq uint64, row []byte, topics *rows) (bool, error) {
	r := reader[[]byte]{rest: row}
	var space [4]*topic
	head := readHead(&r, space[:], p.view.topics)
	if r.err != nil {
		return false, fmt.Errorf("record %d: %w", seq, r.err)
	}
	switch {
	case head.kind() != hub.KindEvent:
		return false, nil
	case p.all: // an event is in the order as long as any topic keeps it
		return true, nil
	case len(head.topics) == 1:
		return p.topics[head.topics[0]], nil
	}
	return p.anyKeeps(topics, head.topics, seq), nil
}

// A strand is the sequences of a topic's events, read ahead.
type strand struct {
	topic *topic
	seqs  []uint64
	last  uint64 // read
	done  bool
}

// strands are a heap by what comes next.
type strands []*strand

func (s strands) Len() int           { return len(s) }
func (s strands) Less(i, j int) bool { return s[i].seqs[0] < s[j].seqs[0] }
func (s strands) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *strands) Push(v any)        { *s = append(*s, v.(*strand)) }
func (s *strands) Pop() any {
	last := len(*s) - 1
	v := (*s)[last]
	*s = (*s)[:last]
	return v
}

// merge goes from topic to topic.
func (p *pager) merge(order, topics *rows) (uint64, error) {
	ahead := max(16, 2*p.query.Limit/len(p.reading))
	var heads strands
	for _, t := range p.reading {
		s := &strand{topic: t, last: p.query.After}
		if p.fill(s, topics, ahead) {
			heads = append(heads, s)
		}
	}
	heap.Init(&heads)
	through := p.query.After
	for len(heads) > 0 {
		s := heads[0]
		seq := s.seqs[0]
		if seq > through { // else it is under several of the topics
			if err := p.find(order, seq); err != nil {
				return 0, err
			}
			if !p.take(seq, order.it.Value()) {
				return through, nil
			}
			through = seq
		}
		if s.seqs = s.seqs[1:]; len(s.seqs) > 0 || p.fill(s, topics, ahead) {
			heap.Fix(&heads, 0)
		} else {
			heap.Pop(&heads)
		}
	}
	return p.until, nil
}

// fill reads some of a topic's sequences; it returns false at the end.
func (p *pager) fill(s *strand, topics *rows, ahead int) bool {
	if s.done {
		return false
	}
	s.seqs = s.seqs[:0]
	for ok := topics.seekTopic(rowTopic, s.topic.no, s.last+1); ok && topics.of(s.topic.no) && topics.seq() <= p.until; ok = topics.next() {
		s.last = topics.seq()
		if s.seqs = append(s.seqs, s.last); len(s.seqs) == ahead {
			return true
		}
	}
	s.done = true
	return len(s.seqs) > 0
}

// find goes to a record that must be there.
func (p *pager) find(order *rows, seq uint64) error {
	if order.it.Valid() && order.seq()+1 == seq {
		order.next()
	} else {
		order.seek(seq)
	}
	if !order.it.Valid() || order.seq() != seq {
		return errors.Join(fmt.Errorf("record %d: %w", seq, ErrDamaged), order.it.Error())
	}
	return nil
}

// mergeBack finds the last events of the topics.
func (p *pager) mergeBack(order, topics *rows) error {
	var seqs []uint64
	for _, t := range p.reading {
		n := 0
		for ok := topics.seekTopicBefore(rowTopic, t.no, p.until+1); ok && topics.of(t.no) && topics.seq() > p.query.After; ok = topics.prev() {
			seqs = append(seqs, topics.seq())
			if n++; n == p.query.Limit {
				break
			}
		}
	}
	slices.SortFunc(seqs, func(a, b uint64) int { return cmp.Compare(b, a) })
	seqs = slices.Compact(seqs)
	for _, seq := range seqs[:min(len(seqs), p.query.Limit)] {
		if order.seek(seq); !order.it.Valid() || order.seq() != seq {
			return errors.Join(fmt.Errorf("record %d: %w", seq, ErrDamaged), order.it.Error())
		}
		if !p.take(seq, order.it.Value()) {
			return nil
		}
	}
	return nil
}

// records makes records of the rows that were found. All texts of a page share one
// string, and all events one slice.
func (p *pager) records() ([]hub.Record, error) {
	if len(p.seqs) == 0 {
		return nil, nil
	}
	text := string(p.rows)
	records := make([]hub.Record, len(p.seqs))
	events := make([]hub.Event, len(p.seqs))
	var scratch []*topic
	begin := 0
	for i, end := range p.ends {
		rec, head, err := readRecord(p.seqs[i], text[begin:end], &events[i], scratch, p.view.topics)
		if err != nil {
			return nil, err
		}
		records[i], scratch = rec, head.topics
		begin = end
	}
	if p.query.Newest {
		slices.Reverse(records)
	}
	return records, nil
}

// Tail returns records of the order above a sequence, whole groups, and whether all of
// them are still there: else the first that is.
func (t *Tables) Tail(ctx context.Context, after uint64, most int) (records []hub.Record, err error) {
	p := &pager{ctx: ctx, found: pages.Get().(*found)}
	defer p.found.free()
	v := t.acquire(nil)
	defer func() { err = errors.Join(err, v.release()) }()
	p.view = v
	if after < v.head.gone {
		return nil, &hub.TrimmedError{After: after, Oldest: v.head.gone + 1}
	}
	order, err := v.rows(rowOrder)
	if err != nil {
		return nil, err
	}
	for ok := order.seek(after + 1); ok; ok = order.next() {
		row := order.it.Value()
		p.rows = append(p.rows, row...)
		p.ends = append(p.ends, len(p.rows))
		p.seqs = append(p.seqs, order.seq())
		if len(p.seqs) >= most && len(row) > 0 && row[0]&flagLast != 0 {
			break
		}
	}
	if err := errors.Join(order.it.Error(), order.it.Close()); err != nil {
		return nil, fmt.Errorf("tables: tail: %w", err)
	}
	return p.records()
}
