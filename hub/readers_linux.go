//go:build linux && !portable && (amd64 || arm64)

package hub

import (
	"errors"
	"strconv"
	"sync"

	"github.com/tidewire/tidewire/sse"
)

// Readers read history for streams that are not live: few goroutines, and a page for each
// stream in turn, so that a thousand who come back at once leave room for publishers.
type readers struct {
	mu    sync.Mutex
	queue []*reading
	busy  int
	most  int
}

// A reading is a stream that waits for a page.
type reading struct {
	shard *shard
	st    *stream
}

// pageBytes is about how much is read for a stream at once.
const pageBytes = 64 << 10

// ask has a page read for a stream.
func (s *shard) ask(st *stream) {
	if st.asked {
		return
	}
	st.asked = true
	r := &s.engine.readers
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = append(r.queue, &reading{s, st})
	if r.busy < r.most {
		r.busy++
		s.engine.running.Go(s.engine.read)
	}
}

// read serves the queue until it is empty.
func (e *engine) read() {
	r := &e.readers
	for {
		r.mu.Lock()
		if len(r.queue) == 0 {
			r.busy--
			r.mu.Unlock()
			return
		}
		next := r.queue[0]
		r.queue[0] = nil
		if r.queue = r.queue[1:]; len(r.queue) == 0 {
			r.queue = nil
		}
		r.mu.Unlock()
		p := e.pageOf(next.st)
		next.shard.post(func() { next.shard.turnPage(next.st, &p) })
	}
}

func (e *engine) pageOf(st *stream) page {
	if st.isPoll() {
		return e.answerPage(st)
	}
	return e.page(st)
}

// A page is what was read for a stream.
type page struct {
	body  []byte  // one chunk
	sum   gzipSum // of it, with gzip
	told  uint64  // what the last id in it stands for; 0: none
	after uint64
	next  uint64 // the ordinal in the lane, if it is live
	live  bool
	ended bool // nothing more will come
}

// page reads a page. It uses the stream's cursor, and nothing of the stream that its shard
// changes meanwhile.
func (e *engine) page(st *stream) (p page) {
	c := st.cursor
	const room = 10 // for the chunk's size
	b := make([]byte, room, room+4<<10)
	known := st.known
	for len(b) < pageBytes {
		batch, err := c.poll(e.hub.ctx)
		var gap *GapError
		switch {
		case errors.As(err, &gap):
			b, _ = sse.AppendEvent(b, gapEvent(gap)) // what the hub makes can be encoded
			p.told = gap.resumed
			continue
		case err == errEnded:
			p.ended = true
		case err != nil:
			p.ended = true
			if e.hub.ctx.Err() == nil {
				b, _ = sse.AppendEvent(b, e.hub.errorEvent(err)) // so that the page can learn why
			}
		case len(batch) > 0:
			for _, it := range batch {
				b = it.append(b)
			}
			p.told = batch[len(batch)-1].Seq
			if c.page == batchEvents {
				continue // the small ones at the beginning are to come at once
			}
		default:
			if p.next, _, p.live = e.hub.hot.join(c.feed, c.after); !p.live {
				continue // there is more
			}
			known = known || p.told > 0
			if told := max(p.told, st.told); st.beat != beatComment && (!known || told < c.after) {
				b, _ = appendPosition(b, e.hub, st.beat, c.after)
				p.told = c.after
			}
		}
		break
	}
	p.after = c.after
	switch {
	case len(b) == room:
	case st.gzip:
		p.body, p.sum = e.hub.gzipPage(b[room:]), sumOf(b[room:])
	default:
		p.body = chunkInPlace(b, room)
	}
	return p
}

// chunkInPlace makes one chunk of what stands in b after room for its size.
func chunkInPlace(b []byte, room int) []byte {
	size := strconv.FormatInt(int64(len(b)-room), 16) + lineEnd
	b = b[room-len(size):]
	copy(b, size)
	return append(b, lineEnd...)
}

// turnPage takes a page for a stream.
func (s *shard) turnPage(st *stream, p *page) {
	st.asked = false
	if st.isPoll() {
		s.takeAnswer(st, p)
		return
	}
	if st.state != catching {
		return // it is to end, or has
	}
	st.rest = p.body
	st.sum = st.sum.join(p.sum)
	st.after = p.after
	if p.told > 0 {
		st.told, st.known, st.sent = p.told, true, s.now
	}
	switch {
	case p.ended:
		s.end(st, nil)
		return
	case p.live:
		st.state, st.cursor = live, nil
		st.place(p.next)
	}
	s.flush(st)
}

// fallBehind has a stream read from the Log, as the hot log has gone on without it.
func (s *shard) fallBehind(st *stream) {
	st.state = catching
	st.cursor = s.hub.cursorOf(st.feed, st.feed.filter)
	st.cursor.after = st.after
}
