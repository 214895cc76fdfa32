package load

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"
)

// A Result is what a run has measured. Bytes are bytes, and times are in the unit that
// their names say.
type Result struct {
	Conditions  Conditions `json:"conditions"`
	Interrupted bool       `json:"interrupted"` // what follows was cut short
	Connect     *Connect   `json:"connect,omitempty"`
	Publish     *Publish   `json:"publish,omitempty"`
	Delivery    *Delivery  `json:"delivery,omitempty"`
	Storm       *Storm     `json:"storm,omitempty"`
	Faults      Faults     `json:"faults"`
	Server      *Server    `json:"server,omitempty"` // nil: it is not known, or not on this machine
	Client      Client     `json:"client"`
	Machine     *Machine   `json:"machine,omitempty"`
	Warnings    []string   `json:"warnings"`
	Timeline    []Sample   `json:"timeline"`
}

// Conditions are what a run was asked for, and where.
type Conditions struct {
	Run         string    `json:"run"`
	Started     time.Time `json:"started"`
	URL         string    `json:"url"`
	Topics      string    `json:"topic_form"`
	Command     []string  `json:"command,omitempty"`
	Version     string    `json:"version,omitempty"`
	Go          string    `json:"go"`
	System      string    `json:"system"`
	Cores       int       `json:"cores"`
	Form        string    `json:"client"` // "epoll" or "net/http"
	Subscribers int       `json:"subscribers"`
	TopicCount  int       `json:"topics"`
	Publishers  int       `json:"publishers"`
	Rate        float64   `json:"rate_per_s"` // 0: as fast as answered
	Duration    float64   `json:"duration_s"`
	Size        int       `json:"size_bytes"`
	Batch       int       `json:"batch"`
	Storm       int       `json:"storm"`
	Idle        bool      `json:"idle"`
}

// Percentiles are of times in milliseconds. They are at most 1.6 % above the truth.
type Percentiles struct {
	N    int64   `json:"n"`
	Mean float64 `json:"mean_ms"`
	P50  float64 `json:"p50_ms"`
	P90  float64 `json:"p90_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
	Max  float64 `json:"max_ms"`
}

// A Point of a curve: what a share of all does not exceed.
type Point struct {
	Share        float64 `json:"share"`
	Milliseconds float64 `json:"ms"`
}

// Connect is how the subscribers came in, a few hundred under way at once.
type Connect struct {
	Subscribers int          `json:"subscribers"`
	Seconds     float64      `json:"seconds"`
	PerSecond   float64      `json:"per_s"`
	Head        *Percentiles `json:"to_head"` // from the first packet to the head of the answer
	ServerCPU   float64      `json:"server_cpu_s,omitempty"`
	Machine     *Machine     `json:"machine,omitempty"`
}

// Publish is what the publishers have done.
type Publish struct {
	Events    int64        `json:"events"` // answered with success
	Requests  int64        `json:"requests"`
	Seconds   float64      `json:"seconds"`
	PerSecond float64      `json:"events_per_s"`
	Unsent    int64        `json:"due_and_not_sent"` // because the server was too slow for the rate
	Answer    *Percentiles `json:"answer"`           // from when a request was sent to its answer
}

// Delivery is what the subscribers have received.
type Delivery struct {
	Expected   int64        `json:"expected"`
	Delivered  int64        `json:"delivered"`
	Seconds    float64      `json:"seconds"` // from the first publish to the last delivery
	PerSecond  float64      `json:"per_s"`
	Latency    *Percentiles `json:"latency,omitempty"`         // of each delivery, from when it was due
	Last       *Percentiles `json:"latency_to_last,omitempty"` // of each event, to the last of the subscribers
	Curve      []Point      `json:"latency_curve,omitempty"`   // of Latency
	CurveLast  []Point      `json:"latency_to_last_curve,omitempty"`
	LastPartly bool         `json:"latency_to_last_partly,omitempty"` // only the first events of each stream have it
}

// Storm is how all subscribers came back at once.
type Storm struct {
	Missed      int          `json:"missed_by_each"`
	Subscribers int          `json:"came_back"`
	CaughtUp    int64        `json:"caught_up"`
	Seconds     float64      `json:"all_caught_up_s"` // from the first packet to the last missed event of the last
	Heads       *Percentiles `json:"to_head"`
	Times       *Percentiles `json:"to_caught_up"` // of each subscriber, from the first packet of all
	Curve       []Point      `json:"to_caught_up_curve,omitempty"`
}

// Faults are what must not happen. With one of them a run is no measurement.
type Faults struct {
	Lost      int64  `json:"lost"`    // never came, though it was answered with success
	Skipped   int64  `json:"skipped"` // of these: later ones came
	Repeated  int64  `json:"repeated"`
	Reordered int64  `json:"reordered"`
	Foreign   int64  `json:"foreign"` // events that the run has not published there, or not so
	Closed    int64  `json:"closed_by_server"`
	Gaps      int64  `json:"gaps"` // tidewire.gap
	Absent    int64  `json:"could_not_come_back"`
	Refused   int64  `json:"refused"` // events that were not taken, or not answered
	First     string `json:"first,omitempty"`
}

// Any tells whether there is one.
func (f *Faults) Any() bool { return f.String() != "" }

// String lists those that there are.
func (f *Faults) String() string {
	var parts []string
	for _, p := range []struct {
		n    int64
		what string
	}{
		{f.Lost, "lost"},
		{f.Skipped, "of them skipped over"},
		{f.Repeated, "repeated"},
		{f.Reordered, "reordered"},
		{f.Foreign, "foreign"},
		{f.Gaps, "told as gaps"},
		{f.Closed, "streams closed by the server"},
		{f.Absent, "subscribers that could not come back"},
		{f.Refused, "events refused"},
	} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", Count(p.n), p.what))
		}
	}
	return strings.Join(parts, ", ")
}

// Server is what the server's processes took. While idle that is for the time, else from
// the first publish to the last delivery.
type Server struct {
	PIDs               []int   `json:"pids"`
	Name               string  `json:"name"`
	User               float64 `json:"user_s"`
	System             float64 `json:"system_s"`
	PerMillion         float64 `json:"cpu_s_per_million"`      // deliveries, or events where there is no subscriber
	Memory             string  `json:"memory_is"`              // "PSS" or "RSS"
	Bytes              int64   `json:"memory_bytes"`           // at the end
	Peak               int64   `json:"peak_rss_bytes"`         // of the samples
	BeforeBytes        int64   `json:"before_bytes,omitempty"` // idle: without subscribers
	IdleBytes          int64   `json:"idle_bytes,omitempty"`   // idle: with them
	BytesPerSubscriber float64 `json:"bytes_per_subscriber,omitempty"`
}

// Client is what the load client itself took meanwhile.
type Client struct {
	User       float64 `json:"user_s"`
	System     float64 `json:"system_s"`
	PerMillion float64 `json:"cpu_s_per_million"`
	Share      float64 `json:"share_of_cores"`
	Reads      int64   `json:"reads"`
	Bytes      int64   `json:"bytes"`
}

// Machine is what spoils a measurement. In a storm it begins with the publishing of what is
// missed.
type Machine struct {
	Seconds float64 `json:"seconds"`
	Others  float64 `json:"others_cpu_s"` // of what is neither the client nor the server
	Stolen  float64 `json:"stolen_cpu_s"` // by the hypervisor
}

// A Sample is one of the timeline.
type Sample struct {
	At        float64 `json:"at_s"`
	Phase     string  `json:"phase"`
	Connected int     `json:"connected"`
	Published int64   `json:"published"`
	Delivered int64   `json:"delivered"`
	ServerCPU float64 `json:"server_cpu_s,omitempty"` // from the process's begin
	ServerRSS int64   `json:"server_rss_bytes,omitempty"`
}

func newResult(r *run) *Result {
	o := r.opts
	return &Result{Warnings: []string{}, Conditions: Conditions{
		Run:         r.id,
		Started:     time.Now().Truncate(time.Second),
		URL:         o.URL.Redacted(),
		Topics:      r.target.subscribe.of("000000…"),
		Go:          runtime.Version(),
		System:      runtime.GOOS + "/" + runtime.GOARCH,
		Cores:       runtime.GOMAXPROCS(0),
		Subscribers: o.Subscribers,
		TopicCount:  o.Topics,
		Publishers:  o.Publishers,
		Rate:        o.Rate,
		Duration:    o.Duration.Seconds(),
		Size:        o.Size,
		Batch:       o.Batch,
		Storm:       o.Storm,
		Idle:        o.Idle,
	}}
}

func (res *Result) warn(format string, args ...any) {
	res.Warnings = append(res.Warnings, fmt.Sprintf(format, args...))
}

func newConnect(o *opened, took int64) *Connect {
	c := &Connect{Subscribers: o.n, Seconds: float64(took) / 1e9, Head: o.heads.percentiles()}
	c.PerSecond = perSecond(int64(o.n), c.Seconds)
	return c
}

func newPublish(s *schedule) *Publish {
	p := &Publish{
		Events:   s.published.Load(),
		Requests: s.requests.Load(),
		Seconds:  float64(max(0, s.lastAt.Load()-s.begin)) / 1e9,
		Unsent:   s.unsent(),
		Answer:   s.answers.percentiles(),
	}
	p.PerSecond = perSecond(p.Events, p.Seconds)
	if s.rate > 0 && !s.stopped.Load() {
		// The last slot's time belongs to it.
		p.PerSecond = perSecond(p.Events, max(p.Seconds, float64(s.end-s.begin)/1e9))
	}
	return p
}

func perSecond(n int64, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return float64(n) / seconds
}

// delivery sums up what has come. It needs the subscribers to be still.
func (r *run) delivery(s *schedule) *Delivery {
	var all, last histogram
	d := &Delivery{Expected: s.owed.Load()}
	for _, y := range r.tallies {
		y.mu.Lock()
		d.Delivered += y.delivered
		if r.opts.Storm == 0 {
			all.merge(y.latency)
		}
		y.mu.Unlock()
	}
	d.rate(s.begin, r.lastDelivery())
	d.Latency, d.Curve = all.percentiles(), all.curve()
	r.latest(d, &last)
	d.Last, d.CurveLast = last.percentiles(), last.curve()
	return d
}

// latest finds when each event was with the last subscriber.
func (r *run) latest(d *Delivery, h *histogram) {
	for stream := range r.tallies[0].last {
		var most []int64
		for _, y := range r.tallies {
			y.mu.Lock()
			of := y.last[stream]
			for len(most) < len(of) {
				most = append(most, 0)
			}
			for i, late := range of {
				most[i] = max(most[i], late)
			}
			y.mu.Unlock()
		}
		for _, late := range most {
			h.add(late)
		}
		d.LastPartly = d.LastPartly || len(most) == maxLatest
	}
}

func (d *Delivery) rate(begin, end int64) {
	d.Seconds = float64(max(0, end-begin)) / 1e9
	d.PerSecond = perSecond(d.Delivered, d.Seconds)
}

func (r *run) stormResult(o *opened, begin int64) *Storm {
	var h histogram
	for _, y := range r.tallies {
		y.mu.Lock()
		h.merge(y.caughtUp)
		y.mu.Unlock()
	}
	return &Storm{
		Missed:      r.opts.Storm,
		Subscribers: o.n,
		CaughtUp:    h.n,
		Seconds:     float64(max(0, r.lastDelivery()-begin)) / 1e9,
		Heads:       o.heads.percentiles(),
		Times:       h.percentiles(),
		Curve:       h.curve(),
	}
}

// finish adds what is known only when everything is closed.
func (res *Result) finish(r *run) {
	res.Conditions.Form = r.clientForm()
	f := &res.Faults
	for _, y := range r.tallies {
		f.Skipped += y.skipped
		f.Repeated += y.repeated
		f.Reordered += y.reordered
		f.Foreign += y.foreign
		f.Closed += y.closed
		f.Gaps += y.gaps
		f.Absent += y.failed
		res.Client.Reads += y.reads
		res.Client.Bytes += y.bytes
		if f.First == "" {
			f.First = y.first
		}
	}
	f.Lost = f.Skipped
	if !res.Interrupted {
		acked := r.acked()
		for i := range r.subs {
			s := &r.subs[i]
			for stream, next := range s.next {
				f.Lost += max(0, acked[s.topic][stream]-next)
			}
		}
	}
	if s := r.schedule.Load(); s != nil {
		f.Refused = s.refused.Load()
		if err := s.cause(); err != nil {
			f.First = explain(err)
		}
	}
	if res.Server != nil {
		for _, p := range res.Timeline {
			res.Server.Peak = max(res.Server.Peak, p.ServerRSS)
		}
	}
	res.doubt()
}

// explain adds what a refusal said.
func explain(err error) string {
	text := err.Error()
	var status *StatusError
	if errors.As(err, &status) && len(status.Body) > 0 {
		text += ": " + excerpt(status.Body)
	}
	return text
}

// doubt says what may have spoiled the measurement.
func (res *Result) doubt() {
	if s := res.Client.Share; s > 0.5 {
		res.warn("the load client took %.0f %% of the cores: it may have been the bottleneck, and its latencies are too high", s*100)
	}
	if m := res.Machine; m != nil && m.Seconds > 0 {
		whole := m.Seconds * float64(runtime.NumCPU())
		if share := m.Others / whole; share > 0.08 {
			res.warn("others took %.0f %% of the machine meanwhile", share*100)
		}
		if share := m.Stolen / whole; share > 0.02 {
			res.warn("the hypervisor withheld %.0f %% of the machine meanwhile", share*100)
		}
	}
	if p := res.Publish; p != nil && p.Unsent > 0 && !res.Interrupted {
		res.warn("%s events were due and not sent in time: the server, or %s, cannot do %g a second", Count(p.Unsent), plural(int64(res.Conditions.Publishers), "publisher"), res.Conditions.Rate)
	}
}

// A meter measures what the processes take.
type meter struct {
	at           int64
	serverU      float64
	serverS      float64
	ownU, ownS   float64
	busy, stolen float64
}

func (r *run) meter() *meter {
	m := &meter{at: r.now()}
	m.serverU, m.serverS = r.server.cpu()
	m.ownU, m.ownS = ownCPU()
	m.busy, m.stolen = machineCPU()
	return m
}

// stop notes what was taken for so many deliveries.
func (m *meter) stop(r *run, work int64) {
	end := r.meter()
	seconds := float64(end.at-m.at) / 1e9
	c := &r.result.Client
	c.User, c.System = end.ownU-m.ownU, end.ownS-m.ownS
	c.PerMillion = perMillion(c.User+c.System, work)
	c.Share = perSecondOf(c.User+c.System, seconds) / float64(runtime.NumCPU())
	if r.server != nil {
		s := &Server{PIDs: r.server.pids, Name: r.server.name}
		s.User, s.System = end.serverU-m.serverU, end.serverS-m.serverS
		s.PerMillion = perMillion(s.User+s.System, work)
		s.Bytes, s.Memory = r.server.memory(), r.server.kind
		r.result.Server = s
	}
	r.result.Machine = m.machine(end, r)
}

// machine returns what spoils the measurement from one meter to another, or nil if that
// is not known.
func (m *meter) machine(end *meter, r *run) *Machine {
	if end.busy == 0 || r.server == nil && r.target.local {
		return nil
	}
	return &Machine{
		Seconds: float64(end.at-m.at) / 1e9,
		Others:  max(0, end.busy-m.busy-end.cpu()+m.cpu()),
		Stolen:  end.stolen - m.stolen,
	}
}

// cpu returns what the client and the server have taken together.
func (m *meter) cpu() float64 { return m.ownU + m.ownS + m.serverU + m.serverS }

func perSecondOf(v, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return v / seconds
}

func perMillion(seconds float64, n int64) float64 {
	if n == 0 {
		return 0
	}
	return seconds / float64(n) * 1e6
}

// Count writes a number with commas between thousands.
func Count(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
