package disk_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/hub/hubtest"
	"github.com/tidewire/tidewire/log/disk"
)

// TestLog_PublishersShareSyncs has many publishers, and a disk that takes its time.
func TestLog_PublishersShareSyncs(t *testing.T) {
	const publishers, appends = 32, 20
	fs := newFaultyFS(vfs.NewMem())
	l := open(t, "log", options(hubtest.Config{}), fs)
	fs.mu.Lock()
	fs.slow = time.Millisecond
	fs.mu.Unlock()
	before := fs.syncs.Load()
	var publishing sync.WaitGroup
	for range publishers {
		publishing.Go(func() {
			for range appends {
				if _, err := l.Append(t.Context(), groupOf("a", "one")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	publishing.Wait()
	if got, most := fs.syncs.Load()-before, int64(publishers*appends/4); got > most {
		t.Errorf("got %d syncs for %d appends, want %d at most", got, publishers*appends, most)
	}
}

// TestLog_TellsNothingThatIsNotOnTheDisk holds a sync, and has others ask meanwhile for what
// is on its way: neither by reading nor by a repeat or a refusal do they learn of it before.
func TestLog_TellsNothingThatIsNotOnTheDisk(t *testing.T) {
	fs := newFaultyFS(vfs.NewMem())
	l := open(t, "log", options(hubtest.Config{}), fs)
	before := appendData(t, l, "a", "before").Sequences[0]
	gate := make(chan struct{})
	fs.gate = gate
	var opened atomic.Bool
	var appending sync.WaitGroup
	defer appending.Wait()
	open := sync.OnceFunc(func() {
		opened.Store(true)
		close(gate)
	})
	defer open()
	send := func(g *hub.Group, want error) {
		appending.Go(func() {
			r, err := l.Append(t.Context(), g)
			if !opened.Load() {
				t.Errorf("append of %+v: got %+v, %v while the disk has nothing of it", g, r, err)
			}
			if !errors.Is(err, want) {
				t.Errorf("append of %+v: got %+v, %v, want %v", g, r, err, want)
			}
		})
	}
	ahead := groupOf("a", "on its way")
	ahead.Key, ahead.Close, ahead.Events[0].ID = "key", []string{"closed"}, "own"
	begun := fs.syncs.Load()
	send(ahead, nil)
	for fs.syncs.Load() == begun { // it is there
		runtime.Gosched()
	}
	again, same := *ahead, *ahead
	same.ID = "other"
	reused := same
	reused.Sum[0] = 1
	reused.ID = "a third"
	conflict := groupOf("a", "too late")
	conflict.IfLast = &before
	late := groupOf("closed", "too late")
	send(&again, nil)
	send(&same, nil)
	send(&reused, hub.ErrKeyReused)
	send(late, hub.ErrClosed)
	appending.Go(func() {
		_, err := l.Append(t.Context(), conflict)
		if c := (*hub.ConflictError)(nil); !errors.As(err, &c) || c.Newest <= before || !opened.Load() {
			t.Errorf("got %v, the disk having it: %v; want a conflict", err, opened.Load())
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	appending.Go(func() {
		for records, err := range l.Tail(ctx, before) {
			if err != nil || !opened.Load() {
				t.Errorf("tail: got %+v, %v while the disk has nothing of it", records, err)
			}
			return
		}
	})
	for began := time.Now(); time.Since(began) < 50*time.Millisecond; { // while they could be answered
		info, err := l.Topic(t.Context(), "a")
		if err != nil || info.Newest != before {
			t.Fatalf("got topic %+v, %v, want nothing after %d", info, err, before)
		}
		closed, err := l.Topic(t.Context(), "closed")
		if err != nil || closed.Closed {
			t.Fatalf("got topic %+v, %v, want it open", closed, err)
		}
		loc, err := l.Locate(t.Context(), hub.Cursor{ID: "own"})
		if err != nil || loc.Lost != hub.LostUnknown {
			t.Fatalf("got %+v, %v for its id", loc, err)
		}
		if n := len(readAll(t, l, everything)); n != 1 || l.Head().Seq != before {
			t.Fatalf("got %d events, and head %+v, want only the first", n, l.Head())
		}
	}
	open()
	appending.Wait()
	if n := len(readAll(t, l, everything)); n != 2 {
		t.Errorf("got %d events in the end, want 2", n)
	}
}

// TestSync_WhatPowerLossTakes cuts the power while publishers append, under each policy.
// It may take the end of the order, unless the policy is SyncAlways, and never the middle
// or a part of a group. What was lost is known to be, and no sequence comes twice.
func TestSync_WhatPowerLossTakes(t *testing.T) {
	lost := make(map[disk.Sync]int)
	for _, policy := range []disk.Sync{disk.SyncAlways, disk.SyncNever, disk.Sync(time.Millisecond), disk.Sync(time.Hour)} {
		for i, percent := range percents {
			t.Run(fmt.Sprint(policy, ", ", percent, "% of what was not synced remain"), func(t *testing.T) {
				lost[policy] += losePower(t, policy, percent, uint64(i), powerGroups, 0)
				losePower(t, policy, percent, uint64(i), 1, 0)
			})
		}
	}
	t.Run("more than a log file holds", func(t *testing.T) {
		// Files are synced when the next one is begun, so not all of it can be lost.
		const data = 16 << 10
		if n := losePower(t, disk.SyncNever, 5, 1, powerGroups, data); n >= 3*powerGroups {
			t.Errorf("got all %d events lost", n)
		}
	})
	if n := lost[disk.SyncAlways]; n > 0 {
		t.Errorf("got %d events lost that were synced", n)
	}
	for _, policy := range []disk.Sync{disk.SyncNever, disk.Sync(time.Hour)} {
		if lost[policy] == 0 {
			t.Errorf("%v: nothing was lost: the test shows nothing", policy)
		}
	}
}

const powerGroups = 200

// losePower has that many groups appended, and returns how many events were lost that were answered.
func losePower(t *testing.T, policy disk.Sync, percent int, seed uint64, groups, data int) int {
	const size = 3
	publishers := min(4, groups)
	fs := newPowerFS(vfs.NewCrashableMem(), func() vfs.CrashCloneCfg {
		return vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, 0))}
	})
	o := options(hubtest.Config{})
	o.Sync = policy
	// A first session ends in an orderly way, which must not be taken for the end of the
	// second.
	l := open(t, "log", o, fs)
	epoch := l.Head().Epoch
	answered := make(map[uint64]string) // an event's data
	for i, seq := range appendData(t, l, "a", make([]string, size)...).Sequences {
		answered[seq] = ""
		if seq != uint64(i+1) {
			t.Fatalf("got sequence %d first", seq)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, "log", o, fs)
	var mu sync.Mutex
	var publishing sync.WaitGroup
	for p := range publishers {
		publishing.Go(func() {
			for n := range groups / publishers {
				g := groupOf("a", make([]string, size)...)
				for i := range g.Events {
					g.Events[i].Data = fmt.Sprintf("%d of group %d of %d%s", i, n, p, strings.Repeat(" ", data))
				}
				r, err := l.Append(t.Context(), g)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for i, seq := range r.Sequences {
					answered[seq] = g.Events[i].Data
				}
				mu.Unlock()
			}
		})
	}
	publishing.Wait()
	left := fs.cut()
	_ = l.Close() // the power is gone

	l = open(t, "log", o, left)
	records := readAll(t, l, everything)
	for i, r := range records {
		if r.Seq != uint64(i+1) || r.Event.Data != answered[r.Seq] {
			t.Fatalf("got %.20q at sequence %d as event %d, want %.20q", r.Event.Data, r.Seq, i, answered[uint64(i+1)])
		}
	}
	if len(records)%size != 0 || len(records) < size {
		t.Fatalf("got %d events, want whole groups of %d, and the first", len(records), size)
	}
	kept := uint64(len(records))
	told := func() {
		t.Helper()
		for seq := range answered {
			want := hub.Location{Seq: seq}
			if seq > kept {
				want = hub.Location{Seq: kept, Lost: hub.LostEpoch}
			}
			got, err := l.Locate(t.Context(), hub.Cursor{Epoch: epoch, Seq: seq})
			if err != nil || got.Lost != want.Lost || got.Lost == hub.Found && got.Seq != seq || got.Seq > want.Seq {
				t.Fatalf("locate %d: got %+v, %v, want %+v", seq, got, err, want)
			}
		}
	}
	told()
	r := appendData(t, l, "a", "afterward")
	if _, ok := answered[r.Sequences[0]]; ok || r.Sequences[0] <= kept || r.Epoch != epoch {
		t.Errorf("got sequence %d of %s, which was given before", r.Sequences[0], r.Epoch)
	}
	told()
	return len(answered) - len(records)
}

// TestSync_CloseKeepsEverything has the worst power loss come after an orderly end: nothing
// is lost, and no sequence left out.
func TestSync_CloseKeepsEverything(t *testing.T) {
	for _, policy := range []disk.Sync{disk.SyncAlways, disk.SyncNever, disk.Sync(time.Hour)} {
		t.Run(policy.String(), func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			o := options(hubtest.Config{})
			o.Sync = policy
			l := open(t, "log", o, mem)
			first := appendData(t, l, "a", "one", "two")
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			left := mem.CrashClone(vfs.CrashCloneCfg{})
			if r := whole(t, "log", left); r == nil || !r.Orderly {
				t.Errorf("got %+v, want an orderly end", r)
			}
			l = open(t, "log", o, left)
			if got := len(readAll(t, l, everything)); got != 2 {
				t.Errorf("got %d events, want 2", got)
			}
			if r := appendData(t, l, "a", "three"); r.Sequences[0] != first.Sequences[1]+1 {
				t.Errorf("got sequence %d after %d", r.Sequences[0], first.Sequences)
			}
		})
	}
}

// TestSync_IntervalKeepsWhatIsOlder waits until what was appended survives the worst power
// loss, with nothing appended meanwhile.
func TestSync_IntervalKeepsWhatIsOlder(t *testing.T) {
	mem := vfs.NewCrashableMem()
	o := options(hubtest.Config{})
	o.Sync = disk.Sync(5 * time.Millisecond)
	l := open(t, "log", o, mem)
	r := appendData(t, l, "a", "one")
	deadline := time.Now().Add(patience)
	for {
		left := open(t, "log", o, mem.CrashClone(vfs.CrashCloneCfg{}))
		got := left.Head().Seq
		if err := left.Close(); err != nil {
			t.Fatal(err)
		}
		if got == r.Sequences[0] {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got head %d for as long as %v, want %d", got, patience, r.Sequences[0])
		}
	}
}

// TestSync_SubscribersAreToldOfWhatIsLost has a hub deliver events that a power loss takes
// back. Subscribers who resume from them are told, and get what comes then.
func TestSync_SubscribersAreToldOfWhatIsLost(t *testing.T) {
	fs := newPowerFS(vfs.NewCrashableMem(), func() vfs.CrashCloneCfg { return vfs.CrashCloneCfg{} })
	o := options(hubtest.Config{})
	o.Sync = disk.SyncNever
	l := open(t, "log", o, fs)
	h := newHub(t, l)
	seen := make(map[string]hub.Lost) // an id, and what resuming from it comes to
	for i, ev := range []hub.Event{{Data: "one"}, {Data: "two", ID: "publisher's"}, {Data: "three"}} {
		ev.Topics = []string{"a"}
		if _, err := h.Publish(t.Context(), hub.Publication{Events: []hub.Event{ev}}); err != nil {
			t.Fatal(err)
		}
		d := subscribe(t, h, hub.Start{Earliest: true}, i+1)[i]
		if d.err != nil || d.Data != ev.Data {
			t.Fatalf("got %q, %v, want %q", d.Data, d.err, ev.Data)
		}
		seen[d.ID] = hub.LostEpoch
	}
	seen["publisher's"] = hub.LostUnknown
	left := fs.cut()
	_ = l.Close() // the power is gone

	l = open(t, "log", o, left)
	if n := len(readAll(t, l, everything)); n > 0 {
		t.Fatalf("got %d events after all: the test shows nothing", n)
	}
	h = newHub(t, l)
	for _, data := range []string{"four", "five", "six"} {
		if _, err := h.Publish(t.Context(), hub.Publication{Events: []hub.Event{{Data: data, Topics: []string{"a"}}}}); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range seen {
		got := subscribe(t, h, hub.Start{LastEventID: id}, 4)
		var gap *hub.GapError
		if !errors.As(got[0].err, &gap) || gap.Reason != want || gap.Requested != id {
			t.Errorf("resume from %s: got %q, %v, want a gap, %s", id, got[0].Data, got[0].err, want)
			continue
		}
		for i, want := range []string{"four", "five", "six"} {
			if d := got[1+i]; d.Data != want || d.err != nil {
				t.Errorf("resume from %s: got %q, %v after the gap, want %q", id, d.Data, d.err, want)
			}
		}
	}
}

// newHub returns a hub that lives as long as the test.
func newHub(t testing.TB, l hub.Log) *hub.Hub {
	t.Helper()
	h, err := hub.New(&hub.Options{Log: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("subscriptions outlive the test: %v", err)
		}
	})
	return h
}

// A delivered is what a subscription yields at once.
type delivered struct {
	hub.Delivery
	err error
}

// subscribe returns the first n things that a subscriber of topic a gets.
func subscribe(t testing.TB, h *hub.Hub, from hub.Start, n int) (all []delivered) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for d, err := range h.Subscribe(ctx, hub.Filter{Topics: []string{"a"}, From: from}) {
		if all = append(all, delivered{d, err}); len(all) == n {
			return all
		}
	}
	t.Fatalf("got %d things, want %d", len(all), n)
	return nil
}
