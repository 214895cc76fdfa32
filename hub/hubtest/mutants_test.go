package hubtest_test

import (
	"context"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/hub/hubtest"
)

// A mutant is a Log with one mistake, and the check that must find it.
type mutant struct {
	name  string // what it does wrong
	check string // by the beginning of the statement and the name
	want  string // what the failure says
	bug   bug
	bend  func(*bent)
	spoil func(*hubtest.Harness)
}

func TestLog_FailsForWrongLogs(t *testing.T) {
	for _, m := range mutants {
		t.Run(strings.ReplaceAll(m.check, "/", " ")+"/"+m.name, func(t *testing.T) {
			h := newHarness(m.bug, m.bend)
			if m.spoil != nil {
				m.spoil(&h)
			}
			if h.Patience > 0 {
				t.Parallel() // it hangs
			}
			r := record(t, hubtest.Checks()[find(t, m.check)], h)
			switch {
			case r.skipped:
				t.Errorf("skipped: %s", &r.output)
			case !r.failed:
				t.Error("is not caught")
			case !strings.Contains(r.output.String(), m.want):
				t.Errorf("got %s, want what contains %q", &r.output, m.want)
			}
		})
	}
}

func TestMutants_LeaveOutNoCheck(t *testing.T) {
	left := hubtest.Checks()
	for _, m := range mutants {
		delete(left, find(t, m.check))
	}
	for name := range left {
		t.Errorf("no mutant shows that %q can fail", name)
	}
}

// find returns the full name of a check.
func find(t *testing.T, name string) string {
	t.Helper()
	number, check, _ := strings.Cut(name, "/")
	for full := range hubtest.Checks() {
		if strings.HasPrefix(full, number+" ") && strings.HasSuffix(full, "/"+check) {
			return full
		}
	}
	t.Fatalf("there is no check %q", name)
	return ""
}

var mutants = slices.Concat(readingMutants, joiningMutants, appendingMutants, storeMutants, retentionMutants, changeMutants, placeMutants, tailMutants)

// eachRecord bends Read and Tail: change gets a record and returns what is shown, or
// false to leave it out.
func (b *bent) eachRecord(change func(hub.Record) (hub.Record, bool)) {
	filter := func(records []hub.Record) (changed []hub.Record) {
		for _, r := range records {
			if r, ok := change(r); ok {
				changed = append(changed, r)
			}
		}
		return changed
	}
	b.eachPage(func(_ hub.Query, p *hub.Page) { p.Records = filter(p.Records) })
	b.eachBatch(filter)
}

func (b *bent) eachPage(change func(hub.Query, *hub.Page)) {
	b.read = func(ctx context.Context, q hub.Query) (hub.Page, error) {
		p, err := b.model.Read(ctx, q)
		change(q, &p)
		return p, err
	}
}

func (b *bent) eachBatch(change func([]hub.Record) []hub.Record) {
	b.tail = func(ctx context.Context, after uint64) iter.Seq2[[]hub.Record, error] {
		return func(yield func([]hub.Record, error) bool) {
			for records, err := range b.model.Tail(ctx, after) {
				if !yield(change(records), err) {
					return
				}
			}
		}
	}
}

// eachGroup bends Append: change gets a copy of the group.
func (b *bent) eachGroup(change func(*hub.Group)) {
	b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
		own := *g
		own.Events = slices.Clone(g.Events)
		change(&own)
		return b.model.Append(ctx, &own)
	}
}

func (b *bent) eachInfo(change func(string, *hub.TopicInfo)) {
	b.topic = func(ctx context.Context, name string) (hub.TopicInfo, error) {
		info, err := b.model.Topic(ctx, name)
		change(name, &info)
		return info, err
	}
}

func (b *bent) eachPlace(change func(hub.Cursor, *hub.Location)) {
	b.locate = func(ctx context.Context, c hub.Cursor) (hub.Location, error) {
		loc, err := b.model.Locate(ctx, c)
		change(c, &loc)
		return loc, err
	}
}

func (b *bent) eachHead(change func(*hub.Head)) {
	b.head = func() hub.Head {
		h := b.model.Head()
		change(&h)
		return h
	}
}

// configured spoils the harness: Logs get another Config than the test asks for.
func configured(change func(*hubtest.Config)) func(*hubtest.Harness) {
	return func(h *hubtest.Harness) {
		open := h.Open
		h.Open = func(t testing.TB, c hubtest.Config) hub.Log {
			c.Retention = slices.Clone(c.Retention)
			change(&c)
			return open(t, c)
		}
	}
}

// reopened spoils the harness: something happens to the store between two handles.
func reopened(onlyCrash bool, change func(*store)) func(*hubtest.Harness) {
	return func(h *hubtest.Harness) {
		reopen := h.Reopen
		h.Reopen = func(t testing.TB, l hub.Log, crash bool) hub.Log {
			l = reopen(t, l, crash)
			m := unbend(l)
			m.mu.Lock()
			defer m.mu.Unlock()
			if crash || !onlyCrash {
				change(m.store)
			}
			return l
		}
	}
}

// hasty lets a check give up early, where a Log hangs.
func hasty(h *hubtest.Harness) { h.Patience = time.Second }
