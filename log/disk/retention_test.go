package disk_test

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/hub/hubtest"
	"github.com/tidewire/tidewire/log/disk"
)

// TestSetRetention_SurvivesPowerLossWhileItTrims takes the power away at one moment after
// another while a narrower retention removes most of what is there.
func TestSetRetention_SurvivesPowerLossWhileItTrims(t *testing.T) {
	const stored, kept = 6000, 10
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	partly := 0
	for step := 1; ; step++ {
		random := rand.New(rand.NewPCG(seed, uint64(step)))
		fs := newPowerFS(vfs.NewCrashableMem(), func() vfs.CrashCloneCfg {
			return vfs.CrashCloneCfg{UnsyncedDataPercent: percents[step%len(percents)], RNG: random}
		})
		o := options(hubtest.Config{})
		l := open(t, "log", o, fs)
		for n := 0; n < stored; n += 500 {
			appendData(t, l, "a", make([]string, 500)...)
		}
		fs.watch(step)
		if err := l.SetRetention(hub.RetentionRules{{Pattern: "a", Retention: hub.Retention{Count: kept}}}, 0); err != nil {
			t.Fatal(err)
		}
		becomes(t, l, "a", kept)
		fs.watch(0)
		lost := false
		select {
		case <-fs.died:
			lost = true
		default:
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if !lost {
			if partly == 0 {
				t.Errorf("in %d steps nothing was left halfway: the test shows nothing", step)
			}
			return
		}
		mem := fs.cut()
		if r := whole(t, "log", mem); r == nil || len(r.Problems) > 0 {
			t.Fatalf("step %d: got %+v", step, r)
		}
		l = open(t, "log", o, mem)
		got := readAll(t, l, everything)
		if len(got) < kept || got[0].Seq != stored-uint64(len(got))+1 || got[len(got)-1].Seq != stored {
			t.Fatalf("step %d: got %d events, want all from some one on", step, len(got))
		}
		if len(got) > kept && len(got) < stored {
			partly++
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// becomes waits until so many events of a topic are kept.
func becomes(t testing.TB, l *disk.Log, topic string, want int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		info, err := l.Topic(ctx, topic)
		if err != nil {
			t.Fatal(err)
		}
		if info.Count == want {
			return
		}
	}
}
