package torture

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A fate is what a publisher knows of an event.
type fate uint8

const (
	unknown fate = iota // there was no answer: it is stored once, or not at all
	acked               // it is stored
	refused             // it is not
)

// An entry is what is known of one event.
type entry struct {
	topics topicSet
	own    bool // it has an id of its publisher's
	fate   fate
	first  int32  // of the batch that it was published in, itself if it was alone
	size   int32  // of that batch
	after  int32  // in a chain: the one before; 0 is none
	begun  int64  // by the ledger's clock
	seq    uint64 // that it was acknowledged with; 0 if that was not told
}

// An account has the events of one publisher: number n is the element n-1. It belongs to
// the publisher until that has ended.
type account struct{ entries []entry }

func (a *account) of(n int32) *entry { return &a.entries[n-1] }

// A ledger has all that was published, and what turned out to be wrong.
type ledger struct {
	findings
	accounts [publishers + 1]account // the last one publishes what tells the end
	clock    atomic.Int64            // counts publishes
	epoch    atomic.Pointer[string]

	mu     sync.Mutex
	recent []receipt // some that were acknowledged not long ago
}

const theEnd = publishers // the publisher of what tells the end

// A receipt is what a publisher was told of an event.
type receipt struct {
	name     name
	id       string
	position string
	seq      uint64
}

// sequence reads a position.
func (l *ledger) sequence(position string) uint64 {
	epoch, digits, _ := strings.Cut(position, "-")
	seq, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || seq == 0 {
		l.add("a position cannot be read", "%q", position)
		return 0
	}
	known := l.epoch.Load()
	if known == nil {
		l.epoch.CompareAndSwap(nil, &epoch)
		known = l.epoch.Load()
	}
	if epoch != *known {
		l.add("the epoch has changed", "from %s to that of %s", *known, position)
	}
	return seq
}

// remember keeps a receipt, for who wants to begin from it.
func (l *ledger) remember(r receipt) {
	const most = 512
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.recent) < most {
		l.recent = append(l.recent, r)
		return
	}
	l.recent[r.seq%most] = r
}

// someReceipt returns one of those that are remembered; false if there is none.
func (l *ledger) someReceipt(rng *rand.Rand) (receipt, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.recent) == 0 {
		return receipt{}, false
	}
	return l.recent[rng.IntN(len(l.recent))], true
}

// counts returns how many events have which fate.
func (l *ledger) counts() (n [3]int) {
	for i := range l.accounts {
		for j := range l.accounts[i].entries {
			n[l.accounts[i].entries[j].fate]++
		}
	}
	return n
}

// findings are what is wrong, by the rule that is broken: how often, and some examples.
type findings struct {
	foundMu sync.Mutex
	found   map[string]*finding
	order   []string
}

type finding struct {
	times    int
	examples []string
}

const maxExamples = 5

func (f *findings) add(rule, format string, args ...any) {
	f.foundMu.Lock()
	defer f.foundMu.Unlock()
	if f.found == nil {
		f.found = make(map[string]*finding)
	}
	if f.found[rule] == nil {
		f.found[rule] = &finding{}
		f.order = append(f.order, rule)
	}
	one := f.found[rule]
	if one.times++; len(one.examples) < maxExamples {
		one.examples = append(one.examples, fmt.Sprintf(format, args...))
	}
}

// report fails a test with what was found.
func (f *findings) report(t *testing.T) {
	t.Helper()
	f.foundMu.Lock()
	defer f.foundMu.Unlock()
	for _, rule := range f.order {
		one := f.found[rule]
		t.Errorf("%s, %d times, such as\n    %s", rule, one.times, strings.Join(one.examples, "\n    "))
	}
}
