package doctor

import (
	"context"
	"strings"

	"github.com/tidewire/tidewire/sse"
)

// missedEvents is how many come while the stream is cut.
const missedEvents = 2

// lookAtResume cuts a stream, and compares what comes after a reconnection with what
// another one, which has stayed open, gets.
func (x *examination) lookAtResume(ctx context.Context) error {
	target := x.url
	switch {
	case x.probe == "" && !x.started, x.probe != "" && (!x.live.measured || x.live.held):
		x.note("resume", "", nil, "it was not tried, as no event comes")
		return nil
	case x.probe != "":
		target = x.probe
	}
	x.progress("resumption")
	witness, err := x.subscribe(ctx, target, "identity", "")
	if err != nil {
		x.problem("resume", "", nil, "two streams cannot be open at a time: %v", err)
		return nil
	}
	defer witness.close()
	last, why := x.lastBeforeCut(ctx, target)
	switch {
	case why != "":
		x.note("resume", "", nil, "it was not tried, as %s", why)
		return nil
	case last.ID == "":
		x.note("resume", resume, nil, "events have no id: what comes while a browser reconnects, it never gets. The server has to give ids, and to go on after the Last-Event-ID of a request")
		return nil
	}
	want, ok := x.missed(ctx, witness, last)
	if !ok {
		x.note("resume", "", nil, "it was not tried, as too few events came in %s, or their ids differ from stream to stream", brief(x.timeout))
		return nil
	}
	x.compareResumed(ctx, target, last, want)
	return nil
}

// lastBeforeCut reads a stream up to an event with an id, and ends it. Where events
// come and none has one, it returns an event without; why says that none came.
func (x *examination) lastBeforeCut(ctx context.Context, target string) (last sse.Event, why string) {
	s, err := x.subscribe(ctx, target, "identity", "")
	if err != nil {
		return last, "two streams cannot be open at a time: " + err.Error()
	}
	defer s.close()
	_, _ = s.await(ctx, x.timeout, nil, someBytes)
	if x.probe != "" {
		if _, refused := x.publish(ctx, probeText()); refused != "" {
			return last, "an event could not be published: " + refused
		}
	}
	some := false
	n, ok := s.await(ctx, x.timeout, func(n news) { some = some || isEvent(n) }, isNumbered)
	switch {
	case ok:
		return *n.event, ""
	case some:
		return last, ""
	case s.ended != nil:
		return last, "before an event came the stream " + ending(s.ended)
	}
	return last, "no event came in " + brief(x.timeout) + "; with a hub, --publish-topic TOPIC makes some"
}

// isEvent tells of an application's event, and not of one of a hub's own.
func isEvent(n news) bool {
	return n.event != nil && !strings.HasPrefix(n.event.Type, "tidewire.")
}

// isNumbered tells of those from which a stream can be resumed.
func isNumbered(n news) bool { return isEvent(n) && n.own }

// missed returns what the witness gets after the last event of the stream that was cut.
func (x *examination) missed(ctx context.Context, witness *stream, last sse.Event) (after []sse.Event, ok bool) {
	isLast := func(n news) bool { return isNumbered(n) && n.event.ID == last.ID && n.event.Data == last.Data }
	if _, ok := witness.await(ctx, x.timeout, nil, isLast); !ok {
		return nil, false
	}
	for range missedEvents {
		if x.probe != "" {
			if _, refused := x.publish(ctx, probeText()); refused != "" {
				return nil, false
			}
		}
		n, ok := witness.await(ctx, x.timeout, nil, isNumbered)
		if !ok {
			return nil, false
		}
		after = append(after, *n.event)
	}
	return after, true
}

// compareResumed reconnects, and looks for what came meanwhile: each once, in order.
func (x *examination) compareResumed(ctx context.Context, target string, last sse.Event, want []sse.Event) {
	s, err := x.subscribe(ctx, target, "identity", last.ID)
	if err != nil {
		x.problem("resume", resume, nil, "a request with a Last-Event-ID has no stream: %v", err)
		return
	}
	defer s.close()
	var got []sse.Event
	gap := ""
	final := want[len(want)-1]
	_, _ = s.await(ctx, x.timeout, func(n news) {
		switch {
		case n.event != nil && n.event.Type == "tidewire.gap":
			gap = n.event.Data
		case isNumbered(n):
			got = append(got, *n.event)
		}
	}, func(n news) bool { return isNumbered(n) && n.event.ID == final.ID && n.event.Data == final.Data })
	// What is sent twice comes just after.
	_, _ = s.await(ctx, 2*lateAfter, func(n news) {
		if isNumbered(n) {
			got = append(got, *n.event)
		}
	}, func(n news) bool { return n.end != nil })
	x.tellResumed(last, want, got, gap)
}

func (x *examination) tellResumed(last sse.Event, want, got []sse.Event, gap string) {
	lost, again, next := 0, 0, 0
	seen := map[string]int{}
	for _, ev := range got {
		seen[ev.ID]++
		if seen[ev.ID] > 1 || ev.ID == last.ID {
			again++
		}
		if next < len(want) && ev.ID == want[next].ID {
			next++
		}
	}
	for _, ev := range want {
		if seen[ev.ID] == 0 {
			lost++
		}
	}
	m := measured{"missed": len(want), "lost": lost, "repeated": again}
	switch {
	case gap != "":
		x.problem("resume", resume, m, "after a reconnection the server tells of a gap: %s. Its history may be too short, or a proxy spreads requests over servers that do not share it", gap)
	case lost > 0:
		x.problem("resume", resume, m, "of %d events that came while the stream was cut, %d are lost after a reconnection with Last-Event-ID: either it does not reach the server, or the server does not go on after it", len(want), lost)
	case again > 0:
		x.problem("resume", resume, m, "after a reconnection with Last-Event-ID %d events came again", again)
	case next < len(want):
		x.problem("resume", resume, m, "after a reconnection with Last-Event-ID events came in another order")
	default:
		x.ok("resume", m, "%d events that came while the stream was cut were there after a reconnection, each once and in order", len(want))
	}
}
