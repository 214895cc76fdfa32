package hub

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
)

// A Compression says how what subscribers get may be coded, for those who ask for it.
type Compression uint8

const (
	// CompressionGzip gives gzip to those whose Accept-Encoding has it (RFC 9110, section
	// 12.5.3). It is the default. Each event is compressed once for those of the same
	// selection, when the first of them is to get it, whatever their number.
	CompressionGzip Compression = iota

	// CompressionOff codes nothing. Choose it where what one subscriber gets has both a
	// secret and text that an attacker can choose, and the attacker can see how long it
	// is on the network (the attack that is known as BREACH).
	CompressionOff
)

// A Deflater makes deflate blocks (RFC 1951). [flate.Writer] is one. It is used by one
// goroutine at a time.
type Deflater interface {
	io.Writer

	// Flush ends a block at a whole byte, so that all that was written can be read.
	Flush() error

	// Reset forgets what was written, and has the rest go to w.
	Reset(w io.Writer)
}

// newDeflater is the default of Options.NewDeflater. With level 6 events would be a
// hundredth smaller, and large ones take three times as long.
func newDeflater() Deflater {
	w, _ := flate.NewWriter(nil, 4) // the level is one of those that there are
	return w
}

// gzipHead begins a gzip stream (RFC 1952, section 2.3): deflate, of no time and no known
// system.
const gzipHead = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

// gzipLeast is how long a text is at least that is worth the time of compressing it, in
// bytes. Shorter ones are stored.
const gzipLeast = 512

// gzips tells whether an answer is to have Content-Encoding: gzip. That must be asked for by
// name, not less than no coding at all, and never by HTTP/1.0.
func (h *Hub) gzips(r *http.Request) bool {
	if h.opt.Compression != CompressionGzip || !r.ProtoAtLeast(1, 1) {
		return false
	}
	gzip, identity := 0.0, 0.0
	for v := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		switch name, q := parseAccept(v); name {
		case "gzip", "x-gzip":
			gzip = max(gzip, q)
		case "identity":
			identity = q
		}
	}
	return gzip > 0 && gzip >= identity
}

// Zippers compress, each for one goroutine at a time.
type zippers struct {
	make func() Deflater

	mu   sync.Mutex
	free []*zipper
}

// A zipper has about a mebibyte of tables, and the memory that what it has made goes to.
type zipper struct {
	deflater Deflater
	out      bytes.Buffer
	scratch  []byte
	block    *block // all of which may be written, from
	used     int    // on
}

func (zs *zippers) take() *zipper {
	zs.mu.Lock()
	defer zs.mu.Unlock()
	if n := len(zs.free); n > 0 {
		z := zs.free[n-1]
		zs.free = zs.free[:n-1]
		return z
	}
	return &zipper{deflater: zs.make()}
}

func (zs *zippers) give(z *zipper) {
	if z.out.Cap() > blockSize {
		z.out = bytes.Buffer{}
	}
	if cap(z.scratch) > blockSize {
		z.scratch = nil
	}
	zs.mu.Lock()
	defer zs.mu.Unlock()
	if len(zs.free) < runtime.GOMAXPROCS(0) {
		zs.free = append(zs.free, z)
	}
}

// deflate returns a text as blocks that end at a whole byte, and to which what was before is
// nothing, so that they can stand anywhere in a stream. They are good until the next call.
func (z *zipper) deflate(text []byte) []byte {
	z.out.Reset()
	if len(text) >= gzipLeast {
		z.deflater.Reset(&z.out)
		_, err := z.deflater.Write(text)
		if err == nil {
			err = z.deflater.Flush()
		}
		if err == nil && z.out.Len() < storedSize(len(text)) {
			return z.out.Bytes()
		}
		z.out.Reset() // a buffer takes everything, but a Deflater may have errors of its own
	}
	z.out.Write(appendStored(z.out.AvailableBuffer(), text))
	return z.out.Bytes()
}

const (
	storedMost = 1<<16 - 1 // bytes in a stored block
	storedHead = 5         // bytes before them

	// flushed is an empty block, at which Go's decoder hands out what it has. Others do
	// at the end of any block, if there is no more.
	flushed = "\x00\x00\x00\xff\xff"
)

func storedSize(n int) int { return n + (n+storedMost-1)/storedMost*storedHead + len(flushed) }

// appendStored appends a text as stored blocks (RFC 1951, section 3.2.4).
func appendStored(b, text []byte) []byte {
	for len(text) > 0 {
		n := min(len(text), storedMost)
		b = append(b, 0)
		b = binary.LittleEndian.AppendUint16(b, uint16(n))
		b = binary.LittleEndian.AppendUint16(b, ^uint16(n))
		b = append(b, text[:n]...)
		text = text[n:]
	}
	return append(b, flushed...)
}

// A zipped is a text in gzip, for all who get it: made by the first.
type zipped struct {
	once  sync.Once
	wire  []byte // deflate blocks, as one chunk of an HTTP/1.1 body
	head  uint8  // as in an item
	block *block // as in an item; it is not changed any more
	begin int
	sum   gzipSum // of the text
}

// payload returns the blocks without the chunk around them.
func (f *zipped) payload() []byte { return f.wire[f.head : len(f.wire)-len(lineEnd)] }

// set sets f to a text.
func (z *zipper) set(f *zipped, text []byte) { z.put(f, z.deflate(text), text) }

// put sets f to a text and its blocks.
func (z *zipper) put(f *zipped, blocks, text []byte) {
	const around = len("0123456789abcdef") + 2*len(lineEnd)
	need := len(blocks) + around
	bl, begin := z.block, z.used
	switch {
	case need > blockSize/4:
		bl, begin = &block{make([]byte, need)}, 0 // of its own
	case bl == nil || len(bl.b)-begin < need:
		bl, begin = &block{make([]byte, blockSize)}, 0
		z.block = bl
	}
	b, head := appendChunk(bl.b[:begin], blocks)
	if bl == z.block {
		z.used = len(b)
	}
	f.wire, f.head = b[begin:len(b):len(b)], uint8(head)
	f.block, f.begin, f.sum = bl, begin, sumOf(text)
}

// The forms in which events are streamed.
type form int

const (
	formSSE form = iota
	formJSON
	forms // how many there are
)

// zip returns an event of the hot log in gzip.
func (h *Hub) zip(it *item, form form) *zipped {
	f := it.zipped[form].Load()
	if f == nil {
		f = new(zipped)
		if !it.zipped[form].CompareAndSwap(nil, f) {
			f = it.zipped[form].Load()
		}
	}
	f.once.Do(func() {
		z := h.zippers.take()
		defer h.zippers.give(z)
		if form == formJSON {
			z.scratch = append(append(z.scratch[:0], it.json(h.log.Head().Epoch)...), '\n')
			z.set(f, z.scratch)
		} else {
			z.set(f, it.payload())
		}
		h.hot.weigh(it, len(f.wire))
	})
	return f
}

// weigh notes that an event has taken more memory, as long as it is here.
func (h *hotLog) weigh(it *item, bytes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if it.Seq <= h.from {
		return
	}
	it.more += bytes
	h.bytes += bytes
	h.shrink()
}

// gzipWhole returns a text as a gzip stream of its own.
func (h *Hub) gzipWhole(text []byte) []byte {
	z := h.zippers.take()
	defer h.zippers.give(z)
	blocks := z.deflate(text)
	b := make([]byte, 0, len(gzipHead)+len(blocks)+10)
	b = append(append(b, gzipHead...), blocks...)
	return sumOf(text).appendEnd(b)
}
