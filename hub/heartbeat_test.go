package hub_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
	"github.com/tidewire/tidewire/sse"
)

// The tests of this file run under synctest: time passes at once.

// A recording is what comes on a stream while time passes.
type recording struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// record reads a stream from now on.
func record(st *stream) *recording {
	r := &recording{}
	go func() { _, _ = io.Copy(r, st.Body) }()
	return r
}

func (r *recording) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(b)
}

// after lets time pass, and returns what has come since the last call.
func (r *recording) after(d time.Duration) string {
	time.Sleep(d) // synctest's
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	text := r.buf.String()
	r.buf.Reset()
	return text
}

// native are the headers of a browser's EventSource.
var native = []string{"User-Agent: Mozilla/5.0 (X11; Linux x86_64)", "Cache-Control: no-cache", "Accept: text/event-stream"}

func TestHeartbeat_ACommentKeepsAnIdleStreamOpen(t *testing.T) {
	tests := []struct {
		name     string
		interval time.Duration
		least    int // in 10 minutes
		most     int
	}{
		{"default", 0, 40, 45}, // every 15 s, less up to a tenth
		{"short", time.Second, 600, 667},
		{"never", -1, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := newLog(t, nil)
				h := newHub(t, hub.Options{Log: log, Heartbeat: tt.interval})
				r := record(serveInBubble(t, h).open("/events/a", native...))
				got := r.after(10 * time.Minute)
				n := strings.Count(got, ":\n")
				if want := "retry: 3000\nid: " + hub.Position(log.Head().Epoch, 0) + "\n\n" + strings.Repeat(":\n", n); got != want {
					t.Errorf("got %q, want comments without a blank line only", got)
				}
				if n < tt.least || n > tt.most {
					t.Errorf("got %d comments, want %d to %d", n, tt.least, tt.most)
				}
				publish(t, h, hub.Event{Topics: []string{"a"}, ID: "1", Data: "x"})
				if got, want := r.after(0), "id: 1\ndata: x\n\n"; got != want {
					t.Errorf("then got %q, want %q", got, want)
				}
			})
		})
	}
}

func TestHeartbeat_AnEmptyLineKeepsIdleLinesOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, hub.Options{})
		r := record(serveInBubble(t, h).open("/events/a", "Accept: application/x-ndjson"))
		publish(t, h, event("foreign", "")) // moves nothing that is told
		got := r.after(10*time.Minute + time.Second)
		if n := strings.Count(got, "\n"); got != strings.Repeat("\n", n) || n < 40 || n > 45 {
			t.Errorf("got %q, want 40 to 45 empty lines", got)
		}
	})
}

// TestHeartbeat_ThePositionIsTold has subscribers who get nothing while the order moves.
func TestHeartbeat_ThePositionIsTold(t *testing.T) {
	const id, ev, comment = "id: #\n\n", "event: tidewire.hb\nid: #\ndata:\n\n", ""
	with := func(header string, to string) []string {
		var all []string
		for _, h := range native {
			if strings.HasPrefix(h, header+": ") {
				h = header + ": " + to
			}
			all = append(all, h)
		}
		return all
	}
	foreign := map[string]struct {
		hub.Event
		soon bool // retention removes it from the subscriber's own topic, perhaps next
	}{
		"another topic":   {event("b", "foreign"), false},
		"another type":    {hub.Event{Topics: []string{"a"}, Type: "other"}, true},
		"a private event": {hub.Event{Topics: []string{"a"}, Private: true}, true},
	}
	tests := []struct {
		name, query string
		headers     []string
		want        string
	}{
		{"a browser's EventSource", "", native, id},
		{"a program", "", nil, comment},
		{"a program that looks like a browser", "", with("Cache-Control", "max-age=0"), comment},
		{"a browser's fetch", "", with("Accept", "*/*"), comment},
		{"npm's eventsource", "", with("User-Agent", "node"), comment},
		{"a program that wants ids", "&heartbeat=id", nil, id},
		{"a program that wants events", "&heartbeat=event", nil, ev},
		{"a browser that wants events", "&heartbeat=event", native, ev},
		{"a browser that wants comments", "&heartbeat=comment", native, comment},
		{"a program that prefers ids", "", []string{"Prefer: heartbeat=id"}, id},
		{"a program that prefers events, and other things", "", []string{"Prefer: wait=10, status", "Prefer: return=minimal , HeartBeat = \"event\" ; x=y, heartbeat=id"}, ev},
		{"a browser that prefers comments", "", append(native[:3:3], "Prefer: heartbeat=comment"), comment},
		{"a browser that prefers nonsense", "", append(native[:3:3], "Prefer: heartbeat=yes, heart=event"), id},
		{"a program that prefers ids and asks for events", "&heartbeat=event", []string{"Prefer: heartbeat=id"}, ev},
	}
	for _, tt := range tests {
		for what, foreign := range foreign {
			t.Run(tt.name+"/"+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					log := newLog(t, nil)
					h := newHub(t, hub.Options{Log: log, Heartbeat: -1})
					r := record(serveInBubble(t, h).open("/events/a?type=message"+tt.query, tt.headers...))
					wantSoon := func(when string, d time.Duration, want string) {
						t.Helper()
						want = strings.ReplaceAll(want, "#", hub.Position(log.Head().Epoch, log.Head().Seq))
						if got := r.after(d); got != want {
							t.Errorf("%s: got %q, want %q", when, got, want)
						}
					}
					wantText := func(when, want string) {
						t.Helper()
						wantSoon(when, hub.DefaultPositionInterval, want)
					}
					wantSoon("it begins", 0, "retry: 3000\n"+tt.want)
					wantText("nothing moved", "")
					publish(t, h, foreign.Event)
					publish(t, h, foreign.Event)
					if foreign.soon {
						wantSoon("moved to the edge", time.Second, tt.want)
					} else {
						wantSoon("moved", time.Second, "")
						wantText("moved", tt.want)
					}
					wantText("told", "")
					publish(t, h, foreign.Event)
					wantSoon("moved a little", time.Second, "")
					wantText("moved again", tt.want)
					publish(t, h, hub.Event{Topics: []string{"a"}, Data: "x"})
					wantText("an event that tells itself", "id: #\ndata: x\n\n")
					wantText("nothing moved since", "")
				})
			})
		}
	}
}

// TestHeartbeat_ThePositionMovedBesideTheLastEvent has foreign events that the hub passes
// over in the same step as an event: the last id that was sent is still the event's.
func TestHeartbeat_ThePositionMovedBesideTheLastEvent(t *testing.T) {
	own := hub.Event{Topics: []string{"a"}, ID: "own", Data: "x"}
	const sent = "id: own\ndata: x\n\n"
	tests := []struct {
		name, query string
		before      []hub.Event // the subscription
		after       []hub.Event
		id          string // with which it comes
		want        string // beside the position
	}{
		{"live", "", nil, []hub.Event{own, event("b", "")}, "", sent},
		{"in the history", "since=earliest", []hub.Event{own, event("b", "")}, nil, "", sent},
		{"the newest", "last=1", []hub.Event{own, event("b", "")}, nil, "", sent},
		{"after the id that it came with", "", []hub.Event{own, event("b", "")}, nil, "own", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := newLog(t, nil)
				h := newHub(t, hub.Options{Log: log, Heartbeat: -1})
				s := serveInBubble(t, h)
				if tt.before != nil {
					publish(t, h, tt.before...)
				}
				r := record(s.open("/events/a?"+tt.query, append(native[:3:3], "Last-Event-ID: "+tt.id)...))
				if tt.after != nil {
					publish(t, h, tt.after...)
				}
				told := func(seq uint64) string { return "id: " + hub.Position(log.Head().Epoch, seq) + "\n\n" }
				want := "retry: 3000\n" + tt.want + told(2)
				if tt.after != nil { // it began with nothing
					want = "retry: 3000\n" + told(0) + tt.want + told(2)
				}
				if got := r.after(2 * hub.DefaultPositionInterval); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		})
	}
}

func TestHeartbeat_ThePositionIsNeverToldIfThatIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, hub.Options{Heartbeat: -1, PositionInterval: -1})
		r := record(serveInBubble(t, h).open("/events/a?heartbeat=id"))
		publish(t, h, event("b", ""))
		if got, want := r.after(24*time.Hour), "retry: 3000\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestHeartbeat_ThePositionSparesAGap is what it is for: a topic whose events of one
// type expire under a subscriber to another type.
func TestHeartbeat_ThePositionSparesAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog(t, &memory.Options{Retention: hub.RetentionRules{{Pattern: "**", Retention: hub.Retention{Count: 2}}}})
		h := newHub(t, hub.Options{Log: log, HotBytes: 1, Heartbeat: -1})
		s := serveInBubble(t, h)
		st := s.open("/events/a?type=rare", native...)
		r := record(st)
		publish(t, h, hub.Event{Topics: []string{"a"}, Type: "rare", Data: "x"})
		r.after(time.Second)
		for range 10 {
			publish(t, h, event("a", "frequent"))
			synctest.Wait() // it passes over each, as retention does
		}
		told := r.after(hub.DefaultPositionInterval)
		id := strings.TrimSuffix(strings.TrimPrefix(told, "id: "), "\n\n")
		if id != hub.Position(log.Head().Epoch, 11) {
			t.Fatalf("got %q, want position 11", told)
		}
		st.close()
		publish(t, h, hub.Event{Topics: []string{"a"}, Type: "rare", ID: "next", Data: "y"})
		again := record(s.open("/events/a?type=rare", append(native[:3:3], "Last-Event-ID: "+id)...))
		if got, want := again.after(time.Second), "retry: 3000\nevent: rare\nid: next\ndata: y\n\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// lastID returns the id with which a client comes back that has got a text.
func lastID(t testing.TB, text string) string {
	t.Helper()
	d := sse.NewDecoder(strings.NewReader(text), nil)
	for {
		if _, err := d.Next(); err == io.EOF {
			return d.LastEventID()
		} else if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	}
}

// TestHeartbeat_ThePositionIsToldBeforeItIsGone has histories that do not last until the
// PositionInterval is over. Whoever comes back, at whatever moment, with the last id that
// it was sent must not be told of a gap, as nothing that it wants is missing.
func TestHeartbeat_ThePositionIsToldBeforeItIsGone(t *testing.T) {
	unwanted := func(topics string) hub.Event {
		ev := event(topics, "")
		ev.Type = "frequent"
		return ev
	}
	tests := []struct {
		name      string
		query     string
		retention hub.Retention
		each      time.Duration // how often there is an unwanted event
		events    []hub.Event   // by turns
		until     time.Duration // after which there is none
		most      int           // of positions that are told in 5 minutes
	}{
		{"a count", "topic=a", hub.Retention{Count: 250}, 20 * time.Millisecond, []hub.Event{unwanted("a")}, time.Hour, 150},
		{"a count, at a slow pace", "topic=a", hub.Retention{Count: 20}, 3 * time.Second, []hub.Event{unwanted("a")}, time.Hour, 20},
		{"an age", "topic=a", hub.Retention{Age: 20 * time.Second}, 100 * time.Millisecond, []hub.Event{unwanted("a")}, time.Hour, 50},
		{"an age, and then nothing", "topic=a", hub.Retention{Age: 10 * time.Second}, 100 * time.Millisecond, []hub.Event{unwanted("a")}, 92 * time.Second, 25},
		{"an age, and one event", "topic=a", hub.Retention{Age: 10 * time.Second}, time.Second, []hub.Event{unwanted("a")}, time.Second, 3},
		{"an age, and an event now and then", "topic=a", hub.Retention{Age: 10 * time.Second}, 8 * time.Second, []hub.Event{unwanted("a")}, time.Hour, 40},
		{"a pattern", "pattern=*", hub.Retention{Count: 50}, 100 * time.Millisecond, []hub.Event{unwanted("a"), unwanted("b,c"), unwanted("d/e")}, time.Hour, 150},
		{"one topic of two", "topic=x&topic=a", hub.Retention{Count: 100}, 100 * time.Millisecond, []hub.Event{unwanted("a"), unwanted("b")}, time.Hour, 60},
		{"private events", "topic=a", hub.Retention{Count: 100}, 100 * time.Millisecond, []hub.Event{{Topics: []string{"a"}, Type: "rare", Private: true}}, time.Hour, 60},
		{"everything is kept", "topic=a", hub.Retention{}, 20 * time.Millisecond, []hub.Event{unwanted("a")}, time.Hour, 15},
		{"other topics", "topic=x", hub.Retention{Count: 10}, 100 * time.Millisecond, []hub.Event{unwanted("a")}, time.Hour, 3},
	}
	for _, tt := range tests {
		for name, hotBytes := range map[string]int{"in memory": 0, "from the log": 1} {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					const lasts = 5 * time.Minute
					log := newLog(t, &memory.Options{Retention: hub.RetentionRules{{Pattern: "**", Retention: tt.retention}}})
					h := newHub(t, hub.Options{Log: log, HotBytes: hotBytes, Heartbeat: -1})
					r := record(serveInBubble(t, h).open("/events?type=rare&"+tt.query, native...))
					text := r.after(0)
					var f hub.Filter
					for field := range strings.SplitSeq(tt.query, "&") {
						if topic, ok := strings.CutPrefix(field, "topic="); ok {
							f.Topics = append(f.Topics, topic)
						} else {
							f.Patterns = append(f.Patterns, strings.TrimPrefix(field, "pattern="))
						}
					}
					f.Types = []string{"rare"}
					for passed, n := time.Duration(0), 0; passed < lasts; passed += 500 * time.Millisecond {
						for ; passed < tt.until && time.Duration(n)*tt.each <= passed; n++ {
							publish(t, h, tt.events[n%len(tt.events)])
						}
						text += r.after(500 * time.Millisecond)
						f.From.LastEventID = lastID(t, text)
						back := read(t, h, f)
						if s, ok := back.take(); ok {
							t.Fatalf("after %v with %q: got %v, want nothing", passed, f.From.LastEventID, s)
						}
						back.stop()
					}
					if told := strings.Count(text, "id:"); told > tt.most {
						t.Errorf("got %d positions, want at most %d", told, tt.most)
					}
				})
			})
		}
	}
}

// TestHeartbeat_ManyTopicsCostLittle has a pattern under which events of countless topics
// pass, each of which a log would have to be asked for.
func TestHeartbeat_ManyTopicsCostLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &spyLog{Log: newLog(t, nil)}
		h := newHub(t, hub.Options{Log: log, Heartbeat: -1})
		r := record(serveInBubble(t, h).open("/events?pattern=*&type=rare", native...))
		r.after(0)
		asked := 0
		log.topic = func(context.Context, string) (bool, error) {
			asked++
			return true, nil // as if nobody had named it
		}
		for i := range 1000 {
			publish(t, h, event(fmt.Sprint("t", i), ""))
		}
		r.after(time.Second)
		if asked == 0 || asked > 16 {
			t.Errorf("got %d topics that were asked for in a second, want some, and at most 16", asked)
		}
	})
}

// TestHeartbeat_ABreakBeforeTheFirstEventLosesNothing has a client that has no id when it
// comes, and a connection that breaks before there is an event to give it one.
func TestHeartbeat_ABreakBeforeTheFirstEventLosesNothing(t *testing.T) {
	program := []string{"Accept: text/event-stream"}
	tests := []struct {
		name, query string
		headers     []string
		begins      string // after the retry; # is the position
	}{
		{"from now", "", native, "id: #\n\n"},
		{"from the newest", "last=3", native, "id: #\n\n"},
		{"from the earliest", "since=earliest", native, "id: #\n\n"},
		{"from a time", "since=1m", native, "id: #\n\n"},
		{"with events of its own", "heartbeat=event", native, "event: tidewire.hb\nid: #\ndata:\n\n"},
		{"with an id", "", append(native[:3:3], "Last-Event-ID: #"), ""},
		{"with an id in the query", "last_event_id=#", native, ""},
		{"a program, whose parser may take it for an event", "", program, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := newLog(t, nil)
				h := newHub(t, hub.Options{Log: log, Heartbeat: -1})
				s := serveInBubble(t, h)
				publish(t, h, event("other", ""))
				at := func(text string) string { return strings.ReplaceAll(text, "#", hub.Position(log.Head().Epoch, 1)) }
				var headers []string
				for _, header := range tt.headers {
					headers = append(headers, at(header))
				}
				st := s.open("/events/a?"+at(tt.query), headers...)
				begins := record(st).after(0)
				if want := "retry: 3000\n" + at(tt.begins); begins != want {
					t.Fatalf("got %q, want %q", begins, want)
				}
				st.close()
				publish(t, h, hub.Event{Topics: []string{"a"}, ID: "own", Data: "missed"})
				if tt.begins == "" {
					return // it has an id already, or no way to be told
				}
				again := record(s.open("/events/a?"+tt.query, append(headers, "Last-Event-ID: "+lastID(t, begins))...))
				if got, want := again.after(0), "retry: 3000\nid: own\ndata: missed\n\n"; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		})
	}
}

// TestHeartbeat_NothingIsLostAtThatMoment publishes events for a subscriber at the very
// moments at which it is told its position.
func TestHeartbeat_NothingIsLostAtThatMoment(t *testing.T) {
	for name, hotBytes := range map[string]int{"in memory": 0, "from the log": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const interval, n = time.Second, 200
				h := newHub(t, hub.Options{HotBytes: hotBytes, Heartbeat: interval, PositionInterval: interval})
				s := serveInBubble(t, h)
				stream := record(s.open("/events/a?heartbeat=id"))
				lines := record(s.open("/events/a", "Accept: application/x-ndjson"))
				go func() {
					p := []hub.Publication{
						{Events: []hub.Event{event("b", ""), event("a", ""), event("b", "")}},
						{Events: []hub.Event{event("b", "")}},
					}
					for i := range n {
						select {
						case <-time.After(interval): // the same instant as the heartbeats'
						case <-t.Context().Done():
							return
						}
						p[0].Events[1].Data = fmt.Sprint(i)
						for i := range p {
							if _, err := h.Publish(t.Context(), p[i]); err != nil {
								t.Error(err)
							}
						}
					}
				}()
				got := lines.after((n + 10) * interval)
				for i := range n {
					if c := strings.Count(got, fmt.Sprintf(`"data":"%d"`, i)); c != 1 {
						t.Errorf("NDJSON: got event %d %d times, want once", i, c)
					}
				}
				got, told := stream.after(0), 0
				for i := range n {
					if c := strings.Count(got, fmt.Sprintf("data: %d\n", i)); c != 1 {
						t.Errorf("SSE: got event %d %d times, want once", i, c)
					}
				}
				for block := range strings.SplitSeq(got, "\n\n") {
					if strings.Contains(block, "id:") && !strings.Contains(block, "data:") {
						told++
					}
				}
				if told == 0 {
					t.Error("no position was told, so this tests nothing")
				}
			})
		})
	}
}

// TestHeartbeat_ASlowLogCostsNoEvent has a log that is asked something just when a
// heartbeat is due, and answers too late: what the subscriber was to get in that step
// must still come.
func TestHeartbeat_ASlowLogCostsNoEvent(t *testing.T) {
	for _, accept := range []string{"text/event-stream", "application/x-ndjson"} {
		t.Run(accept, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &spyLog{Log: newLog(t, nil)}
				h := newHub(t, hub.Options{Log: log, HotBytes: 1, Heartbeat: time.Minute, PositionInterval: time.Minute})
				r := record(serveInBubble(t, h).open("/events/a?heartbeat=id", "Accept: "+accept))
				var once, slow sync.Once
				log.read = func(hub.Query, hub.Page) {
					once.Do(func() {
						// While the subscriber catches up, another event comes.
						if _, err := h.Publish(t.Context(), hub.Publication{Events: []hub.Event{event("a", "second")}}); err != nil {
							t.Error(err)
						}
						time.Sleep(time.Second) // the hub has it in memory
						log.topic = func(ctx context.Context, _ string) (failed bool, err error) {
							slow.Do(func() {
								select {
								case <-time.After(2 * time.Minute):
								case <-ctx.Done():
									failed, err = true, ctx.Err()
								}
							})
							return failed, err
						}
					})
				}
				publish(t, h, event("a", "first"), event("b", "")) // too much for the hub's memory
				got := r.after(time.Hour)
				first, second := strings.Index(got, "first"), strings.Index(got, "second")
				if first < 0 || second < first || strings.Contains(got, "tidewire.error") {
					t.Errorf("got %q, want the first and the second event", got)
				}
				publish(t, h, event("a", "third"))
				if got := r.after(time.Second); !strings.Contains(got, "third") {
					t.Errorf("then got %q, want the third event", got)
				}
			})
		})
	}
}
