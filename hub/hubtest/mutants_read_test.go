package hubtest_test

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/hub/hubtest"
)

var readingMutants = []mutant{
	{name: "Read forgets retry", check: "01/an event comes back as it went in", want: "Read: record 2", bend: func(b *bent) {
		b.eachPage(func(_ hub.Query, p *hub.Page) {
			for i, r := range p.Records {
				ev := *r.Event
				ev.Retry = 0
				p.Records[i].Event = &ev
			}
		})
	}},
	{name: "data ends at NUL", check: "01/an event comes back as it went in", want: "record 3", bend: func(b *bent) {
		b.eachGroup(func(g *hub.Group) {
			for i := range g.Events {
				g.Events[i].Data, _, _ = strings.Cut(g.Events[i].Data, "\x00")
			}
		})
	}},
	{name: "the receipt has another time", check: "01/an event comes back as it went in", want: "record 0", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			r, err := b.model.Append(ctx, g)
			r.Time = r.Time.Add(time.Millisecond)
			return r, err
		}
	}},
	{name: "history leaves out Closed", check: "01/Read and every Tail agree", want: "a late Tail: record", bend: func(b *bent) {
		b.tail = func(ctx context.Context, after uint64) iter.Seq2[[]hub.Record, error] {
			begin := b.model.Head().Seq
			return func(yield func([]hub.Record, error) bool) {
				for records, err := range b.model.Tail(ctx, after) {
					records = slices.DeleteFunc(records, func(r hub.Record) bool { return r.Kind == hub.KindClosed && r.Seq <= begin })
					if !yield(records, err) {
						return
					}
				}
			}
		}
	}},
	{name: "a handle has its own time", check: "01/handles agree", want: "of handle 1", bend: func(b *bent) {
		b.eachRecord(func(r hub.Record) (hub.Record, bool) {
			r.Time = r.Time.Add(time.Duration(b.handle))
			return r, true
		})
	}},
	{name: "a handle judges for itself", check: "01/handles give one verdict", want: "want one", bend: func(b *bent) {
		b.eachGroup(func(g *hub.Group) {
			if b.handle > 0 {
				g.IfLast = nil
			}
		})
	}},
	{name: "Read lags", check: "02/at once by its own handle", want: "read by topic", bend: func(b *bent) {
		b.eachPage(func(_ hub.Query, p *hub.Page) {
			if n := len(p.Records); n > 0 && p.Records[n-1].Seq == b.model.Head().Seq {
				p.Records = p.Records[:n-1]
				p.Through--
			}
		})
	}},
	{name: "Head lags", check: "02/at once by its own handle", want: "got head", bend: func(b *bent) {
		b.eachHead(func(h *hub.Head) { h.Seq-- })
	}},
	{name: "Locate lags", check: "02/at once by its own handle", want: "locate", bend: func(b *bent) {
		b.eachPlace(func(_ hub.Cursor, loc *hub.Location) {
			if loc.Seq == b.model.Head().Seq {
				*loc = hub.Location{Lost: hub.LostUnknown}
			}
		})
	}},
	{name: "Closed lags", check: "02/at once by its own handle", want: "want it closed", bend: func(b *bent) {
		b.eachInfo(func(_ string, info *hub.TopicInfo) { info.Closed = false })
	}},
	{name: "Sync is Head as it was", check: "02/by another handle after Sync", want: "sync: got", bend: func(b *bent) {
		b.sync = func(ctx context.Context) (hub.Head, error) {
			h, err := b.model.Sync(ctx)
			h.Seq--
			return h, err
		}
	}},
	{name: "Read has a hole that is filled later", check: "02/by another handle as a prefix", want: "the other handle", bend: func(b *bent) {
		b.eachPage(func(_ hub.Query, p *hub.Page) {
			if n := len(p.Records); b.handle == 1 && n > 2 {
				p.Records = slices.Delete(p.Records, n-2, n-1)
			}
		})
	}},
	{name: "Topic is ahead of Read", check: "02/by a handle that lags as a prefix", want: "want what was before", bend: func(b *bent) {
		b.topic = func(ctx context.Context, name string) (hub.TopicInfo, error) {
			return (&model{store: b.store}).Topic(ctx, name)
		}
	}},
	{name: "Sync waits for nothing", check: "02/by a handle that lags as a prefix", want: "sync: got", bend: func(b *bent) {
		head := b.model.Head() // when it lagged
		b.sync = func(context.Context) (hub.Head, error) { return head, nil }
	}},
}

var joiningMutants = []mutant{
	{name: "what comes between history and live is dropped", check: "03/at random moments", want: "join of", bend: func(b *bent) {
		b.tail = func(ctx context.Context, after uint64) iter.Seq2[[]hub.Record, error] {
			return func(yield func([]hub.Record, error) bool) {
				page, err := b.model.Read(ctx, hub.Query{Patterns: []string{"**"}, After: after})
				if err != nil || len(page.Records) > 0 && !yield(page.Records, nil) {
					return
				}
				b.model.Tail(ctx, b.model.Head().Seq)(yield) // "subscribe, then read" the wrong way round
			}
		}
	}},
	{name: "the last record is repeated at the seam", check: "03/at random moments", want: "join of", bend: func(b *bent) {
		b.tail = func(ctx context.Context, after uint64) iter.Seq2[[]hub.Record, error] {
			return b.model.Tail(ctx, after-min(1, after))
		}
	}},
	{name: "Through is ahead of a full page", check: "03/at random moments", want: "join of", bend: func(b *bent) {
		b.eachPage(func(_ hub.Query, p *hub.Page) { p.Through = b.model.Head().Seq })
	}},
	{name: "Tail wakes before the tables are written", check: "03/nothing is yielded before Read sees it", want: "tail yields", bend: func(b *bent) {
		var mu sync.Mutex
		var applied hub.Head
		var yielded atomic.Uint64
		b.tail = func(ctx context.Context, after uint64) iter.Seq2[[]hub.Record, error] {
			return func(yield func([]hub.Record, error) bool) {
				b.model.Tail(ctx, after)(func(records []hub.Record, err error) bool {
					more := yield(records, err)
					if len(records) > 0 {
						yielded.Store(records[len(records)-1].Seq)
					}
					return more
				})
			}
		}
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			r, err := b.model.Append(ctx, g)
			for i := 0; err == nil && i < 1000 && yielded.Load() < r.Sequences[0]; i++ {
				runtime.Gosched()
			}
			mu.Lock()
			defer mu.Unlock()
			applied = b.model.Head()
			return r, err
		}
		b.head = func() hub.Head {
			mu.Lock()
			defer mu.Unlock()
			return applied
		}
	}},
	{name: "Tail yields event by event", check: "03/groups are unbroken", want: "in a batch", bend: func(b *bent) {
		b.tail = func(ctx context.Context, after uint64) iter.Seq2[[]hub.Record, error] {
			return func(yield func([]hub.Record, error) bool) {
				for records, err := range b.model.Tail(ctx, after) {
					for _, r := range records {
						if !yield([]hub.Record{r}, err) {
							return
						}
					}
				}
			}
		}
	}},
	{name: "a Tail outlives its context", check: "03/a Tail ends with its context", want: "waited in vain", spoil: hasty, bend: func(b *bent) {
		b.tail = func(_ context.Context, after uint64) iter.Seq2[[]hub.Record, error] {
			return b.model.Tail(context.Background(), after)
		}
	}},
}

var tailMutants = []mutant{
	{name: "Append waits for Tails", check: "16/appends go on", want: "waited in vain for calls", spoil: hasty, bend: func(b *bent) {
		var taken sync.RWMutex
		b.tail = func(ctx context.Context, after uint64) iter.Seq2[[]hub.Record, error] {
			return func(yield func([]hub.Record, error) bool) {
				b.model.Tail(ctx, after)(func(records []hub.Record, err error) bool {
					taken.RLock()
					defer taken.RUnlock()
					return yield(records, err)
				})
			}
		}
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			taken.Lock()
			defer taken.Unlock()
			return b.model.Append(ctx, g)
		}
	}},
	{name: "a stopped Tail loses what did not fit its buffer", check: "16/appends go on", want: "a Tail that was stopped yields", bend: func(b *bent) {
		b.eachBatch(func(records []hub.Record) []hub.Record { return records[max(0, len(records)-100):] })
	}},
	{name: "what a Tail has not seen is kept", check: "16/memory is bounded", want: "memory grows", bend: func(b *bent) {
		var queue []*hub.Group
		b.eachGroup(func(g *hub.Group) { queue = append(queue, g) })
		b.close = func() error {
			queue = nil
			return b.model.Close()
		}
	}},
	{name: "a stopped Tail goes on from what is kept", check: "16/memory is bounded", want: "and no *TrimmedError", bend: goOn},
	{name: "a Tail leaves a goroutine", check: "16/ended Tails leave nothing", want: "goroutines after Tails have ended", spoil: hasty, bend: func(b *bent) {
		b.eachBatch(func(records []hub.Record) []hub.Record {
			go func() {
				for !b.isClosed() {
					b.mu.Lock()
					more := b.more
					b.mu.Unlock()
					<-more
				}
			}()
			return records
		})
	}},

	{name: "Limits are its own", check: "17/limits", want: "got limits", spoil: configured(func(c *hubtest.Config) { c.Limits = hub.Limits{} })},
	{name: "the largest group is too large", check: "17/limits", want: "append", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			if len(g.Events) >= b.config.Limits.Group {
				return hub.Receipt{}, errors.New("too large")
			}
			return b.model.Append(ctx, g)
		}
	}},
	{name: "Close leaves Tails waiting", check: "17/Close ends Tails", want: "waited in vain", spoil: hasty, bend: func(b *bent) {
		b.close = func() error { return nil }
	}},
	{name: "closing twice is an error", check: "17/Close ends Tails", want: "close: closed already", bend: func(b *bent) {
		b.close = func() error {
			if b.isClosed() {
				return errors.New("closed already")
			}
			return b.model.Close()
		}
	}},
	{name: "Append after Close has an error of its own", check: "17/Close ends Appends", want: "want ErrUnavailable or ErrIndeterminate", bend: func(b *bent) {
		b.append = func(ctx context.Context, g *hub.Group) (hub.Receipt, error) {
			r, err := b.model.Append(ctx, g)
			if err != nil {
				err = errors.New("closed")
			}
			return r, err
		}
	}},
	{name: "Close loses what was stored", check: "17/Close ends Appends", want: "stored false", spoil: reopened(false, func(s *store) { s.state.rows = s.state.rows[1:] })},
	{name: "Read goes on after Close", check: "17/nothing works after Close", want: "read: got <nil> after Close", bend: func(b *bent) {
		b.read = func(context.Context, hub.Query) (hub.Page, error) { return hub.Page{}, nil }
	}},
	{name: "Tail goes on after Close", check: "17/nothing works after Close", want: "records after Close", bend: func(b *bent) {
		b.tail = func(context.Context, uint64) iter.Seq2[[]hub.Record, error] {
			return func(yield func([]hub.Record, error) bool) { yield(make([]hub.Record, 1), nil) }
		}
	}},
}

// goOn lets a Tail that is told of a gap begin again behind it.
func goOn(b *bent) {
	b.tail = func(ctx context.Context, after uint64) iter.Seq2[[]hub.Record, error] {
		return func(yield func([]hub.Record, error) bool) {
			stopped := false
			for !stopped && ctx.Err() == nil && !b.isClosed() {
				b.model.Tail(ctx, after)(func(records []hub.Record, err error) bool {
					var trimmed *hub.TrimmedError
					if errors.As(err, &trimmed) {
						after = trimmed.Oldest - 1
						return false
					}
					stopped = !yield(records, err)
					return !stopped
				})
			}
		}
	}
}
