package disk_test

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/hub/hubtest"
)

// A powerFS is files that lose power: what was not synced is there afterward by chance,
// block by block, and name by name.
type powerFS struct {
	*faultyFS
	mem *vfs.MemFS

	mu   sync.Mutex
	left *vfs.MemFS // what the power loss left; nil before
}

// newPowerFS returns files over mem; chance draws how much of what was not synced
// remains.
func newPowerFS(mem *vfs.MemFS, chance func() vfs.CrashCloneCfg) *powerFS {
	p := &powerFS{faultyFS: newFaultyFS(mem), mem: mem}
	p.fell = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.left = mem.CrashClone(chance())
	}
	return p
}

// cut takes the power away, unless a fault has, and returns what is left.
func (p *powerFS) cut() *vfs.MemFS {
	p.crash()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.left
}

// percents are how much of what was not synced remains.
var percents = []int{0, 50, 100, 5, 95, 25, 75}

// powerLoss is a harness whose crash is a power loss.
func powerLoss() hubtest.Harness {
	type powered struct {
		conf hubtest.Config
		fs   *powerFS
	}
	var all sync.Map
	get := func(t testing.TB, l hub.Log) powered {
		o, ok := all.Load(l)
		if !ok {
			t.Fatal("the harness does not know that Log")
		}
		return o.(powered)
	}
	var mu sync.Mutex
	losses := rand.Uint64N(1 << 32)
	chance := func(t testing.TB) func() vfs.CrashCloneCfg {
		return func() vfs.CrashCloneCfg {
			mu.Lock()
			defer mu.Unlock()
			losses++
			c := vfs.CrashCloneCfg{UnsyncedDataPercent: percents[losses%uint64(len(percents))], RNG: rand.New(rand.NewPCG(losses, 0))}
			t.Logf("power loss with seed %d: %d%% of what was not synced remain", losses, c.UnsyncedDataPercent)
			return c
		}
	}
	start := func(t testing.TB, mem *vfs.MemFS, c hubtest.Config) hub.Log {
		fs := newPowerFS(mem, chance(t))
		l := open(t, "log", options(c), fs)
		all.Store(l, powered{c, fs})
		return l
	}
	return hubtest.Harness{
		SetRetention: setRetention,
		Open: func(t testing.TB, c hubtest.Config) hub.Log {
			if strings.HasSuffix(t.Name(), "/memory_is_bounded") {
				t.Skip("the files themselves are in memory here")
			}
			return start(t, vfs.NewCrashableMem(), c)
		},
		Reopen: func(t testing.TB, l hub.Log, crash bool) hub.Log {
			o := get(t, l)
			mem := o.fs.mem
			if crash {
				mem = o.fs.cut()
			}
			if err := l.Close(); err != nil && !crash {
				t.Fatal(err)
			}
			return start(t, mem, o.conf)
		},
		Fail:       func(t testing.TB, l hub.Log, f hubtest.Fault, n int) { get(t, l).fs.fail(f, n) },
		Operations: operations,
	}
}

// TestLog_PowerLoss has all statements about a Log hold where a crash is that of the
// machine.
func TestLog_PowerLoss(t *testing.T) { hubtest.TestLog(t, powerLoss()) }

// TestOpen_NewDirectorySurvivesPowerLoss makes a directory below others that are new, too:
// the names of all of them must be on the disk before the first event is.
func TestOpen_NewDirectorySurvivesPowerLoss(t *testing.T) {
	for _, dir := range []string{"log", "var/lib/log"} {
		t.Run(dir, func(t *testing.T) {
			fs := newPowerFS(vfs.NewCrashableMem(), func() vfs.CrashCloneCfg { return vfs.CrashCloneCfg{} })
			l := open(t, dir, options(hubtest.Config{}), fs)
			r := appendData(t, l, "a", "one")
			left := fs.cut()
			_ = l.Close() // the power is gone
			l = open(t, dir, options(hubtest.Config{}), left)
			if got := l.Head(); got.Epoch != r.Epoch || got.Seq != r.Sequences[0] {
				t.Errorf("got head %+v, want epoch %s and sequence %d, as was answered", got, r.Epoch, r.Sequences[0])
			}
		})
	}
}
