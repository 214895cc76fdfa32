package hub

import (
	"encoding/binary"
	"hash/crc32"
)

// A gzipSum is what the end of a gzip stream tells of its text (RFC 1952, section 2.3.1).
type gzipSum struct {
	crc  uint32
	size uint32 // modulo 1<<32
}

func sumOf(text []byte) gzipSum { return gzipSum{crc32.ChecksumIEEE(text), uint32(len(text))} }

// join returns the sum of two texts, one after the other. So a stream's sum grows with what
// it is sent, and nobody looks at the text again.
func (s gzipSum) join(next gzipSum) gzipSum { return s.joinAt(next, shiftOf(next.size)) }

// joinAt is join where shiftOf the second text is known. It takes some 30 ns.
func (s gzipSum) joinAt(next gzipSum, shift uint32) gzipSum {
	return gzipSum{multiply(s.crc, shift) ^ next.crc, s.size + next.size}
}

// appendEnd appends the end of a gzip stream: an empty last block (RFC 1951, section 3.2.6),
// and the sum.
func (s gzipSum) appendEnd(b []byte) []byte {
	b = append(b, 0x03, 0x00)
	b = binary.LittleEndian.AppendUint32(b, s.crc)
	return binary.LittleEndian.AppendUint32(b, s.size)
}

// A CRC is a polynomial over the field of two elements, modulo crc32.IEEE; the highest bit is
// the constant term. To have n bytes follow multiplies it by x to the power of 8n.

// multiply multiplies two polynomials.
func multiply(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		product ^= b & -(a >> 31)
		b = b>>1 ^ crc32.IEEE&-(b&1)
	}
	return product
}

// powers are x to the powers of 8, 16, 32 and so on.
var powers = func() (p [32]uint32) {
	p[0] = 1 << (31 - 8)
	for i := 1; i < len(p); i++ {
		p[i] = multiply(p[i-1], p[i-1])
	}
	return p
}()

// shiftOf returns x to the power of 8n.
func shiftOf(n uint32) uint32 {
	shift := uint32(1 << 31)
	for i := 0; n != 0; i, n = i+1, n>>1 {
		if n&1 != 0 {
			shift = multiply(powers[i], shift)
		}
	}
	return shift
}
