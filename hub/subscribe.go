package hub

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"
)

// A Filter says what a subscriber wants, and from where on.
type Filter struct {
	// Topics and Patterns select: an event of any of them, once. At least one is
	// needed.
	Topics, Patterns []string

	// Types keeps only events of these types. Default: all.
	Types []string

	// Private are patterns of the topics whose private events come too; "**" is all.
	// Default: none.
	Private []string

	// From is where to begin. The zero Start is now.
	From Start
}

// A Start is a place in the order. The first field that is set counts.
type Start struct {
	LastEventID string    // after the event of that id
	Earliest    bool      // everything that is kept
	Since       time.Time // everything accepted at or after that time
	Last        int       // the newest events, so many
}

// A Delivery is an event as a subscriber gets it.
type Delivery struct {
	Event

	// ID is what to resume from: the publisher's id, or the position. It hides the
	// event's own, which is "" in the second case.
	ID string

	// Position is where the event stands in the order.
	Position string

	// Time is when it was accepted.
	Time time.Time
}

// A GapError says that some of the events that a subscriber asked for cannot be had any
// more. Everything that is kept comes after it.
type GapError struct {
	Reason    Lost   // LostExpired, LostUnknown, LostEpoch, or in a stream LostSlow
	Requested string // the id that was asked for; "" where no id was
	Resumed   string // the position after which it goes on
	resumed   uint64 // the same as a sequence
}

func (e *GapError) Error() string {
	switch e.Reason {
	case LostUnknown:
		return fmt.Sprintf("hub: there is no event %q: events may be missing before %s", e.Requested, e.Resumed)
	case LostEpoch:
		return fmt.Sprintf("hub: %q is of another log: events may be missing before %s", e.Requested, e.Resumed)
	}
	return fmt.Sprintf("hub: events before %s are no longer kept", e.Resumed)
}

// Subscribe returns the events that a filter selects, history first and then live,
// each once and in order. It runs in the caller's goroutine; breaking out ends it.
//
// A *[GapError] is yielded in its place in the stream, and the events go on after it.
// Any other error is final and comes last: that of ctx, [ErrShutdown], the Log's, or
// what is wrong with the filter. When every one of Topics is closed, and there are no
// Patterns, the iterator ends after the last event.
func (h *Hub) Subscribe(ctx context.Context, f Filter) iter.Seq2[Delivery, error] {
	return func(yield func(Delivery, error) bool) {
		if err := h.checkFilter(&f); err != nil {
			yield(Delivery{}, err)
			return
		}
		c, err := h.newCursor(ctx, f)
		if ctx.Err() != nil && err != nil {
			err = fmt.Errorf("hub: subscription: %w", context.Cause(ctx))
		}
		if err != nil {
			yield(Delivery{}, err)
			return
		}
		defer c.close()
		for {
			batch, err := c.next(ctx, nil)
			for _, it := range batch {
				if ctx.Err() != nil {
					break
				}
				if !yield(h.delivery(it), nil) {
					return
				}
			}
			var gap *GapError
			switch {
			case ctx.Err() != nil:
				yield(Delivery{}, fmt.Errorf("hub: subscription: %w", context.Cause(ctx)))
				return
			case errors.As(err, &gap):
				if !yield(Delivery{}, gap) {
					return
				}
			case err == errEnded:
				return
			case err != nil:
				yield(Delivery{}, err)
				return
			}
		}
	}
}

func (h *Hub) delivery(it *item) Delivery {
	d := Delivery{Event: *it.Event, ID: it.id, Position: Position(h.log.Head().Epoch, it.Seq), Time: it.Time}
	d.Topics = slices.Clone(d.Topics) // the event is shared
	return d
}

// checkFilter says what is wrong with a filter.
func (h *Hub) checkFilter(f *Filter) error {
	f.Topics = unique(f.Topics)
	f.Patterns = unique(f.Patterns)
	n := len(f.Topics) + len(f.Patterns)
	switch {
	case n == 0:
		return &RequestError{Problem: ProblemTopic, Field: "topic", Detail: "name a topic, as in /events/news or /events?topic=news, or a pattern, as in /events?pattern=news/*"}
	case n > h.limits.Load().Topics:
		return &RequestError{Problem: ProblemTooManyTopics, Field: "topic", Detail: fmt.Sprintf("%d topics and patterns are more than %d", n, h.limits.Load().Topics)}
	}
	for _, t := range f.Topics {
		if err := CheckTopic(t); err != nil {
			return &RequestError{Problem: ProblemTopic, Field: "topic", Detail: err.Error()}
		}
	}
	for _, p := range f.Patterns {
		if err := CheckPattern(p); err != nil {
			return &RequestError{Problem: ProblemTopic, Field: "pattern", Detail: err.Error()}
		}
	}
	for _, p := range f.Private {
		if err := CheckPattern(p); err != nil {
			return &RequestError{Problem: ProblemTopic, Field: "private", Detail: err.Error()}
		}
	}
	f.tidyPrivate()
	if f.From.Last < 0 {
		return &RequestError{Problem: ProblemQuery, Field: "last", Detail: "last must be 1 or more"}
	}
	return nil
}

// unique returns names without repeats, in their order.
func unique(names []string) []string {
	var kept []string
	for _, n := range names {
		if !slices.Contains(kept, n) {
			kept = append(kept, n)
		}
	}
	return kept
}

// selectsTopic tells whether one of an event's topics is wanted.
func (f *Filter) selectsTopic(topics []string) bool {
	return slices.ContainsFunc(topics, f.selectsName)
}

func (f *Filter) selectsName(topic string) bool {
	return slices.Contains(f.Topics, topic) ||
		slices.ContainsFunc(f.Patterns, func(p string) bool { return Match(p, topic) })
}

// selectsEvent tells whether an event is wanted whose topics are.
func (f *Filter) selectsEvent(ev *Event) bool {
	if ev.Private && !f.selectsPrivate(ev.Topics) {
		return false
	}
	if len(f.Types) == 0 {
		return true
	}
	if ev.Type == "" {
		return slices.Contains(f.Types, "message")
	}
	return slices.Contains(f.Types, ev.Type)
}
