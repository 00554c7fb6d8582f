package topology

import "time"

// AddN counts d n times.
func (h *Histogram) AddN(d time.Duration, n uint64) {
	if n > 0 {
		h.add(bucketOf(d), n)
	}
}

// Below counts the durations whose bucket lies below that of d.
func (h *Histogram) Below(d time.Duration) uint64 {
	below := uint64(0)
	for i := h.low; i < min(bucketOf(d), h.high); i++ {
		below += uint64(h.counts[i])
	}
	return below
}

// Each calls visit for every bucket that holds something, the shortest first, with the
// middle of the bucket: AddN of the same to another histogram makes an equal one.
func (h *Histogram) Each(visit func(middle time.Duration, n uint64)) {
	for i := h.low; i < h.high; i++ {
		if n := h.counts[i]; n != 0 {
			visit(middle(i), uint64(n))
		}
	}
}
