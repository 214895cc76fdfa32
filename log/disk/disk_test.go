package disk_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/hub/hubtest"
	"github.com/tidewire/tidewire/internal/leaktest"
	"github.com/tidewire/tidewire/log/disk"
)

func TestMain(m *testing.M) {
	var err error
	dir, end := os.Getenv(holdVariable), os.Getenv(endVariable)
	switch {
	case dir != "":
		err = hold(dir)
	case end != "":
		err = openAndEnd(end)
	default:
		leaktest.Main(m)
	}
	if err != nil { // of another process that a test has begun
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// patience bounds what a test waits for; only a test that fails uses it up.
const patience = 30 * time.Second

// quiet is for faults that are meant.
var quiet = slog.New(slog.DiscardHandler)

// A clock is set by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)} }

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

func options(c hubtest.Config) *disk.Options {
	return &disk.Options{
		Retention: c.Retention, Now: c.Now, KeyLife: c.KeyLife, Limits: c.Limits,
		TailBytes: 4 << 20, CacheBytes: 4 << 20, WriteBytes: 4 << 20, MinFree: -1, Logger: quiet,
	}
}

func open(t testing.TB, dir string, o *disk.Options, fs vfs.FS) *disk.Log {
	t.Helper()
	l, err := disk.OpenFS(dir, o, fs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.Close() // some are crashed on purpose
		whole(t, dir, vfs.Root(fs))
	})
	return l
}

// whole checks a directory, as each test's end does.
func whole(t testing.TB, dir string, fs vfs.FS) *disk.Report {
	t.Helper()
	r, err := disk.CheckFS(context.Background(), dir, fs)
	if err != nil {
		t.Errorf("check: %v", err)
		return nil
	}
	for _, p := range r.Problems {
		t.Errorf("check: %s", p)
	}
	return r
}

func operations(l hub.Log) int64 { return l.(*disk.Log).Looked() }

func setRetention(l hub.Log, rules hub.RetentionRules, maxBytes int64) error {
	return l.(*disk.Log).SetRetention(rules, maxBytes)
}

// directories is a harness on the operating system's files. A crash is that of the
// process: what was written stays.
func directories() hubtest.Harness {
	put, get := keepTrack()
	start := func(t testing.TB, dir string, c hubtest.Config) hub.Log {
		fs := newFaultyFS(vfs.Default)
		l := open(t, dir, options(c), fs)
		put(l, opened{dir, c, fs})
		return l
	}
	return hubtest.Harness{
		Open: func(t testing.TB, c hubtest.Config) hub.Log { return start(t, t.TempDir(), c) },
		Reopen: func(t testing.TB, l hub.Log, crash bool) hub.Log {
			o := get(t, l)
			if crash {
				o.fs.crash()
			}
			if err := l.Close(); err != nil && !crash {
				t.Fatal(err)
			}
			return start(t, o.dir, o.conf)
		},
		Fail: func(t testing.TB, l hub.Log, f hubtest.Fault, n int) { get(t, l).fs.fail(f, n) },
		Copy: func(t testing.TB, l hub.Log) func() hub.Log {
			o := get(t, l)
			dir := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(dir, os.DirFS(o.dir)); err != nil {
				t.Fatal(err)
			}
			return func() hub.Log {
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				return start(t, dir, o.conf)
			}
		},
		Outage: func(t testing.TB, l hub.Log) func() {
			fs := get(t, l).fs
			fs.fill(true)
			return func() {
				fs.fill(false)
				for {
					_, err := l.Append(t.Context(), &hub.Group{Forget: "nobody"})
					if !errors.Is(err, hub.ErrNoSpace) {
						return
					}
				}
			}
		},
		Operations:   operations,
		SetRetention: setRetention,
		Slack:        4<<20 + 4*4<<20, // Tail's and four tables
	}
}

func TestLog(t *testing.T) { hubtest.TestLog(t, directories()) }

func BenchmarkLog(b *testing.B) { hubtest.BenchmarkLog(b, directories()) }

// appendData appends a group with an event of each data.
func appendData(t testing.TB, l hub.Log, topic string, data ...string) hub.Receipt {
	t.Helper()
	r, err := l.Append(t.Context(), groupOf(topic, data...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func groupOf(topic string, data ...string) *hub.Group {
	g := &hub.Group{ID: rand.Text()}
	for _, d := range data {
		g.Events = append(g.Events, hub.Event{Data: d, Topics: []string{topic}})
	}
	return g
}

// readAll returns what a query selects, page by page.
func readAll(t testing.TB, l hub.Log, q hub.Query) (records []hub.Record) {
	t.Helper()
	for {
		page, err := l.Read(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, page.Records...)
		if page.Through >= l.Head().Seq {
			return records
		}
		q.After = page.Through
	}
}

// everything selects all events.
var everything = hub.Query{Patterns: []string{"**"}}

// TestLog_HeadCoversWhatReadReturns reads while somebody appends: whoever has read up to
// a sequence, and asks for the head then, is not told of a lower one.
func TestLog_HeadCoversWhatReadReturns(t *testing.T) {
	const appends = 3000
	l := open(t, "log", options(hubtest.Config{}), vfs.NewMem())
	ctx, cancel := context.WithCancel(t.Context())
	var appending sync.WaitGroup
	defer appending.Wait()
	defer cancel()
	appending.Go(func() {
		for range appends {
			if _, err := l.Append(ctx, groupOf("a", "one")); err != nil && ctx.Err() == nil {
				t.Error(err)
				cancel()
			}
		}
	})
	for after := uint64(0); after < appends && ctx.Err() == nil; {
		page, err := l.Read(t.Context(), hub.Query{Topics: []string{"a"}, After: after, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if head := l.Head(); head.Seq < page.Through {
			t.Fatalf("got head %d after reading through %d", head.Seq, page.Through)
		}
		after = page.Through
	}
}
