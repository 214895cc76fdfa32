package doctor

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/tidewire/tidewire/sse"
)

// longSilence is what a stream must not reach: nginx, Apache and the load balancers of
// several clouds cut after a minute without a byte.
const longSilence = 55 * time.Second

// lookAtIdle holds a stream open and looks whether somebody cuts it.
func (x *examination) lookAtIdle(ctx context.Context) error {
	if x.idle < 0 {
		return nil
	}
	x.progress("an idle stream, for " + x.idle.String())
	s, err := x.subscribe(ctx, x.url, "identity", "")
	if err != nil {
		x.problem("idle", "", nil, "the stream could not be opened once more: %v", err)
		return nil
	}
	defer s.close()
	opened := s.came
	last, longest, beats := opened, time.Duration(0), 0
	n, ended := s.await(ctx, x.idle, func(n news) {
		if n.bytes > 0 {
			beats++
			longest = max(longest, n.at.Sub(last))
			last = n.at
		}
	}, func(n news) bool { return n.end != nil })
	if ctx.Err() != nil {
		return nil
	}
	if !ended {
		x.tellOpen(time.Since(opened), max(longest, time.Since(last)), beats)
		return nil
	}
	x.tellCut(n.end, n.at.Sub(opened), n.at.Sub(last), longest)
	return nil
}

// tellOpen tells of a stream that was still open.
func (x *examination) tellOpen(age, longest time.Duration, beats int) {
	m := measured{"watched_s": seconds(age), "longest_silence_s": seconds(longest), "bytes_came": beats}
	if longest >= longSilence {
		x.note("idle", idle, m, "the stream stayed open for %s, with silences of up to %s: proxies that cut after a minute would not let that pass; have the server send a comment line every 15 s or so", brief(age), brief(longest))
		return
	}
	x.ok("idle", m, "the stream stayed open for %s; the longest silence was %s", brief(age), brief(longest))
}

// tellCut tells of a stream that has ended.
func (x *examination) tellCut(end error, age, silence, longest time.Duration) {
	m := measured{"cut_after_s": seconds(age), "silence_s": seconds(silence), "longest_silence_s": seconds(longest)}
	how := ending(end)
	var large *sse.SizeError
	switch {
	case errors.As(end, &large):
		x.problem("idle", "", m, "the stream %s: clients give it up there; have the server end its lines, and split what is so large", how)
	case age < time.Second && end != io.EOF:
		x.problem("idle", "", m, "the stream %s after %s: the server, or a proxy, breaks it as soon as it has begun; their logs may tell why", how, brief(age))
	case silence >= time.Second && silence > longest:
		x.problem("idle", idle, m, "the stream %s after %s, when nothing had come for %s: a proxy takes silence for the end. Let it wait longer, or the server send something more often than that", how, brief(age), brief(silence))
	case end == io.EOF:
		x.note("idle", idle, m, "the stream was ended in an orderly way after %s, %s after something had come: the server does so, or something bounds the time of a whole answer; browsers reconnect", brief(age), brief(silence))
	default:
		x.problem("idle", idle, m, "the stream %s after %s, %s after something had come: something bounds the time of a whole answer", how, brief(age), brief(silence))
	}
}
