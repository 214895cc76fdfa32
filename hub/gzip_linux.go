//go:build linux && !portable && (amd64 || arm64)

package hub

import "math"

// gzipFresh is how much text is compressed for one write, about, before others have their
// turn, in bytes: less than a millisecond.
const gzipFresh = 32 << 10

// A piece of a cut is an event in gzip, or several in one.
type piece struct {
	last *item
	run  *run // nil if it is one event
}

func (p *piece) events() int {
	if p.run == nil {
		return 1
	}
	return len(p.run.items)
}

// cutGzip is [hotLog.cut] for those who get gzip. What nobody has got yet is compressed.
func (h *Hub) cutGzip(c *cut, f *feed, next, pure uint64) bool {
	since, until := h.goOn(f, next, pure)
	if pure > since {
		until = math.MaxUint64
	}
	ok, loose := h.hot.pieces(c, f, next, pure, until)
	if loose {
		h.hot.group(f, next)
		ok, _ = h.hot.pieces(c, f, next, pure, until)
	}
	if !ok {
		return false
	}
	c.joined, c.since = pure <= since, since
	var block *block // of the last piece, and where that ends
	end, bytes, fresh := 0, 0, 0
	for i := range c.pieces {
		p := &c.pieces[i]
		z, made := h.zipPiece(p)
		if made {
			fresh += int(z.sum.size)
		}
		if n := len(c.slices); z.block == block && z.begin == end {
			last := c.slices[n-1]
			c.slices[n-1] = last[:len(last)+len(z.wire)]
		} else {
			c.slices = append(c.slices, z.block.b[z.begin:z.begin+len(z.wire)])
		}
		block, end = z.block, z.begin+len(z.wire)
		bytes += len(z.wire)
		c.ends = append(c.ends, cutEnd{bytes, p.last.Seq})
		c.sum = c.sum.join(z.sum)
		if fresh >= gzipFresh && i+1 < len(c.pieces) {
			c.pieces = c.pieces[:i+1]
			c.all, c.ended = false, false
			break
		}
	}
	c.shift = shiftOf(c.sum.size)
	return true
}

// pieces sets c to what a feed's lane has between two ordinals, but for the bytes, for a
// stream that was sent nothing between its events from pure on. It returns false if the lane
// does not reach back so far. Loose events are worth grouping.
func (h *hotLog) pieces(c *cut, f *feed, next, pure, until uint64) (ok, loose bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	l := f.lane
	clear(c.slices)
	clear(c.pieces)
	*c = cut{feed: f, next: next, slices: c.slices[:0], ends: c.ends[:0], pieces: c.pieces[:0], least: math.MaxUint64}
	if next < l.base {
		c.feed = nil
		return false, false
	}
	i := int(next - l.base)
	if i < len(l.items) {
		c.first = l.items[i].Seq
	}
	small := 0
	for bytes := 0; i < len(l.items) && bytes < writeBytes && len(c.pieces) < writeSlices; {
		ordinal := l.base + uint64(i)
		if ordinal >= until {
			break
		}
		p := piece{last: l.items[i]}
		n := len(p.last.wire)
		r, inside := l.contextAt(ordinal, pure), false
		if r == nil {
			r, inside = l.gzip.runs.at(ordinal)
		} else {
			c.least = min(c.least, r.since)
		}
		switch {
		case r != nil:
			p.run, p.last = r, r.items[len(r.items)-1]
			n, small = r.size, 0
		case inside || n >= gzipLeast:
			small = 0
		default:
			small += n
			loose = loose || small >= gzipLeast
		}
		bytes += n
		i += p.events()
		c.pieces = append(c.pieces, p)
	}
	c.all = i == len(l.items)
	c.to, c.ended = h.to, c.all && f.ended()
	return true, loose
}

// zipPiece returns a piece in gzip, and whether it was made now.
func (h *Hub) zipPiece(p *piece) (z *zipped, made bool) {
	if p.run == nil {
		made = p.last.zipped[formSSE].Load() == nil
		return h.zip(p.last, formSSE), made
	}
	return h.zipRun(p.run)
}

// chunk appends a text of a stream's own as one chunk of its body.
func (st *stream) chunk(b, text []byte) []byte {
	if st.gzip {
		st.sum = st.sum.join(sumOf(text))
		st.pure = st.next
		text = appendStored(nil, text)
	}
	b, _ = appendChunk(b, text)
	return b
}

// finish appends the end of a stream's body.
func (st *stream) finish(b []byte) []byte {
	if st.gzip {
		b, _ = appendChunk(b, st.sum.appendEnd(nil))
	}
	return append(b, lastChunk...)
}

// tookGzip notes that the first n parts of a cut were begun, and returns how many events that
// is.
func (st *stream) tookGzip(c *cut, n int) (events int) {
	if n == len(c.pieces) {
		st.sum = st.sum.joinAt(c.sum, c.shift)
	}
	for i := range c.pieces[:n] {
		p := &c.pieces[i]
		events += p.events()
		if n < len(c.pieces) {
			z := p.last.zipped[formSSE].Load()
			if p.run != nil {
				z = &p.run.zipped
			}
			st.sum = st.sum.join(z.sum)
		}
	}
	return events
}

// gzipPage returns a page's text as one chunk.
func (h *Hub) gzipPage(text []byte) (chunk []byte) {
	z := h.zippers.take()
	defer h.zippers.give(z)
	blocks := z.deflate(text)
	chunk, _ = appendChunk(make([]byte, 0, len(blocks)+20), blocks)
	return chunk
}
