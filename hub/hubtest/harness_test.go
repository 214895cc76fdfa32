package hubtest_test

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/hub/hubtest"
	"github.com/tidewire/tidewire/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestLog_PassesForTheModel(t *testing.T) {
	hubtest.TestLog(t, newHarness(none, nil))
}

func TestLog_NeedsOnlyOpen(t *testing.T) {
	hubtest.TestLog(t, hubtest.Harness{Open: newHarness(none, nil).Open, NoClock: true})
}

// A bent is a model, some of whose methods are replaced.
type bent struct {
	*model
	append func(context.Context, *hub.Group) (hub.Receipt, error)
	read   func(context.Context, hub.Query) (hub.Page, error)
	tail   func(context.Context, uint64) iter.Seq2[[]hub.Record, error]
	locate func(context.Context, hub.Cursor) (hub.Location, error)
	topic  func(context.Context, string) (hub.TopicInfo, error)
	sync   func(context.Context) (hub.Head, error)
	head   func() hub.Head
	close  func() error
}

func (b *bent) Append(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
	return b.append(ctx, g)
}
func (b *bent) Read(ctx context.Context, q hub.Query) (hub.Page, error) { return b.read(ctx, q) }
func (b *bent) Tail(ctx context.Context, after uint64) iter.Seq2[[]hub.Record, error] {
	return b.tail(ctx, after)
}
func (b *bent) Locate(ctx context.Context, c hub.Cursor) (hub.Location, error) {
	return b.locate(ctx, c)
}
func (b *bent) Topic(ctx context.Context, name string) (hub.TopicInfo, error) {
	return b.topic(ctx, name)
}
func (b *bent) Sync(ctx context.Context) (hub.Head, error) { return b.sync(ctx) }
func (b *bent) Head() hub.Head                             { return b.head() }
func (b *bent) Close() error                               { return b.close() }

// newHarness returns a harness with every hook, whose models have a bug and are bent.
func newHarness(mistake bug, bend func(*bent)) hubtest.Harness {
	wrap := func(t testing.TB, m *model) hub.Log {
		t.Cleanup(func() { _ = m.Close() })
		if bend == nil {
			return m
		}
		b := &bent{m, m.Append, m.Read, m.Tail, m.Locate, m.Topic, m.Sync, m.Head, m.Close}
		bend(b)
		return b
	}
	return hubtest.Harness{
		Open: func(t testing.TB, c hubtest.Config) hub.Log {
			return wrap(t, &model{store: newStore(c, mistake)})
		},
		Handles: func(t testing.TB, c hubtest.Config, n int) []hub.Log {
			s := newStore(c, mistake)
			var all []hub.Log
			for i := range n {
				all = append(all, wrap(t, &model{store: s, handle: i}))
			}
			return all
		},
		Reopen: func(t testing.TB, l hub.Log, _ bool) hub.Log {
			return wrap(t, unbend(l).reopen())
		},
		Fail: func(_ testing.TB, l hub.Log, f hubtest.Fault, n int) {
			m := unbend(l)
			m.mu.Lock()
			defer m.mu.Unlock()
			m.fault, m.steps = f, n
		},
		Copy: func(t testing.TB, l hub.Log) func() hub.Log {
			m := unbend(l)
			s := newStore(m.config, mistake)
			m.mu.Lock()
			defer m.mu.Unlock()
			epoch := s.state.epoch
			s.state = m.state.clone()
			s.state.epoch = epoch
			return func() hub.Log {
				_ = m.Close()
				return wrap(t, &model{store: s})
			}
		},
		Outage: func(_ testing.TB, l hub.Log) func() {
			set := func(down bool) {
				m := unbend(l)
				m.mu.Lock()
				defer m.mu.Unlock()
				m.down = down
			}
			set(true)
			return func() { set(false) }
		},
		Lag: func(_ testing.TB, l hub.Log) func() {
			m := unbend(l)
			m.mu.Lock()
			defer m.mu.Unlock()
			m.behind = m.state.clone()
			return func() {
				m.mu.Lock()
				defer m.mu.Unlock()
				m.behind = nil
				close(m.more)
				m.more = make(chan struct{})
			}
		},
		SetRetention: func(l hub.Log, rules hub.RetentionRules, maxBytes int64) error {
			return unbend(l).setRetention(rules, maxBytes)
		},
		// As if each look-up took one step.
		Operations: func(l hub.Log) int64 {
			m := unbend(l)
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.calls
		},
	}
}

func unbend(l hub.Log) *model {
	if b, ok := l.(*bent); ok {
		return b.model
	}
	return l.(*model)
}

// A recorder is a test that may fail without failing the test around it.
type recorder struct {
	testing.TB

	mu       sync.Mutex
	failed   bool
	skipped  bool
	output   strings.Builder
	cleanups []func()
}

// record runs a check to its end.
func record(t testing.TB, check func(testing.TB, hubtest.Harness), h hubtest.Harness) *recorder {
	r := &recorder{TB: t}
	r.guard(func() { check(r, h) })
	for len(r.cleanups) > 0 {
		n := len(r.cleanups) - 1
		cleanup := r.cleanups[n]
		r.cleanups = r.cleanups[:n]
		r.guard(cleanup)
	}
	return r
}

// guard waits for a function that may end its goroutine.
func (r *recorder) guard(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

func (r *recorder) note(failed bool, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = r.failed || failed
	r.output.WriteString(text + "\n")
}

func (r *recorder) Cleanup(f func())           { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Helper()                    {}
func (r *recorder) Log(args ...any)            { r.note(false, fmt.Sprint(args...)) }
func (r *recorder) Logf(f string, args ...any) { r.note(false, fmt.Sprintf(f, args...)) }
func (r *recorder) Error(args ...any)          { r.note(true, fmt.Sprint(args...)) }
func (r *recorder) Errorf(f string, args ...any) {
	r.note(true, fmt.Sprintf(f, args...))
}
func (r *recorder) Fail()            { r.note(true, "") }
func (r *recorder) FailNow()         { r.end(true, "") }
func (r *recorder) Fatal(a ...any)   { r.end(true, fmt.Sprint(a...)) }
func (r *recorder) Skip(a ...any)    { r.skip(fmt.Sprint(a...)) }
func (r *recorder) SkipNow()         { r.skip("") }
func (r *recorder) Skipped() bool    { return r.skipped }
func (r *recorder) skip(text string) { r.skipped = true; r.end(false, text) }
func (r *recorder) Fatalf(f string, args ...any) {
	r.end(true, fmt.Sprintf(f, args...))
}
func (r *recorder) Skipf(f string, args ...any) { r.skip(fmt.Sprintf(f, args...)) }
func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *recorder) end(failed bool, text string) {
	r.note(failed, text)
	runtime.Goexit()
}
