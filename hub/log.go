package hub

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"
)

// A Log is one total order of records, and the look-ups over it. Package
// hub/hubtest says, as a test, what an implementation must keep.
//
// Every implementation is log and apply: records come in one order, with sequence and
// time as inputs, and a deterministic step applies each to tables, from which all
// reading is done. Sequences rise, may have holes, and are never used twice in an
// epoch. All reading is from what this node has applied; a node's view is always a
// prefix of the order. Methods are safe for concurrent use.
type Log interface {
	// Append stores a group, all or none, and returns when it is durable and this
	// node's reads see it.
	//
	// Refused, and nothing became visible: a *[ConflictError], [ErrClosed] or
	// [ErrKeyReused]. Surely not stored: [ErrUnavailable], of which [ErrNoSpace] is one. [ErrIndeterminate]: it may
	// be stored or still become so; the same Group.ID may be appended again and is
	// stored once at most. An end of ctx after the hand-over is that too.
	Append(ctx context.Context, g *Group) (Receipt, error)

	// Read returns one page in order, each event once however many of its topics
	// match.
	Read(ctx context.Context, q Query) (Page, error)

	// Tail yields all records above after, groups unbroken, in order, from history
	// into live without a seam, until ctx ends or the Log closes. Nothing is yielded
	// before Read sees it. A Log keeps a window of the newest records for it, whatever
	// retention removes; if after is below that, it yields a *[TrimmedError]. An error comes last. One call a hub is what it is made for.
	Tail(ctx context.Context, after uint64) iter.Seq2[[]Record, error]

	// Locate turns a position, a publisher's id (its first use) or a time into a
	// sequence, by index. For a position above Head, Sync must come first.
	Locate(ctx context.Context, c Cursor) (Location, error)

	// Topic returns what is known of a topic, in constant time. A topic that nobody
	// has named has the zero TopicInfo.
	Topic(ctx context.Context, name string) (TopicInfo, error)

	// Sync returns a Head that covers every Append that was acknowledged on any node
	// before the call. Where there is one node it is Head.
	Sync(ctx context.Context) (Head, error)

	// Head is local, does no I/O, and never goes back within an epoch.
	Head() Head

	// Limits are the largest group and event; the hub refuses beyond them.
	Limits() Limits

	// Close ends Tail, and each Append in flight with a definite answer or
	// ErrIndeterminate. Later calls return [ErrUnavailable].
	Close() error
}

// A Group is what is stored all or none.
type Group struct {
	// ID is drawn by the hub. It makes a repeat after ErrIndeterminate safe.
	ID string

	// Events may be none together with Close or Forget.
	Events []Event

	// Key is the publisher's Idempotency-Key, "" for none, scoped to the topics of
	// the first event, or to those closed if there is none. Sum tells another body under the same key ([ErrKeyReused])
	// from a repeat, whose Receipt is the first one's, Replayed.
	Key string
	Sum [32]byte

	// IfLast, if not nil, is what the Canonical topic must have as its newest
	// sequence, 0 for none yet. The mark outlives the event.
	IfLast *uint64

	// Close closes topics, after the events. Appending to a closed topic is
	// ErrClosed; closing it again is no error.
	Close []string

	// Forget removes a topic's history.
	Forget string
}

// Canonical returns the topic that a condition is about: that of the first event, or
// the first that is closed; "" if there is none.
func (g *Group) Canonical() string {
	switch {
	case len(g.Events) > 0:
		return g.Events[0].Topics[0]
	case len(g.Close) > 0:
		return g.Close[0]
	}
	return ""
}

// A Receipt says where a group stands.
type Receipt struct {
	Epoch     string
	Sequences []uint64 // of the events
	Time      time.Time
	Replayed  bool // an earlier group of that Key or ID
}

// A Kind says what a Record tells.
type Kind uint8

const (
	KindEvent     Kind = iota + 1
	KindClosed         // of Topics[0]: nothing comes after it
	KindForgotten      // of Topics[0]: its history up to here
	KindEpoch          // a new order begins
)

// A Record is one step of the order.
type Record struct {
	Seq    uint64
	Kind   Kind
	Time   time.Time
	Topics []string // of the event, or the one closed or forgotten
	Event  *Event   // KindEvent; shared, not to be changed
}

// A Query asks for events of any of Topics, or of a topic that matches any of
// Patterns, above After and up to Until (0: Head).
//
// With Newest the page has the last of them, still ascending: counted from the newest
// downward, as many as Limit and Bytes allow, and at least one if there is any. A short
// page is not the end. What is below is read with an Until of one less than the first
// sequence of the page; if that is 0, or the page is empty, there is nothing.
type Query struct {
	Topics, Patterns []string
	After, Until     uint64
	Limit            int  // events; 0: the Log's own page size
	Bytes            int  // of the events' Size, exceeded by at most one event; 0: the Log's own
	Newest           bool // from the end
}

// A Page is what Read returns.
type Page struct {
	Records []Record // of KindEvent

	// Through is the sequence up to which nothing was skipped, at least After: where
	// to go on, also if there is no record for a long stretch.
	Through uint64

	// Gap says that something that matched above After has been removed. It is never
	// missed, and for exact topics never invented.
	Gap bool

	// Removed is how many events have ever been removed from the topics that match. It
	// tells a gap that was there on the page before from a new one.
	Removed int64
}

// A Cursor says where to begin. The first of Epoch, ID and Since that is set counts.
type Cursor struct {
	Epoch string // with Seq: a position
	Seq   uint64
	ID    string    // a publisher's
	Since time.Time // everything accepted at or after it
}

// A Location is where a Cursor points: what comes after Seq. If Lost is set, the
// cursor cannot be found, and Seq is where everything that is kept comes after.
type Location struct {
	Seq  uint64
	Lost Lost
}

// Lost says why a cursor cannot be found.
type Lost string

const (
	Found       Lost = ""
	LostExpired Lost = "expired" // it was there, and is removed
	LostUnknown Lost = "unknown" // an id that this Log does not know
	LostEpoch   Lost = "epoch"   // a position of another order, or beyond the end of this one
	LostSlow    Lost = "slow"    // never of a Log: the subscriber was too slow, and skipped; see SlowLatest
)

// TopicInfo tells of one topic.
type TopicInfo struct {
	Oldest, Newest uint64 // sequences; Newest outlives the event
	Trimmed        uint64 // the highest removed sequence
	NewestID       string // as on the wire; outlives the event
	OldestID       string // "" if nothing is kept
	Count          int64  // of events kept
	Closed         bool
}

// A Head is how far a node has come.
type Head struct {
	Epoch  string
	Seq    uint64
	Oldest uint64 // the sequence of the oldest event kept; Seq+1 if there is none
	Time   time.Time
}

// Limits bound what Append takes.
type Limits struct {
	Group int // events in a group
	Bytes int // of one event's Size
}

// The errors of a Log.
var (
	// ErrClosed says that a topic takes no more events.
	ErrClosed = errors.New("hub: topic is closed")

	// ErrKeyReused says that an idempotency key came with another body before.
	ErrKeyReused = errors.New("hub: idempotency key was used for something else")

	// ErrUnavailable says that a group was surely not stored. Try again later.
	ErrUnavailable = errors.New("hub: log is not available")

	// ErrNoSpace is an ErrUnavailable where there is no room on the disk. Try again
	// when there is.
	ErrNoSpace = fmt.Errorf("%w: no room on the disk", ErrUnavailable)

	// ErrIndeterminate says that a group may have been stored. Append it again with
	// the same Group.ID.
	ErrIndeterminate = errors.New("hub: log does not know whether the events were stored")
)

// A ConflictError says that IfLast did not hold.
type ConflictError struct {
	Topic    string
	Newest   uint64 // the topic's newest sequence, 0: none yet
	NewestID string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("hub: newest event of the topic is %q, not the expected one", e.NewestID)
}

// A TrimmedError says that a Tail cannot begin, or go on, without leaving records out.
type TrimmedError struct {
	After  uint64 // where the Tail stood
	Oldest uint64 // the first record that can still be had
}

func (e *TrimmedError) Error() string {
	return fmt.Sprintf("hub: records after %d are gone; the oldest is %d", e.After, e.Oldest)
}

// Position returns the id on the wire of an event whose publisher gave it none.
func Position(epoch string, seq uint64) string {
	b := make([]byte, 0, 48) // one allocation, and a third of Sprintf's time
	return string(strconv.AppendUint(append(append(b, epoch...), '-'), seq, 10))
}
