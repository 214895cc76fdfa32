package load

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A client is a form of the load client.
type client interface {
	// connect opens all subscribers, with the last id that they have if resume is set,
	// and at most so many under way at once. It returns when each has its answer's
	// head, or none has come for longer than the patience.
	connect(ctx context.Context, resume bool, most int) *opened

	// drop closes all connections of subscribers.
	drop()

	// publish returns when the schedule is over and everything is answered.
	publish(s *schedule) error

	// close ends everything.
	close() error
}

// opened is how a round of connections went.
type opened struct {
	n, failed int
	heads     *histogram // from the beginning of the connection to the answer's head
	err       error      // the first failure
}

func (o *opened) merge(other *opened) {
	o.n += other.n
	o.failed += other.failed
	o.heads.merge(other.heads)
	if o.err == nil {
		o.err = other.err
	}
}

// gently is how many connections are under way at once where it is not a storm that is
// measured: fewer than a server's backlog.
const gently = 200

// A run is one.
type run struct {
	opts    Options
	id      string
	begin   time.Time
	form    *messageForm
	target  *target
	http    *http.Client
	server  *process // nil: not known
	subs    []subscriber
	pubs    []*publisher
	tallies []*tally
	client  client

	connected atomic.Int64
	schedule  atomic.Pointer[schedule]
	phase     atomic.Pointer[phase]
	result    *Result
}

// The phases in which is measured.
const (
	PhaseConnecting = "connecting"
	PhaseIdle       = "idle"
	PhasePublishing = "publishing"
	PhaseReturning  = "coming back"
)

type phase struct {
	name  string
	begin int64
	total time.Duration
}

// now is the time of the run, in nanoseconds. It never goes back.
func (r *run) now() int64 { return int64(time.Since(r.begin)) }

// Run does what opts say. When ctx ends it ends early, and the result has what was measured
// so far. An error says that nothing could be measured; a result can have faults, too.
func Run(ctx context.Context, opts *Options) (*Result, error) {
	o := opts.WithDefaults()
	if wrong := o.Check(); len(wrong) > 0 {
		errs := make([]error, len(wrong))
		for i, m := range wrong {
			errs[i] = fmt.Errorf("load: %w", m)
		}
		return nil, errors.Join(errs...)
	}
	r := &run{opts: o, id: newRunID(), begin: time.Now()}
	prefix := o.TopicPrefix
	if prefix == "" {
		prefix = "bench/" + r.id
	}
	r.form = newMessageForm(r.id, o.Size)
	r.target = newTarget(&o, prefix)
	r.pubs = newPublishers(&o, r.form, r.target)
	r.enter("asking", 0)
	transport := newTransport(8)
	defer transport.CloseIdleConnections()
	r.http = newHTTPClient(transport)
	if err := r.target.probe(ctx, r.http, o.Patience); err != nil {
		return nil, err
	}
	if err := checkDescriptors(o.Subscribers, o.Publishers); err != nil {
		return nil, err
	}
	if o.TopicPrefix == "" && o.Peer == nil {
		defer r.forget()
	}
	r.findServer()
	return r.do(ctx)
}

// forget leaves nothing behind on the hub.
func (r *run) forget() {
	ctx, cancel := context.WithTimeout(context.Background(), r.opts.Patience)
	defer cancel()
	if left := r.target.forget(ctx, r.http, r.opts.Topics); left > 0 && r.result != nil {
		r.result.warn("the history of %d topics could not be deleted from the hub; it goes with its age", left)
	}
}

func (r *run) do(ctx context.Context) (*Result, error) {
	r.result = newResult(r)
	r.subscribers()
	cores := runtime.GOMAXPROCS(0)
	streams := 0
	if r.opts.Topics == 1 && r.opts.Subscribers > 1 && r.opts.Storm == 0 {
		streams = streamsOf(&r.opts, 0)
	}
	readers := cores
	if r.target.local {
		// The server needs cores too. With one reader each on a machine of two, readers
		// wake more often for less, and cost a third more.
		readers = max(1, cores/2)
	}
	for range min(readers, max(1, r.opts.Subscribers)) {
		r.tallies = append(r.tallies, newTally(r.form, r.opts.Storm > 0, streams))
	}
	var err error
	if r.client, err = newClient(r); err != nil {
		return nil, err
	}
	// Readers stay on their cores for as long as they have anything to read. What else
	// there is must not wait for them, and is for the kernel to schedule.
	runtime.GOMAXPROCS(cores + 2)
	defer runtime.GOMAXPROCS(cores)
	stop := r.watch()
	err = r.phases(ctx)
	r.result.Interrupted = ctx.Err() != nil
	err = errors.Join(err, r.client.close())
	stop()
	if err != nil {
		return nil, err
	}
	r.result.finish(r)
	return r.result, nil
}

func (r *run) subscribers() {
	n := make([]int, r.opts.Topics)
	for t := range n {
		n[t] = streamsOf(&r.opts, t)
	}
	r.subs = make([]subscriber, r.opts.Subscribers)
	for i := range r.subs {
		s := &r.subs[i]
		s.topic = i % r.opts.Topics
		s.next = make([]int64, n[s.topic])
	}
}

// share returns the subscribers of the nth tally.
func (r *run) share(n int) []subscriber {
	of := len(r.tallies)
	return r.subs[n*len(r.subs)/of : (n+1)*len(r.subs)/of]
}

func (r *run) enter(name string, total time.Duration) {
	r.phase.Store(&phase{name, r.now(), total})
	if r.opts.Phase != nil {
		r.opts.Phase(name)
	}
}

// phases are those of a run, up to the end of ctx.
func (r *run) phases(ctx context.Context) error {
	before := r.server.memory()
	if err := r.connect(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	switch {
	case r.opts.Idle:
		r.idle(ctx, before)
		return nil
	case r.opts.Storm > 0:
		return r.storm(ctx)
	}
	return r.fanOut(ctx)
}

// connect opens the subscribers. All must come in, or what follows measures something
// else.
func (r *run) connect(ctx context.Context) error {
	if r.opts.Subscribers == 0 {
		return nil
	}
	r.enter(PhaseConnecting, 0)
	m := r.meter()
	begin := r.now()
	o := r.client.connect(ctx, false, gently)
	took := r.now() - begin
	if ctx.Err() != nil {
		return nil
	}
	if o.failed > 0 {
		return fmt.Errorf("%d of %d subscribers could not connect: %w", o.failed, r.opts.Subscribers, o.err)
	}
	end := r.meter()
	c := newConnect(o, took)
	c.ServerCPU, c.Machine = end.serverU+end.serverS-m.serverU-m.serverS, m.machine(end, r)
	r.result.Connect = c
	return nil
}

// idle leaves the subscribers alone.
func (r *run) idle(ctx context.Context, before int64) {
	r.enter(PhaseIdle, r.opts.Duration)
	m := r.meter()
	sleep(ctx, r.opts.Duration)
	m.stop(r, 0)
	if after := r.server.memory(); r.result.Server != nil && before > 0 && after > 0 && ctx.Err() == nil {
		r.result.Server.BeforeBytes, r.result.Server.IdleBytes = before, after
		r.result.Server.BytesPerSubscriber = float64(after-before) / float64(r.opts.Subscribers)
		if after <= before {
			r.result.warn("the server had memory left over from before: one that has just been started tells what its subscribers take")
		}
	}
}

// fanOut publishes, and waits until every subscriber has everything.
func (r *run) fanOut(ctx context.Context) error {
	r.enter(PhasePublishing, r.opts.Duration)
	m := r.meter()
	s := &schedule{rate: r.opts.Rate}
	err := r.publishAll(ctx, s)
	r.enter("waiting for the last deliveries", 0)
	r.drain(ctx, s.owed.Load())
	r.result.Publish = newPublish(s)
	r.result.Delivery = r.delivery(s)
	work := r.result.Delivery.Delivered
	if r.opts.Subscribers == 0 {
		work = s.published.Load()
	}
	m.stop(r, work)
	return err
}

// settle is for what a server does of the publishing after it has answered: to notice who
// has gone, to write, to clean up. None of that is the storm's.
const settle = 200 * time.Millisecond

// storm has every subscriber miss events and come back with all others.
func (r *run) storm(ctx context.Context) error {
	r.enter("publishing what the subscribers have", 0)
	// One event of each topic, so that every subscriber has an id.
	warm, err := r.publishCount(ctx, 1, 0)
	if err != nil || ctx.Err() != nil {
		return err
	}
	r.drain(ctx, warm.owed.Load())
	r.enter("publishing what they miss", 0)
	r.client.drop()
	for _, y := range r.tallies {
		y.mu.Lock()
		y.measured = false // what was missed is late by design
		y.mu.Unlock()
	}
	around := r.meter()
	s, err := r.publishCount(ctx, r.opts.Storm, r.opts.StormRate)
	if err != nil || ctx.Err() != nil {
		return err
	}
	r.result.Publish = newPublish(s)
	owed := r.owe()
	sleep(ctx, settle)
	r.enter(PhaseReturning, 0)
	m := r.meter()
	begin := r.now()
	delivered := r.delivered()
	for _, y := range r.tallies {
		y.mu.Lock()
		y.stormAt = begin
		y.mu.Unlock()
	}
	o := r.client.connect(ctx, true, r.opts.Subscribers)
	r.drain(ctx, delivered+owed)
	r.result.Delivery = r.delivery(s)
	r.result.Delivery.Expected = owed
	r.result.Delivery.Delivered = r.delivered() - delivered
	r.result.Delivery.rate(begin, r.lastDelivery())
	m.stop(r, r.result.Delivery.Delivered)
	// Coming back can be over in less than the units of what others take.
	r.result.Machine = around.machine(r.meter(), r)
	r.result.Storm = r.stormResult(o, begin)
	return nil
}

// publishCount publishes so many events to each topic, all its streams together, at so
// many of all topics a second, or as fast as they are answered.
func (r *run) publishCount(ctx context.Context, n int, rate float64) (*schedule, error) {
	for _, p := range r.pubs {
		for _, st := range p.streams {
			of := streamsOf(&r.opts, st.topic)
			st.left = (n + of - 1 - st.index) / of
		}
	}
	s := &schedule{counted: true, rate: rate}
	err := r.publishAll(ctx, s)
	if err == nil && ctx.Err() == nil {
		err = s.cause() // a storm needs all of them
	}
	return s, err
}

// owe notes what each subscriber lacks, and returns the sum.
func (r *run) owe() (sum int64) {
	acked := r.acked()
	for i := range r.subs {
		s := &r.subs[i]
		s.owed = 0
		for stream, next := range s.next {
			s.owed += max(0, acked[s.topic][stream]-next)
		}
		sum += s.owed
	}
	return sum
}

// acked returns how many events each stream of each topic has.
func (r *run) acked() [][]int64 {
	all := make([][]int64, r.opts.Topics)
	for t := range all {
		all[t] = make([]int64, streamsOf(&r.opts, t))
	}
	for _, p := range r.pubs {
		for _, st := range p.streams {
			all[st.topic][st.index] = st.acked
		}
	}
	return all
}

func (r *run) delivered() (n int64) {
	for _, y := range r.tallies {
		y.mu.Lock()
		n += y.delivered
		y.mu.Unlock()
	}
	return n
}

func (r *run) lastDelivery() (at int64) {
	for _, y := range r.tallies {
		y.mu.Lock()
		at = max(at, y.lastAt)
		y.mu.Unlock()
	}
	return at
}

// drain waits until so many events are delivered in all, or none has come for longer than
// the patience: a second, once ctx has ended.
func (r *run) drain(ctx context.Context, want int64) {
	last, since := int64(-1), r.now()
	for {
		n := r.delivered()
		if n >= want {
			return
		}
		if n != last {
			last, since = n, r.now()
		}
		patience := r.opts.Patience
		if ctx.Err() != nil {
			patience = min(patience, time.Second)
		}
		if r.now()-since > int64(patience) {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// watch takes samples, and tells of progress, until stop is called.
func (r *run) watch() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(sampleEvery)
		defer ticker.Stop()
		w := watcher{run: r}
		for {
			w.sample()
			select {
			case <-done:
				w.sample()
				r.result.Timeline = w.points
				return
			case <-ticker.C:
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

const (
	sampleEvery = 250 * time.Millisecond
	maxSamples  = 1200 // then every other one is left out
)

// A watcher looks at a run from time to time.
type watcher struct {
	run    *run
	points []Sample
	every  int // of how many looks one is kept
	looks  int
	last   Progress
	lastAt int64
}

func (w *watcher) sample() {
	r := w.run
	now := r.now()
	p := r.progress(now)
	if since := now - w.lastAt; since > 0 {
		p.PerSecond = float64(p.Delivered-w.last.Delivered) / (float64(since) / 1e9)
	}
	w.last, w.lastAt = p, now
	if r.opts.Progress != nil {
		r.opts.Progress(p)
	}
	if w.every == 0 {
		w.every = 1
	}
	if w.looks++; w.looks%w.every != 0 {
		return
	}
	user, system := r.server.cpu()
	w.points = append(w.points, Sample{
		At:        float64(now) / 1e9,
		Phase:     p.Phase,
		Connected: p.Connected,
		Published: p.Published,
		Delivered: p.Delivered,
		ServerCPU: user + system,
		ServerRSS: r.server.resident(),
	})
	if len(w.points) >= maxSamples {
		for i := range w.points[:maxSamples/2] {
			w.points[i] = w.points[2*i+1]
		}
		w.points = w.points[:maxSamples/2]
		w.every *= 2
	}
}

func (r *run) progress(now int64) Progress {
	ph := r.phase.Load()
	p := Progress{
		Phase:     ph.name,
		Elapsed:   time.Duration(now - ph.begin),
		Total:     ph.total,
		Connected: int(r.connected.Load()),
	}
	if s := r.schedule.Load(); s != nil {
		p.Published = s.published.Load()
		p.Faults = s.refused.Load()
	}
	var all histogram
	for _, y := range r.tallies {
		y.mu.Lock()
		p.Delivered += y.delivered
		p.Faults += y.skipped + y.repeated + y.reordered + y.foreign + y.closed + y.gaps + y.failed
		all.merge(y.latency)
		y.mu.Unlock()
	}
	p.P99 = all.at(0.99)
	return p
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
