package memory_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/hub/hubtest"
	"github.com/tidewire/tidewire/internal/leaktest"
	"github.com/tidewire/tidewire/log/memory"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var harness = hubtest.Harness{
	Open: func(t testing.TB, c hubtest.Config) hub.Log {
		return open(t, &memory.Options{Retention: c.Retention, Now: c.Now, KeyLife: c.KeyLife, Limits: c.Limits, TailBytes: 4 << 20})
	},
	Operations: func(hub.Log) int64 { return memory.Looked.Load() },
	SetRetention: func(l hub.Log, rules hub.RetentionRules, maxBytes int64) error {
		return l.(*memory.Log).SetRetention(rules, maxBytes)
	},
}

func TestLog(t *testing.T) { hubtest.TestLog(t, harness) }

func BenchmarkLog(b *testing.B) { hubtest.BenchmarkLog(b, harness) }

func open(t testing.TB, o *memory.Options) *memory.Log {
	t.Helper()
	l, err := memory.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // returns nil
	return l
}

func publish(t testing.TB, l hub.Log, data string, topics ...string) hub.Receipt {
	t.Helper()
	r, err := l.Append(t.Context(), &hub.Group{Events: []hub.Event{{Data: data, Topics: topics}}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestNew_RefusesWhatCannotBe(t *testing.T) {
	for says, rule := range map[string]hub.RetentionRule{
		"pattern is empty": {},
		"is negative":      {Pattern: "**", Retention: hub.Retention{Age: -1}},
		"before its end":   {Pattern: "**/a"},
	} {
		if _, err := memory.New(&memory.Options{Retention: hub.RetentionRules{rule}}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: got %v, want an error that says %q", rule, err, says)
		}
	}
}

// TestLog_MaxBytes fills several topics, some events under two, beyond the bound.
func TestLog_MaxBytes(t *testing.T) {
	const bound = 10_000
	l := open(t, &memory.Options{MaxBytes: bound})
	for i := range 1000 {
		topics := []string{fmt.Sprint("t", i%7)}
		if i%3 == 0 {
			topics = append(topics, "both")
		}
		publish(t, l, strings.Repeat("x", 100), topics...)
	}
	page, err := l.Read(t.Context(), hub.Query{Patterns: []string{"**"}})
	if err != nil || !page.Gap {
		t.Fatalf("got gap %v, %v, want one", page.Gap, err)
	}
	size := 0
	for i, r := range page.Records {
		size += r.Event.Size()
		if want := page.Records[0].Seq + uint64(i); r.Seq != want {
			t.Fatalf("got sequence %d, want %d: not the oldest went first", r.Seq, want)
		}
	}
	if size > bound || size < bound-300 {
		t.Errorf("got %d bytes, want just below %d", size, bound)
	}
	publish(t, l, strings.Repeat("x", 2*bound), "large")
	if page, err = l.Read(t.Context(), hub.Query{Patterns: []string{"**"}, Bytes: 1 << 20}); err != nil || len(page.Records) != 1 {
		t.Errorf("got %d events, %v, want the newest one, however large", len(page.Records), err)
	}
}

// TestLog_ExpiresWhileNothingIsAppended leaves a Log alone.
func TestLog_ExpiresWhileNothingIsAppended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := memory.New(&memory.Options{Retention: hub.RetentionRules{{Pattern: "short", Retention: hub.Retention{Age: time.Minute}}}})
		if err != nil {
			t.Fatal(err)
		}
		publish(t, l, "a", "short")
		publish(t, l, "b", "long")
		count := func(topic string) int64 {
			info, err := l.Topic(t.Context(), topic)
			if err != nil {
				t.Fatal(err)
			}
			return info.Count
		}
		time.Sleep(59 * time.Second) // synctest's time
		if count("short") != 1 {
			t.Error("the event has gone before its time")
		}
		time.Sleep(10 * time.Second)
		if count("short") != 0 || count("long") != 1 {
			t.Errorf("got %d and %d events, want 0 and 1", count("short"), count("long"))
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestLog_ExpiryIsInTheOrder has a clock that steps back after an event has expired by it:
// what comes then cannot be older than that.
func TestLog_ExpiryIsInTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
		var clock atomic.Pointer[time.Time]
		set := func(now time.Time) { clock.Store(&now) }
		set(noon)
		l := open(t, &memory.Options{
			Retention: hub.RetentionRules{{Pattern: "short", Retention: hub.Retention{Age: time.Minute}}},
			Now:       func() time.Time { return *clock.Load() },
		})
		publish(t, l, "a", "short")
		seq := l.Head().Seq
		set(noon.Add(time.Hour))
		time.Sleep(time.Minute) // synctest's
		if info, err := l.Topic(t.Context(), "short"); err != nil || info.Count != 0 {
			t.Fatalf("got %+v, %v, want the event to be gone", info, err)
		}
		if head := l.Head(); head.Seq != seq || !head.Time.Equal(noon.Add(time.Hour)) {
			t.Errorf("got %+v, want sequence %d still, and the time that has passed", head, seq)
		}
		set(noon.Add(time.Second))
		if got := publish(t, l, "b", "short").Time; got.Before(noon.Add(time.Hour)) {
			t.Errorf("got an event of %v after what had expired by %v", got, noon.Add(time.Hour))
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}
