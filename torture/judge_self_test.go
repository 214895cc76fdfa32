package torture

import (
	"net/http"
	"slices"
	"testing"
)

// A trial is a small run as it could have been: six events of which all was told, and one
// of which nobody knows.
type trial struct {
	ledger     *ledger
	history    []stored
	subscriber *subscriber
	head       http.Header // of the topic b/1
}

var (
	single     = name{5, 1} // in a/1
	batchFirst = name{6, 1} // in a/1
	batchLast  = name{6, 2} // in b/1
	noOneKnows = name{5, 2} // in a/1
	isRefused  = name{5, 3}
	chained    = name{0, 1} // in chain/match
	chainedToo = name{0, 2}
)

const inA, inB, inChain = topicSet(1 << 0), topicSet(1 << 3), topicSet(1 << chainByMatch)

func newTrial() *trial {
	tr := &trial{ledger: &ledger{}}
	tr.ledger.sequence("abcdef-1")
	tr.ledger.accounts[5].entries = []entry{
		{topics: inA, own: true, fate: acked, first: 1, size: 1, begun: 1, seq: 10},
		{topics: inA, first: 2, size: 1, begun: 4},
		{topics: inA, fate: refused, first: 3, size: 1, begun: 5},
	}
	tr.ledger.accounts[6].entries = []entry{
		{topics: inA, fate: acked, first: 1, size: 2, begun: 2, seq: 11},
		{topics: inB, fate: acked, first: 1, size: 2, begun: 3, seq: 12},
	}
	tr.ledger.accounts[0].entries = []entry{
		{topics: inChain, own: true, fate: acked, first: 1, size: 1, begun: 6, seq: 14},
		{topics: inChain, own: true, fate: acked, first: 2, size: 1, begun: 7, seq: 15, after: 1},
	}
	tr.history = []stored{
		{single, 10, inA, true}, {batchFirst, 11, inA, false}, {batchLast, 12, inB, false},
		{noOneKnows, 13, inA, false}, {chained, 14, inChain, true}, {chainedToo, 15, inChain, true},
	}
	tr.subscriber = &subscriber{ledger: tr.ledger, selection: selection{topics: []string{"a/1"}}}
	tr.subscriber.seen = []sighting{{single, 0}, {batchFirst, 11}, {noOneKnows, 13}}
	tr.head = http.Header{"Tidewire-Count": {"1"}, "Tidewire-Oldest-Id": {"abcdef-12"}, "Tidewire-Newest-Id": {"abcdef-12"}}
	return tr
}

// found returns the rules that a trial breaks.
func (tr *trial) found() []string {
	j := newJudge(tr.ledger, tr.history)
	j.judgePublishers()
	j.judgeSubscriber(tr.subscriber)
	j.judgeHead(3, tr.head)
	return tr.ledger.order
}

func TestJudge(t *testing.T) {
	loseFromHistory := func(tr *trial, k name) {
		tr.history = slices.DeleteFunc(tr.history, func(h stored) bool { return h.name == k })
	}
	for _, test := range []struct {
		name   string
		change func(*trial)
		want   []string
	}{
		{"all is well", func(*trial) {}, nil},
		{"what nobody knows of is not stored", func(tr *trial) {
			loseFromHistory(tr, noOneKnows)
			tr.subscriber.seen = tr.subscriber.seen[:2]
		}, nil},
		{"begins from an id", func(tr *trial) {
			tr.subscriber.start, tr.subscriber.from = fromID, receipt{name: single, seq: 10}
			tr.subscriber.seen = tr.subscriber.seen[1:]
		}, nil},
		{"begins now", func(tr *trial) {
			tr.subscriber.start, tr.subscriber.joined = fromNow, 2
			tr.subscriber.seen = tr.subscriber.seen[2:]
		}, nil},
		{"begins now, and too late", func(tr *trial) {
			tr.subscriber.start, tr.subscriber.joined = fromNow, 1
			tr.subscriber.seen = tr.subscriber.seen[2:]
		}, []string{"an acknowledged event was not delivered"}},
		{"lost", func(tr *trial) {
			loseFromHistory(tr, single)
			tr.subscriber.seen = tr.subscriber.seen[1:]
		}, []string{"an acknowledged event is lost"}},
		{"seen, and lost", func(tr *trial) { loseFromHistory(tr, noOneKnows) }, []string{"an event that was seen is lost"}},
		{"stored twice", func(tr *trial) {
			tr.history = append(tr.history, stored{noOneKnows, 16, inA, false})
		}, []string{"an event is stored twice"}},
		{"refused, and stored", func(tr *trial) {
			tr.history = append(tr.history, stored{isRefused, 16, inA, false})
			tr.subscriber.seen = append(tr.subscriber.seen, sighting{isRefused, 16})
		}, []string{"a refused event is stored"}},
		{"nobody's", func(tr *trial) { tr.history = append(tr.history, stored{name{7, 1}, 16, inB, false}) },
			[]string{"the history has an event that nobody has published", "HEAD tells something else than the history"}},
		{"under another topic", func(tr *trial) { tr.history[4].topics = inB },
			[]string{"an event is stored other than it was published", "a chain is broken", "HEAD tells something else than the history"}},
		{"a history out of order", func(tr *trial) { tr.history[0].seq, tr.ledger.accounts[5].entries[0].seq = 12, 12 },
			[]string{"the history is not in order", "a position was used for two events"}},
		{"at another position", func(tr *trial) { tr.history[0].seq = 9 }, []string{"an event has another position than was told"}},
		{"a position used again", func(tr *trial) {
			loseFromHistory(tr, noOneKnows)
			tr.history[3].seq, tr.ledger.accounts[0].entries[0].seq = 13, 13
		}, []string{"a position was used for two events", "an event that was seen is lost"}},
		{"half a batch", func(tr *trial) {
			loseFromHistory(tr, batchFirst)
			tr.ledger.accounts[6].entries[0].fate, tr.ledger.accounts[6].entries[1].fate = unknown, unknown
			tr.subscriber.seen = slices.Delete(tr.subscriber.seen, 1, 2)
		}, []string{"a batch is stored in part"}},
		{"a broken batch", func(tr *trial) {
			tr.history[2], tr.history[3] = stored{noOneKnows, 12, inA, false}, stored{batchLast, 13, inB, false}
			tr.ledger.accounts[6].entries[1].seq = 13
			tr.subscriber.seen[2].seq = 12
			tr.head.Set("Tidewire-Oldest-Id", "abcdef-13")
			tr.head.Set("Tidewire-Newest-Id", "abcdef-13")
		}, []string{"a batch is broken up"}},
		{"a broken chain", func(tr *trial) { tr.ledger.accounts[0].entries[1].after = 0 }, []string{"a chain is broken"}},
		{"not delivered", func(tr *trial) { tr.subscriber.seen = tr.subscriber.seen[1:] }, []string{"an acknowledged event was not delivered"}},
		{"stored, and not delivered", func(tr *trial) { tr.subscriber.seen = tr.subscriber.seen[:2] }, []string{"a stored event was not delivered"}},
		{"delivered twice", func(tr *trial) {
			tr.subscriber.seen = append(tr.subscriber.seen, tr.subscriber.seen[2])
		}, []string{"an event was delivered twice"}},
		{"delivered out of order", func(tr *trial) { slices.Reverse(tr.subscriber.seen) }, []string{"events were delivered out of order"}},
		{"not asked for", func(tr *trial) { tr.subscriber.seen = append(tr.subscriber.seen, sighting{chained, 0}) },
			[]string{"an event was delivered that was not asked for"}},
		{"before the id", func(tr *trial) {
			tr.subscriber.start, tr.subscriber.from = fromID, receipt{name: single, seq: 10}
		}, []string{"an event was delivered that was not asked for"}},
		{"another epoch", func(tr *trial) { tr.ledger.sequence("ghijkl-5") }, []string{"the epoch has changed"}},
		{"no position", func(tr *trial) { tr.ledger.sequence("abcdef-x") }, []string{"a position cannot be read"}},
		{"another head", func(tr *trial) { tr.head.Set("Tidewire-Count", "2") }, []string{"HEAD tells something else than the history"}},
		{"a gap", func(tr *trial) { tr.subscriber.event("tidewire.gap", "abcdef-9", "", "{}") }, []string{"a subscriber was told tidewire.gap"}},
		{"damaged", func(tr *trial) { tr.subscriber.event("message", "abcdef-16", "", dataOf(single, false, 30)+"x") }, []string{"an event was damaged"}},
		{"another id", func(tr *trial) {
			tr.subscriber.seen = tr.subscriber.seen[:2]
			tr.subscriber.event("message", "mine", "abcdef-13", dataOf(noOneKnows, false, 30))
		}, []string{"an event came with another id"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tr := newTrial()
			test.change(tr)
			if got := tr.found(); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
