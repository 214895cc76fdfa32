package hubtest_test

import (
	"context"
	"errors"
	"iter"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/hub/hubtest"
)

var retentionMutants = []mutant{
	{name: "one more is kept", check: "10/count", want: "read", spoil: eachRule(func(r *hub.RetentionRule) { r.Count++ })},
	{name: "characters are counted", check: "10/bytes", want: "read", spoil: eachRule(func(r *hub.RetentionRule) { r.Bytes += 3 })},
	{name: "as many bytes as are allowed are too many", check: "10/bytes", want: "read", spoil: eachRule(func(r *hub.RetentionRule) { r.Bytes-- })},
	{name: "events live twice as long", check: "10/age", want: "read", spoil: eachRule(func(r *hub.RetentionRule) { r.Age *= 2 })},
	{name: "age counts when the topic is written only", check: "10/age", want: "read", bug: ageOfOwnTopic},
	{name: "the last rule counts", check: "10/the first rule that matches counts", want: "got", spoil: configured(func(c *hubtest.Config) { slices.Reverse(c.Retention) })},
	{name: "a rule is for all topics", check: "10/count", want: "a topic without a rule", spoil: eachRule(func(r *hub.RetentionRule) { r.Pattern = "**" })},
	{name: "an event that goes from one topic goes from all", check: "10/an event lives by topic", want: "read {Topics:[b]", bug: trimmedEverywhere},
	{name: "an event stays in all topics", check: "10/an event lives by topic", want: "got gap false, want true", bend: func(b *bent) {
		b.eachPage(func(q hub.Query, p *hub.Page) { p.Gap = p.Gap && len(p.Records) == 0 })
	}},
	{name: "no Gap", check: "10/Gap", want: "got gap false, want true", bend: func(b *bent) {
		b.eachPage(func(_ hub.Query, p *hub.Page) { p.Gap = false })
	}},
	{name: "a Gap for another topic's removal", check: "10/Gap", want: "got gap true, want false", bend: func(b *bent) {
		b.eachPage(func(q hub.Query, p *hub.Page) { p.Gap = b.anyTrimmed(q.After) })
	}},
	{name: "a Gap where After is what was removed last", check: "10/Gap", want: "got gap true, want false", bend: func(b *bent) {
		b.read = func(ctx context.Context, q hub.Query) (hub.Page, error) {
			p, err := b.model.Read(ctx, q)
			q.After -= min(q.After, 1)
			before, _ := b.model.Read(ctx, q)
			p.Gap = before.Gap
			return p, err
		}
	}},
	{name: "a Gap is told on the first page only", check: "10/Gap", want: "got gap false, want true", bend: func(b *bent) {
		b.eachPage(func(q hub.Query, p *hub.Page) { p.Gap = p.Gap && q.After == 0 })
	}},
	{name: "Forget tells no Tail", check: "10/Forget", want: "want Forgotten", bend: func(b *bent) {
		b.eachRecord(func(r hub.Record) (hub.Record, bool) { return r, r.Kind != hub.KindForgotten })
	}},
	{name: "Forget leaves no Gap", check: "10/Forget", want: "got gap false", bend: func(b *bent) {
		b.eachPage(func(_ hub.Query, p *hub.Page) { p.Gap = false })
	}},
	{name: "Forget takes events from other topics", check: "10/Forget", want: "of the other topic", bug: forgottenEverywhere},
	{name: "a Tail begins with what is kept", check: "10/a Tail does not leave out", want: "tail after 0: got", bend: goOn},
	{name: "a Tail is trimmed where nothing above is removed", check: "10/a Tail does not leave out", want: "records after 2 are gone", bend: func(b *bent) {
		b.tail = func(ctx context.Context, after uint64) iter.Seq2[[]hub.Record, error] {
			return b.model.Tail(ctx, after-min(after, 1))
		}
	}},
	{name: "Oldest is the oldest event, not where a Tail can begin", check: "10/a Tail does not leave out", want: "want the oldest to be above", bend: func(b *bent) {
		b.tail = func(ctx context.Context, after uint64) iter.Seq2[[]hub.Record, error] {
			return func(yield func([]hub.Record, error) bool) {
				for records, err := range b.model.Tail(ctx, after) {
					var trimmed *hub.TrimmedError
					if errors.As(err, &trimmed) {
						trimmed.Oldest = b.model.Head().Oldest
					}
					if !yield(records, err) {
						return
					}
				}
			}
		}
	}},
	{name: "the oldest id is always a position", check: "10/random histories", want: "topic", bend: func(b *bent) {
		b.eachInfo(func(_ string, info *hub.TopicInfo) {
			if info.Count > 0 {
				info.OldestID = hub.Position(b.model.Head().Epoch, info.Oldest)
			}
		})
	}},
	{name: "Head's oldest is never removed", check: "10/random histories", want: "got head", bend: func(b *bent) {
		b.eachHead(func(h *hub.Head) { h.Oldest = min(1, h.Oldest) })
	}},
	{name: "an event under two topics is read twice", check: "10/random histories", want: "got sequence", bend: func(b *bent) {
		b.eachPage(func(q hub.Query, p *hub.Page) {
			for i, r := range p.Records {
				if slices.Contains(q.Topics, r.Topics[0]) && slices.Contains(q.Topics, r.Topics[len(r.Topics)-1]) && len(r.Topics) > 1 {
					p.Records = slices.Insert(p.Records, i, r)
					return
				}
			}
		})
	}},
	{name: "Newest looks below After", check: "10/random histories", want: "Newest:true", bend: func(b *bent) {
		b.read = func(ctx context.Context, q hub.Query) (hub.Page, error) {
			if q.Newest && q.After > 0 {
				q.After--
			}
			return b.model.Read(ctx, q)
		}
	}},
}

// eachRule spoils the harness: retention has other rules than the test asks for.
func eachRule(change func(*hub.RetentionRule)) func(*hubtest.Harness) {
	return configured(func(c *hubtest.Config) {
		for i := range c.Retention {
			change(&c.Retention[i])
		}
	})
}

// anyTrimmed tells whether anything was removed above a sequence.
func (m *model) anyTrimmed(after uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.state.topics {
		if t.trimmed > after {
			return true
		}
	}
	return false
}

var placeMutants = []mutant{
	{name: "one more than Limit", check: "11/pages", want: "records", bend: func(b *bent) {
		b.read = func(ctx context.Context, q hub.Query) (hub.Page, error) {
			if q.Limit > 0 {
				q.Limit++
			}
			return b.model.Read(ctx, q)
		}
	}},
	{name: "Bytes is ignored", check: "11/pages", want: "one more record after", bend: func(b *bent) {
		b.read = func(ctx context.Context, q hub.Query) (hub.Page, error) {
			q.Bytes = 0
			return b.model.Read(ctx, q)
		}
	}},
	{name: "an event larger than Bytes is never read", check: "11/pages", want: "through does not move", bend: func(b *bent) {
		b.eachPage(func(q hub.Query, p *hub.Page) {
			if q.Bytes == 1 && len(p.Records) > 0 {
				p.Records, p.Through = nil, q.After
			}
		})
	}},
	{name: "Until is left out", check: "11/pages", want: "read", bend: func(b *bent) {
		b.eachPage(func(q hub.Query, p *hub.Page) {
			p.Records = slices.DeleteFunc(p.Records, func(r hub.Record) bool { return r.Seq == q.Until })
		})
	}},
	{name: "After is read", check: "11/pages", want: "got sequence", bend: func(b *bent) {
		b.read = func(ctx context.Context, q hub.Query) (hub.Page, error) {
			q.After -= min(q.After, 1)
			return b.model.Read(ctx, q)
		}
	}},
	{name: "the newest come first", check: "11/the newest", want: "got sequence", bend: func(b *bent) {
		b.eachPage(func(q hub.Query, p *hub.Page) {
			if q.Newest {
				slices.Reverse(p.Records)
			}
		})
	}},
	{name: "the newest are the oldest", check: "11/the newest", want: "Newest:true", bend: func(b *bent) {
		b.read = func(ctx context.Context, q hub.Query) (hub.Page, error) {
			q.Newest = false
			return b.model.Read(ctx, q)
		}
	}},
	{name: "the newest are looked for among the newest of all", check: "11/the newest", want: "Newest:true", bend: func(b *bent) {
		b.read = func(ctx context.Context, q hub.Query) (hub.Page, error) {
			if head := b.model.Head().Seq; q.Newest && q.Until == 0 && head > 20 {
				q.After = max(q.After, head-20)
			}
			return b.model.Read(ctx, q)
		}
	}},
	{name: "the newest have no bound of bytes", check: "11/the newest, page by page", want: "one more record after", bend: func(b *bent) {
		b.read = func(ctx context.Context, q hub.Query) (hub.Page, error) {
			if q.Newest {
				q.Bytes = 0
			}
			return b.model.Read(ctx, q)
		}
	}},
	{name: "bytes are counted from the oldest of the newest", check: "11/the newest, page by page", want: "and on downward", bend: func(b *bent) {
		b.eachPage(func(q hub.Query, p *hub.Page) {
			all, _ := b.model.Read(context.Background(), hub.Query{Topics: q.Topics, Patterns: q.Patterns, After: q.After, Until: q.Until, Limit: q.Limit, Newest: true})
			for i, bytes := 0, 0; q.Newest && q.Bytes > 0 && i < len(all.Records); i++ {
				if bytes += all.Records[i].Event.Size(); i > 0 && bytes > q.Bytes {
					p.Records = all.Records[:i]
					break
				}
			}
		})
	}},
	{name: "a newest event larger than Bytes is left out", check: "11/the newest, page by page", want: "and on downward", bend: func(b *bent) {
		b.eachPage(func(q hub.Query, p *hub.Page) {
			if q.Newest && q.Bytes > 0 && len(p.Records) == 1 && p.Records[0].Event.Size() > q.Bytes {
				p.Records = nil
			}
		})
	}},
	{name: "the newest of several topics are those of the first", check: "11/the newest, page by page", want: "and on downward", bend: func(b *bent) {
		b.read = func(ctx context.Context, q hub.Query) (hub.Page, error) {
			if q.Newest {
				q.Topics = q.Topics[:1]
			}
			return b.model.Read(ctx, q)
		}
	}},
	{name: "Through is the last record", check: "11/Through moves where nothing matches", want: "got through", bend: func(b *bent) {
		b.eachPage(func(q hub.Query, p *hub.Page) {
			if p.Through = q.After; len(p.Records) > 0 {
				p.Through = p.Records[len(p.Records)-1].Seq
			}
		})
	}},
	{name: "Through is Until, which is not there yet", check: "11/Through moves where nothing matches", want: "beyond head", bend: func(b *bent) {
		b.eachPage(func(q hub.Query, p *hub.Page) { p.Through = max(p.Through, q.Until) })
	}},
	{name: "ids have no case", check: "11/places", want: "locate {Epoch: Seq:0 ID:ONE", bend: func(b *bent) {
		b.locate = func(ctx context.Context, c hub.Cursor) (hub.Location, error) {
			c.ID = strings.ToLower(c.ID)
			return b.model.Locate(ctx, c)
		}
	}},
	{name: "an id that is not known is the beginning", check: "11/places", want: "want lost \"unknown\"", bend: func(b *bent) {
		b.eachPlace(func(_ hub.Cursor, loc *hub.Location) { loc.Lost = hub.Found })
	}},
	{name: "an id that is not known is the end", check: "11/places", want: "leaves out", bend: func(b *bent) {
		b.eachPlace(func(_ hub.Cursor, loc *hub.Location) {
			if loc.Lost != hub.Found {
				loc.Seq = b.model.Head().Seq
			}
		})
	}},
	{name: "a removed position is lost", check: "11/places", want: "locate", bend: func(b *bent) {
		b.eachPlace(func(c hub.Cursor, loc *hub.Location) {
			if c.Epoch != "" && c.Seq > 0 && c.Seq < b.model.Head().Oldest {
				loc.Lost = hub.LostExpired
			}
		})
	}},
	{name: "the last field that is set counts", check: "11/places", want: "locate", bend: func(b *bent) {
		b.locate = func(ctx context.Context, c hub.Cursor) (hub.Location, error) {
			if c.ID != "" {
				c.Epoch = ""
			}
			return b.model.Locate(ctx, c)
		}
	}},
	{name: "every row is looked at", check: "11/cost is flat in history", want: "want it flat", spoil: func(h *hubtest.Harness) {
		h.Operations = func(l hub.Log) int64 {
			m := unbend(l)
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.looked
		}
	}},

	{name: "a future position is a position", check: "12/is of another order", want: "want lost \"epoch\"", bend: func(b *bent) {
		b.eachPlace(func(c hub.Cursor, loc *hub.Location) {
			if c.Epoch == b.model.Head().Epoch {
				*loc = hub.Location{Seq: c.Seq}
			}
		})
	}},
	{name: "Sync does not wait", check: "12/is found by a handle that lags after Sync", want: "locate after sync", bend: func(b *bent) {
		b.sync = func(context.Context) (hub.Head, error) { return b.model.Head(), nil }
		seen := b.model.Head().Seq
		b.eachPlace(func(c hub.Cursor, loc *hub.Location) {
			if c.Seq > seen { // as if it lagged still
				*loc = hub.Location{Lost: hub.LostEpoch}
			}
		})
	}},

	{name: "time is the clock's", check: "13/when the clock steps back", want: "after", bug: timeFalls},
	{name: "the clock is another one", check: "13/when the clock steps back", want: "that of Config.Now", spoil: configured(func(c *hubtest.Config) { c.Now = nil })},
	{name: "time is the clock's", check: "13/under load", want: "times that fall", bug: timeFalls},
	{name: "Since leaves out what is as old", check: "13/Since is exact on ties", want: "read", bend: func(b *bent) {
		b.locate = func(ctx context.Context, c hub.Cursor) (hub.Location, error) {
			c.Since = c.Since.Add(1)
			return b.model.Locate(ctx, c)
		}
	}},
	{name: "Since is to the second", check: "13/Since is exact on ties", want: "read", bend: func(b *bent) {
		b.locate = func(ctx context.Context, c hub.Cursor) (hub.Location, error) {
			c.Since = c.Since.Truncate(time.Second)
			return b.model.Locate(ctx, c)
		}
	}},
	{name: "Since leaves out the first of a tie", check: "13/Since is exact on ties", want: "read", bend: func(b *bent) {
		b.eachPlace(func(_ hub.Cursor, loc *hub.Location) {
			if loc.Seq < b.model.Head().Seq && loc.Seq > 0 {
				loc.Seq++
			}
		})
	}},
	{name: "Since begins with what is kept", check: "13/Since before what is kept", want: "after a gap", bend: func(b *bent) {
		b.eachPlace(func(_ hub.Cursor, loc *hub.Location) {
			page, _ := b.model.Read(context.Background(), hub.Query{Patterns: []string{"**"}, After: loc.Seq})
			loc.Seq = page.Records[0].Seq - 1
			if loc.Seq == 0 {
				loc.Seq = page.Records[1].Seq - 1
			}
		})
	}},

	{name: "topics have no case", check: "14/topics", want: "topic", bend: renamed(strings.ToLower)},
	{name: "spaces around a topic are left out", check: "14/topics", want: "topic", bend: renamed(strings.TrimSpace)},
	{name: "topics are cleaned like paths", check: "14/topics", want: "topic", bend: renamed(path.Clean)},
	{name: "topics are subjects", check: "14/topics", want: "topic", bend: renamed(func(name string) string { return strings.ReplaceAll(name, "/", ".") })},
	{name: "topics are decoded again", check: "14/topics", want: "topic", bend: renamed(func(name string) string {
		if decoded, err := url.PathUnescape(name); err == nil {
			return decoded
		}
		return name
	})},
	{name: "topics are cut", check: "14/topics", want: "topic", bend: renamed(func(name string) string { return name[:min(len(name), hub.MaxTopicSize-1)] })},
	{name: "topics are normalised", check: "14/topics", want: "topic", bend: renamed(strings.NewReplacer("e\u0301", "é").Replace)},
	{name: "a topic is read as a pattern", check: "14/patterns", want: "topic a/*", bend: func(b *bent) {
		b.read = func(ctx context.Context, q hub.Query) (hub.Page, error) {
			q.Patterns = append(slices.Clone(q.Patterns), q.Topics...)
			return b.model.Read(ctx, q)
		}
	}},
	{name: "* matches any number of segments", check: "14/patterns", want: "pattern", bend: func(b *bent) {
		b.read = func(ctx context.Context, q hub.Query) (hub.Page, error) {
			for i, p := range q.Patterns {
				if strings.HasSuffix(p, "/*") {
					q.Patterns[i] = p + "*"
				}
			}
			return b.model.Read(ctx, q)
		}
	}},
	{name: "** matches one segment or more", check: "14/patterns", want: "pattern", bend: func(b *bent) {
		b.eachPage(func(q hub.Query, p *hub.Page) {
			p.Records = slices.DeleteFunc(p.Records, func(r hub.Record) bool {
				return len(q.Patterns) > 0 && q.Patterns[0] == r.Topics[0]+"/**"
			})
		})
	}},
	{name: "a pattern matches the canonical topic", check: "14/patterns", want: "read", bend: func(b *bent) {
		b.eachPage(func(q hub.Query, p *hub.Page) {
			p.Records = slices.DeleteFunc(p.Records, func(r hub.Record) bool {
				return len(q.Topics) == 0 && !slices.ContainsFunc(q.Patterns, func(p string) bool { return hub.Match(p, r.Topics[0]) })
			})
		})
	}},
}

// renamed lets a Log take topics for others.
func renamed(rename func(string) string) func(*bent) {
	return func(b *bent) {
		b.eachGroup(func(g *hub.Group) {
			for i, ev := range g.Events {
				g.Events[i].Topics = []string{rename(ev.Topics[0])}
			}
		})
		b.read = func(ctx context.Context, q hub.Query) (hub.Page, error) {
			q.Topics = []string{rename(q.Topics[0])}
			return b.model.Read(ctx, q)
		}
	}
}
