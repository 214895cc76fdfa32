// Package hubtest is the conformance test of [hub.Log], and a benchmark that all
// implementations share.
//
// An implementation's own test makes a [Harness] and hands it to [TestLog]. What the
// test must catch is numbered: a subtest is one statement about every Log, its
// subtests are the ways in which the statement is checked. Those that need a hook
// which the harness does not have are skipped, by the name of the hook.
package hubtest

import (
	"context"
	"testing"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// DefaultPatience is how long a check waits for what should happen.
const DefaultPatience = 30 * time.Second

// DefaultSlack is how many bytes a Log may hold for Tails that are behind.
const DefaultSlack = 8 << 20

// A Harness tells how to make a Log, and how to disturb it. Only Open is needed. The
// hooks are called from the goroutine of the test and may end it.
type Harness struct {
	// Open returns a new, empty Log. The harness closes it with t.Cleanup; the test
	// may have closed it before.
	Open func(t testing.TB, c Config) hub.Log

	// Handles returns n Logs over one new, empty store.
	Handles func(t testing.TB, c Config, n int) []hub.Log

	// Reopen opens the store of a durable Log again, with the same Config. If crash
	// is set, l is abandoned where it stands, as by kill -9: Appends that are in
	// flight or come later return an error, and nothing more reaches the store. Else
	// it is closed.
	Reopen func(t testing.TB, l hub.Log, crash bool) hub.Log

	// Fail lets the n-th step of writing from now on meet a fault; n is 1 or more.
	// The faults say which steps count.
	Fail func(t testing.TB, l hub.Log, f Fault, n int)

	// Copy takes a copy of the store. restore closes l and opens the copy in its
	// place, as an operator does with a backup.
	Copy func(t testing.TB, l hub.Log) (restore func() hub.Log)

	// Outage takes away what appending needs: the quorum, the disk. restored brings
	// it back, and returns when Append works again.
	Outage func(t testing.TB, l hub.Log) (restored func())

	// Lag keeps a handle from applying what others append, until caughtUp is called,
	// which need not wait for it.
	Lag func(t testing.TB, l hub.Log) (caughtUp func())

	// Operations counts what l has looked at to answer Read, Locate and Topic: keys,
	// rows, messages, blocks; whatever would grow if history were scanned.
	Operations func(l hub.Log) int64

	// SetRetention has other bounds hold than those of the Config, until l is closed.
	// maxBytes is of all events together, 0 for any.
	SetRetention func(l hub.Log, rules hub.RetentionRules, maxBytes int64) error

	// NoClock says that the Log has its time from elsewhere than Config.Now.
	NoClock bool

	// Patience bounds each check. Default: [DefaultPatience].
	Patience time.Duration

	// Slack is how many bytes the Log may hold beyond what its retention keeps, for
	// Tails that are behind and for caches. Default: [DefaultSlack].
	Slack int
}

// A Config says what Log is wanted. The zero value keeps everything.
type Config struct {
	Retention hub.RetentionRules
	Now       func() time.Time // the clock of the Log; nil: the real one
	KeyLife   time.Duration    // of an idempotency key; 0: a day
	Limits    hub.Limits       // zero fields: the Log's own
}

// A Fault is what a store can do to a Log.
type Fault int

const (
	// FailWrite lets the n-th write return an error; a part of it may be stored.
	FailWrite Fault = iota + 1

	// FailSync lets the n-th sync return an error; what was written may be stored.
	FailSync

	// Crash ends the process at the n-th step, write or sync: it may be half done,
	// and nothing later reaches the store. Reopen with crash set comes next.
	Crash
)

// A statement is what holds for every Log; checks are named, and begin with a new one.
type statement struct {
	name   string
	checks []check
}

type check struct {
	name string
	run  func(t *run)
}

var statements = []statement{
	{"01 all readers agree", []check{
		{"an event comes back as it went in", eventsAreKeptWhole},
		{"Read and every Tail agree", readersAgree},
		{"handles agree", handlesAgree},
		{"handles give one verdict", handlesGiveOneVerdict},
	}},
	{"02 what is appended is seen", []check{
		{"at once by its own handle", appendIsSeenAtOnce},
		{"by another handle after Sync", syncCoversAppends},
		{"by another handle as a prefix", otherHandlesShowAPrefix},
		{"by a handle that lags as a prefix", laggingHandleShowsAPrefix},
	}},
	{"03 history joins live without a seam", []check{
		{"at random moments", joinsAtRandom},
		{"nothing is yielded before Read sees it", tailIsBehindRead},
		{"groups are unbroken", tailKeepsGroups},
		{"a Tail ends with its context", tailEndsWithContext},
	}},
	{"04 IfLast has one winner and no false refusal", []check{
		{"32 publishers contend", ifLastHasOneWinner},
		{"winners are a chain", winnersAreAChain},
		{"other topics refuse nothing", ifLastIsRefusedByItsTopicOnly},
		{"what is compared", ifLastComparesTheNewest},
		{"a refused group leaves nothing", refusedGroupsLeaveNothing},
		{"the mark outlives the event", ifLastOutlivesTheEvent},
	}},
	{"05 nothing follows Closed", []check{
		{"32 publishers and a close", closeEndsPublishing},
		{"what closing does", closingIsFinal},
		{"a closed topic refuses the whole group", closedTopicRefusesGroup},
		{"on every handle", closeReachesHandles},
	}},
	{"06 a repeat is stored once", []check{
		{"the same ID at once", sameIDAtOnce},
		{"the same ID later", sameIDLater},
		{"the same ID on two handles", sameIDOnTwoHandles},
		{"the same ID after a crash", sameIDAfterCrash},
		{"the same key", sameKey},
		{"the same key at once", sameKeyAtOnce},
		{"the scope of a key", scopeOfAKey},
		{"a repeat comes before other verdicts", repeatsComeFirst},
		{"many keys", manyKeys},
		{"the life of a key", lifeOfAKey},
		{"the same event id", sameEventID},
	}},
	{"07 a group is whole or not there", []check{
		{"to every reader", groupsAreSeenWhole},
		{"after a clean end", reopenKeepsAll},
		{"after a crash under load", crashUnderLoad},
		{"after a crash at any point", crashAtAnyPoint},
	}},
	{"08 a failing store is never success", []check{
		{"a sync that fails", failingSync},
		{"a write that fails", failingWrite},
	}},
	{"09 a sequence is used once", []check{
		{"after retention to empty", sequencesOutliveRetention},
		{"after Forget", sequencesOutliveForget},
		{"after a clean end", sequencesOutliveReopen},
		{"after a crash", sequencesOutliveCrash},
		{"a restored copy is another epoch", copyIsAnotherEpoch},
	}},
	{"10 retention removes and Gap tells", []check{
		{"count", retentionByCount},
		{"bytes", retentionByBytes},
		{"age", retentionByAge},
		{"the first rule that matches counts", firstRuleCounts},
		{"an event lives by topic", eventsLiveByTopic},
		{"Gap", gapTellsOfRemoval},
		{"Forget", forgetRemoves},
		{"a Tail does not leave out", tailTellsOfRemoval},
		{"random histories", randomHistories},
	}},
	{"11 resume moves on by index", []check{
		{"pages", pagesAreBounded},
		{"the newest", newestAreTheLast},
		{"the newest, page by page", newestGoOnDownward},
		{"Through moves where nothing matches", throughMovesOn},
		{"places", locateFindsPlaces},
		{"cost is flat in history", costIsFlat},
	}},
	{"12 a future position", []check{
		{"is of another order", futurePositionIsLost},
		{"is found by a handle that lags after Sync", futurePositionIsFoundAfterSync},
		{"is of another order after a rollback", positionIsLostAfterRollback},
	}},
	{"13 time never falls", []check{
		{"when the clock steps back", timeNeverFalls},
		{"under load", timeNeverFallsUnderLoad},
		{"Since is exact on ties", sinceIsExact},
		{"Since before what is kept", sinceTellsOfRemoval},
	}},
	{"14 any text is a topic", []check{
		{"topics", anyTextIsATopic},
		{"patterns", patternsMatchSegments},
	}},
	{"15 an outage", []check{
		{"refuses and is recovered from", outageIsSurvived},
	}},
	{"16 a slow Tail delays nobody", []check{
		{"appends go on", slowTailDelaysNoAppend},
		{"memory is bounded", slowTailHoldsNoMemory},
		{"ended Tails leave nothing", endedTailsLeaveNothing},
	}},
	{"17 limits and the end", []check{
		{"limits", limitsAreKept},
		{"Close ends Tails", closeEndsTails},
		{"Close ends Appends", closeEndsAppends},
		{"nothing works after Close", nothingWorksAfterClose},
	}},
	{"18 retention can change", []check{
		{"a narrower count trims", narrowerCountTrims},
		{"fewer bytes trim", narrowerBytesTrim},
		{"a shorter age trims", narrowerAgeTrims},
		{"fewer bytes of all together trim", narrowerTotalTrims},
		{"other rules keep from then on", otherRulesKeepFromThenOn},
		{"another age keeps from then on", ageKeepsFromThenOn},
		{"what cannot be is refused", wrongRetentionIsRefused},
		{"while others append and read", retentionChangesUnderLoad},
		{"until the Log is closed", retentionEndsWithTheLog},
	}},
}

// TestLog tests whether the Logs of a harness are Logs.
func TestLog(t *testing.T, h Harness) {
	for _, s := range statements {
		t.Run(s.name, func(t *testing.T) {
			for _, c := range s.checks {
				t.Run(c.name, func(t *testing.T) { c.on(t, h) })
			}
		})
	}
}

// on runs a check on a harness.
func (c check) on(t testing.TB, h Harness) {
	patience := h.Patience
	if patience == 0 {
		patience = DefaultPatience
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c.run(&run{TB: t, h: h, ctx: ctx, patience: patience})
	if ctx.Err() != nil {
		t.Errorf("got no end within %v", patience)
	}
}
