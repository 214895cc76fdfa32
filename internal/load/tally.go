package load

import (
	"bytes"
	"sync"
)

// A subscriber is what is known of one, in any form of the client.
type subscriber struct {
	topic  int
	next   []int64 // the sequence that comes next, by stream of the topic
	id     []byte  // the last; kept only where the run has a storm
	owed   int64   // storm: events that it has missed and does not have yet
	parser eventParser
	carry  []byte // what has come of an event that is not complete
}

// A tally is what some subscribers have received: those of one reader.
type tally struct {
	form  *messageForm
	storm bool
	most  int   // bytes of a stream's event
	now   int64 // of what is being handled, in nanoseconds from the run's begin
	sub   *subscriber
	ev    event
	each  func(*event) // is handle; made once

	mu        sync.Mutex // guards what is below, which a progress display reads too
	latency   *histogram
	last      [][]int64 // by stream and sequence: the latest latency; nil: not measured
	measured  bool      // latencies count
	delivered int64
	bytes     int64
	reads     int64
	lastAt    int64 // when the last delivery came

	stormAt  int64
	caughtUp *histogram

	skipped   int64
	repeated  int64
	reordered int64
	foreign   int64
	closed    int64
	gaps      int64
	failed    int64 // storm: subscribers that could not come back
	first     string
	missing   map[missing]struct{} // the first of skipped, so that one that comes late is told from a repeated one
}

type missing struct {
	sub    *subscriber
	stream int
	seq    int64
}

const maxMissing = 100_000

// newTally counts the deliveries of events with data of form. With streams, there is one
// topic with so many, and the latest delivery of each event is kept.
func newTally(form *messageForm, storm bool, streams int) *tally {
	y := &tally{
		form:     form,
		storm:    storm,
		most:     len(form.blank) + 64<<10,
		latency:  new(histogram),
		caughtUp: new(histogram),
		last:     make([][]int64, streams),
		missing:  map[missing]struct{}{},
		measured: true,
	}
	y.each = y.handle
	return y
}

// feed takes what has come to a subscriber, b[room:], body only. It writes over b[:room].
func (y *tally) feed(s *subscriber, b []byte, room int, now int64) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.reads++
	y.bytes += int64(len(b) - room)
	y.sub, y.now = s, now
	if n := len(s.carry); n > 0 {
		if n > room {
			return errLarge
		}
		room -= n
		copy(b[room:], s.carry)
	}
	done := room
	if s.parser.begun {
		done += y.plain(b[room:])
	}
	if done < len(b) {
		done += s.parser.parse(b[done:], &y.ev, y.each)
	}
	s.carry = append(s.carry[:0], b[done:]...)
	if len(s.carry) > y.most {
		return errLarge
	}
	return nil
}

// plain does what the parser and handle do, for events at the beginning of b that have an
// id or none, then one line of data of this run, and nothing else: a quarter of the cost,
// which the server under test has to share a machine with. It returns how much of b is
// done with. What is not so is left to the parser.
func (y *tally) plain(b []byte) (done int) {
	const field = "data: "
	size := len(y.form.blank)
	var id []byte
	for {
		rest := b[done:]
		at, hasID := 0, false
		if len(rest) > 4 && string(rest[:4]) == "id: " {
			for at, hasID = 4, true; at < len(rest) && rest[at] >= ' '; at++ {
			}
			if at++; at > len(rest) || rest[at-1] != '\n' {
				break
			}
		}
		end := at + len(field) + size
		if len(rest) < end+2 || string(rest[at:at+len(field)]) != field || rest[end] != '\n' || rest[end+1] != '\n' {
			break
		}
		m, ok := y.form.parse(rest[at+len(field) : end])
		if !ok || !y.sub.expects(m) {
			break
		}
		if hasID {
			id = rest[4 : at-1]
		}
		y.take(m)
		done += end + 2
	}
	if y.storm && id != nil {
		y.sub.id = append(y.sub.id[:0], id...)
	}
	return done
}

// handle checks an event.
func (y *tally) handle(ev *event) {
	if ev.hasID && y.storm {
		y.sub.id = append(y.sub.id[:0], ev.id...)
	}
	if len(ev.typ) > 0 && y.own(ev) || !ev.hasData {
		return
	}
	m, ok := y.form.parse(ev.data)
	if !ok || !y.sub.expects(m) {
		y.foreign++
		y.fault("an event that this run has not published for its subscriber: " + excerpt(ev.data))
		return
	}
	y.take(m)
}

// expects tells whether an event is of the subscriber's topic.
func (s *subscriber) expects(m message) bool { return m.topic == s.topic && m.stream < len(s.next) }

// take notes one of the run's events.
func (y *tally) take(m message) {
	next := &y.sub.next[m.stream]
	switch {
	case m.seq < *next:
		if !y.late(m) {
			return
		}
	case m.seq > *next:
		y.skip(m, *next)
		*next = m.seq + 1
	default:
		*next++
	}
	y.count(m)
}

// own handles an event that the server sends on its own behalf, and tells whether it is one.
func (y *tally) own(ev *event) bool {
	if !bytes.HasPrefix(ev.typ, []byte("tidewire.")) {
		return false
	}
	switch string(ev.typ) {
	case "tidewire.gap":
		y.gaps++
		y.fault("a gap: " + excerpt(ev.data))
	case "tidewire.error":
		y.fault("an error in the stream: " + excerpt(ev.data))
	}
	return true
}

// skip notes that events have been left out, up to one that has come.
func (y *tally) skip(m message, next int64) {
	y.skipped += m.seq - next
	for ; next < m.seq && len(y.missing) < maxMissing; next++ {
		y.missing[missing{y.sub, m.stream, next}] = struct{}{}
	}
}

// late notes an event that comes after a later one, and tells whether it is the first time
// that it comes.
func (y *tally) late(m message) bool {
	key := missing{y.sub, m.stream, m.seq}
	if _, ok := y.missing[key]; !ok {
		y.repeated++
		return false
	}
	delete(y.missing, key)
	y.skipped--
	y.reordered++
	return true
}

// count takes down a delivery that counts.
func (y *tally) count(m message) {
	y.delivered++
	y.lastAt = y.now
	if y.measured {
		late := y.now - m.due
		y.latency.add(late)
		if len(y.last) > 0 {
			y.latest(m, late)
		}
	}
	if s := y.sub; s.owed > 0 {
		if s.owed--; s.owed == 0 {
			y.caughtUp.add(y.now - y.stormAt)
		}
	}
}

// maxLatest bounds how many events of a stream have the latest of their deliveries kept.
const maxLatest = 4 << 20

func (y *tally) latest(m message, late int64) {
	of := y.last[m.stream]
	for int64(len(of)) <= m.seq && m.seq < maxLatest {
		of = append(of, 0)
	}
	if m.seq < int64(len(of)) {
		of[m.seq] = max(of[m.seq], late)
	}
	y.last[m.stream] = of
}

// fault keeps the first explanation.
func (y *tally) fault(text string) {
	if y.first == "" {
		y.first = text
	}
}

// closedBy notes that a stream has ended, which none may before the run is over.
func (y *tally) closedBy(err error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.closed++
	if err != nil {
		y.fault("a stream ended: " + err.Error())
	}
}

// couldNotReturn notes a subscriber that was refused in a storm.
func (y *tally) couldNotReturn(err error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.failed++
	y.fault("a subscriber could not come back: " + err.Error())
}

// excerpt writes the beginning of what has come from a server.
func excerpt(b []byte) string {
	const most = 200
	if len(b) > most {
		return string(bytes.ToValidUTF8(b[:most], nil)) + "…"
	}
	return string(bytes.ToValidUTF8(b, nil))
}
