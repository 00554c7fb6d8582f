package prom

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/topology"
)

// add turns reports into calls, in the order of names.
func (p *poll) add(f *family, reports map[edge]*report) {
	edges := slices.SortedFunc(maps.Keys(reports), func(a, b edge) int {
		return cmp.Or(cmp.Compare(a.caller, b.caller), cmp.Compare(a.callee, b.callee))
	})
	for _, e := range edges {
		r := reports[e]
		call := topology.Call{Caller: e.caller, Callee: e.callee, At: p.to, Source: f.source, Connection: f.connection}
		if r.calls == 0 || r.existence {
			shown := call
			shown.Existence = true
			p.calls = append(p.calls, shown)
		}
		p.count(call, r)
	}
}

// count adds the calls of r. Failures are taken to be as slow as the rest.
func (p *poll) count(call topology.Call, r *report) {
	left, failed := r.calls, min(r.failed, r.calls)
	for i, part := range r.parts() {
		bad := failed // the last part takes what rounding left
		if part.calls < left {
			bad = min(uint64(float64(failed)*float64(part.calls)/float64(left)), part.calls)
		}
		call.Latency = part.bound
		call.Failed = false
		p.spread(call, part.calls-bad, 2*i)
		call.Failed = true
		p.spread(call, bad, 2*i+1)
		left, failed = left-part.calls, failed-bad
	}
}

// parts divides the calls of r by latency as its buckets say. Calls that buckets miss, as
// those of a new series do, take part in proportion; without buckets there is one part,
// of no latency.
func (r *report) parts() []bucket {
	slices.SortFunc(r.buckets, func(a, b bucket) int { return cmp.Compare(a.bound, b.bound) })
	var parts []bucket
	total, below, last := uint64(0), uint64(0), time.Duration(0)
	for _, b := range r.buckets {
		if b.calls > below {
			parts = append(parts, bucket{middle(last, b.bound), b.calls - below})
			total, below = total+b.calls-below, b.calls
		}
		last = b.bound
	}
	if total == 0 {
		return []bucket{{0, r.calls}}
	}
	given := uint64(0)
	sum := uint64(0)
	for i := range parts {
		sum += parts[i].calls
		upTo := uint64(float64(r.calls) * (float64(sum) / float64(total)))
		if i == len(parts)-1 {
			upTo = r.calls
		}
		parts[i].calls, given = upTo-given, upTo
	}
	return parts
}

// middle is the latency that stands for a bucket: that of the last one, which is open, is
// where it begins.
func middle(from, to time.Duration) time.Duration {
	const open = 24 * time.Hour
	if to > open {
		return from
	}
	return from + (to-from)/2
}

// spread adds n calls like c, evenly over the seconds of the poll: Prometheus does not
// say when in between they were. Turn sets apart what is added to one edge.
func (p *poll) spread(c topology.Call, n uint64, turn int) {
	const golden = 0.6180339887498949
	length := p.to.Sub(p.from)
	steps := min(max(uint64(length/time.Second), 1), n)
	given := uint64(0)
	for i := range steps {
		upTo := n * (i + 1) / steps
		c.Weight = upTo - given
		given = upTo
		_, part := math.Modf((float64(i)+0.5)/float64(steps) + float64(turn)*golden)
		c.At = p.to.Add(-time.Duration(part * float64(length)))
		p.calls = append(p.calls, c)
	}
}
