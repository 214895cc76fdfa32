package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A publisher publishes, one request at a time, until it is stopped, and enters in the
// ledger what it was answered.
type publisher struct {
	no     int32
	ledger *ledger
	base   string
	client *http.Client
	rng    *rand.Rand
	pause  time.Duration // between two requests, on average
	stop   <-chan struct{}

	repeated int // publishes that were sent again under their Idempotency-Key
}

const (
	// backOff is how long a publisher waits for the server to come back.
	backOff = 10 * time.Millisecond

	// answerTime is how long a request may take: a server that is killed ends its
	// connections at once.
	answerTime = 60 * time.Second
)

// What a publisher can be answered other than that it is stored.
var (
	errNotStored = errors.New("surely not stored")
	errNoAnswer  = errors.New("perhaps stored")
	errConflict  = errors.New("another event is the newest")
	errRefused   = errors.New("refused")
)

// A publication is one request.
type publication struct {
	query  url.Values
	header http.Header
	body   string
	first  name // its events are this one and those that follow
	count  int32
}

func (p *publication) keyed() bool { return p.header.Get("Idempotency-Key") != "" }

// An answer is the server's, to a single event and to a batch.
type answer struct {
	ID, Position string
	Count        int32
	First, Last  *struct{ ID, Position string }

	replayed bool
}

// run publishes to the shared topics.
func (p *publisher) run(ctx context.Context) {
	for p.rest(ctx, time.Duration(p.rng.ExpFloat64()*float64(p.pause))) {
		var pub *publication
		if p.rng.IntN(100) < 25 {
			pub = p.batch()
		} else {
			pub = p.single()
		}
		a := p.publish(ctx, pub)
		if a != nil && pub.keyed() && p.rng.IntN(10) == 0 {
			p.publishAgain(ctx, pub, a)
		}
	}
}

// rest waits; it returns false if the publisher is stopped.
func (p *publisher) rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.stop:
	case <-ctx.Done():
	}
	return false
}

// event enters an event in the ledger.
func (p *publisher) event(e entry) name {
	a := &p.ledger.accounts[p.no]
	k := name{p.no, int32(len(a.entries) + 1)}
	if e.first == 0 {
		e.first, e.size = k.n, 1
	}
	e.begun = p.ledger.clock.Add(1)
	a.entries = append(a.entries, e)
	return k
}

// single makes a publication of one event, some of them with an id, with a key, or under
// two topics.
func (p *publisher) single() *publication {
	set := topicSet(1) << p.rng.IntN(sharedTopics)
	if p.rng.IntN(6) == 0 {
		set |= 1 << p.rng.IntN(sharedTopics)
	}
	return p.one(entry{topics: set, own: p.rng.IntN(4) == 0}, p.rng.IntN(4) == 0)
}

func (p *publisher) one(e entry, keyed bool) *publication {
	k := p.event(e)
	pub := &publication{query: url.Values{"topic": e.topics.names()}, header: http.Header{}, first: k, count: 1}
	pub.header.Set("Content-Type", "text/plain")
	pub.body = dataOf(k, e.own, someSize(p.rng))
	if e.own {
		pub.query.Set("id", k.id())
	}
	if keyed {
		pub.header.Set("Idempotency-Key", k.String())
	}
	return pub
}

// batch makes a publication of several events of any topics.
func (p *publisher) batch() *publication {
	count := int32(2 + p.rng.IntN(10))
	if p.rng.IntN(20) == 0 {
		count = 100
	}
	first := int32(len(p.ledger.accounts[p.no].entries) + 1)
	pub := &publication{header: http.Header{}, first: name{p.no, first}, count: count}
	pub.header.Set("Content-Type", "application/x-ndjson")
	if p.rng.IntN(3) == 0 {
		pub.header.Set("Idempotency-Key", pub.first.String())
	}
	var body strings.Builder
	for range count {
		e := entry{topics: 1 << p.rng.IntN(sharedTopics), own: p.rng.IntN(4) == 0, first: first, size: count}
		k := p.event(e)
		line := map[string]any{"topics": e.topics.names(), "data": dataOf(k, e.own, someSize(p.rng))}
		if e.own {
			line["id"] = k.id()
		}
		b, err := json.Marshal(line)
		if err != nil {
			panic(err) // strings only
		}
		body.Write(append(b, '\n'))
	}
	pub.body = body.String()
	return pub
}

// publish sends a publication until it is stored, or, without a key, until nobody knows
// whether it is. It returns the answer, if there was one.
func (p *publisher) publish(ctx context.Context, pub *publication) *answer {
	for again := false; ; again = true {
		a, err := p.post(ctx, pub)
		switch {
		case err == nil:
			p.acked(pub, a)
			return a
		case ctx.Err() != nil, errors.Is(err, errRefused), errors.Is(err, errNoAnswer) && !pub.keyed():
			return nil
		case errors.Is(err, errConflict):
			p.ledger.add("a condition that holds was refused", "%s: %v", pub.first, pub.header)
			return nil
		case !again && pub.keyed():
			p.repeated++
		}
		p.backOff(ctx)
	}
}

// backOff waits for the server to come back, also after the publisher was stopped.
func (p *publisher) backOff(ctx context.Context) {
	timer := time.NewTimer(backOff/2 + time.Duration(p.rng.Int64N(int64(backOff))))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// publishAgain repeats what was answered, which must be answered alike, also when the
// server was killed in between.
func (p *publisher) publishAgain(ctx context.Context, pub *publication, before *answer) {
	p.repeated++
	a := p.publish(ctx, pub)
	if a == nil {
		return
	}
	same := a.Position == before.Position && (a.First == nil || before.First != nil && *a.First == *before.First && *a.Last == *before.Last)
	if !same || !a.replayed {
		p.ledger.add("a repeat under the same key was not answered as the first one", "%s: %+v, and then %+v", pub.first, before, a)
	}
}

// post sends one request.
func (p *publisher) post(ctx context.Context, pub *publication) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+"/events?"+pub.query.Encode(), strings.NewReader(pub.body))
	if err != nil {
		return nil, err
	}
	req.Header = pub.header
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, p.noAnswer(ctx, pub, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, p.noAnswer(ctx, pub, err)
	}
	switch resp.StatusCode {
	case http.StatusCreated:
		a := &answer{replayed: resp.Header.Get("Idempotency-Replayed") == "true"}
		if err := json.Unmarshal(body, a); err != nil {
			p.ledger.add("a publish was answered with what cannot be read", "%s: %v: %s", pub.first, err, firstLine(body))
			return nil, errNoAnswer
		}
		return a, nil
	case http.StatusPreconditionFailed:
		return nil, errConflict
	case http.StatusServiceUnavailable:
		if !strings.Contains(string(body), "urn:tidewire:problem:indeterminate") {
			return nil, errNotStored
		}
		return nil, errNoAnswer
	}
	p.ledger.add("a publish was refused", "%s: %s: %s", pub.first, resp.Status, firstLine(body))
	return nil, errRefused
}

// noAnswer tells what is known of a publication that was not answered.
func (p *publisher) noAnswer(ctx context.Context, pub *publication, err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" { // what has a key was perhaps sent before, by net/http
		return errNotStored
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		p.ledger.add("a publish was not answered in "+answerTime.String(), "%s: %v", pub.first, err)
	}
	return fmt.Errorf("%w: %w", errNoAnswer, err)
}

// acked enters an answer in the ledger.
func (p *publisher) acked(pub *publication, a *answer) {
	account := &p.ledger.accounts[p.no]
	for n := pub.first.n; n < pub.first.n+pub.count; n++ {
		account.of(n).fate = acked
	}
	if a.First == nil || a.Last == nil {
		p.told(pub.first, a.ID, a.Position)
		return
	}
	if a.Count != pub.count {
		p.ledger.add("a batch was answered with another count", "%s: %d, not %d", pub.first, a.Count, pub.count)
	}
	p.told(pub.first, a.First.ID, a.First.Position)
	p.told(name{p.no, pub.first.n + pub.count - 1}, a.Last.ID, a.Last.Position)
}

func (p *publisher) told(k name, id, position string) {
	e := p.ledger.accounts[p.no].of(k.n)
	seq := p.ledger.sequence(position)
	if e.seq != 0 && e.seq != seq {
		p.ledger.add("an event was acknowledged with two positions", "%s: %d and %d", k, e.seq, seq)
	}
	e.seq = seq
	want := position
	if e.own {
		want = k.id()
	}
	if id != want {
		p.ledger.add("an event was acknowledged with another id", "%s: %q, not %q", k, id, want)
	}
	p.ledger.remember(receipt{k, id, position, seq})
}

// chainByKey publishes to a topic of its own, each event on condition that the one before
// is the newest, and under a key: whatever is not answered is repeated.
func (p *publisher) chainByKey(ctx context.Context) {
	last, after := "", int32(0)
	for p.rest(ctx, time.Duration(p.rng.ExpFloat64()*float64(p.pause))) {
		pub := p.one(entry{topics: 1 << chainByKey, after: after}, true)
		pub.onlyAfter(last)
		a := p.publish(ctx, pub)
		if a == nil {
			return
		}
		last, after = a.ID, pub.first.n
	}
}

func (p *publication) onlyAfter(id string) {
	if id == "" {
		p.header.Set("If-None-Match", "*")
		return
	}
	p.header.Set("If-Match", `"`+id+`"`)
}

// chainByMatch does it without a key. Whether an event is stored that was not answered,
// it learns from what the next one is answered on the same condition.
func (p *publisher) chainByMatch(ctx context.Context) {
	account := &p.ledger.accounts[p.no]
	last, after := "", int32(0)
	var open []int32 // published after the last one, and not answered
	settle := func(stored int32) {
		for _, n := range open {
			account.of(n).fate = refused
		}
		account.of(stored).fate = acked
		last, after, open = name{p.no, stored}.id(), stored, nil
	}
	for p.rest(ctx, time.Duration(p.rng.ExpFloat64()*float64(p.pause))) {
		pub := p.one(entry{topics: 1 << chainByMatch, own: true, after: after}, false)
		pub.onlyAfter(last)
		a, err := p.post(ctx, pub)
		n := pub.first.n
		switch {
		case err == nil:
			settle(n)
			p.acked(pub, a)
		case errors.Is(err, errConflict):
			account.of(n).fate = refused
			stored := p.newest(ctx, open)
			if ctx.Err() != nil {
				return
			}
			if stored == 0 {
				p.ledger.add("a condition that holds was refused", "%s after %q", pub.first, last)
				return
			}
			settle(stored)
		case errors.Is(err, errNotStored):
			account.of(n).fate = refused
			p.backOff(ctx)
		default:
			open = append(open, n)
		}
	}
}

// newest asks which of the events is the newest of the topic; 0 if none is.
func (p *publisher) newest(ctx context.Context, open []int32) int32 {
	for ctx.Err() == nil {
		h, err := head(ctx, p.client, p.base, topics[chainByMatch])
		if err != nil {
			p.backOff(ctx)
			continue
		}
		for _, n := range open {
			if (name{p.no, n}).id() == h.Get("Tidewire-Newest-Id") {
				return n
			}
		}
		return 0
	}
	return 0
}

// end publishes what tells subscribers that nothing more comes: an event in each topic.
func (p *publisher) end(ctx context.Context) {
	for i := range topics {
		p.publish(ctx, p.one(entry{topics: 1 << i}, true))
	}
}
