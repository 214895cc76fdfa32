package doctor

import (
	"context"
	"slices"
	"strings"
)

// browserCodings returns what browsers ask for, which is less in clear text.
func (x *examination) browserCodings() string {
	if strings.HasPrefix(strings.ToLower(x.url), "https:") {
		return "gzip, deflate, br, zstd"
	}
	return "gzip, deflate"
}

// lookAtCompression asks for the stream as browsers do, and compares how events come then.
func (x *examination) lookAtCompression(ctx context.Context) error {
	x.progress("compression")
	target := x.url
	if x.probe != "" {
		target = x.probe
	}
	codings := x.browserCodings()
	s, err := x.subscribe(ctx, target, codings, "")
	if err == errSilent {
		x.problem("compression", compression, measured{"waited_ms": ms(x.timeout)}, "the stream begins when it is asked for plain, and to a request for %q no answer came in %s: a proxy that compresses holds it back", codings, brief(x.timeout))
		return nil
	}
	if err != nil {
		x.problem("compression", compression, nil, "the stream is answered when it is asked for plain, and not to a request for %q: %v", codings, err)
		return nil
	}
	defer s.close()
	if s.coding == "" {
		x.ok("compression", nil, "there is none")
		return nil
	}
	asked := strings.Split(codings, ", ")
	if !slices.Contains(asked, s.coding) {
		x.problem("compression", compression, nil, "the answer is %s, of which the request, %q, says nothing: the browser cannot read it", s.coding, codings)
		return nil
	}
	if x.live.measured {
		x.compareDelivery(ctx, s)
		return nil
	}
	_, came := s.await(ctx, x.timeout, nil, someBytes)
	switch m := (measured{"coding": s.coding}); {
	case !came && s.ended != nil:
		x.problem("compression", compression, m, "plain, the stream begins; as %s, before there was anything to read, it %s", s.coding, ending(s.ended))
	case !came && x.started:
		m["waited_ms"] = ms(x.timeout)
		x.problem("compression", compression, m, "plain, the stream begins at once; as %s nothing that can be read came in %s: what compresses does not flush", s.coding, brief(x.timeout))
	case !came:
		x.note("compression", compression, m, "the stream is compressed (%s), and whether that holds events back cannot be told while none comes", s.coding)
	default:
		x.ok("compression", m, "the stream is compressed (%s), and begins at once", s.coding)
	}
	return nil
}

// compareDelivery measures events on a compressed stream.
func (x *examination) compareDelivery(ctx context.Context, s *stream) {
	d := x.deliver(ctx, s, compressedEvents)
	m := d.numbers()
	m["coding"], m["plain_late_ms"] = s.coding, ms(x.live.late())
	switch {
	case d.refused != "":
		x.note("compression", "", nil, "it could not be measured, as an event could not be published: %s", d.refused)
	case x.live.held:
		x.note("compression", compression, m, "the stream is compressed (%s), and whether that holds events back cannot be told while they do not come without it either", s.coding)
	case d.ended != nil:
		x.problem("compression", compression, m, "plain, events come; as %s, before one came the stream %s", s.coding, ending(d.ended))
	case d.held:
		m["waited_ms"] = ms(x.timeout)
		x.problem("compression", compression, m, "plain, events come; as %s one did not in %s: what compresses does not flush", s.coding, brief(x.timeout))
	case d.late() > x.live.late()+lateAfter:
		x.problem("compression", compression, m, "as %s, events come %s later than their publication is answered, and %s plain: what compresses does not flush at once", s.coding, brief(d.late()), brief(x.live.late()))
	default:
		x.ok("compression", m, "the stream is compressed (%s), and events come %s after they were sent", s.coding, brief(median(d.delays)))
	}
}
