//go:build linux

// Command gzip measures what compression costs a server and saves its network: one topic
// with many subscribers, who get it plain, with the hub's gzip that all of them share, and
// with a gzip stream for each connection, as a handler would have it that knows nothing of
// the others. It needs Linux.
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// A load is what each server gets.
type load struct {
	Subscribers int
	Events      int
	Rate        int // events a second
	Size        int // bytes of an event's data, about
}

func main() {
	if mode := os.Getenv(modeVariable); mode != "" {
		serve(mode)
		return
	}
	l := load{Events: 200, Rate: 20}
	flag.IntVar(&l.Subscribers, "subscribers", 1000, "how many get each event")
	flag.IntVar(&l.Size, "size", 1<<10, "bytes of an event's JSON")
	quick := flag.Bool("quick", false, "show that it works")
	flag.Parse()
	if *quick {
		l = quickLoad
	}
	if err := run(l, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gzip:", err)
		os.Exit(1)
	}
}

var quickLoad = load{Subscribers: 50, Events: 40, Rate: 200, Size: 1 << 10}

// A result is what one server has taken.
type result struct {
	bytes  int64 // of all bodies, without the chunks around them
	cpu    time.Duration
	memory int64 // more than before the first subscriber came, bytes
}

// run measures all servers, and prints a table.
func run(l load, out io.Writer) error {
	fmt.Fprintf(out, "%d subscribers, %d events of %d bytes, %d a second\n\n", l.Subscribers, l.Events, l.Size, l.Rate)
	fmt.Fprintln(out, "| | bytes a delivery | | CPU µs a delivery | | memory a subscriber, KiB | |")
	fmt.Fprintln(out, "|---|---:|---:|---:|---:|---:|---:|")
	var plain [3]float64
	for i, mode := range modes {
		r, err := measure(mode.name, l)
		if err != nil {
			return fmt.Errorf("%s: %w", mode.title, err)
		}
		deliveries := float64(l.Subscribers * l.Events)
		got := [3]float64{float64(r.bytes) / deliveries, float64(r.cpu.Microseconds()) / deliveries, float64(r.memory) / 1024 / float64(l.Subscribers)}
		if i == 0 {
			plain = got
		}
		fmt.Fprintf(out, "| %s |", mode.title)
		for j, v := range got {
			fmt.Fprintf(out, " %.1f | %.2f |", v, v/plain[j])
		}
		fmt.Fprintln(out)
	}
	return nil
}

// measure runs a server of its own process.
func measure(mode string, l load) (r result, err error) {
	exe, err := os.Executable()
	if err != nil {
		return r, err
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), modeVariable+"="+mode)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe() // the server ends with it
	if err != nil {
		return r, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return r, err
	}
	if err := cmd.Start(); err != nil {
		return r, err
	}
	defer func() {
		_ = stdin.Close()
		err = errors.Join(err, cmd.Wait())
	}()
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return r, err
	}
	addr = strings.TrimSpace(addr)

	before, err := usage(addr)
	if err != nil {
		return r, err
	}
	var all sync.WaitGroup
	errs := make([]error, l.Subscribers)
	sizes := make([]int64, l.Subscribers)
	for i := range l.Subscribers {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return r, err
		}
		defer func() { _ = conn.Close() }()
		in := bufio.NewReader(conn)
		header := ""
		if mode != modePlain {
			header = "Accept-Encoding: gzip\r\n"
		}
		if _, err := fmt.Fprintf(conn, "GET /events/a HTTP/1.1\r\nHost: x\r\n%s\r\n", header); err != nil {
			return r, err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return r, err
		}
		if _, err := in.Peek(1); err != nil { // it has begun
			return r, err
		}
		all.Go(func() {
			counted := &counter{r: resp.Body}
			if i == 0 {
				errs[i] = check(counted, mode, l.Events)
			} else {
				_, errs[i] = io.Copy(io.Discard, counted)
			}
			sizes[i] = counted.n
		})
	}
	ready, err := usage(addr)
	if err != nil {
		return r, err
	}
	resp, err := http.Post(fmt.Sprintf("http://%s/run?events=%d&rate=%d&size=%d", addr, l.Events, l.Rate, l.Size), "", nil)
	if err != nil {
		return r, err
	}
	_ = resp.Body.Close()
	after, err := usage(addr)
	if err != nil {
		return r, err
	}
	resp, err = http.Post("http://"+addr+"/end", "", nil)
	if err != nil {
		return r, err
	}
	_ = resp.Body.Close()
	all.Wait()
	for i := range errs {
		r.bytes += sizes[i]
	}
	r.cpu, r.memory = after.CPU-ready.CPU, after.Memory-before.Memory
	return r, errors.Join(errs...)
}

// check reads a stream, and wants all its events.
func check(r io.Reader, mode string, events int) error {
	if mode != modePlain {
		z, err := gzip.NewReader(r)
		if err != nil {
			return err
		}
		r = z
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if got := bytes.Count(b, []byte("\n\n")); got != events {
		return fmt.Errorf("got %d events, want %d", got, events)
	}
	return nil
}

// A counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// usage asks a server what it has taken.
func usage(addr string) (u taken, err error) {
	resp, err := http.Get("http://" + addr + "/taken")
	if err != nil {
		return u, err
	}
	defer func() { _ = resp.Body.Close() }()
	return u, json.NewDecoder(resp.Body).Decode(&u)
}
