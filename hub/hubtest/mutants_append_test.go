package hubtest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/hub/hubtest"
)

var appendingMutants = []mutant{
	{name: "IfLast is checked before the order is taken", check: "04/32 publishers contend", want: "got winners", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			own := *g
			if g.IfLast != nil {
				topic := g.Events[0].Topics[0]
				info, err := b.model.Topic(ctx, topic)
				if err != nil || info.Newest != *g.IfLast {
					return hub.Receipt{}, &hub.ConflictError{Topic: topic, Newest: info.Newest, NewestID: info.NewestID}
				}
				for range 100 { // the others run
					runtime.Gosched()
				}
				own.IfLast = nil
			}
			return b.model.Append(ctx, &own)
		}
	}},
	{name: "the loser is told what it expected", check: "04/32 publishers contend", want: "got conflicts with", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			r, err := b.model.Append(ctx, g)
			var conflict *hub.ConflictError
			if errors.As(err, &conflict) {
				conflict.Newest = *g.IfLast
			}
			return r, err
		}
	}},
	{name: "a conflict with what was expected", check: "04/winners are a chain", want: "which was expected", bend: func(b *bent) {
		var calls atomic.Int64
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			if calls.Add(1)%10 == 0 { // lost a race on the subject, and asked again
				info, _ := b.model.Topic(ctx, g.Events[0].Topics[0])
				return hub.Receipt{}, &hub.ConflictError{Newest: info.Newest}
			}
			return b.model.Append(ctx, g)
		}
	}},
	{name: "IfLast is ignored", check: "04/winners are a chain", want: "got winners", bend: func(b *bent) {
		b.eachGroup(func(g *hub.Group) { g.IfLast = nil })
	}},
	{name: "IfLast is refused because of another topic", check: "04/other topics refuse nothing", want: "alone on the topic", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			if head := b.model.Head().Seq; g.IfLast != nil && *g.IfLast > 0 && *g.IfLast < head {
				return hub.Receipt{}, &hub.ConflictError{Topic: g.Events[0].Topics[0], Newest: head}
			}
			return b.model.Append(ctx, g)
		}
	}},
	{name: "plain appends meet conflicts", check: "04/other topics refuse nothing", want: "plain append", bend: func(b *bent) {
		var calls atomic.Int64
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			if calls.Add(1)%10 == 0 && g.IfLast == nil {
				return hub.Receipt{}, &hub.ConflictError{}
			}
			return b.model.Append(ctx, g)
		}
	}},
	{name: "the conflict tells no id", check: "04/what is compared", want: "got {Topic:a Newest:", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			r, err := b.model.Append(ctx, g)
			var conflict *hub.ConflictError
			if errors.As(err, &conflict) {
				conflict.NewestID = ""
			}
			return r, err
		}
	}},
	{name: "IfLast is for groups with events", check: "04/what is compared", want: "want a *ConflictError", bend: func(b *bent) {
		b.eachGroup(func(g *hub.Group) {
			if len(g.Events) == 0 {
				g.IfLast = nil
			}
		})
	}},
	{name: "IfLast compares the last topic", check: "04/what is compared", want: "want a *ConflictError", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			if g.IfLast != nil && *g.IfLast > 0 {
				own := *g
				own.IfLast = nil
				return b.model.Append(ctx, &own)
			}
			return b.model.Append(ctx, g)
		}
	}},
	{name: "a refused group closes", check: "04/a refused group leaves nothing", want: "only refused groups named", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			r, err := b.model.Append(ctx, g)
			if err != nil {
				_, _ = b.model.Append(ctx, &hub.Group{ID: g.ID, Close: g.Close})
			}
			return r, err
		}
	}},
	{name: "a refused group uses up its key", check: "04/a refused group leaves nothing", want: hub.ErrKeyReused.Error(), bug: refusalUsesKey},
	{name: "IfLast forgets with Forget", check: "04/the mark outlives the event", want: "want a *ConflictError", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			own := *g
			if g.IfLast != nil {
				if info, _ := b.model.Topic(ctx, g.Events[0].Topics[0]); info.Count == 0 && *g.IfLast == 0 {
					own.IfLast = nil
				}
			}
			return b.model.Append(ctx, &own)
		}
	}},
	{name: "the newest id goes with its event", check: "04/the mark outlives the event", want: "want no event and newest", bend: func(b *bent) {
		b.eachInfo(func(_ string, info *hub.TopicInfo) {
			if info.Count == 0 {
				info.NewestID = ""
			}
		})
	}},

	{name: "an append in flight gets in after Closed", check: "05/32 publishers and a close", want: "was closed before", bug: closedAcceptsOnce},
	{name: "ErrClosed comes before Closed", check: "05/32 publishers and a close", want: "refused before the topic is closed", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			if b.model.Head().Seq > 200 && len(g.Close) == 0 {
				return hub.Receipt{}, hub.ErrClosed
			}
			return b.model.Append(ctx, g)
		}
	}},
	{name: "only topics with events can be closed", check: "05/what closing does", want: "want it closed and empty", bend: func(b *bent) {
		b.eachGroup(func(g *hub.Group) {
			g.Close = slices.DeleteFunc(slices.Clone(g.Close), func(topic string) bool { return topic == "b" })
		})
	}},
	{name: "closing again is an error", check: "05/what closing does", want: "append: hub: topic is closed", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			for _, topic := range g.Close {
				if info, _ := b.model.Topic(ctx, topic); info.Closed {
					return hub.Receipt{}, hub.ErrClosed
				}
			}
			return b.model.Append(ctx, g)
		}
	}},
	{name: "Forget reopens", check: "05/what closing does", want: "want Forget to leave it closed", bug: forgetReopens},
	{name: "only the canonical topic is looked at", check: "05/a closed topic refuses the whole group", want: "want error hub: topic is closed", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			r, err := b.model.Append(ctx, g)
			if err != nil {
				b.eachGroup(func(g *hub.Group) { g.Events = g.Events[:1]; g.Events[0].Topics = g.Events[0].Topics[:1] })
				return b.append(ctx, g)
			}
			return r, err
		}
	}},
	{name: "another handle's Tail leaves out Closed", check: "05/on every handle", want: "got 0 Closed records", bend: func(b *bent) {
		b.eachRecord(func(r hub.Record) (hub.Record, bool) { return r, r.Kind == hub.KindEvent || b.handle == 0 })
	}},

	{name: "the ID is ignored", check: "06/the same ID at once", want: "for the same", bend: withoutID},
	{name: "a repeat is not said to be one", check: "06/the same ID at once", want: "not Replayed", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			r, err := b.model.Append(ctx, g)
			r.Replayed = false
			return r, err
		}
	}},
	{name: "an ID is forgotten after 100 appends", check: "06/the same ID later", want: "want it Replayed", bend: func(b *bent) {
		n := 0
		b.eachGroup(func(g *hub.Group) { g.ID += fmt.Sprint(n / 100); n++ })
	}},
	{name: "a repeat has the time of the repeat", check: "06/the same ID later", want: "want the first one's", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			r, err := b.model.Append(ctx, g)
			if r.Replayed {
				r.Time = time.Now()
			}
			return r, err
		}
	}},
	{name: "a handle knows its own IDs only", check: "06/the same ID on two handles", want: "for the same", bend: func(b *bent) {
		b.eachGroup(func(g *hub.Group) { g.ID += fmt.Sprint(b.handle) })
	}},
	{name: "IDs and keys are in memory only", check: "06/the same ID after a crash", want: "want it Replayed", spoil: reopened(true, func(s *store) { s.state.done = nil })},
	{name: "a key with another body is a repeat", check: "06/the same key", want: "want error hub: idempotency key", bend: func(b *bent) {
		b.eachGroup(func(g *hub.Group) { g.Sum = [32]byte{} })
	}},
	{name: "half of a body's sum is compared", check: "06/the same key", want: "want error hub: idempotency key", bend: func(b *bent) {
		b.eachGroup(func(g *hub.Group) { clear(g.Sum[16:]) })
	}},
	{name: "a key goes with its events", check: "06/the same key", want: "want it Replayed", bend: func(b *bent) {
		forgotten := false
		b.eachGroup(func(g *hub.Group) {
			if forgotten = forgotten || g.Forget != ""; forgotten {
				g.Key = ""
			}
		})
	}},
	{name: "keys are ignored", check: "06/the same key at once", want: "for the same", bend: func(b *bent) {
		b.eachGroup(func(g *hub.Group) { g.Key = "" })
	}},
	{name: "a key is scoped to the canonical topic", check: "06/the scope of a key", want: hub.ErrKeyReused.Error(), bug: keyOfFirstTopic},
	{name: "a key's topics are joined", check: "06/the scope of a key", want: "in where \",\" stands", bug: keyOfJoinedTopics},
	{name: "a key without events has no scope", check: "06/the scope of a key", want: "for closing another topic", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			if len(g.Events) == 0 && g.Key != "" && b.model.Head().Seq > 0 {
				own := *g
				own.Close = nil
				_, _ = b.model.Append(ctx, &hub.Group{ID: g.ID + "'", Close: g.Close})
				return b.model.Append(ctx, &own)
			}
			return b.model.Append(ctx, g)
		}
	}},
	{name: "a key's topics have an order", check: "06/the scope of a key", want: "want it Replayed", bug: keyOfOrderedTopics},
	{name: "Closed is judged before a repeat", check: "06/a repeat comes before other verdicts", want: "append: hub: topic is closed", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			if info, _ := b.model.Topic(ctx, g.Events[0].Topics[0]); info.Closed {
				return hub.Receipt{}, hub.ErrClosed
			}
			return b.model.Append(ctx, g)
		}
	}},
	{name: "a key is forgotten among others", check: "06/many keys", want: "want it Replayed", bend: func(b *bent) {
		n := 0
		b.eachGroup(func(g *hub.Group) {
			if n++; n > 500 && n%100 == 0 {
				g.Key = ""
			}
		})
	}},
	{name: "a key lives for ever", check: "06/the life of a key", want: hub.ErrKeyReused.Error(), spoil: configured(func(c *hubtest.Config) { c.KeyLife = 1000 * time.Hour })},
	{name: "the life of a key is always a day", check: "06/the life of a key", want: hub.ErrKeyReused.Error(), spoil: configured(func(c *hubtest.Config) { c.KeyLife = 0 })},
	{name: "a key lives too short", check: "06/the life of a key", want: "want it Replayed", spoil: configured(func(c *hubtest.Config) { c.KeyLife = 30 * time.Second })},
	{name: "an id is where it was used last", check: "06/the same event id", want: "locate", bend: lastUse(false)},
	{name: "an id moves on when its first use is removed", check: "06/the same event id", want: "whose first use", bend: lastUse(true)},
}

func withoutID(b *bent) {
	var n atomic.Int64
	b.eachGroup(func(g *hub.Group) { g.ID = fmt.Sprint(n.Add(1)) })
}

// lastUse lets an id be where it is used last, or where it is used first among what is
// kept.
func lastUse(first bool) func(*bent) {
	return func(b *bent) {
		b.eachPlace(func(c hub.Cursor, loc *hub.Location) {
			page, _ := b.model.Read(context.Background(), hub.Query{Patterns: []string{"**"}})
			if !first {
				slices.Reverse(page.Records)
			}
			for _, r := range page.Records {
				if c.ID != "" && r.Event.ID == c.ID {
					loc.Seq = r.Seq
					return
				}
			}
		})
	}
}
