package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"sync"
	"time"

	"github.com/tidewire/tidewire/hub"
)

// The comparison has a topic for each page that is open, whose events the page receives by
// each way of waiting, at the rate and through the network that the page sets.
const (
	minRate = 0.2 // events a second
	maxRate = 50

	maxComparisons = 32 // at a time
	maxExchanges   = 16 // of one, at a time

	// lease is how long a comparison runs after its page has set it.
	lease = 15 * time.Second

	// comeBack is how long an EventSource waits after a cut, as the other ways do.
	comeBack = 500 * time.Millisecond
)

// The ways of waiting.
const (
	polling     = "polling"
	longPolling = "long-polling"
	eventStream = "sse"
	webSocket   = "websocket"
)

// Settings are what a page sets.
type settings struct {
	Rate float64 `json:"rate"` // events a second
	network
}

func (s *settings) check() error {
	within := func(name string, v, least, most float64) error {
		if v < least || v > most {
			return fmt.Errorf("%s is %v: it can be %v to %v", name, v, least, most)
		}
		return nil
	}
	errs := []error{
		within("rate", s.Rate, minRate, maxRate),
		within("delay", float64(s.Delay), 0, maxDelay),
		within("buffer", float64(s.Buffer), 0, maxBuffer),
	}
	if s.Cut != 0 {
		errs = append(errs, within("cut", float64(s.Cut), minCut, maxCut))
	}
	return errors.Join(errs...)
}

// A comparison is what the server does for one page.
type comparison struct {
	topic string
	ctx   context.Context // until the lease ends
	end   context.CancelFunc
	lease *time.Timer

	mu        sync.Mutex
	settings  settings
	changed   chan struct{} // closed when they do
	costs     map[string]*cost
	exchanges map[*exchange]struct{}
}

// A cost is what a way has taken since its page was opened.
type cost struct {
	Requests int     `json:"requests"`
	Bytes    int     `json:"bytes"` // both ways, with headers as of HTTP/1.1
	Open     int     `json:"open"`  // requests, streams and sockets now
	Held     float64 `json:"held"`  // seconds that they were, together

	since time.Time // Open has not changed
}

// settle brings Held up to now.
func (c *cost) settle(now time.Time) {
	c.Held += float64(c.Open) * now.Sub(c.since).Seconds()
	c.since = now
}

// An exchange is a request that is under way.
type exchange struct {
	comparison *comparison
	way        string
	cancel     context.CancelCauseFunc
}

// count adds bytes to what the exchange's way costs.
func (e *exchange) count(bytes int) {
	e.comparison.mu.Lock()
	defer e.comparison.mu.Unlock()
	e.comparison.costs[e.way].Bytes += bytes
}

// enter notes an exchange, which leave forgets. The status is that of an error.
func (c *comparison) enter(way string, cancel context.CancelCauseFunc) (e *exchange, status int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cost := c.costs[way]
	switch {
	case cost == nil:
		return nil, http.StatusNotFound, fmt.Errorf("%q is no way of waiting: there are %s, %s, %s and %s", way, polling, longPolling, eventStream, webSocket)
	case len(c.exchanges) >= maxExchanges:
		return nil, http.StatusServiceUnavailable, fmt.Errorf("the page has %d requests open: close one first", maxExchanges)
	}
	e = &exchange{comparison: c, way: way, cancel: cancel}
	c.exchanges[e] = struct{}{}
	cost.settle(time.Now())
	cost.Requests++
	cost.Open++
	return e, 0, nil
}

func (c *comparison) leave(e *exchange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.exchanges, e)
	cost := c.costs[e.way]
	cost.settle(time.Now())
	cost.Open--
}

// current returns the settings, and what is closed when they change.
func (c *comparison) current() (s settings, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.settings, c.changed
}

// conditions is current for those who need the network only.
func (c *comparison) conditions() (n network, changed <-chan struct{}) {
	s, changed := c.current()
	return s.network, changed
}

func (c *comparison) set(s settings) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s != c.settings {
		c.settings = s
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

// cut ends all exchanges.
func (c *comparison) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := range c.exchanges {
		e.cancel(errCut)
	}
}

// run publishes and cuts until the lease ends.
func (c *comparison) run(d *Demo) {
	next := d.newest(c.ctx, c.topic) + 1
	var published, cut time.Time
	for {
		s, changed := c.current()
		every := time.Duration(float64(time.Second) / s.Rate)
		due := published.Add(every)
		if cutDue := cut.Add(milliseconds(s.Cut)); s.Cut > 0 && cutDue.Before(due) {
			due = cutDue
		}
		timer := time.NewTimer(time.Until(due))
		select {
		case <-timer.C:
		case <-changed:
			timer.Stop()
		case <-c.ctx.Done():
			timer.Stop()
			return
		}
		now := time.Now()
		if s.Cut > 0 && now.Sub(cut) >= milliseconds(s.Cut) {
			c.cut()
			cut = now
		}
		late := now.Sub(published) - every
		if late < 0 {
			continue
		}
		if published = now; late < every {
			published = now.Add(-late) // so that the rate is kept
		}
		_, err := d.hub.Publish(c.ctx, hub.Publication{Events: []hub.Event{{
			Topics: []string{c.topic},
			Data:   numberAt(next, now),
			Retry:  comeBack,
		}}})
		switch {
		case err == nil:
			next++
		case errors.Is(err, hub.ErrShutdown):
			return
		}
	}
}

// find returns the comparison of a page, nil if there is none.
func (d *Demo) find(page string) *comparison {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.comparisons[page]
}

// compare returns the comparison of a page, with a new lease.
func (d *Demo) compare(page string, s settings) (*comparison, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.comparisons[page]; c != nil && c.lease.Reset(lease) {
		c.set(s)
		return c, nil
	}
	switch {
	case d.running == nil:
		return nil, errors.New("the demo has ended: come back when it runs again")
	case len(d.comparisons) >= maxComparisons:
		return nil, fmt.Errorf("%d pages are comparing already: close one, and come back after %v", maxComparisons, lease)
	}
	c := &comparison{
		topic:     topicCompare + page,
		settings:  s,
		changed:   make(chan struct{}),
		costs:     make(map[string]*cost),
		exchanges: make(map[*exchange]struct{}),
	}
	for _, way := range []string{polling, longPolling, eventStream, webSocket} {
		c.costs[way] = &cost{since: time.Now()}
	}
	c.ctx, c.end = context.WithCancel(d.running)
	c.lease = time.AfterFunc(lease, c.end)
	d.comparisons[page] = c
	d.comparing.Go(func() {
		c.run(d)
		c.lease.Stop()
		c.end()
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.comparisons[page] == c {
			delete(d.comparisons, page)
		}
	})
	return c, nil
}

// startComparisons lets pages compare until stop is called, which returns when the last
// one has ended.
func (d *Demo) startComparisons(ctx context.Context) (stop func()) {
	running, end := context.WithCancel(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running = running
	d.begin.Do(func() { close(d.begun) })
	return func() {
		d.mu.Lock()
		d.running = nil
		d.mu.Unlock()
		end()
		d.comparing.Wait()
	}
}

var pageToken = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// A report is the answer to settings.
type report struct {
	Time  string           `json:"time"`
	Lease int64            `json:"lease"` // ms, within which the settings must come again
	Ways  map[string]*cost `json:"ways"`
}

// serveSettings takes the settings of a page, which keeps its comparison running, and
// tells what it has cost.
func (d *Demo) serveSettings(w http.ResponseWriter, r *http.Request) {
	page := r.PathValue("page")
	if !pageToken.MatchString(page) {
		http.Error(w, "name the page with 1 to 64 letters, digits and hyphens, as in /demo/compare/mine", http.StatusBadRequest)
		return
	}
	var s settings
	in := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10))
	in.DisallowUnknownFields()
	err := in.Decode(&s)
	if err == nil {
		err = s.check()
	}
	if err != nil {
		http.Error(w, `send settings such as {"rate":4,"delay":0,"buffer":0,"cut":0}: `+err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case <-d.begun: // the server may listen a moment before
	case <-r.Context().Done():
		return
	}
	c, err := d.compare(page, s)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(c.report()) // to a page that has gone it is no matter
}

func (c *comparison) report() *report {
	now := time.Now()
	rep := &report{Time: now.UTC().Format(timeFormat), Lease: lease.Milliseconds(), Ways: make(map[string]*cost)}
	c.mu.Lock()
	defer c.mu.Unlock()
	for way, cost := range c.costs {
		cost.settle(now)
		told := *cost
		rep.Ways[way] = &told
	}
	return rep
}
