package topology

import (
	"math/bits"
	"time"
)

// Shape of a Histogram: linear below 32 units, then 32 sub-buckets for each power
// of two. A unit is 1,024 ns, so the relative error is at most 1/64 above 33 us.
const (
	subBuckets    = 32
	unitShift     = 10
	highestPower  = 27 // units: 2^27 * 1.024 us = 137 s; longer latencies count as that
	bucketCount   = (highestPower - 5 + 1) * subBuckets
	highestUnits  = 1<<highestPower - 1
	subBucketBits = 5
)

// Histogram is a log-linear sketch of latencies. Histograms merge by addition. The
// zero value is empty and ready to use; no method allocates.
type Histogram struct {
	total  uint64
	low    uint16 // no lower bucket was counted in, unless total is 0
	high   uint16 // nor any from here on
	counts [bucketCount]uint32
}

// Add counts d once; negative durations count as 0, those above 137 s as 137 s.
func (h *Histogram) Add(d time.Duration) { h.add(bucketOf(d), 1) }

// Merge adds all that other has counted.
func (h *Histogram) Merge(other *Histogram) {
	for i := other.low; i < other.high; i++ {
		if n := other.counts[i]; n != 0 {
			h.add(i, uint64(n))
		}
	}
}

// Count returns how many durations were added.
func (h *Histogram) Count() uint64 { return h.total }

// Reset empties h.
func (h *Histogram) Reset() {
	clear(h.counts[h.low:h.high])
	h.total, h.low, h.high = 0, 0, 0
}

// Quantile returns the middle of the bucket that holds quantile q (0..1), 0 if h is
// empty.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	rank := rankOf(min(max(q, 0), 1), h.total)
	if above := h.total - rank; above < rank { // the bucket is nearer to the top
		for i := h.high; i > h.low; i-- {
			n := uint64(h.counts[i-1])
			if n >= above {
				return middle(i - 1)
			}
			above -= n
		}
	}
	seen := uint64(0)
	for i := h.low; i < h.high; i++ {
		if seen += uint64(h.counts[i]); seen > rank {
			return middle(i)
		}
	}
	return middle(bucketCount - 1)
}

// rankOf is how many of n durations, at least one, lie below quantile q.
func rankOf(q float64, n uint64) uint64 { return min(uint64(q*float64(n)), n-1) }

// Mean returns the mean duration within the error of the buckets, 0 if h is empty.
func (h *Histogram) Mean() time.Duration {
	if h.total == 0 {
		return 0
	}
	sum := 0.0
	for i := h.low; i < h.high; i++ {
		if n := h.counts[i]; n != 0 {
			sum += float64(n) * float64(middle(i))
		}
	}
	return time.Duration(sum / float64(h.total))
}

// add counts n durations in bucket; a bucket that is full stays full.
func (h *Histogram) add(bucket uint16, n uint64) {
	was := h.counts[bucket]
	room := uint64(^uint32(0) - was)
	n = min(n, room)
	if h.high == 0 {
		h.low = bucket
	}
	h.low, h.high = min(h.low, bucket), max(h.high, bucket+1)
	h.counts[bucket] = was + uint32(n)
	h.total += n
}

// bucketOf returns the bucket of d.
func bucketOf(d time.Duration) uint16 {
	if d <= 0 {
		return 0
	}
	units := min(uint64(d)>>unitShift, highestUnits)
	if units < subBuckets {
		return uint16(units)
	}
	shift := bits.Len64(units) - subBucketBits - 1
	return uint16(shift*subBuckets + int(units>>shift))
}

// middle returns the middle of a bucket.
func middle(bucket uint16) time.Duration {
	if bucket < subBuckets {
		return time.Duration(bucket)<<unitShift + 1<<(unitShift-1)
	}
	shift := int(bucket)/subBuckets - 1
	low := (uint64(bucket)%subBuckets + subBuckets) << shift
	return time.Duration((low<<1 + 1<<shift) << (unitShift - 1))
}

// Above counts the durations whose bucket lies above that of d.
func (h *Histogram) Above(d time.Duration) uint64 {
	above := uint64(0)
	for i := max(bucketOf(d)+1, h.low); i < h.high; i++ {
		above += uint64(h.counts[i])
	}
	return above
}
