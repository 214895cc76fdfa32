package hub_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/tidewire/tidewire/hub"
)

// A readLog notes how much is read from a Log at once. The second page of a stream waits.
type readLog struct {
	hub.Log
	second chan struct{}
	mu     sync.Mutex
	limits []int
}

func (l *readLog) Read(ctx context.Context, q hub.Query) (hub.Page, error) {
	l.mu.Lock()
	l.limits = append(l.limits, q.Limit)
	l.mu.Unlock()
	if q.Limit == 64 {
		<-l.second
	}
	return l.Log.Read(ctx, q)
}

func TestGET_TheFirstPageOfHistoryIsSmallAndComesAtOnce(t *testing.T) {
	const events = 1000
	log := &readLog{Log: newLog(t, nil), second: make(chan struct{})}
	h := newHub(t, hub.Options{Log: log, HotBytes: 1})
	for i := range events {
		publish(t, h, event("a", fmt.Sprint(i)))
	}
	release := sync.OnceFunc(func() { close(log.second) })
	t.Cleanup(release)
	st := serve(t, h).open("/events/a?last=900")
	for i := events - 900; i < events; i++ {
		if got := st.next().Data; got != fmt.Sprint(i) {
			t.Fatalf("got %s, want %d", got, i)
		}
		release() // the first page has come without it
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	begin := slices.Index(log.limits, 16)
	if begin < 0 || len(log.limits) < begin+3 || !slices.Equal(log.limits[begin:begin+3], []int{16, 64, 256}) {
		t.Errorf("got pages of %d, want 16, 64 and 256 among them", log.limits)
	}
}
