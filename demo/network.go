package demo

import (
	"context"
	"sync"
	"time"
)

// A network is what lies between a page of the comparison and the hub. The zero value is
// a good one.
type network struct {
	Delay  int `json:"delay"`  // ms that everything takes longer, each way; maxDelay at most
	Buffer int `json:"buffer"` // bytes of an answer that are held back until there are more, or its end; maxBuffer at most
	Cut    int `json:"cut"`    // ms between cuts of all connections, minCut to maxCut; 0: none
}

// Bounds of a network.
const (
	maxDelay  = 2000
	maxBuffer = 64 << 10
	minCut    = 1000
	maxCut    = 60_000

	pieceSize = 4 << 10 // bytes
	maxPieces = 256     // on their way in one line
)

// A line carries what is written to it as a bad network does: late, and in lumps. Write
// and close may be called from different goroutines.
type line struct {
	ctx     context.Context // the connection's: what has not arrived when it ends is lost
	network func() (n network, changed <-chan struct{})
	deliver func([]byte) error
	fail    func() // ends ctx

	pieces chan piece
	ended  chan struct{}
	end    sync.Once
	done   chan struct{} // closed when nothing will be delivered any more
}

// A piece is some bytes that arrive together.
type piece struct {
	data []byte
	due  time.Time
}

// start has a line carry until it is closed or its ctx ends; wait for done then.
func (l *line) start() {
	l.pieces, l.ended, l.done = make(chan piece, maxPieces), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(l.done)
		if l.carry() != nil {
			l.fail()
		}
	}()
}

// write sends bytes, or with none what goes before them, and waits while too much is on
// its way.
func (l *line) write(b []byte) error {
	n, _ := l.network()
	due := time.Now().Add(milliseconds(n.Delay))
	for first := true; first || len(b) > 0; first = false {
		size := min(len(b), pieceSize)
		select {
		case l.pieces <- piece{append([]byte(nil), b[:size]...), due}:
		case <-l.ended:
			return context.Canceled
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		}
		b = b[size:]
	}
	return nil
}

// close says that nothing more is written.
func (l *line) close() { l.end.Do(func() { close(l.ended) }) }

func (l *line) carry() error {
	var held []byte
	waiting := false // something is, if only what goes before the first byte
	take := func(p piece) bool {
		held, waiting = append(held, p.data...), true
		return sleep(l.ctx, time.Until(p.due))
	}
	for {
		n, changed := l.network()
		if waiting && len(held) >= n.Buffer {
			if err := l.deliver(held); err != nil {
				return err
			}
			held, waiting = held[:0], false
		}
		select {
		case p := <-l.pieces:
			if !take(p) {
				return nil
			}
		case <-changed:
		case <-l.ctx.Done():
			return nil
		case <-l.ended:
			for len(l.pieces) > 0 {
				if !take(<-l.pieces) {
					return nil
				}
			}
			if waiting {
				return l.deliver(held)
			}
			return nil
		}
	}
}

// sleep returns false if ctx ends before the time is over.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func milliseconds(n int) time.Duration { return time.Duration(n) * time.Millisecond }
