// Package generate makes the inputs that figures are measured on: batches of spans and
// call graphs with the statistics of a published production trace. The same seed gives
// the same bytes, on any machine. It is pure, and not for making load on a running mesh.
//
//	Spans  an ExportTraceServiceRequest, byte by byte as exporters write it
//	Graph  services, edges, planted cycles and planted sticky edges with the restart sets
//	       that are true of them
package generate

// random is SplitMix64 (Steele, Lea, Flood 2014): short, and the same for ever.
type random uint64

// next returns 64 random bits.
func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number in [0, n); n is small against 2^64.
func (r *random) below(n int) int { return int(r.next() % uint64(n)) }
