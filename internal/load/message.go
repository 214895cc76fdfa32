package load

import (
	"bytes"
	"encoding/binary"
)

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
	if len(data) != len(f.blank) || string(data[:topicAt]) != string(f.blank[:topicAt]) || !bytes.Equal(data[messageSize-1:], f.blank[messageSize-1:]) {
		return m, false
	}
	return parseNumbers((*[messageSize]byte)(data))
}

// parseNumbers reads eight digits at a time, as it is done for every delivery: 20 ns
// instead of 60.
func parseNumbers(b *[messageSize]byte) (m message, ok bool) {
	colons := b[streamAt-1] == ':' && b[seqAt-1] == ':' && b[dueAt-1] == ':'
	topic, ok1 := lastDigits(b[topicAt+topicSize-8:], topicSize)
	stream, ok2 := lastDigits(b[streamAt+streamSize-8:], streamSize)
	seq1, ok3 := lastDigits(b[seqAt+seqSize-16:], seqSize-8)
	seq2, ok4 := lastDigits(b[seqAt+seqSize-8:], 8)
	due1, ok5 := lastDigits(b[dueAt+dueSize-16:], dueSize-8)
	due2, ok6 := lastDigits(b[dueAt+dueSize-8:], 8)
	m = message{int(topic), int(stream), seq1*1e8 + seq2, due1*1e8 + due2}
	return m, colons && ok1 && ok2 && ok3 && ok4 && ok5 && ok6
}

// lastDigits reads the number that is written in the last n of eight bytes. The bytes are
// added up in pairs, then these in pairs, and so on, all in one word.
func lastDigits(b []byte, n int) (int64, bool) {
	const (
		zeros = 0x3030303030303030
		above = 0x7676767676767676 // carries into a byte's first bit from 10 on
		tops  = 0x8080808080808080
		low   = 0x000000FF000000FF
	)
	v := binary.LittleEndian.Uint64(b) ^ zeros // each byte a digit
	v &= ^uint64(0) << (64 - 8*n)
	if ((v+above)|v)&tops != 0 {
		return 0, false
	}
	v = v*10 + v>>8
	v = ((v&low)*(100+1000000<<32) + (v>>16&low)*(1+10000<<32)) >> 32
	return int64(v), true
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
