package load

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A stream is the events of one publisher in one topic. The publisher owns it.
type stream struct {
	topic       int
	index       int   // among the topic's
	subscribers int64 // of the topic
	acked       int64 // events that were answered with success: the next one's sequence
	left        int   // to publish, where that is counted
}

// A publisher has one connection and one request under way.
type publisher struct {
	streams []*stream
	turn    int
	encoder requestEncoder
	failed  int // refusals in a row
}

// newPublishers shares the topics out: each has one publisher where there are enough
// topics, and several where there are not.
func newPublishers(o *Options, form *messageForm, t *target) (ps []*publisher) {
	subscribers := func(topic int) int64 {
		n := o.Subscribers / o.Topics
		if topic < o.Subscribers%o.Topics {
			n++
		}
		return int64(n)
	}
	for i := range o.Publishers {
		p := &publisher{encoder: requestEncoder{form: form, target: t}}
		if o.Publishers > o.Topics {
			topic := i % o.Topics
			p.streams = []*stream{{topic: topic, index: i / o.Topics, subscribers: subscribers(topic)}}
		} else {
			for topic := i; topic < o.Topics; topic += o.Publishers {
				p.streams = append(p.streams, &stream{topic: topic, subscribers: subscribers(topic)})
			}
		}
		ps = append(ps, p)
	}
	return ps
}

// streamsOf returns how many streams a topic has.
func streamsOf(o *Options, topic int) int {
	if o.Publishers <= o.Topics {
		return 1
	}
	n := o.Publishers / o.Topics
	if topic < o.Publishers%o.Topics {
		n++
	}
	return n
}

// A schedule says when which request is due. All publishers share it.
type schedule struct {
	run     *run
	rate    float64 // events a second; 0: at once
	counted bool    // up to each stream's left, else until end
	begin   int64   // nanoseconds of the run
	end     int64
	stopped atomic.Bool
	slots   atomic.Int64 // events that have been handed out

	mu  sync.Mutex
	err error // why it was stopped

	answers   *histogram // guarded by mu
	published atomic.Int64
	requests  atomic.Int64
	refused   atomic.Int64
	owed      atomic.Int64 // deliveries
	lastAt    atomic.Int64
}

// overrun is how long after its end a schedule may send what was due before: more is not
// lateness, but a rate that cannot be had. In nanoseconds.
const overrun = 1e9

// next returns when the next slot of so many events is due, and false where there is none
// any more.
func (s *schedule) next(events int, now int64) (due int64, ok bool) {
	switch {
	case s.stopped.Load():
		return 0, false
	case s.rate == 0:
		return now, s.counted || now < s.end
	case !s.counted && now >= s.end+overrun:
		return 0, false
	}
	slot := s.slots.Add(int64(events)) - int64(events)
	due = s.begin + int64(float64(slot)/s.rate*1e9)
	return due, s.counted || due < s.end
}

// unsent returns how many events were due and never sent.
func (s *schedule) unsent() int64 {
	if s.rate == 0 || s.counted || s.stopped.Load() {
		return 0
	}
	due := int64(float64(s.end-s.begin) / 1e9 * s.rate)
	return max(0, due-s.published.Load()-s.refused.Load())
}

// A shot is one request: events of one stream.
type shot struct {
	stream *stream
	events int
	due    int64
	sent   int64
}

// aim chooses what a publisher sends next, and false where it is done.
func (p *publisher) aim(s *schedule, now int64) (shot, bool) {
	for range p.streams {
		st := p.streams[p.turn]
		n := s.run.opts.Batch
		if s.counted {
			n = min(n, st.left)
		}
		if p.turn++; p.turn == len(p.streams) {
			p.turn = 0
		}
		if n == 0 {
			continue
		}
		due, ok := s.next(n, now)
		return shot{stream: st, events: n, due: due}, ok
	}
	return shot{}, false
}

// maxRefusals in a row are enough to give up.
const maxRefusals = 3

// answered takes an answer down. A definite refusal has stored nothing, so that the
// sequence goes on where it was.
func (s *schedule) answered(p *publisher, sh shot, now int64, refusal *StatusError) {
	if refusal != nil {
		s.refused.Add(int64(sh.events))
		p.failed++
		s.explain(refusal, p.failed >= maxRefusals)
		return
	}
	p.failed = 0
	sh.stream.acked += int64(sh.events)
	if s.counted {
		sh.stream.left -= sh.events
	}
	s.published.Add(int64(sh.events))
	s.requests.Add(1)
	s.owed.Add(int64(sh.events) * sh.stream.subscribers)
	s.lastAt.Store(now)
	s.mu.Lock()
	s.answers.add(now - sh.sent)
	s.mu.Unlock()
}

// broke ends the publishing: whether the events of the request are stored is not known.
func (s *schedule) broke(sh shot, err error) {
	s.refused.Add(int64(sh.events))
	s.explain(fmt.Errorf("publishing: %w", err), true)
}

// explain keeps the first failure.
func (s *schedule) explain(err error, stop bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	if stop {
		s.stopped.Store(true)
	}
}

func (s *schedule) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// A requestEncoder writes requests to publish. The bytes of the last one are patched where
// the next is of the same length.
type requestEncoder struct {
	form     *messageForm
	target   *target
	events   int
	request  []byte
	media    string // the Content-Type
	body     int    // where it begins
	topicAt  int
	messages []int // where they begin
}

// encode returns the request of a shot. It is valid until the next one.
func (e *requestEncoder) encode(sh shot) (request []byte) {
	if e.events != sh.events {
		e.build(sh.events)
	}
	putNumber(e.request[e.topicAt:e.topicAt+topicSize], int64(sh.stream.topic))
	m := message{topic: sh.stream.topic, stream: sh.stream.index, seq: sh.stream.acked, due: sh.due}
	for _, at := range e.messages {
		m.patch(e.request[at:])
		m.seq++
	}
	return e.request
}

func (e *requestEncoder) build(events int) {
	var body []byte
	var at []int
	e.media = "text/plain"
	if events == 1 {
		at, body = []int{0}, append(body, e.form.blank...)
	} else {
		e.media = "application/x-ndjson"
		for range events {
			body = append(body, `{"data":"`...)
			at = append(at, len(body))
			body = append(body, e.form.blank...)
			body = append(body, "\"}\n"...)
		}
	}
	b := append([]byte("POST "), e.target.publish.before...)
	e.topicAt = len(b)
	b = append(b, "000000"...)
	b = append(b, e.target.publish.after...)
	b = append(b, " HTTP/1.1\r\n"...)
	b = append(b, e.target.headers...)
	b = append(b, "Content-Type: "+e.media+"\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"...)
	e.body = len(b)
	e.request = append(b, body...)
	e.events, e.messages = events, at
	for i := range at {
		at[i] += e.body
	}
}

// publishAll publishes until the schedule is over or ctx has ended.
func (r *run) publishAll(ctx context.Context, s *schedule) error {
	s.run, s.answers = r, new(histogram)
	r.schedule.Store(s)
	stop := context.AfterFunc(ctx, func() { s.stopped.Store(true) })
	defer stop()
	s.begin = r.now()
	s.end = s.begin + int64(r.opts.Duration)
	return r.client.publish(s)
}

// wait sleeps until a time of the run, and not beyond the schedule's end.
func (s *schedule) wait(until int64) {
	for !s.stopped.Load() {
		d := time.Duration(until - s.run.now())
		if d <= 0 {
			return
		}
		time.Sleep(min(d, 50*time.Millisecond))
	}
}
