//go:build linux

package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	kflate "github.com/klauspost/compress/flate"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/memory"
)

// modeVariable has a process be a server, of one of the modes.
const modeVariable = "TIDEWIRE_BENCH_GZIP"

const (
	modePlain  = "plain"
	modeShared = "shared"
	modeEach   = "each"
)

var modes = []struct{ name, title string }{
	{modePlain, "plain"},
	{modeShared, "gzip, shared"},
	{modeEach, "gzip of each connection"},
}

// What a server's process has taken so far.
type taken struct {
	CPU    time.Duration
	Memory int64 // bytes that are resident, after a collection
}

// serve serves until its standard input ends.
func serve(mode string) {
	mux := http.NewServeMux()
	var publish func(data string)
	var end func()
	if mode == modeEach {
		b := new(broadcast)
		mux.Handle("GET /events/a", b)
		publish, end = b.publish, b.end
	} else {
		h := newHub()
		mux.Handle("/events/", h)
		do := func(p hub.Publication) {
			if _, err := h.Publish(context.Background(), p); err != nil {
				panic(err)
			}
		}
		publish = func(data string) { do(hub.Publication{Events: []hub.Event{{Topics: []string{"a"}, Data: data}}}) }
		end = func() { do(hub.Publication{End: []string{"a"}}) }
	}
	mux.HandleFunc("GET /taken", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(takenNow()) })
	mux.HandleFunc("POST /end", func(http.ResponseWriter, *http.Request) { end() })
	mux.HandleFunc("POST /run", func(_ http.ResponseWriter, r *http.Request) {
		events, _ := strconv.Atoi(r.FormValue("events"))
		rate, _ := strconv.Atoi(r.FormValue("rate"))
		size, _ := strconv.Atoi(r.FormValue("size"))
		ticks := time.NewTicker(time.Second / time.Duration(rate))
		defer ticks.Stop()
		for i := range events {
			publish(order(i, size))
			<-ticks.C
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() { _ = http.Serve(l, mux) }() // until the process ends
	fmt.Println(l.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func newHub() *hub.Hub {
	log, err := memory.New(nil)
	if err != nil {
		panic(err)
	}
	h, err := hub.New(&hub.Options{Log: log, NewDeflater: func() hub.Deflater {
		w, _ := kflate.NewWriter(nil, 6)
		return w
	}})
	if err != nil {
		panic(err)
	}
	return h
}

// order is an event's JSON, of about so many bytes.
func order(number, size int) string {
	states := []string{"waiting", "paid", "packed", "on its way", "delivered"}
	b := fmt.Appendf(nil, `{"order":%d,"items":[`, number)
	for len(b) < size-100 {
		b = fmt.Appendf(b, `{"id":"%08x-%04x","price":%d.%02d,"count":%d,"state":%q},`, rand.Uint32(), rand.IntN(1<<16), rand.IntN(1000), rand.IntN(100), rand.IntN(9), states[rand.IntN(len(states))])
	}
	return string(append(b, "null]}"...))
}

func takenNow() taken {
	debug.FreeOSMemory()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	var pages, resident int64
	if _, err := fmt.Sscan(string(b), &pages, &resident); err != nil {
		panic(err)
	}
	return taken{time.Duration(r.Utime.Nano() + r.Stime.Nano()), resident * int64(os.Getpagesize())}
}

// A broadcast is the handler that people write: each connection compresses for itself.
type broadcast struct {
	mu   sync.Mutex
	all  []chan string
	last int
}

func (b *broadcast) publish(data string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	text := fmt.Sprintf("id: k7m2qa-%d\ndata: %s\n\n", b.last, data)
	for _, c := range b.all {
		c <- text
	}
}

func (b *broadcast) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.all {
		close(c)
	}
	b.all = nil
}

func (b *broadcast) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := make(chan string, 16)
	b.mu.Lock()
	b.all = append(b.all, c)
	b.mu.Unlock()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	defer func() { _ = z.Close() }()
	flush := http.NewResponseController(w).Flush
	text, more := "retry: 3000\n", true
	for ; more; text, more = <-c {
		if _, err := io.WriteString(z, text); err != nil {
			return
		}
		if z.Flush() != nil || flush() != nil {
			return
		}
	}
}
