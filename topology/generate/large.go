package generate

// Large calls edge for each of about so many edges between services numbered from 0, of
// a graph too large to be held: few services take most calls, and one edge in a thousand
// closes a cycle. The same edge may come twice. The same seed gives the same edges.
func Large(seed uint64, services, edges int, edge func(caller, callee int32)) {
	rng := random(seed)
	const reversed = 1000
	for range edges {
		from, to := rng.below(services), rng.below(services)
		if rng.below(4) == 0 { // to one of the busiest thousandth
			to = services - 1 - rng.below(1+services/1000)
		}
		if (from > to) != (rng.below(reversed) == 0) {
			from, to = to, from
		}
		edge(int32(from), int32(to))
	}
}
