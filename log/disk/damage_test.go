package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/hub/hubtest"
	"github.com/tidewire/tidewire/log/disk"
)

// The damage test does harm to one file of a directory at a time, and holds against what
// comes of it (the names of the subtests of TestDamage_OfAnyFile):
//
//   - Open does not panic, and comes to an end.
//   - If it refuses, the error is ErrDamaged, which says what to do.
//   - If it refuses, it has changed nothing: with the file put right, all is there.
//   - If it does not, what is read is what was stored, in its order.
//   - Nothing is missing but the end, and that only where the newest log file was harmed:
//     a damaged end cannot be told from one that a crash has torn.
//   - What is missing at the end is told by Locate, and its sequences are not used again.
//   - Closed topics, idempotency keys and ids are those of the events that are there.
//
// Files are in memory, so that there is time for many. The file that tells a directory
// from a copy is not there then; TestDamage_OfTheIdentity has it.

// damageTime is how long a history is harmed at random places, unless TIDEWIRE_LONG is 1:
// then it is at all of them, which takes minutes.
const damageTime = time.Second

// A history is a directory, and what was answered to those who wrote it.
type history struct {
	files  map[string][]byte
	opts   *disk.Options
	epoch  string
	events map[uint64]hub.Record      // that were stored
	kept   map[string]map[uint64]bool // by topic, in the end
	ids    map[string]uint64          // of publishers
	closed map[string]uint64          // topics, and the sequence of what closed them
	keyed  map[uint64]*hub.Group      // by sequence, what came with a key
	last   uint64                     // sequence
	safe   uint64                     // the last one that is not only in the newest log file
	newest string                     // log file
}

const (
	historySessions = 4
	historyGroups   = 12
)

var historyTopics = []string{"short", "t/0", "t/1", "t/2", "t/3", "all", "closed/0", "closed/1", "closed/2", "closed/3"}

// newHistory writes a small history in several sessions. All topics are there from the
// first one on, as new ones would make it easy to see that something is missing. The last
// session ends in an orderly way, or by kill -9; its events have that much data.
func newHistory(t testing.TB, orderly bool, data int) *history {
	t.Helper()
	h := &history{
		opts:   options(hubtest.Config{Now: newClock().Now, Retention: hub.RetentionRules{{Pattern: "short", Retention: hub.Retention{Count: 3}}}}),
		events: make(map[uint64]hub.Record), kept: make(map[string]map[uint64]bool), ids: make(map[string]uint64),
		closed: make(map[string]uint64), keyed: make(map[uint64]*hub.Group),
	}
	mem := vfs.NewMem()
	for session := range historySessions {
		l, err := disk.OpenFS("log", h.opts, mem)
		if err != nil {
			t.Fatal(err)
		}
		h.epoch = l.Head().Epoch
		last, size := session == historySessions-1, 0
		if last {
			h.safe, size = l.Head().Seq, data
		}
		if session == 0 {
			h.append(t, l, &hub.Group{Events: []hub.Event{{Data: "first", Topics: historyTopics}}})
		}
		for n := range historyGroups {
			h.append(t, l, historyGroup(session, n, size))
		}
		h.last = l.Head().Seq
		for _, topic := range historyTopics {
			h.kept[topic] = make(map[uint64]bool)
			for _, r := range readAll(t, l, hub.Query{Topics: []string{topic}}) {
				h.kept[topic][r.Seq] = true
			}
		}
		if last && !orderly {
			h.files = filesOf(t, mem, "log")
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if orderly {
		h.files = filesOf(t, mem, "log")
	}
	for name := range h.files {
		if strings.HasSuffix(name, ".log") {
			h.newest = max(h.newest, name)
		}
	}
	return h
}

// historyGroup is a group of a history: now and then with ids, under several topics, under
// one with a retention, with a key, and with a topic to close.
func historyGroup(session, n, size int) *hub.Group {
	g := &hub.Group{}
	for i := range 1 + n%3 {
		name := fmt.Sprintf("%d.%d.%d", session, n, i)
		ev := hub.Event{Topics: []string{fmt.Sprint("t/", (n+i)%4)}, Data: name + strings.Repeat("x", size)}
		if n%3 == 0 {
			ev.Topics = append(ev.Topics, "all")
		}
		if n%2 == 0 {
			ev.ID = "id " + name
		}
		if n%4 == 0 {
			ev.Topics = []string{"short"}
		}
		g.Events = append(g.Events, ev)
	}
	switch n {
	case 5:
		g.Key, g.Sum[0] = fmt.Sprint("key ", session), 1
	case 7:
		g.Close = []string{fmt.Sprint("closed/", session)}
	}
	return g
}

func (h *history) append(t testing.TB, l hub.Log, g *hub.Group) {
	t.Helper()
	r, err := l.Append(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	for i, seq := range r.Sequences {
		ev := &g.Events[i]
		h.events[seq] = hub.Record{Seq: seq, Kind: hub.KindEvent, Time: r.Time, Topics: ev.Topics, Event: ev}
		if ev.ID != "" {
			h.ids[ev.ID] = seq
		}
	}
	if g.Key != "" {
		h.keyed[r.Sequences[0]] = g
	}
	if len(g.Close) > 0 {
		h.closed[g.Close[0]] = l.Head().Seq
	}
}

// filesOf returns what is in a directory.
func filesOf(t testing.TB, fs vfs.FS, dir string) map[string][]byte {
	t.Helper()
	files, err := readFiles(fs, dir)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func readFiles(fs vfs.FS, dir string) (map[string][]byte, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	for _, name := range names {
		f, err := fs.Open(fs.PathJoin(dir, name))
		if err != nil {
			return nil, err
		}
		files[name], err = io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// memOf returns a file system with a directory of files.
func memOf(t testing.TB, dir string, files map[string][]byte) *vfs.MemFS {
	t.Helper()
	mem, err := memFiles(dir, files)
	if err != nil {
		t.Fatal(err)
	}
	return mem
}

func memFiles(dir string, files map[string][]byte) (*vfs.MemFS, error) {
	mem := vfs.NewMem()
	if err := mem.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for name, b := range files {
		f, err := mem.Create(mem.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
		if err != nil {
			return nil, err
		}
		_, err = f.Write(bytes.Clone(b)) // which may be overwritten
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	return mem, nil
}

// A damage is done to one file.
type damage struct {
	file string
	how  string
	at   int
}

func (d damage) String() string { return fmt.Sprintf("%s: %s at %d", d.file, d.how, d.at) }

const (
	flipped = "a bit is flipped"
	cut     = "it is cut"
	zeroed  = "512 bytes are zero"
	missing = "it is missing"
)

// do returns the files with the damage.
func (d damage) do(files map[string][]byte) map[string][]byte {
	files = maps.Clone(files)
	b := bytes.Clone(files[d.file])
	switch d.how {
	case flipped:
		b[d.at] ^= 1 << (d.at % 8)
	case cut:
		b = b[:d.at]
	case zeroed:
		clear(b[d.at:min(d.at+512, len(b))])
	case missing:
		delete(files, d.file)
		return files
	}
	files[d.file] = b
	return files
}

// damages returns what can be done to the files of a history that match: first what is at
// their ends and in the middle, then the rest in random order.
func (h *history) damages(seed uint64, match func(name string) bool) []damage {
	var first, rest []damage
	for _, name := range slices.Sorted(maps.Keys(h.files)) {
		if !match(name) {
			continue
		}
		first = append(first, damage{name, missing, 0})
		n := len(h.files[name])
		for at := range n {
			for _, how := range []string{flipped, cut, zeroed} {
				d := damage{name, how, at}
				switch {
				case at == 0 || at == n/2 || at == n-1:
					first = append(first, d)
				case n <= 1000 || at < 64 || at > n-64 || at%97 == 0 || (at+10)%4096 < 20:
					rest = append(rest, d)
				}
			}
		}
	}
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	return append(first, rest...)
}

// The complaints about what comes of a damage.
const (
	ends        = "Open comes to an end"
	helps       = "an error says what to do"
	spares      = "a refused Open changes nothing"
	truth       = "what is read was stored"
	unbroken    = "nothing is missing in the middle"
	endIsLog    = "the end is missing only where the log file was damaged"
	tells       = "what is missing is told"
	once        = "sequences are used once"
	consistent  = "topics, keys and ids are those of the events"
	checkedWell = "Check knows what is missing in the middle"
)

var complaints = []string{ends, helps, spares, truth, unbroken, checkedWell, endIsLog, tells, once, consistent}

// A verdict is what a damage has come to: complaints, with what was wrong.
type verdict map[string]string

// TestDamage_OfAnyFile harms everything but the newest log file.
func TestDamage_OfAnyFile(t *testing.T) {
	seed := damageSeed(t)
	for _, orderly := range []bool{true, false} {
		t.Run(fmt.Sprint("orderly ", orderly), func(t *testing.T) {
			h := newHistory(t, orderly, 0)
			h.try(t, h.damages(seed, func(name string) bool { return name != h.newest }))
		})
	}
}

// TestDamage_OfTheLogFile harms the newest log file, which has the last session. A damage
// in an earlier block of 32 KiB than the last is found, as later ones say how far the
// file was good.
func TestDamage_OfTheLogFile(t *testing.T) {
	seed := damageSeed(t)
	for _, tt := range []struct {
		name    string
		orderly bool
		data    int
	}{{"one block", false, 0}, {"one block, orderly", true, 0}, {"several blocks", false, 2000}} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHistory(t, tt.orderly, tt.data)
			h.try(t, h.damages(seed, func(name string) bool { return name == h.newest }))
		})
	}
}

func damageSeed(t testing.TB) uint64 {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return seed
}

// try does one damage after the other, as long as there is time, and complains.
func (h *history) try(t *testing.T, damages []damage) {
	type complaint struct {
		d    damage
		says string
	}
	all := make(map[string][]complaint)
	deadline := time.Now().Add(damageTime)
	n := 0
	for ; n < len(damages) && (long() || time.Now().Before(deadline)); n++ {
		d := damages[n]
		for about, says := range h.judged(t, d) {
			all[about] = append(all[about], complaint{d, says})
		}
	}
	t.Logf("%d of %d damages", n, len(damages))
	for _, about := range complaints {
		t.Run(about, func(t *testing.T) {
			const most = 5
			for i, c := range all[about] {
				if i == most {
					t.Errorf("and %d more", len(all[about])-most)
					return
				}
				t.Errorf("%v: %s", c.d, c.says)
			}
		})
	}
}

// judged is judge with bounds.
func (h *history) judged(t testing.TB, d damage) verdict {
	done := make(chan verdict, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				stack := make([]byte, 4<<10)
				done <- verdict{ends: fmt.Sprintf("panic: %v\n%s", p, stack[:runtime.Stack(stack, false)])}
			}
		}()
		done <- h.judge(t, d)
	}()
	select {
	case v := <-done:
		return v
	case <-time.After(patience):
		return verdict{ends: "it hangs"}
	}
}

// judge opens a damaged directory, and says what is wrong with what comes of it.
func (h *history) judge(t testing.TB, d damage) (v verdict) {
	v = make(verdict)
	files := d.do(h.files)
	report, checkErr := disk.CheckFS(t.Context(), "log", memOf(t, "log", files))
	mem := memOf(t, "log", files)
	l, err := disk.OpenFS("log", h.opts, mem)
	if err != nil {
		if !errors.Is(err, disk.ErrDamaged) || !strings.Contains(err.Error(), "backup") {
			v[helps] = fmt.Sprintf("got %v, want ErrDamaged, and what to do", err)
		}
		if says := h.spared(t, d, mem); says != "" {
			v[spares] = says
		}
		return v
	}
	defer func() {
		if err := l.Close(); err != nil {
			v[ends] = fmt.Sprintf("close: %v", err)
		}
	}()
	h.look(t, l, d, v)
	if v[unbroken] != "" && checkErr == nil && len(report.Problems) == 0 {
		v[checkedWell] = v[unbroken]
	}
	return v
}

// spared says what is missing when a file is put right after Open was refused.
func (h *history) spared(t testing.TB, d damage, mem *vfs.MemFS) string {
	files := filesOf(t, mem, "log")
	files[d.file] = h.files[d.file]
	l, err := disk.OpenFS("log", h.opts, memOf(t, "log", files))
	if err != nil {
		return fmt.Sprintf("got %v when the file was put right", err)
	}
	defer l.Close()
	v := make(verdict)
	h.look(t, l, damage{}, v)
	for about, says := range v {
		return fmt.Sprintf("when the file was put right, not so: %s: %s", about, says)
	}
	if got := l.Head().Seq; got < h.last {
		return fmt.Sprintf("got head %d when the file was put right, want %d", got, h.last)
	}
	return ""
}

// look compares a Log with what was stored.
func (h *history) look(t testing.TB, l *disk.Log, d damage, v verdict) {
	head := l.Head()
	if head.Epoch != h.epoch {
		v[unbroken] = fmt.Sprintf("got another epoch, and head %+v", head)
		return
	}
	for _, topic := range historyTopics {
		h.lookAtTopic(t, l, topic, head.Seq, v)
	}
	switch {
	case head.Seq == h.last:
	case d.file != h.newest || head.Seq < h.safe:
		v[endIsLog] = fmt.Sprintf("got head %d, want %d", head.Seq, h.last)
	case d.how != cut && d.how != missing && d.at < len(h.files[d.file])>>15<<15-512:
		v[endIsLog] = fmt.Sprintf("got head %d, want %d or an error: there are whole blocks behind it", head.Seq, h.last)
	}
	h.lookAtPositions(t, l, head.Seq, v)
	r, err := l.Append(t.Context(), groupOf("t/0", "new"))
	if err == nil && r.Sequences[0] <= h.last {
		v[once] = fmt.Sprintf("got sequence %d for a new event, head was %d, and %d have been told", r.Sequences[0], head.Seq, h.last)
	}
	h.lookAtPositions(t, l, head.Seq, v)
	for id, seq := range h.ids {
		loc, err := l.Locate(t.Context(), hub.Cursor{ID: id})
		if want := (hub.Location{Seq: seq}); err == nil && seq <= head.Seq && loc != want {
			v[consistent] = fmt.Sprintf("locate id %q: got %+v, want %+v", id, loc, want)
		}
	}
	for topic, seq := range h.closed {
		if _, err := l.Append(t.Context(), groupOf(topic, "too late")); err == nil && seq <= head.Seq {
			v[consistent] = fmt.Sprintf("topic %s takes events again", topic)
		}
	}
	for seq, g := range h.keyed {
		again := *g
		r, err := l.Append(t.Context(), &again)
		if err == nil && seq <= head.Seq && (!r.Replayed || r.Sequences[0] != seq) {
			v[consistent] = fmt.Sprintf("key %q: got %+v, want sequence %d again", g.Key, r, seq)
		}
	}
}

func (h *history) lookAtTopic(t testing.TB, l hub.Log, topic string, head uint64, v verdict) {
	got := make(map[uint64]bool)
	var last uint64
	for q := (hub.Query{Topics: []string{topic}}); q.After < head; {
		page, err := l.Read(t.Context(), q)
		if err != nil {
			return // it says so
		}
		for _, r := range page.Records {
			want := h.events[r.Seq]
			if r.Seq <= last || want.Event == nil || !reflect.DeepEqual(r.Event, want.Event) || !r.Time.Equal(want.Time) || !slices.Contains(want.Topics, topic) {
				v[truth] = fmt.Sprintf("topic %s: got %+v %+v after %d, want %+v %+v", topic, r, r.Event, last, want, want.Event)
			}
			got[r.Seq], last = true, r.Seq
		}
		q.After = page.Through
	}
	for seq := range h.kept[topic] {
		if seq <= head && !got[seq] {
			v[unbroken] = fmt.Sprintf("topic %s lacks %d, head is %d", topic, seq, head)
		}
	}
}

// lookAtPositions checks that what is there is found, and the rest is lost.
func (h *history) lookAtPositions(t testing.TB, l hub.Log, head uint64, v verdict) {
	for seq := range h.events {
		loc, err := l.Locate(t.Context(), hub.Cursor{Epoch: h.epoch, Seq: seq})
		switch {
		case err != nil: // it says so
		case seq <= head && loc != hub.Location{Seq: seq}, seq > head && loc.Lost != hub.LostEpoch:
			v[tells] = fmt.Sprintf("locate %d: got %+v, and head was %d", seq, loc, head)
		}
	}
}

// TestDamage_OfTheIdentity harms the file that tells a directory from a copy: nothing is
// lost by that, but perhaps the epoch.
func TestDamage_OfTheIdentity(t *testing.T) {
	for _, how := range []string{flipped, cut, zeroed, missing} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			o := options(hubtest.Config{})
			l := open(t, dir, o, vfs.Default)
			r := appendData(t, l, "a", "one")
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			name := filepath.Join(dir, "IDENTITY")
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
			if b, ok := (damage{"IDENTITY", how, 3}).do(map[string][]byte{"IDENTITY": b})["IDENTITY"]; ok {
				if err := os.WriteFile(name, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			l = open(t, dir, o, vfs.Default)
			records := readAll(t, l, everything)
			if len(records) != 1 || records[0].Seq != r.Sequences[0] || records[0].Event.Data != "one" {
				t.Errorf("got %+v, want the one event", records)
			}
			if again := appendData(t, l, "a", "two"); again.Sequences[0] <= r.Sequences[0] {
				t.Errorf("got sequence %d after %d", again.Sequences[0], r.Sequences[0])
			}
		})
	}
}
