package disk_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/disk"
	"github.com/tidewire/tidewire/log/memory"
)

// The differential test: a Log in memory and one on disk get the same groups by the same
// clock, and whatever is asked of both must have one answer. They are two programs with
// one author's understanding of hub.Log between them, so what both get wrong in the same
// way is left to package hubtest.
//
// What may differ:
//   - epochs, and the sequences that the one on disk leaves out after a crash;
//   - Page.Through, which may go on over what does not match;
//   - where Since leads, as long as the same events are read from there. Memory knows the
//     time of every record, removed or not. The one on disk knows that of what is kept,
//     and of the newest that was removed: where the latter is not earlier than Since, it
//     begins after the last event kept that is, and tells of a gap also if all that was
//     removed since that one is earlier too;
//   - groups of several things under MaxBytes, which are left out: memory makes room after
//     each event, and disk after the group, so that what the group itself removes from
//     topics can save an older event on disk only.

const twinSteps = 120

// TestTwins_MemoryAndDiskAgree runs seeds that have found something, or could have; and
// one that nobody has seen yet.
func TestTwins_MemoryAndDiskAgree(t *testing.T) {
	seeds := uint64(20)
	switch {
	case long():
		seeds = 400
	case raced:
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { runTwins(t, seed) })
	}
	t.Run("a new seed", func(t *testing.T) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		runTwins(t, seed)
	})
}

func runTwins(t *testing.T, seed uint64) {
	w := newTwins(t, seed)
	defer w.close()
	for range twinSteps {
		w.step()
		w.compare()
		if w.chance(4) {
			w.retain()
			w.compareAll()
		}
		if w.chance(6) {
			w.reopen(w.chance(50))
			w.compareAll()
		}
	}
	w.compareAll()
}

var (
	twinTopics   = []string{"a", "a/b", "a/b/c", "a/c", "b", "b/a", "ab", "A", "c"}
	twinPatterns = []string{"**", "*", "a/**", "a/*", "*/b", "*/*", "a/b/*", "b/**", "c", "x/**"}
)

// Twins are the two Logs, and what was done to both.
type twins struct {
	t      *testing.T
	random *rand.Rand
	clock  *clock
	events bool // groups may have several, and Forget with them

	memory *memory.Log
	disk   *disk.Log
	fs     *faultyFS
	files  vfs.FS
	dir    string
	opts   *disk.Options
	skips  []twinSkip

	groups  []*hub.Group // that were stored
	ids     []string     // of publishers, that were used
	n       int          // of events
	records []hub.Record // all that there were
	done    []string     // steps, to be told if it fails
}

// A twinSkip is that the Log on disk has left out sequences.
type twinSkip struct {
	after uint64 // memory's sequence
	n     uint64
}

func newTwins(t *testing.T, seed uint64) *twins {
	w := &twins{t: t, random: rand.New(rand.NewPCG(seed, 1)), clock: newClock(), dir: "log", files: vfs.NewMem()}
	if seed%5 == 4 {
		w.dir, w.files = t.TempDir(), vfs.Default
	}
	rules, maxBytes := w.rules(), int64(0)
	w.events = true
	if w.chance(25) {
		maxBytes, w.events = w.maxBytes(), false
	}
	w.note("rules %+v, MaxBytes %d", rules, maxBytes)
	limits := hub.Limits{Group: 8, Bytes: 200}
	w.opts = &disk.Options{
		Retention: rules, MaxBytes: maxBytes, KeyLife: 10 * time.Minute, Limits: limits, Now: w.clock.Now,
		TailBytes: 4 << 10, CacheBytes: 1 << 20, MinFree: -1, Logger: quiet,
	}
	var err error
	w.memory, err = memory.New(&memory.Options{Retention: rules, MaxBytes: maxBytes, KeyLife: 10 * time.Minute, Limits: limits, Now: w.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	w.open()
	w.append(&hub.Group{ID: "first", Forget: "nobody's"}) // the one on disk has a time already
	return w
}

func (w *twins) maxBytes() int64 { return 500 + w.random.Int64N(2000) }

// retain has both keep something else.
func (w *twins) retain() {
	w.t.Helper()
	w.opts.Retention = w.rules()
	if !w.events {
		w.opts.MaxBytes = w.maxBytes()
	}
	w.note("set rules %+v, MaxBytes %d", w.opts.Retention, w.opts.MaxBytes)
	w.must(w.memory.SetRetention(w.opts.Retention, w.opts.MaxBytes))
	w.must(w.disk.SetRetention(w.opts.Retention, w.opts.MaxBytes))
	w.append(&hub.Group{ID: fmt.Sprint("retain ", len(w.done)), Forget: "nobody's"})
}

func (w *twins) open() {
	w.t.Helper()
	w.fs = newFaultyFS(w.files)
	var err error
	if w.disk, err = disk.OpenFS(w.dir, w.opts, w.fs); err != nil {
		w.fail("open: %v", err)
	}
}

func (w *twins) close() {
	_ = w.memory.Close() // returns nil
	if err := w.disk.Close(); err != nil {
		w.t.Error(err)
	}
	whole(w.t, w.dir, w.files)
}

// reopen has the Log on disk begin again, perhaps after kill -9.
func (w *twins) reopen(crash bool) {
	w.t.Helper()
	w.note("reopen, crash %v", crash)
	epoch := w.disk.Head().Epoch
	if crash {
		w.fs.crash()
		w.skips = append(w.skips, twinSkip{w.memory.Head().Seq, disk.SkippedAfterCrash})
	}
	if err := w.disk.Close(); err != nil && !crash {
		w.fail("close: %v", err)
	}
	if r := whole(w.t, w.dir, w.files); r == nil || len(r.Problems) > 0 || r.Orderly == crash || r.Copied {
		w.fail("got %+v after a crash: %v", r, crash)
	}
	w.open()
	if got := w.disk.Head().Epoch; got != epoch {
		w.fail("got epoch %q, want the old one, %q", got, epoch)
	}
}

// onDisk returns what stands for a sequence of memory's on disk, and inMemory the other
// way round.
func (w *twins) onDisk(seq uint64) uint64 {
	skipped := uint64(0)
	for _, s := range w.skips {
		if seq > s.after {
			skipped += s.n
		}
	}
	return seq + skipped
}

func (w *twins) inMemory(seq uint64) uint64 {
	for _, s := range w.skips {
		if seq > s.after {
			seq = max(s.after, seq-min(seq, s.n))
		}
	}
	return seq
}

func (w *twins) note(format string, args ...any) {
	w.done = append(w.done, fmt.Sprintf(format, args...))
}

func (w *twins) noteGroup(g *hub.Group) {
	text := fmt.Sprintf("%s: append %q", w.clock.Now().Format(time.TimeOnly), g.ID)
	for _, ev := range g.Events {
		text += fmt.Sprintf(" {%q %q, %d bytes}", ev.Topics, ev.ID, ev.Size())
	}
	if g.Key != "" {
		text += fmt.Sprintf(" key %q, sum %d", g.Key, g.Sum[0])
	}
	if g.IfLast != nil {
		text += fmt.Sprintf(" if last is %d", *g.IfLast)
	}
	w.note("%s close %q forget %q", text, g.Close, g.Forget)
}

func (w *twins) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\nafter %s\n%s", fmt.Sprintf(format, args...), w.done[0], strings.Join(w.done[max(1, len(w.done)-40):], "\n"))
}

func (w *twins) chance(percent int) bool { return w.random.IntN(100) < percent }

func (w *twins) topic() string { return twinTopics[w.random.IntN(len(twinTopics))] }

// some returns between least and most different ones.
func (w *twins) some(least, most int, of []string) []string {
	var some []string
	for _, i := range w.random.Perm(len(of))[:least+w.random.IntN(most-least+1)] {
		some = append(some, of[i])
	}
	return some
}

// rules draws retention rules of all kinds; several match most topics.
func (w *twins) rules() hub.RetentionRules {
	var rules hub.RetentionRules
	for _, p := range w.some(0, 5, twinPatterns) {
		r := hub.RetentionRule{Pattern: p}
		if w.chance(50) {
			r.Count = 1 + w.random.Int64N(12)
		}
		if w.chance(40) {
			r.Bytes = 20 + w.random.Int64N(300)
		}
		if w.chance(40) {
			r.Age = time.Duration(1+w.random.IntN(30)) * time.Minute
		}
		rules = append(rules, r)
	}
	return rules
}

func (w *twins) event() hub.Event {
	w.n++
	ev := hub.Event{Topics: w.some(1, 3, twinTopics), Data: fmt.Sprintf("%*d", 1+w.random.IntN(50), w.n)}
	if w.chance(40) {
		ev.ID = fmt.Sprint("id", w.n)
		switch {
		case len(w.ids) > 0 && w.chance(30):
			ev.ID = w.ids[w.random.IntN(len(w.ids))]
		case w.chance(20):
			ev.ID = strings.Repeat("long ", 20) + ev.ID
		case w.chance(10): // that of an event on the wire, in another Log
			ev.ID = hub.Position("other0", uint64(w.n))
		}
		w.ids = append(w.ids, ev.ID)
	}
	if w.chance(30) {
		ev.Type = []string{"message", "t", "é"}[w.random.IntN(3)]
	}
	if w.chance(10) {
		ev.Retry = time.Duration(w.random.IntN(5000)) * time.Millisecond
	}
	ev.Private = w.chance(15)
	if w.chance(2) {
		ev.Data = strings.Repeat("too large ", 30)
	}
	return ev
}

// group draws what may be stored.
func (w *twins) group() *hub.Group {
	g := &hub.Group{ID: fmt.Sprint("group ", len(w.done), " ", w.n)}
	n := 1
	if w.events && w.chance(30) {
		n = 1 + w.random.IntN(9) // nine are too many
	}
	for range n {
		g.Events = append(g.Events, w.event())
	}
	switch {
	case w.chance(2):
		g.Close = w.some(1, 2, twinTopics)
		if w.chance(50) {
			g.Events = nil
		}
	case w.chance(6):
		g.Forget = w.topic()
		if !w.events || w.chance(70) {
			g.Events = nil
		}
	}
	if w.chance(20) {
		g.Key = fmt.Sprint("key ", w.random.IntN(6))
		g.Sum[0] = byte(w.random.IntN(2))
		if len(g.Events) > 0 && w.chance(50) {
			// Of the same few topics, in any order, as those are the scope.
			g.Events[0].Topics = w.some(2, 2, twinTopics[:2])
		}
	}
	if w.chance(5) {
		g.ID = ""
	}
	if len(w.groups) > 0 && w.chance(8) {
		old := w.groups[w.random.IntN(len(w.groups))]
		g.ID = old.ID
		if w.chance(50) {
			g = old
		}
	}
	return g
}

// step lets time pass, perhaps backward, and appends to both.
func (w *twins) step() {
	w.t.Helper()
	// Half minutes, so that now and then something is exactly as old as a rule allows.
	if w.chance(40) {
		w.clock.step(time.Duration(w.random.IntN(6)) * 30 * time.Second)
	}
	if w.chance(5) {
		w.clock.step(-time.Duration(w.random.IntN(20)) * 30 * time.Second)
	}
	g := w.group()
	if name := g.Canonical(); name != "" && w.chance(20) {
		newest := w.info(name).Newest
		if w.chance(30) {
			newest = w.random.Uint64N(w.memory.Head().Seq + 2)
		}
		g.IfLast = &newest
	}
	if !w.append(g) {
		// Time has passed for both, though neither need have noticed.
		w.append(&hub.Group{ID: fmt.Sprint("settle ", len(w.done)), Forget: "nobody's"})
	}
}

// append appends to both, and tells whether they have stored it now.
func (w *twins) append(g *hub.Group) bool {
	w.t.Helper()
	w.noteGroup(g)
	onDisk := *g
	if g.IfLast != nil {
		last := w.onDisk(*g.IfLast)
		onDisk.IfLast = &last
	}
	want, wantErr := w.memory.Append(w.t.Context(), g)
	got, gotErr := w.disk.Append(w.t.Context(), &onDisk)
	if g, m := w.verdict(gotErr, w.inMemory), w.verdict(wantErr, same); g != m {
		w.fail("append: got %s, want %s", g, m)
	}
	if wantErr != nil {
		return false
	}
	for i := range got.Sequences {
		got.Sequences[i] = w.inMemory(got.Sequences[i])
	}
	if got.Epoch != w.disk.Head().Epoch {
		w.fail("got epoch %q, want %q", got.Epoch, w.disk.Head().Epoch)
	}
	if !slices.Equal(got.Sequences, want.Sequences) || !got.Time.Equal(want.Time) || got.Replayed != want.Replayed {
		w.fail("append: got %+v, want %+v", got, want)
	}
	if !want.Replayed {
		w.groups = append(w.groups, g)
		for seq := uint64(len(w.records)) + 1; seq <= w.memory.Head().Seq; seq++ {
			kind := hub.KindEvent
			if !slices.Contains(want.Sequences, seq) {
				kind = hub.KindClosed // or forgotten
			}
			w.records = append(w.records, hub.Record{Seq: seq, Kind: kind, Time: want.Time})
		}
	}
	return !want.Replayed
}

func same(seq uint64) uint64 { return seq }

// verdict is an error in words that are the same for both.
func (w *twins) verdict(err error, sequence func(uint64) uint64) string {
	var conflict *hub.ConflictError
	switch {
	case err == nil:
		return "success"
	case errors.As(err, &conflict):
		return fmt.Sprintf("conflict on %s with %d, %s", conflict.Topic, sequence(conflict.Newest), w.id(conflict.NewestID))
	case errors.Is(err, hub.ErrClosed), errors.Is(err, hub.ErrKeyReused):
		return err.Error()
	}
	_, says, _ := strings.Cut(err.Error(), ": ") // the package's name
	return says
}

// id returns an id as memory's Log has it.
func (w *twins) id(id string) string {
	epoch, seq, ok := strings.Cut(id, "-")
	n, err := strconv.ParseUint(seq, 10, 64)
	if !ok || err != nil || epoch != w.disk.Head().Epoch {
		return id
	}
	return hub.Position(w.memory.Head().Epoch, w.inMemory(n))
}

// info compares what is known of a topic, and returns it.
func (w *twins) info(name string) hub.TopicInfo {
	w.t.Helper()
	want, err := w.memory.Topic(w.t.Context(), name)
	w.must(err)
	got, err := w.disk.Topic(w.t.Context(), name)
	w.must(err)
	for _, seq := range []*uint64{&got.Oldest, &got.Newest, &got.Trimmed} {
		*seq = w.inMemory(*seq)
	}
	got.NewestID, got.OldestID = w.id(got.NewestID), w.id(got.OldestID)
	if got != want {
		w.fail("topic %s: got %+v, want %+v", name, got, want)
	}
	return want
}

func (w *twins) must(err error) {
	w.t.Helper()
	if err != nil {
		w.fail("%v", err)
	}
}

// compare looks at a few things.
func (w *twins) compare() {
	w.t.Helper()
	got, want := w.disk.Head(), w.memory.Head()
	switch {
	case w.inMemory(got.Seq) != want.Seq || !got.Time.Equal(want.Time):
		w.fail("head: got %+v, want %+v", got, want)
	case want.Oldest > want.Seq && got.Oldest != got.Seq+1,
		want.Oldest <= want.Seq && w.inMemory(got.Oldest) != want.Oldest:
		w.fail("head: got %+v, want oldest %d", got, want.Oldest)
	}
	for _, name := range twinTopics {
		w.info(name)
	}
	for range 3 {
		w.read(w.query(), 5)
	}
	w.locate(hub.Cursor{Epoch: want.Epoch, Seq: w.random.Uint64N(want.Seq + 3)})
	if len(w.ids) > 0 {
		w.locate(hub.Cursor{ID: w.ids[w.random.IntN(len(w.ids))]})
	}
	w.since(w.clock.Now().Add(-time.Duration(w.random.IntN(120)) * 30 * time.Second))
	w.tail(want.Seq - min(want.Seq, w.random.Uint64N(30)))
}

// compareAll looks at everything, as far as it has an end.
func (w *twins) compareAll() {
	w.t.Helper()
	w.compare()
	const all = math.MaxInt
	for range 10 {
		w.read(w.query(), all)
	}
	for _, p := range twinPatterns {
		w.read(hub.Query{Patterns: []string{p}}, all)
	}
	for _, topic := range append(twinTopics, "nobody's") {
		w.read(hub.Query{Topics: []string{topic}}, all)
		w.read(hub.Query{Topics: []string{topic}, Newest: true, Limit: 3}, all)
	}
	head := w.memory.Head()
	for seq := range head.Seq + 3 {
		w.locate(hub.Cursor{Epoch: head.Epoch, Seq: seq})
	}
	for _, id := range append(w.ids[max(0, len(w.ids)-50):], "nobody's", hub.Position(head.Epoch, 1)) {
		w.locate(hub.Cursor{ID: id})
	}
	w.locateSkipped()
	w.locate(hub.Cursor{Epoch: "other0", Seq: 1})
	w.locate(hub.Cursor{})
	times := w.times()
	for _, i := range w.random.Perm(len(times))[:min(5, len(times))] {
		at := times[i]
		for _, d := range []time.Duration{-1, 0, 1} {
			w.since(at.Add(d))
		}
	}
	w.tail(0)
	w.tail(head.Seq)
}

// newestGone returns the time of the newest record that a Log need not have any more: an
// event that is removed, or anything before the oldest event.
func (w *twins) newestGone() time.Time {
	kept := make(map[uint64]bool)
	page, err := w.memory.Read(w.t.Context(), hub.Query{Patterns: []string{"**"}})
	w.must(err)
	for _, r := range page.Records {
		kept[r.Seq] = true
	}
	oldest := w.memory.Head().Oldest
	for i := len(w.records) - 1; i >= 0; i-- {
		if r := &w.records[i]; !kept[r.Seq] && (r.Kind == hub.KindEvent || r.Seq < oldest) {
			return r.Time
		}
	}
	return time.Time{}
}

// times returns when records came, as far as they are kept.
func (w *twins) times() []time.Time {
	var times []time.Time
	page, err := w.memory.Read(w.t.Context(), hub.Query{Patterns: []string{"**"}})
	w.must(err)
	for _, r := range page.Records {
		times = append(times, r.Time)
	}
	return slices.CompactFunc(times, time.Time.Equal)
}

// query draws a query, with memory's sequences.
func (w *twins) query() hub.Query {
	q := hub.Query{Topics: w.some(0, 3, twinTopics), Patterns: w.some(0, 2, twinPatterns), Newest: w.chance(30)}
	if len(q.Topics)+len(q.Patterns) == 0 {
		q.Patterns = []string{"**"}
	}
	head := w.memory.Head().Seq
	if w.chance(60) {
		q.After = w.random.Uint64N(head + 2)
	}
	if w.chance(30) {
		q.Until = 1 + w.random.Uint64N(head+2)
	}
	if w.chance(50) {
		q.Limit = 1 + w.random.IntN(10)
	}
	if w.chance(30) {
		q.Bytes = 1 + w.random.IntN(200)
	}
	return q
}

// read compares the answers to a query, page by page, up to so many or to the end.
func (w *twins) read(q hub.Query, most int) {
	w.t.Helper()
	onDisk := q
	onDisk.After, onDisk.Until = w.onDisk(q.After), w.onDisk(q.Until)
	for n := range most {
		want, err := w.memory.Read(w.t.Context(), q)
		w.must(err)
		got, err := w.disk.Read(w.t.Context(), onDisk)
		w.must(err)
		last := w.sameRecords(fmt.Sprintf("page %d of %+v", n, q), got.Records, want.Records)
		switch {
		case got.Removed != want.Removed, n == 0 && got.Gap != want.Gap:
			w.fail("page %d of %+v: got gap %v, removed %d, want %v, %d", n, q, got.Gap, got.Removed, want.Gap, want.Removed)
		case w.inMemory(got.Through) < want.Through || got.Through < onDisk.After:
			w.fail("page %d of %+v: got through %d, want %d at least", n, q, w.inMemory(got.Through), want.Through)
		case w.inMemory(got.Through) > max(q.After, w.memory.Head().Seq):
			w.fail("page %d of %+v: got through %d, want no more than the head", n, q, w.inMemory(got.Through))
		case len(want.Records) == 0:
			return
		case q.Newest && want.Records[0].Seq == 1:
			return
		case q.Newest:
			q.Until, onDisk.Until = want.Records[0].Seq-1, got.Records[0].Seq-1
		default:
			q.After, onDisk.After = max(want.Through, last), got.Through
		}
	}
}

// sameRecords compares records, and returns the last one's sequence.
func (w *twins) sameRecords(what string, got, want []hub.Record) uint64 {
	w.t.Helper()
	for i := range min(len(got), len(want)) {
		g, m := got[i], want[i]
		if w.inMemory(g.Seq) != m.Seq || g.Kind != m.Kind || !g.Time.Equal(m.Time) || !slices.Equal(g.Topics, m.Topics) || !reflect.DeepEqual(g.Event, m.Event) {
			w.fail("%s: got record %+v %+v, want %+v %+v", what, g, g.Event, m, m.Event)
		}
	}
	if len(got) != len(want) {
		w.fail("%s: got %d records, want %d", what, len(got), len(want))
	}
	if len(want) == 0 {
		return 0
	}
	return want[len(want)-1].Seq
}

// locate compares where a cursor leads.
func (w *twins) locate(c hub.Cursor) {
	w.t.Helper()
	onDisk := c
	if c.Epoch == w.memory.Head().Epoch {
		onDisk.Epoch, onDisk.Seq = w.disk.Head().Epoch, w.onDisk(c.Seq)
	}
	want, err := w.memory.Locate(w.t.Context(), c)
	w.must(err)
	got, err := w.disk.Locate(w.t.Context(), onDisk)
	w.must(err)
	if got.Seq = w.inMemory(got.Seq); got != want {
		w.fail("locate %+v: got %+v, want %+v", c, got, want)
	}
}

// locateSkipped looks for sequences that the Log on disk has left out: somebody may have
// had them before the crash.
func (w *twins) locateSkipped() {
	w.t.Helper()
	head := w.disk.Head()
	for i, s := range w.skips {
		from := s.after
		for _, earlier := range w.skips[:i] {
			from += earlier.n
		}
		for _, seq := range []uint64{from + 1, from + s.n/2, from + s.n} {
			got, err := w.disk.Locate(w.t.Context(), hub.Cursor{Epoch: head.Epoch, Seq: seq})
			w.must(err)
			want := hub.LostEpoch // also beyond the head
			if got.Lost != want || w.inMemory(got.Seq) > s.after {
				w.fail("locate %d, which was left out: got %+v, want lost %q", seq, got, want)
			}
		}
	}
}

// since compares what is read from a time on.
func (w *twins) since(at time.Time) {
	w.t.Helper()
	want, err := w.memory.Locate(w.t.Context(), hub.Cursor{Since: at})
	w.must(err)
	got, err := w.disk.Locate(w.t.Context(), hub.Cursor{Since: at})
	w.must(err)
	onDisk := w.inMemory(got.Seq)
	before, err := w.memory.Read(w.t.Context(), hub.Query{Patterns: []string{"**"}, After: onDisk, Until: want.Seq, Newest: true, Limit: 1})
	w.must(err)
	switch {
	case got.Lost != want.Lost:
		w.fail("since %v: got %+v, want %+v", at, got, want)
	case want.Seq > 0 && onDisk < want.Seq && len(before.Records) > 0:
		w.fail("since %v: got %d, want %d, as %d is earlier", at, onDisk, want.Seq, before.Records[0].Seq)
	}
	exact := onDisk >= want.Seq || w.newestGone().Before(at)
	for _, q := range []hub.Query{{Patterns: []string{"**"}}, {Topics: []string{w.topic()}}, {Patterns: []string{"a/**"}}} {
		q.After = want.Seq
		m, err := w.memory.Read(w.t.Context(), q)
		w.must(err)
		q.After = got.Seq
		d, err := w.disk.Read(w.t.Context(), q)
		w.must(err)
		w.sameRecords(fmt.Sprintf("%+v since %v", q, at), d.Records, m.Records)
		if m.Gap && !d.Gap || d.Gap && !m.Gap && exact {
			w.fail("%+v since %v: got gap %v, want %v", q, at, d.Gap, m.Gap)
		}
	}
}

// tail compares what a Tail yields up to now.
func (w *twins) tail(after uint64) {
	w.t.Helper()
	want, err := w.tailOf(w.memory, after)
	w.must(err)
	got, err := w.tailOf(w.disk, w.onDisk(after))
	var trimmed *hub.TrimmedError
	if errors.As(err, &trimmed) {
		if page, err := w.memory.Read(w.t.Context(), hub.Query{Patterns: []string{"**"}}); err != nil || !page.Gap {
			w.fail("tail after %d: got %v, where nothing was removed", after, trimmed)
		}
		if trimmed.Oldest <= trimmed.After {
			w.fail("tail after %d: got %+v", after, *trimmed)
		}
		return
	}
	w.must(err)
	w.sameRecords(fmt.Sprintf("tail after %d", after), got, want)
}

func (w *twins) tailOf(l hub.Log, after uint64) (records []hub.Record, err error) {
	head := l.Head().Seq
	if after >= head {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for batch, err := range l.Tail(ctx, after) {
		if err != nil {
			return records, err
		}
		records = append(records, batch...)
		if records[len(records)-1].Seq >= head {
			return records, nil
		}
	}
	return records, errors.New("the tail ended")
}

// long tells whether tests may take minutes.
func long() bool { return os.Getenv("TIDEWIRE_LONG") == "1" }
