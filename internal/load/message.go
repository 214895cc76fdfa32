package load

import "bytes"

// A message is an event's data, of fixed width, so that it can be patched in place and
// stands in JSON as it is:
//
//	tw:ⓡⓡⓡⓡⓡⓡⓡⓡ:ⓣⓣⓣⓣⓣⓣ:ⓢⓢⓢⓢ:ⓝⓝⓝⓝⓝⓝⓝⓝⓝⓝ:ⓓⓓⓓⓓⓓⓓⓓⓓⓓⓓⓓⓓⓓⓓⓓ:xxxx…
//
// with the run, the topic's number, the stream's within the topic, the sequence within
// that from 0, and the time at which it was due, in nanoseconds from the run's begin.
const (
	runAt, runSize       = 3, 8
	topicAt, topicSize   = 12, 6
	streamAt, streamSize = 19, 4
	seqAt, seqSize       = 24, 10
	dueAt, dueSize       = 35, 15
	messageSize          = 51
)

type message struct {
	topic, stream int
	seq, due      int64
}

// A messageForm makes and reads the messages of a run.
type messageForm struct {
	blank []byte // one with zeros for numbers
}

func newMessageForm(run string, size int) *messageForm {
	b := bytes.Repeat([]byte{'x'}, size)
	copy(b, "tw:"+run+":000000:0000:0000000000:000000000000000:")
	return &messageForm{b}
}

// patch writes a message's numbers into b, which is a copy of the blank.
func (m *message) patch(b []byte) {
	putNumber(b[topicAt:topicAt+topicSize], int64(m.topic))
	putNumber(b[streamAt:streamAt+streamSize], int64(m.stream))
	putNumber(b[seqAt:seqAt+seqSize], m.seq)
	putNumber(b[dueAt:dueAt+dueSize], m.due)
}

// parse reads data, and reports whether it is of this run to the last byte.
func (f *messageForm) parse(data []byte) (m message, ok bool) {
	if len(data) != len(f.blank) || !bytes.Equal(data[:topicAt], f.blank[:topicAt]) || !bytes.Equal(data[messageSize-1:], f.blank[messageSize-1:]) {
		return m, false
	}
	topic, ok1 := number(data[topicAt : topicAt+topicSize])
	stream, ok2 := number(data[streamAt : streamAt+streamSize])
	seq, ok3 := number(data[seqAt : seqAt+seqSize])
	due, ok4 := number(data[dueAt : dueAt+dueSize])
	return message{int(topic), int(stream), seq, due}, ok1 && ok2 && ok3 && ok4
}

func putNumber(b []byte, n int64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

func number(b []byte) (n int64, ok bool) {
	wrong := false
	for _, c := range b {
		d := c - '0'
		wrong = wrong || d > 9
		n = n*10 + int64(d)
	}
	return n, !wrong
}
