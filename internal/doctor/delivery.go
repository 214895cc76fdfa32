package doctor

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// How many events are published to measure their delay.
const (
	plainEvents      = 5
	compressedEvents = 3
)

// A delivery is how events arrive on a stream.
type delivery struct {
	measured bool
	held     bool            // one has not come in time
	ended    error           // why the stream has, before one came
	delays   []time.Duration // from sending its publication to having the event
	answers  []time.Duration // of the publications
	refused  string          // "": events could be published
}

// late tells how long events take beyond what their publication takes.
func (d *delivery) late() time.Duration {
	if len(d.delays) == 0 {
		return 0
	}
	return max(0, median(d.delays)-slices.Min(d.answers))
}

func (d *delivery) numbers() measured {
	m := measured{"events": len(d.delays), "late_ms": ms(d.late())}
	if len(d.delays) > 0 {
		m["delay_ms"], m["worst_delay_ms"], m["publish_ms"] = ms(median(d.delays)), ms(slices.Max(d.delays)), ms(slices.Min(d.answers))
	}
	return m
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// deliver publishes events, one after the other, and waits for each.
func (x *examination) deliver(ctx context.Context, s *stream, n int) (d delivery) {
	// What a stream begins with is not to be taken for an event's bytes.
	_, _ = s.await(ctx, x.timeout, nil, someBytes)
	d.measured = true
	for range n {
		text := probeText()
		begun := time.Now()
		p, refused := x.publish(ctx, text)
		if refused != "" {
			d.measured, d.refused = false, refused
			return d
		}
		got, ok := s.await(ctx, x.timeout, nil, func(n news) bool {
			return n.event != nil && n.event.Data == text || s.opaque() && n.bytes > 0 && n.at.After(begun)
		})
		if !ok {
			d.held, d.ended = true, s.ended
			return d
		}
		d.delays, d.answers = append(d.delays, got.at.Sub(p.sent)), append(d.answers, p.came.Sub(p.sent))
	}
	return d
}

// probeText is the data of an event that is known again.
func probeText() string { return "tidewire doctor " + rand.Text() }

// publish publishes an event to the probe, and returns the answer, which has ended, or why
// it was refused.
func (x *examination) publish(ctx context.Context, data string) (a *answer, refused string) {
	a, err := x.ask(ctx, http.MethodPost, x.probe, data, http.Header{"Content-Type": {"text/plain"}})
	if err != nil {
		return nil, err.Error()
	}
	defer a.end()
	if a.Request.Method != http.MethodPost { // Fetch, section 4.4
		return nil, fmt.Sprintf("the request was redirected to %s in a way that makes a GET of it: give the URL that it leads on to, or redirect with 308", redacted(a.Request.URL.String()))
	}
	if a.StatusCode/100 != 2 {
		if why := x.explanation(a); why != "" {
			return nil, fmt.Sprintf("%s: %s", a.Status, why)
		}
		return nil, a.Status
	}
	return a, ""
}

// lookAtDelivery measures how long events take.
func (x *examination) lookAtDelivery(ctx context.Context) error {
	if x.probe == "" {
		x.note("delivery", "", nil, "it was not measured, as nothing may be published: with a hub, --publish-topic TOPIC allows it")
		return nil
	}
	x.progress("delivery")
	s, err := x.subscribe(ctx, x.probe, "identity", "")
	if err != nil {
		x.problem("delivery", "", nil, "the topic to publish to cannot be subscribed to: %v", err)
		return nil
	}
	defer s.close()
	x.live = x.deliver(ctx, s, plainEvents)
	d := &x.live
	m := d.numbers()
	switch {
	case d.refused != "":
		x.problem("delivery", "", nil, "an event could not be published, so that nothing could be measured: %s", d.refused)
	case d.ended != nil:
		x.problem("delivery", "", m, "an event was stored, and before it came the stream %s: look at idle, and at the server's and the proxies' logs", ending(d.ended))
	case d.held:
		m["waited_ms"] = ms(x.timeout)
		x.problem("delivery", buffering, m, "an event was stored, and did not come in %s: a proxy holds the stream back", brief(x.timeout))
	case d.late() > lateAfter:
		x.problem("delivery", lateness, m, "events came after %s, though their publication was answered after %s: a proxy waits for more to send with them", brief(median(d.delays)), brief(slices.Min(d.answers)))
	default:
		x.ok("delivery", m, "events came %s after they were sent, the slowest of %d after %s", brief(median(d.delays)), len(d.delays), brief(slices.Max(d.delays)))
	}
	return nil
}
