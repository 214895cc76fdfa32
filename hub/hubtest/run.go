package hubtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// everything is the pattern of all topics.
var everything = []string{"**"}

// A run is a check under way.
type run struct {
	testing.TB
	h        Harness
	ctx      context.Context // ends with the patience
	patience time.Duration
}

// need skips the check if the harness lacks a hook.
func (t *run) need(has bool, hook string) {
	t.Helper()
	if !has {
		t.Skipf("the harness has no %s", hook)
	}
}

// must ends the check with an error.
func (t *run) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (t *run) open(c Config) *probe {
	t.Helper()
	return &probe{Log: t.h.Open(t, c), t: t}
}

func (t *run) handles(c Config, n int) []*probe {
	t.Helper()
	t.need(t.h.Handles != nil, "Handles")
	var all []*probe
	for _, l := range t.h.Handles(t, c, n) {
		all = append(all, &probe{Log: l, t: t})
	}
	return all
}

func (t *run) reopen(l *probe, crash bool) *probe {
	t.Helper()
	return &probe{Log: t.h.Reopen(t, l.Log, crash), t: t}
}

// A clock is set by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

// clock returns a clock for a Config.
func (t *run) clock() *clock {
	if t.h.NoClock {
		t.Skip("the harness has NoClock")
	}
	return &clock{now: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// await waits for what must happen soon.
func (t *run) await(done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
		return
	case <-t.ctx.Done():
	}
	select {
	case <-done: // what ends with its context is not in the way of what comes next
	case <-time.After(t.patience / 10):
	}
	t.Fatalf("waited in vain for %s", what)
}

// A crew is goroutines that work together: the first error ends them all.
type crew struct {
	t      *run
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
}

func (t *run) crew() *crew {
	c := &crew{t: t}
	c.ctx, c.cancel = context.WithCancelCause(t.ctx)
	return c
}

// add starts n workers, numbered from 0.
func (c *crew) add(n int, work func(ctx context.Context, i int) error) {
	for i := range n {
		c.wg.Go(func() {
			if err := work(c.ctx, i); err != nil {
				c.cancel(err)
			}
		})
	}
}

// wait ends the check with the crew's first error.
func (c *crew) wait() {
	c.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.wg.Wait()
	}()
	c.t.await(done, "calls that should have returned")
	err := context.Cause(c.ctx)
	c.cancel(nil)
	c.t.must(err)
}

// group returns a group of events for one topic.
func group(topic string, data ...string) *hub.Group {
	g := &hub.Group{ID: rand.Text()}
	for _, d := range data {
		g.Events = append(g.Events, hub.Event{Data: d, Topics: []string{topic}})
	}
	return g
}

// A probe is a Log whose every error ends the check. It belongs to the check's own
// goroutine; workers use the Log and return their errors.
type probe struct {
	hub.Log
	t *run
}

func (p *probe) put(g *hub.Group) hub.Receipt {
	p.t.Helper()
	r, err := p.Append(p.t.ctx, g)
	if err != nil {
		p.t.Fatalf("append: %v", err)
	}
	if len(r.Sequences) != len(g.Events) {
		p.t.Fatalf("got %d sequences for %d events", len(r.Sequences), len(g.Events))
	}
	return r
}

// add appends events and returns the sequence of the last one.
func (p *probe) add(topic string, data ...string) uint64 {
	p.t.Helper()
	return last(p.put(group(topic, data...)).Sequences)
}

// post appends one event under several topics and returns its sequence.
func (p *probe) post(data string, topics ...string) uint64 {
	p.t.Helper()
	g := group(topics[0], data)
	g.Events[0].Topics = topics
	return p.put(g).Sequences[0]
}

func (p *probe) closeTopic(topic string) {
	p.t.Helper()
	p.put(&hub.Group{ID: rand.Text(), Close: []string{topic}})
}

func (p *probe) forget(topic string) {
	p.t.Helper()
	p.put(&hub.Group{ID: rand.Text(), Forget: topic})
}

// refuse appends what must be refused.
func (p *probe) refuse(g *hub.Group, want error) {
	p.t.Helper()
	r, err := p.Append(p.t.ctx, g)
	if !errors.Is(err, want) {
		p.t.Fatalf("got %v with error %v, want error %v", r.Sequences, err, want)
	}
}

// conflict appends what must meet a conflict.
func (p *probe) conflict(g *hub.Group) *hub.ConflictError {
	p.t.Helper()
	r, err := p.Append(p.t.ctx, g)
	var conflict *hub.ConflictError
	if !errors.As(err, &conflict) {
		p.t.Fatalf("got %v with error %v, want a *ConflictError", r.Sequences, err)
	}
	return conflict
}

func (p *probe) page(q hub.Query) hub.Page {
	p.t.Helper()
	page, err := readPage(p.t.ctx, p, q)
	p.t.must(err)
	return page
}

// all returns what q selects, page by page.
func (p *probe) all(q hub.Query) []hub.Record {
	p.t.Helper()
	records, err := readAll(p.t.ctx, p, q)
	p.t.must(err)
	return records
}

// expect checks which events q selects.
func (p *probe) expect(q hub.Query, want ...uint64) {
	p.t.Helper()
	if got := sequences(p.all(q)); !slices.Equal(got, want) {
		p.t.Fatalf("read %+v: got sequences %d, want %d", q, got, want)
	}
}

func (p *probe) info(topic string) hub.TopicInfo {
	p.t.Helper()
	info, err := p.Topic(p.t.ctx, topic)
	if err != nil {
		p.t.Fatalf("topic %q: %v", topic, err)
	}
	return info
}

func (p *probe) locate(c hub.Cursor) hub.Location {
	p.t.Helper()
	loc, err := p.Locate(p.t.ctx, c)
	if err != nil {
		p.t.Fatalf("locate %+v: %v", c, err)
	}
	return loc
}

// found checks where a cursor points.
func (p *probe) found(c hub.Cursor, want uint64) {
	p.t.Helper()
	if loc := p.locate(c); loc != (hub.Location{Seq: want}) {
		p.t.Fatalf("locate %+v: got %+v, want %d", c, loc, want)
	}
}

// lost checks that a cursor cannot be found, and points to where everything comes after.
func (p *probe) lost(c hub.Cursor, want hub.Lost) {
	p.t.Helper()
	loc := p.locate(c)
	if loc.Lost != want {
		p.t.Fatalf("locate %+v: got %+v, want lost %q", c, loc, want)
	}
	if oldest := p.Head().Oldest; loc.Seq >= oldest {
		p.t.Fatalf("locate %+v: got %+v, which leaves out sequence %d", c, loc, oldest)
	}
}

func (p *probe) sync() hub.Head {
	p.t.Helper()
	head, err := p.Sync(p.t.ctx)
	if err != nil {
		p.t.Fatalf("sync: %v", err)
	}
	return head
}

// readPage reads a page and checks what holds for every page.
func readPage(ctx context.Context, l hub.Log, q hub.Query) (hub.Page, error) {
	page, err := l.Read(ctx, q)
	if err != nil {
		return page, fmt.Errorf("read %+v: %w", q, err)
	}
	before, bytes := q.After, 0
	for i, r := range page.Records {
		switch {
		case r.Kind != hub.KindEvent || r.Event == nil:
			return page, fmt.Errorf("read %+v: got kind %d, want events only", q, r.Kind)
		case r.Seq <= before:
			return page, fmt.Errorf("read %+v: got sequence %d after %d", q, r.Seq, before)
		case q.Until > 0 && r.Seq > q.Until:
			return page, fmt.Errorf("read %+v: got sequence %d", q, r.Seq)
		case q.Limit > 0 && i >= q.Limit:
			return page, fmt.Errorf("read %+v: got %d records", q, len(page.Records))
		}
		before = r.Seq
		bytes += r.Event.Size()
	}
	if n := len(page.Records); n > 1 && q.Bytes > 0 {
		// The one that comes last, from where the page begins to fill.
		over := page.Records[n-1]
		if q.Newest {
			over = page.Records[0]
		}
		if rest := bytes - over.Event.Size(); rest >= q.Bytes {
			return page, fmt.Errorf("read %+v: got one more record after %d bytes", q, rest)
		}
	}
	switch head := l.Head().Seq; {
	case page.Through < before:
		return page, fmt.Errorf("read %+v: got through %d, want at least %d", q, page.Through, before)
	case page.Through > max(head, before):
		return page, fmt.Errorf("read %+v: got through %d, beyond head %d", q, page.Through, head)
	}
	return page, nil
}

// readAll reads up to q.Until, or to where the head is now.
func readAll(ctx context.Context, l hub.Log, q hub.Query) ([]hub.Record, error) {
	if q.Until == 0 {
		q.Until = l.Head().Seq
	}
	var records []hub.Record
	for q.After < q.Until {
		page, err := readPage(ctx, l, q)
		if err != nil {
			return nil, err
		}
		if page.Through == q.After {
			return nil, fmt.Errorf("read %+v: through does not move", q)
		}
		records = append(records, page.Records...)
		q.After = page.Through
	}
	return records, nil
}

// A tailer collects what a Tail yields.
type tailer struct {
	t     *run
	stop  context.CancelFunc
	ended chan struct{} // closed when the Tail has

	mu      sync.Mutex
	batches [][]hub.Record
	last    uint64 // the sequence yielded last
	err     error
	more    chan struct{} // closed and replaced when there is more
}

// tail starts a Tail, which ends with the check.
func (p *probe) tail(after uint64) *tailer {
	ctx, cancel := context.WithCancel(p.t.ctx)
	t := &tailer{t: p.t, stop: cancel, ended: make(chan struct{}), more: make(chan struct{})}
	go t.collect(ctx, p.Log, after)
	p.t.Cleanup(t.finish)
	return t
}

func (t *tailer) collect(ctx context.Context, l hub.Log, after uint64) {
	defer close(t.ended)
	for batch, err := range l.Tail(ctx, after) {
		t.mu.Lock()
		if len(batch) > 0 {
			t.batches = append(t.batches, slices.Clone(batch))
			t.last = last(batch).Seq
		}
		t.err = err
		close(t.more)
		t.more = make(chan struct{})
		t.mu.Unlock()
	}
}

// records returns what was yielded up to now.
func (t *tailer) records() []hub.Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Concat(t.batches...)
}

// until waits for a record with at least that sequence, and returns all up to it.
func (t *tailer) until(seq uint64) []hub.Record {
	t.t.Helper()
	for {
		t.mu.Lock()
		reached, err, more := t.last, t.err, t.more
		t.mu.Unlock()
		if reached >= seq {
			records := t.records()
			n := slices.IndexFunc(records, func(r hub.Record) bool { return r.Seq >= seq })
			return records[:n+1]
		}
		if err != nil {
			t.t.Fatalf("tail: got %v after sequence %d, before %d", err, reached, seq)
		}
		select {
		case <-more:
		case <-t.ended:
			if t.reached() == reached {
				t.t.Fatalf("tail: ended with %v after sequence %d, before %d", t.error(), reached, seq)
			}
		case <-t.t.ctx.Done():
			t.t.Fatalf("tail: waited for sequence %d in vain, after %d", seq, reached)
		}
	}
}

// ends waits until a sequence is reached, or the Tail has ended, and returns its error.
func (t *tailer) ends(seq uint64) error {
	t.t.Helper()
	for {
		t.mu.Lock()
		reached, err, more := t.last, t.err, t.more
		t.mu.Unlock()
		if reached >= seq || err != nil {
			return err
		}
		select {
		case <-more:
		case <-t.ended:
			return t.error()
		case <-t.t.ctx.Done():
			t.t.Fatalf("tail: waited for sequence %d in vain, after %d", seq, reached)
		}
	}
}

func (t *tailer) reached() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// end waits until the Tail ends and returns its error.
func (t *tailer) end() error {
	t.t.Helper()
	t.t.await(t.ended, "a Tail that should end")
	return t.error()
}

// finish stops the Tail.
func (t *tailer) finish() {
	t.stop()
	select {
	case <-t.ended:
	case <-time.After(t.t.patience):
		t.t.Fatal("a Tail does not end with its context")
	}
}

func (t *tailer) error() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// last returns the last element.
func last[T any](s []T) T { return s[len(s)-1] }

// ref returns a pointer for Group.IfLast.
func ref(seq uint64) *uint64 { return &seq }

func sequences(records []hub.Record) []uint64 {
	var all []uint64
	for _, r := range records {
		all = append(all, r.Seq)
	}
	return all
}

// events returns the records that are events.
func events(records []hub.Record) []hub.Record {
	return slices.DeleteFunc(slices.Clone(records), func(r hub.Record) bool { return r.Kind != hub.KindEvent })
}

// difference says in what two readers disagree, "" for nothing.
func difference(got, want []hub.Record) string {
	for i := range min(len(got), len(want)) {
		g, w := got[i], want[i]
		if g.Seq != w.Seq || g.Kind != w.Kind || !g.Time.Equal(w.Time) || !slices.Equal(g.Topics, w.Topics) || !reflect.DeepEqual(g.Event, w.Event) {
			return fmt.Sprintf("record %d: got %s, want %s", i, describe(g), describe(w))
		}
	}
	if len(got) != len(want) {
		return fmt.Sprintf("got %d records, want %d", len(got), len(want))
	}
	return ""
}

func describe(r hub.Record) string {
	s := fmt.Sprintf("{seq %d, kind %d, %s, topics %.40q", r.Seq, r.Kind, r.Time.UTC().Format(time.RFC3339Nano), r.Topics)
	if r.Event != nil {
		s += fmt.Sprintf(", event %.200q", fmt.Sprintf("%+v", *r.Event))
	}
	return s + "}"
}

// sameReceipt tells whether a repeat got what the first one got.
func sameReceipt(a, b hub.Receipt) bool {
	return a.Epoch == b.Epoch && slices.Equal(a.Sequences, b.Sequences) && a.Time.Equal(b.Time)
}
