package tables_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/tables"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// A store is tables over a database in memory.
type store struct {
	*tables.Tables
	t  *testing.T
	db *pebble.DB
}

func newStore(t *testing.T, o tables.Options) *store {
	t.Helper()
	db, err := pebble.Open("", &pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	s := &store{t: t, db: db}
	s.open(o)
	t.Cleanup(func() {
		s.close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	s.round(func(r *tables.Round) { r.Epoch("epoch", noon) })
	return s
}

func (s *store) open(o tables.Options) {
	s.t.Helper()
	var err error
	if s.Tables, err = tables.Open(s.db, o); err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) close() {
	s.t.Helper()
	if err := s.Close(); err != nil {
		s.t.Error(err)
	}
}

// round has a round be committed and seen.
func (s *store) round(work func(*tables.Round)) {
	s.t.Helper()
	r := s.Begin()
	work(r)
	batch, err := r.Finish()
	if err != nil {
		s.t.Fatal(err)
	}
	if batch == nil {
		return
	}
	if err := s.db.Apply(batch, pebble.NoSync); err != nil {
		s.t.Fatal(err)
	}
	if _, err := r.Seal().Publish(); err != nil {
		s.t.Fatal(err)
	}
}

// apply applies a record by itself.
func (s *store) apply(now time.Time, g *hub.Group) {
	s.t.Helper()
	s.round(func(r *tables.Round) {
		if _, err := r.Apply(tables.Record{Seq: r.Next(), Time: now, Group: g}); err != nil {
			s.t.Fatal(err)
		}
	})
}

func (s *store) topic(name string) hub.TopicInfo {
	s.t.Helper()
	info, err := s.Topic(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return info
}

// events returns a group of n small events.
func events(topic string, n int) *hub.Group {
	g := &hub.Group{}
	for range n {
		g.Events = append(g.Events, hub.Event{Topics: []string{topic}, Data: "data"}) // of five bytes
	}
	return g
}

func TestRetain_RemovesAThousandEventsARecord(t *testing.T) {
	const stored, most = 5500, 1000
	for _, tt := range []struct {
		name     string
		rule     hub.Retention
		maxBytes int64
		kept     int64
	}{
		{"count", hub.Retention{Count: 10}, 0, 10},
		{"bytes", hub.Retention{Bytes: 50}, 0, 10},
		{"age", hub.Retention{Age: time.Minute}, 0, 0},
		{"all together", hub.Retention{}, 50, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStore(t, tables.Options{})
			s.apply(noon, events("a", stored))
			s.Retain(s.Prepare(hub.RetentionRules{{Pattern: "a", Retention: tt.rule}}, tt.maxBytes))
			now := noon.Add(time.Hour)
			for want := int64(stored); want > tt.kept; {
				want = max(want-most, tt.kept)
				s.apply(now, nil)
				if got := s.topic("a").Count; got != want {
					t.Fatalf("got %d events after one more record, want %d", got, want)
				}
				if want > tt.kept && !s.Overdue() {
					t.Fatalf("with %d events nothing is overdue", want)
				}
			}
			s.apply(now, nil)
			if s.Overdue() {
				t.Error("something is overdue in the end")
			}
		})
	}
}

// TestRetain_BoundsWhatALargeGroupRemoves appends a group to a topic that has far too much:
// its events remove as many as they are, and what any record does.
func TestRetain_BoundsWhatALargeGroupRemoves(t *testing.T) {
	const stored, group, most = 20_000, 1000, 1000
	s := newStore(t, tables.Options{})
	s.apply(noon, events("a", stored))
	s.Retain(s.Prepare(hub.RetentionRules{{Pattern: "a", Retention: hub.Retention{Count: 1}}}, 0))
	s.apply(noon, events("a", group))
	if got, least := s.topic("a").Count, int64(stored-2*most); got < least {
		t.Errorf("got %d events, want %d at least", got, least)
	}
	for s.Overdue() {
		s.apply(noon, nil)
	}
	if got := s.topic("a"); got.Count != 1 || got.Trimmed != stored+group-1 {
		t.Errorf("got %+v, want the newest event", got)
	}
}

// TestRetain_IsAsOpeningAgain applies the same records to two stores: one is opened again with
// other rules, and the other gets them while it is open.
func TestRetain_IsAsOpeningAgain(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	names := []string{"a", "b", "a/b", "a/c", "b/c"}
	options := func() tables.Options {
		o := tables.Options{KeyLife: time.Hour, MaxBytes: random.Int64N(3) * 20_000}
		for _, p := range []string{"a", "a/*", "**"} {
			o.Retention = append(o.Retention, hub.RetentionRule{Pattern: p, Retention: hub.Retention{
				Count: random.Int64N(3) * 500, Bytes: random.Int64N(3) * 5000, Age: time.Duration(random.Int64N(3)) * time.Minute,
			}})
		}
		return o
	}
	o := options()
	changed, reopened := newStore(t, o), newStore(t, o)
	both := func(now time.Time, g *hub.Group) {
		t.Helper()
		changed.apply(now, g)
		reopened.apply(now, g)
		for _, name := range append(names, "late") {
			if got, want := changed.topic(name), reopened.topic(name); got != want {
				t.Fatalf("topic %q: got %+v, want %+v", name, got, want)
			}
		}
		if got, want := changed.Head(), reopened.Head(); got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		if got, want := changed.Overdue(), reopened.Overdue(); got != want {
			t.Fatalf("got overdue %v, want %v", got, want)
		}
	}
	now := noon
	for n := range 12 {
		for range random.IntN(8) {
			now = now.Add(time.Duration(random.IntN(40)) * time.Second)
			g := events(names[random.IntN(len(names))], random.IntN(1200))
			for i := range g.Events {
				if random.IntN(4) == 0 {
					g.Events[i].Topics = append(g.Events[i].Topics, "late")
				}
				g.Events[i].Data = fmt.Sprint(n, " ", i)
			}
			both(now, g)
		}
		o := options()
		r := changed.Prepare(o.Retention, o.MaxBytes)
		name := fmt.Sprint("new ", n) // after the rules were found
		names = append(names, name)
		both(now, events(name, 5))
		changed.Retain(r)
		reopened.close()
		reopened.open(o)
		for range random.IntN(3) {
			both(now, nil)
		}
	}
	q := hub.Query{Patterns: []string{"**"}, Limit: 1 << 20, Bytes: 1 << 30}
	got, err := changed.Read(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	want, err := reopened.Read(t.Context(), q)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %d events, want %d, %v", len(got.Records), len(want.Records), err)
	}
}
