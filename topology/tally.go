package topology

import "time"

// tally is what is asked of a window first, counted without a histogram.
type tally struct {
	count
	high   uint16 // the greatest bucket
	atHigh uint64 // calls in it
	above  uint64 // calls above the bucket that was asked about
}

// tally counts [from, to), and what lies above the bucket limit; nil has nothing.
func (t *track) tally(from, to int64, limit uint16) tally {
	sum := tally{}
	if t == nil {
		return sum
	}
	to = min(to, t.last+1)
	from = max(from, to-int64(Retention/time.Second))
	start := from - mod(from, chunkSeconds)
	for slot := mod(start/chunkSeconds, chunkCount); start < to; start += chunkSeconds {
		if have := t.chunks[slot]; have != nil && have.start == start {
			have.tally(&sum, max(from, start), min(to, start+chunkSeconds), limit)
		}
		if slot++; slot == chunkCount {
			slot = 0
		}
	}
	return sum
}

// gather appends the chunks of [from, to) to chunks while there is room; there may be
// older ones among them.
func (t *track) gather(chunks []*chunk, from, to int64) []*chunk {
	if t == nil {
		return chunks
	}
	first := mod(from, int64(Retention/time.Second)) / chunkSeconds
	for n := min((to-from)/chunkSeconds+2, chunkCount, int64(cap(chunks)-len(chunks))); n > 0; n-- {
		if have := t.chunks[first]; have != nil {
			chunks = append(chunks, have)
		}
		if first++; first == chunkCount {
			first = 0
		}
	}
	return chunks
}

// touch reads a little of each chunk that found will be asked for. What it returns is of
// no use: it has no other purpose than to wait for all that memory at the same time.
func (st *study) touch(found []evidence) uint32 {
	var few [8 * comparedAtOnce]*chunk
	chunks, from := few[:0], min(st.from, st.since)
	for i := range found {
		chunks = found[i].after.gather(chunks, from, st.to)
		if found[i].before != found[i].after {
			chunks = found[i].before.gather(chunks, st.from, st.onset)
		}
	}
	sum := uint32(0)
	for _, c := range chunks {
		sum += c.cells[0].count
	}
	return sum
}

// tally adds the seconds [from, to) of c, which are all within it.
func (c *chunk) tally(into *tally, from, to int64, limit uint16) {
	rest := c.cells
	if from > c.start {
		rest = rest[c.find(c.keyOf(from, 0)):]
	}
	end, sum := int(to-c.start)<<keyShift, *into
	for _, cell := range rest {
		if int(cell.key) >= end {
			break
		}
		bucket, n := uint16(cell.key&failureBucket), uint64(cell.count)
		if bucket == failureBucket {
			sum.errors += n
			continue
		}
		sum.calls += n
		if bucket > limit {
			sum.above += n
		}
		if bucket > sum.high {
			sum.high, sum.atHigh = bucket, 0
		}
		if bucket == sum.high {
			sum.atHigh += n
		}
	}
	*into = sum
}

// p99 returns the 99th percentile of the latencies in [from, to), of which sum is the
// tally and not empty. Of few calls it is the greatest.
func (t *track) p99(sum *tally, from, to int64) time.Duration {
	if sum.calls-rankOf(0.99, sum.calls) <= sum.atHigh {
		return middle(sum.high)
	}
	var all Histogram
	t.sum(&Tick{Hist: &all}, from, to)
	return all.Quantile(0.99)
}

// latencies returns the histogram of [from, to).
func (t *track) latencies(from, to int64) *Histogram {
	all := Tick{Hist: &Histogram{}}
	t.sum(&all, from, to)
	return all.Hist
}
