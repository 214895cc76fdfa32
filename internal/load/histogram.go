package load

import (
	"math/bits"
	"time"
)

// A histogram counts durations in buckets, 64 to each power of two of nanoseconds: what
// it says of a percentile is at most 1.6 % above the truth, and never below it.
type histogram struct {
	n       int64
	sum     int64
	max     int64
	buckets [58 << stepBits]int64
}

const stepBits = 6

func (h *histogram) add(d int64) {
	if d < 0 {
		d = 0 // the clock is one and the same, so this is no more than a rounding
	}
	h.n++
	h.sum += d
	h.max = max(h.max, d)
	h.buckets[bucketOf(d)]++
}

// bucketOf keeps a number's first seven bits: below 128 each has a bucket of its own.
func bucketOf(d int64) int {
	shift := max(0, bits.Len64(uint64(d))-stepBits-1)
	return shift<<stepBits + int(d>>shift)
}

// highest returns the largest number of a bucket.
func highest(bucket int) int64 {
	if bucket < 2<<stepBits {
		return int64(bucket)
	}
	shift := bucket>>stepBits - 1
	return int64(bucket-shift<<stepBits+1)<<shift - 1
}

func (h *histogram) merge(other *histogram) {
	h.n += other.n
	h.sum += other.sum
	h.max = max(h.max, other.max)
	for i, n := range other.buckets {
		h.buckets[i] += n
	}
}

// at returns what the share q of all, from 0 to 1, does not exceed.
func (h *histogram) at(q float64) time.Duration {
	rank := int64(q*float64(h.n) + 0.999999) // the nearest rank, rounded up
	var seen int64
	for i, n := range h.buckets {
		if seen += n; n > 0 && seen >= rank {
			return time.Duration(min(highest(i), h.max))
		}
	}
	return time.Duration(h.max)
}

// curve returns up to steps points, from the least to the largest, at shares that come
// closer to 1 by the same factor each.
func (h *histogram) curve() (points []Point) {
	if h.n == 0 {
		return nil
	}
	for left, n := 1.0, 0; left*float64(h.n) >= 1 && n < 200; left, n = left/1.1885, n+1 { // four steps halve it
		points = append(points, Point{1 - left, milliseconds(h.at(1 - left))})
	}
	return append(points, Point{1, milliseconds(time.Duration(h.max))})
}

func (h *histogram) percentiles() *Percentiles {
	if h.n == 0 {
		return nil
	}
	return &Percentiles{
		N:    h.n,
		Mean: milliseconds(time.Duration(h.sum / h.n)),
		P50:  milliseconds(h.at(0.5)),
		P90:  milliseconds(h.at(0.9)),
		P99:  milliseconds(h.at(0.99)),
		P999: milliseconds(h.at(0.999)),
		Max:  milliseconds(time.Duration(h.max)),
	}
}

// milliseconds keeps microseconds.
func milliseconds(d time.Duration) float64 { return float64(d.Round(time.Microsecond)) / 1e6 }
