package sse_test

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/tidewire/tidewire/internal/vectors"
	"github.com/tidewire/tidewire/sse"
)

// TestDecoder_Vectors runs every conformance vector whole, as the vector cuts it,
// byte by byte, and cut in two at every point.
func TestDecoder_Vectors(t *testing.T) {
	for _, v := range vectors.All(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			check := func(how string, r io.Reader) {
				t.Helper()
				got, retry, last := decodeAll(t, r)
				if err := v.Check(got, retry, last); err != nil {
					t.Errorf("%s: %v", how, err)
				}
			}
			check("whole", bytes.NewReader(v.Stream))
			check("with the end and the last bytes in one read", iotest.DataErrReader(bytes.NewReader(v.Stream)))
			check("in the vector's chunks", &chunks{b: v.Stream, sizes: v.Chunks})
			if !raceEnabled || len(v.Stream) < 1<<20 { // "make test" runs them without it too
				check("byte by byte", iotest.OneByteReader(bytes.NewReader(v.Stream)))
			}

			// Streams of megabytes are cut at their first and last bytes and
			// at places spread over the rest.
			ends, step := len(v.Stream), 1
			if len(v.Stream) > 10_000 {
				ends, step = 16, 1+len(v.Stream)/9
			}
			if len(v.Stream) > 1<<20 {
				ends = 2
			}
			for i := 1; i < len(v.Stream); i++ {
				if i > ends && i < len(v.Stream)-ends && i%step != 0 {
					continue
				}
				check("cut", &chunks{b: v.Stream, sizes: []int{i}})
				if t.Failed() {
					t.Fatalf("first failed when cut at byte %d", i)
				}
			}
		})
	}
}

// decodeAll reads a stream to its end and returns its events, the reconnection
// time (-1 if none) and the last event id.
func decodeAll(t *testing.T, r io.Reader) (events []sse.Event, retry time.Duration, lastEventID string) {
	t.Helper()
	retry = -1
	d := sse.NewDecoder(r, &sse.DecoderOptions{OnRetry: func(t time.Duration) { retry = t }})
	for {
		ev, err := d.Next()
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return events, retry, d.LastEventID()
		}
		if err != nil {
			t.Fatalf("after %d events: %v", len(events), err)
		}
		ev.Retry = 0 // vectors tell the last one only
		events = append(events, ev)
	}
}

// chunks reads b in pieces of the given sizes, then the rest at once.
type chunks struct {
	b     []byte
	sizes []int
	left  int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	if c.left == 0 && len(c.sizes) > 0 {
		c.left, c.sizes = c.sizes[0], c.sizes[1:]
	}
	n := len(c.b)
	if c.left > 0 {
		n = min(n, c.left)
	}
	n = copy(p, c.b[:n])
	c.b = c.b[n:]
	if c.left > 0 {
		c.left -= n
	}
	return n, nil
}
