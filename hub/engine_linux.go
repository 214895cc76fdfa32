//go:build linux && !portable && (amd64 || arm64)

package hub

import (
	"bytes"
	"context"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidewire/tidewire/sse"
)

// An engine writes to the connections that it has taken over from net/http. Each is a
// stream of one shard, and there is a shard for each processor: one goroutine that writes
// to all its streams, never waiting for any. A stream that is idle has no goroutine, no
// buffer and no timer.
type engine struct {
	hub      *Hub
	start    sync.Once
	shards   atomic.Pointer[[]*shard] // nil before the first stream
	passing  []*feed                  // with something passed; under hotLog.mu
	looked   atomic.Int64             // when lookOut last did, ns of Unix time
	looking  atomic.Bool              // lookOut is at it
	gate     gate
	readers  readers
	contexts gzipContexts
	lastHead atomic.Pointer[answerHead]
	running  sync.WaitGroup
	epoch    time.Time // that a shard's clock counts from
}

func newEngine(h *Hub) *engine {
	e := &engine{hub: h, epoch: time.Now()}
	e.readers.most = max(1, runtime.GOMAXPROCS(0)/2)
	h.hot.onPass = e.pass
	return e
}

// all returns the shards, none before the first stream.
func (e *engine) all() []*shard {
	if s := e.shards.Load(); s != nil {
		return *s
	}
	return nil
}

// run starts the shards.
func (e *engine) run() (err error) {
	e.start.Do(func() {
		shards := make([]*shard, e.hub.hot.shards)
		for i := range shards {
			if shards[i], err = newShard(e, i); err != nil {
				for _, s := range shards[:i] {
					s.release()
				}
				return
			}
		}
		for _, s := range shards {
			e.running.Go(s.poller.run)
			e.running.Go(s.run)
		}
		e.shards.Store(&shards)
	})
	return err
}

// wake has the shards look at feeds with something new.
func (e *engine) wake(feeds []*feed) {
	for _, s := range e.all() {
		s.offer(feeds)
	}
}

// admit has a publisher wait while the shards are behind by more than a little: not for
// any socket, and not for longer than ctx.
func (e *engine) admit(ctx context.Context) {
	for {
		c := e.gate.closed()
		if c == nil {
			return
		}
		select {
		case <-c:
		case <-ctx.Done():
			return
		case <-e.hub.ctx.Done():
			return
		}
	}
}

// settle waits until what the shards had in hand when it was called is written, as far as
// the sockets take it.
func (e *engine) settle(ctx context.Context) { e.each(ctx, func(*shard) {}) }

// drain has all streams end: their clients are told to come back a little later.
func (e *engine) drain() {
	for _, s := range e.all() {
		s.post(s.drain)
	}
}

// close cuts what is left, and waits for the goroutines.
func (e *engine) close() {
	for _, s := range e.all() {
		s.post(s.stop)
	}
	e.running.Wait()
}

// takeOver makes a stream of a request, if it can, and of the cursor and the permit, which
// are the stream's then.
func (e *engine) takeOver(w http.ResponseWriter, r *http.Request, c *cursor, beat heartbeat, p *permit) bool {
	got, ok := e.seize(w, r)
	switch {
	case !ok:
		return false
	case got.conn != nil:
		hw := newHijackedWriter(got.conn, w.Header())
		defer p.end()
		defer hw.finish()
		defer c.close()
		defer e.hub.serve(c, p).leave()
		e.hub.streamSSE(hw, r, c, beat, nil, nil)
		return true
	case got.fd < 0:
		c.close()
		p.end()
		return true
	}
	st := &stream{feed: c.feed, cursor: c, permit: p, fd: got.fd, gzip: e.hub.gzips(r), mute: true, beat: beat, told: c.after, known: c.filter.From.LastEventID != ""}
	if e.hub.opt.PositionInterval <= 0 {
		st.beat = beatComment
	}
	st.rest = e.hub.beginning(st, w.Header())
	e.join(st)
	e.all()[e.choose(c.feed)].enter(st, 0)
	return true
}

// join puts a stream on its feed's lane, if that reaches back as far as its cursor.
func (e *engine) join(st *stream) {
	c := st.cursor
	if c.gap != nil || len(c.first) > 0 || c.after < c.history {
		st.state = catching
		return
	}
	next, left, ok := e.hub.hot.join(c.feed, c.after)
	if !ok {
		st.state = catching
		return
	}
	st.state, st.after, st.cursor = live, c.after, nil
	st.place(next)
	if left == 0 && st.behind(c.after) {
		st.rest = st.chunk(st.rest, e.hub.positionBlock(st.beat, c.after))
		st.told, st.known = c.after, true
	}
}

// choose returns the shard for a stream: the same one for all of a small feed, so that an
// event concerns few shards, and all of them for a large one.
func (e *engine) choose(f *feed) int {
	const few = 64
	i := int(f.shared.streams.Add(1)) - 1
	return (f.shared.home + i/few) % len(e.all())
}

// beginning returns what a stream begins with, as [sse.Accept] writes it.
func (h *Hub) beginning(st *stream, header http.Header) []byte {
	header.Set("Content-Type", "text/event-stream")
	header.Set("X-Accel-Buffering", "no")
	if header.Get("Cache-Control") == "" {
		header.Set("Cache-Control", "no-store")
	}
	header.Del("Content-Length")
	first := sse.AppendComment(nil, "")
	if h.opt.Retry > 0 {
		first = retryBlock(h.opt.Retry)
	}
	if !st.gzip {
		return st.chunk(appendHead(make([]byte, 0, 384), header), first)
	}
	header.Set("Content-Encoding", "gzip")
	b, _ := appendChunk(appendHead(make([]byte, 0, 448), header), []byte(gzipHead))
	return st.chunk(b, first)
}

// appendHead appends the head of a response that is sent in chunks.
func appendHead(b []byte, header http.Header) []byte {
	header.Set("Transfer-Encoding", "chunked")
	header.Set("Connection", "close") // after the stream
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	buf := bytes.NewBuffer(b)
	buf.WriteString("HTTP/1.1 200 OK\r\n")
	_ = header.Write(buf) // a buffer takes everything
	buf.WriteString(lineEnd)
	return buf.Bytes()
}

// positionBlock tells a client its position.
func (h *Hub) positionBlock(beat heartbeat, seq uint64) []byte {
	block, _ := appendPosition(nil, h, beat, seq) // what the hub makes can be encoded
	return block
}

// appendPosition appends what tells a client its position.
func appendPosition(b []byte, h *Hub, beat heartbeat, seq uint64) ([]byte, error) {
	id := Position(h.log.Head().Epoch, seq)
	if beat == beatEvent {
		return sse.AppendEvent(b, sse.Event{ID: id, Type: "tidewire.hb"})
	}
	return sse.AppendID(b, id)
}

// farewell returns what ends a stream whose client is to come back.
func (h *Hub) farewell() []byte { return retryBlock(h.jitteredRetry()) }

const lastChunk = "0\r\n\r\n"

// retryBlock returns a retry field, which takes effect without a blank line.
func retryBlock(d time.Duration) []byte {
	ms := (d + time.Millisecond - 1) / time.Millisecond
	return append(strconv.AppendInt([]byte("retry: "), int64(ms), 10), '\n')
}

// A gate is closed while any shard is behind.
type gate struct {
	mu   sync.Mutex
	over int
	wait chan struct{} // closed when it opens; nil while it is open
}

func (g *gate) closed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.wait
}

func (g *gate) raise() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over++; g.over == 1 {
		g.wait = make(chan struct{})
	}
}

func (g *gate) lower() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over--; g.over == 0 {
		close(g.wait)
		g.wait = nil
	}
}
